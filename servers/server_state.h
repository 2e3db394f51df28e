/* What the wires share: a server's memory and rings, whoever tells of them.  All on its thread unless it says
 * otherwise. */
#ifndef SERVERS_SERVER_STATE_H
#define SERVERS_SERVER_STATE_H
#include "servers/server.h"
#include "servers/server_memory.h"
#include "vmm/loop_thread.h"

struct server_call;
struct server_inflight_buffer;

#define SERVER_BIT(n) (UINT64_C(1) << (n))

struct server_vring { /* a queue, as the front end describes it */
	struct server_queue q;
	uint64_t desc, avail, used; /* where the front end has it */
	uint16_t size;              /* entries, 0: not told */
	uint16_t next;              /* while it does not run: where it goes on, as datapath_queue.next */
	bool has_addr, started, enabled;
	bool running;  /* from queue_start() to queue_stop() */
	bool by_timer; /* kick_fd is a timer of ours: the front end gave none */
	int kick_fd, call_fd, err_fd;
	struct server_call *call; /* while it runs: of call_fd.  NULL: that is written, or there is none */
	struct queue_stats stats;
	int rc;               /* of a start, on its way back from the loop */
	bool watched;         /* the loop's thread */
	struct ev_watch kick; /* likewise */
};

struct server_wire {
	/* The config space has changed by itself. */
	void (*changed)(struct server *s);
	/* A file behind its memory was cut off. */
	void (*lost)(struct server *s);
	/* An interrupt: 0 or -errno.  On the queue's loop or the server's thread.  NULL: call_fd is written. */
	int (*call)(void *vring);
	/* As server_held(), server_node(); NULL: false, NULL. */
	bool (*held)(struct server *s);
	const char *(*node)(const struct server *s);
	/* As server_free(). */
	void (*free)(struct server *s);
};

struct server { /* first in a wire's own */
	struct server_config c;
	const struct server_wire *wire;
	char *name;
	struct loop_thread thread;
	struct ev_watch lost_watch, changed_watch; /* eventfds */

	/* What the front end has said. */
	uint64_t features; /* ring bits and device bits */
	bool by_enable;    /* a ring runs only while it is enabled */
	bool has_status;   /* ... and while the status says DRIVER_OK */
	uint8_t status;
	struct server_memory memory;
	struct server_inflight_buffer *inflight;
	struct server_vring *vring; /* [c.max_queues] */
};

/* server.c.  A server of zeroes begins: name and c's strings are copied.  start: its thread and what the wire
 * hears on it.  0, or -errno with a sentence in e; fini() is due either way, and stop() before whatever the
 * thread uses goes. */
int server_init(struct server *s, const struct server_wire *wire, const struct server_config *c,
		const char *name, struct err *e);
int server_start(struct server *s, const char *thread, struct err *e);
void server_stop(struct server *s);
void server_fini(struct server *s);
/* Reads an eventfd empty. */
void server_drain(int fd);
/* The front end's memory goes: the queues have stopped. */
void server_forget_memory(struct server *s);

/* server_queue.c: all queues as after a connection. */
void server_queues_init(struct server *s);
/* Stops them and forgets what the front end said of them.  Unless it has gone, call and err descriptors stay:
 * it may have sent those of the next start already. */
void server_queues_reset(struct server *s, bool gone);
void server_queues_stop(struct server *s);
/* Starts those that are ready.  The first error, after all have been tried. */
int server_queues_start(struct server *s);
/* One.  start: 0 also where it is not ready yet; -EFAULT: its ring is not in the memory we know. */
int server_queue_start(struct server *s, struct server_vring *v);
void server_queue_stop(struct server *s, struct server_vring *v);
/* The ring ends (GET_VRING_BASE, reset): a kick descriptor starts it again. */
void server_queue_end(struct server *s, struct server_vring *v);
#endif
