#include "devices/blk/blk.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/blk/blk_config.h"
#include "devices/blk/blk_queue.h"
#include "devices/blk/disk.h"
#include "devices/virtio/inproc.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"

#define BIT(n) (UINT64_C(1) << (n))
/* What a disk served elsewhere may have, if its server says so. */
#define ANY_REMOTE                                                                                             \
	(BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_GEOMETRY) |                 \
	 BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) |                         \
	 BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_DISCARD) |               \
	 BIT(VIRTIO_BLK_F_WRITE_ZEROES))

static uint64_t blk_features(struct virtio_device *dev)
{
	const struct blk *b = blk_of(dev);
	uint64_t f;

	if (!b->disk)
		return ANY_REMOTE | (dev->nqueues > 1 ? BIT(VIRTIO_BLK_F_MQ) : 0);
	f = blk_features_of_disk(b->disk, dev->nqueues);
	/* 5.2.5.2: CONFIG_WCE is never offered without FLUSH. */
	if (dev->hidden & BIT(VIRTIO_BLK_F_FLUSH))
		f &= ~(BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE));
	return f;
}

static size_t blk_config_size(struct virtio_device *dev)
{
	(void)dev;
	return BLK_CONFIG_LEN;
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

static void kick_again(void *opaque, struct virtqueue *vq)
{
	const struct blk *b = opaque;
	const uint64_t one = 1;

	if (write(b->dev.queue[vq_index(vq)].kick_fd, &one, sizeof(one)) < 0) /* full: it is kicked */
		return;
}

int blk_queue_run(struct blk *b, struct virtqueue *vq)
{
	const struct blk_queue_host host = {
		.name = b->dev.name,
		.disk = b->disk,
		.loop = b->dev.queue[vq_index(vq)].loop,
		.serial = b->serial,
		.writeback = &b->writeback,
		.features = b->dev.accepted,
		.opaque = b,
		.again = kick_again,
	};
	struct blk_queue *q;
	int rc = blk_queue_new(&q, &host, vq);

	if (!rc)
		vq_set_opaque(vq, q);
	return rc;
}

void blk_queue_kick(struct blk *b, struct virtqueue *vq)
{
	(void)b;
	blk_queue_serve(vq_opaque(vq));
}

void blk_queue_halt(struct blk *b, struct virtqueue *vq)
{
	(void)b;
	blk_queue_free(vq_opaque(vq));
	vq_set_opaque(vq, NULL);
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
	if (dev->remote)
		dev->remote->ops->destroy(dev->remote);
	if (b->disk)
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

static bool remote_told(struct blk *b, struct err *e)
{
	int rc = blk_config_of_remote(b, b->dev.remote, &b->told);

	if (rc)
		err_set(e, rc, "%s: %s does not say how large it is: %s", b->dev.name, b->dev.remote->ops->name,
			strerror(-rc));
	return !rc;
}

struct virtio_device *blk_new(const struct blk_config *c, struct err *e)
{
	struct blk *b = calloc(1, sizeof(*b));

	if (!b) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	b->disk = c->disk;
	b->dev.remote = c->remote;
	b->dev.answered_queues = UINT64_MAX;
	b->common_limits = c->common_limits;
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
	if ((c->remote && !remote_told(b, e)) || virtio_init(&b->dev, e)) {
		b->dev.local->ops->destroy(b->dev.local);
		free(b);
		return NULL;
	}
	if (c->disk) {
		c->disk->opaque = &b->dev;
		c->disk->resized = blk_resized;
	}
	return &b->dev;
}
