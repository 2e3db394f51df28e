#include "vmm/pci.h"

#include <linux/pci_regs.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/layout_x86.h"

/* A host bridge of no particular make: Red Hat's id for "PCIe host bridge, generic". */
#define HOST_VENDOR    0x1b36
#define HOST_DEVICE    0x0008
#define CLASS_HOST     0x06
#define ADDRESS_ENABLE 0x80000000u
#define RESET_CPU      (1u << 2) /* ICH: reset control register */

static struct pci_device *find(struct pci *pci, unsigned bus, unsigned devfn)
{
	if (bus || (devfn & 7))
		return NULL;
	return pci->device[devfn >> 3];
}

static void config_read(struct pci *pci, unsigned bus, unsigned devfn, unsigned off, void *data, unsigned len)
{
	const struct pci_device *d = find(pci, bus, devfn);

	if (d && off + len <= sizeof(d->config))
		memcpy(data, d->config + off, len);
	else
		memset(data, 0xff, len);
}

static void config_write(struct pci *pci, unsigned bus, unsigned devfn, unsigned off, const void *data,
			 unsigned len)
{
	struct pci_device *d = find(pci, bus, devfn);
	uint32_t value = 0;

	if (!d || !d->config_write || off + len > sizeof(d->config))
		return;
	if ((len != 1 && len != 2 && len != 4) || off % len) { /* a device sees what a bus would carry */
		for (unsigned i = 0; i < len; i++)
			d->config_write(d, (uint16_t)(off + i), ((const uint8_t *)data)[i], 1);
		return;
	}
	memcpy(&value, data, len);
	d->config_write(d, (uint16_t)off, value, len);
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

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

int pci_init(struct pci *pci, struct bus *pio, struct bus *mmio, void (*reset)(void *opaque), void *opaque)
{
	static const struct bus_ops address_ops = {.read = address_read, .write = address_write};
	static const struct bus_ops data_ops = {.read = data_read, .write = data_write};
	static const struct bus_ops ecam_ops = {.read = ecam_read, .write = ecam_write};
	int rc;

	memset(pci, 0, sizeof(*pci));
	pthread_mutex_init(&pci->lock, NULL);
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
	put16(pci->host.config + PCI_VENDOR_ID, HOST_VENDOR);
	put16(pci->host.config + PCI_DEVICE_ID, HOST_DEVICE);
	put16(pci->host.config + PCI_CLASS_DEVICE, CLASS_HOST << 8);
	pci->device[0] = &pci->host;
	rc = bus_map(pio, &pci->address);
	rc = rc ? rc : bus_map(pio, &pci->data);
	return rc ? rc : bus_map(mmio, &pci->ecam);
}

void pci_fini(struct pci *pci)
{
	pthread_mutex_destroy(&pci->lock);
}
