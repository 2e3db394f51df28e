/* The core's queues: when their fields may change, what is refused, how they start, stop and reset. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/fake_device.h"
#include "tests/fake/fake_transport.h"
#include "tests/unit/teardown.h"
#include "vmm/loop_thread.h"

#define BIT(n)      (UINT64_C(1) << (n))
#define RING_RESET  BIT(VIRTIO_F_RING_RESET)
#define PACKED      BIT(VIRTIO_F_RING_PACKED)
#define ACK         VIRTIO_CONFIG_S_ACKNOWLEDGE
#define BEFORE      (ACK | VIRTIO_CONFIG_S_DRIVER)
#define CONFIGURING (BEFORE | VIRTIO_CONFIG_S_FEATURES_OK)
#define LIVE        (CONFIGURING | VIRTIO_CONFIG_S_DRIVER_OK)
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

#define NQUEUES 4
static struct driver_mem m;
static struct driver_ring ring[NQUEUES];
static struct fake_device f;
static struct fake_datapath local, remote;
static struct fake_transport ft;
static struct loop_thread io;
static struct err e;

static void setup(void)
{
	log_set_level(LOG_ERROR);
	cr_assert_eq(loop_thread_start(&io, "io", -1, &e), 0);
	driver_mem_init(&m);
	for (unsigned i = 0; i < NQUEUES; i++)
		driver_ring_init(&ring[i], &m, 256, 0, 0);
	fake_datapath_init(&local);
	fake_datapath_init(&remote);
	fake_device_init(&f, &m.mem, io.loop);
	f.dev.nqueues = NQUEUES;
	for (unsigned i = 0; i < NQUEUES; i++)
		f.dev.queue[i].max_size = 256;
	f.dev.local = &local.dp;
	fake_transport_init(&ft, &f.dev);
	cr_assert_eq(virtio_init(&f.dev, &e), 0, "%s", e.text);
}

/* Queue 2 here, the others there. */
static void setup_remote(void)
{
	setup();
	virtio_fini(&f.dev);
	f.dev.remote = &remote.dp;
	f.dev.local_queues = BIT(2);
	remote.offer.keeps_fds = true;
	fake_transport_init(&ft, &f.dev);
	cr_assert_eq(virtio_init(&f.dev, &e), 0, "%s", e.text);
}

static void teardown(void)
{
	virtio_fini(&f.dev);
	loop_thread_stop(&io);
	for (unsigned i = 0; i < NQUEUES; i++)
		driver_ring_fini(&ring[i]);
	driver_mem_fini(&m);
	cr_expect_eq(local.running | remote.running, 0);
	cr_expect_eq(f.mistakes, 0);
	cr_expect_eq(ft.mistakes, 0);
	cr_expect_eq(local.mistakes + remote.mistakes, 0);
}

TestSuite(queue, .init = setup, .fini = teardown_once, .timeout = 60);
TestSuite(queue_remote, .init = setup_remote, .fini = teardown_once, .timeout = 60);

static struct virtio_queue *get(unsigned i)
{
	return virtio_queue_get(&f.dev, i);
}

static void enable(unsigned i)
{
	fake_device_queue(&f, i, 256, ring[i].desc_gpa, ring[i].avail_gpa, ring[i].used_gpa);
}

static void live(uint64_t features, uint64_t queues)
{
	cr_assert(fake_device_negotiate(&f, features));
	for (unsigned i = 0; i < NQUEUES; i++)
		if (queues & BIT(i))
			enable(i);
	fake_device_status(&f, LIVE);
}

