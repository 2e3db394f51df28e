#include "lib/virtio_internal.h"

#define HEAP     0x400000ul
#define HEAP_END 0x3000000ul /* guests have 64 MiB */

/* --- memory --- */

static uint64_t heap = HEAP;

void *alloc(size_t len, size_t align)
{
	uint64_t at = (heap + align - 1) & ~(align - 1);

	REQUIRE((uint64_t)image_end <= HEAP);
	REQUIRE(len <= HEAP_END - at);
	heap = at + len;
	for (size_t i = 0; i < (len & ~7ul); i += 8)
		*(volatile uint64_t *)(at + i) = 0;
	for (size_t i = len & ~7ul; i < len; i++)
		*(volatile uint8_t *)(at + i) = 0;
	return (void *)at;
}

uint64_t alloc_mark(void)
{
	return heap;
}

void alloc_release(uint64_t mark)
{
	heap = mark;
}

uint64_t rnd(void)
{
	static uint64_t x = 88172645463325252ul;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* --- interrupts --- */

static struct {
	struct vdev *dev;
	unsigned q; /* VDEV_MAX_QUEUES: not one queue's */
} owner[256];

static void all_queues(struct vdev *d)
{
	for (unsigned q = 0; q < VDEV_MAX_QUEUES; q++)
		if (d->vq[q])
			d->vq[q]->irqs++;
}

/* In ring 0. */
static void on_irq(struct frame *f)
{
	struct vdev *d = owner[f->vector].dev;
	uint32_t why;

	switch (d->irq) {
	case VDEV_MSIX:
		if (owner[f->vector].q == VDEV_MAX_QUEUES)
			d->config_irqs++;
		else if (d->vq[owner[f->vector].q])
			d->vq[owner[f->vector].q]->irqs++;
		break;
	case VDEV_INTX:
		why = read8(d->isr);
		if (why & 1)
			all_queues(d);
		if (why & 2)
			d->config_irqs++;
		break;
	case VDEV_MMIO:
		why = read32(d->common + VIRTIO_MMIO_INTERRUPT_STATUS);
		write32(d->common + VIRTIO_MMIO_INTERRUPT_ACK, why);
		if (why & VIRTIO_MMIO_INT_VRING)
			all_queues(d);
		if (why & VIRTIO_MMIO_INT_CONFIG)
			d->config_irqs++;
		break;
	case VDEV_POLL:
		break;
	}
	eoi();
}

static void setup_irq(struct vdev *d)
{
	static unsigned next_vector = 0x40;

	if (d->irq == VDEV_POLL)
		return;
	lapic_on();
	if (!d->vector) {
		d->vector = next_vector;
		next_vector += 16;
		for (unsigned i = 0; i <= VDEV_MAX_QUEUES; i++) {
			owner[d->vector + i].dev = d;
			owner[d->vector + i].q = i && d->irq == VDEV_MSIX ? i - 1 : VDEV_MAX_QUEUES;
			on_vector((uint8_t)(d->vector + i), on_irq);
		}
	}
	if (d->irq == VDEV_MSIX)
		vdev_pci_msix(d);
	else if (d->irq == VDEV_INTX)
		ioapic_pin(pci_read(d->slot, PCI_INTERRUPT_LINE, 1), (uint8_t)d->vector, true, false);
	else
		ioapic_pin(LAYOUT_GSI_VIRTIO_MMIO + d->slot, (uint8_t)d->vector, false, false);
}

/* --- devices --- */

bool vdev_find(struct vdev *d, uint32_t id, unsigned nth)
{
	*d = (struct vdev){.irq = VDEV_POLL};
	return option_is("transport", "mmio") ? vdev_find_mmio(d, id, nth) : vdev_find_pci(d, id, nth);
}

void vdev_open(struct vdev *d, uint32_t id, unsigned nth)
{
	if (!vdev_find(d, id, nth)) {
		FAIL("there is no device %u of type %u", nth, id);
		finish();
	}
	if (option_is("wait", "irq"))
		d->irq = d->mmio ? VDEV_MMIO : option("intx", 0) ? VDEV_INTX : VDEV_MSIX;
}

uint8_t vdev_status(struct vdev *d)
{
	return d->mmio ? (uint8_t)read32(d->common + VIRTIO_MMIO_STATUS)
		       : read8(d->common + VIRTIO_PCI_COMMON_STATUS);
}

void vdev_set_status(struct vdev *d, uint8_t status)
{
	if (d->mmio)
		write32(d->common + VIRTIO_MMIO_STATUS, status);
	else
		write8(d->common + VIRTIO_PCI_COMMON_STATUS, status);
}

void vdev_reset(struct vdev *d)
{
	uint64_t end = rdtsc() + tsc_khz() * WAIT_MS;

	vdev_set_status(d, 0);
	while (vdev_status(d))
		if (rdtsc() > end) {
			FAIL("the reset does not end");
			finish();
		}
}

bool vdev_wait_needs_reset(struct vdev *d)
{
	uint64_t end = rdtsc() + tsc_khz() * WAIT_MS;

	while (!vdev_needs_reset(d))
		if (rdtsc() > end)
			return false;
	return true;
}

uint64_t vdev_offered(struct vdev *d)
{
	return d->mmio ? vdev_mmio_offered(d) : vdev_pci_offered(d);
}

void vdev_accept(struct vdev *d, uint64_t features)
{
	if (d->mmio)
		vdev_mmio_accept(d, features);
	else
		vdev_pci_accept(d, features);
}

static uint64_t allowed(void)
{
	uint64_t bits = VDEV_RING_BITS;

	if (!option("packed", 0))
		bits &= ~BIT(VIRTIO_F_RING_PACKED);
	if (!option("event_idx", 1))
		bits &= ~BIT(VIRTIO_RING_F_EVENT_IDX);
	if (!option("indirect", 1))
		bits &= ~BIT(VIRTIO_RING_F_INDIRECT_DESC);
	return bits;
}

void vdev_begin(struct vdev *d, uint64_t wanted)
{
	vdev_reset(d);
	vdev_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	vdev_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	d->features = vdev_offered(d) & ((wanted & ~VDEV_RING_BITS) | allowed());
	if (option("packed", 0))
		CHECK(vdev_has(d, VIRTIO_F_RING_PACKED));
	vdev_accept(d, d->features);
	vdev_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(vdev_status(d) & VIRTIO_CONFIG_S_FEATURES_OK)) {
		FAIL("features 0x%lx are refused", d->features);
		finish();
	}
	for (unsigned q = 0; q < VDEV_MAX_QUEUES; q++)
		d->vq[q] = NULL;
	setup_irq(d);
}

