/* Theory of operation: avail->idx is read once a burst (acquire: the entries it covers are there), and
 * the bounds of what it may be follow from what the driver has been shown, so a ring never holds more
 * than it can.  used->idx is stored once a flush, sequentially consistent, as are the loads and stores
 * of the event fields: whoever publishes looks at the other's wish after that, and whoever wishes looks
 * at the other's index after that, so one of the two always sees the other. */
#include "devices/virtio/vq_impl.h"

static const uint16_t *used_event(const struct virtqueue *vq)
{
	return (const uint16_t *)&vq->avail->ring[vq->size];
}

static uint16_t *avail_event(struct virtqueue *vq)
{
	return (uint16_t *)(void *)&vq->used->ring[vq->size];
}

int vq_split_new(struct virtqueue *vq, const struct datapath_queue *q)
{
	uint64_t event = vq->event_idx ? sizeof(uint16_t) : 0; /* without it the field need not exist */
	uint64_t n = q->size;

	if (!n || n > 32768 || (n & (n - 1)) || q->desc % VRING_DESC_ALIGN_SIZE ||
	    q->avail % VRING_AVAIL_ALIGN_SIZE || q->used % VRING_USED_ALIGN_SIZE)
		return -EINVAL;
	vq->desc = guest_mem_ptr(vq->mem, q->desc, n * sizeof(struct vring_desc));
	vq->avail =
		guest_mem_ptr(vq->mem, q->avail, sizeof(struct vring_avail) + n * sizeof(__virtio16) + event);
	vq->used = guest_mem_ptr(vq->mem, q->used,
				 sizeof(struct vring_used) + n * sizeof(struct vring_used_elem) + event);
	if (!vq->desc || !vq->avail || !vq->used)
		return -EINVAL;
	vq->avail_idx = q->next;
	vq->retire_slot = q->next & (uint16_t)(n - 1);
	/* Nothing is in flight across a hand-over and a new ring is zero (4.1.5.1.3): anything else
	 * would have the driver collect entries that were never written. */
	if (vq_load16(&vq->used->idx, __ATOMIC_RELAXED) != q->next)
		vq_fail(vq, -EILSEQ);
	__atomic_store_n(&vq->used->flags, 0, __ATOMIC_RELAXED);
	if (vq->event_idx)
		__atomic_store_n(avail_event(vq), htole16(q->next), __ATOMIC_SEQ_CST);
	return 0;
}

/* All that was known of is popped. */
static __attribute__((noinline)) int look(struct virtqueue *vq, struct vq_chain *c)
{
	uint16_t idx = vq_load16(&vq->avail->idx, __ATOMIC_ACQUIRE);
	uint16_t more = (uint16_t)(idx - vq->next);

	/* Too many, or fewer than there were. */
	if (unlikely(more > vq->size - (uint16_t)(vq->next - vq->used_shown)))
		return vq_fail(vq, -EILSEQ);
	if (!more)
		return 0;
	vq->avail_idx = idx;
	return vq_split_pop(vq, c);
}

/* A chain, or what is wrong with it: what vq_split_pop() returns. */
static inline __attribute__((always_inline)) int pop_end(struct virtqueue *vq, struct vq_chain *c, size_t head,
							 int rc)
{
	if (unlikely(rc))
		return vq_fail(vq, rc);
	if (unlikely(vq_chain_too_long(c)))
		return vq_fail(vq, -EILSEQ);
	return vq_chain_end(vq, c, vq->next++ & (uint16_t)(vq->size - 1), head, 1);
}

static int walk_indirect(struct virtqueue *vq, struct vq_chain *c, gpa_t gpa, uint32_t len)
{
	uint32_t n = len / sizeof(struct vring_desc), i = 0;
	/* 2.7.5.3.1 says at most size.  What has room in iov does no harm. */
	uint32_t limit = c->iov_max > vq->size ? c->iov_max : vq->size;
	const char *table;

	if (!vq->indirect || !n || len % sizeof(struct vring_desc))
		return -EILSEQ;
	table = vq_ptr(vq, gpa, len);
	if (!table)
		return -EFAULT;
	for (uint32_t step = 1;; step++) {
		const char *d = table + sizeof(struct vring_desc) * (size_t)i;
		uint64_t addr = vq_load64_unaligned(d), word = vq_load64_unaligned(d + 8);
		uint32_t meta = (uint32_t)(word >> 32);
		int rc;

		if (unlikely(meta & VRING_DESC_F_INDIRECT))
			return -EILSEQ;
		rc = vq_chain_put(vq, c, addr, (uint32_t)word, meta & VRING_DESC_F_WRITE);
		if (unlikely(rc))
			return rc;
		if (!(meta & VRING_DESC_F_NEXT))
			return 0;
		i = meta >> 16;
		if (unlikely(i >= n || step >= n))
			return -EILSEQ;
		if (unlikely(step >= limit))
			return -E2BIG;
	}
}

/* (addr, len, meta), a descriptor as it was read, refers to an indirect table.  What came before it is in c.
 * meta: flags, and next in the upper half. */
static __attribute__((noinline)) int pop_indirect(struct virtqueue *vq, struct vq_chain *c, uint64_t addr,
						  uint32_t len, uint32_t meta)
{
	int rc = meta & VRING_DESC_F_NEXT ? -EILSEQ : walk_indirect(vq, c, addr, len);

	return pop_end(vq, c, c->head, rc);
}

