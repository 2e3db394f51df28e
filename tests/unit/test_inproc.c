/* The datapath that is this process: rings walked on their queues' loops. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/inproc.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/fake/datapath_conformance.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/fake_device.h"
#include "tests/fake/fake_transport.h"
#include "tests/unit/teardown.h"
#include "vmm/loop_thread.h"

#define BIT(n)      (UINT64_C(1) << (n))
#define VERSION_1   BIT(VIRTIO_F_VERSION_1)
#define EVENT_IDX   BIT(VIRTIO_RING_F_EVENT_IDX)
#define PACKED      BIT(VIRTIO_F_RING_PACKED)
#define RING_RESET  BIT(VIRTIO_F_RING_RESET)
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define LIVE                                                                                                   \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                  \
	 VIRTIO_CONFIG_S_DRIVER_OK)
#define NQUEUES 2
#define SIZE    16

static struct driver_mem m;
static struct driver_ring ring[NQUEUES];
static gpa_t buf;
static struct fake_device f;
static struct fake_transport ft;
static struct loop_thread control, io[NQUEUES];
static struct err e;

/* Starts and stops on one thread, queues on two others. */
static void setup(void)
{
	log_set_level(LOG_ERROR);
	cr_assert_eq(loop_thread_start(&control, "control", -1, &e), 0);
	driver_mem_init(&m);
	buf = driver_mem_alloc(&m, 32 * NQUEUES, 16);
	fake_device_init(&f, &m.mem, control.loop);
	for (unsigned i = 0; i < NQUEUES; i++) {
		driver_ring_init(&ring[i], &m, SIZE, 0, 0);
		cr_assert_eq(loop_thread_start(&io[i], "io", -1, &e), 0);
		f.dev.queue[i].loop = io[i].loop;
	}
	f.dev.local = inproc_new(&f.dev);
	cr_assert(f.dev.local);
	fake_transport_init(&ft, &f.dev);
	cr_assert_eq(virtio_init(&f.dev, &e), 0, "%s", e.text);
}

static void teardown(void)
{
	virtio_fini(&f.dev);
	f.dev.local->ops->destroy(f.dev.local);
	for (unsigned i = 0; i < NQUEUES; i++) {
		loop_thread_stop(&io[i]);
		driver_ring_fini(&ring[i]);
	}
	loop_thread_stop(&control);
	driver_mem_fini(&m);
	cr_expect_eq(f.mistakes, 0);
	cr_expect_eq(ft.mistakes, 0);
}

TestSuite(inproc, .init = setup, .fini = teardown_once, .timeout = 120);

static void enable(unsigned i)
{
	fake_device_queue(&f, i, SIZE, ring[i].desc_gpa, ring[i].avail_gpa, ring[i].used_gpa);
}

static void live(uint64_t features)
{
	cr_assert(fake_device_negotiate(&f, features));
	for (unsigned i = 0; i < NQUEUES; i++)
		enable(i);
	fake_device_status(&f, LIVE);
}

static void notify(unsigned i)
{
	virtio_lock(&f.dev);
	virtio_queue_notify(&f.dev, i);
	virtio_unlock(&f.dev);
}

static void nothing(void *arg)
{
	(void)arg;
}

/* Whatever was signalled to the loops has been handled. */
static void settle(void)
{
	for (unsigned i = 0; i < NQUEUES; i++)
		for (unsigned k = 0; k < 3; k++) {
			evloop_call(io[i].loop, nothing, NULL);
			usleep(200);
		}
}

static void wait_for(const _Atomic unsigned *n, unsigned want)
{
	for (unsigned i = 0; i < 50000 && *n < want; i++)
		usleep(100);
	cr_assert_geq(*n, want);
}

static void add(unsigned i)
{
	const struct driver_buf b[] = {{buf + 32 * i, 16, false}, {buf + 32 * i + 16, 16, true}};

	cr_assert_geq(driver_ring_add(&ring[i], b, 2), 0);
	driver_ring_kick(&ring[i]);
}

/* --- what epoll does for us --- */

