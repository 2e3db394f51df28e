#include "devices/blk/blk.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "devices/blk/blk_queue.h"
#include "devices/blk/disk.h"
#include "devices/virtio/inproc.h"
#include "lib/cleanup.h"

#define BIT(n) (UINT64_C(1) << (n))
/* The fields that some feature we may offer gives a meaning to. */
#define CONFIG_LEN offsetof(struct virtio_blk_config, max_secure_erase_sectors)

static struct blk *blk_of(struct virtio_device *dev)
{
	return container_of(dev, struct blk, dev);
}

static uint64_t blk_features(struct virtio_device *dev)
{
	const struct blk *b = blk_of(dev);
	uint64_t f = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_TOPOLOGY);

	if (b->disk->read_only)
		f |= BIT(VIRTIO_BLK_F_RO);
	else if (b->disk->discard_granularity)
		f |= BIT(VIRTIO_BLK_F_DISCARD);
	if (!b->disk->read_only && b->disk->write_zeroes)
		f |= BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	if (dev->nqueues > 1)
		f |= BIT(VIRTIO_BLK_F_MQ);
	/* 5.2.5.2: CONFIG_WCE is never offered without FLUSH. */
	if (!(dev->hidden & BIT(VIRTIO_BLK_F_FLUSH)))
		f |= BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE);
	return f;
}

static size_t blk_config_size(struct virtio_device *dev)
{
	(void)dev;
	return CONFIG_LEN;
}

static uint32_t seg_max(const struct virtio_device *dev)
{
	unsigned room = dev->queue[0].max_size - 2u;

	/* Without indirect descriptors a request must fit into the ring. */
	return room < BLK_SEG_MAX ? room : BLK_SEG_MAX;
}

static void blk_config_read(struct virtio_device *dev, size_t off, void *buf, size_t len)
{
	const struct blk *b = blk_of(dev);
	const struct disk *d = b->disk;
	unsigned per_block = d->block_size / 512;
	unsigned exp = (unsigned)__builtin_ctz(d->physical_block_size / d->block_size);
	struct virtio_blk_config c = {
		.capacity = htole64(d->size / 512),
		.seg_max = htole32(seg_max(dev)),
		.blk_size = htole32(d->block_size),
		.physical_block_exp = (uint8_t)exp,
		.min_io_size = htole16((uint16_t)(1u << exp)),
		.opt_io_size = htole32(d->optimal_io_size / d->block_size),
		.wce = b->writeback,
		.num_queues = htole16((uint16_t)dev->nqueues),
	};

	if (!d->read_only && d->discard_granularity) {
		c.max_discard_sectors = htole32(BLK_DISCARD_SECTORS);
		c.max_discard_seg = htole32(BLK_RANGE_SEGS);
		c.discard_sector_alignment = htole32(
			d->discard_granularity > d->block_size ? d->discard_granularity / 512 : per_block);
	}
	if (!d->read_only && d->write_zeroes) {
		c.max_write_zeroes_sectors = htole32(BLK_ZERO_SECTORS);
		c.max_write_zeroes_seg = htole32(BLK_RANGE_SEGS);
		c.write_zeroes_may_unmap = d->discard_granularity != 0;
	}
	memcpy(buf, (const char *)&c + off, len);
}

static void blk_config_write(struct virtio_device *dev, size_t off, const void *buf, size_t len)
{
	const size_t wce = offsetof(struct virtio_blk_config, wce);

	if (off > wce || wce - off >= len || !virtio_has(dev, VIRTIO_BLK_F_CONFIG_WCE))
		return;
	/* Without FLUSH nobody could make a volatile write stable. */
	blk_of(dev)->writeback = ((const uint8_t *)buf)[wce - off] != 0 && virtio_has(dev, VIRTIO_BLK_F_FLUSH);
}

static int blk_negotiated(struct virtio_device *dev, uint64_t features)
{
	struct blk *b = blk_of(dev);

	b->writeback = (features & BIT(VIRTIO_BLK_F_FLUSH)) != 0 && !b->writethrough;
	return 0;
}

static void blk_reset(struct virtio_device *dev)
{
	blk_of(dev)->writeback = !blk_of(dev)->writethrough;
}

static int blk_run(struct virtio_device *dev, struct virtqueue *vq)
{
	return blk_queue_run(blk_of(dev), vq);
}

static void blk_kick(struct virtio_device *dev, struct virtqueue *vq)
{
	blk_queue_kick(blk_of(dev), vq);
}

static void blk_halt(struct virtio_device *dev, struct virtqueue *vq)
{
	blk_queue_halt(blk_of(dev), vq);
}

static void blk_destroy(struct virtio_device *dev)
{
	struct blk *b = blk_of(dev);

	dev->local->ops->destroy(dev->local);
	b->disk->ops->destroy(b->disk);
	free(b);
}

static void blk_resized(void *opaque)
{
	virtio_config_changed(opaque);
}

static const struct virtio_device_ops blk_ops = {
	.id = VIRTIO_ID_BLOCK,
	.name = "blk",
	.features = blk_features,
	.config_size = blk_config_size,
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.negotiated = blk_negotiated,
	.reset = blk_reset,
	.run = blk_run,
	.kick = blk_kick,
	.halt = blk_halt,
	.destroy = blk_destroy,
};

struct virtio_device *blk_new(const struct blk_config *c, struct err *e)
{
	struct blk *b = calloc(1, sizeof(*b));

	if (!b) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	b->disk = c->disk;
	b->writethrough = c->writethrough;
	b->writeback = !c->writethrough;
	if (c->serial)
		memcpy(b->serial, c->serial, strnlen(c->serial, sizeof(b->serial)));
	b->dev.ops = &blk_ops;
	b->dev.mem = c->mem;
	b->dev.loop = c->loops[0];
	b->dev.hidden = c->hidden;
	b->dev.name = c->name;
	b->dev.nqueues = c->nqueues;
	for (unsigned i = 0; i < c->nqueues; i++) {
		b->dev.queue[i].max_size = c->queue_size;
		b->dev.queue[i].loop = c->loops[i];
	}
	b->dev.local = inproc_new(&b->dev);
	if (!b->dev.local) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		free(b);
		return NULL;
	}
	if (virtio_init(&b->dev, e)) {
		b->dev.local->ops->destroy(b->dev.local);
		free(b);
		return NULL;
	}
	c->disk->opaque = &b->dev;
	c->disk->resized = blk_resized;
	return &b->dev;
}
