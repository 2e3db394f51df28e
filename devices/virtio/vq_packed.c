/* Theory of operation: flags, id and len of a descriptor share one aligned word, which a processor reads
 * whole, so one load (acquire) tells that it is available and what it says.  Used descriptors are written as
 * they come, but for the first since the last flush: the driver, who collects in ring order, passes none before
 * that one, so a single store shows the burst.  As for order with the event fields, see vq_split.c. */
#include "devices/virtio/vq_impl.h"

#define POS_WRAP 0x8000u
#define POS_SLOT 0x7fffu

#define F_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define F_USED  (1u << VRING_PACKED_DESC_F_USED)

/* A descriptor's second half: len, id, flags. */
static inline uint32_t len_of(uint64_t word)
{
	return (uint32_t)word;
}

static inline uint16_t id_of(uint64_t word)
{
	return (uint16_t)(word >> 32);
}

static inline uint32_t flags_of(uint64_t word)
{
	return (uint32_t)(word >> 48);
}

static void ask(struct virtqueue *vq, uint16_t off_wrap, uint32_t flags, int order)
{
	__atomic_store_n(vq->device_event, htole32(off_wrap | flags << 16), order);
}

int vq_packed_new(struct virtqueue *vq, const struct datapath_queue *q)
{
	uint64_t n = q->size;

	if (!n || n > 32768 || (q->next & POS_SLOT) >= n || q->desc % VRING_DESC_ALIGN_SIZE || q->avail % 4 ||
	    q->used % 4)
		return -EINVAL;
	vq->pdesc = guest_mem_ptr(vq->mem, q->desc, n * sizeof(struct vring_packed_desc));
	vq->driver_event = guest_mem_ptr(vq->mem, q->avail, sizeof(struct vring_packed_desc_event));
	vq->device_event = guest_mem_ptr(vq->mem, q->used, sizeof(struct vring_packed_desc_event));
	if (!vq->pdesc || !vq->driver_event || !vq->device_event)
		return -EINVAL;
	vq->kicks_off = true;
	vq_packed_ask(vq);
	return 0;
}

/* Of an available descriptor: 2.8.1. */
static uint32_t want_at(uint16_t pos)
{
	return pos & POS_WRAP ? F_AVAIL : F_USED;
}

static bool is_avail(uint64_t word, uint32_t want)
{
	return (flags_of(word) & (F_AVAIL | F_USED)) == want;
}

static const char *desc_at(const struct virtqueue *vq, uint16_t pos)
{
	return (const char *)&vq->pdesc[pos & POS_SLOT];
}

static int walk_indirect(struct virtqueue *vq, struct vq_chain *c, gpa_t gpa, uint32_t len)
{
	uint32_t n = len / sizeof(struct vring_packed_desc);
	/* 2.8.19 says at most size.  What has room in iov does no harm. */
	uint32_t limit = c->iov_max > vq->size ? c->iov_max : vq->size;
	const char *d;

	if (!vq->indirect || !n || len % sizeof(struct vring_packed_desc))
		return -EILSEQ;
	if (n > limit)
		return -E2BIG;
	d = vq_ptr(vq, gpa, len);
	if (!d)
		return -EFAULT;
	for (; n; n--, d += sizeof(struct vring_packed_desc)) {
		uint64_t addr = vq_load64_unaligned(d), word = vq_load64_unaligned(d + 8);
		/* 2.8.7: no flag but WRITE means anything here. */
		int rc = vq_chain_put(vq, c, addr, len_of(word), flags_of(word) & VRING_DESC_F_WRITE);

		if (unlikely(rc))
			return rc;
	}
	return 0;
}

