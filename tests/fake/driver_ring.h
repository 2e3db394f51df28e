/* The driver's side of a virtqueue, and guest RAM to put it in, for tests of devices.
 *
 *	struct driver_mem m;
 *	struct driver_ring r;
 *	struct datapath_queue q = {.kick_fd = -1, .call_fd = -1, .stats = &stats};
 *
 *	driver_mem_init(&m);
 *	driver_ring_init(&r, &m, 256, 1ull << VIRTIO_RING_F_EVENT_IDX, 0);
 *	driver_ring_queue(&r, &q);           // size, addresses and position, for vq_new() or datapath start()
 *	buf = driver_mem_alloc(&m, 1500, 1); // fill it through driver_mem_ptr(&m, buf, 1500)
 *	id = driver_ring_add(&r, (struct driver_buf[]){{buf, 1500, false}}, 1);
 *	if (driver_ring_kick(&r))            // now the device can see it
 *		eventfd_write(kick_fd, 1);
 *	... the device runs ...
 *	driver_ring_collect(&r, &id, &len);  // 1
 *
 * The driver and the device may be two threads.  Trouble of the test's own making (no memory, no such
 * address) aborts. */
#ifndef FAKE_DRIVER_RING_H
#define FAKE_DRIVER_RING_H
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/datapath.h"
#include "vmm/guest_mem.h"

/* RAM with a hole in it, zeroed, and inaccessible pages before and after each part. */
#define DRIVER_MEM_LOW_END    (4ull << 20)
#define DRIVER_MEM_HIGH_START (8ull << 20)
#define DRIVER_MEM_HIGH_END   (10ull << 20)

struct driver_mem {
	struct guest_mem mem; /* what devices are given */
	gpa_t next;           /* the low part is handed out up to here; 0 is never given */
	void *map;
	size_t map_len;
};

void driver_mem_init(struct driver_mem *m);
void driver_mem_fini(struct driver_mem *m);
gpa_t driver_mem_alloc(struct driver_mem *m, size_t len, size_t align); /* never freed */
void *driver_mem_ptr(const struct driver_mem *m, gpa_t gpa, size_t len);

/* One piece of a buffer.  Readable pieces first, as a good driver has them; nothing checks. */
struct driver_buf {
	gpa_t addr;
	uint32_t len;
	bool write; /* the device writes it */
};

struct driver_ring {
	struct driver_mem *m;
	uint16_t size;
	bool packed, event_idx, in_order;
	gpa_t desc_gpa, avail_gpa, used_gpa; /* packed: descriptors, driver area, device area */

	/* The ring itself, to poke at. */
	union {
		struct vring_desc *desc;
		struct vring_packed_desc *pdesc;
	};
	struct vring_avail *avail;                  /* split only */
	struct vring_used *used;                    /* split only */
	_Atomic uint32_t *driver_event;             /* packed only: off_wrap | flags << 16 */
	_Atomic uint32_t *device_event;             /* packed only */
	_Atomic uint16_t *used_event, *avail_event; /* split only */

	uint16_t avail_pos; /* next to make available.  Split: an index; packed: bit 15 wraps */
	uint16_t used_pos;  /* next to collect, likewise */
	uint16_t kick_pos;  /* avail_pos at the last kick */
	uint16_t kick_n;    /* packed: descriptors since then */
	uint64_t held;      /* packed: second half of the first descriptor since then, not yet stored */
	unsigned nfree;     /* descriptors */
	uint16_t free_head;
	struct driver_slot *slot; /* [size] by id */
	uint16_t *order;          /* [size] ids in the order they were added */
	unsigned order_head, norder;
	int batch_last; /* in order: this id ends the batch being collected; -1: none */
	uint32_t batch_len;
};

/* Takes ring memory from m.  pos: where both sides start (0; packed: 0x8000). */
void driver_ring_init(struct driver_ring *r, struct driver_mem *m, uint16_t size, uint64_t features,
		      uint16_t pos);
void driver_ring_fini(struct driver_ring *r);
/* Fills in size, desc, avail, used and next; the rest is the caller's. */
void driver_ring_queue(const struct driver_ring *r, struct datapath_queue *q);

/* Adds a chain that the device will see after the next kick.  Its id (split: head), or -ENOSPC. */
int driver_ring_add(struct driver_ring *r, const struct driver_buf *buf, unsigned n);
/* The same through an indirect table at `table` (any RAM, 16 * n bytes). */
int driver_ring_add_indirect(struct driver_ring *r, gpa_t table, const struct driver_buf *buf, unsigned n);
/* Shows the device what was added.  True: it wants to be notified. */
bool driver_ring_kick(struct driver_ring *r);

/* 1: one chain came back; 0: none has; -EILSEQ: the device put nonsense into the ring.  With
 * VIRTIO_F_IN_ORDER a batch is taken apart, and chains it skipped have the length of all they could
 * hold.  id and len may be NULL. */
int driver_ring_collect(struct driver_ring *r, uint16_t *id, uint32_t *len);

/* Interrupts from now on, or none.  on: after `after` more used chains (split) or descriptors
 * (packed); with EVENT_IDX only, else it must be 0. */
void driver_ring_irq(struct driver_ring *r, bool on, uint16_t after);

/* --- for drivers that misbehave --- */

/* Split: head goes into the avail ring whatever it is; nothing is remembered of it. */
void driver_ring_offer(struct driver_ring *r, uint16_t head);
/* Packed: the next descriptor, marked available.  flags: NEXT, WRITE, INDIRECT or any other. */
void driver_ring_put(struct driver_ring *r, gpa_t addr, uint32_t len, uint16_t id, uint16_t flags);
#endif
