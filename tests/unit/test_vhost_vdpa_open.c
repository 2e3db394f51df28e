/* What is asked of a vDPA device when it is opened, what is refused, and what it then offers. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>

#include "tests/unit/vdpa_rig.h"

TestSuite(vhost_vdpa_open, .init = setup, .fini = teardown_once, .timeout = 60);

WholeTest(vhost_vdpa_open, opening_asks_what_the_device_is)
{
	struct vhost_vdpa_options o = options();

	cr_assert_eq(try_open(o), 0, "%s", e.text);
	cr_expect_str_eq(
		vdpa_fake_log(&fake),
		"open " PATH "\nGET_DEVICE_ID\nSET_OWNER\nGET_BACKEND_FEATURES\n"
		"SET_BACKEND_FEATURES 0x6\nGET_FEATURES\nGET_VRING_NUM\nGET_VQS_COUNT\nGET_CONFIG_SIZE\n");
	cr_expect_eq(vhost_vdpa_device_type(dp), VIRTIO_ID_BLOCK);
}

WholeTest(vhost_vdpa_open, the_offer_is_the_devices)
{
	struct datapath_offer o;

	fake.backend |= SUSPEND;
	open_it();
	cr_assert_eq(dp->ops->offer(dp, &o), 0);
	cr_expect_eq(o.features, fake.features & ~PLATFORM);
	cr_expect_eq(o.opinion, UINT64_MAX);
	cr_expect_eq(o.adds, PLATFORM);
	cr_expect_eq(o.max_queues, 2);
	cr_expect_eq(o.max_queue_size, 256);
	cr_expect_eq(o.device_id, VIRTIO_ID_BLOCK);
	cr_expect_eq(o.config_len, 60);
	cr_expect(o.pins_memory);
	cr_expect_not(o.keeps_fds);
	cr_expect_not(o.drains);
}

WholeTest(vhost_vdpa_open, a_device_without_access_platform_is_not_given_it)
{
	struct datapath_offer o;

	fake.features &= ~PLATFORM;
	open_it();
	dp->ops->offer(dp, &o);
	cr_expect_eq(o.adds, 0);
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	cr_expect_eq(fake.driver_features, VERSION_1);
	stop(0, 1);
}

WholeTest(vhost_vdpa_open, a_path_that_does_not_exist_is_explained)
{
	struct vhost_vdpa_options o = options();

	o.sys = NULL;
	o.path = "/dev/vhost-vdpa-none";
	cr_expect_eq(try_open(o), -ENOENT);
	cr_expect(WITHIN(e, "--disk: vdpa: /dev/vhost-vdpa-none does not exist"), "%s", e.text);
	cr_expect(WITHIN(e, "vdpa dev add name"), "%s", e.text);
	cr_expect(WITHIN(e, access("/sys/module/vhost_vdpa", F_OK) ? "modprobe vhost_vdpa" : "is bound to"),
		  "%s", e.text);
	o.path = NULL;
	cr_expect_eq(try_open(o), -EINVAL);
	cr_expect(WITHIN(e, "path=/dev/vhost-vdpa-N"), "%s", e.text);
}

WholeTest(vhost_vdpa_open, a_file_that_is_no_vdpa_device_is_explained)
{
	struct vhost_vdpa_options o = options();

	o.sys = NULL;
	o.path = "/dev/null";
	cr_expect_eq(try_open(o), -ENOTTY);
	cr_expect(WITHIN(e, "/dev/null is no vDPA device"), "%s", e.text);
}

WholeTest(vhost_vdpa_open, what_open_refuses_is_explained)
{
	static const struct {
		int err;
		const char *says;
	} cases[] = {{EACCES, "chown"},      {EPERM, "chown"},         {EBUSY, "fuser -v " PATH},
		     {EIO, "mgmtdev vduse"}, {ENODEV, "vdpa dev add"}, {EMFILE, "Too many open files"}};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake.open_errno = cases[i].err;
		cr_expect_eq(try_open(options()), -cases[i].err);
		cr_expect(WITHIN(e, cases[i].says), "%d: %s", cases[i].err, e.text);
	}
}

WholeTest(vhost_vdpa_open, another_type_of_device_is_refused)
{
	struct vhost_vdpa_options o = options();

	o.name = "--net";
	o.device_type = VIRTIO_ID_NET;
	cr_expect_eq(try_open(o), -ENODEV);
	cr_expect(WITHIN(e, "is a block device (virtio type 2), not a network device (type 1)"), "%s", e.text);
	cr_expect(WITHIN(e, "--disk vdpa,path="), "%s", e.text);
}

WholeTest(vhost_vdpa_open, an_older_kernel_is_asked_another_way)
{
	struct datapath_offer o;

	fake.old_kernel = true;
	fake.nqueues = 3;
	open_it();
	dp->ops->offer(dp, &o);
	cr_expect_eq(o.max_queues, 3);
	cr_expect_eq(o.config_len, 60);
}

WholeTest(vhost_vdpa_open, a_kernel_without_version_2_messages_is_refused)
{
	fake.backend = 0;
	cr_expect_eq(try_open(options()), -EOPNOTSUPP);
	cr_expect(WITHIN(e, "too old"), "%s", e.text);
}

WholeTest(vhost_vdpa_open, a_legacy_device_is_refused)
{
	fake.features &= ~VERSION_1;
	cr_expect_eq(try_open(options()), -EOPNOTSUPP);
	cr_expect(WITHIN(e, "before virtio 1.0"), "%s", e.text);
}

WholeTest(vhost_vdpa_open, a_device_without_queues_is_refused)
{
	fake.nqueues = 0;
	cr_expect_eq(try_open(options()), -EINVAL);
	cr_expect(WITHIN(e, "0 queues"), "%s", e.text);
}

WholeTest(vhost_vdpa_open, memory_that_is_not_shared_is_refused)
{
	struct vhost_vdpa_options o = options();

	o.mem = &m.mem; /* in no file */
	cr_expect_eq(try_open(o), -EINVAL);
	cr_expect(WITHIN(e, "share=off"), "%s", e.text);
}

