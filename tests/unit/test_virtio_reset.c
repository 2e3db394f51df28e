/* The core of a virtio device: how it is reset, by a driver and where it needs one, and by several threads. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>

#include "lib/cleanup.h"
#include "tests/unit/open_fds.h"
#include "tests/unit/virtio_rig.h"

TestSuite(virtio_reset, .init = setup, .fini = teardown_once, .timeout = 60);

/* --- reset --- */

WholeTest(virtio_reset, reset_before_anything)
{
	init();
	for (unsigned i = 0; i < 3; i++)
		fake_device_status(&f, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
	cr_expect_eq(local.stops, 0);
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
}

WholeTest(virtio_reset, reset_forgets_what_the_driver_wrote)
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

WholeTest(virtio_reset, reset_stops_first_and_shows_zero_last)
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

WholeTest(virtio_reset, every_reset_reaches_the_device_model_and_the_transport)
{
	init();
	for (unsigned i = 1; i < 5; i++) {
		fake_device_status(&f, 0);
		cr_expect_eq(f.resets, i);
		cr_expect_eq(ft.resets, i);
	}
}

WholeTest(virtio_reset, the_config_generation_only_moves_on)
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

WholeTest(virtio_reset, counters_outlive_a_reset)
{
	init();
	live(0);
	f.dev.queue[0].stats.chains = 5;
	fake_device_status(&f, 0);
	cr_expect_eq(f.dev.queue[0].stats.chains, 5);
}

WholeTest(virtio_reset, reset_after_the_datapath_failed)
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

WholeTest(virtio_reset, a_failure_while_it_stops_does_not_reach_the_next_life)
{
	init();
	live(0);
	local.in_stop = fail;
	fake_device_status(&f, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
	cr_expect_eq(ft.config_irqs, 0);
}

WholeTest(virtio_reset, a_failure_while_it_starts_is_shown)
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

WholeTest(virtio_reset, nothing_is_sent_out_of_a_reset)
{
	init();
	live(0);
	f.in_reset = change;
	fake_device_status(&f, 0);
	cr_expect_eq(status_in_reset, LIVE);
	cr_expect_eq(ft.config_irqs, 0);
	cr_expect_eq(virtio_status(&f.dev), 0);
}

WholeTest(virtio_reset, reset_storm)
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

WholeTest(virtio_reset, fini_stops_what_runs)
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

WholeTest(virtio_reset, needs_reset_interrupts_a_live_driver_once)
{
	init();
	live(0);
	for (unsigned i = 0; i < 3; i++)
		virtio_needs_reset(&f.dev, "test", -EIO);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
	cr_expect_eq(ft.config_irqs, 1);
}

WholeTest(virtio_reset, needs_reset_before_driver_ok_interrupts_at_driver_ok)
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

WholeTest(virtio_reset, needs_reset_without_a_driver_is_ignored)
{
	init();
	virtio_needs_reset(&f.dev, "test", -EIO);
	cr_expect_eq(virtio_status(&f.dev), 0);
	live(0);
	fake_device_status(&f, 0);
	virtio_needs_reset(&f.dev, "late", -EIO);
	cr_expect_eq(virtio_status(&f.dev), 0);
}

WholeTest(virtio_reset, needs_reset_ends_with_a_reset)
{
	init();
	live(0);
	virtio_needs_reset(&f.dev, "test", -EIO);
	live(0);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	cr_expect_eq(local.running, 3);
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

WholeTest(virtio_reset, register_storms_resets_kicks_and_needs_reset_at_once)
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
