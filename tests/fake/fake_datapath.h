/* A datapath that remembers what it was given, fails when told to, and can watch the kicks on its own loop.  It
 * walks rings only where the test says how. */
#ifndef FAKE_DATAPATH_H
#define FAKE_DATAPATH_H
#include <pthread.h>

#include "devices/virtio/virtio.h"

struct virtqueue;
struct fake_datapath;
struct fake_watch {
	struct ev_watch watch;
	struct fake_datapath *owner;
};

struct fake_datapath {
	struct datapath dp;
	struct datapath_offer offer;
	int offer_err;
	unsigned drains_until; /* not 0: that many offers more say drains, then none */
	int start_err;         /* not 0: start() fails with it */
	_Atomic bool lingers;  /* what lingers() says; fake_datapath_let_go() ends it */
	uint16_t give_next;    /* what stop() writes to each queue's next */
	struct evloop *kicked; /* not NULL: kick_fds are watched and read here */
	void (*in_start)(struct fake_datapath *f);
	void (*in_stop)(struct fake_datapath *f);
	void *opaque;
	/* Not NULL: after each kick, on kicked's thread; stop() then tells where vq is.  Nothing that was
	 * popped may be in flight when it returns. */
	void (*serve)(struct fake_datapath *f, struct virtqueue *vq);
	uint8_t config[VIRTIO_MAX_CONFIG];
	int config_err; /* of config_read() and config_write(): -errno */

	uint64_t running;                                 /* bit per queue */
	struct datapath_queue started[VIRTIO_MAX_QUEUES]; /* as start() got them, by index */
	struct datapath_queue stopped[VIRTIO_MAX_QUEUES]; /* as stop() got them */
	struct fake_watch watch[VIRTIO_MAX_QUEUES];
	unsigned last_nqueues; /* of the last start() */
	uint64_t features;
	const struct guest_mem *mem;
	unsigned starts, stops, start_calls;
	unsigned started_at, stopped_at;         /* fake_step() */
	pthread_t thread;                        /* of the last start() or stop() */
	struct virtqueue *vq[VIRTIO_MAX_QUEUES]; /* with serve: those that run */
	_Atomic unsigned kicks, config_reads, config_writes;
	pthread_t config_thread; /* of the last config_read() or config_write() */
	unsigned destroyed;      /* destroy() was called; the struct stays */
	unsigned mistakes;       /* started while running, stopped while not, other fds at stop() */
};

void fake_datapath_init(struct fake_datapath *f); /* offers everything and has no opinion */
void fake_datapath_let_go(struct fake_datapath *f);
/* Serves every queue that runs.  On kicked's thread. */
void fake_datapath_serve(struct fake_datapath *f);
#endif
