/* Live change: who served a device's queues hands them over, or nothing changes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/feature_names.h"
#include "devices/virtio/inproc.h"
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

#define NQUEUES 2
static struct driver_mem m;
static struct driver_ring ring[NQUEUES];
static struct fake_device f;
static struct fake_datapath a, b;
static struct datapath *local;
static struct fake_transport ft;
static struct loop_thread io;
static struct virtio_moved moved;
static struct err e;

/* Served by `first`; NULL: by this process, which echoes. */
static void live(struct fake_datapath *first, uint64_t features)
{
	log_set_level(LOG_ERROR);
	cr_assert_eq(loop_thread_start(&io, "io", -1, &e), 0);
	driver_mem_init(&m);
	for (unsigned i = 0; i < NQUEUES; i++)
		driver_ring_init(&ring[i], &m, 8, features,
				 (uint16_t)(features & BIT(VIRTIO_F_RING_PACKED) ? 0x8000 : 0));
	fake_device_init(&f, &m.mem, io.loop);
	f.dev.nqueues = NQUEUES;
	f.dev.answered_queues = BIT(1);
	f.dev.local = local = inproc_new(&f.dev);
	f.dev.remote = first ? &first->dp : NULL;
	fake_transport_init(&ft, &f.dev);
	cr_assert_eq(virtio_init(&f.dev, &e), 0, "%s", e.text);
	cr_assert(fake_device_negotiate(&f, features));
	for (unsigned i = 0; i < NQUEUES; i++) {
		struct datapath_queue q;

		driver_ring_queue(&ring[i], &q);
		fake_device_queue(&f, i, 8, q.desc, q.avail, q.used);
	}
	fake_device_status(&f, LIVE);
}

static void setup(void)
{
	fake_datapath_init(&a);
	fake_datapath_init(&b);
}

static void teardown(void)
{
	if (!local)
		return;
	virtio_fini(&f.dev);
	local->ops->destroy(local);
	loop_thread_stop(&io);
	for (unsigned i = 0; i < NQUEUES; i++)
		driver_ring_fini(&ring[i]);
	driver_mem_fini(&m);
	cr_expect_eq(a.running | b.running, 0);
	cr_expect_eq(f.mistakes + ft.mistakes + a.mistakes + b.mistakes, 0);
}

TestSuite(virtio_move, .init = setup, .fini = teardown_once, .timeout = 20);

static int move(struct fake_datapath *to)
{
	const struct virtio_move mv = {.remote = to ? &to->dp : NULL,
				       .how = &(struct virtio_move_how){.drain_ms = 20}};

	return virtio_move(&f.dev, &mv, &moved, &e);
}

static bool needs_reset(void)
{
	return f.dev.status & VIRTIO_CONFIG_S_NEEDS_RESET;
}

WholeTest(virtio_move, the_new_datapath_starts_where_the_old_one_stopped)
{
	live(&a, 0);
	a.give_next = 7;
	cr_assert_eq(move(&b), 0, "%s", e.text);
	cr_expect_eq(a.running, 0);
	cr_expect_eq(b.running, 3);
	for (unsigned i = 0; i < NQUEUES; i++) {
		cr_expect_eq(b.started[i].next, 7);
		cr_expect_eq(b.started[i].kick_fd, a.started[i].kick_fd);
		cr_expect_eq(ft.queue[i].binds, 1);
	}
	cr_expect_gt(moved.stopped_ns, 0);
	cr_expect_eq(f.dev.remote, &b.dp);
	fake_device_status(&f, 0);
	cr_expect_eq(b.running, 0);
	cr_expect_eq(b.stops, 1);
}

WholeTest(virtio_move, kicks_and_interrupts_are_made_once_after_the_start)
{
	eventfd_t n;

	live(&a, 0);
	for (unsigned i = 0; i < NQUEUES; i++) {
		eventfd_read(f.dev.queue[i].kick_fd, &n);
		eventfd_read(f.dev.queue[i].call_fd, &n);
	}
	cr_assert_eq(move(&b), 0);
	for (unsigned i = 0; i < NQUEUES; i++) {
		cr_expect_eq(eventfd_read(f.dev.queue[i].kick_fd, &n), 0);
		cr_expect_eq(eventfd_read(f.dev.queue[i].call_fd, &n), 0);
	}
}

