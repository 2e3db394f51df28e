#include <criterion/criterion.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
#include <string.h>
#include <unistd.h>

#include "backends/vhost_vsock.h"
#include "devices/virtio/generic.h"
#include "lib/cleanup.h"
#include "tests/fake/fake_transport.h"
#include "tests/unit/vhost_rig.h"

#define NQUEUES 2

static struct vhost_vsock_config c;

static void init(void)
{
	rig_init(VHOST_FAKE_VSOCK, NQUEUES);
	c = (struct vhost_vsock_config){.name = "vsock0", .cid = 42, .loop = thread.loop};
}

TestSuite(vhost_vsock, .init = init, .fini = teardown_once, .timeout = 60);

static void make(void)
{
	dp = vhost_vsock_new(&c, &e);
	cr_assert(dp, "%s", e.text);
	dp->events = &events;
	vhost_fake_log(&f);
}

static void expect_idle(unsigned i)
{
	expect("0 SET_VRING_NUM %u 1\n0 SET_VRING_BASE %u 0\n0 SET_VRING_ADDR %u idle\n", i, i, i);
}

/* --- opening --- */

WholeTest(vhost_vsock, takes_the_cid)
{
	dp = vhost_vsock_new(&c, &e);
	cr_assert(dp);
	cr_expect_str_eq(f.path, "/dev/vhost-vsock");
	cr_expect_str_eq(vhost_fake_log(&f), "0 SET_OWNER\n0 GET_FEATURES\n0 VSOCK_SET_GUEST_CID 42\n");
}

WholeTest(vhost_vsock, a_host_without_it_is_told_what_to_do)
{
	f.open_errno = ENOENT;
	cr_expect_not(vhost_vsock_new(&c, &e));
	cr_expect(strstr(e.text, "--vsock"), "%s", e.text);
	cr_expect(strstr(e.text, "modprobe vhost_vsock"), "%s", e.text);
}

WholeTest(vhost_vsock, reserved_cids_are_refused)
{
	static const uint64_t bad[] = {0, 1, 2, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX};
	static const uint64_t good[] = {3, UINT32_MAX - 1};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		c.cid = bad[i];
		cr_expect_not(vhost_vsock_new(&c, &e));
		cr_expect_eq(e.code, -EINVAL);
		cr_expect(strstr(e.text, "3 to 4294967294"), "%s", e.text);
	}
	cr_expect_eq(f.calls, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		c.cid = good[i];
		make();
		cr_expect_eq(f.cid, good[i]);
		destroy_datapath();
	}
}

WholeTest(vhost_vsock, a_cid_that_is_taken_is_explained)
{
	const unsigned before = open_fds();

	f.fail = VHOST_VSOCK_SET_GUEST_CID;
	f.fail_times = 1;
	f.fail_errno = EADDRINUSE;
	cr_expect_not(vhost_vsock_new(&c, &e));
	cr_expect_eq(e.code, -EADDRINUSE);
	cr_expect(strstr(e.text, "cid=42 is another virtual machine's"), "%s", e.text);
	cr_expect_eq(open_fds(), before);
}

WholeTest(vhost_vsock, nothing_stays_open_when_it_ends)
{
	const unsigned before = open_fds();

	make();
	destroy_datapath();
	cr_expect_eq(open_fds(), before);
}

WholeTest(vhost_vsock, offers_what_the_kernel_says)
{
	struct datapath_offer offer;

	make();
	cr_assert_eq(dp->ops->offer(dp, &offer), 0);
	cr_expect_eq(offer.features, VERSION_1 | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
					     BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(1 /* SEQPACKET */));
	cr_expect_eq(offer.opinion, UINT64_MAX);
	cr_expect_eq(offer.max_queues, 2);
	cr_expect_eq(offer.device_id, VIRTIO_ID_VSOCK);
	cr_expect_eq(offer.config_len, sizeof(struct virtio_vsock_config));
	cr_expect(offer.drains);
}

WholeTest(vhost_vsock, the_configuration_is_the_cid)
{
	static const uint8_t cid[] = {0x04, 0x03, 0x02, 0x01, 0, 0, 0, 0};
	uint8_t got[8];

	c.cid = 0x01020304;
	make();
	cr_expect_eq(dp->ops->config_read(dp, 0, got, 8), 0);
	cr_expect_arr_eq(got, cid, 8);
	cr_expect_eq(dp->ops->config_read(dp, 2, got, 1), 0);
	cr_expect_eq(got[0], 2);
	cr_expect_eq(dp->ops->config_read(dp, 1, got, 8), -EINVAL);
	cr_expect_eq(dp->ops->config_read(dp, SIZE_MAX, got, 8), -EINVAL);
}

