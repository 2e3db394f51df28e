#include "lib/virtio_internal.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc

static bool through_memory(void)
{
	static int known;

	if (!known) {
		outl(CONFIG_ADDRESS, 1u << 31);
		known = read32(LAYOUT_ECAM) == inl(CONFIG_DATA) && !option_is("config", "port") ? 1 : -1;
	}
	return known > 0;
}

uint32_t pci_read(unsigned slot, unsigned off, unsigned len)
{
	uint64_t at = LAYOUT_ECAM + ((uint64_t)slot << 15) + off;

	if (through_memory())
		return len == 1 ? read8(at) : len == 2 ? read16(at) : read32(at);
	outl(CONFIG_ADDRESS, 1u << 31 | slot << 11 | (off & 0xfc));
	at = CONFIG_DATA + (off & 3);
	return len == 1 ? inb((uint16_t)at) : len == 2 ? inw((uint16_t)at) : inl((uint16_t)at);
}

void pci_write(unsigned slot, unsigned off, unsigned len, uint32_t v)
{
	uint64_t at = LAYOUT_ECAM + ((uint64_t)slot << 15) + off;
	uint16_t port = (uint16_t)(CONFIG_DATA + (off & 3));

	if (through_memory()) {
		if (len == 1)
			write8(at, (uint8_t)v);
		else if (len == 2)
			write16(at, (uint16_t)v);
		else
			write32(at, v);
		return;
	}
	outl(CONFIG_ADDRESS, 1u << 31 | slot << 11 | (off & 0xfc));
	if (len == 1)
		outb(port, (uint8_t)v);
	else if (len == 2)
		outw(port, (uint16_t)v);
	else
		outl(port, v);
}