WholeTest(virtio_move, a_peer_with_copies_is_left_with_descriptors_nobody_uses)
{
	int kick, call;

	a.offer.keeps_fds = true;
	live(&a, 0);
	kick = dup(f.dev.queue[0].kick_fd);
	call = dup(f.dev.queue[0].call_fd);
	cr_assert_eq(move(&b), 0, "%s", e.text);
	cr_expect_eq(ft.queue[0].binds, 2);
	cr_expect_eq(ft.queue[0].kick_fd, f.dev.queue[0].kick_fd);
	cr_expect_eq(b.started[0].kick_fd, f.dev.queue[0].kick_fd);
	cr_expect_eq(b.started[0].call_fd, f.dev.queue[0].call_fd);
	/* What the old peer reads or writes now is another's. */
	eventfd_write(f.dev.queue[0].kick_fd, 1);
	cr_expect_eq(lseek(kick, 0, SEEK_CUR) == 0 && eventfd_read(kick, &(eventfd_t){0}) == 0, true);
	cr_expect_neq(eventfd_read(kick, &(eventfd_t){0}), 0);
	close(kick);
	close(call);
}

WholeTest(virtio_move, nothing_changes_when_the_new_one_does_not_start)
{
	live(&a, 0);
	a.offer.drains = true;
	a.give_next = 5;
	ring[0].used->idx = ring[1].used->idx = 5;
	b.start_err = -EIO;
	cr_assert_eq(move(&b), -EIO);
	cr_expect_str_not_empty(strstr(e.text, "nothing was changed") ? e.text : "");
	cr_expect_eq(a.running, 3);
	cr_expect_eq(a.started[0].next, 5);
	cr_expect_eq(f.dev.remote, &a.dp);
	cr_expect_not(needs_reset());
}

static void serve_one(struct fake_datapath *d)
{
	(void)d;
	ring[1].used->idx = 6;
}

WholeTest(virtio_move, the_old_one_goes_on_behind_what_the_new_one_has_served_before_it_failed)
{
	live(&a, 0);
	a.offer.drains = true;
	a.give_next = 5;
	ring[0].used->idx = ring[1].used->idx = 5;
	b.start_err = -EIO;
	b.in_start = serve_one;
	cr_assert_eq(move(&b), -EIO);
	cr_expect_eq(a.started[0].next, 5);
	cr_expect_eq(a.started[1].next, 6);
}

WholeTest(virtio_move, one_that_failed_to_start_is_left_with_descriptors_nobody_uses)
{
	int kick;

	live(&a, 0);
	b.offer.keeps_fds = true;
	b.start_err = -EIO;
	kick = dup(f.dev.queue[0].kick_fd);
	cr_assert_eq(move(&b), -EIO);
	while (!eventfd_read(kick, &(eventfd_t){0}))
		;
	eventfd_write(a.started[0].kick_fd, 1);
	cr_expect_neq(eventfd_read(kick, &(eventfd_t){0}), 0);
	cr_expect_eq(ft.queue[0].kick_fd, a.started[0].kick_fd);
	close(kick);
}

static unsigned asked;

static int fits_once(void *opaque, struct err *err)
{
	(void)opaque;
	return ++asked == 1 ? 0 : err_set(err, -EBUSY, "changed meanwhile");
}

WholeTest(virtio_move, the_model_is_asked_again_when_the_vcpus_stand_still)
{
	const struct virtio_move mv = {.remote = &b.dp, .fits = fits_once, .how = &(struct virtio_move_how){0}};

	live(&a, 0);
	cr_assert_eq(virtio_move(&f.dev, &mv, &moved, &e), -EBUSY);
	cr_expect_eq(asked, 2);
	cr_expect_eq(a.stops, 0);
}

WholeTest(virtio_move, counts_of_the_one_before_are_not_taken_for_the_next_ones)
{
	live(NULL, 0);
	f.dev.queue[0].stats.chains = 7;
	cr_assert_eq(move(&a), 0, "%s", e.text);
	cr_expect_eq(f.dev.queue[0].stats.chains, QUEUE_STAT_UNSEEN);
	cr_assert_eq(move(NULL), 0, "%s", e.text);
	cr_expect_eq(f.dev.queue[0].stats.chains, 0);
}

