/* A vDPA device that runs: its daemon dies, queues come and go, the configuration changes. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/fake/datapath_conformance.h"
#include "tests/unit/vdpa_rig.h"

TestSuite(vhost_vdpa, .init = setup, .fini = teardown_once, .timeout = 60);

/* --- the daemon dies --- */

WholeTest(vhost_vdpa, a_dead_device_is_left_at_its_used_index)
{
	open_with(5000, 2000);
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	send(0);
	cr_assert(comes_back(0));
	set_dead(true);
	send(0);
	cr_expect_lt(ms_of(stop, 0, 2), 1000);
	cr_expect_eq(q[0].next, 1);
	cr_expect_not(q[0].lost);
	cr_expect_eq(m.mem.pins, 0);
	cr_expect_eq(start(0, 2), -EIO);
	is_free();
	set_dead(false);
	cr_assert_eq(start(0, 2), 0);
	cr_expect(comes_back(0));
	stop(0, 2);
	is_free();
}

WholeTest(vhost_vdpa, a_daemon_that_returns_goes_on_unnoticed)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	set_dead(true);
	send(0);
	settle();
	vdpa_fake_log(&fake);
	set_dead(false);
	eventfd_write(fake.wake, 1);
	cr_expect(comes_back(0));
	cr_expect_str_eq(vdpa_fake_log(&fake), "");
	cr_expect_eq(failures + changes, 0);
	stop(0, 1);
}

/* --- some of the queues --- */

WholeTest(vhost_vdpa, the_others_go_on_when_one_stops_and_starts)
{
	eventfd_t n;

	open_it();
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	send(0);
	send(1);
	cr_assert(comes_back(0) && comes_back(1));
	settle();
	while (!eventfd_read(q[0].call_fd, &n))
		;
	driver_ring_irq(&ring[0], false, 0); /* nor does the device interrupt */
	add(0);                              /* with no kick: the datapath owes it one */
	stop(1, 1);
	cr_expect_eq(q[1].next, 1);
	cr_expect(comes_back(0));
	cr_expect_eq(eventfd_read(q[0].call_fd, &n), 0);
	add(1);
	settle();
	cr_expect_eq(driver_ring_collect(&ring[1], NULL, NULL), 0);
	vdpa_fake_log(&fake);
	add(0);
	cr_assert_eq(start(1, 1), 0);
	cr_expect(strstr(vdpa_fake_log(&fake), queue_up(0, 2)));
	cr_expect(comes_back(0));
	cr_expect(comes_back(1));
	stop(0, 2);
	cr_expect_eq(q[0].next, 3);
	cr_expect_eq(q[1].next, 2);
	is_free();
}

WholeTest(vhost_vdpa, the_others_go_on_when_one_cannot_be_started)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	q[1].desc = DRIVER_MEM_LOW_END;
	cr_expect_eq(start(1, 1), -EFAULT);
	send(0);
	cr_expect(comes_back(0));
	cr_expect_eq(failures, 0);
	cr_expect_eq(fake.queue[1].kick, -1);
	stop(0, 1);
	is_free();
}

WholeTest(vhost_vdpa, a_second_start_must_agree_with_the_first)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	vdpa_fake_log(&fake);
	features |= EVENT_IDX;
	cr_expect_eq(start(1, 1), -EINVAL);
	features = VERSION_1;
	cr_expect_eq(start(0, 1), -EINVAL); /* it runs */
	cr_expect_str_eq(vdpa_fake_log(&fake), "");
	stop(0, 1);
}

WholeTest(vhost_vdpa, others_that_cannot_go_on_are_reported)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	send(0);
	cr_assert(comes_back(0));
	fake.refuses = VIRTIO_CONFIG_S_DRIVER_OK;
	stop(1, 1);
	cr_expect_eq(failures, 1);
	cr_expect_eq(failed_with, -EIO);
	cr_expect_null(vdpa_fake_is_free(&fake));
	cr_expect_eq(start(1, 1), -EIO);
	stop(0, 1);
	cr_expect_eq(q[0].next, 1);
	cr_expect_not(q[0].lost);
	is_free();
	fake.refuses = 0;
	cr_assert_eq(start(0, 2), 0); /* after a reset it is alive again */
	send(0);
	cr_expect(comes_back(0));
	stop(0, 2);
}

WholeTest(vhost_vdpa, others_with_requests_that_do_not_end_are_reported)
{
	open_with(DRAIN_MS, 1);
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	fake.hold = true;
	send(0);
	wait_held(0, 1);
	stop(1, 1);
	cr_expect_eq(failures, 1);
	cr_expect_not(q[1].lost);
	stop(0, 1);
	cr_expect(q[0].lost);
	is_free();
}

