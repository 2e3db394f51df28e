/* Live change: a device's queues go from one datapath to another while its driver runs and notices nothing. */
#ifndef VIRTIO_VIRTIO_MOVE_H
#define VIRTIO_VIRTIO_MOVE_H
#include "devices/virtio/virtio.h"

struct virtio_move_how {
	unsigned drain_ms; /* how long the datapath of now may take to answer what it has */
	/* Makes the vCPUs stand still, so that the driver adds nothing, and lets them go on.  NULL: none runs.
	 */
	void (*stand_still)(void *opaque, bool on);
	void *opaque;
};

struct virtio_move {
	struct datapath *remote; /* who serves the queues from now on; NULL: this process */
	uint64_t local_queues;   /* ... but for these; as virtio_device's */
	/* Does the model find that the target holds what the driver knows?  Under dev->lock, before the vCPUs
	 * stand still and again when they do; may change local_queues.  0, or -errno with a sentence.  NULL:
	 * yes. */
	int (*fits)(void *opaque, struct err *e);
	/* Between stop and start, on dev->loop, no queue running: the device model takes what belongs to the
	 * new datapath (true), or what it had (false: the new one did not start).  0 or -errno.  NULL: nothing.
	 */
	int (*swap)(void *opaque, bool to_new);
	void *opaque;
	const struct virtio_move_how *how;
};

struct virtio_moved {
	uint64_t stopped_ns;     /* from stop to start: nobody served */
	uint64_t drained_ns;     /* waited for answers before that */
	uint64_t stood_still_ns; /* the vCPUs, all in all */
};

/* May the target take over, by what it offers?  0; or -EOPNOTSUPP with a sentence that names the feature bits,
 * queues or sizes that it does not serve.  Takes no lock; so far only. */
int virtio_move_fits(struct virtio_device *dev, struct datapath *to, uint64_t local_queues, struct err *e);

/* Not on a loop of the device.  0; or -errno with a
 * sentence in e: then the device runs on as before, unless that failed as well and it needs a reset, which the
 * sentence says too.  Neither datapath is destroyed. */
int virtio_move(struct virtio_device *dev, const struct virtio_move *m, struct virtio_moved *moved,
		struct err *e);
#endif
