/* What the files of the vhost-user wire share.  All on its thread unless it says otherwise. */
#ifndef SERVERS_VHOST_USER_STATE_H
#define SERVERS_VHOST_USER_STATE_H
#include "backends/vhost_user_msg.h"
#include "servers/server_state.h"
#include "servers/vhost_user_server.h"

/* Requests of the wire that no front end of ours has. */
#define SERVER_RESET_OWNER   4
#define SERVER_SET_VRING_ERR 14

#define SERVER_VRING_NOFD 0x100u /* of SET_VRING_KICK, CALL, ERR: no descriptor comes */

struct vhost_user_server {
	struct server core;

	/* The socket. */
	int listen_fd;
	struct ev_watch listen_watch, conn_watch;
	bool listening;
	struct ev_timer retry;
	int fd;      /* the connection, -1: none */
	int channel; /* our requests to the front end, or -1 */
	struct vhost_user_reader reader;
	bool warned; /* that nobody listens */

	uint64_t protocol; /* features of it, as the front end wants them */
	_Atomic uint64_t connections, messages, faults;
};

static inline bool server_has(const struct vhost_user_server *s, enum vhost_user_protocol_feature f)
{
	return s->protocol >> f & 1;
}

/* server_message.c: the reader has a message.  0; -errno: the front end has to go, *why says why. */
int server_message(struct vhost_user_server *s, const char **why);
#endif