/* A write to an eventfd that was not read since the last one is an edge again. */
Test(epoll, each_write_to_an_unread_eventfd_is_an_edge)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};

	cr_assert_eq(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), 0);
	for (unsigned i = 0; i < 100; i++) {
		cr_assert_eq(epoll_wait(ep, &ev, 1, 0), 0);
		eventfd_write(fd, 1);
		cr_assert_eq(epoll_wait(ep, &ev, 1, 0), 1);
	}
	close(fd);
	close(ep);
}

/* A kick before the watch is not lost. */
Test(epoll, an_eventfd_that_is_readable_when_added_is_an_edge)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};

	cr_assert_eq(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), 0);
	cr_expect_eq(epoll_wait(ep, &ev, 1, 0), 1);
	cr_expect_eq(epoll_wait(ep, &ev, 1, 0), 0);
	close(fd);
	close(ep);
}

/* --- offer --- */

WholeTest(inproc, has_a_say_in_ring_bits_only)
{
	struct datapath_offer offer = {0};

	cr_expect_eq(f.dev.local->ops->offer(f.dev.local, &offer), 0);
	cr_expect_eq(offer.features, offer.opinion);
	cr_expect_eq(offer.opinion, BIT(VIRTIO_RING_F_INDIRECT_DESC) | EVENT_IDX | VERSION_1 | PACKED |
					    BIT(VIRTIO_F_IN_ORDER) | RING_RESET);
	cr_expect_eq(offer.device_id, 0);
	cr_expect(offer.drains);
	cr_expect_not(offer.keeps_fds);
}

/* --- start and kicks --- */

WholeTest(inproc, each_queue_runs_on_its_own_loop)
{
	live(0);
	for (unsigned i = 0; i < NQUEUES; i++) {
		wait_for(&f.q[i].kicks, 1);
		cr_expect(pthread_equal(f.q[i].thread, io[i].thread));
		cr_expect_eq(f.q[i].runs, 1);
	}
}

WholeTest(inproc, chains_that_wait_at_the_start_are_served)
{
	add(0);
	live(0);
	wait_for(&f.q[0].echoed, 1);
}

WholeTest(inproc, a_kick_reaches_its_queue_and_is_counted)
{
	uint64_t before[NQUEUES];
	unsigned kicks;

	live(0);
	settle();
	for (unsigned i = 0; i < NQUEUES; i++)
		before[i] = f.dev.queue[i].stats.kicks;
	kicks = f.q[1].kicks;
	for (unsigned i = 1; i <= 50; i++) {
		notify(1);
		wait_for(&f.q[1].kicks, kicks + i);
	}
	settle();
	cr_expect_eq(f.dev.queue[0].stats.kicks, before[0]);
	cr_expect_eq(f.dev.queue[1].stats.kicks, before[1] + 50);
	cr_expect_eq(f.q[1].kicks, kicks + 50);
}

WholeTest(inproc, an_idle_queue_is_not_kicked)
{
	unsigned kicks;

	live(0);
	settle();
	kicks = f.q[0].kicks;
	usleep(20000);
	cr_expect_eq(f.q[0].kicks, kicks);
}

WholeTest(inproc, an_echo_arrives)
{
	uint16_t id;
	uint32_t len;

	live(0);
	settle();
	memcpy(driver_mem_ptr(&m, buf, 16), "sixteen bytes ok", 16);
	add(0);
	notify(0);
	wait_for(&f.q[0].echoed, 1);
	settle();
	cr_expect_eq(driver_ring_collect(&ring[0], &id, &len), 1);
	cr_expect_eq(len, 16);
	cr_expect_arr_eq(driver_mem_ptr(&m, buf + 16, 16), "sixteen bytes ok", 16);
}

/* --- a start that fails --- */

static void expect_stillborn(void)
{
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	for (unsigned i = 0; i < NQUEUES; i++) {
		cr_expect_null(f.q[i].vq);
		cr_expect_eq(f.q[i].runs, f.q[i].halts);
		cr_expect_eq(f.q[i].kicks, 0);
	}
	f.run_err = 0;
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	add(0);
	notify(0);
	wait_for(&f.q[0].echoed, 1);
}