WholeTest(virtio_move, needs_a_reset_when_neither_starts)
{
	live(&a, 0);
	a.start_err = b.start_err = -EIO;
	cr_assert_eq(move(&b), -EIO);
	cr_expect(needs_reset());
	cr_expect_eq(f.dev.running_queues, 0);
	cr_expect_not(ft.queue[0].bound);
	a.start_err = 0;
	fake_device_status(&f, 0);
	cr_expect_not(needs_reset());
}

static void stop_and_lose(struct datapath *dp, const struct datapath_setup *setup)
{
	setup->queue[0].lost = true;
	(void)dp;
	a.running = 0;
	a.stops++;
}

WholeTest(virtio_move, needs_a_reset_when_the_old_one_took_the_position_with_it)
{
	static struct datapath_ops ops;

	live(&a, 0);
	ops = *a.dp.ops;
	ops.stop = stop_and_lose;
	a.dp.ops = &ops;
	cr_assert_eq(move(&b), -ENODATA);
	cr_expect(needs_reset());
	cr_expect_eq(b.starts, 0);
}

static int start_and_lose(struct datapath *dp, const struct datapath_setup *setup)
{
	(void)dp;
	setup->queue[1].lost = true;
	return -EIO;
}

WholeTest(virtio_move, belongs_to_the_old_one_again_even_if_nobody_can_go_on)
{
	static struct datapath_ops ops;

	live(&a, BIT(VIRTIO_F_RING_PACKED));
	a.offer.drains = true;
	ops = *b.dp.ops;
	ops.start = start_and_lose;
	b.dp.ops = &ops;
	cr_assert_eq(move(&b), -EIO);
	cr_expect(needs_reset());
	cr_expect_eq(f.dev.remote, &a.dp);
	cr_expect_eq(a.starts, 1);
	fake_device_status(&f, 0);
	cr_expect_not(needs_reset());
}

WholeTest(virtio_move, names_the_features_that_the_target_does_not_serve)
{
	live(&a, BIT(VIRTIO_RING_F_EVENT_IDX));
	b.offer.opinion = UINT64_MAX;
	b.offer.features = BIT(VIRTIO_F_VERSION_1);
	cr_assert_eq(move(&b), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "EVENT_IDX"), "%s", e.text);
	cr_expect(!strstr(e.text, "VERSION_1"), "%s", e.text);
	cr_expect_eq(a.stops, 0);
	cr_expect_eq(a.running, 3);
}

WholeTest(virtio_move, refuses_a_target_with_fewer_or_shorter_queues)
{
	live(&a, 0);
	b.offer.max_queues = 1;
	cr_expect_eq(move(&b), -EOPNOTSUPP);
	b.offer.max_queues = 0;
	b.offer.max_queue_size = 4;
	cr_expect_eq(move(&b), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "queue-size=4"), "%s", e.text);
	cr_expect_eq(a.stops, 0);
}

