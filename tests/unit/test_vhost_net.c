#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <unistd.h>

#include "backends/vhost_net.h"
#include "lib/cleanup.h"
#include "tests/fake/fake_device.h"
#include "tests/fake/fake_transport.h"
#include "tests/unit/vhost_rig.h"

#define NPAIRS  2
#define NQUEUES (2 * NPAIRS)

static struct vhost_net_config c;
static int tap[NPAIRS];

static void init(void)
{
	for (unsigned i = 0; i < NPAIRS; i++)
		tap[i] = eventfd(0, EFD_CLOEXEC);
	rig_init(VHOST_FAKE_NET, NQUEUES);
	c = (struct vhost_net_config){.name = "net0", .taps = tap, .npairs = NPAIRS, .loop = thread.loop};
}

TestSuite(vhost_net, .init = init, .fini = teardown_once, .timeout = 60);

static void make(unsigned npairs)
{
	c.npairs = npairs;
	dp = vhost_net_new(&c, &e);
	cr_assert(dp, "%s", e.text);
	vhost_fake_log(&f);
}

static void expect_backend(unsigned file, unsigned vring, bool on)
{
	expect("%u NET_SET_BACKEND %u %d\n", file, vring, on ? tap[file] : -1);
}

/* --- opening --- */

WholeTest(vhost_net, each_pair_is_a_file_of_its_own)
{
	c.path = NULL;
	dp = vhost_net_new(&c, &e);
	cr_assert(dp);
	cr_expect_str_eq(f.path, "/dev/vhost-net");
	cr_expect_str_eq(vhost_fake_log(&f), "0 SET_OWNER\n0 GET_FEATURES\n1 SET_OWNER\n1 GET_FEATURES\n");
}

WholeTest(vhost_net, a_host_without_it_is_told_what_to_do)
{
	f.open_errno = ENOENT;
	cr_expect_not(vhost_net_new(&c, &e));
	cr_expect_eq(e.code, -ENOENT);
	cr_expect(strstr(e.text, "vhost=on"), "%s", e.text);
	cr_expect(strstr(e.text, "modprobe vhost_net"), "%s", e.text);
}

WholeTest(vhost_net, a_second_pair_that_cannot_be_leaves_nothing_of_the_first)
{
	const unsigned before = open_fds();

	f.fail = VHOST_SET_OWNER;
	f.fail_after = 1;
	f.fail_times = 1;
	cr_expect_not(vhost_net_new(&c, &e));
	cr_expect_eq(open_fds(), before);
}

WholeTest(vhost_net, nothing_stays_open_when_it_ends)
{
	const unsigned before = open_fds();

	make(NPAIRS);
	destroy_datapath();
	cr_expect_eq(open_fds(), before);
	cr_expect_eq(fcntl(tap[1], F_GETFD), FD_CLOEXEC, "the taps are not its own");
}

WholeTest(vhost_net, busy_polling_is_set_on_both_vrings_of_each_pair)
{
	c.busy_poll_us = 50;
	make(NPAIRS);
	for (unsigned i = 0; i < NPAIRS; i++) {
		cr_expect_eq(f.file[i].vring[0].busy_poll, 50);
		cr_expect_eq(f.file[i].vring[1].busy_poll, 50);
	}
}

WholeTest(vhost_net, a_kernel_without_busy_polling_is_called_so)
{
	const unsigned before = open_fds();

	c.busy_poll_us = 50;
	f.fail = VHOST_SET_VRING_BUSYLOOP_TIMEOUT;
	f.fail_times = 1;
	f.fail_errno = ENOTTY;
	cr_expect_not(vhost_net_new(&c, &e));
	cr_expect(strstr(e.text, "Linux 4.6"), "%s", e.text);
	cr_expect_eq(open_fds(), before);
}

/* --- what it offers --- */

static struct datapath_offer offered(void)
{
	struct datapath_offer offer = {0};

	cr_assert_eq(dp->ops->offer(dp, &offer), 0);
	return offer;
}

WholeTest(vhost_net, offers_what_the_kernel_says_of_rings)
{
	struct datapath_offer offer;

	make(NPAIRS);
	offer = offered();
	cr_expect_eq(offer.features, VERSION_1 | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
					     BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_RING_RESET) |
					     BIT(VIRTIO_NET_F_MRG_RXBUF));
	cr_expect_eq(offer.max_queues, NQUEUES);
	cr_expect_eq(offer.device_id, VIRTIO_ID_NET);
	cr_expect_eq(offer.config_len, 0);
	cr_expect(offer.drains);
	cr_expect_not(offer.keeps_fds);
	cr_expect_not(offer.pins_memory);
	cr_expect_eq(offer.adds, 0);
}