WholeTest(inproc, when_the_last_queue_cannot_run_the_first_is_halted)
{
	f.run_err = -ENOMEM;
	f.fail_run = NQUEUES - 1;
	live(0);
	cr_expect_eq(f.q[0].runs, 1);
	expect_stillborn();
}

WholeTest(inproc, when_the_first_queue_cannot_run_no_other_does)
{
	f.run_err = -ENOMEM;
	f.fail_run = 0;
	live(0);
	cr_expect_eq(f.q[1].runs, 0);
	expect_stillborn();
}

/* Straight to the datapath, since the core finds such a queue out earlier. */
static int start(unsigned bad, struct datapath_queue q[NQUEUES], bool bad_fd)
{
	const struct datapath_setup s = {.mem = &m.mem, .features = VERSION_1, .nqueues = NQUEUES, .queue = q};

	for (unsigned i = 0; i < NQUEUES; i++) {
		q[i] = (struct datapath_queue){.index = i,
					       .kick_fd = f.dev.queue[i].kick_fd,
					       .call_fd = f.dev.queue[i].call_fd,
					       .stats = &f.dev.queue[i].stats};
		driver_ring_queue(&ring[i], &q[i]);
		if (i == bad && bad_fd)
			q[i].kick_fd = -1;
		else if (i == bad)
			q[i].used = DRIVER_MEM_LOW_END;
	}
	return f.dev.local->ops->start(f.dev.local, &s);
}

WholeTest(inproc, a_ring_that_is_refused_halts_what_ran)
{
	for (unsigned bad = 0; bad < NQUEUES; bad++) {
		struct datapath_queue q[NQUEUES];

		cr_expect_lt(start(bad, q, false), 0);
		for (unsigned i = 0; i < NQUEUES; i++) {
			cr_expect_null(f.q[i].vq);
			cr_expect_eq(f.q[i].runs, f.q[i].halts);
		}
	}
}

