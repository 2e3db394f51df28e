/* What all of the kernel's vhost devices share, through the one with the least of its own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <string.h>
#include <unistd.h>

#include "backends/vhost_kernel.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/unit/vhost_rig.h"

#define NQUEUES 2
#define FIRST   4 /* queue 4 of the device is vring 0 */

static struct vhost_kernel vk;

static int run(struct vhost_kernel *k, uint64_t vrings, bool on)
{
	int rc = 0;

	for (unsigned i = 0; i < NQUEUES && !rc; i++) {
		struct vhost_vring_file b = {.index = i, .fd = on ? 0 : -1};

		if (vrings & 1u << i)
			rc = vhost_kernel_ioctl(k, VHOST_NET_SET_BACKEND, &b);
	}
	return rc;
}

static int vk_start(struct datapath *d, const struct datapath_setup *s)
{
	(void)d;
	return vhost_kernel_start(&vk, s);
}

static void vk_stop(struct datapath *d, const struct datapath_setup *s)
{
	(void)d;
	vhost_kernel_stop(&vk, s);
}

static void vk_destroy(struct datapath *d)
{
	(void)d;
	vhost_kernel_close(&vk);
}

static const struct datapath_ops ops = {
	.name = "test",
	.start = vk_start,
	.stop = vk_stop,
	.destroy = vk_destroy,
};
static struct datapath datapath = {.ops = &ops, .events = &events};

static void init(void)
{
	rig_init(VHOST_FAKE_NET, NQUEUES);
	for (unsigned i = 0; i < NQUEUES; i++)
		q[i].index += FIRST;
	vk = (struct vhost_kernel){
		.name = "test0",
		.option = "--test",
		.path = "/dev/vhost-test",
		.module = "vhost_test",
		.dp = &datapath,
		.loop = thread.loop,
		.first = FIRST,
		.nvrings = NQUEUES,
		.run = run,
		.fd = -1,
	};
}

TestSuite(vhost_kernel, .init = init, .fini = teardown_once, .timeout = 60);

static void opened(void)
{
	cr_assert_eq(vhost_kernel_open(&vk, &e), 0, "%s", e.text);
	dp = &datapath;
	vhost_fake_log(&f);
}

/* --- opening --- */

static void refused(int err, const char *first, const char *second)
{
	const unsigned before = open_fds();

	f.open_errno = err;
	cr_expect_eq(vhost_kernel_open(&vk, &e), -err);
	cr_expect_eq(e.code, -err);
	cr_expect(strstr(e.text, "--test: "), "%s", e.text);
	cr_expect(strstr(e.text, first), "%s", e.text);
	cr_expect(strstr(e.text, second), "%s", e.text);
	cr_expect_eq(open_fds(), before);
}

WholeTest(vhost_kernel, a_missing_module_is_told_how_to_load)
{
	refused(ENOENT, "this host has no /dev/vhost-test", "modprobe vhost_test");
	refused(ENODEV, "this host has no /dev/vhost-test", "modprobe vhost_test");
	refused(ENXIO, "this host has no /dev/vhost-test", "modprobe vhost_test");
}

WholeTest(vhost_kernel, a_missing_permission_is_told_how_to_get)
{
	refused(EACCES, "/dev/vhost-test may not be opened", "chmod 0666 /dev/vhost-test");
	refused(EPERM, "/dev/vhost-test may not be opened", "chmod 0666 /dev/vhost-test");
}

WholeTest(vhost_kernel, any_other_error_is_named)
{
	refused(EMFILE, "/dev/vhost-test", strerror(EMFILE));
}

WholeTest(vhost_kernel, a_file_that_is_no_vhost_is_called_so)
{
	const unsigned before = open_fds();

	f.fail = VHOST_SET_OWNER;
	f.fail_times = 1;
	f.fail_errno = ENOTTY;
	cr_expect_eq(vhost_kernel_open(&vk, &e), -ENOTTY);
	cr_expect(strstr(e.text, "no device of vhost"), "%s", e.text);
	cr_expect_eq(open_fds(), before);
}

WholeTest(vhost_kernel, an_owner_that_cannot_be_leaves_nothing_open)
{
	const unsigned before = open_fds();

	f.fail = VHOST_GET_FEATURES;
	f.fail_times = 1;
	f.fail_errno = ENOMEM;
	cr_expect_eq(vhost_kernel_open(&vk, &e), -ENOMEM);
	cr_expect(strstr(e.text, strerror(ENOMEM)), "%s", e.text);
	cr_expect_eq(open_fds(), before);
}

WholeTest(vhost_kernel, opening_makes_it_ours_and_asks_what_it_can)
{
	const unsigned before = open_fds();

	cr_assert_eq(vhost_kernel_open(&vk, &e), 0);
	cr_expect_str_eq(vhost_fake_log(&f), "0 SET_OWNER\n0 GET_FEATURES\n");
	cr_expect_str_eq(f.path, "/dev/vhost-test");
	vhost_kernel_close(&vk);
	cr_expect_eq(open_fds(), before);
}

