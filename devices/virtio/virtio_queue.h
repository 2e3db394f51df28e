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
/* A live change: stops those that run and leaves them bound, with their positions kept; *queues: which.
 * ready() is asked on dev->loop's thread, at once before.  0, or -EAGAIN: it said no, and nothing was done. */
int queues_suspend(struct virtio_device *dev, bool (*ready)(struct virtio_device *dev), uint64_t *queues);
/* Starts suspended queues where they stopped.  0, or -errno and they are suspended still. */
int queues_resume(struct virtio_device *dev, uint64_t queues);
/* Suspended queues that nobody will resume. */
void queues_give_up(struct virtio_device *dev, uint64_t queues);
/* Did who served them take the position of one of these with it? */
bool queues_lost(const struct virtio_device *dev, uint64_t queues);
/* May a peer that was cut off still touch what is stopped?  Noted in dev->lingers.  Under dev->life_lock. */
bool queues_linger(struct virtio_device *dev);
void queue_kick(const struct virtio_device *dev, unsigned n); /* a doorbell of ours: not counted */
/* As before the driver touched it.  It does not run. */
void queue_clear(struct virtio_queue *q);
/* Makes the eventfds that are missing.  0 or -errno. */
int queue_make_fds(struct virtio_queue *q);
void queue_close_fds(struct virtio_queue *q);

/* Computes what is offered and how large queues may be from who serves them now (virtio.c). */
int virtio_narrow(struct virtio_device *dev, struct err *e);
#endif
