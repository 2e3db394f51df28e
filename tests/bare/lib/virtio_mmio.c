#include "lib/virtio_internal.h"

#define PAGES 10 /* as many as have an interrupt line each */

bool vdev_find_mmio(struct vdev *d, uint32_t id, unsigned nth)
{
	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t at = LAYOUT_VIRTIO_MMIO + page * 0x1000ul;

		if (read32(at + VIRTIO_MMIO_MAGIC_VALUE) != 0x74726976)
			break;
		CHECK_EQ(read32(at + VIRTIO_MMIO_VERSION), 2);
		if (read32(at + VIRTIO_MMIO_DEVICE_ID) != id || nth--)
			continue;
		d->mmio = true;
		d->slot = page;
		d->id = id;
		d->common = at;
		d->config = at + VIRTIO_MMIO_CONFIG;
		return true;
	}
	return false;
}

uint64_t vdev_mmio_offered(struct vdev *d)
{
	uint64_t f;

	write32(d->common + VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	f = read32(d->common + VIRTIO_MMIO_DEVICE_FEATURES);
	write32(d->common + VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	return f | (uint64_t)read32(d->common + VIRTIO_MMIO_DEVICE_FEATURES) << 32;
}

void vdev_mmio_accept(struct vdev *d, uint64_t features)
{
	write32(d->common + VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	write32(d->common + VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	write32(d->common + VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	write32(d->common + VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
}

void vdev_mmio_addr(struct vdev *d, enum vdev_area area, uint64_t addr)
{
	uint64_t at = d->common + VIRTIO_MMIO_QUEUE_DESC_LOW + 0x10 * area;

	write32(at, (uint32_t)addr);
	write32(at + 4, (uint32_t)(addr >> 32));
}