void vdev_driver_ok(struct vdev *d)
{
	vdev_set_status(d, (uint8_t)(vdev_status(d) | VIRTIO_CONFIG_S_DRIVER_OK));
	CHECK_EQ(vdev_status(d), 0xf);
}

uint64_t vdev_config(struct vdev *d, unsigned off, unsigned len)
{
	uint64_t at = d->config + off;

	switch (len) {
	case 1:
		return read8(at);
	case 2:
		return read16(at);
	case 4:
		return read32(at);
	default:
		return read32(at) | (uint64_t)read32(at + 4) << 32;
	}
}

static void select(struct vdev *d, unsigned q)
{
	if (d->mmio)
		write32(d->common + VIRTIO_MMIO_QUEUE_SEL, q);
	else
		write16(d->common + VIRTIO_PCI_COMMON_Q_SELECT, (uint16_t)q);
}

unsigned vdev_queue_max(struct vdev *d, unsigned q)
{
	select(d, q);
	return d->mmio ? read32(d->common + VIRTIO_MMIO_QUEUE_NUM_MAX)
		       : read16(d->common + VIRTIO_PCI_COMMON_Q_SIZE);
}

void vdev_queue_size(struct vdev *d, unsigned q, unsigned size)
{
	select(d, q);
	if (d->mmio)
		write32(d->common + VIRTIO_MMIO_QUEUE_NUM, size);
	else
		write16(d->common + VIRTIO_PCI_COMMON_Q_SIZE, (uint16_t)size);
}

