/* What the messages' handlers share: server_message.c, server_rings.c.  All on the server's thread. */
#ifndef SERVERS_SERVER_HANDLERS_H
#define SERVERS_SERVER_HANDLERS_H
#include "servers/vhost_user_state.h"

#define SERVER_REPLIED 1 /* what a handler returns that gave an answer of its own */

/* Does what m asks.  fd: the descriptors that came, as many as there should be; those it takes it sets to -1.
 * 0, SERVER_REPLIED or -errno. */
typedef int server_handler(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd);

/* Sends m, size and payload filled in, as the answer to request.  0 or -errno. */
int server_reply(struct vhost_user_server *s, const struct vhost_user_msg *request, struct vhost_user_msg *m,
		 const int *fd);
/* SERVER_REPLIED or -errno. */
int server_reply_u64(struct vhost_user_server *s, const struct vhost_user_msg *request, uint64_t value);

server_handler server_set_mem_table, server_get_max_mem_slots, server_add_mem_reg, server_rem_mem_reg,
	server_set_vring_num, server_set_vring_addr, server_set_vring_base, server_get_vring_base,
	server_set_vring_kick, server_set_vring_call, server_set_vring_err, server_set_vring_enable;
#endif
