/* Bytes -> a ring in guest memory, and what driver and device do to it: add chains as a driver would or
 * as none would, write anything anywhere, pop, push, unpop, flush, wait.  While vq_pop() reads, memory may
 * change under it.  What must hold whatever comes: iovs lie in RAM, no more is in flight than the queue
 * holds, a broken ring stays broken, everything ends. */
#include <stddef.h>
#include <stdint.h>

static void fetched(const void *p, unsigned len);
#define VQ_FETCHED(ptr, len) fetched((ptr), (len))
#include "devices/virtio/virtqueue.c"
#include "devices/virtio/vq_split.c"
/* Both formats have functions of those names. */
#define walk_indirect packed_walk_indirect
#define pop_end       packed_pop_end
#define pop_indirect  packed_pop_indirect
#define pop_odd       packed_pop_odd
#include "devices/virtio/vq_packed.c"

#include <stdio.h>
#include <string.h>

#include "tests/fake/driver_ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NIOV   24
#define TABLES 0x200000
#define NTABLE 64 /* bytes of tables that the input writes: 16 * NTABLE */

#define must(cond)                                                                                             \
	do {                                                                                                   \
		if (!(cond)) {                                                                                 \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
			__builtin_trap();                                                                      \
		}                                                                                              \
	} while (0)

static struct {
	const uint8_t *p, *end;
} in;

static uint8_t byte(void)
{
	return in.p < in.end ? *in.p++ : 0;
}

static uint16_t two(void)
{
	uint16_t hi = byte();

	return (uint16_t)(hi << 8 | byte());
}

static bool flipping;

static void fetched(const void *p, unsigned len)
{
	uint8_t k;

	if (!flipping || in.p == in.end)
		return;
	k = byte();
	if (k & 1)
		memset((char *)(uintptr_t)p + (k >> 1) % len, k >> 3, 1);
}

/* Mostly RAM; now and then on an edge of it, or nowhere. */
static gpa_t some_gpa(void)
{
	uint8_t k = byte();

	switch (k >> 4) {
	case 0:
		return DRIVER_MEM_LOW_END - (k & 15);
	case 1:
		return DRIVER_MEM_HIGH_START + (k & 15) - 8;
	case 2:
		return DRIVER_MEM_HIGH_END - (k & 15);
	case 3:
		return UINT64_MAX - (k & 15);
	case 4:
		return TABLES + (k & 15);
	default:
		return (gpa_t)k << 12;
	}
}

static uint32_t some_len(void)
{
	static const uint32_t odd[] = {0,       1,       15,         16,         32,        48,
				       1 << 20, 1 << 30, 0x7fffffff, 0xfffffff0, 0xffffffff};
	uint8_t k = byte();

	return k & 0x80 ? k & 0x7f : odd[k % (sizeof(odd) / sizeof(*odd))];
}

static struct vring_desc some_desc(void)
{
	struct vring_desc d = {.addr = some_gpa(), .len = some_len()};

	d.flags = byte() & 7;
	d.next = byte();
	return d;
}

static struct driver_mem m;
static struct driver_ring r;
static struct virtqueue *vq;
static struct iovec iov[NIOV];
static struct vq_chain c = {.iov = iov};
static uint16_t flight[65536]; /* in the order they were popped */
static unsigned nflight;

static void check_chain(void)
{
	uint64_t out = 0, sum = 0;

	must(c.nout + c.nin <= c.iov_max);
	for (unsigned i = 0; i < c.nout + c.nin; i++) {
		const char *p = iov[i].iov_base;
		bool found = false;

		for (unsigned k = 0; k < m.mem.nregions; k++) {
			const struct mem_region *g = &m.mem.region[k];
			size_t at = (size_t)(p - (char *)g->hva);

			found |= at < g->size && iov[i].iov_len <= g->size - at;
		}
		must(found && iov[i].iov_len);
		sum += iov[i].iov_len;
		if (i < c.nout)
			out = sum;
	}
	must(c.out_len == out && c.in_len == sum - out && sum <= 1ull << 32);
}

static void add_good(void)
{
	struct driver_buf b[4];
	uint8_t k = byte();
	unsigned n = 1 + (k & 3);

	for (unsigned i = 0; i < n; i++)
		b[i] = (struct driver_buf){0x100000 + 256 * i, (k >> 2 & 15) + 1u, i >= (k >> 6)};
	if (k & 4)
		driver_ring_add_indirect(&r, TABLES, b, n);
	else
		driver_ring_add(&r, b, n);
}

