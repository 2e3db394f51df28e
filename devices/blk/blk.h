/* virtio-blk (virtio 1.3, 5.2): a block device over a struct disk. */
#ifndef BLK_BLK_H
#define BLK_BLK_H
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"

struct disk;

#define BLK_MAX_QUEUES 16
#define BLK_SERIAL_LEN 20 /* VIRTIO_BLK_ID_BYTES */

struct blk_config {
	const char *name; /* "blk0"; must outlive the device */
	const struct guest_mem *mem;
	struct evloop *const *loops; /* [nqueues]: who serves each queue; loops[0] starts and stops */
	unsigned nqueues;            /* 1 .. BLK_MAX_QUEUES */
	uint16_t queue_size;         /* a power of two, 4 .. VIRTIO_MAX_QUEUE_SIZE */
	struct disk *disk;           /* NULL: remote serves the queues */
	struct datapath *remote;     /* whose configuration space says what the disk is; NULL: this process */
	const char *serial;          /* as many as BLK_SERIAL_LEN bytes of it are used; NULL: none */
	bool common_limits;          /* tells the driver of no larger requests than storage daemons take too */
	bool writethrough;           /* writes are stable when they end, until the driver asks for writeback */
	uint64_t hidden;             /* feature bits the driver is not to see */
};

/* It takes c->disk or c->remote over (ops->destroy() gives both back).  NULL with a sentence in e; they are
 * still the caller's then. */
struct virtio_device *blk_new(const struct blk_config *c, struct err *e);

/* Live change (devices/virtio/virtio_move.h) to a disk, served by this process, or to remote: one of them is
 * NULL.  0: what the device had is destroyed, what it has now is its own.  -errno with a sentence in e: nothing
 * has changed hands.  -EOPNOTSUPP: the driver has read a configuration (size, limits) that would not hold any
 * more. */
struct virtio_moved;
struct virtio_move_how;
int blk_move(struct virtio_device *dev, struct disk *disk, struct datapath *remote,
	     const struct virtio_move_how *how, struct virtio_moved *moved, struct err *e);
#endif
