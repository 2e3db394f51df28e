/* Base address registers: where a function's registers lie on the buses.
 *
 * The registers hold what the guest writes, as hardware's do: a size probe and half of a 64-bit address
 * look like any other write.  What they decode follows only to a place inside a window of the host bridge
 * where nobody else lives; otherwise range and doorbells stay together where they were.  When decoding is
 * switched on over an address that will not do, the registers go back to the last one that did. */
#ifndef VMM_PCI_BAR_H
#define VMM_PCI_BAR_H
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/pci.h"

#define PCI_BAR_NOWHERE UINT64_MAX

struct pci_bar;
struct pci_bar_ops { /* off + len <= size holds.  vCPU threads, several at a time */
	void (*read)(struct pci_bar *b, uint64_t off, void *data, unsigned len);
	void (*write)(struct pci_bar *b, uint64_t off, const void *data, unsigned len);
	/* The BAR will be at `to` (PCI_BAR_NOWHERE: decode is off): doorbells follow.  Under the function's
	 * lock; the handlers may be running at both places.  -errno: nothing has changed, and the BAR does
	 * not move; leaving for nowhere cannot be refused.  Or NULL. */
	int (*move)(struct pci_bar *b, uint64_t to);
};

struct pci_bar { /* embed it */
	const char *name;
	uint64_t size; /* a power of two: 16 and up (memory, always 64-bit), 4 to 256 (I/O) */
	bool io;
	const struct pci_bar_ops *ops;

	/* Ours: */
	struct pci_device *dev;
	unsigned index;
	uint64_t addr; /* where it is mapped, or nowhere */
	uint64_t home; /* where it was mapped last, or is to be first */
	struct pci_bar_place {
		struct bus_range range;
		struct pci_bar *bar;
	} place[2]; /* a move maps the one before it unmaps the other */
	unsigned current;
};

/* Gives d, which pci_add() knows, BAR `index` (a memory BAR takes the next register too) with an address
 * of its own.  0; -EINVAL: size or index; -EBUSY: that register is taken; -ENOSPC: no address is left. */
int pci_bar_add(struct pci_device *d, unsigned index, struct pci_bar *b);
/* A write touched [off, off + len) of the registers; old_command is the command register before it.
 * Called by pci.c, under d->lock. */
void pci_bar_written(struct pci_device *d, unsigned off, unsigned len, uint16_t old_command);
void pci_bar_unmap(struct pci_device *d);
#endif
