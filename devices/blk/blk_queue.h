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

/* All on the queue's thread.  run and halt are those of virtio_device_ops. */
int blk_queue_run(struct blk *b, struct virtqueue *vq);
void blk_queue_kick(struct blk *b, struct virtqueue *vq);
void blk_queue_halt(struct blk *b, struct virtqueue *vq);
#endif
