/* A remote datapath whose peer was cut off and has not let go: nobody is told that the device stands still. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "devices/virtio/virtio_move.h"
#include "lib/log.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/fake_device.h"
#include "tests/fake/fake_transport.h"
#include "tests/unit/teardown.h"
#include "vmm/loop_thread.h"

#define BIT(n) (UINT64_C(1) << (n))
#define LIVE                                                                                                   \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                  \
	 VIRTIO_CONFIG_S_DRIVER_OK)

static struct driver_mem m;
static struct driver_ring ring;
static struct fake_device f;
static struct fake_datapath a, b;
static struct fake_transport ft;
static struct loop_thread io;
static struct err e;

static void setup(void)
{
	log_set_level(LOG_ERROR);
	cr_assert_eq(loop_thread_start(&io, "io", -1, &e), 0);
	driver_mem_init(&m);
	driver_ring_init(&ring, &m, 8, 0, 0);
	fake_datapath_init(&a);
	fake_datapath_init(&b);
	fake_device_init(&f, &m.mem, io.loop);
	f.dev.nqueues = 1;
	f.dev.remote = &a.dp;
	fake_transport_init(&ft, &f.dev);
	cr_assert_eq(virtio_init(&f.dev, &e), 0, "%s", e.text);
}

static void teardown(void)
{
	virtio_fini(&f.dev);
	loop_thread_stop(&io);
	driver_ring_fini(&ring);
	driver_mem_fini(&m);
	cr_expect_eq(a.running | b.running, 0);
	cr_expect_eq(f.mistakes + ft.mistakes + a.mistakes + b.mistakes, 0);
}

TestSuite(virtio_linger, .init = setup, .fini = teardown_once, .timeout = 20);

static void queue(void)
{
	struct datapath_queue q;

	driver_ring_queue(&ring, &q);
	fake_device_queue(&f, 0, 8, q.desc, q.avail, q.used);
}

static void live(uint64_t features)
{
	cr_assert(fake_device_negotiate(&f, features));
	queue();
	fake_device_status(&f, LIVE);
	cr_assert_eq(a.running, 1);
}

static void freeze(struct fake_datapath *dp)
{
	dp->lingers = true;
}

static void reset_while_it_lingers(uint64_t features)
{
	live(features);
	a.in_stop = freeze;
	fake_device_status(&f, 0);
}

WholeTest(virtio_linger, a_reset_is_not_over_before_it_lets_go)
{
	reset_while_it_lingers(0);
	cr_expect_eq(a.running, 0);
	cr_expect_eq(virtio_status(&f.dev), VIRTIO_CONFIG_S_NEEDS_RESET);
	fake_datapath_let_go(&a);
	cr_expect_eq(virtio_status(&f.dev), 0);
	a.in_stop = NULL;
	live(0);
}

WholeTest(virtio_linger, a_driver_that_does_not_wait_gets_nowhere)
{
	reset_while_it_lingers(0);
	cr_expect_not(fake_device_negotiate(&f, 0));
	queue();
	fake_device_status(&f, LIVE);
	cr_expect_eq(a.starts, 1, "the old rings are the peer's still");
	cr_expect_eq(virtio_status(&f.dev), VIRTIO_CONFIG_S_NEEDS_RESET);
	fake_datapath_let_go(&a);
	cr_expect_eq(virtio_accepted(&f.dev, 1), 0, "and left nothing behind");
	a.in_stop = NULL;
	live(0);
}

WholeTest(virtio_linger, every_reset_waits)
{
	reset_while_it_lingers(0);
	fake_device_status(&f, 0);
	cr_expect_eq(virtio_status(&f.dev), VIRTIO_CONFIG_S_NEEDS_RESET);
	fake_datapath_let_go(&a);
	cr_expect_eq(virtio_status(&f.dev), 0);
}

WholeTest(virtio_linger, a_reset_after_it_has_let_go_is_over_at_once)
{
	live(0);
	a.in_stop = NULL;
	freeze(&a);
	fake_datapath_let_go(&a);
	cr_expect_eq(virtio_status(&f.dev), LIVE, "a device that runs is none the wiser");
	fake_device_status(&f, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
}

WholeTest(virtio_linger, a_queue_is_not_reset_before_it_lets_go)
{
	struct virtio_queue *q = &f.dev.queue[0];

	live(BIT(VIRTIO_F_RING_RESET));
	cr_expect_not(virtio_queue_stopping(&f.dev, q));
	a.in_stop = freeze;
	virtio_lock(&f.dev);
	virtio_queue_reset(&f.dev, 0);
	virtio_unlock(&f.dev);
	cr_expect(virtio_queue_stopping(&f.dev, q));
	queue();
	cr_expect_not(q->ready, "it cannot be set up meanwhile");
	fake_datapath_let_go(&a);
	cr_expect_not(virtio_queue_stopping(&f.dev, q));
	queue();
	cr_expect(q->ready);
	a.in_stop = NULL;
}

WholeTest(virtio_linger, nobody_goes_on_beside_one_that_failed_to_take_over_and_holds_the_rings)
{
	const struct virtio_move_how how = {.drain_ms = 20};
	const struct virtio_move mv = {.remote = &b.dp, .how = &how};
	struct virtio_moved moved;

	live(0);
	a.offer.drains = true;
	b.start_err = -ETIMEDOUT;
	freeze(&b);
	cr_expect_eq(virtio_move(&f.dev, &mv, &moved, &e), -ETIMEDOUT);
	cr_expect_eq(a.running, 0);
	cr_expect(f.dev.status & VIRTIO_CONFIG_S_NEEDS_RESET);
	cr_expect_eq(f.dev.remote, &a.dp);
	fake_device_status(&f, 0);
	live(0);
}

WholeTest(virtio_linger, nobody_takes_over_from_one_that_does_not_let_go)
{
	const struct virtio_move_how how = {.drain_ms = 20};
	const struct virtio_move mv = {.remote = &b.dp, .how = &how};
	struct virtio_moved moved;

	live(0);
	a.offer.drains = true;
	a.in_stop = freeze;
	cr_expect_eq(virtio_move(&f.dev, &mv, &moved, &e), -EBUSY);
	cr_expect_eq(a.running, 1, "it is waited for");
	cr_expect_eq(b.starts, 0);
	cr_expect_eq(virtio_move(&f.dev, &mv, &moved, &e), -EBUSY, "still");
	cr_expect_eq(a.stops, 1);
	a.in_stop = NULL;
	fake_datapath_let_go(&a);
	cr_expect_eq(virtio_move(&f.dev, &mv, &moved, &e), 0, "%s", e.text);
	cr_expect_eq(b.running, 1);
}
