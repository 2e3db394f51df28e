/* --trace control: one form, every call, by its name. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backends/vhost_net.h"
#include "backends/vhost_trace.h"
#include "backends/vhost_user.h"
#include "backends/vhost_user_msg.h"
#include "backends/vhost_vdpa.h"
#include "lib/trace.h"
#include "tests/fake/vdpa_fake.h"
#include "tests/fake/vhost_kernel_fake.h"
#include "tests/fake/vhost_user_peer.h"
#include "vmm/config.h"
#include "vmm/loop_thread.h"

#define BIT(n) (UINT64_C(1) << (n))

static int file, saved;
static char text[200000];
static struct loop_thread control;
static struct err e;

static void setup(void)
{
	file = memfd_create("stderr", 0);
	cr_assert_eq(fcntl(file, F_SETFL, O_APPEND), 0); /* a memfd's offset is nobody's lock */
	saved = dup(STDERR_FILENO);
	cr_assert_eq(dup2(file, STDERR_FILENO), STDERR_FILENO);
	cr_assert_eq(loop_thread_start(&control, "control", -1, &e), 0);
}

static void teardown(void)
{
	loop_thread_stop(&control);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(file);
}

TestSuite(trace, .init = setup, .fini = teardown, .timeout = 30);

static const char *said(void)
{
	ssize_t n = pread(file, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = 0;
	return text;
}

/* How many lines look so after "ringlet: trace: 0.001234 ". */
static unsigned lines(const char *pattern)
{
	char whole[256];
	regex_t re;
	unsigned n = 0;
	char *rest;

	snprintf(whole, sizeof(whole), "^ringlet: trace: [0-9]+\\.[0-9]{6} %s$", pattern);
	cr_assert_eq(regcomp(&re, whole, REG_EXTENDED | REG_NOSUB), 0);
	said();
	for (char *l = strtok_r(text, "\n", &rest); l; l = strtok_r(NULL, "\n", &rest))
		n += !regexec(&re, l, 0, NULL, 0);
	regfree(&re);
	return n;
}

/* --- the form --- */

Test(trace, nothing_unless_asked_for)
{
	trace_call("net0", "vhost", "SET_OWNER", 0);
	cr_expect_not(trace_wanted());
	cr_expect_str_eq(said(), "");
}

Test(trace, one_line_with_device_protocol_and_name)
{
	trace_control(true);
	trace_call("net0", "vhost", "SET_VRING_NUM vring=0 num=256", 0);
	cr_expect(trace_wanted());
	cr_expect_eq(lines("net0 vhost SET_VRING_NUM vring=0 num=256"), 1, "%s", said());
	cr_expect_str_eq(strchr(said(), '\n'), "\n", "one line");
}

Test(trace, what_went_wrong_is_at_its_end)
{
	trace_control(true);
	errno = ERANGE;
	trace_call("net0", "vhost", "SET_OWNER", -EBUSY);
	cr_expect_eq(errno, ERANGE, "a caller's errno is its own");
	cr_expect_eq(lines("net0 vhost SET_OWNER: Device or resource busy"), 1, "%s", said());
}

Test(trace, can_be_turned_off_again)
{
	trace_control(true);
	trace_control(false);
	trace_call("net0", "vhost", "SET_OWNER", 0);
	cr_expect_str_eq(said(), "");
}

Test(trace, time_goes_on_from_the_first_line)
{
	double first = -1, second = -1;

	trace_control(true);
	trace_call("a", "vhost", "SET_OWNER", 0);
	usleep(20000);
	trace_call("a", "vhost", "SET_OWNER", 0);
	cr_assert_eq(sscanf(said(), "ringlet: trace: %lf a vhost SET_OWNER ringlet: trace: %lf", &first,
			    &second),
		     2);
	cr_expect_eq(first, 0);
	cr_expect_geq(second, 0.02);
	cr_expect_lt(second, 20);
}

/* --- the option --- */

Test(trace, the_option)
{
	static char *const on[] = {"ringlet", "run", "k", "--trace", "control", NULL};
	static char *const off[] = {"ringlet", "run", "k", NULL};
	static char *const other[] = {"ringlet", "run", "k", "--trace=data", NULL};
	static struct config cfg;
	char line[4096];

	cr_assert_eq(config_parse(&cfg, 5, on, &e), 0, "%s", e.text);
	cr_expect(cfg.run.trace_control);
	config_print_run(&cfg, line, sizeof(line));
	cr_expect(strstr(line, " --trace=control"), "%s", line);
	cr_assert_eq(config_parse(&cfg, 3, off, &e), 0);
	cr_expect_not(cfg.run.trace_control);
	config_print_run(&cfg, line, sizeof(line));
	cr_expect_not(strstr(line, "trace"), "%s", line);
	cr_expect_eq(config_parse(&cfg, 4, other, &e), -EINVAL);
	cr_expect(strstr(e.text, "--trace") && strstr(e.text, "control"), "%s", e.text);
	config_free(&cfg);
}

/* --- ioctls --- */

Test(trace, what_each_ioctl_carries)
{
	uint64_t features = 0x130000000;
	struct vhost_vring_state state = {.index = 1, .num = 7};
	struct vhost_vring_file fd = {.index = 1, .fd = -1};
	struct vhost_vring_addr addr = {.desc_user_addr = 0x1000,
					.avail_user_addr = 0x2000,
					.used_user_addr = 0x3000};
	struct vhost_memory memory = {.nregions = 2};
	struct vhost_scsi_target target = {.vhost_wwpn = "naa.1", .vhost_tpgt = 3};
	struct vhost_vdpa_iova_range range = {.first = 16, .last = 0xffff};
	uint8_t status = 15;

	trace_control(true);
	vhost_trace("d", "vhost", VHOST_SET_OWNER, NULL, 0);
	vhost_trace("d", "vhost", VHOST_SET_FEATURES, &features, 0);
	vhost_trace("d", "vhost", VHOST_SET_VRING_BASE, &state, 0);
	vhost_trace("d", "vhost", VHOST_SET_VRING_KICK, &fd, 0);
	vhost_trace("d", "vhost", VHOST_SET_VRING_ADDR, &addr, 0);
	vhost_trace("d", "vhost", VHOST_SET_MEM_TABLE, &memory, 0);
	vhost_trace("d", "vhost", VHOST_SCSI_SET_ENDPOINT, &target, 0);
	vhost_trace("d", "vhost-vdpa", VHOST_VDPA_SET_STATUS, &status, 0);
	vhost_trace("d", "vhost-vdpa", VHOST_VDPA_GET_IOVA_RANGE, &range, 0);
	cr_expect_eq(lines("d vhost SET_OWNER"), 1);
	cr_expect_eq(lines("d vhost SET_FEATURES 0x130000000"), 1);
	cr_expect_eq(lines("d vhost SET_VRING_BASE vring=1 num=7"), 1);
	cr_expect_eq(lines("d vhost SET_VRING_KICK vring=1 fd=-1"), 1);
	cr_expect_eq(lines("d vhost SET_VRING_ADDR vring=0 desc=0x1000 avail=0x2000 used=0x3000"), 1);
	cr_expect_eq(lines("d vhost SET_MEM_TABLE regions=2"), 1);
	cr_expect_eq(lines("d vhost SCSI_SET_ENDPOINT wwpn=naa\\.1 tpgt=3"), 1);
	cr_expect_eq(lines("d vhost-vdpa VDPA_SET_STATUS 0xf"), 1);
	cr_expect_eq(lines("d vhost-vdpa VDPA_GET_IOVA_RANGE first=0x10 last=0xffff"), 1);
}

Test(trace, what_was_asked_for_in_vain_is_not_made_up)
{
	uint64_t garbage = 0xdead;

	trace_control(true);
	vhost_trace("d", "vhost", VHOST_GET_FEATURES, &garbage, -ENOTTY);
	cr_expect_eq(lines("d vhost GET_FEATURES: Inappropriate ioctl for device"), 1, "%s", said());
}

Test(trace, an_unknown_request_is_a_question_mark)
{
	trace_control(true);
	vhost_trace("d", "vhost", 0, &file, 0);
	cr_expect_eq(lines("d vhost \\?"), 1, "%s", said());
}

/* --- whole datapaths: each call has its line, and each its name --- */

Test(trace, every_call_of_the_kernels_vhost)
{
	struct vhost_fake f;
	int tap = 0;
	const struct vhost_net_config c = {.name = "net0", .taps = &tap, .npairs = 1, .busy_poll_us = 5};
	struct datapath *dp;

	vhost_fake_init(&f, VHOST_FAKE_NET);
	trace_control(true);
	dp = vhost_net_new(&c, &e);
	cr_assert(dp, "%s", e.text);
	dp->ops->destroy(dp);
	cr_expect_gt(f.calls, 2);
	cr_expect_eq(lines("net0 vhost [A-Z].*"), f.calls + 1 /* open() */, "%u calls, but\n%s", f.calls,
		     said());
	cr_expect_eq(lines("net0 vhost OPEN path=/dev/vhost-net"), 1);
	cr_expect_eq(lines("net0 vhost GET_FEATURES 0x[0-9a-f]+"), 1);
	cr_expect_eq(lines("net0 vhost SET_VRING_BUSYLOOP_TIMEOUT vring=1 num=5"), 1);
	vhost_fake_fini(&f);
}

Test(trace, every_call_of_vdpa)
{
	struct vdpa_fake f;
	const struct vhost_vdpa_options o = {.name = "--disk",
					     .device = "disk0",
					     .path = "/dev/vhost-vdpa-0",
					     .loop = control.loop,
					     .sys = &vdpa_fake_sys};
	struct datapath *dp;

	vdpa_fake_init(&f);
	trace_control(true);
	cr_assert_eq(vhost_vdpa_new(&dp, &o, &e), 0, "%s", e.text);
	dp->ops->destroy(dp);
	cr_expect_gt(f.calls, 5);
	cr_expect_eq(lines("disk0 vhost-vdpa [A-Z].*"), f.calls, "%u calls, but\n%s", f.calls, said());
	cr_expect_eq(lines("disk0 vhost-vdpa OPEN path=/dev/vhost-vdpa-0"), 1);
	cr_expect_eq(lines("disk0 vhost-vdpa VDPA_GET_DEVICE_ID 2"), 1);
	vdpa_fake_fini(&f);
}

Test(trace, what_is_mapped_for_vdpa)
{
	const struct vhost_msg_v2 map = {.iotlb = {.type = VHOST_IOTLB_UPDATE, .iova = 0x1000, .size = 0x2000}};
	const struct vhost_msg_v2 begin = {.iotlb = {.type = VHOST_IOTLB_BATCH_BEGIN}};

	trace_control(true);
	vhost_trace_iotlb("d", "vhost-vdpa", &begin, 0);
	vhost_trace_iotlb("d", "vhost-vdpa", &map, -ENOMEM);
	cr_expect_eq(lines("d vhost-vdpa IOTLB_BATCH_BEGIN"), 1);
	cr_expect_eq(lines("d vhost-vdpa IOTLB_UPDATE iova=0x1000 size=0x2000: Cannot allocate memory"), 1,
		     "%s", said());
}

Test(trace, messages_of_vhost_user_both_ways)
{
	char path[64];
	struct vhost_user_peer_config p = {
		.path = path,
		.features = BIT(VHOST_USER_F_PROTOCOL_FEATURES) | BIT(VIRTIO_F_VERSION_1),
		.protocol = BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK),
		.queues = 2,
	};
	const struct vhost_user_config c = {
		.name = "vu0",
		.path = path,
		.wait_ms = 2000,
		.reply_ms = 2000,
		.device_type = VIRTIO_ID_NET,
		.nqueues = 2,
		.loop = control.loop,
	};
	struct vhost_user_peer *peer;
	struct datapath *dp;

	snprintf(path, sizeof(path), "/tmp/trace-%d.sock", getpid());
	peer = peer_new(&p);
	trace_control(true);
	cr_assert_eq(vhost_user_new(&dp, &c, &e), 0, "%s", e.text);
	dp->ops->destroy(dp);
	peer_free(peer);
	cr_expect_eq(lines("vu0 vhost-user > GET_FEATURES"), 1, "%s", said());
	cr_expect_eq(lines("vu0 vhost-user < GET_FEATURES reply 0x140000000"), 1, "%s", said());
	cr_expect_eq(lines("vu0 vhost-user > SET_OWNER need_reply"), 1, "%s", said());
	cr_expect_eq(lines("vu0 vhost-user < SET_OWNER reply 0"), 1, "%s", said());
}
