/* For the tests of the kernel's vhost: the fake kernel, a driver's rings with NQUEUES queues, and a datapath on
 * a loop's thread.  Who includes this defines NQUEUES before. */
#ifndef TESTS_UNIT_VHOST_RIG_H
#define TESTS_UNIT_VHOST_RIG_H
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/fake/datapath_conformance.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/vhost_kernel_fake.h"
#include "tests/unit/open_fds.h"
#include "tests/unit/teardown.h"
#include "vmm/loop_thread.h"

#define BIT(n)         (1ull << (n))
#define VERSION_1      BIT(VIRTIO_F_VERSION_1)
#define SIZE           8
#define RIG_QUEUES     4
#define RINGS_PER_FILE 2 /* where there is more than one file */

static struct vhost_fake f;
static struct driver_mem m;
static struct driver_ring ring[RIG_QUEUES];
static struct queue_stats stats[RIG_QUEUES];
static struct datapath_queue q[RIG_QUEUES];
static struct datapath_setup setup;
static struct loop_thread thread;
static struct datapath *dp; /* made by the test; NULL: none */
static struct err e;
static unsigned nrings, fds_before;
static _Atomic unsigned failures;
static _Atomic int failure;

static inline void on_failed(void *opaque, int err)
{
	(void)opaque;
	failures++;
	failure = err;
}

static const struct datapath_events events = {.failed = on_failed};

static void rig_init(enum vhost_fake_kind kind, unsigned nqueues)
{
	fds_before = open_fds();
	cr_assert_eq(loop_thread_start(&thread, "test", -1, &e), 0);
	vhost_fake_init(&f, kind);
	driver_mem_init(&m);
	for (nrings = 0; nrings < nqueues; nrings++) {
		const unsigned i = nrings;

		driver_ring_init(&ring[i], &m, SIZE, 0, 0);
		driver_ring_queue(&ring[i], &q[i]);
		q[i].index = i;
		q[i].stats = &stats[i];
		q[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		q[i].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	setup = (struct datapath_setup){.mem = &m.mem, .features = VERSION_1, .nqueues = nqueues, .queue = q};
}

static inline void destroy_datapath(void)
{
	if (dp)
		dp->ops->destroy(dp);
	dp = NULL;
}

static void teardown(void)
{
	destroy_datapath();
	loop_thread_stop(&thread);
	vhost_fake_fini(&f);
	for (unsigned i = 0; i < nrings; i++) {
		driver_ring_fini(&ring[i]);
		close(q[i].kick_fd);
		close(q[i].call_fd);
	}
	driver_mem_fini(&m);
	cr_expect_eq(f.mistakes, 0);
	cr_expect_eq(open_fds(), fds_before);
}

/* --- as the core does it --- */

static int started;

static inline void start_on_loop(void *arg)
{
	started = dp->ops->start(dp, arg);
}

static inline void stop_on_loop(void *arg)
{
	dp->ops->stop(dp, arg);
}

static inline int start(struct datapath_setup *s)
{
	evloop_call(thread.loop, start_on_loop, s);
	return started;
}

static inline void stop(struct datapath_setup *s)
{
	evloop_call(thread.loop, stop_on_loop, s);
}

static inline struct datapath_setup some(unsigned first, unsigned n)
{
	struct datapath_setup s = setup;

	s.nqueues = n;
	s.queue = &q[first];
	return s;
}

static inline void conforms(uint64_t features, unsigned nqueues, uint16_t size)
{
	struct datapath_conformance t = {.dp = dp,
					 .loop = thread.loop,
					 .features = VERSION_1 | features,
					 .nqueues = nqueues,
					 .size = size};
	const char *fault = datapath_conforms(&t);

	cr_expect_not(fault, "%s", fault);
}

/* --- what the kernel is to be asked: written down by expect*(), compared and forgotten by as_expected() --- */

static char expected[8192];
static size_t expected_len;

static inline void expect(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline void expect(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	expected_len += (size_t)vsnprintf(expected + expected_len, sizeof(expected) - expected_len, fmt, ap);
	va_end(ap);
}

static inline void expect_life(unsigned file)
{
	expect("%u SET_FEATURES %#llx\n", file, VERSION_1);
	expect("%u SET_MEM_TABLE %#llx+%#llx %#llx+%#llx\n", file, (unsigned long long)m.mem.region[0].gpa,
	       (unsigned long long)m.mem.region[0].size, (unsigned long long)m.mem.region[1].gpa,
	       (unsigned long long)m.mem.region[1].size);
}

static inline void expect_vring(unsigned file, unsigned vring)
{
	const struct datapath_queue *k = &q[RINGS_PER_FILE * file + vring];

	expect("%u SET_VRING_NUM %u %u\n", file, vring, k->size);
	expect("%u SET_VRING_BASE %u %u\n", file, vring, k->next);
	expect("%u SET_VRING_ADDR %u %#llx %#llx %#llx\n", file, vring, (unsigned long long)k->desc,
	       (unsigned long long)k->avail, (unsigned long long)k->used);
	expect("%u SET_VRING_KICK %u %d\n", file, vring, k->kick_fd);
	expect("%u SET_VRING_CALL %u %d\n", file, vring, k->call_fd);
	expect("%u SET_VRING_ERR %u fd\n", file, vring);
}

static inline void expect_given_back(unsigned file, unsigned vring)
{
	expect("%u GET_VRING_BASE %u\n", file, vring);
	expect("%u SET_VRING_KICK %u -1\n%u SET_VRING_CALL %u -1\n%u SET_VRING_ERR %u -1\n", file, vring, file,
	       vring, file, vring);
}

static inline void as_expected(void)
{
	const char *got = vhost_fake_log(&f);

	cr_expect_str_eq(got, expected, "expected:\n%sgot:\n%s", expected, got);
	expected_len = 0;
	expected[0] = '\0';
}
#endif
