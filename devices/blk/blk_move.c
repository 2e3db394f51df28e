/* Live change of who serves a disk. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "devices/blk/blk.h"
#include "devices/blk/blk_config.h"
#include "devices/blk/disk.h"
#include "devices/virtio/virtio_move.h"

struct blk_swap {
	struct blk *b;
	struct disk *to, *from;
};

static int swap(void *opaque, bool forth)
{
	struct blk_swap *s = opaque;

	s->b->disk = forth ? s->to : s->from;
	return 0;
}

struct limit {
	const char *name;
	uint64_t was, is;
	bool exact; /* else: no less */
};

/* A driver has taken over what the configuration said. */
static int config_holds(const struct blk *b, const struct virtio_blk_config *was,
			const struct virtio_blk_config *is, struct err *e)
{
	const struct limit limits[] = {
		{"capacity", le64toh(was->capacity), le64toh(is->capacity), true},
		{"blk_size", le32toh(was->blk_size), le32toh(is->blk_size), true},
		{"num_queues", le16toh(was->num_queues), le16toh(is->num_queues), false},
		{"seg_max", le32toh(was->seg_max), le32toh(is->seg_max), false},
		{"size_max", le32toh(was->size_max), le32toh(is->size_max), true},
		{"max_discard_sectors", le32toh(was->max_discard_sectors), le32toh(is->max_discard_sectors),
		 false},
		{"max_discard_seg", le32toh(was->max_discard_seg), le32toh(is->max_discard_seg), false},
		{"max_write_zeroes_sectors", le32toh(was->max_write_zeroes_sectors),
		 le32toh(is->max_write_zeroes_sectors), false},
		{"max_write_zeroes_seg", le32toh(was->max_write_zeroes_seg), le32toh(is->max_write_zeroes_seg),
		 false},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const struct limit *l = &limits[i];

		if (l->exact ? l->is != l->was : l->is < l->was)
			return err_set(e, -EOPNOTSUPP,
				       "%s: its driver has read %s %llu, and the new one has %llu%s",
				       b->dev.name, l->name, (unsigned long long)l->was,
				       (unsigned long long)l->is, l->exact ? "" : "; it may not be less");
	}
	return 0;
}

static int fits(struct blk *b, struct disk *disk, struct datapath *remote, struct err *e)
{
	struct virtio_blk_config was, is;
	bool read_only, was_read_only;
	struct datapath_offer offer = {0};
	int rc = 0;

	if (!virtio_status(&b->dev))
		return 0;
	virtio_lock(&b->dev);
	blk_config_read(&b->dev, 0, &was, BLK_CONFIG_LEN);
	if (disk)
		blk_config_of_disk(b, disk, &is);
	else
		rc = blk_config_of_remote(b, remote, &is);
	virtio_unlock(&b->dev);
	if (rc)
		return err_set(e, rc, "%s: %s does not give its configuration: %s", b->dev.name,
			       remote->ops->name, strerror(-rc));
	if (remote)
		remote->ops->offer(remote, &offer);
	read_only = disk ? disk->read_only : offer.features >> VIRTIO_BLK_F_RO & 1;
	was_read_only = b->dev.offered >> VIRTIO_BLK_F_RO & 1;
	if (read_only != was_read_only)
		return err_set(e, -EOPNOTSUPP, "%s: its driver found it %s, and the new one is %s", b->dev.name,
			       was_read_only ? "read-only" : "writable", read_only ? "read-only" : "writable");
	return config_holds(b, &was, &is, e);
}

static void resized(void *opaque)
{
	virtio_config_changed(opaque);
}

int blk_move(struct virtio_device *dev, struct disk *disk, struct datapath *remote, unsigned drain_ms,
	     struct virtio_moved *moved, struct err *e)
{
	struct blk *b = blk_of(dev);
	struct blk_swap s = {.b = b, .to = disk, .from = b->disk};
	struct datapath *const old = dev->remote;
	const struct virtio_move move = {
		.remote = remote,
		.swap = swap,
		.opaque = &s,
		.drain_ms = drain_ms,
	};
	int rc = fits(b, disk, remote, e);

	if (rc)
		return rc;
	if (disk) {
		disk->opaque = dev;
		disk->resized = resized;
	}
	rc = virtio_move(dev, &move, moved, e);
	if (rc)
		return rc;
	if (s.from)
		s.from->ops->destroy(s.from);
	if (old)
		old->ops->destroy(old);
	return 0;
}