/* A peer that sees nothing but doorbells. */
static void *answer_later(void *unused)
{
	eventfd_t n;

	(void)unused;
	for (unsigned i = 0; eventfd_read(f.dev.queue[1].kick_fd, &n); i++) {
		if (i == 20000)
			return NULL;
		usleep(200);
	}
	usleep(3000);
	__atomic_store_n(&ring[1].used->idx, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* A chain that a datapath has not answered. */
static void owe(unsigned queue)
{
	struct driver_buf buf = {driver_mem_alloc(&m, 16, 1), 16, false};

	cr_assert_geq(driver_ring_add(&ring[queue], &buf, 1), 0);
	driver_ring_kick(&ring[queue]);
}

WholeTest(virtio_move, waits_for_answers_before_it_stops_a_datapath_that_does_not)
{
	const struct virtio_move mv = {.remote = &b.dp, .how = &(struct virtio_move_how){.drain_ms = 8000}};
	pthread_t t;
	eventfd_t n;

	live(&a, 0);
	a.offer.drains = false;
	/* The driver's vCPU was stopped after it had shown the chain and before it rang. */
	owe(1);
	eventfd_read(f.dev.queue[1].kick_fd, &n);
	cr_assert_eq(pthread_create(&t, NULL, answer_later, NULL), 0);
	cr_assert_eq(virtio_move(&f.dev, &mv, &moved, &e), 0, "%s", e.text);
	pthread_join(t, NULL);
	cr_expect_geq(moved.drained_ns, 2000000);
	cr_expect_eq(b.running, 3);
}

WholeTest(virtio_move, refuses_when_answers_do_not_come_in_time)
{
	live(&a, 0);
	a.offer.drains = false;
	owe(1);
	cr_assert_eq(move(&b), -ETIMEDOUT);
	cr_expect_eq(a.stops, 0);
	cr_expect_eq(a.running, 3);
	cr_expect_not(needs_reset());
}

WholeTest(virtio_move, one_that_comes_back_at_the_last_moment_is_waited_for)
{
	live(&a, 0);
	a.offer.drains = true;
	a.drains_until = 1; /* the look before it is to stop */
	owe(1);
	cr_assert_eq(move(&b), -ETIMEDOUT);
	cr_expect_eq(a.stops, 0);
	cr_expect_eq(a.running, 3);
	cr_expect_not(needs_reset());
}

WholeTest(virtio_move, does_not_wait_for_receive_buffers_or_where_stop_drains)
{
	live(&a, 0);
	a.offer.drains = false;
	owe(0);
	cr_assert_eq(move(&b), 0, "%s", e.text);
	b.offer.drains = true;
	owe(1);
	cr_assert_eq(move(&a), 0, "%s", e.text);
}

WholeTest(virtio_move, offers_what_the_new_datapath_serves_from_then_on)
{
	live(&a, 0);
	cr_assert(f.dev.offered & BIT(VIRTIO_F_RING_PACKED));
	b.offer.opinion = BIT(VIRTIO_F_RING_PACKED);
	b.offer.features = 0;
	cr_assert_eq(move(&b), 0, "%s", e.text);
	cr_expect_not(f.dev.offered & BIT(VIRTIO_F_RING_PACKED));
	cr_assert_eq(move(&a), 0);
	cr_expect(f.dev.offered & BIT(VIRTIO_F_RING_PACKED));
}

static unsigned stood, lock_held, served_standing;

static void stand_still(void *opaque, bool on)
{
	(void)opaque;
	stood = stood * 10 + (on ? 1 : 2);
	served_standing = on ? 0 : (unsigned)(a.running | b.running);
	/* A vCPU may wait for it, and then would never stand still. */
	if (pthread_mutex_trylock(&f.dev.lock))
		lock_held++;
	else
		pthread_mutex_unlock(&f.dev.lock);
}

WholeTest(virtio_move, the_vcpus_stand_still_from_before_the_stop_until_after_the_start)
{
	const struct virtio_move_how how = {.stand_still = stand_still};
	struct virtio_move mv = {.remote = &b.dp, .how = &how};

	live(&a, 0);
	cr_assert_eq(virtio_move(&f.dev, &mv, &moved, &e), 0, "%s", e.text);
	cr_expect_eq(stood, 12);
	cr_expect_eq(lock_held, 0);
	cr_expect_eq(served_standing, 3);
	cr_expect_geq(moved.stood_still_ns, moved.stopped_ns);
	/* They go on after a refusal too, and do not stop for what is refused beforehand. */
	mv.remote = &a.dp;
	a.start_err = -EIO;
	cr_assert_eq(virtio_move(&f.dev, &mv, &moved, &e), -EIO);
	cr_expect_eq(stood, 1212);
	a.offer.max_queues = 1;
	cr_assert_eq(virtio_move(&f.dev, &mv, &moved, &e), -EOPNOTSUPP);
	cr_expect_eq(stood, 1212);
}

static unsigned swaps, served_at_swap;
static int swap_rc;

static int swap(void *opaque, bool to_new)
{
	(void)opaque;
	served_at_swap |= (unsigned)(a.running | b.running);
	swaps = swaps * 10 + (to_new ? 1 : 2);
	return swap_rc;
}

WholeTest(virtio_move, the_model_swaps_while_nobody_serves_and_back_on_failure)
{
	const struct virtio_move mv = {.remote = &b.dp, .swap = swap, .how = &(struct virtio_move_how){0}};

	live(&a, 0);
	b.start_err = -EIO;
	cr_assert_eq(virtio_move(&f.dev, &mv, &moved, &e), -EIO);
	cr_expect_eq(swaps, 12);
	b.start_err = 0;
	cr_assert_eq(virtio_move(&f.dev, &mv, &moved, &e), 0);
	cr_expect_eq(swaps, 121);
	cr_expect_eq(served_at_swap, 0);
}

WholeTest(virtio_move, a_swap_that_fails_changes_nothing)
{
	const struct virtio_move mv = {.remote = &b.dp, .swap = swap, .how = &(struct virtio_move_how){0}};

	live(&a, 0);
	swap_rc = -ENOMEM;
	cr_assert_eq(virtio_move(&f.dev, &mv, &moved, &e), -ENOMEM);
	cr_expect_eq(a.running, 3);
	cr_expect_eq(b.starts, 0);
}

/* The driver's two ends of a chain through the echo. */
static void echoed(unsigned queue, uint64_t chains)
{
	struct driver_buf buf[2] = {{driver_mem_alloc(&m, 16, 1), 16, false},
				    {driver_mem_alloc(&m, 16, 1), 16, true}};
	uint32_t len = 0;

	for (uint64_t n = 0; n < chains; n++) {
		int got = 0;

		cr_assert_geq(driver_ring_add(&ring[queue], buf, 2), 0);
		driver_ring_kick(&ring[queue]);
		eventfd_write(f.dev.queue[queue].kick_fd, 1);
		for (unsigned i = 0; i < 5000 && !got; i++) {
			usleep(200);
			got = driver_ring_collect(&ring[queue], NULL, &len);
		}
		cr_assert_eq(got, 1, "no answer");
		cr_assert_eq(len, 16);
	}
}

static void stop_as_started(struct datapath *dp, const struct datapath_setup *setup)
{
	(void)dp;
	for (unsigned i = 0; i < setup->nqueues; i++)
		setup->queue[i].next = a.started[setup->queue[i].index].next;
	a.running = 0;
}

static void there_and_back(uint64_t features)
{
	static struct datapath_ops ops;

	live(NULL, features);
	ops = *a.dp.ops;
	ops.stop = stop_as_started;
	a.dp.ops = &ops;
	a.offer.drains = true;
	for (unsigned round = 0; round < 5; round++) {
		echoed(0, 3);
		cr_assert_eq(move(&a), 0, "%s", e.text);
		cr_expect_eq(f.q[0].vq, NULL);
		cr_assert_eq(move(NULL), 0, "%s", e.text);
	}
	echoed(1, 2);
}

WholeTest(virtio_move, this_process_goes_on_where_another_stopped)
{
	there_and_back(0);
	cr_expect_eq(a.started[0].next, 15);
}

WholeTest(virtio_move, this_process_goes_on_in_a_packed_ring)
{
	there_and_back(BIT(VIRTIO_F_RING_PACKED));
}

WholeTest(virtio_move, a_device_without_a_driver_moves_too)
{
	live(&a, 0);
	fake_device_status(&f, 0);
	cr_assert_eq(move(&b), 0, "%s", e.text);
	cr_expect_eq(b.starts, 0);
	cr_expect_eq(f.dev.remote, &b.dp);
}

WholeTest(virtio_move, a_device_that_needs_a_reset_does_not_move)
{
	live(&a, 0);
	virtio_needs_reset(&f.dev, "test", -EIO);
	cr_assert_eq(move(&b), -EIO);
}

WholeTest(virtio_move, names_features_by_their_device)
{
	char s[128], tiny[8];

	cr_expect_str_eq(feature_names(VIRTIO_ID_NET, BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(56), s, sizeof(s)),
			 "MRG_RXBUF, HOST_USO");
	cr_expect_str_eq(feature_names(VIRTIO_ID_BLOCK, BIT(9) | BIT(34), s, sizeof(s)), "FLUSH, RING_PACKED");
	cr_expect_str_eq(feature_names(VIRTIO_ID_RNG, BIT(3), s, sizeof(s)), "bit 3");
	cr_expect_str_eq(feature_names(VIRTIO_ID_NET, UINT64_MAX, tiny, sizeof(tiny)), "CSUM, G");
}
