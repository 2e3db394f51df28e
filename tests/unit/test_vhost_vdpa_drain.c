/* How a vDPA device is stopped: waited for, suspended or reset, and where its rings then stand. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/vdpa_rig.h"

TestSuite(vhost_vdpa_drain, .init = setup, .fini = teardown_once, .timeout = 60);

WholeTest(vhost_vdpa_drain, stop_waits_resets_and_takes_everything_back)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	send(0);
	cr_assert(comes_back(0));
	vdpa_fake_log(&fake);
	stop(0, 2);
	cr_expect_str_eq(vdpa_fake_log(&fake), "SET_VRING_KICK 0 -\nSET_VRING_KICK 1 -\nSET_STATUS 0\n" UNMAP
					       "SET_VRING_CALL 0 -\nSET_VRING_CALL 1 -\nSET_CONFIG_CALL -\n");
	cr_expect_eq(q[0].next, 1);
	cr_expect_eq(q[1].next, 0);
	is_free();
}

WholeTest(vhost_vdpa_drain, a_device_that_can_be_suspended_is)
{
	fake.backend |= SUSPEND;
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	send(0);
	cr_assert(comes_back(0));
	vdpa_fake_wait_idle(&fake);
	vdpa_fake_log(&fake);
	add(0); /* it has not looked */
	stop(0, 1);
	cr_expect_str_eq(vdpa_fake_log(&fake),
			 "SET_VRING_KICK 0 -\nSUSPEND\nGET_VRING_BASE 0\nSET_STATUS 0\n" UNMAP
			 "SET_VRING_CALL 0 -\nSET_CONFIG_CALL -\n");
	cr_expect_eq(q[0].next, 1);
	cr_expect_not(q[0].lost);
}

WholeTest(vhost_vdpa_drain, a_suspend_that_fails_is_made_up_for_by_waiting)
{
	fake.backend |= SUSPEND;
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	add(0);
	fake.fail_at = 1;
	fake.fail_request = VHOST_VDPA_SUSPEND;
	stop(0, 1);
	cr_expect_eq(fake.suspends, 0);
	cr_expect_not(q[0].lost);
	is_free();
}

/* A receive queue always has buffers that nobody has taken. */
WholeTest(vhost_vdpa_drain, what_the_device_has_not_taken_stays_for_the_next)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	send(0);
	cr_assert(comes_back(0));
	vdpa_fake_wait_idle(&fake);
	add(0);
	add(0);
	cr_expect_lt(ms_of(stop, 0, 1), LONG_MS);
	cr_expect_eq(q[0].next, 1);
	cr_expect_not(q[0].lost);
	cr_assert_eq(start(0, 1), 0);
	cr_expect(comes_back(0));
	cr_expect(comes_back(0));
	stop(0, 1);
	cr_expect_eq(q[0].next, 3);
}

static void *release_later(void *arg)
{
	(void)arg;
	usleep(5000);
	vdpa_fake_release(&fake);
	return NULL;
}

WholeTest(vhost_vdpa_drain, a_reset_waits_for_requests_in_flight)
{
	pthread_t t;

	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	fake.hold = true;
	send(0);
	send(0);
	wait_held(0, 2);
	pthread_create(&t, NULL, release_later, NULL);
	stop(0, 1);
	pthread_join(t, NULL);
	cr_expect_eq(fake.lost, 0);
	cr_expect_eq(q[0].next, 2);
	cr_expect_not(q[0].lost);
	cr_expect(comes_back(0));
	cr_expect(comes_back(0));
}

WholeTest(vhost_vdpa_drain, a_kick_that_is_on_its_way_is_waited_for)
{
	fake.nap_us = 2000;
	open_with(2000, 200);
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	send(0);
	cr_expect_lt(ms_of(stop, 0, 1), 200);
	cr_expect_eq(q[0].next, 1);
	cr_expect(comes_back(0));
}

static void one_a_look(uint64_t with)
{
	fake.features |= with;
	features |= with;
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	vdpa_fake_wait_idle(&fake);
	fake.late_base = true;
	fake.burst = 1;
	for (unsigned i = 0; i < SIZE / 2; i++)
		add(0);
	stop(0, 1);
	cr_expect_not(q[0].lost);
	for (unsigned i = 0; i < SIZE / 2; i++)
		cr_expect_eq(driver_ring_collect(&ring[0], NULL, NULL), 1);
}

WholeTest(vhost_vdpa_drain, a_device_that_takes_one_after_the_other_is_not_at_rest)
{
	one_a_look(0);
	cr_expect_eq(q[0].next, SIZE / 2);
}

WholeTest(vhost_vdpa_drain, a_device_that_takes_one_after_the_other_is_not_at_rest_packed)
{
	one_a_look(PACKED);
	cr_expect_eq(q[0].next, 0);
}

