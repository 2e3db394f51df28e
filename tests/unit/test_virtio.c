/* The core of a virtio device: what it offers, and its status. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/open_fds.h"
#include "tests/unit/virtio_rig.h"

TestSuite(virtio, .init = setup, .fini = teardown_once, .timeout = 60);

/* --- what is offered --- */

WholeTest(virtio, offers_device_bits_and_ring_bits)
{
	f.features = BIT(0) | BIT(23) | BIT(50) | BIT(63);
	init();
	cr_expect_eq(f.dev.offered, f.features | RING_BITS);
	cr_expect_eq(virtio_features(&f.dev, 0), (uint32_t)f.dev.offered);
	cr_expect_eq(virtio_features(&f.dev, 1), (uint32_t)(f.dev.offered >> 32));
}

WholeTest(virtio, offers_nothing_past_word_1)
{
	f.features = UINT64_MAX;
	init();
	cr_expect_eq(virtio_features(&f.dev, 2), 0);
	cr_expect_eq(virtio_features(&f.dev, 32), 0);
	cr_expect_eq(virtio_features(&f.dev, UINT32_MAX), 0);
}

WholeTest(virtio, a_device_model_cannot_offer_bits_of_the_core)
{
	f.features = UINT64_MAX;
	init();
	cr_expect_eq(f.dev.offered & (BIT(50) - BIT(24)), RING_BITS);
}

WholeTest(virtio, access_platform_is_never_offered)
{
	f.features = UINT64_MAX;
	local.offer.features = local.offer.adds = UINT64_MAX;
	init();
	cr_expect_eq(f.dev.offered & BIT(VIRTIO_F_ACCESS_PLATFORM), 0);
}

WholeTest(virtio, a_datapath_takes_away_what_it_has_an_opinion_on_only)
{
	f.features = BIT(0) | BIT(1) | BIT(2);
	local.offer.opinion = BIT(0) | BIT(1) | BIT(VIRTIO_F_RING_PACKED);
	local.offer.features = BIT(0) | BIT(5);
	init();
	cr_expect_eq(f.dev.offered, (BIT(0) | BIT(2) | RING_BITS) & ~BIT(VIRTIO_F_RING_PACKED));
}

WholeTest(virtio, both_datapaths_narrow_what_is_offered)
{
	f.features = BIT(0) | BIT(1);
	f.dev.remote = &remote.dp;
	f.dev.local_queues = BIT(1);
	local.offer.opinion = BIT(0);
	remote.offer.opinion = BIT(1);
	init();
	cr_expect_eq(f.dev.offered & (BIT(0) | BIT(1)), 0);
}

WholeTest(virtio, a_local_datapath_without_queues_has_no_say)
{
	f.features = BIT(0);
	f.dev.remote = &remote.dp;
	local.offer.opinion = UINT64_MAX;
	init();
	cr_expect_eq(f.dev.offered, BIT(0) | RING_BITS);
}

WholeTest(virtio, hidden_bits_are_not_offered)
{
	f.features = BIT(0) | BIT(1);
	f.dev.hidden = BIT(1) | BIT(VIRTIO_F_RING_PACKED);
	init();
	cr_expect_eq(f.dev.offered, (BIT(0) | RING_BITS) & ~BIT(VIRTIO_F_RING_PACKED));
}

WholeTest(virtio, a_queue_is_no_larger_than_its_datapath_serves)
{
	f.dev.remote = &remote.dp;
	f.dev.local_queues = BIT(1);
	remote.offer.max_queue_size = 100;
	init();
	cr_expect_eq(virtio_queue_get(&f.dev, 0)->max_size, 64);
	cr_expect_eq(virtio_queue_get(&f.dev, 0)->size, 64);
	cr_expect_eq(virtio_queue_get(&f.dev, 1)->max_size, 256);
}

static void expect_refused(int code, const char *word)
{
	unsigned before = open_fds();

	cr_expect_eq(virtio_init(&f.dev, &e), code);
	cr_expect(strstr(e.text, word), "%s", e.text);
	cr_expect(strstr(e.text, "fake0"), "%s", e.text);
	cr_expect_eq(open_fds(), before);
}

