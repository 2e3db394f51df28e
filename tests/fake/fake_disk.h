/* A disk that does as it is told, and a block device with a driver to try disks through. */
#ifndef FAKE_DISK_H
#define FAKE_DISK_H
#include <linux/virtio_blk.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/blk/blk.h"
#include "devices/blk/disk.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/fake_transport.h"
#include "vmm/loop_thread.h"

#define FAKE_DISK_LOG 512

struct fake_disk_note {
	enum disk_op op;
	bool durable;
	uint64_t offset, len;
};

struct fake_disk {
	struct disk disk;
	uint8_t *data; /* [disk.size at first], shared with the test */
	uint64_t room;
	/* Set by the test: */
	_Atomic bool hold;   /* nothing completes before fake_disk_release() or drain */
	_Atomic int fail[6]; /* by enum disk_op: -errno, 0 works */
	int fail_lane;       /* errno */
	unsigned fail_from;  /* ... from the so-manieth request on */
	/* What happened: */
	_Atomic unsigned nlog, held, lanes, mistakes;
	struct fake_disk_note log[FAKE_DISK_LOG];
	_Atomic unsigned destroyed; /* ops->destroy() was called; the struct stays until fake_disk_free() */
	struct disk_lane *lane[BLK_MAX_QUEUES];
};

struct fake_disk *fake_disk_new(uint64_t size);
void fake_disk_free(struct fake_disk *f);
/* Completes the n oldest held requests of each lane, newest first.  On the lanes' thread. */
void fake_disk_release(struct fake_disk *f, unsigned n);
unsigned fake_disk_count(const struct fake_disk *f, enum disk_op op);

/* --- a device over any disk, and its driver --- */

struct blk_rig {
	struct loop_thread io;
	struct driver_mem m;
	struct driver_ring ring[BLK_MAX_QUEUES];
	unsigned nqueues;
	uint16_t queue_size;
	uint64_t hidden;
	const char *serial;
	struct fake_transport ft;
	struct virtio_device *dev;
	struct disk *disk;
	bool started;
};

/* nqueues, queue_size, hidden, serial may be set before; 0 is the default (1, 64). */
void blk_rig_init(struct blk_rig *g, struct disk *disk);
/* Negotiates `features` of what is offered and starts the queues.  False: refused. */
bool blk_rig_live(struct blk_rig *g, uint64_t features);
void blk_rig_reset(struct blk_rig *g); /* as a driver does */
void blk_rig_fini(struct blk_rig *g);  /* the disk goes too */
void blk_rig_config(struct blk_rig *g, struct virtio_blk_config *c);
void blk_rig_call(struct blk_rig *g, void (*fn)(void *arg), void *arg); /* on the loop's thread */

/* Chain of any shape; the kick included.  Its id. */
uint16_t blk_rig_add(struct blk_rig *g, unsigned q, const struct driver_buf *buf, unsigned n);
/* Waits for the next used chain of queue q.  False: none within seconds, or the device needs a reset. */
bool blk_rig_wait(struct blk_rig *g, unsigned q, uint16_t *id, uint32_t *len);
bool blk_rig_broken(const struct blk_rig *g); /* NEEDS_RESET */

/* A request as Linux lays it out: header, data (host bytes, copied in and out), status. */
struct blk_rig_req {
	uint32_t type;
	uint64_t sector;
	void *data;
	uint32_t len;
	gpa_t hdr, buf, status; /* filled in */
	uint16_t id;
	uint32_t used_len;
};
void blk_rig_send(struct blk_rig *g, unsigned q, struct blk_rig_req *r);
/* Waits for one that was sent; the only one in flight.  VIRTIO_BLK_S_*; 0xee: none came. */
uint8_t blk_rig_result(struct blk_rig *g, unsigned q, struct blk_rig_req *r);
/* Both. */
uint8_t blk_rig_do(struct blk_rig *g, uint32_t type, uint64_t sector, void *data, uint32_t len);
#endif
