#include "devices/virtio/inproc.h"

#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "devices/virtio/virtio.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"
#include "vmm/evloop.h"

#define BIT(n) (UINT64_C(1) << (n))
#define RING_BITS                                                                                              \
	(BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1) |           \
	 BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER) | BIT(VIRTIO_F_RING_RESET))

struct inproc_queue { /* its queue's loop's, from run to halt */
	struct inproc *ip;
	struct virtqueue *vq;
	struct ev_watch kick;
	bool watched;
};

struct inproc {
	struct datapath dp;
	struct virtio_device *dev;
	struct inproc_queue queue[VIRTIO_MAX_QUEUES];
};

struct step { /* a queue on its way up or down */
	struct inproc *ip;
	const struct datapath_setup *setup;
	struct datapath_queue *q;
	int rc;
};

static void unwatch(struct inproc_queue *iq, struct evloop *loop)
{
	if (iq->watched)
		evloop_del(loop, &iq->kick);
	iq->watched = false;
}

static void kick(struct inproc_queue *iq)
{
	struct virtio_device *dev = iq->ip->dev;
	char why[48];
	int err;

	dev->ops->kick(dev, iq->vq);
	err = vq_error(iq->vq);
	if (!err)
		return;
	/* Nothing will come of further kicks. */
	unwatch(iq, dev->queue[vq_index(iq->vq)].loop);
	snprintf(why, sizeof(why), "queue %u is broken", vq_index(iq->vq));
	virtio_needs_reset(dev, why, err);
}

/* The eventfd is not read: its watch is edge-triggered, and each write is an edge. */
static void on_kick(struct ev_watch *w, uint32_t revents)
{
	struct inproc_queue *iq = container_of(w, struct inproc_queue, kick);

	(void)revents;
	atomic_fetch_add_explicit(&vq_stats(iq->vq)->kicks, 1, memory_order_relaxed);
	kick(iq);
}

static void run(void *arg)
{
	struct step *s = arg;
	struct inproc_queue *iq = &s->ip->queue[s->q->index];
	struct virtio_device *dev = s->ip->dev;

	s->rc = vq_new(&iq->vq, s->q, s->setup->mem, s->setup->features);
	if (s->rc) {
		iq->vq = NULL;
		return;
	}
	s->rc = dev->ops->run(dev, iq->vq);
	if (s->rc) {
		vq_free(iq->vq);
		iq->vq = NULL;
	}
}

static void watch(void *arg)
{
	struct step *s = arg;
	struct inproc_queue *iq = &s->ip->queue[s->q->index];

	iq->kick = (struct ev_watch){.fd = s->q->kick_fd, .fn = on_kick};
	s->rc = evloop_add(s->ip->dev->queue[s->q->index].loop, &iq->kick, EPOLLIN | EPOLLET);
	iq->watched = !s->rc;
	if (!s->rc)
		kick(iq);
}

static void halt(void *arg)
{
	struct step *s = arg;
	struct inproc_queue *iq = &s->ip->queue[s->q->index];
	struct virtio_device *dev = s->ip->dev;

	if (!iq->vq)
		return;
	unwatch(iq, dev->queue[s->q->index].loop);
	dev->ops->halt(dev, iq->vq);
	assert(vq_error(iq->vq) || !vq_inflight(iq->vq));
	/* Who goes on here may leave it to us to have asked for kicks. */
	if (vq_error(iq->vq))
		vq_flush(iq->vq);
	else
		vq_wait(iq->vq);
	s->q->next = vq_position(iq->vq);
	vq_free(iq->vq);
	iq->vq = NULL;
}

/* On the queue's own loop, for each of setup's until one fails. */
static int each(struct inproc *ip, const struct datapath_setup *setup, void (*fn)(void *arg))
{
	for (unsigned i = 0; i < setup->nqueues; i++) {
		struct step s = {.ip = ip, .setup = setup, .q = &setup->queue[i]};

		evloop_call(ip->dev->queue[s.q->index].loop, fn, &s);
		if (s.rc)
			return s.rc;
	}
	return 0;
}

static int inproc_offer(struct datapath *dp, struct datapath_offer *out)
{
	(void)dp;
	*out = (struct datapath_offer){
		.features = RING_BITS,
		.opinion = RING_BITS,
		.max_queues = VIRTIO_MAX_QUEUES,
		.max_queue_size = VIRTIO_MAX_QUEUE_SIZE,
		.drains = true,
	};
	return 0;
}

/* No queue is kicked before all have run: one may act on another. */
static int inproc_start(struct datapath *dp, const struct datapath_setup *setup)
{
	struct inproc *ip = container_of(dp, struct inproc, dp);
	int rc;

	for (unsigned i = 0; i < setup->nqueues; i++)
		assert(!ip->queue[setup->queue[i].index].vq);
	rc = each(ip, setup, run);
	if (!rc)
		rc = each(ip, setup, watch);
	if (rc)
		each(ip, setup, halt);
	return rc;
}

static void inproc_stop(struct datapath *dp, const struct datapath_setup *setup)
{
	each(container_of(dp, struct inproc, dp), setup, halt);
}

static void inproc_destroy(struct datapath *dp)
{
	free(container_of(dp, struct inproc, dp));
}

static const struct datapath_ops inproc_ops = {
	.name = "this process",
	.offer = inproc_offer,
	.start = inproc_start,
	.stop = inproc_stop,
	.destroy = inproc_destroy,
};

struct datapath *inproc_new(struct virtio_device *dev)
{
	struct inproc *ip = calloc(1, sizeof(*ip));

	if (!ip)
		return NULL;
	ip->dp.ops = &inproc_ops;
	ip->dev = dev;
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		ip->queue[i].ip = ip;
	return &ip->dp;
}
