/* What the files of the server share.  All on its thread unless it says otherwise. */
#ifndef SERVERS_SERVER_STATE_H
#define SERVERS_SERVER_STATE_H
#include "backends/vhost_user_msg.h"
#include "servers/server_memory.h"
#include "servers/vhost_user_server.h"
#include "vmm/loop_thread.h"

/* Requests of the wire that no front end of ours has. */
#define SERVER_RESET_OWNER   4
#define SERVER_SET_VRING_ERR 14

#define SERVER_BIT(n)     (UINT64_C(1) << (n))
#define SERVER_VRING_NOFD 0x100u /* of SET_VRING_KICK, CALL, ERR: no descriptor comes */

struct server_vring { /* a queue, as the front end describes it */
	struct server_queue q;
	struct vhost_vring_addr addr;
	uint16_t size; /* entries, 0: not told */
	uint16_t next; /* while it does not run: where it goes on, as datapath_queue.next */
	bool has_addr, started, enabled;
	bool running;  /* from queue_start() to queue_stop() */
	bool by_timer; /* kick_fd is a timer of ours: the front end gave none */
	int kick_fd, call_fd, err_fd;
	struct queue_stats stats;
	int rc;               /* of a start, on its way back from the loop */
	bool watched;         /* the loop's thread */
	struct ev_watch kick; /* likewise */
};

struct vhost_user_server {
	struct server_config c;
	char *path;
	struct loop_thread thread;

	/* The socket. */
	int listen_fd;
	struct ev_watch listen_watch, conn_watch, lost_watch, changed_watch;
	bool listening;
	struct ev_timer retry;
	int fd;      /* the connection, -1: none */
	int channel; /* our requests to the front end, or -1 */
	struct vhost_user_reader reader;
	bool warned; /* that nobody listens */

	/* What the front end has said. */
	uint64_t features, protocol;
	bool has_status;
	uint8_t status;
	struct server_memory memory;
	struct server_inflight_buffer *inflight;
	struct server_vring *vring; /* [c.max_queues] */

	_Atomic uint64_t connections, messages, faults;
};

static inline bool server_has(const struct vhost_user_server *s, enum vhost_user_protocol_feature f)
{
	return s->protocol >> f & 1;
}

/* server_message.c: the reader has a message.  0; -errno: the front end has to go, *why says why. */
int server_message(struct vhost_user_server *s, const char **why);

/* server_queue.c: all queues as after a connection. */
void server_queues_init(struct vhost_user_server *s);
/* Stops them and forgets what the front end said of them.  Unless it has gone, call and err descriptors stay:
 * it may have sent those of the next start already. */
void server_queues_reset(struct vhost_user_server *s, bool gone);
void server_queues_stop(struct vhost_user_server *s);
/* Starts those that are ready.  The first error, after all have been tried. */
int server_queues_start(struct vhost_user_server *s);
/* One.  start: 0 also where it is not ready yet; -EFAULT: its ring is not in the memory we know. */
int server_queue_start(struct vhost_user_server *s, struct server_vring *v);
void server_queue_stop(struct vhost_user_server *s, struct server_vring *v);
/* The ring ends (GET_VRING_BASE, reset): a kick descriptor starts it again. */
void server_queue_end(struct vhost_user_server *s, struct server_vring *v);
#endif
