#include "vmm/pci_bar.h"

#include <errno.h>
#include <linux/pci_regs.h>

#include "lib/cleanup.h"
#include "vmm/layout_x86.h"

static void place_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	struct pci_bar *b = container_of(r, struct pci_bar_place, range)->bar;

	b->ops->read(b, off, data, len);
}

static void place_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct pci_bar *b = container_of(r, struct pci_bar_place, range)->bar;

	b->ops->write(b, off, data, len);
}

static const struct bus_ops place_ops = {.read = place_read, .write = place_write};

static uint8_t *bar_register(const struct pci_bar *b)
{
	return b->dev->config + PCI_BASE_ADDRESS_0 + 4 * b->index;
}

static uint64_t register_get(const struct pci_bar *b)
{
	const uint8_t *reg = bar_register(b);

	if (b->io)
		return pci_get32(reg) & ~3u;
	return (pci_get32(reg) & ~0xfu) | (uint64_t)pci_get32(reg + 4) << 32;
}

static void register_set(struct pci_bar *b, uint64_t addr)
{
	uint8_t *reg = bar_register(b);

	if (b->io) {
		pci_put32(reg, (uint32_t)addr | PCI_BASE_ADDRESS_SPACE_IO);
		return;
	}
	pci_put32(reg, (uint32_t)addr | PCI_BASE_ADDRESS_MEM_TYPE_64);
	pci_put32(reg + 4, (uint32_t)(addr >> 32));
}

static struct bus *bus_of(const struct pci_bar *b)
{
	return b->io ? b->dev->pci->pio : b->dev->pci->mmio;
}

static bool within(const struct pci_window *w, uint64_t addr, uint64_t size)
{
	return addr >= w->base && size <= w->size && addr - w->base <= w->size - size;
}

static bool in_window(const struct pci_bar *b, uint64_t addr)
{
	const struct pci *pci = b->dev->pci;

	if (b->io)
		return within(&pci->io, addr, b->size);
	return within(&pci->mem32, addr, b->size) || within(&pci->mem64, addr, b->size);
}

/* 0, or -errno and nothing has changed. */
static int settle(struct pci_bar *b, uint64_t to)
{
	unsigned next = !b->current;
	struct bus_range *r = &b->place[next].range;
	int rc;

	if (!in_window(b, to))
		return -ERANGE;
	b->place[next].bar = b;
	r->name = b->name;
	r->base = to;
	r->size = b->size;
	r->ops = &place_ops;
	rc = bus_map(bus_of(b), r);
	if (rc)
		return rc;
	rc = b->ops->move ? b->ops->move(b, to) : 0;
	if (rc) {
		bus_unmap(bus_of(b), r);
		return rc;
	}
	if (b->addr != PCI_BAR_NOWHERE)
		bus_unmap(bus_of(b), &b->place[b->current].range);
	b->current = next;
	b->addr = b->home = to;
	return 0;
}

static void leave(struct pci_bar *b)
{
	if (b->addr == PCI_BAR_NOWHERE)
		return;
	if (b->ops->move)
		b->ops->move(b, PCI_BAR_NOWHERE);
	bus_unmap(bus_of(b), &b->place[b->current].range);
	b->addr = PCI_BAR_NOWHERE;
}

void pci_bar_written(struct pci_device *d, unsigned off, unsigned len, uint16_t old_command)
{
	uint16_t command = pci_get16(d->config + PCI_COMMAND);

	if (!pci_touches(off, len, PCI_COMMAND, 2) && !pci_touches(off, len, PCI_BASE_ADDRESS_0, 4 * PCI_BARS))
		return;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *b = d->bar[i];
		uint16_t decode;
		uint64_t to;

		if (!b || b->index != i)
			continue;
		decode = b->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
		if (!(command & decode)) {
			leave(b);
			continue;
		}
		to = register_get(b);
		if (to == b->addr || !settle(b, to) || old_command & decode)
			continue;
		register_set(b, b->home);
		settle(b, b->home);
	}
}

void pci_bar_unmap(struct pci_device *d)
{
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (d->bar[i] && d->bar[i]->index == i)
			leave(d->bar[i]);
}

/* Natural alignment: a BAR's address has no bits below its size. */
static uint64_t take(struct pci_window *w, uint64_t size)
{
	uint64_t addr = (w->base + w->used + size - 1) & ~(size - 1);

	if (!within(w, addr, size))
		return PCI_BAR_NOWHERE;
	w->used = addr + size - w->base;
	return addr;
}

int pci_bar_add(struct pci_device *d, unsigned index, struct pci_bar *b)
{
	unsigned nregs = b->io ? 1 : 2;
	uint64_t mask = ~(b->size - 1);
	uint8_t *writable;

	if (index + nregs > PCI_BARS || (b->size & (b->size - 1)) || b->size < (b->io ? 4u : 16u) ||
	    (b->io && b->size > 256))
		return -EINVAL;
	for (unsigned i = index; i < index + nregs; i++)
		if (d->bar[i])
			return -EBUSY;
	b->dev = d;
	b->index = index;
	b->addr = PCI_BAR_NOWHERE;
	b->current = 0;
	b->home = take(b->io ? &d->pci->io : &d->pci->mem32, b->size);
	if (b->home == PCI_BAR_NOWHERE)
		return -ENOSPC;
	for (unsigned i = index; i < index + nregs; i++)
		d->bar[i] = b;
	writable = d->writable + PCI_BASE_ADDRESS_0 + 4 * index;
	pci_put32(writable, (uint32_t)mask);
	if (!b->io)
		pci_put32(writable + 4, (uint32_t)(mask >> 32));
	d->writable[PCI_COMMAND] |= b->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	register_set(b, b->home);
	return 0;
}
