/* Live change of who serves a disk. */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

#include "devices/blk/blk.h"
#include "devices/blk/blk_config.h"
#include "devices/blk/disk.h"
#include "devices/virtio/virtio_move.h"

#define BIT(n) (UINT64_C(1) << (n))

struct blk_swap {
	struct blk *b;
	struct disk *to, *from;
	struct datapath *remote;
	struct virtio_blk_config was, is, told; /* what the driver sees, will see; what dev.remote told */
};

/* The cache mode that the driver chose goes with it; what it did not choose is each one's own. */
static int keep_cache_mode(struct blk_swap *s)
{
	const size_t off = offsetof(struct virtio_blk_config, wce);
	const struct datapath_ops *ops = s->remote ? s->remote->ops : NULL;
	struct blk *b = s->b;
	int rc;

	if (!virtio_has(&b->dev, VIRTIO_BLK_F_CONFIG_WCE))
		return 0;
	if (s->to) {
		b->writeback = s->was.wce != 0 && virtio_has(&b->dev, VIRTIO_BLK_F_FLUSH);
		return 0;
	}
	if (s->is.wce == s->was.wce)
		return 0;
	rc = ops->config_write ? ops->config_write(s->remote, off, &s->was.wce, 1) : -EOPNOTSUPP;
	if (!rc)
		rc = ops->config_read(s->remote, off, &s->is.wce, 1);
	/* Some take what is written and go on as they were. */
	return rc ? rc : s->is.wce == s->was.wce ? 0 : -EOPNOTSUPP;
}

static int swap(void *opaque, bool forth)
{
	struct blk_swap *s = opaque;
	struct blk *b = s->b;
	int rc;

	if (!forth) {
		b->disk = s->from;
		b->told = s->told;
		return 0;
	}
	s->told = b->told;
	rc = keep_cache_mode(s);
	if (rc)
		return rc;
	b->disk = s->to;
	b->told = s->is;
	return 0;
}

struct limit {
	const char *name;
	uint64_t features; /* one of which gives it a meaning */
	uint64_t was, is;
	bool exact; /* else: no less */
};

/* A driver has taken over what the configuration said, of the features it uses or may still choose. */
static int config_holds(const struct blk *b, const struct virtio_blk_config *was,
			const struct virtio_blk_config *is, struct err *e)
{
	const uint64_t needed = b->dev.status & VIRTIO_CONFIG_S_FEATURES_OK ? b->dev.accepted : b->dev.offered;
	const struct limit limits[] = {
		{"capacity", UINT64_MAX, le64toh(was->capacity), le64toh(is->capacity), true},
		{"blk_size", UINT64_MAX, le32toh(was->blk_size), le32toh(is->blk_size), true},
		{"num_queues", BIT(VIRTIO_BLK_F_MQ), le16toh(was->num_queues), le16toh(is->num_queues), false},
		{"seg_max", BIT(VIRTIO_BLK_F_SEG_MAX), le32toh(was->seg_max), le32toh(is->seg_max), false},
		{"size_max", BIT(VIRTIO_BLK_F_SIZE_MAX), le32toh(was->size_max), le32toh(is->size_max), true},
		{"max_discard_sectors", BIT(VIRTIO_BLK_F_DISCARD), le32toh(was->max_discard_sectors),
		 le32toh(is->max_discard_sectors), false},
		{"max_discard_seg", BIT(VIRTIO_BLK_F_DISCARD), le32toh(was->max_discard_seg),
		 le32toh(is->max_discard_seg), false},
		{"max_write_zeroes_sectors", BIT(VIRTIO_BLK_F_WRITE_ZEROES),
		 le32toh(was->max_write_zeroes_sectors), le32toh(is->max_write_zeroes_sectors), false},
		{"max_write_zeroes_seg", BIT(VIRTIO_BLK_F_WRITE_ZEROES), le32toh(was->max_write_zeroes_seg),
		 le32toh(is->max_write_zeroes_seg), false},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const struct limit *l = &limits[i];

		if (!(needed & l->features))
			continue;
		if (l->exact ? l->is != l->was : l->is < l->was)
			return err_set(e, -EOPNOTSUPP,
				       "%s: its driver has read %s %llu, and the new one has %llu%s",
				       b->dev.name, l->name, (unsigned long long)l->was,
				       (unsigned long long)l->is, l->exact ? "" : "; it may not be less");
	}
	return 0;
}

static int fits(void *opaque, struct err *e)
{
	struct blk_swap *s = opaque;
	struct blk *b = s->b;
	struct datapath_offer offer = {0};
	bool read_only, was_read_only;
	int rc = 0;

	blk_config_read(&b->dev, 0, &s->was, BLK_CONFIG_LEN);
	if (s->to)
		blk_config_of_disk(b, s->to, &s->is);
	else
		rc = blk_config_of_remote(b, s->remote, &s->is);
	if (rc)
		return err_set(e, rc, "%s: %s does not give its configuration: %s", b->dev.name,
			       s->remote->ops->name, strerror(-rc));
	if (!virtio_status(&b->dev))
		return 0;
	if (s->remote)
		s->remote->ops->offer(s->remote, &offer);
	read_only = s->to ? s->to->read_only : (offer.features | ~offer.opinion) & BIT(VIRTIO_BLK_F_RO);
	was_read_only = b->dev.offered & BIT(VIRTIO_BLK_F_RO);
	if (read_only != was_read_only)
		return err_set(e, -EOPNOTSUPP, "%s: its driver found it %s, and the new one is %s", b->dev.name,
			       was_read_only ? "read-only" : "writable", read_only ? "read-only" : "writable");
	return config_holds(b, &s->was, &s->is, e);
}

static void resized(void *opaque)
{
	virtio_config_changed(opaque);
}

int blk_move(struct virtio_device *dev, struct disk *disk, struct datapath *remote,
	     const struct virtio_move_how *how, struct virtio_moved *moved, struct err *e)
{
	struct blk *b = blk_of(dev);
	struct blk_swap s = {.b = b, .to = disk, .from = b->disk, .remote = remote};
	struct datapath *const old = dev->remote;
	const struct virtio_move move = {
		.remote = remote,
		.fits = fits,
		.swap = swap,
		.opaque = &s,
		.how = how,
	};
	int rc;

	if (disk) {
		disk->opaque = dev;
		disk->resized = resized;
	}
	rc = virtio_move(dev, &move, moved, e);
	if (rc && disk)
		disk->resized = NULL;
	if (rc)
		return rc;
	if (s.from && s.from != disk)
		s.from->ops->destroy(s.from);
	if (old && old != remote)
		old->ops->destroy(old);
	return 0;
}
