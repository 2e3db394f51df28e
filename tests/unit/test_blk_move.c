/* Live change of the block device: whoever has the disk answers every request once, and what was written is
 * there for the next. */
#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio/virtio_move.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/fake_disk.h"

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

static uint8_t request(struct vq_chain *c, unsigned *written)
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

static void answer(struct fake_datapath *f, struct virtqueue *vq)
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

static void do_not_answer(struct fake_datapath *f, struct virtqueue *vq)
{
	(void)f;
	(void)vq;
}

static void remote_init(struct fake_datapath *f)
{
	fake_datapath_init(f);
	f->offer.opinion = UINT64_MAX;
	f->offer.features = ~(BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_GEOMETRY));
	f->offer.config_len = sizeof(f->config);
	f->kicked = far_loop.loop;
	f->serve = answer;
}

static struct fake_disk *disk_new(uint8_t *medium)
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

/* The library does not count what fails in a teardown, but that it crashes. */
#define must(ok)                                                                                               \
	do {                                                                                                   \
		if (!(ok)) {                                                                                   \
			fprintf(stderr, "teardown: %s\n", #ok);                                                \
			abort();                                                                               \
		}                                                                                              \
	} while (0)

static void teardown(void)
{
	if (g.dev)
		blk_rig_fini(&g);
	loop_thread_stop(&far_loop);
	must((disk->mistakes + other->mistakes + remote.mistakes + second.mistakes + g.ft.mistakes) == 0);
	must((disk->lanes + other->lanes) == 0);
	must((remote.running | second.running) == 0);
	other->data = NULL;
	fake_disk_free(other);
	fake_disk_free(disk);
}

TestSuite(blk_move, .init = setup, .fini = teardown, .timeout = 20);

/* The device over `disk`; the remotes say of it what the device does. */
static void make(void)
{
	blk_rig_init(&g, &disk->disk);
	blk_rig_config(&g, served);
	memcpy(second.config, remote.config, sizeof(remote.config));
}

static void live_with(uint64_t features)
{
	make();
	cr_assert(blk_rig_live(&g, features));
}

static void live(void)
{
	live_with(EVERY_BIT);
}

static int to_remote(struct fake_datapath *f)
{
	return blk_move(g.dev, NULL, &f->dp, &(struct virtio_move_how){.drain_ms = 50}, &moved, &e);
}

static int to_disk(struct fake_disk *d)
{
	return blk_move(g.dev, &d->disk, NULL, &(struct virtio_move_how){.drain_ms = 50}, &moved, &e);
}

static bool reads(unsigned sector)
{
	if (blk_rig_do(&g, VIRTIO_BLK_T_IN, sector, buf, 512) != VIRTIO_BLK_S_OK)
		return false;
	return !memcmp(buf, disk->data + 512u * sector, 512);
}

static bool writes(unsigned sector, uint8_t what)
{
	memset(buf, what, 512);
	if (blk_rig_do(&g, VIRTIO_BLK_T_OUT, sector, buf, 512) != VIRTIO_BLK_S_OK)
		return false;
	return disk->data[512u * sector] == what && disk->data[512u * sector + 511] == what;
}

static void set_wce(uint8_t on)
{
	virtio_lock(g.dev);
	virtio_config_write(g.dev, WCE, &on, 1);
	virtio_unlock(g.dev);
}

static struct virtio_blk_config config(void)
{
	struct virtio_blk_config c;

	blk_rig_config(&g, &c);
	return c;
}

static void expect_unmoved(void)
{
	cr_expect_null(g.dev->remote);
	cr_expect_eq(disk->destroyed + other->destroyed + remote.destroyed, 0);
	cr_expect_eq(disk->lanes, g.nqueues);
	cr_expect_not(blk_rig_broken(&g));
	cr_expect(writes(3, 0x33));
	cr_expect(reads(4));
}

/* --- there and back --- */

Test(blk_move, another_takes_the_disk_over_and_gives_it_back)
{
	live();
	cr_expect(writes(1, 0x11));
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(disk->destroyed, 1);
	cr_expect_eq(disk->lanes, 0);
	cr_expect(reads(1));
	cr_expect(writes(2, 0x22));
	cr_expect(reads(3));
	cr_expect_eq(disk->nlog, 1);
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
	cr_expect_eq(remote.destroyed, 1);
	cr_expect(reads(1));
	cr_expect(reads(2));
	cr_expect(writes(3, 0x33));
	cr_expect_eq(other->nlog, 3);
	cr_expect_gt(moved.stopped_ns, 0);
}

Test(blk_move, one_disk_after_another)
{
	live();
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
	cr_expect_eq(disk->destroyed, 1);
	cr_expect(writes(2, 0x22));
	cr_expect_eq(other->nlog, 1);
	other->disk.size = SIZE / 2;
	other->disk.resized(other->disk.opaque);
	cr_expect_eq(g.ft.config_irqs, 1);
	cr_expect_eq(le64toh(config().capacity), SECTORS / 2);
}

Test(blk_move, one_remote_after_another)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_assert_eq(to_remote(&second), 0, "%s", e.text);
	cr_expect_eq(remote.destroyed, 1);
	cr_expect(writes(2, 0x22));
	cr_expect(reads(3));
	second.config[0]++;
	cr_expect_eq(le64toh(config().capacity), SECTORS + 1);
}