/* The chain has something in it that is seldom seen, at (addr, len, meta).  One piece each came before it. */
static __attribute__((noinline)) int pop_odd(struct virtqueue *vq, struct vq_chain *c, uint64_t addr,
					     uint32_t len, uint32_t meta)
{
	for (unsigned step = c->nout + c->nin; step < vq->size; step++) {
		const struct vring_desc *d;
		int rc;

		if (meta & VRING_DESC_F_INDIRECT)
			return pop_indirect(vq, c, addr, len, meta);
		rc = vq_chain_add(vq, c, addr, len, meta & VRING_DESC_F_WRITE);
		if (rc || !(meta & VRING_DESC_F_NEXT))
			return pop_end(vq, c, c->head, rc);
		if (meta >> 16 >= vq->size)
			break;
		d = &vq->desc[meta >> 16];
		addr = vq_load64(&d->addr, __ATOMIC_RELAXED);
		len = vq_load32(&d->len, __ATOMIC_RELAXED);
		meta = vq_load32(&d->flags, __ATOMIC_RELAXED);
	}
	return vq_fail(vq, -EILSEQ);
}

int vq_split_pop(struct virtqueue *vq, struct vq_chain *c)
{
	struct iovec *iov = c->iov;
	unsigned room; /* for pieces and steps alike: pop_odd() tells which it was */
	size_t head, i;

	if (unlikely(vq->next == vq->avail_idx))
		return look(vq, c);
	i = head = vq_load16(&vq->avail->ring[vq->next & (vq->size - 1)], __ATOMIC_RELAXED);
	if (unlikely(head >= vq->size))
		return vq_fail(vq, -EILSEQ);
	if (unlikely(vq->flight[head]))
		return vq_fail(vq, -EBUSY);
	vq_chain_begin(c, (uint16_t)head);
	room = c->iov_max < vq->size ? c->iov_max : vq->size;
	for (;;) {
		const struct vring_desc *d = &vq->desc[i];
		uint64_t addr = vq_load64(&d->addr, __ATOMIC_RELAXED);
		uint64_t len = vq_load32(&d->len, __ATOMIC_RELAXED);
		uint32_t meta = vq_load32(&d->flags, __ATOMIC_RELAXED);

		if (meta & VRING_DESC_F_INDIRECT)
			return pop_indirect(vq, c, addr, (uint32_t)len, meta);
		if (unlikely(!vq_chain_add_quick(vq, c, iov, &room, addr, len, meta & VRING_DESC_F_WRITE)))
			return pop_odd(vq, c, addr, (uint32_t)len, meta);
		if (!(meta & VRING_DESC_F_NEXT))
			return pop_end(vq, c, head, 0);
		iov++;
		i = meta >> 16;
		if (unlikely(i >= vq->size))
			return vq_fail(vq, -EILSEQ);
	}
}

/* Nothing that is read here is gone by. */
void vq_split_ahead(const struct virtqueue *vq, unsigned n)
{
	const uint16_t more =
		(uint16_t)(le16toh(__atomic_load_n(&vq->avail->idx, __ATOMIC_RELAXED)) - vq->next);
	const uint32_t mask = vq->size - 1u;

	if (more < 2)
		return;
	for (uint32_t at = vq->next, end = at + (more < n ? more : n); at != end; at++) {
		const uint16_t head = le16toh(__atomic_load_n(&vq->avail->ring[at & mask], __ATOMIC_RELAXED));

		vq_prefetch(vq, (const uint64_t *)(const void *)&vq->desc[head & mask].addr);
	}
}

unsigned vq_split_show(struct virtqueue *vq, bool *wanted)
{
	uint16_t old = vq->used_shown;

	if (vq->used_next == old)
		return 0;
	__atomic_store_n(&vq->used->idx, htole16(vq->used_next), __ATOMIC_SEQ_CST);
	vq->used_shown = vq->used_next;
	if (vq->event_idx)
		*wanted = vring_need_event(vq_load16(used_event(vq), __ATOMIC_SEQ_CST), vq->used_next, old);
	else
		*wanted = !(vq_load16(&vq->avail->flags, __ATOMIC_SEQ_CST) & VRING_AVAIL_F_NO_INTERRUPT);
	return (uint16_t)(vq->used_next - old);
}

bool vq_split_more(const struct virtqueue *vq)
{
	return vq_load16(&vq->avail->idx, __ATOMIC_RELAXED) != (vq->unpopped ? vq->seen : vq->next);
}

bool vq_split_ask(struct virtqueue *vq)
{
	uint16_t seen = vq->unpopped ? vq->seen : vq->next;

	if (vq->event_idx)
		__atomic_store_n(avail_event(vq), htole16(seen), __ATOMIC_SEQ_CST);
	else if (vq->kicks_off)
		__atomic_store_n(&vq->used->flags, 0, __ATOMIC_SEQ_CST);
	vq->kicks_off = false;
	return vq_load16(&vq->avail->idx, __ATOMIC_SEQ_CST) != seen;
}

/* An event that has passed does not come back before 65535 chains. */
void vq_split_busy(struct virtqueue *vq)
{
	uint16_t seen = vq->unpopped ? vq->seen : vq->next;

	if (vq->event_idx)
		__atomic_store_n(avail_event(vq), htole16((uint16_t)(seen - 1)), __ATOMIC_RELAXED);
	else
		__atomic_store_n(&vq->used->flags, htole16(VRING_USED_F_NO_NOTIFY), __ATOMIC_RELAXED);
}
