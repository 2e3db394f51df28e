/* A back end of virtio devices: what is done with the chains of a driver is a server device's, see struct
 * server_device_ops; by what wire it hears of the driver's memory and rings it does not know.  The wires:
 * vhost_user_server.h, a socket; vduse_server.h, a device of the kernel's.
 *
 * Threads.  Each server has a thread of its own that speaks with its front end; a front end that stalls it
 * stalls nobody else.  Each queue runs on a loop that the device names: everything the device does with a
 * queue happens there, from queue_start() to queue_stop().  The front end's messages wait for both, so what it
 * asks for is done when it is answered. */
#ifndef SERVERS_SERVER_H
#define SERVERS_SERVER_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/virtio/virtqueue.h"
#include "lib/err.h"
#include "vmm/evloop.h"

struct server;
struct server_inflight; /* server_inflight.h */

/* A queue while it runs: the device's from queue_start() to queue_stop(), on loop's thread only. */
struct server_queue {
	unsigned index;
	struct virtqueue *vq;
	uint64_t features; /* what the driver accepted, ring bits and device bits */
	struct evloop *loop;
	void *dev;    /* server_config.dev */
	void *opaque; /* the device's, for this queue; kept from one start to the next */

	/* The server's. */
	struct server *server;
	struct server_inflight *inflight;
	_Atomic bool broken;
};

struct server_device_ops {
	const char *name; /* in messages: "net", "blk" */

	/* On the server's thread, no queue runs: what the driver accepted, of what was offered, ring bits
	 * and device bits.  0, or -errno: the front end is refused.  May be NULL. */
	int (*set_features)(void *dev, uint64_t features);
	/* On the server's thread, or in server_new() before it runs; queues may run.  Within [0, config_len),
	 * checked.  0 or -errno, which the front end is told.  config_write NULL: the config space is
	 * read-only.
	 */
	int (*config_read)(void *dev, uint32_t off, void *buf, uint32_t len);
	int (*config_write)(void *dev, uint32_t off, const void *buf, uint32_t len);

	/* Where the queue is to run.  On the server's thread; the same answer from start to stop.  That loop
	 * must be running, must not be one from which server_free() is called, and must outlive the server. */
	struct evloop *(*loop)(void *dev, unsigned queue);

	/* On q->loop's thread.  q->vq is new, at the position where the ring goes on, and nothing in it is
	 * in flight.  queue_kick() follows at once.  0, or -errno: the front end is refused, no stop. */
	int (*queue_start)(void *dev, struct server_queue *q);
	/* On q->loop's thread.  Returns when no chain is in flight and nobody uses q->vq or the guest's
	 * memory for it any more; cannot fail.  Happens at any time: the front end stops the ring, disables it,
	 * changes its memory or a descriptor, or has gone.  The ring may start again a moment later. */
	void (*queue_stop)(void *dev, struct server_queue *q);
	/* On q->loop's thread: the driver kicked.  Never called while server_config.polls. */
	void (*queue_kick)(void *dev, struct server_queue *q);

	/* On the server's thread: the front end is there, or has gone (no queue runs).  May be NULL.  Of a
	 * socket only. */
	void (*connected)(void *dev, bool on);
};

struct server_config {
	const char *path;   /* of a socket; copied */
	bool connects;      /* to a front end that listens, again and again; else it listens itself */
	uint64_t retry_ms;  /* between attempts to connect; 0: 1000 */
	const char *vduse;  /* instead of a socket: the name of a VDUSE device; copied.  NULL: a socket */
	uint32_t device_id; /* what it is then: VIRTIO_ID_* */

	const struct server_device_ops *ops;
	void *dev;
	uint64_t features;   /* device bits and VIRTIO_F_ ring bits it can serve, VERSION_1 among them; the wire
			      * adds and leaves out what it has to */
	uint32_t config_len; /* bytes of config space, at most 256; 0: the front end's business */
	unsigned max_queues; /* virtqueues */
	unsigned queue_num;  /* ... unless this is not 0: what GET_QUEUE_NUM says (net: no control queue) */
	uint16_t max_queue_size; /* entries; 0: 32768 */
	bool inflight;           /* offers INFLIGHT_SHMFD: chains go through server_queue_pop() and _push() */
	bool mtu;                /* offers NET_MTU: what is set arrives as config_write() */
	bool polls;              /* kicks are not watched: the device looks by itself */
};

/* Listens, begins to connect, or puts a VDUSE device on its bus; any thread but one that the device's loops
 * wait for.  0, or -errno with a sentence in e. */
int server_new(struct server **out, const struct server_config *c, struct err *e);
/* Stops the queues and leaves nothing behind but what server_held() speaks of.  NULL is fine.  Not on the loop
 * of a queue. */
void server_free(struct server *s);
/* The config space changed by itself: tells the front end, if it listens to that.  Any thread. */
void server_config_changed(struct server *s);
/* How users know it: the socket's path, "vduse NAME".  And the device file that a VMM opens, or NULL. */
const char *server_name(const struct server *s);
const char *server_node(const struct server *s);
/* A front end has it that cannot be sent away: what server_free() would leave behind.  Any thread but a loop's;
 * may take a moment. */
bool server_held(struct server *s);

/* As vq_pop() and vq_push(), and noted in the in-flight buffer where the front end keeps one: what the back
 * end before had taken and not given back comes first.  On q->loop's thread. */
int server_queue_pop(struct server_queue *q, struct vq_chain *c);
void server_queue_push(struct server_queue *q, uint16_t head, uint32_t written);
/* vq_error() says something: tells the front end (its err descriptor) and the user, once.  The queue stays
 * started, and still, until the front end stops it.  On q->loop's thread. */
void server_queue_broken(struct server_queue *q);
#endif