Test(blk_move, packed_rings_move_too)
{
	remote.offer.drains = true;
	live_with(~BIT(VIRTIO_F_IN_ORDER));
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned n = 0; n < 50; n++) /* more than once round */
			cr_assert(writes(n, (uint8_t)(n + i)));
		cr_assert_eq(i == 1 ? to_disk(other) : to_remote(i ? &second : &remote), 0, "%s", e.text);
	}
	cr_expect(reads(7));
}

Test(blk_move, every_queue_moves)
{
	struct blk_rig_req r = {.type = VIRTIO_BLK_T_IN, .data = buf, .len = 512, .sector = 9};

	g.nqueues = 3;
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(remote.running, 7);
	for (unsigned q = 0; q < 3; q++) {
		blk_rig_send(&g, q, &r);
		cr_expect_eq(blk_rig_result(&g, q, &r), VIRTIO_BLK_S_OK);
		cr_expect_eq(memcmp(buf, disk->data + 9 * 512, 512), 0);
	}
}

/* --- requests in flight --- */

#define MANY 16u

static void send_writes(struct blk_rig_req *r, uint8_t what)
{
	memset(buf, what, 512);
	for (unsigned i = 0; i < MANY; i++) {
		r[i] = (struct blk_rig_req){.type = VIRTIO_BLK_T_OUT, .sector = i, .data = buf, .len = 512};
		blk_rig_send(&g, 0, &r[i]);
	}
}

/* All of them have come back, once, well. */
static void expect_answered(struct blk_rig_req *r, uint8_t what)
{
	unsigned seen = 0;
	uint32_t len;
	uint16_t id;

	for (unsigned n = 0; n < MANY; n++) {
		cr_assert(blk_rig_wait(&g, 0, &id, &len));
		for (unsigned i = 0; i < MANY; i++)
			if (r[i].id == id) {
				cr_expect_not(seen & 1u << i);
				seen |= 1u << i;
				cr_expect_eq(*(uint8_t *)driver_mem_ptr(&g.m, r[i].status, 1), VIRTIO_BLK_S_OK);
				cr_expect_eq(disk->data[512 * i], what);
			}
	}
	cr_expect_eq(seen, (1u << MANY) - 1);
	cr_expect_eq(driver_ring_collect(&g.ring[0], NULL, NULL), 0);
}

Test(blk_move, requests_in_flight_here_end_before_another_starts)
{
	struct blk_rig_req r[MANY];

	disk->hold = true;
	live();
	send_writes(r, 0x77);
	while (disk->held < MANY)
		sched_yield();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(remote.started[0].next, MANY);
	expect_answered(r, 0x77);
	cr_expect_eq(disk->nlog, MANY);
	cr_expect(reads(3));
}

