#include "devices/blk/blk_config.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "devices/blk/disk.h"

#define BIT(n) (UINT64_C(1) << (n))

/* A driver keeps to what it has read, so a disk can only be moved to who takes as much. */
struct limits {
	uint32_t seg_max, discard_sectors, zero_sectors, range_segs;
};

static const struct limits ours = {BLK_SEG_MAX, BLK_DISCARD_SECTORS, BLK_ZERO_SECTORS, BLK_RANGE_SEGS};
/* qemu-storage-daemon 7.2 to 10.0 by vhost-user; by VDUSE it takes 254 segments. */
static const struct limits common = {126, 32768, 32768, 1};

static uint32_t seg_max(uint16_t queue_size, uint32_t most)
{
	unsigned room = queue_size - 2u;

	/* Without indirect descriptors a request must fit into the ring. */
	return room < most ? room : most;
}

uint64_t blk_features_of_disk(const struct disk *d, unsigned nqueues)
{
	uint64_t f = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_TOPOLOGY) |
		     BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE);

	if (d->read_only)
		f |= BIT(VIRTIO_BLK_F_RO);
	else if (d->discard_granularity)
		f |= BIT(VIRTIO_BLK_F_DISCARD);
	if (!d->read_only && d->write_zeroes)
		f |= BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	if (nqueues > 1)
		f |= BIT(VIRTIO_BLK_F_MQ);
	return f;
}

void blk_config_make(const struct disk *d, const struct blk_shape *s, struct virtio_blk_config *c)
{
	const struct limits *l = s->common_limits ? &common : &ours;
	const unsigned per_block = d->block_size / 512;
	const unsigned exp = (unsigned)__builtin_ctz(d->physical_block_size / d->block_size);

	*c = (struct virtio_blk_config){
		.capacity = htole64(d->size / 512),
		.seg_max = htole32(seg_max(s->queue_size, l->seg_max)),
		.blk_size = htole32(d->block_size),
		.physical_block_exp = (uint8_t)exp,
		.min_io_size = htole16((uint16_t)(1u << exp)),
		.opt_io_size = htole32(d->optimal_io_size / d->block_size),
		.wce = s->writeback,
		.num_queues = htole16((uint16_t)s->nqueues),
	};
	if (!d->read_only && d->discard_granularity) {
		c->max_discard_sectors = htole32(l->discard_sectors);
		c->max_discard_seg = htole32(l->range_segs);
		c->discard_sector_alignment = htole32(
			d->discard_granularity > d->block_size ? d->discard_granularity / 512 : per_block);
	}
	if (!d->read_only && d->write_zeroes) {
		c->max_write_zeroes_sectors = htole32(l->zero_sectors);
		c->max_write_zeroes_seg = htole32(l->range_segs);
		c->write_zeroes_may_unmap = d->discard_granularity != 0;
	}
}

void blk_config_of_disk(const struct blk *b, const struct disk *d, struct virtio_blk_config *c)
{
	const struct blk_shape s = {
		.nqueues = b->dev.nqueues,
		.queue_size = b->dev.queue[0].max_size,
		.common_limits = b->common_limits,
		.writeback = b->writeback,
	};

	blk_config_make(d, &s, c);
}

struct question {
	struct datapath *remote;
	struct virtio_blk_config *c;
	size_t off, len;
	const void *src;
	int rc;
};

static void ask(void *arg)
{
	struct question *q = arg;
	struct datapath_offer offer = {0};
	size_t len = BLK_CONFIG_LEN;

	q->rc = q->remote->ops->offer(q->remote, &offer);
	if (q->rc)
		return;
	if (offer.config_len < len)
		len = offer.config_len;
	q->rc = q->remote->ops->config_read && len ? q->remote->ops->config_read(q->remote, 0, q->c, len)
						   : -EOPNOTSUPP;
}

static uint32_t least(uint32_t told, uint32_t most)
{
	return le32toh(told) < most ? told : htole32(most);
}

/* Of who takes more the driver is not told: it could not go back. */
static void keep_to(const struct limits *l, struct virtio_blk_config *c)
{
	c->seg_max = least(c->seg_max, l->seg_max);
	c->max_discard_sectors = least(c->max_discard_sectors, l->discard_sectors);
	c->max_discard_seg = least(c->max_discard_seg, l->range_segs);
	c->max_write_zeroes_sectors = least(c->max_write_zeroes_sectors, l->zero_sectors);
	c->max_write_zeroes_seg = least(c->max_write_zeroes_seg, l->range_segs);
}

int blk_config_of_remote(const struct blk *b, struct datapath *remote, struct virtio_blk_config *c)
{
	struct virtio_blk_config got = {0};
	struct question q = {.remote = remote, .c = &got};

	evloop_call(b->dev.loop, ask, &q);
	if (q.rc)
		return q.rc;
	*c = got;
	if (b->common_limits)
		keep_to(&common, c);
	/* It may have more queues than this device. */
	if (le16toh(c->num_queues) > b->dev.nqueues)
		c->num_queues = htole16((uint16_t)b->dev.nqueues);
	return 0;
}

void blk_config_read(struct virtio_device *dev, size_t off, void *buf, size_t len)
{
	struct blk *b = blk_of(dev);
	struct virtio_blk_config c;

	if (b->disk) {
		blk_config_of_disk(b, b->disk, &c);
	} else {
		blk_config_of_remote(b, dev->remote, &b->told); /* failing, what it said before stands */
		c = b->told;
	}
	memcpy(buf, (const char *)&c + off, len);
}

static void tell(void *arg)
{
	struct question *q = arg;

	if (q->remote->ops->config_write)
		q->remote->ops->config_write(q->remote, q->off, q->src, q->len);
}

void blk_config_write(struct virtio_device *dev, size_t off, const void *buf, size_t len)
{
	const size_t wce = offsetof(struct virtio_blk_config, wce);
	struct question q = {.remote = dev->remote, .off = wce, .len = 1};

	if (off > wce || wce - off >= len || !virtio_has(dev, VIRTIO_BLK_F_CONFIG_WCE))
		return;
	q.src = (const uint8_t *)buf + (wce - off);
	if (dev->remote) {
		evloop_call(dev->loop, tell, &q);
		return;
	}
	/* Without FLUSH nobody could make a volatile write stable. */
	blk_of(dev)->writeback = *(const uint8_t *)q.src != 0 && virtio_has(dev, VIRTIO_BLK_F_FLUSH);
}