WholeTest(virtio, init_refuses_too_many_queues)
{
	f.dev.nqueues = VIRTIO_MAX_QUEUES + 1;
	expect_refused(-EINVAL, "65 queues");
}

WholeTest(virtio, init_refuses_a_queue_that_is_too_large)
{
	f.dev.queue[1].max_size = 2 * VIRTIO_MAX_QUEUE_SIZE;
	expect_refused(-EINVAL, "power of two");
}

WholeTest(virtio, init_refuses_a_queue_size_that_is_no_power_of_two)
{
	f.dev.queue[1].max_size = 100;
	expect_refused(-EINVAL, "power of two");
}

WholeTest(virtio, init_refuses_a_device_that_nobody_serves)
{
	f.dev.local = NULL;
	expect_refused(-EINVAL, "nobody");
}

WholeTest(virtio, init_refuses_a_local_queue_without_a_local_datapath)
{
	f.dev.local = NULL;
	f.dev.remote = &remote.dp;
	f.dev.local_queues = BIT(1);
	expect_refused(-EINVAL, "queue 1");
}

WholeTest(virtio, init_refuses_a_datapath_of_another_device_type)
{
	local.offer.device_id = 1;
	expect_refused(-ENODEV, "type 1");
}

WholeTest(virtio, init_refuses_more_queues_than_the_datapath_has)
{
	local.offer.max_queues = 1;
	expect_refused(-EINVAL, "at most 1");
}

WholeTest(virtio, init_refuses_a_datapath_that_does_not_answer)
{
	local.offer_err = -EIO;
	expect_refused(-EIO, "Input/output error");
}

WholeTest(virtio, init_refuses_a_datapath_before_virtio_1)
{
	local.offer.opinion = VERSION_1;
	expect_refused(-EOPNOTSUPP, "1.0");
}

WholeTest(virtio, leaves_no_descriptor_open)
{
	unsigned before = open_fds();

	init();
	live(0);
	virtio_fini(&f.dev);
	inited = false;
	cr_expect_eq(open_fds(), before);
}

/* --- feature negotiation --- */

WholeTest(virtio, features_ok_is_set_for_what_was_offered)
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

WholeTest(virtio, features_ok_is_refused_for_a_bit_never_offered)
{
	init();
	for (unsigned i = 0; i < 64; i++)
		if (!(f.dev.offered & BIT(i)))
			cr_expect_not(fake_device_negotiate(&f, BIT(i)), "bit %u", i);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
}

WholeTest(virtio, features_ok_is_refused_for_a_hidden_bit)
{
	f.features = BIT(1);
	f.dev.hidden = BIT(1);
	init();
	cr_expect_not(fake_device_negotiate(&f, BIT(1)));
}

