/* The datapath that is a device of the kernel's vDPA bus, against a kernel and a device that do as they are
 * told. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "tests/fake/datapath_conformance.h"
#include "tests/fake/vdpa_fake.h"
#include "vmm/loop_thread.h"

#define BIT(n)       (UINT64_C(1) << (n))
#define VERSION_1    BIT(VIRTIO_F_VERSION_1)
#define EVENT_IDX    BIT(VIRTIO_RING_F_EVENT_IDX)
#define PACKED       BIT(VIRTIO_F_RING_PACKED)
#define PLATFORM     BIT(VIRTIO_F_ACCESS_PLATFORM)
#define SUSPEND      BIT(VHOST_BACKEND_F_SUSPEND)
#define BATCH        BIT(VHOST_BACKEND_F_IOTLB_BATCH)
#define NEEDS_RESET  VIRTIO_CONFIG_S_NEEDS_RESET
#define PATH         "/dev/vhost-vdpa-0"
#define NQUEUES      2
#define SIZE         16
#define MANY         1000 /* calls; no sequence has as many */
#define DRAIN_MS     20
#define LONG_MS      2000 /* is never waited for */
#define WITHIN(e, s) strstr((e).text, s)

static struct vdpa_fake fake;
static struct loop_thread control;
static struct datapath *dp;
static struct driver_mem m;
static struct driver_ring ring[NQUEUES];
static struct datapath_queue q[NQUEUES];
static struct queue_stats stats[NQUEUES];
static gpa_t buf;
static struct err e;
static _Atomic unsigned changes, failures;
static _Atomic int failed_with;

static void on_changed(void *opaque)
{
	(void)opaque;
	changes++;
}

static void on_failed(void *opaque, int err)
{
	(void)opaque;
	failed_with = err;
	failures++;
}

static const struct datapath_events events = {.config_changed = on_changed, .failed = on_failed};

static struct vhost_vdpa_options options(void)
{
	return (struct vhost_vdpa_options){.name = "--disk",
					   .path = PATH,
					   .loop = control.loop,
					   .drain_ms = LONG_MS,
					   .settle_ms = 1,
					   .sys = &vdpa_fake_sys};
}

static void setup(void)
{
	log_set_level(LOG_ERROR);
	cr_assert_eq(loop_thread_start(&control, "control", -1, &e), 0);
	vdpa_fake_init(&fake);
	driver_mem_init(&m);
	buf = driver_mem_alloc(&m, 32 * NQUEUES, 16);
}

static void teardown(void)
{
	if (dp)
		dp->ops->destroy(dp);
	loop_thread_stop(&control);
	vdpa_fake_fini(&fake);
	for (unsigned i = 0; i < NQUEUES && ring[i].slot; i++) {
		driver_ring_fini(&ring[i]);
		close(q[i].kick_fd);
		close(q[i].call_fd);
	}
	driver_mem_fini(&m);
	cr_expect_eq(fake.mistakes, 0, "%u mistakes", fake.mistakes);
}

/* What fails in a suite's fini the library lets pass, so these are called here. */
#define VDPA_TEST(name)                                                                                        \
	static void name(void);                                                                                \
	Test(vhost_vdpa, name, .timeout = 60)                                                                  \
	{                                                                                                      \
		setup();                                                                                       \
		name();                                                                                        \
		teardown();                                                                                    \
	}                                                                                                      \
	static void name(void)

static void open_with(unsigned drain_ms, unsigned settle_ms)
{
	struct vhost_vdpa_options o = options();

	o.drain_ms = drain_ms;
	o.settle_ms = settle_ms;
	cr_assert_eq(vhost_vdpa_new(&dp, &o, &e), 0, "%s", e.text);
	dp->events = &events;
	vdpa_fake_log(&fake);
}

static void open_it(void)
{
	open_with(LONG_MS, 1);
}

static int try_open(struct vhost_vdpa_options o)
{
	int rc = vhost_vdpa_new(&dp, &o, &e);

	if (rc)
		dp = NULL;
	return rc;
}

