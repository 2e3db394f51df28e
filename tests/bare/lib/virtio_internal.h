/* What virtio.c has of the transports; no guest includes it. */
#ifndef TESTS_BARE_VIRTIO_INTERNAL_H
#define TESTS_BARE_VIRTIO_INTERNAL_H
#include "lib/virtio.h"

#ifndef VIRTIO_MMIO_QUEUE_RESET
#define VIRTIO_MMIO_QUEUE_RESET 0x0c0
#endif

void vdev_ring(struct vdev *d, uint64_t doorbell, unsigned q);

bool vdev_find_pci(struct vdev *d, uint32_t id, unsigned nth);
uint64_t vdev_pci_offered(struct vdev *d);
void vdev_pci_accept(struct vdev *d, uint64_t features);
void vdev_pci_addr(struct vdev *d, enum vdev_area area, uint64_t addr); /* of the selected queue */
uint64_t vdev_pci_doorbell(struct vdev *d, unsigned q);
void vdev_pci_msix(struct vdev *d);

bool vdev_find_mmio(struct vdev *d, uint32_t id, unsigned nth);
uint64_t vdev_mmio_offered(struct vdev *d);
void vdev_mmio_accept(struct vdev *d, uint64_t features);
void vdev_mmio_addr(struct vdev *d, enum vdev_area area, uint64_t addr);
#endif