WholeTest(vhost_vdpa, each_call_that_fails_when_a_queue_is_added_spares_the_others)
{
	unsigned n;

	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	for (n = 1; n < MANY; n++) {
		fake.fail_request = n % 2 ? VHOST_SET_VRING_ADDR : VHOST_VDPA_SET_VRING_ENABLE;
		fake.fail_at = 1 + n / 2 % 2;
		cr_expect_eq(start(1, 1), -EINVAL, "%u", n);
		cr_expect_eq(failures, 0);
		send(0);
		cr_expect(comes_back(0));
		if (n == 8)
			break;
	}
	fake.fail_at = 0;
	cr_assert_eq(start(1, 1), 0);
	stop(0, 2);
	is_free();
}

/* --- configuration --- */

WholeTest(vhost_vdpa, the_configuration_is_the_devices)
{
	uint8_t b[4] = {0};

	open_it();
	cr_expect_eq(dp->ops->config_read(dp, 56, b, 4), 0);
	cr_expect_eq(b[0], 57);
	cr_expect_eq(b[3], 60);
	b[0] = 0xaa;
	cr_expect_eq(dp->ops->config_write(dp, 32, b, 1), 0);
	cr_expect_eq(fake.config[32], 0xaa);
	cr_expect_eq(fake.config[33], 34);
	cr_expect_str_eq(vdpa_fake_log(&fake), "GET_CONFIG 56 4\nSET_CONFIG 32 1\n");
	fake.fail_at = 1;
	cr_expect_eq(dp->ops->config_read(dp, 0, b, 4), -EINVAL);
}

WholeTest(vhost_vdpa, beyond_the_configuration_there_is_nothing)
{
	uint8_t b[8];

	open_it();
	cr_expect_eq(dp->ops->config_read(dp, 57, b, 4), -EINVAL);
	cr_expect_eq(dp->ops->config_read(dp, SIZE_MAX, b, 2), -EINVAL);
	cr_expect_eq(dp->ops->config_read(dp, 1, b, SIZE_MAX), -EINVAL);
	cr_expect_eq(dp->ops->config_write(dp, 60, b, 1), -EINVAL);
	cr_expect_eq(dp->ops->config_read(dp, 60, b, 0), 0);
	cr_expect_str_eq(vdpa_fake_log(&fake), "");
}

WholeTest(vhost_vdpa, a_change_of_configuration_is_told)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	vdpa_fake_config_irq(&fake, 0);
	settle();
	cr_expect_eq(changes, 1);
	stop(0, 1);
	vdpa_fake_config_irq(&fake, 0);
	settle();
	cr_expect_eq(changes, 1);
	cr_expect_eq(failures, 0);
}

WholeTest(vhost_vdpa, a_device_that_needs_a_reset_says_so_itself)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	vdpa_fake_config_irq(&fake, NEEDS_RESET);
	settle();
	cr_expect_eq(failures, 1);
	cr_expect_eq(changes, 0);
	stop(0, 1);
	is_free();
}

/* --- what every datapath must do --- */

/* The ring has room for what a device that is suspended again and again has had no time for. */
static void conform(uint64_t accepted, unsigned nqueues)
{
	struct datapath_conformance c = {
		.loop = control.loop, .features = accepted, .nqueues = nqueues, .size = 64, .rounds = 200};
	struct vhost_vdpa_options o = options();
	const char *fault;

	fake.nqueues = nqueues;
	fake.features |= accepted;
	o.settle_ms = LONG_MS / 2; /* it always kicks */
	cr_assert_eq(try_open(o), 0, "%s", e.text);
	c.dp = dp;
	fault = datapath_conforms(&c);
	cr_expect_null(fault, "%s", fault);
	cr_expect_eq(fake.lost, 0);
	is_free();
}

WholeTest(vhost_vdpa, conforms_split)
{
	conform(VERSION_1, 2);
}

WholeTest(vhost_vdpa, conforms_split_with_event_idx)
{
	conform(VERSION_1 | EVENT_IDX, 3);
}

WholeTest(vhost_vdpa, conforms_packed)
{
	conform(VERSION_1 | PACKED | EVENT_IDX, 2);
}

WholeTest(vhost_vdpa, conforms_suspended)
{
	fake.backend |= SUSPEND;
	conform(VERSION_1 | EVENT_IDX, 2);
}

WholeTest(vhost_vdpa, conforms_suspended_packed)
{
	fake.backend |= SUSPEND;
	conform(VERSION_1 | PACKED, 2);
}

WholeTest(vhost_vdpa, conforms_without_batches)
{
	fake.backend &= ~BATCH;
	conform(VERSION_1, 1);
}