static void rings(uint64_t f)
{
	for (unsigned i = 0; i < NQUEUES; i++) {
		driver_ring_init(&ring[i], &m, SIZE, f, f & PACKED ? 0x8000u : 0u);
		q[i] = (struct datapath_queue){.index = i, .stats = &stats[i]};
		driver_ring_queue(&ring[i], &q[i]);
		q[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		q[i].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
}

/* --- as the core does it --- */

struct transition {
	uint64_t features;
	unsigned first, n;
	bool start;
	int rc;
};

static void on_loop(void *arg)
{
	struct transition *t = arg;
	struct datapath_setup s = {.mem = &m.mem,
				   .features = t->features,
				   .nqueues = t->n,
				   .queue = &q[t->first]};

	if (t->start)
		t->rc = dp->ops->start(dp, &s);
	else
		dp->ops->stop(dp, &s);
}

static uint64_t features = VERSION_1;

static int start(unsigned first, unsigned n)
{
	struct transition t = {.features = features, .first = first, .n = n, .start = true};

	evloop_call(control.loop, on_loop, &t);
	for (unsigned i = first; !t.rc && i < first + n; i++)
		eventfd_write(q[i].kick_fd, 1);
	return t.rc;
}

static void stop(unsigned first, unsigned n)
{
	struct transition t = {.features = features, .first = first, .n = n};

	evloop_call(control.loop, on_loop, &t);
}

static void nothing(void *arg)
{
	(void)arg;
}

/* What was signalled to the loop has been handled. */
static void settle(void)
{
	for (unsigned i = 0; i < 3; i++) {
		evloop_call(control.loop, nothing, NULL);
		usleep(500);
	}
}

static void add(unsigned i)
{
	const struct driver_buf b[] = {{buf + 32 * i, 16, false}, {buf + 32 * i + 16, 16, true}};

	cr_assert_geq(driver_ring_add(&ring[i], b, 2), 0);
	driver_ring_kick(&ring[i]);
}

static void send(unsigned i)
{
	add(i);
	eventfd_write(q[i].kick_fd, 1);
}

static bool comes_back(unsigned i)
{
	for (unsigned k = 0; k < 20000; k++) {
		if (driver_ring_collect(&ring[i], NULL, NULL) == 1)
			return true;
		usleep(100);
	}
	return false;
}

static void wait_held(unsigned i, unsigned n)
{
	for (unsigned k = 0; k < 20000 && vdpa_fake_nheld(&fake, i) < n; k++)
		usleep(100);
	cr_assert_eq(vdpa_fake_nheld(&fake, i), n);
}

static void set_dead(bool dead)
{
	pthread_mutex_lock(&fake.lock);
	fake.dead = dead;
	pthread_mutex_unlock(&fake.lock);
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void is_free(void)
{
	const char *what = vdpa_fake_is_free(&fake);

	cr_expect_null(what, "the device still has %s", what);
	cr_expect_eq(m.mem.pins, 0);
}

static unsigned ms_of(void (*fn)(unsigned first, unsigned n), unsigned first, unsigned n)
{
	const uint64_t before = clock_ns(CLOCK_MONOTONIC);

	fn(first, n);
	return (unsigned)((clock_ns(CLOCK_MONOTONIC) - before) / 1000000);
}

/* --- opening --- */

VDPA_TEST(opening_asks_what_the_device_is)
{
	struct vhost_vdpa_options o = options();

	cr_assert_eq(try_open(o), 0, "%s", e.text);
	cr_expect_str_eq(
		vdpa_fake_log(&fake),
		"open " PATH "\nGET_DEVICE_ID\nSET_OWNER\nGET_BACKEND_FEATURES\n"
		"SET_BACKEND_FEATURES 0x6\nGET_FEATURES\nGET_VRING_NUM\nGET_VQS_COUNT\nGET_CONFIG_SIZE\n");
	cr_expect_eq(vhost_vdpa_device_type(dp), VIRTIO_ID_BLOCK);
}

VDPA_TEST(the_offer_is_the_devices)
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

VDPA_TEST(a_device_without_access_platform_is_not_given_it)
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

VDPA_TEST(a_path_that_does_not_exist_is_explained)
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

VDPA_TEST(a_file_that_is_no_vdpa_device_is_explained)
{
	struct vhost_vdpa_options o = options();

	o.sys = NULL;
	o.path = "/dev/null";
	cr_expect_eq(try_open(o), -ENOTTY);
	cr_expect(WITHIN(e, "/dev/null is no vDPA device"), "%s", e.text);
}

VDPA_TEST(what_open_refuses_is_explained)
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

VDPA_TEST(another_type_of_device_is_refused)
{
	struct vhost_vdpa_options o = options();

	o.name = "--net";
	o.device_type = VIRTIO_ID_NET;
	cr_expect_eq(try_open(o), -ENODEV);
	cr_expect(WITHIN(e, "is a block device (virtio type 2), not a network device (type 1)"), "%s", e.text);
	cr_expect(WITHIN(e, "--disk vdpa,path="), "%s", e.text);
}

VDPA_TEST(an_older_kernel_is_asked_another_way)
{
	struct datapath_offer o;

	fake.old_kernel = true;
	fake.nqueues = 3;
	open_it();
	dp->ops->offer(dp, &o);
	cr_expect_eq(o.max_queues, 3);
	cr_expect_eq(o.config_len, 60);
}

VDPA_TEST(a_kernel_without_version_2_messages_is_refused)
{
	fake.backend = 0;
	cr_expect_eq(try_open(options()), -EOPNOTSUPP);
	cr_expect(WITHIN(e, "too old"), "%s", e.text);
}

VDPA_TEST(a_legacy_device_is_refused)
{
	fake.features &= ~VERSION_1;
	cr_expect_eq(try_open(options()), -EOPNOTSUPP);
	cr_expect(WITHIN(e, "before virtio 1.0"), "%s", e.text);
}

VDPA_TEST(a_device_without_queues_is_refused)
{
	fake.nqueues = 0;
	cr_expect_eq(try_open(options()), -EINVAL);
	cr_expect(WITHIN(e, "0 queues"), "%s", e.text);
}

VDPA_TEST(memory_that_is_not_shared_is_refused)
{
	struct vhost_vdpa_options o = options();

	o.mem = &m.mem; /* in no file */
	cr_expect_eq(try_open(o), -EINVAL);
	cr_expect(WITHIN(e, "share=off"), "%s", e.text);
}

VDPA_TEST(memory_that_the_device_cannot_address_is_refused)
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

VDPA_TEST(each_call_that_fails_in_opening_leaves_nothing)
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

VDPA_TEST(an_open_descriptor_is_taken_over)
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

/* --- start --- */

#define UP                                                                                                     \
	"SET_STATUS 0\nSET_STATUS 0x1\nGET_STATUS\nSET_STATUS 0x3\nGET_STATUS\nSET_FEATURES 0x300000000\n"     \
	"SET_STATUS 0xb\nGET_STATUS\n"
#define MAP "IOTLB_BATCH_BEGIN\nIOTLB_UPDATE 0 0x400000\nIOTLB_UPDATE 0x800000 0x200000\nIOTLB_BATCH_END\n"
#define UNMAP                                                                                                  \
	"IOTLB_BATCH_BEGIN\nIOTLB_INVALIDATE 0x800000 0x200000\nIOTLB_INVALIDATE 0 "                           \
	"0x400000\nIOTLB_BATCH_END\n"

static const char *queue_up(unsigned i, unsigned base)
{
	static char s[2][512];

	snprintf(s[i], sizeof(s[i]),
		 "SET_VRING_NUM %u %u\nSET_VRING_BASE %u %#x\nSET_VRING_ADDR %u %#llx %#llx %#llx\n"
		 "SET_VRING_KICK %u\nSET_VRING_CALL %u\n",
		 i, SIZE, i, base, i, (unsigned long long)q[i].desc, (unsigned long long)q[i].avail,
		 (unsigned long long)q[i].used, i, i);
	return s[i];
}

VDPA_TEST(start_goes_from_reset_to_driver_ok)
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

VDPA_TEST(start_resumes_where_it_is_told)
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

VDPA_TEST(a_packed_ring_is_told_both_halves)
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

VDPA_TEST(without_batches_memory_is_mapped_piece_by_piece)
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

VDPA_TEST(memory_is_pinned_while_queues_run)
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

VDPA_TEST(a_status_that_is_refused_in_silence_is_seen)
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

VDPA_TEST(each_call_that_fails_in_a_start_leaves_nothing)
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

VDPA_TEST(a_ring_outside_memory_is_refused)
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

VDPA_TEST(what_was_not_offered_is_refused)
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

VDPA_TEST(what_only_the_device_sees_is_not_counted)
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

/* --- stop --- */

VDPA_TEST(stop_waits_resets_and_takes_everything_back)
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

VDPA_TEST(a_device_that_can_be_suspended_is)
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

VDPA_TEST(a_suspend_that_fails_is_made_up_for_by_waiting)
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
VDPA_TEST(what_the_device_has_not_taken_stays_for_the_next)
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

VDPA_TEST(a_reset_waits_for_requests_in_flight)
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

VDPA_TEST(a_kick_that_is_on_its_way_is_waited_for)
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

VDPA_TEST(a_device_that_takes_one_after_the_other_is_not_at_rest)
{
	one_a_look(0);
	cr_expect_eq(q[0].next, SIZE / 2);
}

VDPA_TEST(a_device_that_takes_one_after_the_other_is_not_at_rest_packed)
{
	one_a_look(PACKED);
	cr_expect_eq(q[0].next, 0);
}

VDPA_TEST(requests_that_do_not_end_are_lost_after_a_while)
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

VDPA_TEST(a_packed_ring_with_requests_in_flight_is_lost_too)
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

VDPA_TEST(what_the_device_did_until_the_reset_counts)
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

VDPA_TEST(a_packed_ring_that_went_on_until_the_reset_is_lost)
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
VDPA_TEST(a_packed_ring_with_nothing_in_it_is_not_waited_for)
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

VDPA_TEST(a_packed_position_outside_the_ring_is_not_believed)
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

VDPA_TEST(a_device_that_does_not_know_its_position_is_believed_its_used_index)
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

VDPA_TEST(a_packed_ring_of_which_nobody_knows_the_position_is_lost)
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

VDPA_TEST(a_position_that_cannot_be_is_not_believed)
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
VDPA_TEST(calls_that_fail_in_a_stop_change_nothing_for_the_queues)
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

/* --- the daemon dies --- */

VDPA_TEST(a_dead_device_is_left_at_its_used_index)
{
	open_with(5000, 2000);
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	send(0);
	cr_assert(comes_back(0));
	set_dead(true);
	send(0);
	cr_expect_lt(ms_of(stop, 0, 2), 1000);
	cr_expect_eq(q[0].next, 1);
	cr_expect_not(q[0].lost);
	cr_expect_eq(m.mem.pins, 0);
	cr_expect_eq(start(0, 2), -EIO);
	is_free();
	set_dead(false);
	cr_assert_eq(start(0, 2), 0);
	cr_expect(comes_back(0));
	stop(0, 2);
	is_free();
}

VDPA_TEST(a_daemon_that_returns_goes_on_unnoticed)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	set_dead(true);
	send(0);
	settle();
	vdpa_fake_log(&fake);
	set_dead(false);
	eventfd_write(fake.wake, 1);
	cr_expect(comes_back(0));
	cr_expect_str_eq(vdpa_fake_log(&fake), "");
	cr_expect_eq(failures + changes, 0);
	stop(0, 1);
}

/* --- some of the queues --- */

VDPA_TEST(the_others_go_on_when_one_stops_and_starts)
{
	eventfd_t n;

	open_it();
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	send(0);
	send(1);
	cr_assert(comes_back(0) && comes_back(1));
	settle();
	while (!eventfd_read(q[0].call_fd, &n))
		;
	driver_ring_irq(&ring[0], false, 0); /* nor does the device interrupt */
	add(0);                              /* with no kick: the datapath owes it one */
	stop(1, 1);
	cr_expect_eq(q[1].next, 1);
	cr_expect(comes_back(0));
	cr_expect_eq(eventfd_read(q[0].call_fd, &n), 0);
	add(1);
	settle();
	cr_expect_eq(driver_ring_collect(&ring[1], NULL, NULL), 0);
	vdpa_fake_log(&fake);
	add(0);
	cr_assert_eq(start(1, 1), 0);
	cr_expect(strstr(vdpa_fake_log(&fake), queue_up(0, 2)));
	cr_expect(comes_back(0));
	cr_expect(comes_back(1));
	stop(0, 2);
	cr_expect_eq(q[0].next, 3);
	cr_expect_eq(q[1].next, 2);
	is_free();
}

VDPA_TEST(the_others_go_on_when_one_cannot_be_started)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	q[1].desc = DRIVER_MEM_LOW_END;
	cr_expect_eq(start(1, 1), -EFAULT);
	send(0);
	cr_expect(comes_back(0));
	cr_expect_eq(failures, 0);
	cr_expect_eq(fake.queue[1].kick, -1);
	stop(0, 1);
	is_free();
}

VDPA_TEST(a_second_start_must_agree_with_the_first)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	vdpa_fake_log(&fake);
	features |= EVENT_IDX;
	cr_expect_eq(start(1, 1), -EINVAL);
	features = VERSION_1;
	cr_expect_eq(start(0, 1), -EINVAL); /* it runs */
	cr_expect_str_eq(vdpa_fake_log(&fake), "");
	stop(0, 1);
}

