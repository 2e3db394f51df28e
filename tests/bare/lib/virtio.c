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
	outb(0x21, 0xff); /* firmware may have left the PIC's timer on */
	outb(0xa1, 0xff);
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
	if (!option("in_order", 0))
		bits &= ~BIT(VIRTIO_F_IN_ORDER);
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
	if (option("in_order", 0))
		CHECK(vdev_has(d, VIRTIO_F_IN_ORDER));
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

void vdev_ring(struct vdev *d, uint64_t doorbell, unsigned q)
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
	vdev_ring(d, vdev_doorbell(d, q), q);
}
