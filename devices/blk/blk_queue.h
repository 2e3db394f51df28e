/* One request queue of a block device: chains in, disk requests out, and back. */
#ifndef BLK_BLK_QUEUE_H
#define BLK_BLK_QUEUE_H
#include <linux/virtio_blk.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"

struct disk;
struct virtqueue;
struct vq_chain;
struct blk_queue;

#define BLK_SEG_MAX 254 /* data descriptors in a request */
/* Segments of a discard or write-zeroes request, and sectors in one of them: what bounds the time
 * that one request can take. */
#define BLK_RANGE_SEGS      16
#define BLK_DISCARD_SECTORS (1u << 22)
#define BLK_ZERO_SECTORS    (1u << 18)

struct blk { /* the device; what queues may look at */
	struct virtio_device dev;
	struct disk *disk;             /* NULL: dev.remote serves the queues */
	struct virtio_blk_config told; /* by dev.remote, when it last answered */
	char serial[20];
	bool common_limits;     /* as struct blk_config's */
	bool writethrough;      /* what writeback starts as, negated */
	_Atomic bool writeback; /* the driver flushes what it wants to keep (5.2.5.2) */
};

static inline struct blk *blk_of(const struct virtio_device *dev)
{
	return (struct blk *)(uintptr_t)dev; /* its first member */
}

/* Who has a queue: a device of this process, or a server for one elsewhere (servers/blk_server.h). */
struct blk_queue_host {
	const char *name; /* in messages */
	struct disk *disk;
	struct evloop *loop;
	const char *serial;            /* [VIRTIO_BLK_ID_BYTES] */
	const _Atomic bool *writeback; /* else writes are stable when they end */
	uint64_t features;             /* what the driver accepted */
	void *opaque;
	/* As vq_pop() and vq_push(), for who takes notes.  NULL: just those. */
	int (*pop)(void *opaque, struct vq_chain *c);
	void (*push)(void *opaque, uint16_t head, uint32_t written);
	/* blk_queue_serve() is to be called again, not from here but when others on the loop had their turn. */
	void (*again)(void *opaque, struct virtqueue *vq);
};

/* All on the loop's thread.  0 or -errno.  vq outlives the queue. */
int blk_queue_new(struct blk_queue **out, const struct blk_queue_host *h, struct virtqueue *vq);
/* The driver has kicked: takes what is there, then asks for kicks. */
void blk_queue_serve(struct blk_queue *q);
/* In place of that for who does not wait for kicks.  True: there was something. */
bool blk_queue_look(struct blk_queue *q);
/* When nothing is in flight any more. */
void blk_queue_free(struct blk_queue *q);

/* Those of a device, on the queue's thread: run and halt are virtio_device_ops'. */
int blk_queue_run(struct blk *b, struct virtqueue *vq);
void blk_queue_kick(struct blk *b, struct virtqueue *vq);
void blk_queue_halt(struct blk *b, struct virtqueue *vq);
#endif
