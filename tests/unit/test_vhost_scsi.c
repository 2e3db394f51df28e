#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_scsi.h>
#include <string.h>
#include <unistd.h>

#include "backends/vhost_scsi.h"
#include "lib/cleanup.h"
#include "tests/unit/vhost_rig.h"

#define NQUEUES 4
#define WWPN    "naa.5001405012345678"

static struct vhost_scsi_config c;

static void init(void)
{
	rig_init(VHOST_FAKE_SCSI, NQUEUES);
	strcpy(f.wwpn, WWPN);
	c = (struct vhost_scsi_config){.name = "scsi0",
				       .wwpn = WWPN,
				       .tpgt = 1,
				       .nrequest = NQUEUES - VHOST_SCSI_FIXED_QUEUES,
				       .loop = thread.loop};
}

TestSuite(vhost_scsi, .init = init, .fini = teardown_once, .timeout = 60);

static void make(void)
{
	dp = vhost_scsi_new(&c, &e);
	cr_assert(dp, "%s", e.text);
	vhost_fake_log(&f);
}

/* --- opening --- */

WholeTest(vhost_scsi, the_target_is_tried_before_the_guest_runs)
{
	dp = vhost_scsi_new(&c, &e);
	cr_assert(dp, "%s", e.text);
	cr_expect_str_eq(f.path, "/dev/vhost-scsi");
	cr_expect_str_eq(vhost_fake_log(&f), "0 SET_OWNER\n0 GET_FEATURES\n0 SCSI_GET_ABI_VERSION\n"
					     "0 SET_MEM_TABLE\n0 SCSI_SET_ENDPOINT " WWPN " 1\n"
					     "0 SCSI_CLEAR_ENDPOINT " WWPN " 1\n");
}

static void refused(int code, const char *text)
{
	const unsigned before = open_fds();

	cr_expect_not(vhost_scsi_new(&c, &e));
	cr_expect_eq(e.code, code, "%d", e.code);
	cr_expect(strstr(e.text, "--scsi"), "%s", e.text);
	cr_expect(strstr(e.text, text), "%s", e.text);
	cr_expect_eq(open_fds(), before);
}

WholeTest(vhost_scsi, a_target_that_is_not_there_is_explained)
{
	c.wwpn = "naa.1";
	refused(-EEXIST, "wwpn=naa.1: no such target");
	f.fail = VHOST_SCSI_SET_ENDPOINT;
	f.fail_times = 2;
	f.fail_errno = ENODEV;
	refused(-ENODEV, "targetcli /vhost create");
	f.fail_errno = ENOMEM;
	refused(-ENOMEM, strerror(ENOMEM));
}

WholeTest(vhost_scsi, a_name_must_be_there_and_fit)
{
	char longest[225];

	memset(longest, 'n', sizeof(longest));
	longest[224] = '\0';
	c.wwpn = NULL;
	refused(-EINVAL, "wwpn= is missing");
	c.wwpn = "";
	refused(-EINVAL, "wwpn= is missing");
	c.wwpn = longest;
	refused(-EINVAL, "longer than 223");
	cr_expect_eq(f.calls, 0);
	longest[223] = '\0';
	refused(-EEXIST, "no such target");
}

WholeTest(vhost_scsi, there_is_at_least_one_request_queue_and_no_more_than_fit)
{
	c.nrequest = 0;
	refused(-EINVAL, "queues=0: 1 to 62");
	c.nrequest = 63;
	refused(-EINVAL, "queues=63: 1 to 62");
}

WholeTest(vhost_scsi, another_version_of_the_interface_is_refused)
{
	f.abi_version = VHOST_SCSI_ABI_VERSION + 1;
	refused(-EOPNOTSUPP, "version 2");
}

WholeTest(vhost_scsi, a_host_without_it_is_told_what_to_do)
{
	f.open_errno = ENOENT;
	refused(-ENOENT, "modprobe vhost_scsi");
}

WholeTest(vhost_scsi, offers_what_the_kernel_says_but_no_protection)
{
	struct datapath_offer offer;

	make();
	cr_assert_eq(dp->ops->offer(dp, &offer), 0);
	cr_expect_eq(offer.features, VERSION_1 | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
					     BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_SCSI_F_HOTPLUG));
	cr_expect_eq(offer.opinion, UINT64_MAX);
	cr_expect_eq(offer.max_queues, NQUEUES);
	cr_expect_eq(offer.device_id, VIRTIO_ID_SCSI);
	cr_expect_eq(offer.config_len, 36);
	cr_expect(offer.drains);
}

WholeTest(vhost_scsi, the_configuration_is_what_the_kernel_can_do)
{
	struct virtio_scsi_config got;

	c.queue_size = 256;
	make();
	cr_assert_eq(dp->ops->config_read(dp, 0, &got, sizeof(got)), 0);
	cr_expect_eq(le32toh(got.num_queues), 2);
	cr_expect_eq(le32toh(got.seg_max), 254);
	cr_expect_eq(le32toh(got.max_sectors), 0xffff);
	cr_expect_eq(le32toh(got.cmd_per_lun), 256);
	cr_expect_eq(le32toh(got.event_info_size), 16);
	cr_expect_eq(le32toh(got.sense_size), 96);
	cr_expect_eq(le32toh(got.cdb_size), 32);
	cr_expect_eq(le16toh(got.max_channel), 0);
	cr_expect_eq(le16toh(got.max_target), 255);
	cr_expect_eq(le32toh(got.max_lun), 16383);
	cr_expect_not(dp->ops->config_write);
	cr_expect_eq(dp->ops->config_read(dp, 30, &got, 7), -EINVAL);
}

/* --- start and stop --- */

WholeTest(vhost_scsi, every_queue_is_served_and_the_endpoint_comes_last)
{
	const char *log, *endpoint;

	make();
	cr_assert_eq(start(&setup), 0);
	log = vhost_fake_log(&f);
	endpoint = strstr(log, "SCSI_SET_ENDPOINT " WWPN " 1\n");
	cr_assert(endpoint, "%s", log);
	cr_expect_eq(endpoint[strlen("SCSI_SET_ENDPOINT " WWPN " 1\n")], '\0');
	cr_expect_not(strstr(log, "idle"), "%s", log);
	for (unsigned i = 0; i < NQUEUES; i++)
		cr_expect(f.file[0].vring[i].vq, "queue %u", i);
	stop(&setup);
	log = vhost_fake_log(&f);
	cr_expect_eq(strncmp(log, "0 SCSI_CLEAR_ENDPOINT " WWPN " 1\n0 GET_VRING_BASE 0\n", 62), 0, "%s", log);
}

/* The kernel would write events where they were wanted in the life before. */
WholeTest(vhost_scsi, a_queue_of_the_life_before_is_forgotten)
{
	struct datapath_queue used[] = {q[0], q[2], q[3]};
	struct datapath_setup without_events = setup;

	make();
	cr_assert_eq(start(&setup), 0);
	stop(&setup);
	without_events.queue = used;
	without_events.nqueues = 3;
	cr_assert_eq(start(&without_events), 0);
	cr_expect_not(f.file[0].vring[1].vq);
	cr_expect(f.file[0].vring[3].vq);
	cr_expect(strstr(vhost_fake_log(&f), "SET_VRING_ADDR 1 idle"));
	stop(&without_events);
}

WholeTest(vhost_scsi, conforms)
{
	make();
	conforms(BIT(VIRTIO_RING_F_EVENT_IDX), NQUEUES, 64);
}
