#include "vmm/pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/layout_x86.h"
#include "vmm/pci_bar.h"
#include "vmm/vmevent.h"

/* A host bridge of no particular make: Red Hat's id for "PCIe host bridge, generic". */
#define HOST_VENDOR    0x1b36
#define HOST_DEVICE    0x0008
#define CLASS_HOST     0x06
#define ADDRESS_ENABLE 0x80000000u
#define RESET_CPU      (1u << 2) /* ICH: reset control register */
/* I/O ports below are for what is not PCI, the PIC and the timer in the kernel among it. */
#define IO_WINDOW      0x1000u
#define IO_WINDOW_SIZE 0xf000u

static struct pci_device *find(struct pci *pci, unsigned bus, unsigned devfn)
{
	if (bus || (devfn & 7))
		return NULL;
	return pci->device[devfn >> 3];
}

static void config_read(struct pci *pci, unsigned bus, unsigned devfn, unsigned off, void *data, unsigned len)
{
	struct pci_device *d = find(pci, bus, devfn);

	if (!d || off + len > sizeof(d->config)) {
		memset(data, 0xff, len);
		return;
	}
	pthread_mutex_lock(&d->lock);
	if (d->config_read)
		d->config_read(d, off, len);
	memcpy(data, d->config + off, len);
	pthread_mutex_unlock(&d->lock);
	if (d->intx && pci_touches(off, len, PCI_STATUS, 1))
		((uint8_t *)data)[PCI_STATUS - off] |= PCI_STATUS_INTERRUPT;
}

/* With pci->intx_lock held. */
static void intx_update(struct pci_device *d)
{
	uint32_t *line = &d->pci->intx_line[d->slot % 4], before = *line;

	if (!d->vmevent)
		return;
	if (d->intx && !d->intx_disabled)
		*line |= 1u << d->slot;
	else
		*line &= ~(1u << d->slot);
	if (!before != !*line)
		d->vmevent->ops->irq_line(d->vmevent, (int)pci_intx_gsi(d->slot), *line);
}

static void intx_command(struct pci_device *d, uint16_t command)
{
	pthread_mutex_lock(&d->pci->intx_lock);
	d->intx_disabled = command & PCI_COMMAND_INTX_DISABLE;
	intx_update(d);
	pthread_mutex_unlock(&d->pci->intx_lock);
}

/* A naturally aligned piece, with d->lock held. */
static void write_piece(struct pci_device *d, unsigned off, const uint8_t *data, unsigned len)
{
	uint16_t old_command = pci_get16(d->config + PCI_COMMAND);

	for (unsigned i = 0; i < len; i++) {
		uint8_t mask = d->writable[off + i];

		d->config[off + i] = (uint8_t)((d->config[off + i] & ~mask) | (data[i] & mask));
	}
	if (pci_touches(off, len, PCI_COMMAND, 2))
		intx_command(d, pci_get16(d->config + PCI_COMMAND));
	pci_bar_written(d, off, len, old_command);
	if (d->config_written)
		d->config_written(d, off, len);
}

static void config_write(struct pci *pci, unsigned bus, unsigned devfn, unsigned off, const void *data,
			 unsigned len)
{
	struct pci_device *d = find(pci, bus, devfn);

	if (!d || off + len > sizeof(d->config))
		return;
	pthread_mutex_lock(&d->lock);
	if ((len == 1 || len == 2 || len == 4) && off % len == 0)
		write_piece(d, off, data, len);
	else /* a device sees what a bus would carry */
		for (unsigned i = 0; i < len; i++)
			write_piece(d, off + i, (const uint8_t *)data + i, 1);
	pthread_mutex_unlock(&d->lock);
}

static void address_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	struct pci *pci = container_of(r, struct pci, address);

	pthread_mutex_lock(&pci->lock);
	memcpy(data, (const char *)&pci->address_register + off, len);
	pthread_mutex_unlock(&pci->lock);
}

static void address_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct pci *pci = container_of(r, struct pci, address);

	if (off == LAYOUT_RESET - LAYOUT_PCI_CONFIG && len == 1) {
		if (*(const uint8_t *)data & RESET_CPU)
			pci->reset(pci->opaque);
		return;
	}
	if (off || len != 4) /* "only full DWORD writes" reach the register */
		return;
	pthread_mutex_lock(&pci->lock);
	memcpy(&pci->address_register, data, len);
	pthread_mutex_unlock(&pci->lock);
}

/* The register's present value; false: no configuration access is meant. */
static bool selected(struct pci *pci, uint32_t *address)
{
	pthread_mutex_lock(&pci->lock);
	*address = pci->address_register;
	pthread_mutex_unlock(&pci->lock);
	return *address & ADDRESS_ENABLE;
}

static void data_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	struct pci *pci = container_of(r, struct pci, data);
	uint32_t a;

	memset(data, 0xff, len);
	if (selected(pci, &a))
		config_read(pci, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) + (unsigned)off, data, len);
}

static void data_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct pci *pci = container_of(r, struct pci, data);
	uint32_t a;

	if (selected(pci, &a))
		config_write(pci, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) + (unsigned)off, data, len);
}