static bool signalled(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static uint64_t count(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* --- registers --- */

WholeTest(queue, a_queue_that_does_not_exist_is_none)
{
	f.dev.queue[3].max_size = 0;
	for (uint32_t i = 0; i < 3; i++)
		cr_expect_eq(virtio_queue_get(&f.dev, i), &f.dev.queue[i]);
	cr_expect_null(virtio_queue_get(&f.dev, 3));
	cr_expect_null(virtio_queue_get(&f.dev, NQUEUES));
	cr_expect_null(virtio_queue_get(&f.dev, 0xffff));
	cr_expect_null(virtio_queue_get(&f.dev, UINT32_MAX));
}

WholeTest(queue, registers_of_a_queue_that_does_not_exist_do_nothing)
{
	static const uint32_t none[] = {NQUEUES, 63, 64, 65, 0xffff, UINT32_MAX};

	live(RING_RESET, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
		virtio_queue_set_size(&f.dev, none[i], 1);
		virtio_queue_set_addr(&f.dev, none[i], VIRTIO_QUEUE_DESC, true, 1);
		virtio_queue_set_ready(&f.dev, none[i], true);
		virtio_queue_set_ready(&f.dev, none[i], false);
		virtio_queue_reset(&f.dev, none[i]);
		virtio_queue_notify(&f.dev, none[i]);
	}
	cr_expect_eq(local.running, 1);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

WholeTest(queue, addresses_are_written_in_halves)
{
	cr_assert(fake_device_negotiate(&f, 0));
	virtio_queue_set_addr(&f.dev, 1, VIRTIO_QUEUE_DESC, true, 0x11111111);
	virtio_queue_set_addr(&f.dev, 1, VIRTIO_QUEUE_DESC, false, 0x22222222);
	virtio_queue_set_addr(&f.dev, 1, VIRTIO_QUEUE_AVAIL, false, 0x44444444);
	virtio_queue_set_addr(&f.dev, 1, VIRTIO_QUEUE_AVAIL, true, 0x33333333);
	virtio_queue_set_addr(&f.dev, 1, VIRTIO_QUEUE_USED, false, 0x66666666);
	cr_expect_eq(get(1)->desc, 0x1111111122222222);
	cr_expect_eq(get(1)->avail, 0x3333333344444444);
	cr_expect_eq(get(1)->used, 0x66666666);
	cr_expect_eq(get(0)->desc, 0);
}

static void write_fields(unsigned q)
{
	virtio_queue_set_size(&f.dev, q, 64);
	for (unsigned i = 0; i < 3; i++) {
		virtio_queue_set_addr(&f.dev, q, (enum virtio_queue_addr)i, false, 0xabcd0000);
		virtio_queue_set_addr(&f.dev, q, (enum virtio_queue_addr)i, true, 0x1);
	}
}

static bool same_fields(const struct virtio_queue *a, const struct virtio_queue *b)
{
	return a->size == b->size && a->desc == b->desc && a->avail == b->avail && a->used == b->used &&
	       a->ready == b->ready && a->reset == b->reset;
}

static void expect_frozen(unsigned q, const char *when)
{
	const struct virtio_queue before = *get(q);

	(void)when; /* checks without a message do not look at it */
	write_fields(q);
	cr_expect(same_fields(get(q), &before), "%s", when);
}

/* CVE-2026-5747. */
WholeTest(queue, fields_are_frozen_in_every_status_but_between_features_ok_and_driver_ok)
{
	expect_frozen(0, "reset");
	fake_device_status(&f, ACK);
	expect_frozen(0, "ACKNOWLEDGE");
	fake_device_status(&f, BEFORE);
	expect_frozen(0, "DRIVER");
	virtio_queue_set_ready(&f.dev, 0, true);
	cr_expect_not(get(0)->ready);

	live(RING_RESET, 1);
	expect_frozen(0, "DRIVER_OK and running");
	expect_frozen(1, "DRIVER_OK and not ready");
	virtio_needs_reset(&f.dev, "test", -EIO);
	expect_frozen(0, "NEEDS_RESET");
	expect_frozen(1, "NEEDS_RESET and not ready");
	fake_device_status(&f, LIVE | VIRTIO_CONFIG_S_FAILED);
	expect_frozen(0, "FAILED");

	cr_assert(fake_device_negotiate(&f, 0));
	write_fields(0);
	cr_expect_eq(get(0)->size, 64, "FEATURES_OK");
	cr_expect_eq(get(0)->desc, 0x1abcd0000);
	cr_expect_eq(get(0)->avail, 0x1abcd0000);
	cr_expect_eq(get(0)->used, 0x1abcd0000);
}

WholeTest(queue, fields_are_frozen_while_the_queue_is_ready)
{
	cr_assert(fake_device_negotiate(&f, 0));
	enable(0);
	cr_assert(get(0)->ready);
	expect_frozen(0, "ready");
	virtio_queue_set_ready(&f.dev, 0, false);
	write_fields(0);
	cr_expect_eq(get(0)->size, 64);
}

/* --- what is refused --- */

static void expect_refused(unsigned q)
{
	cr_expect_not(get(q)->ready);
	cr_expect(virtio_status(&f.dev) & NEEDS_RESET);
	fake_device_status(&f, LIVE);
	cr_expect_eq(local.start_calls, 0);
	fake_device_status(&f, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
}

WholeTest(queue, sizes_that_no_split_ring_has_are_refused)
{
	static const uint16_t bad[] = {0, 3, 100, 255, 257, 512, 0x8000, 0xffff};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert(fake_device_negotiate(&f, 0));
		fake_device_queue(&f, 0, bad[i], ring[0].desc_gpa, ring[0].avail_gpa, ring[0].used_gpa);
		expect_refused(0);
	}
}

WholeTest(queue, sizes_that_a_split_ring_has_are_taken)
{
	for (uint16_t size = 1; size <= 256; size = (uint16_t)(size * 2)) {
		cr_assert(fake_device_negotiate(&f, 0));
		fake_device_queue(&f, 0, size, ring[0].desc_gpa, ring[0].avail_gpa, ring[0].used_gpa);
		fake_device_status(&f, LIVE);
		cr_expect_eq(virtio_status(&f.dev), LIVE);
		cr_expect_eq(local.started[0].size, size);
	}
}

WholeTest(queue, a_packed_ring_has_any_size)
{
	static const uint16_t bad[] = {0, 257, 0x8000, 0xffff};

	for (uint16_t size = 1; size <= 256; size = (uint16_t)(size + 51)) {
		cr_assert(fake_device_negotiate(&f, PACKED));
		fake_device_queue(&f, 0, size, ring[0].desc_gpa, ring[1].desc_gpa, ring[0].used_gpa);
		cr_expect(get(0)->ready, "%u", size);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert(fake_device_negotiate(&f, PACKED));
		fake_device_queue(&f, 0, bad[i], ring[0].desc_gpa, ring[1].desc_gpa, ring[0].used_gpa);
		expect_refused(0);
	}
}

WholeTest(queue, areas_that_are_not_aligned_are_refused)
{
	static const gpa_t off[][3] = {{8, 0, 0}, {0, 1, 0}, {0, 0, 2}, {1, 0, 0}};

	for (unsigned i = 0; i < ARRAY_SIZE(off); i++) {
		cr_assert(fake_device_negotiate(&f, 0));
		fake_device_queue(&f, 0, 16, ring[0].desc_gpa + off[i][0], ring[0].avail_gpa + off[i][1],
				  ring[0].used_gpa + off[i][2]);
		expect_refused(0);
	}
	cr_assert(fake_device_negotiate(&f, PACKED));
	fake_device_queue(&f, 0, 16, ring[0].desc_gpa, ring[1].desc_gpa + 2, ring[0].used_gpa);
	expect_refused(0);
}

/* The whole of each area, to the byte: 16, 6 + 2 and 6 + 8 bytes an entry. */
WholeTest(queue, areas_that_are_not_ram_are_refused)
{
	const gpa_t end = DRIVER_MEM_LOW_END;
	const gpa_t bad[][3] = {
		{end, ring[0].avail_gpa, ring[0].used_gpa},
		{end - 16 * 16 + 16, ring[0].avail_gpa, ring[0].used_gpa},
		{ring[0].desc_gpa, end - 36, ring[0].used_gpa},
		{ring[0].desc_gpa, ring[0].avail_gpa, end - 132},
		{UINT64_MAX - 15, ring[0].avail_gpa, ring[0].used_gpa},
		{ring[0].desc_gpa, UINT64_MAX - 1, ring[0].used_gpa},
		{ring[0].desc_gpa, ring[0].avail_gpa, UINT64_MAX - 3},
	};
	const gpa_t good[][3] = {
		{end - 16 * 16, ring[0].avail_gpa, ring[0].used_gpa},
		{ring[0].desc_gpa, end - 38, ring[0].used_gpa},
		{ring[0].desc_gpa, ring[0].avail_gpa, end - 136},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert(fake_device_negotiate(&f, 0));
		fake_device_queue(&f, 0, 16, bad[i][0], bad[i][1], bad[i][2]);
		expect_refused(0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		cr_assert(fake_device_negotiate(&f, 0));
		fake_device_queue(&f, 0, 16, good[i][0], good[i][1], good[i][2]);
		cr_expect(get(0)->ready, "%u", i);
	}
}

WholeTest(queue, ready_after_driver_ok_without_a_reset_is_ignored)
{
	live(RING_RESET, 1);
	enable(1);
	cr_expect_not(get(1)->ready);
	cr_expect_eq(local.running, 1);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

/* --- start --- */

WholeTest(queue, ready_queues_alone_are_started)
{
	live(0, BIT(0) | BIT(3));
	cr_expect_eq(local.running, BIT(0) | BIT(3));
	cr_expect_eq(local.last_nqueues, 2);
	cr_expect_eq(local.starts, 1);
	cr_expect(ft.queue[3].bound);
	cr_expect_not(ft.queue[1].bound);
}

WholeTest(queue, a_datapath_is_given_what_the_driver_wrote)
{
	const struct datapath_queue *q = &local.started[2];

	live(BIT(VIRTIO_RING_F_EVENT_IDX), BIT(2));
	cr_expect_eq(local.features, BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX));
	cr_expect_eq(local.mem, &m.mem);
	cr_expect_eq(q->index, 2);
	cr_expect_eq(q->size, 256);
	cr_expect_eq(q->desc, ring[2].desc_gpa);
	cr_expect_eq(q->avail, ring[2].avail_gpa);
	cr_expect_eq(q->used, ring[2].used_gpa);
	cr_expect_eq(q->next, 0);
	cr_expect_eq(q->kick_fd, get(2)->kick_fd);
	cr_expect_eq(q->call_fd, get(2)->call_fd);
	cr_expect_eq(q->stats, &get(2)->stats);
}

WholeTest(queue, a_packed_ring_starts_with_its_wrap_counter_set)
{
	cr_assert(fake_device_negotiate(&f, PACKED));
	fake_device_queue(&f, 0, 256, ring[0].desc_gpa, ring[1].desc_gpa, ring[0].used_gpa);
	fake_device_status(&f, LIVE);
	cr_expect_eq(local.started[0].next, 0x8000);
}

WholeTest(queue, bound_before_started_and_kicked_and_called_afterwards)
{
	live(0, BIT(0) | BIT(1));
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_lt(ft.queue[i].bound_at, local.started_at);
		cr_expect_eq(ft.queue[i].kick_fd, get(i)->kick_fd);
		cr_expect_eq(ft.queue[i].call_fd, get(i)->call_fd);
		cr_expect_eq(count(get(i)->kick_fd), 1);
		cr_expect_eq(count(get(i)->call_fd), 1);
	}
	cr_expect_eq(count(get(2)->kick_fd), 0);
}

static bool kicked_in_start;

static void look_at_kick(struct fake_datapath *self)
{
	(void)self;
	kicked_in_start |= signalled(get(0)->kick_fd);
}

WholeTest(queue, not_kicked_before_it_is_started)
{
	local.in_start = look_at_kick;
	live(0, 1);
	cr_expect_not(kicked_in_start);
}

static void note_thread(void *arg)
{
	*(pthread_t *)arg = pthread_self();
}

WholeTest(queue, starts_and_stops_on_the_devices_loop)
{
	pthread_t loop;

	evloop_call(io.loop, note_thread, &loop);
	cr_assert_not(pthread_equal(loop, pthread_self()));
	live(0, 1);
	cr_expect(pthread_equal(local.thread, loop));
	local.thread = pthread_self();
	fake_device_status(&f, 0);
	cr_expect(pthread_equal(local.thread, loop));
}

WholeTest(queue, a_queue_that_cannot_be_bound_needs_a_reset_and_leaves_nothing)
{
	ft.fail_bind = 2;
	live(0, 0xf);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(ft.config_irqs, 1);
	cr_expect_eq(local.start_calls, 0);
	for (unsigned i = 0; i < NQUEUES; i++)
		cr_expect_not(ft.queue[i].bound);
	ft.fail_bind = -1;
	live(0, 0xf);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	cr_expect_eq(local.running, 0xf);
}

WholeTest(queue, a_start_that_fails_needs_a_reset_and_leaves_nothing)
{
	local.start_err = -ENOMEM;
	live(0, 0xf);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(ft.config_irqs, 1);
	cr_expect_eq(f.dev.running_queues, 0);
	for (unsigned i = 0; i < NQUEUES; i++) {
		cr_expect_not(ft.queue[i].bound);
		cr_expect_not(signalled(get(i)->kick_fd));
		cr_expect_not(signalled(get(i)->call_fd));
	}
	fake_device_status(&f, 0);
	cr_expect_eq(local.stops, 0);
	local.start_err = 0;
	live(0, 0xf);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

/* --- stop --- */

WholeTest(queue, a_stop_works_from_what_the_start_was_given)
{
	live(0, 1);
	f.dev.queue[0].size = 7;
	f.dev.queue[0].desc = f.dev.queue[0].avail = f.dev.queue[0].used = 0xbad;
	f.dev.queue[0].ready = false;
	fake_device_status(&f, 0);
	cr_expect_eq(local.stopped[0].size, 256);
	cr_expect_eq(local.stopped[0].desc, ring[0].desc_gpa);
	cr_expect_eq(local.stopped[0].avail, ring[0].avail_gpa);
	cr_expect_eq(local.stopped[0].used, ring[0].used_gpa);
}

WholeTest(queue, a_new_life_does_not_begin_where_the_old_one_ended)
{
	live(0, 1);
	local.give_next = 77;
	fake_device_status(&f, 0);
	cr_expect_eq(f.dev.running[0].next, 77);
	live(0, 1);
	cr_expect_eq(local.started[0].next, 0);
}

WholeTest(queue, nothing_is_pending_after_a_reset)
{
	live(0, 1);
	virtio_queue_notify(&f.dev, 0);
	fake_device_status(&f, 0);
	cr_expect_not(signalled(get(0)->kick_fd));
	cr_expect_not(signalled(get(0)->call_fd));
}

WholeTest(queue, ready_false_stops_that_queue)
{
	live(0, 0xf);
	virtio_queue_set_ready(&f.dev, 1, false);
	cr_expect_eq(local.running, 0xd);
	cr_expect_not(get(1)->ready);
	cr_expect_not(ft.queue[1].bound);
	cr_expect(ft.queue[0].bound);
	expect_frozen(1, "DRIVER_OK, ready no more");
	virtio_queue_set_ready(&f.dev, 1, true);
	cr_expect_not(get(1)->ready);
	fake_device_status(&f, 0);
	cr_expect_eq(local.running, 0);
}

/* --- doorbells as exits --- */

WholeTest(queue, a_doorbell_reaches_a_running_queue)
{
	live(0, 1);
	count(get(0)->kick_fd);
	virtio_queue_notify(&f.dev, 0);
	cr_expect_eq(count(get(0)->kick_fd), 1);
}

WholeTest(queue, doorbells_of_queues_that_do_not_run_are_ignored)
{
	cr_assert(fake_device_negotiate(&f, RING_RESET));
	enable(0);
	virtio_queue_notify(&f.dev, 0);
	cr_expect_not(signalled(get(0)->kick_fd));
	fake_device_status(&f, LIVE);
	virtio_queue_notify(&f.dev, 1);
	cr_expect_not(signalled(get(1)->kick_fd));
	virtio_queue_reset(&f.dev, 0);
	virtio_queue_notify(&f.dev, 0);
	cr_expect_not(signalled(get(0)->kick_fd));
}

/* --- reset of one queue --- */

WholeTest(queue, a_queue_reset_stops_that_queue_alone)
{
	live(RING_RESET, 0xf);
	virtio_queue_reset(&f.dev, 1);
	cr_expect_eq(local.running, 0xd);
	cr_expect_eq(local.stops, 1);
	cr_expect_not(ft.queue[1].bound);
	cr_expect(ft.queue[0].bound);
	cr_expect(get(1)->reset);
	cr_expect_not(get(1)->ready);
	cr_expect_eq(get(1)->size, 256);
	cr_expect_eq(get(1)->desc | get(1)->avail | get(1)->used, 0);
	cr_expect_not(signalled(get(1)->kick_fd));
	cr_expect_not(signalled(get(1)->call_fd));
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

WholeTest(queue, a_queue_reset_that_was_not_negotiated_is_ignored)
{
	live(0, 1);
	virtio_queue_reset(&f.dev, 0);
	cr_expect_eq(local.running, 1);
	cr_expect(get(0)->ready);
	cr_expect_not(get(0)->reset);
}

WholeTest(queue, a_queue_that_was_reset_starts_again_alone)
{
	live(RING_RESET, 0xf);
	virtio_queue_reset(&f.dev, 1);
	local.give_next = 9;
	fake_device_queue(&f, 1, 64, ring[1].desc_gpa, ring[1].avail_gpa, ring[1].used_gpa);
	cr_expect(get(1)->ready);
	cr_expect_not(get(1)->reset);
	cr_expect_eq(local.running, 0xf);
	cr_expect_eq(local.last_nqueues, 1);
	cr_expect_eq(local.started[1].size, 64);
	cr_expect_eq(local.started[1].next, 0);
	cr_expect_lt(ft.queue[1].bound_at, local.started_at);
	cr_expect_eq(count(get(1)->kick_fd), 1);
	cr_expect_eq(count(get(1)->call_fd), 1);
	cr_expect_eq(ft.queue[0].binds, 1);
}

WholeTest(queue, a_queue_that_was_reset_is_checked_again)
{
	live(RING_RESET, 1);
	virtio_queue_reset(&f.dev, 0);
	fake_device_queue(&f, 0, 3, ring[0].desc_gpa, ring[0].avail_gpa, ring[0].used_gpa);
	cr_expect_eq(local.running, 0);
	cr_expect_not(get(0)->ready);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(ft.config_irqs, 1);
}

WholeTest(queue, a_queue_that_cannot_start_again_needs_a_reset_of_the_device)
{
	live(RING_RESET, 3);
	virtio_queue_reset(&f.dev, 1);
	local.start_err = -EIO;
	enable(1);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_not(get(1)->ready);
	cr_expect_not(ft.queue[1].bound);
	cr_expect_eq(local.running, 1, "the others go on");
	local.start_err = 0;
	enable(1);
	cr_expect_eq(local.running, 1, "nothing is started on a broken device");
}

WholeTest(queue, a_queue_is_reset_twice)
{
	live(RING_RESET, 1);
	virtio_queue_reset(&f.dev, 0);
	virtio_queue_reset(&f.dev, 0);
	cr_expect_eq(local.stops, 1);
	enable(0);
	cr_expect_eq(local.running, 1);
}

WholeTest(queue, a_queue_that_never_ran_is_reset_and_enabled)
{
	live(RING_RESET, 1);
	virtio_queue_reset(&f.dev, 1);
	cr_expect(get(1)->reset);
	enable(1);
	cr_expect_eq(local.running, 3);
}

WholeTest(queue, a_queue_reset_before_driver_ok_forgets_its_fields)
{
	cr_assert(fake_device_negotiate(&f, RING_RESET));
	enable(0);
	virtio_queue_reset(&f.dev, 0);
	cr_expect_not(get(0)->ready);
	cr_expect_eq(get(0)->desc, 0);
	enable(0);
	cr_expect_not(get(0)->reset);
	fake_device_status(&f, LIVE);
	cr_expect_eq(local.running, 1);
}

WholeTest(queue, queue_reset_storm)
{
	live(RING_RESET, 0xf);
	for (unsigned i = 0; i < 1000; i++) {
		virtio_queue_reset(&f.dev, i % NQUEUES);
		enable(i % NQUEUES);
	}
	cr_expect_eq(local.running, 0xf);
	cr_expect_eq(local.stops, 1000);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

/* --- two datapaths --- */

WholeTest(queue_remote, each_datapath_has_its_queues)
{
	live(0, 0xf);
	cr_expect_eq(local.running, BIT(2));
	cr_expect_eq(remote.running, 0xf & ~BIT(2));
	fake_device_status(&f, 0);
	cr_expect_eq(local.running | remote.running, 0);
}

WholeTest(queue_remote, the_remote_one_starts_first_and_stops_last)
{
	live(0, 0xf);
	cr_expect_lt(remote.started_at, local.started_at);
	fake_device_status(&f, 0);
	cr_expect_lt(local.stopped_at, remote.stopped_at);
}

WholeTest(queue_remote, a_datapath_without_ready_queues_is_not_started)
{
	live(0, BIT(2));
	cr_expect_eq(remote.start_calls, 0);
	live(0, BIT(0));
	cr_expect_eq(local.starts, 1);
	cr_expect_eq(remote.starts, 1);
}

WholeTest(queue_remote, a_local_start_that_fails_stops_the_remote_one)
{
	local.start_err = -ENOMEM;
	live(0, 0xf);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(remote.running, 0);
	cr_expect_eq(remote.stops, 1);
	cr_expect_eq(f.dev.running_queues, 0);
	fake_device_status(&f, 0);
	cr_expect_eq(remote.stops, 1);
}

WholeTest(queue_remote, a_remote_start_that_fails_starts_nothing_here)
{
	remote.start_err = -ECONNREFUSED;
	live(0, 0xf);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(local.start_calls, 0);
	cr_expect_eq(remote.stops, 0);
}

WholeTest(queue_remote, a_queue_reset_reaches_the_datapath_that_serves_it)
{
	live(RING_RESET, 0xf);
	virtio_queue_reset(&f.dev, 2);
	cr_expect_eq(local.stops, 1);
	cr_expect_eq(remote.stops, 0);
	virtio_queue_reset(&f.dev, 3);
	cr_expect_eq(remote.running, 3);
	enable(3);
	enable(2);
	cr_expect_eq(local.running | remote.running, 0xf);
}

WholeTest(queue_remote, the_peers_copies_of_the_descriptors_are_worthless_after_a_stop)
{
	int kick, call, here;

	live(0, 0xf);
	kick = fcntl(get(0)->kick_fd, F_DUPFD_CLOEXEC, 100);
	call = fcntl(get(0)->call_fd, F_DUPFD_CLOEXEC, 100);
	here = fcntl(get(2)->kick_fd, F_DUPFD_CLOEXEC, 100);
	live(0, 0xf);
	count(kick);
	count(call);
	count(here);
	count(get(0)->call_fd);
	virtio_queue_notify(&f.dev, 0);
	virtio_queue_notify(&f.dev, 2);
	cr_expect_not(signalled(kick));
	cr_expect(signalled(here), "the local datapath's stay");
	eventfd_write(call, 1);
	cr_expect_not(signalled(get(0)->call_fd));
	cr_expect_eq(ft.queue[0].kick_fd, get(0)->kick_fd);
	cr_expect_eq(remote.started[0].kick_fd, get(0)->kick_fd);
	close(kick);
	close(call);
	close(here);
}

WholeTest(queue_remote, a_pending_interrupt_is_carried_over_to_the_new_descriptor)
{
	int old;

	live(0, 3);
	for (unsigned i = 0; i < 2; i++)
		count(get(i)->call_fd);
	old = dup(get(0)->call_fd);
	eventfd_write(get(0)->call_fd, 3);
	virtio_queue_set_ready(&f.dev, 0, false);
	virtio_queue_set_ready(&f.dev, 1, false);
	cr_expect_eq(count(get(0)->call_fd), 1);
	cr_expect_not(signalled(old));
	cr_expect_not(signalled(get(1)->call_fd));
	close(old);
}

WholeTest(queue_remote, no_interrupt_is_carried_over_a_reset)
{
	live(RING_RESET, 3);
	eventfd_write(get(0)->call_fd, 3);
	virtio_queue_reset(&f.dev, 0);
	cr_expect_not(signalled(get(0)->call_fd));
	eventfd_write(get(1)->call_fd, 3);
	fake_device_status(&f, 0);
	cr_expect_not(signalled(get(1)->call_fd));
}

/* Renewed where none can be had: the next start makes up for it. */
WholeTest(queue_remote, descriptors_that_could_not_be_made_are_made_at_the_next_start)
{
	live(0, 3);
	fake_device_status(&f, 0);
	close(f.dev.queue[0].kick_fd);
	close(f.dev.queue[0].call_fd);
	f.dev.queue[0].kick_fd = f.dev.queue[0].call_fd = -1;
	live(0, 3);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	cr_expect_geq(get(0)->kick_fd, 0);
	cr_expect_geq(get(0)->call_fd, 0);
	cr_expect_eq(remote.started[0].kick_fd, get(0)->kick_fd);
}
