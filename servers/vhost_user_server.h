/* The vhost-user wire (QEMU, docs/interop/vhost-user.rst): a socket and the front end behind it.
 *
 * One front end at a time has the socket; others wait until it has gone.  A device serves several sockets by
 * several servers. */
#ifndef SERVERS_VHOST_USER_SERVER_H
#define SERVERS_VHOST_USER_SERVER_H
#include "servers/server.h"

struct vhost_user_server;

/* Listens or begins to connect, and starts the thread.  0, or -errno with a sentence in e. */
int vhost_user_server_new(struct vhost_user_server **out, const struct server_config *c, struct err *e);
/* Stops the queues, closes the socket, removes its name.  NULL is fine.  Not on the loop of a queue. */
void vhost_user_server_free(struct vhost_user_server *s);
/* As server_config_changed(). */
void vhost_user_server_config_changed(struct vhost_user_server *s);
/* As what the devices know it. */
struct server *vhost_user_server_base(struct vhost_user_server *s);

/* Counted since the server began. */
struct server_counts {
	uint64_t connections, messages;
	uint64_t faults; /* connections that ended because the front end broke the protocol */
};
void vhost_user_server_counts(struct vhost_user_server *s, struct server_counts *out); /* any thread */
#endif
