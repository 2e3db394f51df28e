#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "devices/virtio_pci/internal.h"
#include "lib/log.h"

static void put_addr(uint8_t *p, gpa_t addr)
{
	pci_put32(p, (uint32_t)addr);
	pci_put32(p + 4, (uint32_t)(addr >> 32));
}

/* 4.1.4.3.1: 0 or a power of two, whatever the driver has written; enabling it tells what is wrong. */
static uint16_t shown_size(const struct virtio_device *dev, const struct virtio_queue *vq)
{
	return (vq->size & (vq->size - 1)) && !virtio_has(dev, VIRTIO_F_RING_PACKED) ? 0 : vq->size;
}

void vpci_common_read(struct virtio_pci *t, uint64_t off, void *data, unsigned len)
{
	struct virtio_device *dev = t->transport.dev;
	const struct virtio_queue *vq = virtio_queue_get(dev, t->queue_select);
	uint8_t r[VPCI_COMMON_LEN] = {0};

	pci_put32(r + VIRTIO_PCI_COMMON_DFSELECT, t->device_feature_select);
	pci_put32(r + VIRTIO_PCI_COMMON_DF, virtio_features(dev, t->device_feature_select));
	pci_put32(r + VIRTIO_PCI_COMMON_GFSELECT, t->driver_feature_select);
	pci_put32(r + VIRTIO_PCI_COMMON_GF, virtio_accepted(dev, t->driver_feature_select));
	pci_put16(r + VIRTIO_PCI_COMMON_MSIX, t->config_vector);
	pci_put16(r + VIRTIO_PCI_COMMON_NUMQ, (uint16_t)dev->nqueues);
	r[VIRTIO_PCI_COMMON_STATUS] = virtio_status(dev);
	r[VIRTIO_PCI_COMMON_CFGGENERATION] = (uint8_t)dev->config_generation;
	pci_put16(r + VIRTIO_PCI_COMMON_Q_SELECT, t->queue_select);
	pci_put16(r + VIRTIO_PCI_COMMON_Q_MSIX, VIRTIO_MSI_NO_VECTOR);
	if (vq) {
		pci_put16(r + VIRTIO_PCI_COMMON_Q_SIZE, shown_size(dev, vq));
		pci_put16(r + VIRTIO_PCI_COMMON_Q_MSIX, t->queue[t->queue_select].vector);
		pci_put16(r + VIRTIO_PCI_COMMON_Q_ENABLE, vq->ready);
		pci_put16(r + VIRTIO_PCI_COMMON_Q_NOFF, t->queue_select);
		put_addr(r + VIRTIO_PCI_COMMON_Q_DESCLO, vq->desc);
		put_addr(r + VIRTIO_PCI_COMMON_Q_AVAILLO, vq->avail);
		put_addr(r + VIRTIO_PCI_COMMON_Q_USEDLO, vq->used);
		pci_put16(r + VIRTIO_PCI_COMMON_Q_RESET, virtio_queue_stopping(dev, vq));
	}
	memset(data, 0, len);
	if (off < sizeof(r))
		memcpy(data, r + off, len < sizeof(r) - off ? len : sizeof(r) - off);
}

static void set_status(struct virtio_pci *t, uint8_t status)
{
	if (status & VIRTIO_CONFIG_S_DRIVER_OK && !t->bus_master) {
		log_guest("%s: the driver has not made the device a bus master", t->transport.dev->name);
		status &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	}
	virtio_set_status(t->transport.dev, status);
}

static void write32(struct virtio_pci *t, uint64_t off, uint32_t v)
{
	struct virtio_device *dev = t->transport.dev;
	uint32_t q = t->queue_select;

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		t->device_feature_select = v;
		return;
	case VIRTIO_PCI_COMMON_GFSELECT:
		t->driver_feature_select = v;
		return;
	case VIRTIO_PCI_COMMON_GF:
		virtio_set_features(dev, t->driver_feature_select, v);
		return;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_DESC, false, v);
		return;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_DESC, true, v);
		return;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_AVAIL, false, v);
		return;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_AVAIL, true, v);
		return;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_USED, false, v);
		return;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_USED, true, v);
		return;
	}
}

static void write16(struct virtio_pci *t, uint64_t off, uint16_t v)
{
	struct virtio_device *dev = t->transport.dev;
	uint16_t q = t->queue_select;

	switch (off) {
	case VIRTIO_PCI_COMMON_MSIX:
		vpci_set_config_vector(t, v);
		return;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		t->queue_select = v;
		return;
	}
	if (!virtio_queue_get(dev, q))
		return;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		virtio_queue_set_size(dev, q, v);
		return;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		vpci_set_queue_vector(t, q, v);
		return;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (v == 1) /* a driver must not write 0 (4.1.4.3.2) */
			virtio_queue_set_ready(dev, q, true);
		return;
	case VIRTIO_PCI_COMMON_Q_RESET:
		if (v == 1 && virtio_has(dev, VIRTIO_F_RING_RESET))
			virtio_queue_reset(dev, q);
		return;
	}
}

void vpci_common_write(struct virtio_pci *t, uint64_t off, const void *data, unsigned len)
{
	const uint8_t *p = data;

	if (len == 1 && off == VIRTIO_PCI_COMMON_STATUS)
		set_status(t, p[0]);
	else if (len == 2)
		write16(t, off, pci_get16(p));
	else if (len == 4)
		write32(t, off, pci_get32(p));
	else if (len == 8 && off >= VIRTIO_PCI_COMMON_Q_DESCLO && off % 8 == 0) {
		write32(t, off, pci_get32(p));
		write32(t, off + 4, pci_get32(p + 4));
	}
}