VDPA_TEST(others_that_cannot_go_on_are_reported)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	send(0);
	cr_assert(comes_back(0));
	fake.refuses = VIRTIO_CONFIG_S_DRIVER_OK;
	stop(1, 1);
	cr_expect_eq(failures, 1);
	cr_expect_eq(failed_with, -EIO);
	cr_expect_null(vdpa_fake_is_free(&fake));
	cr_expect_eq(start(1, 1), -EIO);
	stop(0, 1);
	cr_expect_eq(q[0].next, 1);
	cr_expect_not(q[0].lost);
	is_free();
	fake.refuses = 0;
	cr_assert_eq(start(0, 2), 0); /* after a reset it is alive again */
	send(0);
	cr_expect(comes_back(0));
	stop(0, 2);
}

VDPA_TEST(others_with_requests_that_do_not_end_are_reported)
{
	open_with(DRAIN_MS, 1);
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	fake.hold = true;
	send(0);
	wait_held(0, 1);
	stop(1, 1);
	cr_expect_eq(failures, 1);
	cr_expect_not(q[1].lost);
	stop(0, 1);
	cr_expect(q[0].lost);
	is_free();
}

VDPA_TEST(each_call_that_fails_when_a_queue_is_added_spares_the_others)
{
	unsigned n;

	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	for (n = 1; n < MANY; n++) {
		fake.fail_request = n % 2 ? VHOST_SET_VRING_ADDR : VHOST_VDPA_SET_VRING_ENABLE;
		fake.fail_at = 1 + n / 2 % 2;
		cr_expect_eq(start(1, 1), -EINVAL, "%u", n);
		cr_expect_eq(failures, 0);
		send(0);
		cr_expect(comes_back(0));
		if (n == 8)
			break;
	}
	fake.fail_at = 0;
	cr_assert_eq(start(1, 1), 0);
	stop(0, 2);
	is_free();
}

