/* The core of a virtio device: what it offers, its status, its configuration space, and resets. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/fake_device.h"
#include "tests/fake/fake_transport.h"
#include "vmm/loop_thread.h"

#define BIT(n)      (UINT64_C(1) << (n))
#define VERSION_1   BIT(VIRTIO_F_VERSION_1)
#define ACK         VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER      VIRTIO_CONFIG_S_DRIVER
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED      VIRTIO_CONFIG_S_FAILED
#define BEFORE      (ACK | DRIVER)
#define LIVE        (BEFORE | FEATURES_OK | DRIVER_OK)
#define RING_BITS                                                                                              \
	(BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | VERSION_1 |                         \
	 BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER) | BIT(VIRTIO_F_RING_RESET))

static struct driver_mem m;
static struct driver_ring ring[2];
static struct fake_device f;
static struct fake_datapath local, remote;
static struct fake_transport ft;
static struct loop_thread io;
static struct err e;
static bool inited;

/* Does nothing but make the fixture: what a device offers is decided in virtio_init(). */
static void setup(void)
{
	log_set_level(LOG_ERROR);
	cr_assert_eq(loop_thread_start(&io, "io", -1, &e), 0);
	driver_mem_init(&m);
	for (unsigned i = 0; i < 2; i++)
		driver_ring_init(&ring[i], &m, 256, 0, 0);
	fake_datapath_init(&local);
	fake_datapath_init(&remote);
	fake_device_init(&f, &m.mem, io.loop);
	f.dev.local = &local.dp;
	fake_transport_init(&ft, &f.dev);
}

static void init(void)
{
	cr_assert_eq(virtio_init(&f.dev, &e), 0, "%s", e.text);
	inited = true;
}

static void teardown(void)
{
	if (inited) {
		virtio_fini(&f.dev);
		cr_expect_eq(local.running | remote.running, 0);
	}
	loop_thread_stop(&io);
	for (unsigned i = 0; i < 2; i++)
		driver_ring_fini(&ring[i]);
	driver_mem_fini(&m);
	cr_expect_eq(f.mistakes, 0);
	cr_expect_eq(ft.mistakes, 0);
	cr_expect_eq(local.mistakes + remote.mistakes, 0);
}

TestSuite(virtio, .init = setup, .fini = teardown, .timeout = 60);

static void queues(void)
{
	for (unsigned i = 0; i < 2; i++)
		fake_device_queue(&f, i, 256, ring[i].desc_gpa, ring[i].avail_gpa, ring[i].used_gpa);
}

/* As a good driver does it. */
static void live(uint64_t features)
{
	cr_assert(fake_device_negotiate(&f, features));
	queues();
	fake_device_status(&f, LIVE);
}

/* --- what is offered --- */

Test(virtio, offers_device_bits_and_ring_bits)
{
	f.features = BIT(0) | BIT(23) | BIT(50) | BIT(63);
	init();
	cr_expect_eq(f.dev.offered, f.features | RING_BITS);
	cr_expect_eq(virtio_features(&f.dev, 0), (uint32_t)f.dev.offered);
	cr_expect_eq(virtio_features(&f.dev, 1), (uint32_t)(f.dev.offered >> 32));
}

Test(virtio, offers_nothing_past_word_1)
{
	f.features = UINT64_MAX;
	init();
	cr_expect_eq(virtio_features(&f.dev, 2), 0);
	cr_expect_eq(virtio_features(&f.dev, 32), 0);
	cr_expect_eq(virtio_features(&f.dev, UINT32_MAX), 0);
}

Test(virtio, a_device_model_cannot_offer_bits_of_the_core)
{
	f.features = UINT64_MAX;
	init();
	cr_expect_eq(f.dev.offered & (BIT(50) - BIT(24)), RING_BITS);
}

Test(virtio, access_platform_is_never_offered)
{
	f.features = UINT64_MAX;
	local.offer.features = local.offer.adds = UINT64_MAX;
	init();
	cr_expect_eq(f.dev.offered & BIT(VIRTIO_F_ACCESS_PLATFORM), 0);
}

Test(virtio, a_datapath_takes_away_what_it_has_an_opinion_on_only)
{
	f.features = BIT(0) | BIT(1) | BIT(2);
	local.offer.opinion = BIT(0) | BIT(1) | BIT(VIRTIO_F_RING_PACKED);
	local.offer.features = BIT(0) | BIT(5);
	init();
	cr_expect_eq(f.dev.offered, (BIT(0) | BIT(2) | RING_BITS) & ~BIT(VIRTIO_F_RING_PACKED));
}

