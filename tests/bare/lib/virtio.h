/* A virtio driver for bare guests: PCI and MMIO, split and packed rings, polled and by interrupt.  Guests
 * that misbehave write to the rings and registers it has found.
 *
 * It heeds options of the command line: transport=mmio, wait=irq, intx=1 (on PCI), packed=1, in_order=1,
 * event_idx=0, indirect=0.  Addresses are physical: everything is mapped one to one. */
#ifndef TESTS_BARE_VIRTIO_H
#define TESTS_BARE_VIRTIO_H
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include "lib/bare.h"

#define BIT(n)          (1ul << (n))
#define ARRAY_SIZE(a)   (sizeof(a) / sizeof((a)[0]))
#define VDEV_MAX_QUEUES 8
#define VQ_MAX_SEGS     32
#define WAIT_MS         5000 /* the host has other things to do, but not for that long */
/* Ring bits that it knows how to use */
#define VDEV_RING_BITS                                                                                         \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |           \
	 BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_RING_RESET) | BIT(VIRTIO_F_IN_ORDER))

/* --- memory --- */

/* Zeroed; there is no free, but for all that came after a mark. */
void *alloc(size_t len, size_t align);
uint64_t alloc_mark(void);
void alloc_release(uint64_t mark);

uint64_t rnd(void); /* the same numbers each time */

/* --- PCI: ECAM where it shows the same as the ports do --- */

uint32_t pci_read(unsigned slot, unsigned off, unsigned len);
void pci_write(unsigned slot, unsigned off, unsigned len, uint32_t v);

/* --- devices --- */

enum vdev_irq { VDEV_POLL, VDEV_MSIX, VDEV_INTX, VDEV_MMIO };

struct vdev {
	bool mmio;
	unsigned slot; /* device on bus 0, or page of virtio-mmio */
	uint32_t id;
	uint64_t common, isr, config, notify; /* MMIO: common is the page */
	uint32_t notify_mult, notify_len;
	bool notify_pio;
	uint64_t bar; /* where the memory BAR is */
	unsigned msix_cap, window_cap, nvectors;
	uint64_t msix_table, msix_pba;
	uint64_t features; /* accepted */
	enum vdev_irq irq;
	unsigned vector; /* of the configuration; queue n has the one n + 1 later */
	struct vq *vq[VDEV_MAX_QUEUES];
	volatile unsigned config_irqs;
};

/* The nth device of a type; false: there is none. */
bool vdev_find(struct vdev *d, uint32_t id, unsigned nth);
/* As options have it: transport and irq.  Ends the guest if there is none. */
void vdev_open(struct vdev *d, uint32_t id, unsigned nth);

uint8_t vdev_status(struct vdev *d);
void vdev_set_status(struct vdev *d, uint8_t status);
void vdev_reset(struct vdev *d);
uint64_t vdev_offered(struct vdev *d);
void vdev_accept(struct vdev *d, uint64_t features); /* the register only */
unsigned vdev_queue_max(struct vdev *d, unsigned q);
/* Reset to FEATURES_OK with those of `wanted` and of the ring bits that are offered and that options allow,
 * and interrupts set up. */
void vdev_begin(struct vdev *d, uint64_t wanted);
void vdev_driver_ok(struct vdev *d);
static inline bool vdev_has(const struct vdev *d, unsigned bit)
{
	return d->features >> bit & 1;
}
static inline bool vdev_needs_reset(struct vdev *d)
{
	return vdev_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET;
}
bool vdev_wait_needs_reset(struct vdev *d); /* false after WAIT_MS */
uint64_t vdev_config(struct vdev *d, unsigned off, unsigned len);

/* Registers of queue q; it is selected first. */
enum vdev_area { VDEV_DESC, VDEV_DRIVER, VDEV_DEVICE };
void vdev_queue_size(struct vdev *d, unsigned q, unsigned size);
void vdev_queue_addr(struct vdev *d, unsigned q, enum vdev_area area, uint64_t addr);
void vdev_queue_enable(struct vdev *d, unsigned q);
bool vdev_queue_enabled(struct vdev *d, unsigned q);
void vdev_queue_reset(struct vdev *d, unsigned q); /* and waits for it */
uint64_t vdev_doorbell(struct vdev *d, unsigned q);
void vdev_notify(struct vdev *d, unsigned q);

/* MSI-X */
void vdev_msix_enable(struct vdev *d, bool on);
void vdev_msix_mask(struct vdev *d, unsigned vector, bool masked);
uint16_t vdev_set_vector(struct vdev *d, unsigned q, uint16_t vector); /* what it reads back as */

/* Writes the memory BAR's register, with decoding off meanwhile or not. */
void vdev_bar_write(struct vdev *d, uint64_t addr, bool off);
/* What was found in it is there now. */
void vdev_bar_moved(struct vdev *d, uint64_t to);

/* --- queues --- */

struct seg { /* what the device reads comes before what it writes */
	uint64_t addr;
	uint32_t len;
	bool in;
};

struct vq {
	struct vdev *dev;
	unsigned index, size;
	bool packed, event_idx, indirect, in_order;
	/* split */
	struct vring_desc *desc;
	volatile struct vring_avail *avail;
	volatile struct vring_used *used;
	/* packed */
	volatile struct vring_packed_desc *pdesc;
	volatile struct vring_packed_desc_event *driver_event, *device_event;

	uint16_t next, kicked, next_used; /* split: indices; packed: slots */
	bool wrap, used_wrap;
	unsigned nkicked; /* packed: descriptors since the last kick */
	unsigned nfree;
	uint16_t *free_next, free_head, free_tail; /* split: descriptors; packed: ids */
	uint16_t *order;                           /* in order: what was made available, size at most */
	unsigned order_in, order_out;
	bool batching; /* in order: one used entry tells of several, up to batch_id */
	uint32_t batch_id, batch_len;
	uint16_t *count;
	void **token;
	struct vring_desc *tables; /* VQ_MAX_SEGS each */
	uint64_t doorbell;
	volatile unsigned irqs;
	unsigned notified; /* kicks that rang */
};

/* Makes the rings and enables the queue; size 0: what the device has, up to 256.  After vdev_begin(). */
struct vq *vq_new(struct vdev *d, unsigned index, unsigned size);
/* Forgets all; rings are zero. */
void vq_clear(struct vq *vq);
/* Writes the queue's registers as vq_new() did. */
void vq_program(struct vq *vq);
/* False: no room. */
bool vq_add(struct vq *vq, const struct seg *seg, unsigned n, void *token);
void vq_kick(struct vq *vq); /* rings if the device wants it */
/* The token of a used chain, or NULL. */
void *vq_get(struct vq *vq, uint32_t *len);
bool vq_more(struct vq *vq);
/* Until there is something to get, as the device's irq says.  False, with a failure told, after WAIT_MS. */
bool vq_wait(struct vq *vq);
void vq_want_irq(struct vq *vq, bool on);
/* One chain there and back; returns the length used. */
uint32_t vq_do(struct vq *vq, const struct seg *seg, unsigned n);

#endif