static void act(uint8_t what)
{
	int err = vq_error(vq), rc;

	switch (what & 15) {
	case 0:
	case 1:
		c.iov_max = what & 0x80 ? what >> 4 & 7 : NIOV;
		flipping = what & 0x40;
		rc = vq_pop(vq, &c);
		flipping = false;
		must(!err || rc == err);
		must(rc >= 0 || rc == vq_error(vq));
		if (rc == 1) {
			check_chain();
			flight[nflight++] = c.head;
			must(nflight <= vq_size(vq));
		}
		break;
	case 2:
	case 3:
		if (nflight) {
			unsigned i = what >> 4 & 8 ? nflight - 1 : (what >> 4) % nflight;
			uint16_t head = flight[i];

			memmove(&flight[i], &flight[i + 1], (nflight - i - 1) * sizeof(*flight));
			nflight--;
			vq_push(vq, head, byte());
		}
		break;
	case 4: {
		/* The contract: none of them was pushed. */
		for (unsigned n = what >> 4; n && nflight; n--) {
			uint16_t slot = vq->packed ? vq->pop_slot : vq->next & (uint16_t)(vq->size - 1);

			slot = (uint16_t)((slot ? slot : vq->size) - 1);
			if (vq->order[slot] != flight[nflight - 1])
				break;
			vq_unpop(vq, 1);
			nflight--;
		}
		break;
	}
	case 5:
		vq_flush(vq);
		break;
	case 6:
		rc = vq_wait(vq);
		must(!vq_error(vq) || !rc);
		break;
	case 7:
		vq_busy(vq);
		break;
	case 8:
		add_good();
		break;
	case 9:
		driver_ring_kick(&r);
		break;
	case 10: /* a descriptor no driver would write */
		if (r.packed) {
			struct vring_desc d = some_desc();

			driver_ring_put(&r, d.addr, d.len, d.next, d.flags);
		} else {
			r.desc[byte() % r.size] = some_desc();
		}
		break;
	case 11:
		if (r.packed)
			r.pdesc[byte() % r.size].flags = two();
		else
			driver_ring_offer(&r, byte());
		break;
	case 12:
		((struct vring_desc *)driver_mem_ptr(&m, TABLES, 16 * NTABLE))[byte() % NTABLE] = some_desc();
		break;
	case 13: { /* any word of the ring, driver's or device's */
		uint16_t at = two(), v = two();

		guest_mem_write(&m.mem, r.desc_gpa + at % (m.next - r.desc_gpa - 1), &v, 2);
		break;
	}
	case 14:
		if (r.packed)
			atomic_store(r.driver_event, (uint32_t)two() << 16 | two());
		else
			r.avail_pos = (uint16_t)(r.avail_pos + (int8_t)byte());
		break;
	case 15: /* a driver that collects; it has been through a lot */
		if (!vq_error(vq) && what & 0x80 && !nflight) {
			struct datapath_queue q = {.call_fd = -1, .kick_fd = -1, .stats = vq_stats(vq)};
			uint64_t f = (uint64_t)r.packed << VIRTIO_F_RING_PACKED |
				     (uint64_t)r.event_idx << VIRTIO_RING_F_EVENT_IDX |
				     (uint64_t)r.in_order << VIRTIO_F_IN_ORDER |
				     1ull << VIRTIO_RING_F_INDIRECT_DESC;

			vq_flush(vq);
			driver_ring_queue(&r, &q);
			q.next = vq_position(vq);
			vq_free(vq);
			must(!vq_new(&vq, &q, &m.mem, f));
		} else {
			for (unsigned n = 0; n < r.size && r.norder; n++)
				if (driver_ring_collect(&r, NULL, NULL) <= 0)
					break;
		}
		break;
	}
	must(vq_inflight(vq) == nflight);
	must(!err || vq_error(vq) == err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct queue_stats stats;
	struct datapath_queue q = {.kick_fd = -1, .call_fd = -1, .stats = &stats};
	uint8_t k, s;
	uint64_t f;

	in.p = data;
	in.end = data + size;
	k = byte();
	s = byte();
	f = (uint64_t)(k & 1) << VIRTIO_F_RING_PACKED | (uint64_t)(k >> 1 & 1) << VIRTIO_RING_F_EVENT_IDX |
	    (uint64_t)(k >> 2 & 1) << VIRTIO_F_IN_ORDER | (uint64_t)(k >> 3 & 1) << VIRTIO_RING_F_INDIRECT_DESC;
	driver_mem_init(&m);
	driver_ring_init(&r, &m, (uint16_t)(k & 1 ? 1 + s % 17 : 1 << s % 6), f,
			 (uint16_t)(k & 1 ? (unsigned)(k >> 4 & 1) << 15 : (k & 16 ? 65530u : 0u)));
	driver_ring_queue(&r, &q);
	nflight = 0;
	must(!vq_new(&vq, &q, &m.mem, f));
	while (in.p < in.end)
		act(byte());
	/* What is in flight can be given back whatever has happened. */
	while (nflight)
		vq_push(vq, flight[--nflight], 0);
	vq_flush(vq);
	must(!vq_inflight(vq));
	vq_free(vq);
	driver_ring_fini(&r);
	driver_mem_fini(&m);
	return 0;
}
