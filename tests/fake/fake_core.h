/* Transports over a core that only takes notes: the functions of devices/virtio/virtio.h that they call,
 * with just enough behind them, so that what a transport does is seen without rings or datapaths. */
#ifndef TESTS_FAKE_CORE_H
#define TESTS_FAKE_CORE_H
#include <linux/virtio_config.h>

#include "devices/virtio/virtio.h"

#define FAKE_QUEUES     4
#define FAKE_QUEUE_MAX  256
#define FAKE_CONFIG_LEN 24
#define FAKE_FEATURES   (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_RING_RESET | 0x10005)

extern struct fake_core {
	struct virtio_device dev;
	struct virtio_device_ops ops;
	uint8_t config[FAKE_CONFIG_LEN];
	uint64_t bound; /* a bit per queue */
	unsigned notified[FAKE_QUEUES], queue_resets[FAKE_QUEUES], resets, status_writes;
	unsigned strays; /* calls for queues that do not exist */
	int bind_rc;     /* of the last bind that failed */
} core;

void fake_core_init(uint32_t id, struct evloop *loop);
void fake_core_fini(void); /* the transport too */
void fake_bind(unsigned q);
void fake_unbind(unsigned q);

/* The copies that call the fake core. */
struct virtio_pci_config;
struct virtio_mmio_config;
struct virtio_transport *fake_virtio_pci_new(const struct virtio_pci_config *c, struct err *e);
unsigned fake_virtio_pci_slot(const struct virtio_transport *t);
struct virtio_transport *fake_virtio_mmio_new(const struct virtio_mmio_config *c, struct err *e);
#endif