WholeTest(vhost_net, has_a_say_in_packed_rings_and_no_for_an_answer)
{
	f.features |= BIT(VIRTIO_F_RING_PACKED); /* none does, today */
	f.features &= ~(BIT(VIRTIO_F_RING_RESET) | BIT(VIRTIO_NET_F_MRG_RXBUF));
	make(1);
	cr_expect(offered().opinion & BIT(VIRTIO_F_RING_PACKED));
	cr_expect(offered().opinion & BIT(VIRTIO_F_IN_ORDER));
	cr_expect_not(offered().features & BIT(VIRTIO_F_IN_ORDER));
	cr_expect(offered().opinion & BIT(VIRTIO_NET_F_MRG_RXBUF));
	cr_expect_not(offered().features & BIT(VIRTIO_NET_F_MRG_RXBUF));
	cr_expect_not(offered().features & BIT(VIRTIO_F_RING_RESET));
}

WholeTest(vhost_net, is_silent_on_what_the_tap_does)
{
	static const unsigned taps[] = {VIRTIO_NET_F_CSUM,      VIRTIO_NET_F_GUEST_CSUM,
					VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
					VIRTIO_NET_F_MAC,       VIRTIO_NET_F_CTRL_VQ,
					VIRTIO_NET_F_MQ,        VIRTIO_NET_F_STATUS};

	f.features = UINT64_MAX;
	make(1);
	for (unsigned i = 0; i < ARRAY_SIZE(taps); i++) {
		cr_expect_not(offered().opinion & BIT(taps[i]), "bit %u", taps[i]);
		cr_expect_not(offered().features & BIT(taps[i]), "bit %u", taps[i]);
	}
}

WholeTest(vhost_net, is_told_of_no_feature_it_does_not_know)
{
	make(1);
	setup.nqueues = 2;
	setup.features = VERSION_1 | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_CSUM) |
			 BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_RING_F_EVENT_IDX);
	cr_assert_eq(start(&setup), 0);
	cr_expect_eq(f.file[0].features,
		     VERSION_1 | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_RING_F_EVENT_IDX));
	stop(&setup);
}

WholeTest(vhost_net, never_makes_the_header_itself)
{
	f.features = UINT64_MAX;
	make(1);
	setup.nqueues = 2;
	setup.features = UINT64_MAX;
	cr_assert_eq(start(&setup), 0);
	cr_expect_not(f.file[0].features & BIT(VHOST_NET_F_VIRTIO_NET_HDR));
	cr_expect_not(f.file[0].features & BIT(VIRTIO_F_ACCESS_PLATFORM));
	cr_expect_not(f.file[0].features & BIT(VIRTIO_NET_F_CSUM));
	stop(&setup);
}

/* --- start and stop --- */

WholeTest(vhost_net, starts_with_the_taps_last)
{
	make(NPAIRS);
	q[2].next = 0;
	cr_assert_eq(start(&setup), 0);
	for (unsigned i = 0; i < NPAIRS; i++) {
		expect_life(i);
		expect_vring(i, 0);
		expect_vring(i, 1);
		expect_backend(i, 0, true);
		expect_backend(i, 1, true);
	}
	as_expected();
	stop(&setup);
}

WholeTest(vhost_net, stops_with_the_taps_first)
{
	make(NPAIRS);
	cr_assert_eq(start(&setup), 0);
	vhost_fake_log(&f);
	stop(&setup);
	for (unsigned i = 0; i < NPAIRS; i++) {
		expect_backend(i, 0, false);
		expect_backend(i, 1, false);
		expect_given_back(i, 0);
		expect_given_back(i, 1);
	}
	as_expected();
}

WholeTest(vhost_net, the_second_pair_alone_leaves_the_first_alone)
{
	struct datapath_setup s = some(2, 2);

	make(NPAIRS);
	cr_assert_eq(start(&s), 0);
	expect_life(1);
	expect_vring(1, 0);
	expect_vring(1, 1);
	expect_backend(1, 0, true);
	expect_backend(1, 1, true);
	as_expected();
	stop(&s);
	expect_backend(1, 0, false);
	expect_backend(1, 1, false);
	expect_given_back(1, 0);
	expect_given_back(1, 1);
	as_expected();
}

WholeTest(vhost_net, a_queue_started_later_changes_neither_features_nor_memory)
{
	struct datapath_setup rx = some(0, 1), tx = some(1, 1);

	make(1);
	cr_assert_eq(start(&rx), 0);
	vhost_fake_log(&f);
	cr_assert_eq(start(&tx), 0);
	expect_vring(0, 1);
	expect_backend(0, 1, true);
	as_expected();
	stop(&rx);
	expect_backend(0, 0, false);
	expect_given_back(0, 0);
	as_expected();
	cr_expect(f.file[0].vring[1].on);
	stop(&tx);
}

WholeTest(vhost_net, features_and_memory_are_told_anew_in_each_life)
{
	make(1);
	setup.nqueues = 2;
	setup.features |= BIT(VIRTIO_NET_F_MRG_RXBUF);
	cr_assert_eq(start(&setup), 0);
	stop(&setup);
	setup.features = VERSION_1;
	vhost_fake_log(&f);
	cr_assert_eq(start(&setup), 0);
	cr_expect_eq(f.file[0].features, VERSION_1);
	cr_expect(strstr(vhost_fake_log(&f), "SET_MEM_TABLE"));
	stop(&setup);
}

