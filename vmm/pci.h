/* PCI: one bus, reached through the type 1 mechanism (ports 0xcf8, 0xcfc) and through ECAM.
 * PCI Local Bus 3.0, 3.2.2.3; PCI Express 5.0, 7.2.2. */
#ifndef VMM_PCI_H
#define VMM_PCI_H
#include <stdint.h>

#include "vmm/bus.h"

#define PCI_MAX_DEVICES 32

struct pci_device {
	const char *name;
	/* Reads see config[]; writes go nowhere unless this is set.  off < 4096,
	 * naturally aligned pieces of 1, 2 or 4 bytes.  A vCPU's thread. */
	void (*config_write)(struct pci_device *d, uint16_t off, uint32_t value, unsigned len);
	uint8_t config[4096];
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
};

/* Maps both mechanisms and puts the host bridge at 00:00.0.  0 or -errno. */
int pci_init(struct pci *pci, struct bus *pio, struct bus *mmio, void (*reset)(void *opaque), void *opaque);
void pci_fini(struct pci *pci);
#endif
