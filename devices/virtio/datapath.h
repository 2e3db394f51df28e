/* A datapath is whoever walks the rings: this process, the kernel's vhost, a vDPA device, or a
 * vhost-user back end.  It sees guest memory, the accepted features, and for each queue three addresses
 * and two eventfds.  It knows nothing of PCI, MMIO, KVM, or the device's registers. */
#ifndef VIRTIO_DATAPATH_H
#define VIRTIO_DATAPATH_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/guest_mem.h"

/* Counted by whoever sees the event; QUEUE_STAT_UNSEEN where nobody here can.  Relaxed atomics: one
 * thread writes, any reads. */
#define QUEUE_STAT_UNSEEN UINT64_MAX
struct queue_stats {
	_Atomic uint64_t kicks;            /* wake-ups by the driver's doorbell */
	_Atomic uint64_t calls;            /* interrupts sent (writes to call_fd) */
	_Atomic uint64_t calls_suppressed; /* ... and spared because the driver did not want them */
	_Atomic uint64_t bursts;           /* drains that found at least one chain */
	_Atomic uint64_t chains;           /* chains given back used */
	_Atomic uint64_t bytes;            /* payload, both directions */
	_Atomic uint64_t syscalls;         /* made for this queue's data */
};

/* Of a queue that somebody else walks from here on: what is unseen must not look like nothing. */
static inline void queue_stats_unseen(struct queue_stats *s)
{
	s->kicks = s->calls = s->calls_suppressed = s->bursts = s->chains = s->bytes = QUEUE_STAT_UNSEEN;
	s->syscalls = 0;
}

struct datapath_queue {
	unsigned index;
	uint16_t size; /* entries */
	gpa_t desc, avail, used;
	uint16_t next; /* ring position.  In: resume here; out of stop(): resume there.
			* Split: next avail index.  Packed: bits 0-14 index, bit 15 wrap counter.
			* Nothing is in flight across a hand-over, so the used position is
			* the same; a peer whose ABI has two halves is given it twice. */
	bool lost;     /* out of stop(): the peer took the position with it (packed) */
	int kick_fd;   /* borrowed from start() to stop(); the device owns both */
	int call_fd;
	/* Where an interrupt is no write to an eventfd, and call_fd is -1: 0, or -errno.  On the thread of who
	 * walks the ring, borrowed as call_fd is.  NULL: there is none. */
	int (*call)(void *opaque);
	void *call_opaque;
	struct queue_stats *stats;
};

struct datapath_setup {
	const struct guest_mem *mem; /* does not change before stop() */
	uint64_t features;           /* what the driver accepted */
	unsigned nqueues;
	struct datapath_queue *queue; /* [nqueues] */
};

struct datapath_offer {
	uint64_t features; /* VIRTIO_F_ and device bits it can serve */
	uint64_t opinion;  /* bits it has a say in; it is silent on the rest */
	unsigned max_queues;
	uint16_t max_queue_size;
	uint32_t device_id; /* 0: any */
	size_t config_len;  /* 0: the device model has the config space */
	uint64_t adds;      /* bits start() sets towards the peer whatever the driver took:
			     * ACCESS_PLATFORM for vDPA; never offered to a driver */
	bool drains;        /* stop() completes what was taken; else the core drains first */
	bool keeps_fds;     /* the peer has copies of kick and call: replace them after stop() */
	bool pins_memory;   /* guest memory may not be given back to the host while it runs */
};

struct datapath;

/* Called on the device loop's thread. */
struct datapath_events {
	void (*config_changed)(void *opaque);
	void (*failed)(void *opaque, int err); /* it stopped by itself; stop() is still due */
	void (*let_go)(void *opaque);          /* lingers() has become false */
};

struct datapath_ops {
	const char *name;
	int (*offer)(struct datapath *dp, struct datapath_offer *out);
	/* All or nothing: on -errno no queue runs and no fd is kept.  The queues may be some of the
	 * device's (multiqueue, per-queue reset); features and mem are then those of the first start.
	 * The core writes kick_fd and call_fd once afterwards: a kick or an interrupt that the one
	 * before consumed is not lost, and a vhost-user ring starts only when kicked. */
	int (*start)(struct datapath *dp, const struct datapath_setup *setup);
	/* Synchronous: after it nobody but the caller touches guest memory, a ring or an fd on behalf of
	 * these queues, unless lingers().  Cannot fail.  Where the peer cannot promise that and requests
	 * are in flight, it is cut off: connection closed, device reset. */
	void (*stop)(struct datapath *dp, const struct datapath_setup *setup);
	/* A peer was cut off that does not answer, so it may be frozen with the rings in its hands and go
	 * on later; it has not closed its end yet.  Any thread; events->let_go() follows.  Or NULL: never. */
	bool (*lingers)(struct datapath *dp);
	int (*config_read)(struct datapath *dp, size_t off, void *buf, size_t len);
	int (*config_write)(struct datapath *dp, size_t off, const void *buf, size_t len);
	void (*destroy)(struct datapath *dp);
};

struct datapath { /* first member of struct inproc, vhost_net, ... */
	const struct datapath_ops *ops;
	const struct datapath_events *events;
	void *opaque;
};
#endif