WholeTest(vhost_vdpa_open, memory_that_the_device_cannot_address_is_refused)
{
	struct vhost_vdpa_options o = options();

	o.mem = &m.mem;
	for (unsigned i = 0; i < m.mem.nregions; i++)
		m.mem.region[i].fd = 0;
	fake.iova_last = DRIVER_MEM_HIGH_END - 1;
	cr_expect_eq(try_open(o), 0, "%s", e.text);
	dp->ops->destroy(dp);
	fake.iova_last = DRIVER_MEM_HIGH_END - 2;
	cr_expect_eq(try_open(o), -ERANGE);
	cr_expect(WITHIN(e, "0x9ffffe"), "%s", e.text);
	fake.iova_first = 4096;
	fake.iova_last = UINT64_MAX;
	cr_expect_eq(try_open(o), -ERANGE);
}

WholeTest(vhost_vdpa_open, each_call_that_fails_in_opening_leaves_nothing)
{
	const unsigned before = open_fds();
	unsigned refused = 0;

	for (unsigned n = 1; n < MANY; n++) {
		fake.fail_at = n;
		if (try_open(options())) {
			refused++;
			cr_expect(WITHIN(e, PATH), "%s", e.text);
		} else {
			dp->ops->destroy(dp);
			dp = NULL;
		}
		cr_expect_eq(open_fds(), before, "call %u", n);
		if (fake.fail_at)
			break;
	}
	cr_expect_eq(refused, 7); /* two have another way */
}

WholeTest(vhost_vdpa_open, an_open_descriptor_is_taken_over)
{
	struct vhost_vdpa_options o = options();
	int fd = eventfd(0, 0);

	o.fd = &fd;
	fake.open_errno = EIO; /* not asked */
	fake.nqueues = 0;
	cr_expect_neq(try_open(o), 0);
	cr_expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC); /* still ours */
	fake.owned = false;
	fake.nqueues = 2;
	cr_assert_eq(try_open(o), 0, "%s", e.text);
	dp->ops->destroy(dp);
	dp = NULL;
	cr_expect_eq(fcntl(fd, F_GETFD), -1);
}

/* --- a network device --- */

static void net_device(void)
{
	fake.device_id = VIRTIO_ID_NET;
	fake.nqueues = 5;
	fake.features |= BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			 BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_RSS);
}

WholeTest(vhost_vdpa_open, with_a_control_queue_of_ours_the_devices_own_is_hidden)
{
	const uint64_t ours =
		BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);
	struct vhost_vdpa_options o = options();
	struct datapath_offer offer;

	net_device();
	o.own_ctrl = true;
	cr_assert_eq(try_open(o), 0, "%s", e.text);
	dp->ops->offer(dp, &offer);
	cr_expect_eq(offer.features & ours, 0);
	cr_expect_eq(offer.opinion & ours, 0); /* the core may offer them */
	cr_expect_eq(offer.opinion & (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS)), 0);
	cr_expect(offer.features & BIT(VIRTIO_NET_F_MAC));
	cr_expect_eq(offer.features & BIT(VIRTIO_NET_F_RSS), 0);
	cr_expect_eq(offer.max_queues, 2);
	features = VERSION_1 | BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_CTRL_VQ);
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	cr_expect_eq(fake.driver_features, VERSION_1 | PLATFORM | BIT(VIRTIO_NET_F_MAC));
	stop(0, 2);
}

WholeTest(vhost_vdpa_open, a_card_tells_its_address_if_it_has_one)
{
	static const uint8_t address[6] = {0x52, 0x54, 0, 1, 2, 3};
	struct vhost_vdpa_options o = options();
	uint8_t mac[6] = {0};

	net_device();
	memcpy(fake.config, address, sizeof(address));
	o.own_ctrl = true;
	cr_assert_eq(try_open(o), 0, "%s", e.text);
	cr_expect(vhost_vdpa_mac(dp, mac));
	cr_expect_eq(memcmp(mac, address, sizeof(mac)), 0);
	dp->ops->destroy(dp);
	dp = NULL;
	fake.features &= ~BIT(VIRTIO_NET_F_MAC);
	cr_assert_eq(try_open(o), 0, "%s", e.text);
	cr_expect_not(vhost_vdpa_mac(dp, mac));
}

WholeTest(vhost_vdpa_open, a_device_with_its_own_control_queue_is_offered_whole)
{
	struct datapath_offer offer;

	net_device();
	open_it();
	dp->ops->offer(dp, &offer);
	cr_expect_eq(offer.max_queues, 5);
	cr_expect_eq(offer.features, fake.features & ~PLATFORM);
	cr_expect_eq(offer.opinion, UINT64_MAX);
}
