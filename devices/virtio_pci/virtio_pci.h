/* virtio over PCI, modern only (virtio 1.3, 4.1).
 *
 * Every write to a field has the field's width; the halves of a 64-bit one may come apart.  Others do
 * nothing.  Reads take any width.
 *
 * The bus master bit counts, as on hardware: DRIVER_OK is not taken while it is clear, and clearing it
 * under a running device resets that, so that nothing is written into memory which belongs to somebody
 * else by now (kexec). */
#ifndef VIRTIO_PCI_VIRTIO_PCI_H
#define VIRTIO_PCI_VIRTIO_PCI_H
#include <stdbool.h>

#include "devices/virtio/virtio.h"
#include "lib/err.h"
#include "vmm/pci.h"
#include "vmm/vmevent.h"

struct virtio_pci_config {
	struct virtio_device *dev; /* after virtio_init(); dev->transport is set */
	struct pci *pci;
	unsigned slot; /* 0: the lowest free one */
	struct vmevent *vmevent;
	bool notify_exit;  /* doorbells by exits, not by ioeventfds */
	bool irq_ioctl;    /* interrupts by calls from dev->loop, not by irqfds */
	bool doorbell_pio; /* a second, preferred place for doorbells in an I/O BAR */
};

/* Before the guest runs.  NULL with a sentence in e.  ops->destroy() frees it, after vCPUs are gone and
 * the device is reset. */
struct virtio_transport *virtio_pci_new(const struct virtio_pci_config *c, struct err *e);
/* Where it is: 00:slot.0. */
unsigned virtio_pci_slot(const struct virtio_transport *t);
#endif