static uint64_t bar_addr(unsigned slot, unsigned bar, bool *io)
{
	unsigned off = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint32_t v = pci_read(slot, off, 4);

	*io = v & PCI_BASE_ADDRESS_SPACE_IO;
	if (*io)
		return v & PCI_BASE_ADDRESS_IO_MASK;
	if ((v & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		return (v & ~0xful) | (uint64_t)pci_read(slot, off + 4, 4) << 32;
	return v & ~0xful;
}

static void found(struct vdev *d, unsigned cap)
{
	unsigned bar = pci_read(d->slot, cap + VIRTIO_PCI_CAP_BAR, 1);
	uint64_t off = pci_read(d->slot, cap + VIRTIO_PCI_CAP_OFFSET, 4);
	bool io;

	switch (pci_read(d->slot, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		d->bar = bar_addr(d->slot, bar, &io);
		d->common = d->bar + off;
		return;
	case VIRTIO_PCI_CAP_ISR_CFG:
		d->isr = bar_addr(d->slot, bar, &io) + off;
		return;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		d->config = bar_addr(d->slot, bar, &io) + off;
		return;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		if (d->notify_mult) /* the first is what the device likes best */
			return;
		d->notify = bar_addr(d->slot, bar, &io) + off;
		d->notify_pio = io;
		d->notify_mult = pci_read(d->slot, cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
		d->notify_len = pci_read(d->slot, cap + VIRTIO_PCI_CAP_LENGTH, 4);
		return;
	case VIRTIO_PCI_CAP_PCI_CFG:
		d->window_cap = cap;
		return;
	}
}

static void found_msix(struct vdev *d, unsigned cap)
{
	uint32_t table = pci_read(d->slot, cap + PCI_MSIX_TABLE, 4),
		 pba = pci_read(d->slot, cap + PCI_MSIX_PBA, 4);
	bool io;

	d->msix_cap = cap;
	d->nvectors = (pci_read(d->slot, cap + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
	d->msix_table = bar_addr(d->slot, table & 7, &io) + (table & ~7u);
	d->msix_pba = bar_addr(d->slot, pba & 7, &io) + (pba & ~7u);
}

bool vdev_find_pci(struct vdev *d, uint32_t id, unsigned nth)
{
	for (unsigned slot = 0; slot < 32; slot++) {
		unsigned cap, n = 0;

		if (pci_read(slot, 0, 4) != (0x1af4 | (0x1040 + id) << 16) || nth--)
			continue;
		d->slot = slot;
		d->id = id;
		for (cap = pci_read(slot, PCI_CAPABILITY_LIST, 1) & 0xfc; cap && n < 48;
		     cap = pci_read(slot, cap + 1, 1) & 0xfc, n++) {
			if (pci_read(slot, cap, 1) == PCI_CAP_ID_VNDR)
				found(d, cap);
			else if (pci_read(slot, cap, 1) == PCI_CAP_ID_MSIX)
				found_msix(d, cap);
		}
		if (n == 48)
			FAIL("the capabilities of slot %u do not end", slot);
		pci_write(slot, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		return d->common && d->notify && d->isr;
	}
	return false;
}

void vdev_msix_mask(struct vdev *d, unsigned vector, bool masked)
{
	write32(d->msix_table + 16 * vector + 12, masked);
}

void vdev_msix_enable(struct vdev *d, bool on)
{
	pci_write(d->slot, d->msix_cap + PCI_MSIX_FLAGS, 2, on ? PCI_MSIX_FLAGS_ENABLE : 0);
}

uint16_t vdev_set_vector(struct vdev *d, unsigned q, uint16_t vector)
{
	write16(d->common + VIRTIO_PCI_COMMON_Q_SELECT, (uint16_t)q);
	write16(d->common + VIRTIO_PCI_COMMON_Q_MSIX, vector);
	return read16(d->common + VIRTIO_PCI_COMMON_Q_MSIX);
}

/* Configuration first, then the queues. */
void vdev_pci_msix(struct vdev *d)
{
	uint32_t addr = (uint32_t)LAYOUT_LAPIC | (lapic_read(LAPIC_ID) >> 24) << 12;
	unsigned n = d->nvectors < VDEV_MAX_QUEUES + 1 ? d->nvectors : VDEV_MAX_QUEUES + 1;

	for (unsigned i = 0; i < n; i++) {
		write32(d->msix_table + 16 * i, addr);
		write32(d->msix_table + 16 * i + 4, 0);
		write32(d->msix_table + 16 * i + 8, d->vector + i);
		vdev_msix_mask(d, i, false);
	}
	vdev_msix_enable(d, true);
	write16(d->common + VIRTIO_PCI_COMMON_MSIX, 0);
	CHECK_EQ(read16(d->common + VIRTIO_PCI_COMMON_MSIX), 0);
}

/* --- the memory BAR: the first one --- */

void vdev_bar_write(struct vdev *d, uint64_t addr, bool off)
{
	uint32_t command = pci_read(d->slot, PCI_COMMAND, 2);

	if (off)
		pci_write(d->slot, PCI_COMMAND, 2, command & ~(uint32_t)PCI_COMMAND_MEMORY);
	pci_write(d->slot, PCI_BASE_ADDRESS_0, 4, (uint32_t)addr);
	pci_write(d->slot, PCI_BASE_ADDRESS_0 + 4, 4, (uint32_t)(addr >> 32));
	if (off)
		pci_write(d->slot, PCI_COMMAND, 2, command);
}

void vdev_bar_moved(struct vdev *d, uint64_t to)
{
	uint64_t by = to - d->bar;

	d->bar += by;
	d->common += by;
	d->isr += by;
	d->config += by;
	d->msix_table += by;
	d->msix_pba += by;
	if (d->notify_pio)
		return;
	d->notify += by;
	for (unsigned q = 0; q < VDEV_MAX_QUEUES; q++)
		if (d->vq[q])
			d->vq[q]->doorbell += by;
}

/* --- registers --- */

uint64_t vdev_pci_offered(struct vdev *d)
{
	uint64_t f;

	write32(d->common + VIRTIO_PCI_COMMON_DFSELECT, 0);
	f = read32(d->common + VIRTIO_PCI_COMMON_DF);
	write32(d->common + VIRTIO_PCI_COMMON_DFSELECT, 1);
	return f | (uint64_t)read32(d->common + VIRTIO_PCI_COMMON_DF) << 32;
}

void vdev_pci_accept(struct vdev *d, uint64_t features)
{
	write32(d->common + VIRTIO_PCI_COMMON_GFSELECT, 0);
	write32(d->common + VIRTIO_PCI_COMMON_GF, (uint32_t)features);
	write32(d->common + VIRTIO_PCI_COMMON_GFSELECT, 1);
	write32(d->common + VIRTIO_PCI_COMMON_GF, (uint32_t)(features >> 32));
}

void vdev_pci_addr(struct vdev *d, enum vdev_area area, uint64_t addr)
{
	uint64_t at = d->common + VIRTIO_PCI_COMMON_Q_DESCLO + 8 * area;

	write32(at, (uint32_t)addr);
	write32(at + 4, (uint32_t)(addr >> 32));
}

uint64_t vdev_pci_doorbell(struct vdev *d, unsigned q)
{
	write16(d->common + VIRTIO_PCI_COMMON_Q_SELECT, (uint16_t)q);
	return d->notify + (uint64_t)read16(d->common + VIRTIO_PCI_COMMON_Q_NOFF) * d->notify_mult;
}
