/* The driver and the device as two threads that sleep: a wake-up lost by either hangs this. */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/vq_fixture.h"

TestSuite(vq_threads, .fini = finish, .timeout = 30);

#define CHAINS 20000

static int kick_fd;
static _Atomic bool stop;

static void *device(void *arg)
{
	eventfd_t n;

	(void)arg;
	while (!eventfd_read(kick_fd, &n) && !atomic_load(&stop)) {
		do {
			vq_busy(vq);
			while (vq_pop(vq, &c) > 0)
				vq_push(vq, c.head, *(const uint32_t *)iov[0].iov_base);
		} while (vq_wait(vq));
	}
	return NULL;
}

/* What a chain says is what comes back as its length. */
static void run(uint16_t size, uint64_t f)
{
	unsigned added = 0, got = 0, sleeps = 0;
	uint32_t expect[64];
	pthread_t thread;
	gpa_t ram;

	start(size, f);
	close(q.call_fd);
	vq_free(vq);
	q.call_fd = eventfd(0, 0);
	kick_fd = eventfd(0, 0);
	cr_assert_eq(vq_new(&vq, &q, &m.mem, f), 0);
	ram = driver_mem_alloc(&m, 4 * 64, 4);
	atomic_store(&stop, false);
	cr_assert_eq(pthread_create(&thread, NULL, device, NULL), 0);
	while (got < CHAINS) {
		unsigned before = got;
		uint32_t len;
		uint16_t id;

		driver_ring_irq(&r, false, 0);
		while (added < CHAINS && r.nfree >= 2) {
			/* A place for each that can be in flight; ids are below size. */
			gpa_t at = ram + 4 * (added % size);
			struct driver_buf b[2] = {{at, 4, false}, {0x100000, 64, true}};
			int rc;

			*(uint32_t *)driver_mem_ptr(&m, at, 4) = added;
			rc = driver_ring_add(&r, b, 2);
			cr_assert_geq(rc, 0);
			expect[rc] = added++;
			if (driver_ring_kick(&r))
				eventfd_write(kick_fd, 1);
		}
		for (;;) {
			while (driver_ring_collect(&r, &id, &len) > 0) {
				cr_assert_eq(len, expect[id]);
				got++;
			}
			if (got != before)
				break;
			/* Nothing yet: ask, look once more, and sleep. */
			driver_ring_irq(&r, true, 0);
			if (driver_ring_collect(&r, &id, &len) > 0) {
				cr_assert_eq(len, expect[id]);
				got++;
				break;
			}
			eventfd_t n;

			sleeps++;
			eventfd_read(q.call_fd, &n);
		}
	}
	atomic_store(&stop, true);
	eventfd_write(kick_fd, 1);
	pthread_join(thread, NULL);
	close(kick_fd);
	cr_expect_eq(vq_error(vq), 0);
	cr_expect_eq(stats.chains, CHAINS);
	cr_expect_gt(sleeps, 0);
}

Test(vq_threads, no_wake_up_is_lost_split)
{
	run(8, 0);
}

Test(vq_threads, no_wake_up_is_lost_split_event_idx)
{
	run(8, EVENT);
}

Test(vq_threads, no_wake_up_is_lost_split_in_order)
{
	run(64, EVENT | IN_ORDER);
}

Test(vq_threads, no_wake_up_is_lost_packed)
{
	run(8, PACKED);
}

Test(vq_threads, no_wake_up_is_lost_packed_event_idx)
{
	run(7, PACKED | EVENT);
}

Test(vq_threads, no_wake_up_is_lost_packed_in_order)
{
	run(64, PACKED | EVENT | IN_ORDER);
}
