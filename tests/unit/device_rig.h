/* For the tests of a device whose queues are run by the test itself: what its core and its loop would call is
 * called here, one after the other. */
#ifndef TESTS_UNIT_DEVICE_RIG_H
#define TESTS_UNIT_DEVICE_RIG_H
#include <criterion/criterion.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/virtio.h"
#include "devices/virtio/virtqueue.h"
#include "tests/fake/driver_ring.h"
#include "tests/unit/teardown.h"
#include "vmm/evloop.h"

#define BIT(n)     (1ull << (n))
#define SIZE       64
#define RIG_QUEUES 8

static struct driver_mem m;
static struct evloop *loop;
static struct virtio_device *dev; /* made by the test; NULL: none */
static struct err e;

static struct queue {
	struct driver_ring ring;
	struct queue_stats stats;
	struct virtqueue *vq; /* NULL: does not run */
} queue[RIG_QUEUES];

static void setup(void)
{
	driver_mem_init(&m);
	loop = evloop_new();
}

static inline void halt(unsigned i)
{
	struct queue *q = &queue[i];

	if (!q->vq)
		return;
	dev->ops->halt(dev, q->vq);
	cr_expect(vq_error(q->vq) || !vq_inflight(q->vq));
	vq_free(q->vq);
	q->vq = NULL;
	driver_ring_fini(&q->ring);
}

static inline void unmake(void)
{
	if (!dev)
		return;
	for (unsigned i = 0; i < RIG_QUEUES; i++)
		halt(i);
	virtio_fini(dev);
	dev->ops->destroy(dev);
	dev = NULL;
}

static void teardown(void)
{
	unmake();
	evloop_free(loop);
	driver_mem_fini(&m);
}

static inline uint64_t offered(void)
{
	return virtio_features(dev, 0) | (uint64_t)virtio_features(dev, 1) << 32;
}

static inline void negotiate(uint64_t features)
{
	features |= BIT(VIRTIO_F_VERSION_1);
	virtio_set_features(dev, 0, (uint32_t)features);
	virtio_set_features(dev, 1, (uint32_t)(features >> 32));
	virtio_set_status(dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_status(dev,
			  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	cr_assert(virtio_status(dev) & VIRTIO_CONFIG_S_FEATURES_OK);
}

static inline void run(unsigned i)
{
	struct queue *q = &queue[i];
	struct datapath_queue dq = {.index = i, .kick_fd = -1, .call_fd = -1, .stats = &q->stats};

	memset(&q->stats, 0, sizeof(q->stats));
	driver_ring_init(&q->ring, &m, SIZE, dev->accepted,
			 (uint16_t)(virtio_has(dev, VIRTIO_F_RING_PACKED) ? 0x8000 : 0));
	driver_ring_queue(&q->ring, &dq);
	cr_assert_eq(vq_new(&q->vq, &dq, &m.mem, dev->accepted), 0);
	cr_assert_eq(dev->ops->run(dev, q->vq), 0);
	dev->ops->kick(dev, q->vq);
}

static inline void kick(unsigned i)
{
	driver_ring_kick(&queue[i].ring);
	dev->ops->kick(dev, queue[i].vq);
}

/* What the loop would do with what is ready now. */
static inline void on_turn_end(struct ev_watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	evloop_quit(loop, 0);
}

static inline void turn(void)
{
	struct ev_watch w = {.fd = eventfd(1, EFD_CLOEXEC), .fn = on_turn_end};

	cr_assert_eq(evloop_add(loop, &w, EPOLLIN), 0);
	evloop_run(loop);
	evloop_del(loop, &w);
	close(w.fd);
}
#endif