Test(blk_move, requests_that_were_not_begun_are_the_nexts)
{
	struct blk_rig_req r[MANY];

	remote.serve = do_not_answer;
	remote.offer.drains = true;
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	send_writes(r, 0x78);
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
	expect_answered(r, 0x78);
	cr_expect_eq(other->nlog, MANY);
}

static void serve_now(void *f)
{
	((struct fake_datapath *)f)->serve = answer;
	fake_datapath_serve(f);
}

static void *serve_later(void *f)
{
	usleep(3000);
	evloop_call(far_loop.loop, serve_now, f);
	return NULL;
}

Test(blk_move, another_that_does_not_drain_is_waited_for)
{
	struct blk_rig_req r[MANY];
	pthread_t t;

	remote.serve = do_not_answer;
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	send_writes(r, 0x79);
	cr_assert_eq(pthread_create(&t, NULL, serve_later, &remote), 0);
	cr_assert_eq(blk_move(g.dev, &other->disk, NULL, &(struct virtio_move_how){.drain_ms = 5000}, &moved,
			      &e),
		     0, "%s", e.text);
	pthread_join(t, NULL);
	cr_expect_eq(remote.stopped[0].next, 0);
	cr_expect_geq(moved.drained_ns, 1000000);
	expect_answered(r, 0x79);
	cr_expect_eq(other->nlog, 0);
}

Test(blk_move, another_that_does_not_answer_in_time_goes_on)
{
	struct blk_rig_req r[MANY];

	remote.serve = do_not_answer;
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	send_writes(r, 0x7a);
	cr_assert_eq(to_disk(other), -ETIMEDOUT);
	cr_expect_eq(remote.stops, 0);
	cr_expect_eq(other->lanes, 0);
	evloop_call(far_loop.loop, serve_now, &remote);
	expect_answered(r, 0x7a);
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
}

Test(blk_move, a_packed_ring_that_nobody_can_see_empty_stays)
{
	live_with(~BIT(VIRTIO_F_IN_ORDER));
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_assert_eq(to_disk(other), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "packed=off"), "%s", e.text);
	cr_expect(writes(3, 0x33));
}

/* --- what the driver has read --- */

#define refused(field, value)                                                                                  \
	do {                                                                                                   \
		const struct virtio_blk_config saved = *served;                                                \
                                                                                                               \
		served->field = (value);                                                                       \
		cr_expect_eq(to_remote(&remote), -EOPNOTSUPP, #field);                                         \
		cr_expect(strstr(e.text, "has read " #field " "), "%s", e.text);                               \
		*served = saved;                                                                               \
	} while (0)

Test(blk_move, each_limit_that_would_not_hold_is_named)
{
	g.nqueues = 2;
	live();
	refused(capacity, htole64(SECTORS - 1));
	refused(capacity, htole64(SECTORS + 1));
	refused(blk_size, htole32(4096));
	refused(num_queues, htole16(1));
	refused(seg_max, htole32(61));
	refused(max_discard_sectors, htole32(1000));
	refused(max_discard_seg, htole32(1));
	refused(max_write_zeroes_sectors, htole32(1000));
	refused(max_write_zeroes_seg, htole32(1));
	expect_unmoved();
	cr_expect_eq(remote.start_calls, 0);
}

Test(blk_move, a_largest_segment_must_stay_what_it_is)
{
	make();
	served->size_max = htole32(65536);
	remote.offer.features |= BIT(VIRTIO_BLK_F_SIZE_MAX);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	second.offer.features = remote.offer.features;
	memcpy(second.config, remote.config, sizeof(second.config));
	((struct virtio_blk_config *)(void *)second.config)->size_max = htole32(4096);
	cr_expect_eq(to_remote(&second), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "has read size_max 65536, and the new one has 4096"), "%s", e.text);
	cr_expect_eq(to_disk(other), -EOPNOTSUPP);
	cr_expect(reads(5));
}

Test(blk_move, limits_may_grow)
{
	g.nqueues = 2;
	live();
	served->seg_max = htole32(1000);
	served->num_queues = htole16(16);
	served->max_discard_sectors = htole32(1u << 30);
	served->max_write_zeroes_seg = htole32(1000);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(config().seg_max, htole32(1000));
	cr_expect_eq(config().num_queues, htole16(2));
}

Test(blk_move, limits_of_what_the_driver_does_not_use_do_not_count)
{
	live_with(EVERY_BIT &
		  ~(BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES) | BIT(VIRTIO_BLK_F_SEG_MAX)));
	remote.offer.features &= ~(BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES) |
				   BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_MQ));
	served->max_discard_sectors = served->max_discard_seg = 0;
	served->max_write_zeroes_sectors = served->max_write_zeroes_seg = 0;
	served->seg_max = 0;
	served->num_queues = 0;
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect(reads(3));
}

