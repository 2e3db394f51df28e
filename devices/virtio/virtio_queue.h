/* Queues of a virtio device, for virtio.c: start, stop, and what a reset leaves.  Under dev->lock. */
#ifndef VIRTIO_VIRTIO_QUEUE_H
#define VIRTIO_VIRTIO_QUEUE_H
#include <stdint.h>

#include "devices/virtio/virtio.h"

#define QUEUE_BIT(q) (UINT64_C(1) << (q))

/* Queues that dev->local serves. */
static inline uint64_t queues_local(const struct virtio_device *dev)
{
	return dev->remote ? dev->local_queues : UINT64_MAX;
}

/* What the driver has enabled. */
uint64_t queues_ready(const struct virtio_device *dev);
/* Binds and starts these; all or nothing.  0 or -errno. */
int queues_start(struct virtio_device *dev, uint64_t queues);
/* Stops and unbinds those of these that run. */
void queues_stop(struct virtio_device *dev, uint64_t queues);
/* As before the driver touched it.  It does not run. */
void queue_clear(struct virtio_queue *q);
/* Makes the eventfds that are missing.  0 or -errno. */
int queue_make_fds(struct virtio_queue *q);
void queue_close_fds(struct virtio_queue *q);
#endif