WholeTest(inproc, a_kick_that_cannot_be_watched_halts_what_ran)
{
	for (unsigned bad = 0; bad < NQUEUES; bad++) {
		struct datapath_queue q[NQUEUES];

		cr_expect_eq(start(bad, q, true), -EBADF);
		for (unsigned i = 0; i < NQUEUES; i++) {
			cr_expect_null(f.q[i].vq);
			cr_expect_eq(f.q[i].runs, f.q[i].halts);
		}
	}
	live(0); /* no watch was left behind: the same descriptors are added once more */
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

/* --- stop --- */

WholeTest(inproc, a_stop_halts_and_then_is_silent)
{
	live(0);
	settle();
	fake_device_status(&f, 0);
	for (unsigned i = 0; i < NQUEUES; i++) {
		unsigned kicks = f.q[i].kicks;

		cr_expect_eq(f.q[i].halts, 1);
		cr_expect_null(f.q[i].vq);
		eventfd_write(f.dev.queue[i].kick_fd, 1);
		settle();
		cr_expect_eq(f.q[i].kicks, kicks);
	}
}

WholeTest(inproc, what_is_in_flight_ends_before_a_reset_does)
{
	f.hold = true;
	live(0);
	for (unsigned i = 0; i < 5; i++)
		add(0);
	notify(0);
	wait_for(&f.q[0].nheld, 5);
	cr_expect_eq(driver_ring_collect(&ring[0], NULL, NULL), 0);
	fake_device_status(&f, 0);
	for (unsigned i = 0; i < 5; i++)
		cr_expect_eq(driver_ring_collect(&ring[0], NULL, NULL), 1);
}

WholeTest(inproc, the_position_is_handed_back)
{
	live(0);
	for (unsigned i = 0; i < 5; i++)
		add(0);
	notify(0);
	wait_for(&f.q[0].echoed, 5);
	fake_device_status(&f, 0);
	cr_expect_eq(f.dev.running[0].next, 5);
	cr_expect_eq(f.dev.running[1].next, 0);
}

WholeTest(inproc, one_queue_is_reset_and_the_other_goes_on)
{
	live(RING_RESET);
	settle();
	virtio_lock(&f.dev);
	virtio_queue_reset(&f.dev, 1);
	virtio_unlock(&f.dev);
	cr_expect_null(f.q[1].vq);
	cr_expect_eq(f.q[0].halts, 0);
	add(0);
	notify(0);
	wait_for(&f.q[0].echoed, 1);
	enable(1);
	add(1);
	notify(1);
	wait_for(&f.q[1].echoed, 1);
	cr_expect_eq(f.q[0].runs, 1);
}

/* --- a broken ring --- */

WholeTest(inproc, a_broken_ring_needs_a_reset_and_is_not_kicked_again)
{
	unsigned kicks;

	live(0);
	settle();
	driver_ring_offer(&ring[0], 0xffff);
	driver_ring_kick(&ring[0]);
	notify(0);
	for (unsigned i = 0; i < 50000 && !(virtio_status(&f.dev) & NEEDS_RESET); i++)
		usleep(100);
	settle();
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(ft.config_irqs, 1);
	kicks = f.q[0].kicks;
	for (unsigned i = 0; i < 10; i++)
		notify(0);
	settle();
	cr_expect_eq(f.q[0].kicks, kicks);
	add(1); /* the other one is whole */
	notify(1);
	wait_for(&f.q[1].echoed, 1);
}

WholeTest(inproc, a_ring_that_is_broken_from_the_start_needs_a_reset)
{
	driver_ring_offer(&ring[0], 0xffff);
	driver_ring_kick(&ring[0]);
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	settle();
	cr_expect_eq(f.q[0].kicks, 1);
}

WholeTest(inproc, a_reset_mends_a_broken_ring)
{
	driver_ring_offer(&ring[0], 0xffff);
	driver_ring_kick(&ring[0]);
	live(0);
	cr_assert(virtio_status(&f.dev) & NEEDS_RESET);
	driver_ring_fini(&ring[0]);
	driver_ring_init(&ring[0], &m, SIZE, 0, 0);
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	add(0);
	notify(0);
	wait_for(&f.q[0].echoed, 1);
}

/* --- what every datapath must do --- */

static void conforms(uint64_t features, uint16_t size)
{
	const struct datapath_conformance c = {
		.dp = f.dev.local,
		.loop = control.loop,
		.features = VERSION_1 | features,
		.nqueues = NQUEUES,
		.size = size,
	};
	const char *fault = datapath_conforms(&c);

	cr_expect_null(fault, "%s", fault);
}

WholeTest(inproc, conforms_split)
{
	conforms(0, 16);
}

WholeTest(inproc, conforms_split_event_idx)
{
	conforms(EVENT_IDX, 16);
}

WholeTest(inproc, conforms_split_in_order)
{
	conforms(EVENT_IDX | BIT(VIRTIO_F_IN_ORDER), 16);
}

WholeTest(inproc, conforms_packed)
{
	conforms(PACKED, 16);
}

WholeTest(inproc, conforms_packed_event_idx_of_an_odd_size)
{
	conforms(PACKED | EVENT_IDX, 19);
}

/* --- threads --- */

static _Atomic bool over;

static void *doorbells(void *arg)
{
	unsigned i = 0;

	(void)arg;
	while (!over)
		eventfd_write(f.dev.queue[i++ % NQUEUES].kick_fd, 1); /* as an ioeventfd: no lock */
	return NULL;
}

static void *trouble(void *arg)
{
	(void)arg;
	while (!over) {
		virtio_needs_reset(&f.dev, "trouble", -EIO);
		virtio_config_changed(&f.dev);
		sched_yield();
	}
	return NULL;
}

WholeTest(inproc, a_thousand_resets_under_doorbells_and_trouble)
{
	pthread_t t[2];

	cr_assert_eq(pthread_create(&t[0], NULL, doorbells, NULL), 0);
	cr_assert_eq(pthread_create(&t[1], NULL, trouble, NULL), 0);
	for (unsigned i = 0; i < 1000; i++) {
		for (unsigned k = 0; k < NQUEUES; k++) {
			/* as at the start of a life, and something to do */
			memset(driver_mem_ptr(&m, ring[k].used_gpa, 8), 0, 8);
			ring[k].avail->idx = 1;
			ring[k].avail->ring[0] = 0;
			ring[k].desc[0] = (struct vring_desc){.addr = buf + 32 * k, .len = 16};
		}
		live(i & 1 ? EVENT_IDX : 0);
		if (i % 7 == 0)
			sched_yield();
		fake_device_status(&f, 0);
		cr_assert_eq(virtio_status(&f.dev), 0);
		for (unsigned k = 0; k < NQUEUES; k++)
			cr_assert_null(f.q[k].vq);
	}
	over = true;
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
}

/* --- docs/conformance.md: queues that a device must leave alone --- */

struct picture {
	char ram[DRIVER_MEM_LOW_END];
};

/* On the queue's own thread, so that nobody writes meanwhile. */
static void take_picture(void *arg)
{
	memcpy(((struct picture *)arg)->ram, driver_mem_ptr(&m, 0, DRIVER_MEM_LOW_END), DRIVER_MEM_LOW_END);
}

/* Work for queue i and two kicks, by exit and by ioeventfd: does any byte of RAM change, or is the driver
 * called? */
static bool moves(unsigned i)
{
	struct picture *p = malloc(2 * sizeof(*p));
	unsigned kicks;
	eventfd_t n;
	bool moved;

	settle();
	kicks = f.q[i].kicks;
	eventfd_read(f.dev.queue[i].call_fd, &n);
	add(i);
	evloop_call(io[i].loop, take_picture, &p[0]);
	notify(i);
	eventfd_write(f.dev.queue[i].kick_fd, 1);
	settle();
	evloop_call(io[i].loop, take_picture, &p[1]);
	moved = memcmp(&p[0], &p[1], sizeof(*p)) || f.q[i].kicks != kicks ||
		!eventfd_read(f.dev.queue[i].call_fd, &n);
	free(p);
	return moved;
}

WholeTest(inproc, a_queue_that_runs_moves)
{
	live(0);
	cr_expect(moves(0), "or the tests below say nothing");
}

WholeTest(inproc, nothing_moves_before_driver_ok)
{
	cr_assert(fake_device_negotiate(&f, 0));
	enable(0);
	cr_expect_not(moves(0));
	fake_device_status(&f, LIVE);
	wait_for(&f.q[0].echoed, 1);
}

WholeTest(inproc, nothing_moves_after_a_reset)
{
	live(0);
	cr_expect(moves(0));
	fake_device_status(&f, 0);
	cr_expect_not(moves(0));
	cr_expect_not(moves(1));
}

WholeTest(inproc, a_queue_that_was_reset_does_not_move)
{
	live(RING_RESET);
	virtio_lock(&f.dev);
	virtio_queue_reset(&f.dev, 1);
	virtio_unlock(&f.dev);
	cr_expect_not(moves(1));
	cr_expect(moves(0));
}

/* Whatever the driver did to it: another ring, from the start. */
WholeTest(inproc, a_queue_that_was_reset_begins_anew)
{
	live(RING_RESET);
	for (unsigned i = 0; i < 3; i++)
		add(1);
	notify(1);
	wait_for(&f.q[1].echoed, 3);
	virtio_lock(&f.dev);
	virtio_queue_reset(&f.dev, 1);
	virtio_unlock(&f.dev);
	driver_ring_fini(&ring[1]);
	driver_ring_init(&ring[1], &m, SIZE, 0, 0);
	enable(1);
	add(1);
	notify(1);
	wait_for(&f.q[1].echoed, 4);
	settle();
	cr_expect_eq(ring[1].used->idx, 1);
	cr_expect_eq(driver_ring_collect(&ring[1], NULL, NULL), 1);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

WholeTest(inproc, a_queue_that_is_not_ready_does_not_move)
{
	cr_assert(fake_device_negotiate(&f, 0));
	enable(0);
	fake_device_status(&f, LIVE);
	cr_expect_not(moves(1), "never made ready");
	cr_expect(moves(0));
	virtio_lock(&f.dev);
	virtio_queue_set_ready(&f.dev, 0, false);
	virtio_unlock(&f.dev);
	cr_expect_not(moves(0), "made ready and taken back");
}