Test(blk_move, limits_of_what_a_driver_may_still_choose_count)
{
	make();
	virtio_lock(g.dev);
	virtio_set_status(g.dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_unlock(g.dev);
	refused(max_discard_sectors, htole32(1000));
}

Test(blk_move, a_smaller_disk_is_refused)
{
	live();
	other->disk.size = SIZE / 2;
	cr_assert_eq(to_disk(other), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "capacity 2048, and the new one has 1024"), "%s", e.text);
	expect_unmoved();
}

Test(blk_move, a_disk_that_cannot_discard_is_refused)
{
	live();
	other->disk.discard_granularity = 0;
	cr_assert_eq(to_disk(other), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "max_discard_sectors"), "%s", e.text);
	expect_unmoved();
}

Test(blk_move, a_writable_disk_does_not_become_read_only)
{
	live();
	remote.offer.features |= BIT(VIRTIO_BLK_F_RO);
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "found it writable, and the new one is read-only"), "%s", e.text);
	other->disk.read_only = true;
	cr_assert_eq(to_disk(other), -EOPNOTSUPP);
	expect_unmoved();
}

/* Who is silent on a bit lets the device offer it. */
Test(blk_move, one_that_does_not_say_whether_it_is_read_only_is_taken_for_what_is_offered)
{
	live();
	remote.offer.opinion = 0;
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "the new one is read-only"), "%s", e.text);
}

Test(blk_move, a_read_only_disk_does_not_become_writable)
{
	disk->disk.read_only = true;
	live();
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "found it read-only, and the new one is writable"), "%s", e.text);
	remote.offer.features |= BIT(VIRTIO_BLK_F_RO);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect(reads(3));
}

Test(blk_move, features_that_are_not_served_are_named)
{
	live();
	remote.offer.features &= ~BIT(VIRTIO_BLK_F_FLUSH);
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "uses FLUSH, which"), "%s", e.text);
	expect_unmoved();
}

Test(blk_move, one_that_does_not_say_what_it_has_is_refused)
{
	live();
	remote.config_err = -ETIMEDOUT;
	cr_assert_eq(to_remote(&remote), -ETIMEDOUT);
	cr_expect(strstr(e.text, "does not give its configuration"), "%s", e.text);
	expect_unmoved();
	blk_rig_reset(&g);
	cr_assert_eq(to_remote(&remote), -ETIMEDOUT, "nor without a driver");
}

/* --- the cache mode --- */

Test(blk_move, a_driver_that_chose_writethrough_keeps_it_there)
{
	live();
	set_wce(0);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(served->wce, 0);
	cr_expect_eq(config().wce, 0);
}

Test(blk_move, a_driver_that_chose_writethrough_keeps_it_here)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	set_wce(0);
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
	cr_expect_eq(config().wce, 0);
	cr_expect(writes(2, 0x22));
	cr_expect(other->log[0].durable);
}

Test(blk_move, a_cache_mode_that_cannot_be_set_keeps_it_where_it_is)
{
	static struct datapath_ops mute;

	live();
	set_wce(0);
	mute = *remote.dp.ops;
	mute.config_write = NULL;
	remote.dp.ops = &mute;
	cr_assert_lt(to_remote(&remote), 0);
	cr_expect_eq(config().wce, 0);
	expect_unmoved();
	cr_expect(disk->log[0].durable);
}

