/* The driver's side of the rings. */
#include "lib/virtio_internal.h"

#define NONE 0xffffu /* the end of the list of free ones */

static void barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void vq_program(struct vq *vq)
{
	struct vdev *d = vq->dev;

	vdev_queue_size(d, vq->index, vq->size);
	vdev_queue_addr(d, vq->index, VDEV_DESC, (uint64_t)(vq->packed ? (void *)vq->pdesc : vq->desc));
	vdev_queue_addr(d, vq->index, VDEV_DRIVER,
			vq->packed ? (uint64_t)vq->driver_event : (uint64_t)vq->avail);
	vdev_queue_addr(d, vq->index, VDEV_DEVICE,
			vq->packed ? (uint64_t)vq->device_event : (uint64_t)vq->used);
	if (d->irq == VDEV_MSIX)
		CHECK_EQ(vdev_set_vector(d, vq->index, (uint16_t)(vq->index + 1)), vq->index + 1);
	vdev_queue_enable(d, vq->index);
	CHECK(vdev_queue_enabled(d, vq->index));
	vq->doorbell = vdev_doorbell(d, vq->index);
}

static void zero(volatile void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((volatile uint8_t *)p)[i] = 0;
}

void vq_clear(struct vq *vq)
{
	unsigned n = vq->size;

	if (vq->packed) {
		zero(vq->pdesc, n * sizeof(vq->pdesc[0]));
		zero(vq->driver_event, 4);
		zero(vq->device_event, 4);
	} else {
		zero(vq->desc, n * sizeof(vq->desc[0]));
		zero(vq->avail, 6 + 2 * n);
		zero(vq->used, 6 + 8 * n);
	}
	vq->next = vq->kicked = vq->next_used = 0;
	vq->wrap = vq->used_wrap = true;
	vq->nkicked = 0;
	vq->nfree = n;
	vq->free_head = 0;
	vq->free_tail = (uint16_t)(n - 1);
	vq->order_in = vq->order_out = 0;
	vq->batching = false;
	for (unsigned i = 0; i < n; i++) {
		vq->free_next[i] = (uint16_t)(i + 1 < n ? i + 1 : NONE);
		vq->token[i] = NULL;
	}
	vq_want_irq(vq, vq->dev->irq != VDEV_POLL);
}

struct vq *vq_new(struct vdev *d, unsigned index, unsigned size)
{
	unsigned max = vdev_queue_max(d, index);
	struct vq *vq = alloc(sizeof(*vq), 64);

	REQUIRE(index < VDEV_MAX_QUEUES && max);
	size = size ? size : max < 256 ? max : 256;
	REQUIRE(size <= max);
	vq->dev = d;
	vq->index = index;
	vq->size = size;
	vq->packed = vdev_has(d, VIRTIO_F_RING_PACKED);
	vq->event_idx = vdev_has(d, VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = vdev_has(d, VIRTIO_RING_F_INDIRECT_DESC);
	vq->in_order = vdev_has(d, VIRTIO_F_IN_ORDER);
	if (vq->packed) {
		vq->pdesc = alloc(size * sizeof(vq->pdesc[0]), 4096);
		vq->driver_event = alloc(4, 64);
		vq->device_event = alloc(4, 64);
	} else {
		vq->desc = alloc(size * sizeof(vq->desc[0]), 4096);
		vq->avail = alloc(6 + 2 * size, 64);
		vq->used = alloc(6 + 8 * size, 4096);
	}
	vq->free_next = alloc(size * 2, 64);
	vq->order = alloc(size * 2, 64);
	vq->count = alloc(size * 2, 64);
	vq->token = alloc(size * sizeof(vq->token[0]), 64);
	vq->tables = alloc(size * VQ_MAX_SEGS * sizeof(vq->tables[0]), 64);
	vq_clear(vq);
	d->vq[index] = vq;
	vq_program(vq);
	return vq;
}

static uint16_t take(struct vq *vq)
{
	uint16_t i = vq->free_head;

	vq->free_head = vq->free_next[i];
	vq->nfree--;
	return i;
}

static void give(struct vq *vq, uint16_t i)
{
	/* First in, first out: in order, descriptors are taken in the ring's */
	vq->free_next[i] = NONE;
	if (vq->free_head == NONE)
		vq->free_head = i;
	else
		vq->free_next[vq->free_tail] = i;
	vq->free_tail = i;
	vq->nfree++;
}

static struct vring_desc *fill_table(struct vq *vq, unsigned id, const struct seg *seg, unsigned n)
{
	struct vring_desc *t = vq->tables + id * VQ_MAX_SEGS;

