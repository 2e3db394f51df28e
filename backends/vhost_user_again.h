/* Reaching a back end once more when this process connects to nothing any more: a process of its own knows the
 * one path, connects when it is asked and passes the socket.  It ends when nobody holds the other end. */
#ifndef BACKENDS_VHOST_USER_AGAIN_H
#define BACKENDS_VHOST_USER_AGAIN_H
#include <stdbool.h>

#define VHOST_USER_AGAIN_NAME "ringlet-connect"
#define VHOST_USER_AGAIN_FD   3 /* the socket, in that process */

/* Starts /proc/self/exe for it.  The socket that it listens on, or -errno.  Not once the caller is confined. */
int vhost_user_again_start(const char *path);
/* As vhost_user_connect(), by the process at the other end of again_fd.  One caller at a time.  -EPIPE: it is
 * gone; -EAGAIN: it has not answered in a second. */
int vhost_user_again(int again_fd);

/* Whether this process was started for it: as slirp_helper_wanted(). */
bool vhost_user_again_wanted(int argc, char *argv[]);
int vhost_user_again_main(int argc, char *argv[]); /* an exit status */
#endif
