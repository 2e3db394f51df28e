/* What the files of this transport share; nobody else includes it.
 *
 * Locks, outermost first: the function's (vmm/pci.h), dev->lock, then irq_lock or one of MSI-X.  The
 * device's loop takes the last two only. */
#ifndef VIRTIO_PCI_INTERNAL_H
#define VIRTIO_PCI_INTERNAL_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"
#include "devices/virtio_pci/virtio_pci.h"
#include "vmm/evloop.h"
#include "vmm/msix.h"
#include "vmm/pci.h"
#include "vmm/pci_bar.h"

/* The memory BAR: a page each. */
#define VPCI_BAR_MEM    0
#define VPCI_BAR_IO     2
#define VPCI_COMMON     0x0000u
#define VPCI_ISR        0x1000u
#define VPCI_DEVICE     0x2000u
#define VPCI_NOTIFY     0x3000u
#define VPCI_MSIX_TABLE 0x4000u
#define VPCI_MSIX_PBA   0x5000u
#define VPCI_MEM_SIZE   0x8000u

#define VPCI_COMMON_LEN  64u
#define VPCI_NOTIFY_MULT 4u
#define VPCI_NOTIFY_LEN  (VIRTIO_MAX_QUEUES * VPCI_NOTIFY_MULT)

#define VPCI_ISR_QUEUE 1u /* 4.1.4.5; VIRTIO_PCI_ISR_CONFIG is 2 */

struct virtio_pci_queue {
	struct virtio_pci *t;
	uint16_t vector;
	bool bound, watched;
	int kick_fd, call_fd;
	struct msix_source source;
	struct ev_watch watch; /* call_fd, where no irqfd takes it */
};

struct virtio_pci {
	struct virtio_transport transport;
	struct pci_device pci;
	struct pci_bar mem, io;
	uint64_t mem_addr, io_addr; /* where doorbells are; under dev->lock */
	struct vmevent *vmevent;
	bool notify_exit, irq_ioctl, doorbell_pio;
	unsigned msix_cap, window_cap;

	/* Under dev->lock: */
	bool bus_master;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	struct virtio_pci_queue queue[VIRTIO_MAX_QUEUES];

	_Atomic bool msix_on; /* enabled; written under dev->lock */
	struct msix msix;
	uint16_t config_vector;
	struct msix_source config_source;
	pthread_mutex_t irq_lock; /* isr and the line that shows it */
	uint8_t isr;
};

/* common.c: the common configuration structure, under dev->lock. */
void vpci_common_read(struct virtio_pci *t, uint64_t off, void *data, unsigned len);
void vpci_common_write(struct virtio_pci *t, uint64_t off, const void *data, unsigned len);

/* irq.c */
void vpci_isr_set(struct virtio_pci *t, uint8_t bits); /* any thread, no dev->lock */
uint8_t vpci_isr_take(struct virtio_pci *t);
/* MSI-X as its control register and the bus master bit say; under dev->lock. */
void vpci_msix_control(struct virtio_pci *t, uint16_t flags, bool bus_master);
void vpci_set_config_vector(struct virtio_pci *t, uint16_t vector);
void vpci_set_queue_vector(struct virtio_pci *t, unsigned q, uint16_t vector);
int vpci_irq_bind(struct virtio_pci *t, unsigned q);
void vpci_irq_unbind(struct virtio_pci *t, unsigned q);
#endif