WholeTest(vhost_net, a_tap_that_is_refused_undoes_all_that_was_started)
{
	make(NPAIRS);
	for (unsigned after = 0; after < NQUEUES; after++) {
		const unsigned before = open_fds();

		f.fail = VHOST_NET_SET_BACKEND;
		f.fail_after = after;
		f.fail_times = 1;
		f.fail_errno = EINVAL;
		cr_expect_eq(start(&setup), -EINVAL, "after %u", after);
		cr_expect_eq(open_fds(), before, "after %u", after);
		for (unsigned i = 0; i < NQUEUES; i++)
			cr_expect_not(f.file[i / 2].vring[i % 2].on, "after %u", after);
	}
	cr_expect_eq(start(&setup), 0);
	stop(&setup);
}

WholeTest(vhost_net, a_second_pair_that_fails_undoes_the_first)
{
	const gpa_t desc = q[3].desc;
	unsigned before;

	make(NPAIRS);
	before = open_fds();
	q[3].desc = DRIVER_MEM_LOW_END;
	cr_expect_eq(start(&setup), -EFAULT);
	q[3].desc = desc;
	cr_expect_eq(open_fds(), before);
	for (unsigned i = 0; i < NQUEUES; i++) {
		cr_expect_not(f.file[i / 2].vring[i % 2].on);
		cr_expect_eq(f.file[i / 2].vring[i % 2].kick, -1);
	}
	cr_expect_eq(start(&setup), 0);
	stop(&setup);
}

/* --- what every datapath must do --- */

static void pairs_conform(unsigned npairs, uint64_t features, uint16_t size)
{
	make(npairs);
	conforms(features, 2 * npairs, size);
	for (unsigned i = 0; i < 2 * npairs; i++) {
		cr_expect_not(f.file[i / 2].vring[i % 2].on);
		cr_expect_gt(f.file[i / 2].vring[i % 2].served, 100);
	}
}

WholeTest(vhost_net, conforms_with_one_pair)
{
	pairs_conform(1, 0, 64);
}

WholeTest(vhost_net, conforms_with_two_pairs_and_event_idx)
{
	pairs_conform(2, BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_NET_F_MRG_RXBUF), 256);
}

/* --- under the core --- */

#define LIVE                                                                                                   \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                  \
	 VIRTIO_CONFIG_S_DRIVER_OK)

static struct fake_device d;
static struct fake_transport transport;

static void live(uint64_t features)
{
	cr_assert(fake_device_negotiate(&d, features));
	for (unsigned i = 0; i < 2; i++)
		fake_device_queue(&d, i, SIZE, ring[i].desc_gpa, ring[i].avail_gpa, ring[i].used_gpa);
	fake_device_status(&d, LIVE);
}

static void under_the_core(void)
{
	static struct virtio_device_ops net;

	make(1);
	fake_device_init(&d, &m.mem, thread.loop);
	net = *d.dev.ops;
	net.id = VIRTIO_ID_NET;
	d.dev.ops = &net;
	d.dev.remote = dp;
	fake_transport_init(&transport, &d.dev);
	cr_assert_eq(virtio_init(&d.dev, &e), 0, "%s", e.text);
}

static bool comes_back(struct driver_ring *r)
{
	for (unsigned i = 0; i < 1000; i++) {
		if (driver_ring_collect(r, NULL, NULL) == 1)
			return true;
		usleep(1000);
	}
	return false;
}

WholeTest(vhost_net, what_was_kicked_before_the_start_is_served)
{
	struct driver_buf buf = {driver_mem_alloc(&m, 16, 16), 16, false};

	under_the_core();
	driver_ring_add(&ring[1], &buf, 1);
	driver_ring_kick(&ring[1]); /* and nobody is told */
	live(0);
	cr_expect_eq(virtio_status(&d.dev), LIVE);
	cr_expect(comes_back(&ring[1]));
	fake_device_status(&d, 0);
	virtio_fini(&d.dev);
}

WholeTest(vhost_net, a_broken_ring_makes_the_device_need_a_reset_and_a_reset_mends_it)
{
	under_the_core();
	live(0);
	vhost_fake_error(&f, 0, 1);
	for (unsigned i = 0; i < 1000 && virtio_status(&d.dev) == LIVE; i++)
		usleep(1000);
	cr_expect_eq(virtio_status(&d.dev), LIVE | VIRTIO_CONFIG_S_NEEDS_RESET);
	fake_device_status(&d, 0);
	live(0);
	cr_expect_eq(virtio_status(&d.dev), LIVE);
	cr_expect(f.file[0].vring[1].on);
	virtio_fini(&d.dev);
	cr_expect_not(f.file[0].vring[1].on);
}

WholeTest(vhost_net, a_device_of_another_kind_is_refused)
{
	make(1);
	fake_device_init(&d, &m.mem, thread.loop);
	d.dev.remote = dp;
	cr_expect_eq(virtio_init(&d.dev, &e), -ENODEV);
	cr_expect(strstr(e.text, "vhost-net"), "%s", e.text);
}