Test(virtio, both_datapaths_narrow_what_is_offered)
{
	f.features = BIT(0) | BIT(1);
	f.dev.remote = &remote.dp;
	f.dev.local_queues = BIT(1);
	local.offer.opinion = BIT(0);
	remote.offer.opinion = BIT(1);
	init();
	cr_expect_eq(f.dev.offered & (BIT(0) | BIT(1)), 0);
}

Test(virtio, a_local_datapath_without_queues_has_no_say)
{
	f.features = BIT(0);
	f.dev.remote = &remote.dp;
	local.offer.opinion = UINT64_MAX;
	init();
	cr_expect_eq(f.dev.offered, BIT(0) | RING_BITS);
}

Test(virtio, hidden_bits_are_not_offered)
{
	f.features = BIT(0) | BIT(1);
	f.dev.hidden = BIT(1) | BIT(VIRTIO_F_RING_PACKED);
	init();
	cr_expect_eq(f.dev.offered, (BIT(0) | RING_BITS) & ~BIT(VIRTIO_F_RING_PACKED));
}

Test(virtio, a_queue_is_no_larger_than_its_datapath_serves)
{
	f.dev.remote = &remote.dp;
	f.dev.local_queues = BIT(1);
	remote.offer.max_queue_size = 100;
	init();
	cr_expect_eq(virtio_queue_get(&f.dev, 0)->max_size, 64);
	cr_expect_eq(virtio_queue_get(&f.dev, 0)->size, 64);
	cr_expect_eq(virtio_queue_get(&f.dev, 1)->max_size, 256);
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	cr_assert(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void expect_refused(int code, const char *word)
{
	unsigned before = open_fds();

	cr_expect_eq(virtio_init(&f.dev, &e), code);
	cr_expect(strstr(e.text, word), "%s", e.text);
	cr_expect(strstr(e.text, "fake0"), "%s", e.text);
	cr_expect_eq(open_fds(), before);
}

Test(virtio, init_refuses_too_many_queues)
{
	f.dev.nqueues = VIRTIO_MAX_QUEUES + 1;
	expect_refused(-EINVAL, "65 queues");
}

Test(virtio, init_refuses_a_queue_that_is_too_large)
{
	f.dev.queue[1].max_size = 2 * VIRTIO_MAX_QUEUE_SIZE;
	expect_refused(-EINVAL, "power of two");
}

Test(virtio, init_refuses_a_queue_size_that_is_no_power_of_two)
{
	f.dev.queue[1].max_size = 100;
	expect_refused(-EINVAL, "power of two");
}

Test(virtio, init_refuses_a_device_that_nobody_serves)
{
	f.dev.local = NULL;
	expect_refused(-EINVAL, "nobody");
}

Test(virtio, init_refuses_a_local_queue_without_a_local_datapath)
{
	f.dev.local = NULL;
	f.dev.remote = &remote.dp;
	f.dev.local_queues = BIT(1);
	expect_refused(-EINVAL, "queue 1");
}

Test(virtio, init_refuses_a_datapath_of_another_device_type)
{
	local.offer.device_id = 1;
	expect_refused(-ENODEV, "type 1");
}

Test(virtio, init_refuses_more_queues_than_the_datapath_has)
{
	local.offer.max_queues = 1;
	expect_refused(-EINVAL, "at most 1");
}

Test(virtio, init_refuses_a_datapath_that_does_not_answer)
{
	local.offer_err = -EIO;
	expect_refused(-EIO, "Input/output error");
}

Test(virtio, init_refuses_a_datapath_before_virtio_1)
{
	local.offer.opinion = VERSION_1;
	expect_refused(-EOPNOTSUPP, "1.0");
}

Test(virtio, leaves_no_descriptor_open)
{
	unsigned before = open_fds();

	init();
	live(0);
	virtio_fini(&f.dev);
	inited = false;
	cr_expect_eq(open_fds(), before);
}

/* --- feature negotiation --- */

Test(virtio, features_ok_is_set_for_what_was_offered)
{
	f.features = BIT(3) | BIT(60);
	init();
	cr_expect(fake_device_negotiate(&f, BIT(3) | BIT(60) | BIT(VIRTIO_RING_F_EVENT_IDX)));
	cr_expect_eq(f.negotiated, BIT(3) | BIT(60) | BIT(VIRTIO_RING_F_EVENT_IDX) | VERSION_1);
	cr_expect(virtio_has(&f.dev, 3));
	cr_expect(virtio_has(&f.dev, 60));
	cr_expect(virtio_has(&f.dev, VIRTIO_F_VERSION_1));
	cr_expect_not(virtio_has(&f.dev, VIRTIO_F_RING_PACKED));
	cr_expect_not(virtio_has(&f.dev, 64));
	cr_expect_not(virtio_has(&f.dev, UINT32_MAX));
}

Test(virtio, features_ok_is_refused_for_a_bit_never_offered)
{
	init();
	for (unsigned i = 0; i < 64; i++)
		if (!(f.dev.offered & BIT(i)))
			cr_expect_not(fake_device_negotiate(&f, BIT(i)), "bit %u", i);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
}

Test(virtio, features_ok_is_refused_for_a_hidden_bit)
{
	f.features = BIT(1);
	f.dev.hidden = BIT(1);
	init();
	cr_expect_not(fake_device_negotiate(&f, BIT(1)));
}

Test(virtio, features_ok_is_refused_for_a_bit_past_63)
{
	init();
	fake_device_status(&f, BEFORE);
	virtio_set_features(&f.dev, 1, VERSION_1 >> 32);
	virtio_set_features(&f.dev, 2, 1);
	fake_device_status(&f, BEFORE | FEATURES_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
	cr_expect(fake_device_negotiate(&f, 0), "forgotten by the reset");
}

Test(virtio, zeroes_past_bit_63_are_fine)
{
	init();
	fake_device_status(&f, BEFORE);
	virtio_set_features(&f.dev, 1, VERSION_1 >> 32);
	for (uint32_t word = 2; word < 5; word++)
		virtio_set_features(&f.dev, word, 0);
	fake_device_status(&f, BEFORE | FEATURES_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE | FEATURES_OK);
}

Test(virtio, features_ok_is_refused_without_version_1)
{
	f.features = BIT(0);
	init();
	fake_device_status(&f, BEFORE);
	virtio_set_features(&f.dev, 0, 1);
	fake_device_status(&f, BEFORE | FEATURES_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
	cr_expect_not(virtio_has(&f.dev, 0));
}

Test(virtio, features_ok_is_refused_when_the_device_model_says_no)
{
	init();
	f.negotiated_err = -EINVAL;
	cr_expect_not(fake_device_negotiate(&f, 0));
	f.negotiated_err = 0;
	cr_expect(fake_device_negotiate(&f, 0));
}

Test(virtio, features_can_be_mended_after_a_refusal)
{
	init();
	cr_expect_not(fake_device_negotiate(&f, BIT(7)));
	virtio_set_features(&f.dev, 0, 0);
	fake_device_status(&f, BEFORE | FEATURES_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE | FEATURES_OK);
}

Test(virtio, accepted_features_read_back)
{
	init();
	virtio_set_features(&f.dev, 0, 0x12345678);
	virtio_set_features(&f.dev, 1, 0x9abcdef0);
	cr_expect_eq(virtio_accepted(&f.dev, 0), 0x12345678);
	cr_expect_eq(virtio_accepted(&f.dev, 1), 0x9abcdef0);
	cr_expect_eq(virtio_accepted(&f.dev, 2), 0);
	cr_expect_eq(virtio_accepted(&f.dev, 32), 0);
}

Test(virtio, features_are_frozen_from_features_ok_on)
{
	f.features = BIT(0);
	init();
	cr_assert(fake_device_negotiate(&f, 0));
	virtio_set_features(&f.dev, 0, 1);
	virtio_set_features(&f.dev, 1, UINT32_MAX);
	cr_expect_eq(f.dev.accepted, VERSION_1);
	fake_device_status(&f, LIVE);
	virtio_set_features(&f.dev, 0, 1);
	cr_expect_eq(f.dev.accepted, VERSION_1);
	cr_expect_not(virtio_has(&f.dev, 0));
}

Test(virtio, nothing_is_had_before_features_ok)
{
	init();
	fake_device_status(&f, BEFORE);
	virtio_set_features(&f.dev, 1, VERSION_1 >> 32);
	cr_expect_not(virtio_has(&f.dev, VIRTIO_F_VERSION_1));
}

Test(virtio, the_same_features_are_accepted_again_after_a_reset)
{
	init();
	for (unsigned i = 0; i < 10; i++)
		cr_expect(fake_device_negotiate(&f, RING_BITS));
}

/* --- status --- */

Test(virtio, status_begins_at_zero)
{
	init();
	cr_expect_eq(virtio_status(&f.dev), 0);
}

Test(virtio, status_bits_are_not_cleared_but_by_reset)
{
	init();
	live(0);
	fake_device_status(&f, ACK);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	fake_device_status(&f, DRIVER_OK);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	cr_expect_eq(local.starts, 1);
	cr_expect_eq(local.running, 3);
}

Test(virtio, a_driver_cannot_set_needs_reset_or_bits_that_do_not_exist)
{
	init();
	fake_device_status(&f, 0x70 | ACK);
	cr_expect_eq(virtio_status(&f.dev), ACK);
	fake_device_status(&f, 0x70);
	cr_expect_eq(virtio_status(&f.dev), ACK);
}

Test(virtio, a_driver_cannot_clear_needs_reset)
{
	init();
	live(0);
	virtio_needs_reset(&f.dev, "test", -EIO);
	fake_device_status(&f, LIVE);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
}

Test(virtio, driver_ok_before_features_ok_is_ignored)
{
	init();
	fake_device_status(&f, BEFORE | DRIVER_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
	cr_expect_eq(local.start_calls, 0);
}

Test(virtio, driver_ok_together_with_features_ok_is_ignored)
{
	init();
	fake_device_status(&f, BEFORE);
	virtio_set_features(&f.dev, 1, VERSION_1 >> 32);
	fake_device_status(&f, LIVE);
	cr_expect_eq(virtio_status(&f.dev), BEFORE | FEATURES_OK);
	queues();
	fake_device_status(&f, LIVE);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	cr_expect_eq(local.running, 3);
}

Test(virtio, driver_ok_after_a_refusal_is_ignored)
{
	init();
	cr_assert_not(fake_device_negotiate(&f, BIT(7)));
	fake_device_status(&f, BEFORE | DRIVER_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
}

Test(virtio, a_driver_that_failed_starts_nothing_before_a_reset)
{
	init();
	cr_assert(fake_device_negotiate(&f, 0));
	queues();
	fake_device_status(&f, BEFORE | FEATURES_OK | FAILED);
	fake_device_status(&f, LIVE);
	cr_expect_eq(virtio_status(&f.dev), BEFORE | FEATURES_OK | FAILED);
	cr_expect_eq(local.start_calls, 0);
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

Test(virtio, failed_together_with_driver_ok_starts_nothing)
{
	init();
	cr_assert(fake_device_negotiate(&f, 0));
	queues();
	fake_device_status(&f, LIVE | FAILED);
	cr_expect_eq(local.start_calls, 0);
}

Test(virtio, a_device_without_ready_queues_comes_alive)
{
	init();
	cr_assert(fake_device_negotiate(&f, 0));
	fake_device_status(&f, LIVE);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	cr_expect_eq(local.start_calls, 0);
}

/* --- reset --- */

Test(virtio, reset_before_anything)
{
	init();
	for (unsigned i = 0; i < 3; i++)
		fake_device_status(&f, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
	cr_expect_eq(local.stops, 0);
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

Test(virtio, reset_forgets_what_the_driver_wrote)
{
	const struct virtio_queue *q;

	f.features = BIT(0);
	init();
	live(BIT(0));
	fake_device_status(&f, 0);
	q = virtio_queue_get(&f.dev, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
	cr_expect_eq(f.dev.accepted, 0);
	cr_expect_eq(q->size, q->max_size);
	cr_expect_eq(q->desc | q->avail | q->used, 0);
	cr_expect_not(q->ready);
	cr_expect_not(q->reset);
}

static uint8_t status_in_reset;
static uint64_t running_in_reset;

static void look(struct fake_device *self)
{
	status_in_reset = virtio_status(&self->dev);
	running_in_reset = local.running;
}

Test(virtio, reset_stops_first_and_shows_zero_last)
{
	init();
	live(0);
	f.in_reset = look;
	fake_device_status(&f, 0);
	cr_expect_eq(status_in_reset, LIVE);
	cr_expect_eq(running_in_reset, 0);
	cr_expect_lt(local.stopped_at, ft.queue[0].unbound_at);
	cr_expect_lt(local.stopped_at, f.reset_at);
	cr_expect_lt(ft.queue[1].unbound_at, ft.reset_at);
	cr_expect_eq(local.stops, 1);
}

Test(virtio, every_reset_reaches_the_device_model_and_the_transport)
{
	init();
	for (unsigned i = 1; i < 5; i++) {
		fake_device_status(&f, 0);
		cr_expect_eq(f.resets, i);
		cr_expect_eq(ft.resets, i);
	}
}

Test(virtio, the_config_generation_only_moves_on)
{
	uint32_t before;

	init();
	virtio_config_changed(&f.dev);
	virtio_config_changed(&f.dev);
	before = f.dev.config_generation;
	live(0);
	fake_device_status(&f, 0);
	cr_expect_eq(f.dev.config_generation, before);
	virtio_config_changed(&f.dev);
	cr_expect_eq(f.dev.config_generation, before + 1);
}

Test(virtio, counters_outlive_a_reset)
{
	init();
	live(0);
	f.dev.queue[0].stats.chains = 5;
	fake_device_status(&f, 0);
	cr_expect_eq(f.dev.queue[0].stats.chains, 5);
}

Test(virtio, reset_after_the_datapath_failed)
{
	init();
	live(0);
	local.dp.events->failed(local.dp.opaque, -EPIPE);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(local.stops, 0, "stop is still due");
	fake_device_status(&f, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
	cr_expect_eq(local.stops, 1);
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

static void fail(struct fake_datapath *self)
{
	self->dp.events->failed(self->dp.opaque, -EPIPE);
}

Test(virtio, a_failure_while_it_stops_does_not_reach_the_next_life)
{
	init();
	live(0);
	local.in_stop = fail;
	fake_device_status(&f, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
	cr_expect_eq(ft.config_irqs, 0);
}

Test(virtio, a_failure_while_it_starts_is_shown)
{
	init();
	local.in_start = fail;
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(ft.config_irqs, 1);
}

static void change(struct fake_device *self)
{
	virtio_config_changed(&self->dev);
	virtio_needs_reset(&self->dev, "late", -EIO);
	look(self);
}

Test(virtio, nothing_is_sent_out_of_a_reset)
{
	init();
	live(0);
	f.in_reset = change;
	fake_device_status(&f, 0);
	cr_expect_eq(status_in_reset, LIVE);
	cr_expect_eq(ft.config_irqs, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
}

Test(virtio, reset_storm)
{
	unsigned before;

	init();
	live(0);
	before = open_fds();
	for (unsigned i = 0; i < 1000; i++)
		live(i & 1 ? RING_BITS & ~BIT(VIRTIO_F_RING_PACKED) : 0);
	cr_expect_eq(open_fds(), before);
	cr_expect_eq(local.starts, 1001);
	cr_expect_eq(local.stops, 1000);
}

Test(virtio, fini_stops_what_runs)
{
	init();
	live(0);
	virtio_fini(&f.dev);
	inited = false;
	cr_expect_eq(local.stops, 1);
	cr_expect_eq(local.running, 0);
	cr_expect_not(ft.queue[0].bound);
}

/* --- NEEDS_RESET --- */

Test(virtio, needs_reset_interrupts_a_live_driver_once)
{
	init();
	live(0);
	for (unsigned i = 0; i < 3; i++)
		virtio_needs_reset(&f.dev, "test", -EIO);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(ft.config_irqs, 1);
}

Test(virtio, needs_reset_before_driver_ok_interrupts_at_driver_ok)
{
	init();
	cr_assert(fake_device_negotiate(&f, 0));
	queues();
	virtio_needs_reset(&f.dev, "test", -EIO);
	cr_expect_eq(ft.config_irqs, 0);
	fake_device_status(&f, LIVE);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(ft.config_irqs, 1);
	cr_expect_eq(local.start_calls, 0);
}

Test(virtio, needs_reset_without_a_driver_is_ignored)
{
	init();
	virtio_needs_reset(&f.dev, "test", -EIO);
	cr_expect_eq(virtio_status(&f.dev), 0);
	live(0);
	fake_device_status(&f, 0);
	virtio_needs_reset(&f.dev, "late", -EIO);
	cr_expect_eq(virtio_status(&f.dev), 0);
}

Test(virtio, needs_reset_ends_with_a_reset)
{
	init();
	live(0);
	virtio_needs_reset(&f.dev, "test", -EIO);
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	cr_expect_eq(local.running, 3);
}

/* --- configuration space --- */

Test(virtio, config_reads_of_any_width_and_offset)
{
	uint8_t buf[16], want[16];

	init();
	for (unsigned i = 0; i < FAKE_DEVICE_CONFIG; i++)
		f.config[i] = (uint8_t)(i + 1);
	for (unsigned off = 0; off < FAKE_DEVICE_CONFIG + 20; off++)
		for (unsigned len = 0; len <= sizeof(buf); len++) {
			memset(buf, 0xee, sizeof(buf));
			memset(want, 0xee, sizeof(want));
			for (unsigned i = 0; i < len; i++)
				want[i] = (uint8_t)(off + i < FAKE_DEVICE_CONFIG ? off + i + 1 : 0);
			virtio_config_read(&f.dev, off, buf, len);
			cr_assert_arr_eq(buf, want, sizeof(buf), "offset %u width %u", off, len);
		}
}

static const uint64_t far_offsets[] = {
	FAKE_DEVICE_CONFIG, 0x1000, UINT32_MAX - 3, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX - 7, UINT64_MAX,
};

Test(virtio, config_reads_far_beyond_the_end_are_zero)
{
	init();
	for (unsigned i = 0; i < ARRAY_SIZE(far_offsets); i++) {
		uint64_t v = UINT64_MAX;

		virtio_config_read(&f.dev, far_offsets[i], &v, sizeof(v));
		cr_expect_eq(v, 0);
	}
}

Test(virtio, config_writes_beyond_the_end_are_ignored)
{
	const uint64_t v = UINT64_MAX;

	init();
	for (unsigned i = 0; i < ARRAY_SIZE(far_offsets); i++)
		virtio_config_write(&f.dev, far_offsets[i], &v, sizeof(v));
	cr_expect_eq(f.config_writes, 0);
}

Test(virtio, config_writes_across_the_end_are_cut)
{
	const uint64_t v = UINT64_MAX;
	uint8_t want[FAKE_DEVICE_CONFIG] = {0};

	init();
	virtio_config_write(&f.dev, FAKE_DEVICE_CONFIG - 3, &v, sizeof(v));
	memset(want + FAKE_DEVICE_CONFIG - 3, 0xff, 3);
	cr_expect_arr_eq(f.config, want, sizeof(want));
}

Test(virtio, config_writes_that_the_device_model_does_not_take_are_ignored)
{
	struct virtio_device_ops ops = *f.dev.ops;
	const uint32_t v = UINT32_MAX;

	ops.config_write = NULL;
	f.dev.ops = &ops;
	init();
	virtio_config_write(&f.dev, 0, &v, sizeof(v));
	cr_expect_eq(f.config[0], 0);
}

Test(virtio, an_empty_config_space_reads_zero)
{
	uint32_t v = UINT32_MAX;

	f.config_size = 0;
	init();
	virtio_config_read(&f.dev, 0, &v, sizeof(v));
	virtio_config_write(&f.dev, 0, &v, sizeof(v));
	cr_expect_eq(v, 0);
	cr_expect_eq(f.config_writes, 0);
}

Test(virtio, a_config_change_interrupts_a_live_driver_only)
{
	init();
	virtio_config_changed(&f.dev);
	cr_assert(fake_device_negotiate(&f, 0));
	virtio_config_changed(&f.dev);
	cr_expect_eq(ft.config_irqs, 0);
	queues();
	fake_device_status(&f, LIVE);
	virtio_config_changed(&f.dev);
	cr_expect_eq(ft.config_irqs, 1);
	cr_expect_eq(f.dev.config_generation, 3);
	fake_device_status(&f, 0);
	virtio_config_changed(&f.dev);
	cr_expect_eq(ft.config_irqs, 1);
}

Test(virtio, the_datapaths_config_change_is_the_devices)
{
	f.dev.remote = &remote.dp;
	init();
	live(0);
	remote.dp.events->config_changed(remote.dp.opaque);
	cr_expect_eq(f.dev.config_generation, 1);
	cr_expect_eq(ft.config_irqs, 1);
}

/* --- threads --- */

static struct loop_thread kicks;
static _Atomic bool over;

/* A driver that does whatever comes to its mind, and comes alive now and then. */
static void *vcpu(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < 1000; i++) {
		uint32_t q = (uint32_t)rand_r(&seed) % 3, v = (uint32_t)rand_r(&seed);
		uint64_t word;

		virtio_lock(&f.dev);
		switch (rand_r(&seed) % 12) {
		case 0:
			virtio_set_status(&f.dev, (uint8_t)v);
			break;
		case 1:
			virtio_set_features(&f.dev, v % 4, (uint32_t)rand_r(&seed));
			break;
		case 2:
			virtio_queue_set_size(&f.dev, q, (uint16_t)v);
			break;
		case 3:
			virtio_queue_set_addr(&f.dev, q, v % 3, v & 8, v);
			break;
		case 4:
			virtio_queue_set_ready(&f.dev, q, v & 1);
			break;
		case 5:
			virtio_queue_reset(&f.dev, q);
			break;
		case 6:
		case 7:
			virtio_queue_notify(&f.dev, q);
			break;
		case 8:
			virtio_config_read(&f.dev, v % 40, &word, sizeof(word));
			break;
		case 9:
			virtio_set_status(&f.dev, 0);
			cr_assert_eq(virtio_status(&f.dev), 0, "somebody was not silent");
			break;
		default:
			virtio_unlock(&f.dev); /* others come between */
			fake_device_negotiate(&f, BIT(VIRTIO_F_RING_RESET));
			queues();
			fake_device_status(&f, LIVE);
			virtio_lock(&f.dev);
		}
		virtio_unlock(&f.dev);
	}
	return NULL;
}

static void *troublemaker(void *arg)
{
	(void)arg;
	while (!over) {
		virtio_needs_reset(&f.dev, "trouble", -EIO);
		virtio_config_changed(&f.dev);
		virtio_has(&f.dev, VIRTIO_F_VERSION_1);
		sched_yield();
	}
	return NULL;
}

Test(virtio, register_storms_resets_kicks_and_needs_reset_at_once)
{
	pthread_t t[2], trouble;

	cr_assert_eq(loop_thread_start(&kicks, "kicks", -1, &e), 0);
	local.kicked = kicks.loop;
	init();
	cr_assert_eq(pthread_create(&trouble, NULL, troublemaker, NULL), 0);
	for (uintptr_t i = 0; i < ARRAY_SIZE(t); i++)
		cr_assert_eq(pthread_create(&t[i], NULL, vcpu, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	over = true;
	pthread_join(trouble, NULL);
	fake_device_status(&f, 0);
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	cr_expect_gt(local.starts, 0);
	cr_expect_gt(local.kicks, 0);
	virtio_fini(&f.dev);
	inited = false;
	loop_thread_stop(&kicks);
}

/* --- docs/conformance.md --- */

Test(virtio, every_subset_of_the_ring_bits_is_accepted)
{
	uint64_t subset = 0;

	init();
	do {
		cr_assert(fake_device_negotiate(&f, subset), "%#llx", (unsigned long long)subset);
		subset = (subset - RING_BITS) & RING_BITS;
	} while (subset);
}

static uint32_t read_at(unsigned off)
{
	uint32_t v;

	virtio_config_read(&f.dev, off, &v, sizeof(v));
	return v;
}

/* Who reads a number in two halves while it changes must be able to tell, announced or not. */
Test(virtio, a_value_that_changed_between_two_reads_is_a_new_generation)
{
	uint32_t generation;

	init();
	read_at(0);
	generation = f.dev.config_generation;
	read_at(0);
	read_at(4);
	cr_expect_eq(f.dev.config_generation, generation, "nothing has changed");
	f.config[0] = f.config[4] = 1;
	cr_expect_eq(read_at(4), 1);
	cr_expect_neq(f.dev.config_generation, generation);
	generation = f.dev.config_generation;
	f.config[4] = 0;
	read_at(20); /* any part of it */
	cr_expect_neq(f.dev.config_generation, generation);
	generation = f.dev.config_generation;
	f.config[4] = 1;
	read_at(4);
	cr_expect_neq(f.dev.config_generation, generation, "as it was once, and yet not as last read");
}

Test(virtio, init_refuses_a_configuration_that_is_too_large)
{
	f.config_size = VIRTIO_MAX_CONFIG + 1;
	cr_expect_eq(virtio_init(&f.dev, &e), -EINVAL);
	f.config_size = FAKE_DEVICE_CONFIG;
}