static int forget_it(struct datapath *dp, size_t off, const void *src, size_t len)
{
	(void)dp;
	(void)off;
	(void)src;
	(void)len;
	return 0;
}

Test(blk_move, one_that_takes_a_cache_mode_and_does_not_keep_it_is_refused)
{
	static struct datapath_ops forgetful;

	live();
	set_wce(0);
	forgetful = *remote.dp.ops;
	forgetful.config_write = forget_it;
	remote.dp.ops = &forgetful;
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	expect_unmoved();
}

Test(blk_move, a_cache_mode_that_is_the_same_there_is_not_written)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(remote.config_writes, 0);
	cr_expect_eq(config().wce, 1);
}

Test(blk_move, a_cache_mode_that_the_driver_cannot_choose_is_not_written)
{
	live_with(EVERY_BIT & ~BIT(VIRTIO_BLK_F_CONFIG_WCE));
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(remote.config_writes, 0);
}

/* --- it does not start --- */

Test(blk_move, the_disk_goes_on_when_the_remote_does_not_start)
{
	struct blk_rig_req r[MANY];

	disk->hold = true;
	live();
	set_wce(0);
	send_writes(r, 0x55);
	while (disk->held < MANY)
		sched_yield();
	remote.start_err = -ENODEV;
	cr_assert_eq(to_remote(&remote), -ENODEV);
	expect_answered(r, 0x55);
	disk->hold = false;
	cr_expect_eq(config().wce, 0);
	expect_unmoved();
}

Test(blk_move, the_remote_goes_on_when_the_disk_does_not_start)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	other->fail_lane = ENOMEM;
	cr_assert_eq(to_disk(other), -ENOMEM);
	cr_expect_eq(other->destroyed + remote.destroyed, 0);
	cr_expect_null(other->disk.resized, "it is not this device's");
	cr_expect(writes(3, 0x33));
	cr_expect(reads(4));
	cr_expect_eq(le64toh(config().capacity), SECTORS);
}

/* --- without a driver, or before it is ready --- */

Test(blk_move, a_device_that_no_driver_has_found_yet_may_become_any_disk)
{
	make();
	served->capacity = htole64(SECTORS / 2);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(disk->destroyed, 1);
	cr_expect_eq(le64toh(config().capacity), SECTORS / 2);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	cr_expect_eq(remote.running, 1);
	cr_expect(writes(3, 0x33));
}

Test(blk_move, what_it_said_at_the_move_stands_when_it_answers_no_more)
{
	live();
	served->seg_max = htole32(200);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	remote.config_err = -EPIPE;
	cr_expect_eq(le64toh(config().capacity), SECTORS);
	cr_expect_eq(config().seg_max, htole32(200));
}

Test(blk_move, what_it_said_stands_when_the_next_does_not_start)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	((struct virtio_blk_config *)(void *)second.config)->seg_max = htole32(200);
	second.start_err = -EIO;
	cr_assert_eq(to_remote(&second), -EIO);
	remote.config_err = -EPIPE;
	cr_expect_eq(config().seg_max, served->seg_max);
}

Test(blk_move, resets_after_a_move_reach_the_new)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	blk_rig_reset(&g);
	cr_expect_eq(remote.running, 0);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	cr_expect(writes(3, 0x33));
}

/* --- a hundred moves --- */

static pthread_mutex_t vcpu = PTHREAD_MUTEX_INITIALIZER; /* held: it is paused */
static _Atomic bool pausing, ending;
static _Atomic unsigned wrong, finished;
static struct blk_rig_req slot[MANY]; /* sector n is slot n's */
static uint8_t version[MANY];         /* of what is on the disk */
static bool reading[MANY];