/* --- start and stop --- */

WholeTest(vhost_vsock, starts_with_the_switch_last)
{
	make();
	cr_assert_eq(start(&setup), 0);
	expect_life(0);
	expect_vring(0, 0);
	expect_vring(0, 1);
	expect("0 VSOCK_SET_RUNNING 1\n");
	as_expected();
	stop(&setup);
	expect("0 VSOCK_SET_RUNNING 0\n");
	expect_given_back(0, 0);
	expect_given_back(0, 1);
	as_expected();
}

WholeTest(vhost_vsock, a_queue_that_is_not_used_gets_an_empty_ring)
{
	struct datapath_setup tx = some(1, 1);

	make();
	cr_assert_eq(start(&tx), 0);
	expect_life(0);
	expect_idle(0);
	expect_vring(0, 1);
	expect("0 VSOCK_SET_RUNNING 1\n");
	as_expected();
	cr_expect(f.file[0].vring[0].on);
	cr_expect_not(f.file[0].vring[0].vq, "no ring of the guest's");
	stop(&tx);
}

WholeTest(vhost_vsock, a_queue_stopped_alone_is_let_go_of_and_the_other_runs_on)
{
	struct datapath_setup rx = some(0, 1), tx = some(1, 1);
	eventfd_t kicks;

	make();
	cr_assert_eq(start(&setup), 0);
	vhost_fake_log(&f);
	stop(&rx);
	expect("0 VSOCK_SET_RUNNING 0\n");
	expect_given_back(0, 0);
	expect_idle(0);
	expect("0 VSOCK_SET_RUNNING 1\n");
	as_expected();
	cr_expect(f.file[0].vring[1].vq);
	cr_expect_eq(eventfd_read(q[1].kick_fd, &kicks), 0, "what was kicked meanwhile is lost");
	cr_expect_neq(eventfd_read(q[0].kick_fd, &kicks), 0);

	cr_assert_eq(start(&rx), 0);
	expect("0 VSOCK_SET_RUNNING 0\n");
	expect_vring(0, 0);
	expect("0 VSOCK_SET_RUNNING 1\n");
	as_expected();
	cr_expect_eq(eventfd_read(q[1].kick_fd, &kicks), 0, "what was kicked meanwhile is lost");
	stop(&rx);
	stop(&tx);
	cr_expect_not(f.file[0].vring[0].on || f.file[0].vring[1].on);
}

WholeTest(vhost_vsock, a_queue_that_does_not_start_leaves_the_other_running)
{
	static const unsigned long requests[] = {
		VHOST_SET_VRING_NUM,  VHOST_SET_VRING_BASE, VHOST_SET_VRING_ADDR,    VHOST_SET_VRING_KICK,
		VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,  VHOST_VSOCK_SET_RUNNING,
	};
	struct datapath_setup rx = some(0, 1), tx = some(1, 1);
	unsigned before;

	make();
	cr_assert_eq(start(&tx), 0);
	before = open_fds();
	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
		for (unsigned after = 0; after <= (requests[i] == VHOST_VSOCK_SET_RUNNING); after++) {
			f.fail = requests[i];
			f.fail_after = after;
			f.fail_times = 1;
			cr_expect_eq(start(&rx), -EIO, "request %u", i);
			cr_expect_eq(open_fds(), before, "request %u", i);
			cr_expect(f.file[0].vring[1].vq, "request %u", i);
			cr_expect_not(f.file[0].vring[0].vq, "request %u", i);
		}
	cr_expect_eq(failures, 0);
	cr_expect_eq(start(&rx), 0);
	stop(&setup);
}

WholeTest(vhost_vsock, one_that_cannot_go_on_has_failed)
{
	struct datapath_setup rx = some(0, 1), tx = some(1, 1);

	make();
	cr_assert_eq(start(&setup), 0);
	f.fail = VHOST_VSOCK_SET_RUNNING;
	f.fail_after = 1;
	f.fail_times = 1;
	stop(&rx);
	cr_expect_eq(failures, 1);
	stop(&tx);
	cr_expect_eq(start(&setup), 0);
	stop(&setup);
}

