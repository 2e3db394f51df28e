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
	struct disk *disk;
	const char *serial; /* as many as BLK_SERIAL_LEN bytes of it are used; NULL: none */
	bool writethrough;  /* writes are stable when they end, until the driver asks for writeback */
	uint64_t hidden;    /* feature bits the driver is not to see */
};

/* A device whose queues this process serves; it takes c->disk over (ops->destroy() gives both back).
 * NULL with a sentence in e; the disk is still the caller's then. */
struct virtio_device *blk_new(const struct blk_config *c, struct err *e);
#endif
