#include <criterion/criterion.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_scsi.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backends/vhost_scsi.h"
#include "lib/cleanup.h"
#include "tests/fake/datapath_conformance.h"
#include "tests/fake/vhost_kernel_fake.h"
#include "vmm/loop_thread.h"

#define BIT(n)    (1ull << (n))
#define VERSION_1 BIT(VIRTIO_F_VERSION_1)
#define SIZE      8
#define NQUEUES   4
#define WWPN      "naa.5001405012345678"

static struct vhost_fake f;
static struct driver_mem m;
static struct driver_ring ring[NQUEUES];
static struct queue_stats stats[NQUEUES];
static struct datapath_queue q[NQUEUES];
static struct datapath_setup setup;
static struct loop_thread thread;
static struct vhost_scsi_config c;
static struct datapath *dp;
static struct err e;

static void init(void)
{
	cr_assert_eq(loop_thread_start(&thread, "test", -1, &e), 0);
	vhost_fake_init(&f, VHOST_FAKE_SCSI);
	strcpy(f.wwpn, WWPN);
	driver_mem_init(&m);
	for (unsigned i = 0; i < NQUEUES; i++) {
		driver_ring_init(&ring[i], &m, SIZE, 0, 0);
		driver_ring_queue(&ring[i], &q[i]);
		q[i].index = i;
		q[i].stats = &stats[i];
		q[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		q[i].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	setup = (struct datapath_setup){.mem = &m.mem, .features = VERSION_1, .nqueues = NQUEUES, .queue = q};
	c = (struct vhost_scsi_config){.name = "scsi0",
				       .wwpn = WWPN,
				       .tpgt = 1,
				       .nrequest = NQUEUES - VHOST_SCSI_FIXED_QUEUES,
				       .loop = thread.loop};
}

static void fini(void)
{
	if (dp)
		dp->ops->destroy(dp);
	loop_thread_stop(&thread);
	vhost_fake_fini(&f);
}

TestSuite(vhost_scsi, .init = init, .fini = fini, .timeout = 60);

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void make(void)
{
	dp = vhost_scsi_new(&c, &e);
	cr_assert(dp, "%s", e.text);
	vhost_fake_log(&f);
}

static int started;

static void start_on_loop(void *arg)
{
	started = dp->ops->start(dp, arg);
}

static void stop_on_loop(void *arg)
{
	dp->ops->stop(dp, arg);
}

static int start(struct datapath_setup *s)
{
	evloop_call(thread.loop, start_on_loop, s);
	return started;
}

static void stop(struct datapath_setup *s)
{
	evloop_call(thread.loop, stop_on_loop, s);
}

/* --- opening --- */

Test(vhost_scsi, the_target_is_tried_before_the_guest_runs)
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

Test(vhost_scsi, a_target_that_is_not_there_is_explained)
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

Test(vhost_scsi, a_name_must_be_there_and_fit)
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

Test(vhost_scsi, there_is_at_least_one_request_queue_and_no_more_than_fit)
{
	c.nrequest = 0;
	refused(-EINVAL, "queues=0: 1 to 62");
	c.nrequest = 63;
	refused(-EINVAL, "queues=63: 1 to 62");
}

Test(vhost_scsi, another_version_of_the_interface_is_refused)
{
	f.abi_version = VHOST_SCSI_ABI_VERSION + 1;
	refused(-EOPNOTSUPP, "version 2");
}

Test(vhost_scsi, a_host_without_it_is_told_what_to_do)
{
	f.open_errno = ENOENT;
	refused(-ENOENT, "modprobe vhost_scsi");
}

Test(vhost_scsi, offers_what_the_kernel_says_but_no_protection)
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

Test(vhost_scsi, the_configuration_is_what_the_kernel_can_do)
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

Test(vhost_scsi, every_queue_is_served_and_the_endpoint_comes_last)
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
	cr_expect_eq(f.mistakes, 0);
}

/* The kernel would write events where they were wanted in the life before. */
Test(vhost_scsi, a_queue_of_the_life_before_is_forgotten)
{
	struct datapath_setup without_events = setup;

	make();
	cr_assert_eq(start(&setup), 0);
	stop(&setup);
	q[1] = q[3];
	without_events.nqueues = 3; /* 0, 3, 2 */
	cr_assert_eq(start(&without_events), 0);
	cr_expect_not(f.file[0].vring[1].vq);
	cr_expect(f.file[0].vring[3].vq);
	cr_expect(strstr(vhost_fake_log(&f), "SET_VRING_ADDR 1 idle"));
	stop(&without_events);
}

Test(vhost_scsi, conforms)
{
	struct datapath_conformance t = {.loop = thread.loop,
					 .features = VERSION_1 | BIT(VIRTIO_RING_F_EVENT_IDX),
					 .nqueues = NQUEUES,
					 .size = 64};
	const char *fault;

	make();
	t.dp = dp;
	fault = datapath_conforms(&t);
	cr_expect_not(fault, "%s", fault);
	cr_expect_eq(f.mistakes, 0);
}