WholeTest(vhost_vsock, the_rest_of_one_that_does_not_stop_has_failed)
{
	struct datapath_setup rx = some(0, 1), tx = some(1, 1);

	make();
	cr_assert_eq(start(&setup), 0);
	f.fail = VHOST_VSOCK_SET_RUNNING;
	f.fail_times = 1;
	stop(&rx);
	cr_expect_eq(failures, 1);
	stop(&tx);
	cr_expect_eq(failures, 1);
}

WholeTest(vhost_vsock, a_start_that_fails_leaves_nothing)
{
	unsigned before;

	make();
	before = open_fds();
	for (unsigned after = 0; after < 2; after++) {
		f.fail = VHOST_SET_VRING_CALL;
		f.fail_after = after;
		f.fail_times = 1;
		cr_expect_eq(start(&setup), -EIO);
		cr_expect_eq(open_fds(), before);
	}
	f.fail = VHOST_VSOCK_SET_RUNNING;
	f.fail_times = 1;
	cr_expect_eq(start(&setup), -EIO);
	cr_expect_eq(open_fds(), before);
	cr_expect_not(f.file[0].vring[0].on);
}

/* --- what every datapath must do --- */

WholeTest(vhost_vsock, conforms)
{
	make();
	conforms(0, NQUEUES, 64);
	cr_expect_eq(failures, 0);
}

WholeTest(vhost_vsock, conforms_with_event_idx)
{
	make();
	conforms(BIT(VIRTIO_RING_F_EVENT_IDX), NQUEUES, 64);
	cr_expect_eq(failures, 0);
}

/* --- as the device is put together --- */

WholeTest(vhost_vsock, events_are_left_where_they_are)
{
	struct driver_ring event;
	struct fake_transport t;
	struct generic_config g = {
		.name = "vsock0",
		.type = "vsock",
		.mem = &m.mem,
		.loop = thread.loop,
		.features = UINT64_MAX,
		.nqueues = VHOST_VSOCK_QUEUES,
		.idle_queues = BIT(VHOST_VSOCK_EVENT_QUEUE),
	};
	struct driver_buf buf = {driver_mem_alloc(&m, 16, 16), 16, false};
	struct driver_buf event_buf = {driver_mem_alloc(&m, 16, 16), 16, true};
	struct virtio_device *dev;
	bool back = false;

	make();
	g.datapath = dp;
	dev = generic_new(&g, &e);
	cr_assert(dev, "%s", e.text);
	dp = NULL;
	fake_transport_init(&t, dev);
	driver_ring_init(&event, &m, SIZE, 0, 0);

	virtio_lock(dev);
	virtio_set_status(dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_features(dev, 1, VERSION_1 >> 32);
	virtio_set_status(dev, VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned i = 0; i < 3; i++) {
		const struct driver_ring *r = i < 2 ? &ring[i] : &event;

		virtio_queue_set_size(dev, i, SIZE);
		virtio_queue_set_addr(dev, i, VIRTIO_QUEUE_DESC, false, (uint32_t)r->desc_gpa);
		virtio_queue_set_addr(dev, i, VIRTIO_QUEUE_AVAIL, false, (uint32_t)r->avail_gpa);
		virtio_queue_set_addr(dev, i, VIRTIO_QUEUE_USED, false, (uint32_t)r->used_gpa);
		virtio_queue_set_ready(dev, i, true);
	}
	driver_ring_add(&event, &event_buf, 1);
	driver_ring_kick(&event);
	virtio_set_status(dev, VIRTIO_CONFIG_S_DRIVER_OK);
	driver_ring_add(&ring[1], &buf, 1);
	driver_ring_kick(&ring[1]);
	virtio_queue_notify(dev, 1);
	virtio_queue_notify(dev, 2);
	for (unsigned i = 0; i < 1000 && !back; i++) {
		back = driver_ring_collect(&ring[1], NULL, NULL) == 1;
		usleep(1000);
	}
	cr_expect(back);
	cr_expect_eq(driver_ring_collect(&event, NULL, NULL), 0);
	cr_expect_eq(virtio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	virtio_unlock(dev);
	virtio_fini(dev);
	dev->ops->destroy(dev);
}