/* The chain in c ends with `word` at pos, after n descriptors. */
static inline __attribute__((always_inline)) int pop_end(struct virtqueue *vq, struct vq_chain *c, uint16_t pos,
							 unsigned n, uint64_t word)
{
	uint16_t slot = vq->pop_slot, id = id_of(word);

	c->head = id;
	if (unlikely(vq->flight[id]))
		return vq_fail(vq, -EBUSY);
	if (unlikely(vq_chain_too_long(c)))
		return vq_fail(vq, -EILSEQ);
	vq->pop_slot = (uint16_t)(slot + 1 == vq->size ? 0 : slot + 1);
	vq->ndesc_out = (uint16_t)(vq->ndesc_out + n);
	vq->next = vq_packed_after(vq, pos, 1);
	return vq_chain_end(vq, c, slot, id, (uint16_t)n);
}

/* (addr, word) at vq->next refers to an indirect table: on its own only, 2.8.19. */
static __attribute__((noinline)) int pop_indirect(struct virtqueue *vq, struct vq_chain *c, uint64_t addr,
						  uint64_t word)
{
	int rc = flags_of(word) & VRING_DESC_F_NEXT ? -EILSEQ : walk_indirect(vq, c, addr, len_of(word));

	return rc ? vq_fail(vq, rc) : pop_end(vq, c, vq->next, 1, word);
}

/* The chain has something in it that is seldom seen, at pos: (addr, word), its n-th descriptor. */
static __attribute__((noinline)) int pop_odd(struct virtqueue *vq, struct vq_chain *c, uint16_t pos, unsigned n,
					     uint64_t addr, uint64_t word)
{
	for (;; n++) {
		int rc = -EILSEQ;

		if (n <= (unsigned)(vq->size - vq->ndesc_out) && !(flags_of(word) & VRING_DESC_F_INDIRECT))
			rc = vq_chain_add(vq, c, addr, len_of(word), flags_of(word) & VRING_DESC_F_WRITE);
		if (rc)
			return vq_fail(vq, rc);
		if (!(flags_of(word) & VRING_DESC_F_NEXT))
			return pop_end(vq, c, pos, n, word);
		pos = vq_packed_after(vq, pos, 1);
		word = vq_load64(desc_at(vq, pos) + 8, __ATOMIC_RELAXED);
		addr = vq_load64(desc_at(vq, pos), __ATOMIC_RELAXED);
		if (!is_avail(word, want_at(pos)))
			return vq_fail(vq, -EILSEQ);
	}
}

int vq_packed_pop(struct virtqueue *vq, struct vq_chain *c)
{
	uint16_t pos = vq->next;
	uint32_t want = want_at(pos);
	uint64_t word = vq_load64(desc_at(vq, pos) + 8, __ATOMIC_ACQUIRE), addr;
	struct iovec *iov = c->iov;
	unsigned most, room; /* pieces and descriptors alike: pop_odd() tells which it was */

	if (!is_avail(word, want))
		return 0;
	vq_chain_begin(c, 0);
	addr = vq_load64(desc_at(vq, pos), __ATOMIC_RELAXED);
	most = (unsigned)(vq->size - vq->ndesc_out);
	if ((flags_of(word) & VRING_DESC_F_INDIRECT) && most)
		return pop_indirect(vq, c, addr, word);
	room = most = c->iov_max < most ? c->iov_max : most;
	for (;;) {
		if (unlikely(flags_of(word) & VRING_DESC_F_INDIRECT) ||
		    unlikely(!vq_chain_add_quick(vq, c, iov, &room, addr, len_of(word),
						 flags_of(word) & VRING_DESC_F_WRITE)))
			return pop_odd(vq, c, pos, most - room + 1, addr, word);
		if (!(flags_of(word) & VRING_DESC_F_NEXT))
			return pop_end(vq, c, pos, most - room, word);
		iov++;
		pos = vq_packed_after(vq, pos, 1);
		if (unlikely(!(pos & POS_SLOT)))
			want ^= F_AVAIL | F_USED;
		word = vq_load64(desc_at(vq, pos) + 8, __ATOMIC_RELAXED);
		addr = vq_load64(desc_at(vq, pos), __ATOMIC_RELAXED);
		if (unlikely(!is_avail(word, want)))
			return vq_fail(vq, -EILSEQ);
	}
}