WholeTest(vhost_kernel, what_is_not_for_drivers_is_not_among_its_features)
{
	f.features = UINT64_MAX;
	opened();
	for (unsigned bit = 0; bit < 64; bit++) {
		bool never = bit == VIRTIO_F_NOTIFY_ON_EMPTY || bit == VHOST_F_LOG_ALL ||
			     bit == VIRTIO_F_ANY_LAYOUT || bit == VIRTIO_F_ACCESS_PLATFORM ||
			     bit == VIRTIO_F_IN_ORDER;

		cr_expect_eq(vk.features >> bit & 1, !never, "bit %u", bit);
	}
}

/* --- start and stop --- */

WholeTest(vhost_kernel, every_region_of_memory_is_told)
{
	opened();
	cr_assert_eq(start(&setup), 0);
	cr_assert_eq(m.mem.nregions, 2);
	cr_expect_eq(f.file[0].mem.nregions, 2);
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(f.file[0].mem.region[i].gpa, m.mem.region[i].gpa);
		cr_expect_eq(f.file[0].mem.region[i].size, m.mem.region[i].size);
		cr_expect_eq(f.file[0].mem.region[i].hva, m.mem.region[i].hva);
	}
	stop(&setup);
}

WholeTest(vhost_kernel, queues_of_others_are_left_alone)
{
	struct datapath_queue two[] = {q[0], q[1]};
	struct datapath_setup s = setup;

	opened();
	two[0].index = FIRST - 1;
	two[1].index = FIRST + NQUEUES;
	two[0].next = two[1].next = 7;
	s.queue = two;
	cr_expect_eq(start(&s), 0);
	stop(&s);
	cr_expect_str_eq(vhost_fake_log(&f), "");
	cr_expect_eq(two[0].next, 7);
	cr_expect_eq(two[1].next, 7);
}

WholeTest(vhost_kernel, a_ring_goes_on_where_it_is_said_to)
{
	opened();
	*(volatile uint16_t *)&ring[0].used->idx = 0xfffe;
	*(volatile uint16_t *)&ring[0].avail->idx = 0xfffe;
	q[0].next = 0xfffe;
	cr_assert_eq(start(&setup), 0);
	cr_expect_eq(f.file[0].vring[0].base, 0xfffe);
	cr_expect_eq(f.file[0].vring[1].base, 0);
	q[0].next = 1;
	stop(&setup);
	cr_expect_eq(q[0].next, 0xfffe);
}

WholeTest(vhost_kernel, a_position_that_is_not_told_is_that_of_the_used_ring)
{
	opened();
	*(volatile uint16_t *)&ring[0].used->idx = 0x1234;
	*(volatile uint16_t *)&ring[0].avail->idx = 0x1234;
	q[0].next = 0x1234;
	cr_assert_eq(start(&setup), 0);
	f.fail = VHOST_GET_VRING_BASE;
	f.fail_times = 1;
	q[0].next = 1;
	stop(&setup);
	cr_expect_eq(q[0].next, 0x1234);
	cr_expect_not(q[0].lost);
}

static void misses(gpa_t *addr, gpa_t where)
{
	const gpa_t old = *addr;

	*addr = where;
	cr_expect_eq(start(&setup), -EFAULT);
	*addr = old;
	cr_expect_not(f.file[0].vring[0].on);
	cr_expect_eq(f.file[0].vring[0].kick, -1);
}

WholeTest(vhost_kernel, rings_that_are_not_all_ram_are_refused)
{
	opened();
	misses(&q[1].desc, DRIVER_MEM_LOW_END);
	misses(&q[1].desc, DRIVER_MEM_LOW_END - 16 * SIZE + 16);
	misses(&q[1].avail, DRIVER_MEM_LOW_END - 2 * SIZE - 4);
	misses(&q[1].used, DRIVER_MEM_LOW_END - 8 * SIZE - 4);
	misses(&q[1].used, UINT64_MAX - 3);
	q[1].desc = DRIVER_MEM_LOW_END - 16 * SIZE;
	cr_expect_eq(start(&setup), 0);
	stop(&setup);
}

WholeTest(vhost_kernel, no_descriptor_of_ours_stays_with_the_kernel)
{
	opened();
	cr_assert_eq(start(&setup), 0);
	cr_expect_geq(f.file[0].vring[1].kick, 0);
	cr_expect_geq(f.file[0].vring[1].call, 0);
	cr_expect_geq(f.file[0].vring[1].err, 0);
	stop(&setup);
	for (unsigned i = 0; i < NQUEUES; i++) {
		cr_expect_eq(f.file[0].vring[i].kick, -1);
		cr_expect_eq(f.file[0].vring[i].call, -1);
		cr_expect_eq(f.file[0].vring[i].err, -1);
	}
}

WholeTest(vhost_kernel, what_nobody_sees_is_not_counted_as_none)
{
	opened();
	stats[0].kicks = 17;
	cr_assert_eq(start(&setup), 0);
	cr_expect_eq(stats[0].kicks, QUEUE_STAT_UNSEEN);
	cr_expect_eq(stats[0].calls, QUEUE_STAT_UNSEEN);
	cr_expect_eq(stats[0].calls_suppressed, QUEUE_STAT_UNSEEN);
	cr_expect_eq(stats[0].bursts, QUEUE_STAT_UNSEEN);
	cr_expect_eq(stats[0].chains, QUEUE_STAT_UNSEEN);
	cr_expect_eq(stats[0].bytes, QUEUE_STAT_UNSEEN);
	cr_expect_eq(stats[1].kicks, QUEUE_STAT_UNSEEN);
	cr_expect_eq(stats[1].syscalls, 0);
	stop(&setup);
}