WholeTest(vhost_vdpa_drain, requests_that_do_not_end_are_lost_after_a_while)
{
	unsigned ms;

	open_with(DRAIN_MS, 1);
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	send(0);
	cr_assert(comes_back(0));
	fake.hold = true;
	send(0);
	wait_held(0, 1);
	ms = ms_of(stop, 0, 2);
	cr_expect_geq(ms, DRAIN_MS);
	cr_expect_lt(ms, 50 * DRAIN_MS);
	cr_expect_eq(q[0].next, 1);
	cr_expect(q[0].lost);
	cr_expect_not(q[1].lost);
	is_free();
}

WholeTest(vhost_vdpa_drain, a_packed_ring_with_requests_in_flight_is_lost_too)
{
	fake.features |= PACKED;
	features |= PACKED;
	open_with(DRAIN_MS, 1);
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	fake.hold = true;
	send(0);
	wait_held(0, 1);
	stop(0, 2);
	cr_expect(q[0].lost);
	cr_expect_not(q[1].lost);
	is_free();
}

WholeTest(vhost_vdpa_drain, what_the_device_did_until_the_reset_counts)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	vdpa_fake_wait_idle(&fake);
	fake.late_reset = true;
	add(0);
	stop(0, 1);
	cr_expect_eq(q[0].next, 1);
	cr_expect_not(q[0].lost);
	cr_expect(comes_back(0));
}

WholeTest(vhost_vdpa_drain, a_packed_ring_that_went_on_until_the_reset_is_lost)
{
	fake.features |= PACKED;
	features |= PACKED;
	open_it();
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	vdpa_fake_wait_idle(&fake);
	fake.late_reset = true;
	add(0);
	stop(0, 2);
	cr_expect(q[0].lost);
	cr_expect_not(q[1].lost);
}

/* There is nothing that it could take meanwhile. */
WholeTest(vhost_vdpa_drain, a_packed_ring_with_nothing_in_it_is_not_waited_for)
{
	fake.features |= PACKED;
	features |= PACKED;
	open_with(LONG_MS, LONG_MS);
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	for (unsigned i = 0; i < SIZE; i++) { /* round twice */
		send(0);
		cr_assert(comes_back(0));
	}
	cr_expect_lt(ms_of(stop, 0, 1), LONG_MS);
	cr_expect_eq(q[0].next, 0x8000);
	cr_expect_not(q[0].lost);
}

WholeTest(vhost_vdpa_drain, a_packed_position_outside_the_ring_is_not_believed)
{
	fake.features |= PACKED;
	features |= PACKED;
	fake.base_lie = SIZE;
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	stop(0, 1);
	cr_expect(q[0].lost);
	is_free();
}

WholeTest(vhost_vdpa_drain, a_device_that_does_not_know_its_position_is_believed_its_used_index)
{
	open_it();
	fake.base_errno = EOPNOTSUPP; /* as vp_vdpa */
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	send(0);
	cr_assert(comes_back(0));
	vdpa_fake_wait_idle(&fake);
	add(0);
	cr_expect_lt(ms_of(stop, 0, 1), LONG_MS);
	cr_expect_eq(q[0].next, 1);
	cr_expect_not(q[0].lost);
}

WholeTest(vhost_vdpa_drain, a_packed_ring_of_which_nobody_knows_the_position_is_lost)
{
	fake.features |= PACKED;
	features |= PACKED;
	open_it();
	fake.base_errno = EOPNOTSUPP;
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	cr_expect_lt(ms_of(stop, 0, 1), LONG_MS);
	cr_expect(q[0].lost);
	is_free();
}

WholeTest(vhost_vdpa_drain, a_position_that_cannot_be_is_not_believed)
{
	open_it();
	fake.base_lie = 0x4000;
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	send(0);
	cr_assert(comes_back(0));
	vdpa_fake_wait_idle(&fake);
	add(0);
	cr_expect_lt(ms_of(stop, 0, 1), LONG_MS);
	cr_expect_eq(q[0].next, 1);
	cr_expect_not(q[0].lost);
}

/* But for the mappings and the descriptors, for which there is no second way. */
WholeTest(vhost_vdpa_drain, calls_that_fail_in_a_stop_change_nothing_for_the_queues)
{
	static const unsigned long requests[] = {VHOST_VDPA_SUSPEND, VHOST_GET_VRING_BASE,
						 VHOST_VDPA_SET_STATUS};

	fake.backend |= SUSPEND;
	open_it();
	rings(features);
	for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		fake.fail_at = 0;
		cr_assert_eq(start(0, 2), 0);
		send(0);
		cr_assert(comes_back(0));
		settle();
		add(1);
		fake.fail_at = 1;
		fake.fail_request = requests[i];
		stop(0, 2);
		cr_expect_eq(fake.fail_at, 0);
		cr_expect_eq(q[0].next, i + 1);
		cr_expect_not(q[1].lost);
		is_free();
	}
}
