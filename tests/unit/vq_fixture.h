/* A virtqueue and its driver, for the tests of virtqueues. */
#ifndef TESTS_UNIT_VQ_FIXTURE_H
#define TESTS_UNIT_VQ_FIXTURE_H
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/virtqueue.h"
#include "tests/fake/driver_ring.h"

#define BIT(n)   (1ull << (n))
#define PACKED   BIT(VIRTIO_F_RING_PACKED)
#define EVENT    BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER BIT(VIRTIO_F_IN_ORDER)

#define NIOV 64

static struct driver_mem m;
static struct driver_ring r;
static struct queue_stats stats;
static struct datapath_queue q;
static struct virtqueue *vq;
static struct iovec iov[NIOV];
static struct vq_chain c;

/* A queue of that size, started at position pos. */
static inline int try_at(uint16_t size, uint64_t features, uint16_t pos)
{
	driver_mem_init(&m);
	driver_ring_init(&r, &m, size, features, pos);
	stats = (struct queue_stats){0};
	q = (struct datapath_queue){.kick_fd = -1, .call_fd = eventfd(0, EFD_NONBLOCK), .stats = &stats};
	driver_ring_queue(&r, &q);
	c = (struct vq_chain){.iov = iov, .iov_max = NIOV};
	return vq_new(&vq, &q, &m.mem, features | BIT(VIRTIO_F_VERSION_1));
}

static inline void start_at(uint16_t size, uint64_t features, uint16_t pos)
{
	cr_assert_eq(try_at(size, features, pos), 0);
}

static inline void start(uint16_t size, uint64_t features)
{
	start_at(size, features, (uint16_t)(features & PACKED ? 0x8000 : 0));
}

static inline void finish(void)
{
	vq_free(vq);
	vq = NULL;
	if (r.slot)
		driver_ring_fini(&r);
	if (m.map)
		driver_mem_fini(&m);
	if (q.call_fd > 0)
		close(q.call_fd);
	r = (struct driver_ring){0};
	m = (struct driver_mem){0};
	q.call_fd = -1;
}

/* A buffer of one piece; the device can see it after a kick. */
static inline int add(uint32_t len, bool write)
{
	struct driver_buf b = {driver_mem_alloc(&m, len, 1), len, write};

	return driver_ring_add(&r, &b, 1);
}

/* Readable `out` bytes, then writable `in` bytes. */
static inline int add2(uint32_t out, uint32_t in)
{
	struct driver_buf b[2] = {{driver_mem_alloc(&m, out, 1), out, false},
				  {driver_mem_alloc(&m, in, 1), in, true}};

	return driver_ring_add(&r, b, 2);
}

/* The device takes a chain: its head. */
static inline uint16_t take(void)
{
	int rc = vq_pop(vq, &c);

	cr_assert_eq(rc, 1, "vq_pop: %d", rc);
	return c.head;
}

/* The driver collects one: it must be id, of len bytes. */
#define collects(id, len_)                                                                                     \
	do {                                                                                                   \
		uint16_t got_id_ = 0xffff;                                                                     \
		uint32_t got_len_ = 0xffffffff;                                                                \
		int rc_ = driver_ring_collect(&r, &got_id_, &got_len_);                                        \
		cr_assert_eq(rc_, 1, "collect: %d", rc_);                                                      \
		cr_assert_eq((unsigned)got_id_, (unsigned)(id), "id %u", got_id_);                             \
		cr_assert_eq(got_len_, (uint32_t)(len_), "len %u", got_len_);                                  \
	} while (0)

#define collects_nothing() cr_assert_eq(driver_ring_collect(&r, NULL, NULL), 0)

/* How many interrupts since last asked. */
static inline unsigned calls(void)
{
	eventfd_t n = 0;

	return eventfd_read(q.call_fd, &n) ? 0 : (unsigned)n;
}

/* Pops, which must fail in that way, and go on doing so. */
#define breaks(err)                                                                                            \
	do {                                                                                                   \
		int rc_ = vq_pop(vq, &c);                                                                      \
		cr_assert_eq(rc_, (err), "vq_pop: %d", rc_);                                                   \
		cr_expect_eq(vq_error(vq), (err));                                                             \
		cr_expect_eq(vq_pop(vq, &c), (err));                                                           \
		cr_expect_eq(vq_inflight(vq), 0);                                                              \
	} while (0)
#endif