void vdev_queue_addr(struct vdev *d, unsigned q, enum vdev_area area, uint64_t addr)
{
	select(d, q);
	if (d->mmio)
		vdev_mmio_addr(d, area, addr);
	else
		vdev_pci_addr(d, area, addr);
}

void vdev_queue_enable(struct vdev *d, unsigned q)
{
	select(d, q);
	if (d->mmio)
		write32(d->common + VIRTIO_MMIO_QUEUE_READY, 1);
	else
		write16(d->common + VIRTIO_PCI_COMMON_Q_ENABLE, 1);
}

bool vdev_queue_enabled(struct vdev *d, unsigned q)
{
	select(d, q);
	return d->mmio ? read32(d->common + VIRTIO_MMIO_QUEUE_READY)
		       : read16(d->common + VIRTIO_PCI_COMMON_Q_ENABLE);
}

void vdev_queue_reset(struct vdev *d, unsigned q)
{
	uint64_t end = rdtsc() + tsc_khz() * WAIT_MS;

	select(d, q);
	if (d->mmio)
		write32(d->common + VIRTIO_MMIO_QUEUE_RESET, 1);
	else
		write16(d->common + VIRTIO_PCI_COMMON_Q_RESET, 1);
	while (d->mmio ? read32(d->common + VIRTIO_MMIO_QUEUE_RESET)
		       : read16(d->common + VIRTIO_PCI_COMMON_Q_RESET))
		if (rdtsc() > end) {
			FAIL("the reset of queue %u does not end", q);
			finish();
		}
}

uint64_t vdev_doorbell(struct vdev *d, unsigned q)
{
	return d->mmio ? d->common + VIRTIO_MMIO_QUEUE_NOTIFY : vdev_pci_doorbell(d, q);
}

static void ring(struct vdev *d, uint64_t doorbell, unsigned q)
{
	if (d->mmio)
		write32(doorbell, q);
	else if (d->notify_pio)
		outw((uint16_t)doorbell, (uint16_t)q);
	else
		write16(doorbell, (uint16_t)q);
}

void vdev_notify(struct vdev *d, unsigned q)
{
	ring(d, vdev_doorbell(d, q), q);
}

/* --- queues --- */

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
	for (unsigned i = 0; i < n; i++) {
		vq->free_next[i] = (uint16_t)(i + 1);
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
	vq->free_next[i] = vq->free_head;
	vq->free_head = i;
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

	flags = (uint16_t)(flags | (vq->wrap ? 1u << VRING_PACKED_DESC_F_AVAIL : 1u << VRING_PACKED_DESC_F_USED));
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
	if (vq->indirect && n > 1) {
		put_packed(vq, (uint64_t)fill_table(vq, id, seg, n), n * 16, id, VRING_DESC_F_INDIRECT, true, &flags);
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
	ring(vq->dev, vq->doorbell, vq->index);
}

bool vq_more(struct vq *vq)
{
	if (vq->packed) {
		uint16_t flags = __atomic_load_n(&vq->pdesc[vq->next_used].flags, __ATOMIC_ACQUIRE);
		bool avail = flags >> VRING_PACKED_DESC_F_AVAIL & 1, used = flags >> VRING_PACKED_DESC_F_USED & 1;

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
		vq->driver_event->flags = !on	       ? VRING_PACKED_EVENT_FLAG_DISABLE
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
				FAIL("queue %u: nothing is used (status 0x%x)", vq->index, vdev_status(vq->dev));
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
			     vq_more(vq) ? "but something is used" : "and nothing is used", vdev_status(vq->dev));
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