WholeTest(virtio, features_ok_is_refused_for_a_bit_past_63)
{
	init();
	fake_device_status(&f, BEFORE);
	virtio_set_features(&f.dev, 1, VERSION_1 >> 32);
	virtio_set_features(&f.dev, 2, 1);
	fake_device_status(&f, BEFORE | FEATURES_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
	cr_expect(fake_device_negotiate(&f, 0), "forgotten by the reset");
}

WholeTest(virtio, zeroes_past_bit_63_are_fine)
{
	init();
	fake_device_status(&f, BEFORE);
	virtio_set_features(&f.dev, 1, VERSION_1 >> 32);
	for (uint32_t word = 2; word < 5; word++)
		virtio_set_features(&f.dev, word, 0);
	fake_device_status(&f, BEFORE | FEATURES_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE | FEATURES_OK);
}

WholeTest(virtio, features_ok_is_refused_without_version_1)
{
	f.features = BIT(0);
	init();
	fake_device_status(&f, BEFORE);
	virtio_set_features(&f.dev, 0, 1);
	fake_device_status(&f, BEFORE | FEATURES_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
	cr_expect_not(virtio_has(&f.dev, 0));
}

WholeTest(virtio, features_ok_is_refused_when_the_device_model_says_no)
{
	init();
	f.negotiated_err = -EINVAL;
	cr_expect_not(fake_device_negotiate(&f, 0));
	f.negotiated_err = 0;
	cr_expect(fake_device_negotiate(&f, 0));
}

WholeTest(virtio, features_can_be_mended_after_a_refusal)
{
	init();
	cr_expect_not(fake_device_negotiate(&f, BIT(7)));
	virtio_set_features(&f.dev, 0, 0);
	fake_device_status(&f, BEFORE | FEATURES_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE | FEATURES_OK);
}

WholeTest(virtio, accepted_features_read_back)
{
	init();
	virtio_set_features(&f.dev, 0, 0x12345678);
	virtio_set_features(&f.dev, 1, 0x9abcdef0);
	cr_expect_eq(virtio_accepted(&f.dev, 0), 0x12345678);
	cr_expect_eq(virtio_accepted(&f.dev, 1), 0x9abcdef0);
	cr_expect_eq(virtio_accepted(&f.dev, 2), 0);
	cr_expect_eq(virtio_accepted(&f.dev, 32), 0);
}

WholeTest(virtio, features_are_frozen_from_features_ok_on)
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

WholeTest(virtio, nothing_is_had_before_features_ok)
{
	init();
	fake_device_status(&f, BEFORE);
	virtio_set_features(&f.dev, 1, VERSION_1 >> 32);
	cr_expect_not(virtio_has(&f.dev, VIRTIO_F_VERSION_1));
}

WholeTest(virtio, the_same_features_are_accepted_again_after_a_reset)
{
	init();
	for (unsigned i = 0; i < 10; i++)
		cr_expect(fake_device_negotiate(&f, RING_BITS));
}

/* --- status --- */

WholeTest(virtio, status_begins_at_zero)
{
	init();
	cr_expect_eq(virtio_status(&f.dev), 0);
}

WholeTest(virtio, status_bits_are_not_cleared_but_by_reset)
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

WholeTest(virtio, a_driver_cannot_set_needs_reset_or_bits_that_do_not_exist)
{
	init();
	fake_device_status(&f, 0x70 | ACK);
	cr_expect_eq(virtio_status(&f.dev), ACK);
	fake_device_status(&f, 0x70);
	cr_expect_eq(virtio_status(&f.dev), ACK);
}

WholeTest(virtio, a_driver_cannot_clear_needs_reset)
{
	init();
	live(0);
	virtio_needs_reset(&f.dev, "test", -EIO);
	fake_device_status(&f, LIVE);
	cr_expect_eq(virtio_status(&f.dev), LIVE | NEEDS_RESET);
}

WholeTest(virtio, driver_ok_before_features_ok_is_ignored)
{
	init();
	fake_device_status(&f, BEFORE | DRIVER_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
	cr_expect_eq(local.start_calls, 0);
}

WholeTest(virtio, driver_ok_together_with_features_ok_is_ignored)
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

WholeTest(virtio, driver_ok_after_a_refusal_is_ignored)
{
	init();
	cr_assert_not(fake_device_negotiate(&f, BIT(7)));
	fake_device_status(&f, BEFORE | DRIVER_OK);
	cr_expect_eq(virtio_status(&f.dev), BEFORE);
}

WholeTest(virtio, a_driver_that_failed_starts_nothing_before_a_reset)
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

WholeTest(virtio, failed_together_with_driver_ok_starts_nothing)
{
	init();
	cr_assert(fake_device_negotiate(&f, 0));
	queues();
	fake_device_status(&f, LIVE | FAILED);
	cr_expect_eq(local.start_calls, 0);
}

WholeTest(virtio, a_device_without_ready_queues_comes_alive)
{
	init();
	cr_assert(fake_device_negotiate(&f, 0));
	fake_device_status(&f, LIVE);
	cr_expect_eq(virtio_status(&f.dev), LIVE);
	cr_expect_eq(local.start_calls, 0);
}

/* --- docs/conformance.md --- */

WholeTest(virtio, every_subset_of_the_ring_bits_is_accepted)
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
WholeTest(virtio, a_value_that_changed_between_two_reads_is_a_new_generation)
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

WholeTest(virtio, init_refuses_a_configuration_that_is_too_large)
{
	f.config_size = VIRTIO_MAX_CONFIG + 1;
	cr_expect_eq(virtio_init(&f.dev, &e), -EINVAL);
	f.config_size = FAKE_DEVICE_CONFIG;
}
