/* The transport-neutral half of a virtio device: features, status, queues.  A transport decodes registers
 * and calls the functions below; it decides nothing.  (virtio 1.3, 2.1 to 2.6 and 3.)
 *
 * Threads.  Register handlers run on vCPU threads, one at a time a device, under dev->lock, which the
 * transport takes around each call (virtio_lock()).  Datapaths start and stop on dev->loop's thread
 * (evloop_call()); a queue served here runs, is kicked and halts on its own queue's loop.  Code on loops
 * never takes dev->lock; what it changes that registers show is atomic.
 *
 * A start or stop waits for the queues' loops from dev->loop: a loop that walks queues must not be the
 * dev->loop of a device with queues on other loops, or two devices can wait for each other. */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/virtio/datapath.h"
#include "devices/virtio/ledger.h"
#include "lib/err.h"
#include "vmm/evloop.h"

#define VIRTIO_MAX_QUEUES     64
#define VIRTIO_MAX_QUEUE_SIZE 1024
#define VIRTIO_MAX_CONFIG     256 /* bytes of device-specific configuration */

struct virtio_device;
struct virtqueue;

struct virtio_queue {      /* as the driver programmed it; checked at DRIVER_OK */
	uint16_t max_size; /* 0: there is no such queue */
	uint16_t size;
	bool ready; /* queue_enable, QueueReady */
	bool reset; /* queue_reset was written and it has not been enabled since */
	gpa_t desc, avail, used;
	int kick_fd, call_fd; /* eventfds, non-blocking; ours */
	struct evloop *loop;  /* whose thread walks it when it is served here */
	struct queue_stats stats;
	_Atomic uint64_t exit_kicks; /* doorbells that came as exits, whoever serves it */
};

struct virtio_device_ops { /* the device model: net, blk, generic */
	uint32_t id;       /* VIRTIO_ID_* */
	const char *name;
	uint64_t (*features)(
		struct virtio_device *dev); /* device bits; ring and transport bits are the core's */
	size_t (*config_size)(struct virtio_device *dev);
	/* off + len <= config_size().  Under dev->lock.  Little-endian, as the driver sees it. */
	void (*config_read)(struct virtio_device *dev, size_t off, void *buf, size_t len);
	void (*config_write)(struct virtio_device *dev, size_t off, const void *buf, size_t len); /* or NULL */
	/* FEATURES_OK: -errno refuses (TSO without CSUM, ...). */
	int (*negotiated)(struct virtio_device *dev, uint64_t features); /* or NULL */
	void (*reset)(
		struct virtio_device *dev); /* forget filters, pairs, cache mode.  No queue runs.  Or NULL */
	/* For queues served in this process, each on that queue's thread.  Between run and halt vq is the
	 * device model's; halt returns when nothing that was popped is in flight (waited for or cancelled,
	 * pushed and flushed) and vq will not be touched again. */
	int (*run)(struct virtio_device *dev, struct virtqueue *vq);
	void (*kick)(struct virtio_device *dev, struct virtqueue *vq); /* also once after run */
	void (*halt)(struct virtio_device *dev, struct virtqueue *vq);
	void (*destroy)(struct virtio_device *dev); /* frees dev; after virtio_fini() */
};

struct virtio_transport;
struct virtio_transport_ops { /* PCI, MMIO */
	/* Make writes to queue q's doorbell arrive on kick_fd and writes to call_fd arrive in the guest.
	 * From DRIVER_OK (or the queue's enabling) to reset; under dev->lock. */
	int (*bind)(struct virtio_transport *t, unsigned q, int kick_fd, int call_fd);
	void (*unbind)(struct virtio_transport *t, unsigned q);
	/* Any thread; takes no dev->lock and calls nothing here.  Only between DRIVER_OK and reset. */
	void (*config_irq)(struct virtio_transport *t);
	void (*reset)(struct virtio_transport *t); /* vectors, ISR; under dev->lock */
	void (*destroy)(struct virtio_transport *t);
};
struct virtio_transport {
	const struct virtio_transport_ops *ops;
	struct virtio_device *dev;
};

struct virtio_device {
	/* Set before virtio_init(): */
	const struct virtio_device_ops *ops;
	const struct guest_mem *mem;
	struct evloop *loop;      /* start and stop; its own thread where a peer may block it */
	struct datapath *local;   /* in-process; serves the queues in local_queues */
	struct datapath *remote;  /* or NULL; serves the rest */
	uint64_t local_queues;    /* bit per queue; ignored without remote */
	uint64_t answered_queues; /* bit per queue: each of its buffers is used in the end, whatever happens */
	uint64_t hidden;          /* feature bits the user turned off (packed=off, csum=off, ...) */
	const char *name;         /* "net0": for messages and counters */
	unsigned nqueues;         /* with each queue's max_size and loop */
	struct virtio_queue queue[VIRTIO_MAX_QUEUES];

