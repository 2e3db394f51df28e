/* A transport that only remembers. */
#ifndef FAKE_TRANSPORT_H
#define FAKE_TRANSPORT_H
#include "devices/virtio/virtio.h"

/* Goes up by one a call: what came first?  Any thread. */
unsigned fake_step(void);

struct fake_transport {
	struct virtio_transport t;
	int fail_bind; /* the queue whose binding fails; -1 none */
	struct {
		bool bound;
		int kick_fd, call_fd; /* of the last bind */
		unsigned binds, unbinds, bound_at, unbound_at;
	} queue[VIRTIO_MAX_QUEUES];
	unsigned resets, reset_at;
	_Atomic unsigned config_irqs;
	unsigned mistakes; /* bound twice, unbound while not bound, reset while bound */
};

void fake_transport_init(struct fake_transport *ft, struct virtio_device *dev);
#endif
