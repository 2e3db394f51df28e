/* The configuration space of a block device (5.2.4): made from its disk, or asked of who serves it. */
#ifndef BLK_BLK_CONFIG_H
#define BLK_BLK_CONFIG_H
#include <linux/virtio_blk.h>

#include "devices/blk/blk_queue.h"

/* The fields that some feature we may offer gives a meaning to. */
#define BLK_CONFIG_LEN offsetof(struct virtio_blk_config, max_secure_erase_sectors)

/* What it says beside its disk. */
struct blk_shape {
	unsigned nqueues;
	uint16_t queue_size; /* entries */
	bool common_limits;  /* as struct blk_config's */
	bool writeback;
};

/* Of a disk served by this process, on any thread.  The bits are those of the device, not of its rings. */
uint64_t blk_features_of_disk(const struct disk *d, unsigned nqueues);
void blk_config_make(const struct disk *d, const struct blk_shape *s, struct virtio_blk_config *c);

void blk_config_of_disk(const struct blk *b, const struct disk *d, struct virtio_blk_config *c);
/* On any thread but dev->loop's own.  0, or -errno. */
int blk_config_of_remote(const struct blk *b, struct datapath *remote, struct virtio_blk_config *c);

/* Those of virtio_device_ops. */
void blk_config_read(struct virtio_device *dev, size_t off, void *buf, size_t len);
void blk_config_write(struct virtio_device *dev, size_t off, const void *buf, size_t len);
#endif