	/* The core's: */
	struct virtio_transport *transport; /* set by the transport's constructor */
	pthread_mutex_t lock;
	uint64_t offered;
	struct ledger ledger; /* how that came about; written with nothing else running, as offered is */
	_Atomic uint64_t accepted;
	bool accepted_beyond;     /* a bit past 63: never offered */
	_Atomic uint64_t refused; /* bits that the driver last asked for in vain */
	_Atomic uint8_t status;
	_Atomic uint32_t config_generation;
	uint8_t config_seen[VIRTIO_MAX_CONFIG]; /* as last read; under lock */
	/* Innermost.  Status changes and configuration interrupts, so that none comes out of a life that
	 * has ended. */
	pthread_mutex_t life_lock;
	bool resetting;
	_Atomic bool let_go_due; /* a reset ends, and status reads 0, when the remote datapath lets go */
	_Atomic bool lingers;    /* as the remote datapath said after the last stop, until it lets go */
	bool renew_fds;          /* the remote datapath's peer keeps copies: offer.keeps_fds */
	uint64_t stale_fds;      /* bit per suspended queue: a peer that no longer serves it has copies */
	/* What start() handed out.  stop() works from this, never from queue[],
	 * which the driver can go on writing. */
	uint64_t running_queues; /* bit per queue */
	struct datapath_queue running[VIRTIO_MAX_QUEUES];
};

/* Computes offered, narrows each max_size to what its datapath serves, makes the eventfds, takes the
 * datapaths' events.  0, or -errno with a sentence in e and nothing to undo. */
int virtio_init(struct virtio_device *dev, struct err *e);
/* Stops what runs; closes the eventfds.  No vCPU runs any more. */
void virtio_fini(struct virtio_device *dev);

static inline void virtio_lock(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->lock);
}

static inline void virtio_unlock(struct virtio_device *dev)
{
	pthread_mutex_unlock(&dev->lock);
}

/* --- registers: called by transports with dev->lock held, on a vCPU's thread --- */

uint8_t virtio_status(const struct virtio_device *dev);
/* 0 resets: everything in flight has ended when the status reads 0.  That is at once, unless a peer that does
 * not answer may still touch guest memory; until it cannot, the status is NEEDS_RESET and writes do nothing.
 * A bit that must not be set is not set, and none is cleared otherwise. */
void virtio_set_status(struct virtio_device *dev, uint8_t status);
uint32_t virtio_features(const struct virtio_device *dev, uint32_t word); /* offered; 0 beyond word 1 */
uint32_t virtio_accepted(const struct virtio_device *dev, uint32_t word);
void virtio_set_features(struct virtio_device *dev, uint32_t word, uint32_t bits);
void virtio_config_read(struct virtio_device *dev, uint64_t off, void *buf,
			unsigned len); /* 0 beyond the end */
void virtio_config_write(struct virtio_device *dev, uint64_t off, const void *buf, unsigned len);

/* NULL if there is none.  For reading; writes go through the functions below, which hold the rules. */
struct virtio_queue *virtio_queue_get(struct virtio_device *dev, uint32_t q);
enum virtio_queue_addr { VIRTIO_QUEUE_DESC, VIRTIO_QUEUE_AVAIL, VIRTIO_QUEUE_USED };
/* Ignored unless the driver may change q's fields now: FEATURES_OK without DRIVER_OK, or q is reset, and
 * q is not ready. */
void virtio_queue_set_size(struct virtio_device *dev, uint32_t q, uint16_t size);
void virtio_queue_set_addr(struct virtio_device *dev, uint32_t q, enum virtio_queue_addr which, bool high,
			   uint32_t value);
/* False stops a queue that runs (QueueReady, 4.2.2.1); PCI lets a driver write only true. */
void virtio_queue_set_ready(struct virtio_device *dev, uint32_t q, bool ready);
void virtio_queue_reset(struct virtio_device *dev, uint32_t q); /* VIRTIO_F_RING_RESET, 2.6.1 */
/* What a driver that waits for q to stop reads: q was stopped and may still be touched. */
bool virtio_queue_stopping(const struct virtio_device *dev, const struct virtio_queue *q);
/* A doorbell that came as an exit (notify=exit, or no ioeventfd matched). */
void virtio_queue_notify(struct virtio_device *dev, uint32_t q);

/* --- any thread, no lock needed --- */

/* After the change.  The driver is interrupted if it runs. */
void virtio_config_changed(struct virtio_device *dev);
/* The device is of no use until the driver resets it (2.1.2); why is for the log, once a life.  Ignored
 * while it is being reset or has been, so whoever calls must be silent when its stop() or halt() returns. */
void virtio_needs_reset(struct virtio_device *dev, const char *why, int err);
bool virtio_has(const struct virtio_device *dev, unsigned bit); /* accepted at FEATURES_OK */
#endif
