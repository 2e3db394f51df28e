/* For the tests of the datapath that is a device of the kernel's vDPA bus: a kernel and a device that do as
 * they are told, a driver's rings, and the datapath on a loop's thread. */
#ifndef TESTS_UNIT_VDPA_RIG_H
#define TESTS_UNIT_VDPA_RIG_H
#include <criterion/criterion.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/vdpa_fake.h"
#include "tests/unit/open_fds.h"
#include "tests/unit/teardown.h"
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
static unsigned fds_before;
static struct err e;
static _Atomic unsigned changes, failures;
static _Atomic int failed_with;

static inline void on_changed(void *opaque)
{
	(void)opaque;
	changes++;
}

static inline void on_failed(void *opaque, int err)
{
	(void)opaque;
	failed_with = err;
	failures++;
}

static const struct datapath_events events = {.config_changed = on_changed, .failed = on_failed};

static inline struct vhost_vdpa_options options(void)
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
	fds_before = open_fds();
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
	cr_expect_eq(open_fds(), fds_before);
}

static inline void open_with(unsigned drain_ms, unsigned settle_ms)
{
	struct vhost_vdpa_options o = options();

	o.drain_ms = drain_ms;
	o.settle_ms = settle_ms;
	cr_assert_eq(vhost_vdpa_new(&dp, &o, &e), 0, "%s", e.text);
	dp->events = &events;
	vdpa_fake_log(&fake);
}

static inline void open_it(void)
{
	open_with(LONG_MS, 1);
}

static inline int try_open(struct vhost_vdpa_options o)
{
	int rc = vhost_vdpa_new(&dp, &o, &e);

	if (rc)
		dp = NULL;
	return rc;
}

static inline void rings(uint64_t f)
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

static inline void on_loop(void *arg)
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

static inline int start(unsigned first, unsigned n)
{
	struct transition t = {.features = features, .first = first, .n = n, .start = true};

	evloop_call(control.loop, on_loop, &t);
	for (unsigned i = first; !t.rc && i < first + n; i++)
		eventfd_write(q[i].kick_fd, 1);
	return t.rc;
}

static inline void stop(unsigned first, unsigned n)
{
	struct transition t = {.features = features, .first = first, .n = n};

	evloop_call(control.loop, on_loop, &t);
}

static inline void nothing(void *arg)
{
	(void)arg;
}

/* What was signalled to the loop has been handled. */
static inline void settle(void)
{
	for (unsigned i = 0; i < 3; i++) {
		evloop_call(control.loop, nothing, NULL);
		usleep(500);
	}
}

static inline void add(unsigned i)
{
	const struct driver_buf b[] = {{buf + 32 * i, 16, false}, {buf + 32 * i + 16, 16, true}};

	cr_assert_geq(driver_ring_add(&ring[i], b, 2), 0);
	driver_ring_kick(&ring[i]);
}

static inline void send(unsigned i)
{
	add(i);
	eventfd_write(q[i].kick_fd, 1);
}

static inline bool comes_back(unsigned i)
{
	for (unsigned k = 0; k < 20000; k++) {
		if (driver_ring_collect(&ring[i], NULL, NULL) == 1)
			return true;
		usleep(100);
	}
	return false;
}

static inline void wait_held(unsigned i, unsigned n)
{
	for (unsigned k = 0; k < 20000 && vdpa_fake_nheld(&fake, i) < n; k++)
		usleep(100);
	cr_assert_eq(vdpa_fake_nheld(&fake, i), n);
}

static inline void set_dead(bool dead)
{
	pthread_mutex_lock(&fake.lock);
	fake.dead = dead;
	pthread_mutex_unlock(&fake.lock);
}

static inline void is_free(void)
{
	const char *what = vdpa_fake_is_free(&fake);

	cr_expect_null(what, "the device still has %s", what);
	cr_expect_eq(m.mem.pins, 0);
}

static inline unsigned ms_of(void (*fn)(unsigned first, unsigned n), unsigned first, unsigned n)
{
	const uint64_t before = clock_ns(CLOCK_MONOTONIC);

	fn(first, n);
	return (unsigned)((clock_ns(CLOCK_MONOTONIC) - before) / 1000000);
}

/* --- what the device is to be asked --- */

#define UP                                                                                                     \
	"SET_STATUS 0\nSET_STATUS 0x1\nGET_STATUS\nSET_STATUS 0x3\nGET_STATUS\nSET_FEATURES 0x300000000\n"     \
	"SET_STATUS 0xb\nGET_STATUS\n"
#define MAP "IOTLB_BATCH_BEGIN\nIOTLB_UPDATE 0 0x400000\nIOTLB_UPDATE 0x800000 0x200000\nIOTLB_BATCH_END\n"
#define UNMAP                                                                                                  \
	"IOTLB_BATCH_BEGIN\nIOTLB_INVALIDATE 0x800000 0x200000\nIOTLB_INVALIDATE 0 "                           \
	"0x400000\nIOTLB_BATCH_END\n"

static inline const char *queue_up(unsigned i, unsigned base)
{
	static char s[2][512];

	snprintf(s[i], sizeof(s[i]),
		 "SET_VRING_NUM %u %u\nSET_VRING_BASE %u %#x\nSET_VRING_ADDR %u %#llx %#llx %#llx\n"
		 "SET_VRING_KICK %u\nSET_VRING_CALL %u\n",
		 i, SIZE, i, base, i, (unsigned long long)q[i].desc, (unsigned long long)q[i].avail,
		 (unsigned long long)q[i].used, i, i);
	return s[i];
}
#endif