/* --- configuration --- */

VDPA_TEST(the_configuration_is_the_devices)
{
	uint8_t b[4] = {0};

	open_it();
	cr_expect_eq(dp->ops->config_read(dp, 56, b, 4), 0);
	cr_expect_eq(b[0], 57);
	cr_expect_eq(b[3], 60);
	b[0] = 0xaa;
	cr_expect_eq(dp->ops->config_write(dp, 32, b, 1), 0);
	cr_expect_eq(fake.config[32], 0xaa);
	cr_expect_eq(fake.config[33], 34);
	cr_expect_str_eq(vdpa_fake_log(&fake), "GET_CONFIG 56 4\nSET_CONFIG 32 1\n");
	fake.fail_at = 1;
	cr_expect_eq(dp->ops->config_read(dp, 0, b, 4), -EINVAL);
}

VDPA_TEST(beyond_the_configuration_there_is_nothing)
{
	uint8_t b[8];

	open_it();
	cr_expect_eq(dp->ops->config_read(dp, 57, b, 4), -EINVAL);
	cr_expect_eq(dp->ops->config_read(dp, SIZE_MAX, b, 2), -EINVAL);
	cr_expect_eq(dp->ops->config_read(dp, 1, b, SIZE_MAX), -EINVAL);
	cr_expect_eq(dp->ops->config_write(dp, 60, b, 1), -EINVAL);
	cr_expect_eq(dp->ops->config_read(dp, 60, b, 0), 0);
	cr_expect_str_eq(vdpa_fake_log(&fake), "");
}

