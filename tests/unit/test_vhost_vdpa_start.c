/* From reset to DRIVER_OK: what a vDPA device is told in which order, and what is undone when it refuses. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/vdpa_rig.h"

TestSuite(vhost_vdpa_start, .init = setup, .fini = teardown_once, .timeout = 60);

WholeTest(vhost_vdpa_start, start_goes_from_reset_to_driver_ok)
{
	char want[2048];

	open_it();
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	snprintf(want, sizeof(want),
		 UP MAP "%s%sSET_CONFIG_CALL\nSET_VRING_ENABLE 0 1\nSET_VRING_ENABLE 1 1\n"
			"SET_STATUS 0xf\nGET_STATUS\n",
		 queue_up(0, 0), queue_up(1, 0));
	cr_expect_str_eq(vdpa_fake_log(&fake), want, "%s", want);
	send(0);
	cr_expect(comes_back(0));
	stop(0, 2);
	is_free();
}

WholeTest(vhost_vdpa_start, start_resumes_where_it_is_told)
{
	open_it();
	rings(features);
	q[0].next = 0x1234;
	ring[0].avail->idx = ring[0].used->idx = ring[0].avail_pos = ring[0].used_pos = 0x1234;
	cr_assert_eq(start(0, 1), 0);
	cr_expect(strstr(vdpa_fake_log(&fake), "SET_VRING_BASE 0 0x1234\n"));
	stop(0, 1);
	cr_expect_eq(q[0].next, 0x1234);
}

WholeTest(vhost_vdpa_start, a_packed_ring_is_told_both_halves)
{
	fake.features |= PACKED;
	features |= PACKED;
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	cr_expect(strstr(vdpa_fake_log(&fake), "SET_VRING_BASE 0 0x80008000\n"));
	stop(0, 1);
	cr_expect_eq(q[0].next, 0x8000);
	cr_expect_not(q[0].lost);
}

WholeTest(vhost_vdpa_start, without_batches_memory_is_mapped_piece_by_piece)
{
	const char *log;

	fake.backend &= ~BATCH;
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	log = vdpa_fake_log(&fake);
	cr_expect(strstr(log, "IOTLB_UPDATE 0 0x400000\nIOTLB_UPDATE 0x800000 0x200000\n"));
	cr_expect_null(strstr(log, "BATCH"));
	stop(0, 1);
	cr_expect_null(strstr(vdpa_fake_log(&fake), "BATCH"));
	is_free();
}

WholeTest(vhost_vdpa_start, memory_is_pinned_while_queues_run)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	cr_expect_eq(m.mem.pins, 1);
	cr_assert_eq(start(1, 1), 0);
	cr_expect_eq(m.mem.pins, 1);
	stop(0, 1);
	cr_expect_eq(m.mem.pins, 1);
	stop(1, 1);
	cr_expect_eq(m.mem.pins, 0);
}

WholeTest(vhost_vdpa_start, a_status_that_is_refused_in_silence_is_seen)
{
	static const uint8_t bits[] = {VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER,
				       VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK};

	open_it();
	rings(features);
	for (unsigned i = 0; i < sizeof(bits); i++) {
		fake.refuses = bits[i];
		cr_expect_eq(start(0, 2), -EIO);
		is_free();
	}
	fake.refuses = 0;
	cr_assert_eq(start(0, 2), 0);
	stop(0, 2);
}

WholeTest(vhost_vdpa_start, each_call_that_fails_in_a_start_leaves_nothing)
{
	unsigned before, n;

	open_it();
	rings(features);
	before = open_fds();
	for (n = 1; n < MANY; n++) {
		int rc;

		fake.fail_at = n;
		fake.fail_errno = ENOMEM;
		rc = start(0, 2);
		if (!rc)
			break;
		cr_expect_eq(rc, -ENOMEM, "call %u", n);
		is_free();
		cr_expect_eq(open_fds(), before, "call %u", n);
	}
	cr_expect_eq(n, 28);
	fake.fail_at = 0;
	send(0);
	cr_expect(comes_back(0));
	stop(0, 2);
	is_free();
}

WholeTest(vhost_vdpa_start, a_ring_outside_memory_is_refused)
{
	open_it();
	rings(features);
	q[0].desc = DRIVER_MEM_LOW_END - 16 * SIZE + 16;
	cr_expect_eq(start(0, 1), -EFAULT);
	driver_ring_queue(&ring[0], &q[0]);
	q[0].avail = DRIVER_MEM_LOW_END - 4 - 2 * SIZE;
	cr_expect_eq(start(0, 1), -EFAULT);
	driver_ring_queue(&ring[0], &q[0]);
	q[0].used = DRIVER_MEM_LOW_END - 4 - 8 * SIZE;
	cr_expect_eq(start(0, 1), -EFAULT);
	driver_ring_queue(&ring[0], &q[0]);
	q[0].used = UINT64_MAX - 3;
	cr_expect_eq(start(0, 1), -EFAULT);
	driver_ring_queue(&ring[0], &q[0]);
	q[0].used += 2;
	cr_expect_eq(start(0, 1), -EINVAL);
	is_free();
}

WholeTest(vhost_vdpa_start, what_was_not_offered_is_refused)
{
	open_it();
	rings(features);
	features = VERSION_1 | PLATFORM;
	cr_expect_eq(start(0, 1), -EINVAL);
	features = VERSION_1 | PACKED;
	cr_expect_eq(start(0, 1), -EINVAL);
	features = VERSION_1;
	q[0].index = 2;
	cr_expect_eq(start(0, 1), -EINVAL);
	cr_expect_str_eq(vdpa_fake_log(&fake), "");
}

WholeTest(vhost_vdpa_start, what_only_the_device_sees_is_not_counted)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	cr_expect_eq(stats[0].kicks, QUEUE_STAT_UNSEEN);
	cr_expect_eq(stats[0].bytes, QUEUE_STAT_UNSEEN);
	cr_expect_eq(stats[0].syscalls, 0);
	stop(0, 1);
	cr_expect_eq(stats[0].kicks, 0);
}