/* Nothing that is read here is gone by. */
void vq_packed_ahead(const struct virtqueue *vq, unsigned n)
{
	uint16_t pos = vq->next;

	for (; n; n--, pos = vq_packed_after(vq, pos, 1)) {
		const uint64_t *d = (const uint64_t *)(const void *)desc_at(vq, pos);

		if (!is_avail(le64toh(__atomic_load_n(d + 1, __ATOMIC_RELAXED)), want_at(pos)))
			break;
		vq_prefetch(vq, d);
	}
}

void vq_packed_used(struct virtqueue *vq, uint16_t entry, uint16_t id, uint32_t written, uint16_t ndesc)
{
	uint64_t flags = (written ? VRING_DESC_F_WRITE : 0) | (entry & POS_WRAP ? F_AVAIL | F_USED : 0);
	uint64_t word = written | (uint64_t)id << 32 | flags << 48;

	if (entry == vq->used_shown)
		vq->held = word;
	else
		__atomic_store_n((uint64_t *)(void *)&vq->pdesc[entry & POS_SLOT].len, htole64(word),
				 __ATOMIC_RELAXED);
	vq->used_next = vq_packed_after(vq, vq->used_next, ndesc);
	vq->ndesc_done = (uint16_t)(vq->ndesc_done + ndesc);
	vq->nshow++;
}

unsigned vq_packed_show(struct virtqueue *vq, bool *wanted)
{
	uint16_t pos = vq->used_next & POS_SLOT, ndesc = vq->ndesc_done, event;
	unsigned nshow = vq->nshow;
	uint32_t wish;

	if (!nshow)
		return 0;
	__atomic_store_n((uint64_t *)(void *)&vq->pdesc[vq->used_shown & POS_SLOT].len, htole64(vq->held),
			 __ATOMIC_SEQ_CST);
	vq->used_shown = vq->used_next;
	vq->ndesc_out = (uint16_t)(vq->ndesc_out - ndesc);
	vq->ndesc_done = 0;
	vq->nshow = 0;
	wish = vq_load32(vq->driver_event, __ATOMIC_SEQ_CST);
	*wanted = (wish >> 16 & 3) != VRING_PACKED_EVENT_FLAG_DISABLE;
	if ((wish >> 16 & 3) == VRING_PACKED_EVENT_FLAG_DESC && vq->event_idx) {
		event = wish & POS_SLOT;
		if ((wish ^ vq->used_next) & POS_WRAP)
			event = (uint16_t)(event - vq->size); /* a lap ago */
		*wanted = vring_need_event(event, pos, (uint16_t)(pos - ndesc));
	}
	return nshow;
}

bool vq_packed_more(const struct virtqueue *vq)
{
	uint16_t seen = vq->unpopped ? vq->seen : vq->next;

	return is_avail(vq_load64(desc_at(vq, seen) + 8, __ATOMIC_RELAXED), want_at(seen));
}

bool vq_packed_ask(struct virtqueue *vq)
{
	uint16_t seen = vq->unpopped ? vq->seen : vq->next;

	if (vq->event_idx)
		ask(vq, seen, VRING_PACKED_EVENT_FLAG_DESC, __ATOMIC_SEQ_CST);
	else if (vq->kicks_off)
		ask(vq, 0, VRING_PACKED_EVENT_FLAG_ENABLE, __ATOMIC_SEQ_CST);
	vq->kicks_off = false;
	return is_avail(vq_load64(desc_at(vq, seen) + 8, __ATOMIC_SEQ_CST), want_at(seen));
}

void vq_packed_busy(struct virtqueue *vq)
{
	ask(vq, 0, VRING_PACKED_EVENT_FLAG_DISABLE, __ATOMIC_RELAXED);
}
