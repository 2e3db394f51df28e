/* PCI: one bus, reached through the type 1 mechanism (ports 0xcf8, 0xcfc) and through ECAM.
 * PCI Local Bus 3.0, 3.2.2.3; PCI Express 5.0, 7.2.2.
 *
 * Threads.  Configuration space is read and written on vCPU threads under the function's own lock, which
 * comes before every lock of the device behind it: handlers of BARs never take it, so a BAR can be
 * unmapped (which waits for its handlers) while it is held. */
#ifndef VMM_PCI_H
#define VMM_PCI_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"

#define PCI_MAX_DEVICES 32
#define PCI_BARS        6

struct pci_bar;
struct vmevent;

struct pci_window { /* addresses that the host bridge passes on */
	uint64_t base, size;
	uint64_t used; /* bytes from base that pci_bar_add() gave away */
};

struct pci_device { /* function 0 of a slot; embed it, container_of() gets back */
	const char *name;
	struct vmevent *vmevent; /* whose lines INTx uses; NULL: the function has no interrupt pin */
	/* Both under the function's lock; either may be NULL.  Before [off, off + len) of config[] is
	 * read; and after a write changed it as far as `writable` allows, BARs moved already.  Writes come
	 * in naturally aligned pieces of 1, 2 or 4 bytes, reads as the guest makes them. */
	void (*config_read)(struct pci_device *d, unsigned off, unsigned len);
	void (*config_written)(struct pci_device *d, unsigned off, unsigned len);
	uint8_t config[4096];
	uint8_t writable[4096]; /* bits of config[] that the guest can change */

	/* Ours: */
	struct pci *pci;
	unsigned slot;
	pthread_mutex_t lock;
	struct pci_bar *bar[PCI_BARS];
	unsigned last_cap, cap_end;
	_Atomic bool intx;  /* the interrupt status bit */
	bool intx_disabled; /* under pci->intx_lock */
};

struct pci {
	struct bus_range address, data, ecam;
	pthread_mutex_t lock; /* address_register */
	uint32_t address_register;
	struct pci_device *device[PCI_MAX_DEVICES]; /* bus 0, function 0 */
	struct pci_device host;
	/* Port 0xcf9, a byte inside the address register, is the chipset's reset control. */
	void (*reset)(void *opaque);
	void *opaque;

	struct bus *pio, *mmio;
	struct pci_window io, mem32;
	struct pci_window mem64;   /* the owner may set it; no RAM inside */
	pthread_mutex_t intx_lock; /* a leaf */
	uint32_t intx_line[4];     /* a bit per slot that pulls the line */
};

/* Maps both mechanisms and puts the host bridge at 00:00.0.  0 or -errno. */
int pci_init(struct pci *pci, struct bus *pio, struct bus *mmio, void (*reset)(void *opaque), void *opaque);
void pci_fini(struct pci *pci);

/* Before the guest runs.  0; -EINVAL: no such slot; -EBUSY: taken. */
int pci_add(struct pci *pci, struct pci_device *d, unsigned slot);
/* Unmaps its BARs and lowers its interrupt.  No vCPU runs any more.  Fine for one never added. */
void pci_remove(struct pci_device *d);
/* The lowest free slot, or -ENOSPC. */
int pci_free_slot(const struct pci *pci);

/* Appends a capability of len bytes (its two-byte header included) to the list; it reads zero and is
 * not writable until the caller says otherwise.  Its offset, or -ENOSPC. */
int pci_add_capability(struct pci_device *d, uint8_t id, unsigned len);

/* INTA of the function, level-triggered; the line itself obeys the interrupt disable bit and is shared
 * with other slots.  Any thread; takes only a leaf lock. */
void pci_intx(struct pci_device *d, bool level);
/* The line that INTA of a slot is wired to; as _PRT says. */
unsigned pci_intx_gsi(unsigned slot);

/* Little-endian fields of config[] and of registers. */
static inline void pci_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void pci_put32(uint8_t *p, uint32_t v)
{
	pci_put16(p, (uint16_t)v);
	pci_put16(p + 2, (uint16_t)(v >> 16));
}

static inline uint16_t pci_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t pci_get32(const uint8_t *p)
{
	return pci_get16(p) | (uint32_t)pci_get16(p + 2) << 16;
}

/* Does an access to [off, off + len) touch the field [at, at + size)? */
static inline bool pci_touches(unsigned off, unsigned len, unsigned at, unsigned size)
{
	return off < at + size && at < off + len;
}
#endif