	for (unsigned i = 0; i < n; i++) {
		uint16_t flags = seg[i].in ? VRING_DESC_F_WRITE : 0;

		if (vq->packed) {
			struct vring_packed_desc *p = (struct vring_packed_desc *)t + i;

			*p = (struct vring_packed_desc){.addr = seg[i].addr, .len = seg[i].len, .flags = flags};
			continue;
		}
		if (i + 1 < n)
			flags |= VRING_DESC_F_NEXT;
		t[i] = (struct vring_desc){seg[i].addr, seg[i].len, flags, (uint16_t)(i + 1)};
	}
	return t;
}

static void add_split(struct vq *vq, const struct seg *seg, unsigned n, void *token)
{
	uint16_t head = take(vq), i = head;

	vq->token[head] = token;
	vq->order[vq->order_in++ % vq->size] = head;
	if (vq->indirect && n > 1) {
		vq->desc[head] = (struct vring_desc){(uint64_t)fill_table(vq, head, seg, n), n * 16,
						     VRING_DESC_F_INDIRECT, 0};
		vq->count[head] = 1;
	} else {
		for (unsigned k = 0; k < n; k++) {
			uint16_t flags = seg[k].in ? VRING_DESC_F_WRITE : 0;
			uint16_t next = k + 1 < n ? take(vq) : 0;

			if (k + 1 < n)
				flags |= VRING_DESC_F_NEXT;
			vq->desc[i] = (struct vring_desc){seg[k].addr, seg[k].len, flags, next};
			i = next;
		}
		vq->count[head] = (uint16_t)n;
	}
	vq->avail->ring[vq->next & (vq->size - 1)] = head;
	__atomic_store_n(&vq->avail->idx, ++vq->next, __ATOMIC_RELEASE);
}

static void put_packed(struct vq *vq, uint64_t addr, uint32_t len, uint16_t id, uint16_t flags, bool later,
		       uint16_t *slot_flags)
{
	volatile struct vring_packed_desc *p = &vq->pdesc[vq->next];

	flags = (uint16_t)(flags |
			   (vq->wrap ? 1u << VRING_PACKED_DESC_F_AVAIL : 1u << VRING_PACKED_DESC_F_USED));
	p->addr = addr;
	p->len = len;
	p->id = id;
	if (later)
		*slot_flags = flags;
	else
		__atomic_store_n(&p->flags, flags, __ATOMIC_RELEASE);
	if (++vq->next == vq->size) {
		vq->next = 0;
		vq->wrap = !vq->wrap;
	}
}

static void add_packed(struct vq *vq, const struct seg *seg, unsigned n, void *token)
{
	uint16_t id = take(vq), first = vq->next, flags = 0;
	unsigned used = n;

	vq->token[id] = token;
	vq->order[vq->order_in++ % vq->size] = id;
	if (vq->indirect && n > 1) {
		put_packed(vq, (uint64_t)fill_table(vq, id, seg, n), n * 16, id, VRING_DESC_F_INDIRECT, true,
			   &flags);
		used = 1;
	} else {
		for (unsigned k = 0; k < n; k++)
			put_packed(vq, seg[k].addr, seg[k].len, id,
				   (uint16_t)((seg[k].in ? VRING_DESC_F_WRITE : 0) |
					      (k + 1 < n ? VRING_DESC_F_NEXT : 0)),
				   !k, &flags);
	}
	vq->count[id] = (uint16_t)used;
	vq->nfree -= used - 1;
	vq->nkicked += used;
	__atomic_store_n(&vq->pdesc[first].flags, flags, __ATOMIC_RELEASE);
}

bool vq_add(struct vq *vq, const struct seg *seg, unsigned n, void *token)
{
	REQUIRE(n && n <= VQ_MAX_SEGS && token);
	if (vq->nfree < (vq->indirect ? 1 : n))
		return false;
	if (vq->packed)
		add_packed(vq, seg, n, token);
	else
		add_split(vq, seg, n, token);
	return true;
}

static bool wants_kick(struct vq *vq)
{
	uint16_t event;

	if (vq->packed) {
		uint16_t flags = vq->device_event->flags, off = vq->device_event->off_wrap;

		if (flags != VRING_PACKED_EVENT_FLAG_DESC)
			return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
		event = off & 0x7fff;
		if (off >> 15 != vq->wrap)
			event = (uint16_t)(event - vq->size);
		return vring_need_event(event, vq->next, (uint16_t)(vq->next - vq->nkicked));
	}
	if (!vq->event_idx)
		return !(vq->used->flags & VRING_USED_F_NO_NOTIFY);
	event = read16((uint64_t)&vq->used->ring[vq->size]);
	return vring_need_event(event, vq->next, vq->kicked);
}

void vq_kick(struct vq *vq)
{
	bool wanted;

	barrier();
	wanted = wants_kick(vq);
	vq->kicked = vq->next;
	vq->nkicked = 0;
	if (!wanted)
		return;
	vq->notified++;
	vdev_ring(vq->dev, vq->doorbell, vq->index);
}

bool vq_more(struct vq *vq)
{
	if (vq->batching)
		return true;
	if (vq->packed) {
		uint16_t flags = __atomic_load_n(&vq->pdesc[vq->next_used].flags, __ATOMIC_ACQUIRE);
		bool avail = flags >> VRING_PACKED_DESC_F_AVAIL & 1,
		     used = flags >> VRING_PACKED_DESC_F_USED & 1;

		return avail == used && used == vq->used_wrap;
	}
	return __atomic_load_n(&vq->used->idx, __ATOMIC_ACQUIRE) != vq->next_used;
}

static void *finished(struct vq *vq, uint32_t id)
{
	void *token;

	if (id >= vq->size || !vq->token[id]) {
		FAIL("queue %u: %u is used and was not available", vq->index, id);
		finish();
	}
	token = vq->token[id];
	vq->token[id] = NULL;
	return token;
}

/* (id, len) of a used entry, to those of the next chain in order */
static void next_in_order(struct vq *vq, uint32_t *id, uint32_t *len)
{
	if (!vq->in_order)
		return;
	if (!vq->batching) {
		vq->batch_id = *id;
		vq->batch_len = *len;
	}
	*id = vq->order[vq->order_out++ % vq->size];
	vq->batching = *id != vq->batch_id;
	*len = vq->batching ? 0 : vq->batch_len;
	if (vq->order_out == vq->order_in && vq->batching) {
		FAIL("queue %u: %u is used and was not available", vq->index, vq->batch_id);
		finish();
	}
}

void *vq_get(struct vq *vq, uint32_t *len)
{
	void *token;
	uint32_t id;

	if (!vq_more(vq))
		return NULL;
	if (vq->packed) {
		volatile struct vring_packed_desc *p = &vq->pdesc[vq->next_used];
		unsigned slot;

		id = p->id;
		*len = p->len;
		next_in_order(vq, &id, len);
		token = finished(vq, id);
		slot = vq->next_used + vq->count[id];
		if (slot >= vq->size) {
			slot -= vq->size;
			vq->used_wrap = !vq->used_wrap;
		}
		vq->next_used = (uint16_t)slot;
		vq->nfree += vq->count[id] - 1u;
		give(vq, (uint16_t)id);
		return token;
	}
	id = vq->used->ring[vq->next_used & (vq->size - 1)].id;
	*len = vq->used->ring[vq->next_used & (vq->size - 1)].len;
	vq->next_used++;
	next_in_order(vq, &id, len);
	token = finished(vq, id);
	for (unsigned n = vq->count[id], i = id; n--;) {
		uint16_t next = vq->desc[i].next;

		give(vq, (uint16_t)i);
		i = next;
	}
	return token;
}

/* For the next used chain, or not at all. */
void vq_want_irq(struct vq *vq, bool on)
{
	if (vq->packed) {
		vq->driver_event->off_wrap = (uint16_t)(vq->next_used | vq->used_wrap << 15);
		vq->driver_event->flags = !on             ? VRING_PACKED_EVENT_FLAG_DISABLE
					  : vq->event_idx ? VRING_PACKED_EVENT_FLAG_DESC
							  : VRING_PACKED_EVENT_FLAG_ENABLE;
	} else if (vq->event_idx) {
		vq->avail->ring[vq->size] = (uint16_t)(on ? vq->next_used : vq->next_used - 1);
	} else {
		vq->avail->flags = on ? 0 : VRING_AVAIL_F_NO_INTERRUPT;
	}
	barrier();
}

bool vq_wait(struct vq *vq)
{
	uint64_t end = rdtsc() + tsc_khz() * WAIT_MS;
	unsigned seen;

	if (vq->dev->irq == VDEV_POLL) {
		while (!vq_more(vq)) {
			if (rdtsc() > end) {
				FAIL("queue %u: nothing is used (status 0x%x)", vq->index,
				     vdev_status(vq->dev));
				return false;
			}
			pause();
		}
		return true;
	}
	for (;;) {
		seen = vq->irqs;
		vq_want_irq(vq, true);
		if (vq_more(vq))
			return true;
		if (!wait_for(&vq->irqs, seen + 1, WAIT_MS) || rdtsc() > end) {
			FAIL("queue %u: no interrupt, %s (status 0x%x)", vq->index,
			     vq_more(vq) ? "but something is used" : "and nothing is used",
			     vdev_status(vq->dev));
			return false;
		}
	}
}

uint32_t vq_do(struct vq *vq, const struct seg *seg, unsigned n)
{
	uint32_t len = 0;

	REQUIRE(vq_add(vq, seg, n, vq));
	vq_kick(vq);
	if (!vq_wait(vq))
		finish();
	vq_get(vq, &len);
	return len;
}