/* The n-th call of a start fails, for each n: all is as before, and the next start is as the first. */
WholeTest(vhost_kernel, a_start_that_fails_anywhere_leaves_nothing)
{
	static const unsigned long requests[] = {
		VHOST_SET_FEATURES,   VHOST_SET_MEM_TABLE,  VHOST_SET_VRING_NUM,
		VHOST_SET_VRING_BASE, VHOST_SET_VRING_ADDR, VHOST_SET_VRING_KICK,
		VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,  VHOST_NET_SET_BACKEND,
	};
	unsigned before;

	opened();
	before = open_fds();
	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
		for (unsigned after = 0; after < (i < 2 ? 1 : NQUEUES); after++) {
			f.fail = requests[i];
			f.fail_after = after;
			f.fail_times = 1;
			cr_expect_eq(start(&setup), -EIO, "request %u after %u", i, after);
			if (requests[i] == VHOST_NET_SET_BACKEND) /* run() of this test undoes nothing */
				run(&vk, 1, false);
			cr_expect_eq(vk.running, 0);
			cr_expect_not(vk.watched);
			cr_expect_eq(open_fds(), before, "request %u after %u", i, after);
			for (unsigned k = 0; k < NQUEUES; k++)
				cr_expect_not(f.file[0].vring[k].on);
		}
	cr_expect_eq(start(&setup), 0);
	cr_expect(f.file[0].vring[0].on && f.file[0].vring[1].on);
	stop(&setup);
	cr_expect_eq(failures, 0);
}

/* --- what goes wrong later --- */

static void nothing(void *arg)
{
	(void)arg;
}

/* The loop has been round. */
static void settle(void)
{
	for (unsigned i = 0; i < 3; i++)
		evloop_call(thread.loop, nothing, NULL);
}

static void wait_for_failure(void)
{
	for (unsigned i = 0; i < 1000 && !failures; i++) {
		settle();
		usleep(1000);
	}
}

WholeTest(vhost_kernel, a_ring_that_the_kernel_calls_broken_is_told_once)
{
	opened();
	cr_assert_eq(start(&setup), 0);
	vhost_fake_error(&f, 0, 1);
	wait_for_failure();
	cr_expect_eq(failure, -EILSEQ);
	vhost_fake_error(&f, 0, 0);
	usleep(5000);
	settle();
	cr_expect_eq(failures, 1);
	stop(&setup);
}

WholeTest(vhost_kernel, an_error_of_the_life_before_is_forgotten)
{
	opened();
	cr_assert_eq(start(&setup), 0);
	vhost_fake_error(&f, 0, 1);
	wait_for_failure();
	stop(&setup);
	failures = 0;
	cr_assert_eq(start(&setup), 0);
	usleep(5000);
	settle();
	cr_expect_eq(failures, 0);
	vhost_fake_error(&f, 0, 0);
	wait_for_failure();
	cr_expect_eq(failures, 1);
	stop(&setup);
}

WholeTest(vhost_kernel, errors_are_told_until_the_last_vring_stops)
{
	struct datapath_setup one = some(1, 1), other = some(0, 1);

	opened();
	cr_assert_eq(start(&setup), 0);
	stop(&one);
	vhost_fake_error(&f, 0, 0);
	wait_for_failure();
	cr_expect_eq(failures, 1);
	stop(&other);
	cr_expect_not(vk.watched);
}

WholeTest(vhost_kernel, without_a_loop_nobody_looks_for_errors)
{
	vk.loop = NULL;
	opened();
	cr_assert_eq(start(&setup), 0);
	vhost_fake_error(&f, 0, 1);
	usleep(5000);
	stop(&setup);
	cr_expect_eq(failures, 0);
}

WholeTest(vhost_kernel, what_does_not_stop_is_cut_off)
{
	struct datapath_setup one = some(1, 1), other = some(0, 1);
	int fd;

	opened();
	fd = vk.fd;
	cr_assert_eq(start(&setup), 0);
	f.fail = VHOST_NET_SET_BACKEND;
	f.fail_times = 1;
	f.fail_errno = EFAULT;
	stop(&one);
	cr_expect_eq(fcntl(fd, F_GETFD), -1, "the file is still open");
	cr_expect_eq(failures, 1, "the other vring stands still, too");
	stop(&other);
	cr_expect_eq(start(&setup), -EBADF);
}

WholeTest(vhost_kernel, the_last_one_is_cut_off_in_silence)
{
	opened();
	cr_assert_eq(start(&setup), 0);
	f.fail = VHOST_NET_SET_BACKEND;
	f.fail_times = 1;
	stop(&setup);
	cr_expect_eq(failures, 0);
	cr_expect_not(vk.watched);
}
