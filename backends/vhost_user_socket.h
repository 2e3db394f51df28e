/* Getting to a vhost-user back end: its socket, or ours that it connects to. */
#ifndef BACKENDS_VHOST_USER_SOCKET_H
#define BACKENDS_VHOST_USER_SOCKET_H
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

/* A connected socket that does not block, or -errno: -ENOENT, -ECONNREFUSED nobody listens (yet); -EAGAIN the
 * listener's queue is full. */
int vhost_user_connect(const char *path);
/* A listening socket at path.  A socket left over there, on which nobody listens, is replaced. */
int vhost_user_listen(const char *path, struct err *e);
int vhost_user_accept(int listen_fd); /* likewise; -EAGAIN: nobody has come */

/* What vhost_user_connect() may well return before the back end is up. */
static inline bool vhost_user_may_come(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED || rc == -EAGAIN;
}

/* Does somebody listen at path, in our network namespace?  A hint: names only are compared. */
bool vhost_user_somebody_listens(const char *path);

/* Connects, or takes who connects to listen_fd (not -1), until `deadline` (CLOCK_MONOTONIC, ns); at least one
 * try.  who: for the line that is logged after a second of waiting, or NULL for none.  fd or -errno. */
int vhost_user_reach(const char *path, int listen_fd, uint64_t deadline, const char *who);
/* The sentence for what vhost_user_reach() returned; returns rc. */
int vhost_user_explain(const char *path, bool server, int rc, struct err *e);
#endif