/* Each slot writes its sector, reads it back and compares. */
static void begin(unsigned i)
{
	struct driver_buf b[3] = {{slot[i].hdr, sizeof(struct virtio_blk_outhdr), false},
				  {slot[i].buf, 512, reading[i]},
				  {slot[i].status, 1, true}};
	struct virtio_blk_outhdr hdr = {.type = htole32(reading[i] ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT),
					.sector = htole64(i)};

	memcpy(driver_mem_ptr(&g.m, slot[i].hdr, sizeof(hdr)), &hdr, sizeof(hdr));
	memset(driver_mem_ptr(&g.m, slot[i].buf, 512), reading[i] ? 0xee : ++version[i], 512);
	*(uint8_t *)driver_mem_ptr(&g.m, slot[i].status, 1) = 0xee;
	slot[i].id = blk_rig_add(&g, 0, b, 3);
}

static void end(uint16_t id, bool more)
{
	const uint8_t *data;

	for (unsigned i = 0; i < MANY; i++) {
		if (slot[i].id != id)
			continue;
		finished++;
		wrong += *(uint8_t *)driver_mem_ptr(&g.m, slot[i].status, 1) != VIRTIO_BLK_S_OK;
		data = driver_mem_ptr(&g.m, slot[i].buf, 512);
		wrong += data[0] != version[i] || data[511] != version[i];
		reading[i] = !reading[i];
		slot[i].id = UINT16_MAX;
		if (more)
			begin(i);
		return;
	}
	wrong++;
}

static void *drive(void *unused)
{
	uint16_t id;

	while (!ending) {
		if (!pausing) {
			pthread_mutex_lock(&vcpu);
			while (driver_ring_collect(&g.ring[0], &id, NULL) == 1)
				end(id, true);
			pthread_mutex_unlock(&vcpu);
		}
		sched_yield();
	}
	return unused;
}

static void a_hundred_moves(void)
{
	struct fake_disk *disks[50];
	uint32_t len;
	uint16_t id;
	pthread_t t;

	live();
	for (unsigned i = 0; i < MANY; i++) {
		slot[i].hdr = driver_mem_alloc(&g.m, sizeof(struct virtio_blk_outhdr), 16);
		slot[i].buf = driver_mem_alloc(&g.m, 512, 512);
		slot[i].status = driver_mem_alloc(&g.m, 1, 1);
		begin(i);
	}
	cr_assert_eq(pthread_create(&t, NULL, drive, NULL), 0);
	for (unsigned n = 0; n < 100; n++) {
		struct disk *to = NULL;

		if (n % 2) {
			disks[n / 2] = disk_new(disk->data);
			to = &disks[n / 2]->disk;
		}
		pausing = true;
		pthread_mutex_lock(&vcpu);
		pausing = false;
		cr_assert_eq(blk_move(g.dev, to, to ? NULL : &remote.dp,
				      &(struct virtio_move_how){.drain_ms = 5000}, &moved, &e),
			     0, "%s", e.text);
		pthread_mutex_unlock(&vcpu);
		for (const unsigned before = finished; finished - before < 2 * MANY;)
			sched_yield();
	}
	ending = true;
	pthread_join(t, NULL);
	for (unsigned left = g.ring[0].norder; left; left--) {
		cr_assert(blk_rig_wait(&g, 0, &id, &len));
		end(id, false);
	}
	cr_expect_eq(wrong, 0);
	cr_expect_eq(remote.destroyed, 50);
	for (unsigned i = 0; i < MANY; i++)
		cr_expect_eq(disk->data[512 * i], version[i]);
	blk_rig_fini(&g);
	g.dev = NULL;
	for (unsigned i = 0; i < 50; i++) {
		cr_expect_eq(disks[i]->destroyed, 1);
		cr_expect_eq(disks[i]->mistakes + disks[i]->lanes, 0);
		disks[i]->data = NULL;
		fake_disk_free(disks[i]);
	}
}

Test(blk_move, a_hundred_moves_under_load_lose_no_request)
{
	a_hundred_moves();
}

Test(blk_move, a_hundred_moves_to_one_that_keeps_copies_of_eventfds)
{
	remote.offer.keeps_fds = true;
	a_hundred_moves();
}