VDPA_TEST(a_change_of_configuration_is_told)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	vdpa_fake_config_irq(&fake, 0);
	settle();
	cr_expect_eq(changes, 1);
	stop(0, 1);
	vdpa_fake_config_irq(&fake, 0);
	settle();
	cr_expect_eq(changes, 1);
	cr_expect_eq(failures, 0);
}

VDPA_TEST(a_device_that_needs_a_reset_says_so_itself)
{
	open_it();
	rings(features);
	cr_assert_eq(start(0, 1), 0);
	vdpa_fake_config_irq(&fake, NEEDS_RESET);
	settle();
	cr_expect_eq(failures, 1);
	cr_expect_eq(changes, 0);
	stop(0, 1);
	is_free();
}

/* --- a network device --- */

static void net_device(void)
{
	fake.device_id = VIRTIO_ID_NET;
	fake.nqueues = 5;
	fake.features |= BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			 BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_RSS);
}

VDPA_TEST(with_a_control_queue_of_ours_the_devices_own_is_hidden)
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
	cr_expect(offer.features & BIT(VIRTIO_NET_F_MAC));
	cr_expect_eq(offer.features & BIT(VIRTIO_NET_F_RSS), 0);
	cr_expect_eq(offer.max_queues, 2);
	features = VERSION_1 | BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_CTRL_VQ);
	rings(features);
	cr_assert_eq(start(0, 2), 0);
	cr_expect_eq(fake.driver_features, VERSION_1 | PLATFORM | BIT(VIRTIO_NET_F_MAC));
	stop(0, 2);
}