static void ecam_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	struct pci *pci = container_of(r, struct pci, ecam);

	config_read(pci, (unsigned)(off >> 20), off >> 12 & 0xff, off & 0xfff, data, len);
}

static void ecam_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct pci *pci = container_of(r, struct pci, ecam);

	config_write(pci, (unsigned)(off >> 20), off >> 12 & 0xff, off & 0xfff, data, len);
}

int pci_init(struct pci *pci, struct bus *pio, struct bus *mmio, void (*reset)(void *opaque), void *opaque)
{
	static const struct bus_ops address_ops = {.read = address_read, .write = address_write};
	static const struct bus_ops data_ops = {.read = data_read, .write = data_write};
	static const struct bus_ops ecam_ops = {.read = ecam_read, .write = ecam_write};
	int rc;

	memset(pci, 0, sizeof(*pci));
	pthread_mutex_init(&pci->lock, NULL);
	pthread_mutex_init(&pci->intx_lock, NULL);
	pci->pio = pio;
	pci->mmio = mmio;
	pci->io = (struct pci_window){.base = IO_WINDOW, .size = IO_WINDOW_SIZE};
	pci->mem32 = (struct pci_window){.base = LAYOUT_PCI_MMIO32, .size = LAYOUT_PCI_MMIO32_SIZE};
	pci->address = (struct bus_range){.name = "pci-address",
					  .base = LAYOUT_PCI_CONFIG,
					  .size = 4,
					  .ops = &address_ops};
	pci->data = (struct bus_range){.name = "pci-data",
				       .base = LAYOUT_PCI_CONFIG + 4,
				       .size = 4,
				       .ops = &data_ops};
	pci->ecam = (struct bus_range){.name = "pci-ecam",
				       .base = LAYOUT_ECAM,
				       .size = LAYOUT_ECAM_SIZE,
				       .ops = &ecam_ops};
	pci->reset = reset;
	pci->opaque = opaque;
	pci->host.name = "host bridge";
	pci_put16(pci->host.config + PCI_VENDOR_ID, HOST_VENDOR);
	pci_put16(pci->host.config + PCI_DEVICE_ID, HOST_DEVICE);
	pci_put16(pci->host.config + PCI_CLASS_DEVICE, CLASS_HOST << 8);
	rc = pci_add(pci, &pci->host, 0);
	rc = rc ? rc : bus_map(pio, &pci->address);
	rc = rc ? rc : bus_map(pio, &pci->data);
	return rc ? rc : bus_map(mmio, &pci->ecam);
}

void pci_fini(struct pci *pci)
{
	pci_remove(&pci->host);
	pthread_mutex_destroy(&pci->intx_lock);
	pthread_mutex_destroy(&pci->lock);
}

unsigned pci_intx_gsi(unsigned slot)
{
	return LAYOUT_GSI_PCI_INTX + slot % 4;
}

int pci_add(struct pci *pci, struct pci_device *d, unsigned slot)
{
	if (slot >= PCI_MAX_DEVICES)
		return -EINVAL;
	if (pci->device[slot])
		return -EBUSY;
	d->pci = pci;
	d->slot = slot;
	pthread_mutex_init(&d->lock, NULL);
	if (d->vmevent) {
		d->config[PCI_INTERRUPT_PIN] = 1; /* INTA */
		d->config[PCI_INTERRUPT_LINE] = (uint8_t)pci_intx_gsi(slot);
		d->writable[PCI_INTERRUPT_LINE] = 0xff;
		d->writable[PCI_COMMAND + 1] |= PCI_COMMAND_INTX_DISABLE >> 8;
	}
	pci->device[slot] = d;
	return 0;
}

void pci_remove(struct pci_device *d)
{
	if (!d->pci)
		return;
	pci_bar_unmap(d);
	pci_intx(d, false);
	d->pci->device[d->slot] = NULL;
	d->pci = NULL;
	pthread_mutex_destroy(&d->lock);
}

int pci_free_slot(const struct pci *pci)
{
	for (int i = 0; i < PCI_MAX_DEVICES; i++)
		if (!pci->device[i])
			return i;
	return -ENOSPC;
}

int pci_add_capability(struct pci_device *d, uint8_t id, unsigned len)
{
	unsigned at = d->cap_end ? d->cap_end : PCI_STD_HEADER_SIZEOF;

	if (at + len > PCI_CFG_SPACE_SIZE)
		return -ENOSPC;
	d->config[at] = id;
	if (d->last_cap)
		d->config[d->last_cap + 1] = (uint8_t)at;
	else
		d->config[PCI_CAPABILITY_LIST] = (uint8_t)at;
	d->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	d->last_cap = at;
	d->cap_end = (at + len + 3) & ~3u;
	return (int)at;
}

void pci_intx(struct pci_device *d, bool level)
{
	pthread_mutex_lock(&d->pci->intx_lock);
	d->intx = level;
	intx_update(d);
	pthread_mutex_unlock(&d->pci->intx_lock);
}
