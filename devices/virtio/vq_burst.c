/* Theory of operation: as nothing is in flight, the used position is where the next pop is, and both formats
 * can be walked without a word of bookkeeping: entry n of the look is entry n of what is used. */
#include "devices/virtio/vq_burst.h"

#include <assert.h>
#include <stdlib.h>

#include "devices/virtio/vq_impl.h"

#define POS_WRAP   0x8000u
#define POS_SLOT   0x7fffu
#define AVAIL_USED (1u << VRING_PACKED_DESC_F_AVAIL | 1u << VRING_PACKED_DESC_F_USED)
#define DIRECT     ((uint64_t)(VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE))

/* The region of the last address, in registers: buffers are written between its uses. */
struct region {
	gpa_t gpa;
	uint64_t size;
	char *hva;
};

static inline __attribute__((always_inline)) struct region region_of(const struct virtqueue *vq)
{
	return (struct region){.gpa = vq->hit_gpa, .size = vq->hit_size, .hva = vq->hit_hva};
}

static __attribute__((noinline)) bool other_region(struct virtqueue *vq, struct region *r, gpa_t addr,
						   uint32_t len)
{
	if (!len || !vq_ptr(vq, addr, len))
		return false;
	*r = region_of(vq);
	return true;
}

/* False: not one piece of RAM, or empty; vq_pop() tells. */
static inline __attribute__((always_inline)) bool buffer(struct virtqueue *vq, struct region *r,
							 struct vq_buf *b, gpa_t addr, uint64_t word)
{
	const uint32_t len = (uint32_t)word;
	uint64_t at = addr - r->gpa, end = at + len;

	if (unlikely(end <= at || end > r->size)) {
		struct region other;

		if (!other_region(vq, &other, addr, len))
			return false;
		*r = other;
		at = addr - r->gpa;
	}
	b->base = r->hva + at;
	b->len = len;
	__builtin_prefetch(b->base);
	return true;
}

/* Chains at hand from vq->next on, at most max. */
static inline unsigned at_hand(struct virtqueue *vq, unsigned max)
{
	uint16_t more = (uint16_t)(vq->avail_idx - vq->next);

	if (more < max) {
		uint16_t idx = vq_load16(&vq->avail->idx, __ATOMIC_ACQUIRE);

		more = (uint16_t)(idx - vq->next);
		if (unlikely(more > vq->size - (uint16_t)(vq->next - vq->used_shown)))
			return 0;
		vq->avail_idx = idx;
	}
	return more < max ? more : max;
}

static unsigned look_split(struct virtqueue *vq, struct vq_buf *buf, unsigned max, uint64_t want)
{
	const struct vring_desc *desc = vq->desc;
	const __virtio16 *ring = vq->avail->ring;
	const uint32_t mask = vq->size - 1u;
	const uint64_t flags = DIRECT << 32;
	struct region r = region_of(vq);
	const unsigned n = at_hand(vq, max);
	uint32_t at = vq->next;

	want <<= 32;
#pragma GCC unroll 4
	for (unsigned i = 0; i < n; i++, at++) {
		const uint32_t head = vq_load16(&ring[at & mask], __ATOMIC_RELAXED);
		const struct vring_desc *d = &desc[head];
		uint64_t word;

		if (unlikely(head > mask))
			return i;
		word = vq_load64(&d->len, __ATOMIC_RELAXED);
		if (unlikely((word & flags) != want) ||
		    unlikely(!buffer(vq, &r, &buf[i], vq_load64(&d->addr, __ATOMIC_RELAXED), word)))
			return i;
		buf[i].head = (uint16_t)head;
	}
	return n;
}

static unsigned look_packed(struct virtqueue *vq, struct vq_buf *buf, unsigned max, uint64_t want)
{
	const unsigned room = (unsigned)(vq->size - vq->ndesc_out), n = room < max ? room : max;
	const struct vring_packed_desc *d = &vq->pdesc[vq->next & POS_SLOT], *end = &vq->pdesc[vq->size];
	const uint64_t flags = (uint64_t)(DIRECT | AVAIL_USED) << 48;
	struct region r = region_of(vq);

	want |= vq->next & POS_WRAP ? 1u << VRING_PACKED_DESC_F_AVAIL : 1u << VRING_PACKED_DESC_F_USED;
	want <<= 48;
#pragma GCC unroll 4
	for (unsigned i = 0; i < n; i++) {
		const uint64_t word = vq_load64(&d->len, __ATOMIC_ACQUIRE);

		if ((word & flags) != want ||
		    unlikely(!buffer(vq, &r, &buf[i], vq_load64(&d->addr, __ATOMIC_RELAXED), word)))
			return i;
		buf[i].head = (uint16_t)(word >> 32);
		if (unlikely(++d == end)) {
			d = vq->pdesc;
			want ^= (uint64_t)AVAIL_USED << 48;
		}
	}
	return n;
}

