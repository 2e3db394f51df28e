/* For the tests of a block device that changes its datapath: a disk here, and remotes with the same medium. */
#ifndef TESTS_UNIT_BLK_MOVE_RIG_H
#define TESTS_UNIT_BLK_MOVE_RIG_H
#include <criterion/criterion.h>
#include <endian.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/virtio_move.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/fake_disk.h"
#include "tests/unit/teardown.h"

#define BIT(n)    (UINT64_C(1) << (n))
#define EVERY_BIT (~BIT(VIRTIO_F_RING_PACKED) & ~BIT(VIRTIO_F_IN_ORDER))
#define SIZE      (1u << 20)
#define SECTORS   (SIZE / 512)
#define WCE       offsetof(struct virtio_blk_config, wce)

static struct fake_disk *disk, *other; /* the same medium */
static struct fake_datapath remote, second;
static struct virtio_blk_config *served; /* the remote's */
static struct blk_rig g;
static struct loop_thread far_loop;
static struct virtio_moved moved;
static struct err e;
static uint8_t buf[4096];

/* --- a remote with the same medium --- */

static inline uint8_t request(struct vq_chain *c, unsigned *written)
{
	struct virtio_blk_outhdr hdr;
	struct iovec *data = c->nin > 1 ? &c->iov[c->nout] : c->nout > 1 ? &c->iov[1] : NULL;
	uint64_t at;

	memcpy(&hdr, c->iov[0].iov_base, sizeof(hdr));
	at = le64toh(hdr.sector) * 512;
	*written = 1;
	switch (le32toh(hdr.type)) {
	case VIRTIO_BLK_T_IN:
		memcpy(data->iov_base, disk->data + at, data->iov_len);
		*written += (unsigned)data->iov_len;
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_OUT:
		memcpy(disk->data + at, data->iov_base, data->iov_len);
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_FLUSH:
		return VIRTIO_BLK_S_OK;
	}
	return VIRTIO_BLK_S_UNSUPP;
}

static inline void answer(struct fake_datapath *f, struct virtqueue *vq)
{
	struct iovec iov[8];
	unsigned written;

	(void)f;
	for (;;) {
		struct vq_chain c = {.iov = iov, .iov_max = ARRAY_SIZE(iov)};

		if (vq_pop(vq, &c) == 1) {
			*(uint8_t *)iov[c.nout + c.nin - 1].iov_base = request(&c, &written);
			vq_push(vq, c.head, written);
		} else if (!vq_wait(vq)) {
			break;
		}
	}
}

static inline void do_not_answer(struct fake_datapath *f, struct virtqueue *vq)
{
	(void)f;
	(void)vq;
}

static inline void remote_init(struct fake_datapath *f)
{
	fake_datapath_init(f);
	f->offer.opinion = UINT64_MAX;
	f->offer.features = ~(BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_GEOMETRY));
	f->offer.config_len = sizeof(f->config);
	f->kicked = far_loop.loop;
	f->serve = answer;
}

static inline struct fake_disk *disk_new(uint8_t *medium)
{
	struct fake_disk *d = fake_disk_new(SIZE);

	if (medium) {
		free(d->data);
		d->data = medium;
	}
	return d;
}

static void setup(void)
{
	log_set_level(LOG_ERROR);
	cr_assert_eq(loop_thread_start(&far_loop, "far", -1, &e), 0);
	disk = disk_new(NULL);
	other = disk_new(disk->data);
	for (unsigned i = 0; i < SIZE; i++)
		disk->data[i] = (uint8_t)(i / 512 + i);
	remote_init(&remote);
	remote_init(&second);
	served = (struct virtio_blk_config *)(void *)remote.config;
	memset(&g, 0, sizeof(g));
}

static void teardown(void)
{
	if (g.dev)
		blk_rig_fini(&g);
	loop_thread_stop(&far_loop);
	cr_expect_eq(disk->mistakes + other->mistakes + remote.mistakes + second.mistakes + g.ft.mistakes, 0);
	cr_expect_eq(disk->lanes + other->lanes, 0);
	cr_expect_eq(remote.running | second.running, 0);
	other->data = NULL;
	fake_disk_free(other);
	fake_disk_free(disk);
}

/* The device over `disk`; the remotes say of it what the device does. */
static inline void make(void)
{
	blk_rig_init(&g, &disk->disk);
	blk_rig_config(&g, served);
	memcpy(second.config, remote.config, sizeof(remote.config));
}

static inline void live_with(uint64_t features)
{
	make();
	cr_assert(blk_rig_live(&g, features));
}

static inline void live(void)
{
	live_with(EVERY_BIT);
}

static inline int to_remote(struct fake_datapath *f)
{
	return blk_move(g.dev, NULL, &f->dp, &(struct virtio_move_how){.drain_ms = 50}, &moved, &e);
}

static inline int to_disk(struct fake_disk *d)
{
	return blk_move(g.dev, &d->disk, NULL, &(struct virtio_move_how){.drain_ms = 50}, &moved, &e);
}

static inline bool reads(unsigned sector)
{
	if (blk_rig_do(&g, VIRTIO_BLK_T_IN, sector, buf, 512) != VIRTIO_BLK_S_OK)
		return false;
	return !memcmp(buf, disk->data + 512u * sector, 512);
}

static inline bool writes(unsigned sector, uint8_t what)
{
	memset(buf, what, 512);
	if (blk_rig_do(&g, VIRTIO_BLK_T_OUT, sector, buf, 512) != VIRTIO_BLK_S_OK)
		return false;
	return disk->data[512u * sector] == what && disk->data[512u * sector + 511] == what;
}

static inline void set_wce(uint8_t on)
{
	virtio_lock(g.dev);
	virtio_config_write(g.dev, WCE, &on, 1);
	virtio_unlock(g.dev);
}

static inline struct virtio_blk_config config(void)
{
	struct virtio_blk_config c;

	blk_rig_config(&g, &c);
	return c;
}

static inline void expect_unmoved(void)
{
	cr_expect_null(g.dev->remote);
	cr_expect_eq(disk->destroyed + other->destroyed + remote.destroyed, 0);
	cr_expect_eq(disk->lanes, g.nqueues);
	cr_expect_not(blk_rig_broken(&g));
	cr_expect(writes(3, 0x33));
	cr_expect(reads(4));
}
#endif
