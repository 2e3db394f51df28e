/* virtio over MMIO, version 2 (virtio 1.3, 4.2): one page of registers and one edge-triggered interrupt.
 *
 * InterruptStatus shows the ring bit from DRIVER_OK to reset: interrupts are irqfds, which leave nobody
 * to set it.  A driver then looks at every queue, which it may do at any time. */
#ifndef VIRTIO_MMIO_VIRTIO_MMIO_H
#define VIRTIO_MMIO_VIRTIO_MMIO_H
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"
#include "lib/err.h"
#include "vmm/bus.h"
#include "vmm/layout_x86.h"
#include "vmm/vmevent.h"

#define VIRTIO_MMIO_STRIDE 0x1000u
/* An interrupt line each, up to those of PCI. */
#define VIRTIO_MMIO_MAX (LAYOUT_GSI_PCI_INTX - LAYOUT_GSI_VIRTIO_MMIO)

/* Where device `index` is; as the DSDT says. */
static inline uint64_t virtio_mmio_addr(unsigned index)
{
	return LAYOUT_VIRTIO_MMIO + index * (uint64_t)VIRTIO_MMIO_STRIDE;
}

static inline unsigned virtio_mmio_gsi(unsigned index)
{
	return LAYOUT_GSI_VIRTIO_MMIO + index;
}

struct virtio_mmio_config {
	struct virtio_device *dev; /* after virtio_init(); dev->transport is set */
	struct bus *mmio;
	unsigned index; /* below VIRTIO_MMIO_MAX */
	struct vmevent *vmevent;
	bool notify_exit; /* doorbells by exits, not by ioeventfds */
	bool irq_ioctl;   /* interrupts by calls from dev->loop, not by irqfds */
};

/* Before the guest runs.  NULL with a sentence in e.  ops->destroy() frees it, after vCPUs are gone and
 * the device is reset. */
struct virtio_transport *virtio_mmio_new(const struct virtio_mmio_config *c, struct err *e);
#endif