unsigned vq_burst_look(struct virtqueue *vq, struct vq_buf *buf, unsigned max, bool writable)
{
	const uint64_t want = writable ? VRING_DESC_F_WRITE : 0;

	assert(!vq->inflight);
	if (unlikely(vq->error))
		return 0;
	return vq->packed ? look_packed(vq, buf, max, want) : look_split(vq, buf, max, want);
}

bool vq_burst_odd(const struct virtqueue *vq)
{
	uint32_t flags;

	if (!vq->packed)
		return vq_load16(&vq->avail->idx, __ATOMIC_RELAXED) != vq->next;
	flags = vq_load16(&vq->pdesc[vq->next & POS_SLOT].flags, __ATOMIC_RELAXED) & AVAIL_USED;
	return flags == 1u << (vq->next & POS_WRAP ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED);
}

static void used_split(struct virtqueue *vq, const struct vq_buf *buf, unsigned n, bool writable)
{
	const uint16_t mask = (uint16_t)(vq->size - 1);

	if (vq->in_order && !writable) { /* one entry for all: 2.7.9 */
		vq_split_used(vq, vq->used_next, buf[n - 1].head, 0);
		vq->used_next = (uint16_t)(vq->used_next + n - 1);
	} else {
		struct vring_used_elem *ring = vq->used->ring;
		const uint64_t written = writable ? UINT32_MAX : 0;
		uint32_t at = vq->used_next;

#pragma GCC unroll 4
		for (unsigned i = 0; i < n; i++, at++) {
			const uint64_t e = htole64(buf[i].head | (buf[i].len & written) << 32);

			__builtin_memcpy(&ring[at & mask], &e, sizeof(e));
		}
		vq->used_next = (uint16_t)at;
	}
	vq->next = (uint16_t)(vq->next + n);
	vq->retire_slot = vq->next & mask;
}

/* All but the first since the last flush are seen at once, which shows nothing: see vq_packed.c. */
static void write_packed(struct virtqueue *vq, const struct vq_buf *buf, unsigned n, bool writable)
{
	struct vring_packed_desc *d = &vq->pdesc[vq->used_next & POS_SLOT], *end = &vq->pdesc[vq->size];
	const bool hold = vq->used_next == vq->used_shown;
	const uint64_t written = writable ? UINT32_MAX : 0;
	uint64_t flags = (writable ? VRING_DESC_F_WRITE : 0u) | (vq->used_next & POS_WRAP ? AVAIL_USED : 0u);

	flags <<= 48;
	if (hold) {
		vq->held = (buf->len & written) | (uint64_t)buf->head << 32 | flags;
		d++;
	}
#pragma GCC unroll 4
	for (unsigned i = hold; i < n; i++, d++) {
		if (unlikely(d == end)) {
			d = vq->pdesc;
			flags ^= (uint64_t)AVAIL_USED << 48;
		}
		__atomic_store_n((uint64_t *)(void *)&d->len,
				 htole64((buf[i].len & written) | (uint64_t)buf[i].head << 32 | flags),
				 __ATOMIC_RELAXED);
	}
}

static void used_packed(struct virtqueue *vq, const struct vq_buf *buf, unsigned n, bool writable)
{
	vq->ndesc_out = (uint16_t)(vq->ndesc_out + n);
	vq->next = vq_packed_after(vq, vq->next, n);
	if (vq->in_order && !writable) { /* 2.8.22.1 */
		vq_packed_used(vq, vq->used_next, buf[n - 1].head, 0, (uint16_t)n);
		vq->nshow = (uint16_t)(vq->nshow + n - 1);
		return;
	}
	write_packed(vq, buf, n, writable);
	vq->used_next = vq->next;
	vq->ndesc_done = (uint16_t)(vq->ndesc_done + n);
	vq->nshow = (uint16_t)(vq->nshow + n);
}

void vq_burst_used(struct virtqueue *vq, const struct vq_buf *buf, unsigned n, bool writable)
{
	if (!n)
		return;
	vq->batch = false;
	if (vq->packed)
		used_packed(vq, buf, n, writable);
	else
		used_split(vq, buf, n, writable);
	if (unlikely(vq->unpopped)) {
		vq->unpopped = (uint16_t)(vq->unpopped > n ? vq->unpopped - n : 0);
		vq->rare = vq->in_order || vq->unpopped;
	}
}

/* By an avail ring of our own that says so. */
int vq_pop_again(struct virtqueue *vq, uint16_t head, struct vq_chain *c)
{
	const struct vring_avail *theirs = vq->avail;
	struct vring_avail *ours;
	int rc;

	if (vq->packed)
		return -EINVAL;
	if (vq->error)
		return vq->error;
	ours = calloc(1, sizeof(*ours) + vq->size * sizeof(ours->ring[0]));
	if (!ours)
		return vq_fail(vq, -ENOMEM);
	ours->ring[vq->next & (vq->size - 1)] = htole16(head);
	vq->avail = ours;
	vq->avail_idx = (uint16_t)(vq->next + 1);
	rc = vq_split_pop(vq, c);
	vq->avail = theirs;
	vq->avail_idx = vq->next;
	free(ours);
	return rc;
}