VDPA_TEST(a_device_with_its_own_control_queue_is_offered_whole)
{
	struct datapath_offer offer;

	net_device();
	open_it();
	dp->ops->offer(dp, &offer);
	cr_expect_eq(offer.max_queues, 5);
	cr_expect_eq(offer.features, fake.features & ~PLATFORM);
	cr_expect_eq(offer.opinion, UINT64_MAX);
}

/* --- what every datapath must do --- */

/* The ring has room for what a device that is suspended again and again has had no time for. */
static void conform(uint64_t accepted, unsigned nqueues)
{
	struct datapath_conformance c = {
		.loop = control.loop, .features = accepted, .nqueues = nqueues, .size = 64, .rounds = 200};
	struct vhost_vdpa_options o = options();
	const char *fault;

	fake.nqueues = nqueues;
	fake.features |= accepted;
	o.settle_ms = LONG_MS / 2; /* it always kicks */
	cr_assert_eq(try_open(o), 0, "%s", e.text);
	c.dp = dp;
	fault = datapath_conforms(&c);
	cr_expect_null(fault, "%s", fault);
	cr_expect_eq(fake.lost, 0);
	is_free();
}

VDPA_TEST(conforms_split)
{
	conform(VERSION_1, 2);
}

VDPA_TEST(conforms_split_with_event_idx)
{
	conform(VERSION_1 | EVENT_IDX, 3);
}

VDPA_TEST(conforms_packed)
{
	conform(VERSION_1 | PACKED | EVENT_IDX, 2);
}

VDPA_TEST(conforms_suspended)
{
	fake.backend |= SUSPEND;
	conform(VERSION_1 | EVENT_IDX, 2);
}

VDPA_TEST(conforms_suspended_packed)
{
	fake.backend |= SUSPEND;
	conform(VERSION_1 | PACKED, 2);
}

VDPA_TEST(conforms_without_batches)
{
	fake.backend &= ~BATCH;
	conform(VERSION_1, 1);
}
