/* clang-format off */
#include "tests/fake/fake_core_names.h"
/* clang-format on */
#include "tests/fake/fake_core.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fake_core core;

static size_t fake_config_size(struct virtio_device *dev)
{
	(void)dev;
	return FAKE_CONFIG_LEN;
}

static void fake_queue_clear(struct virtio_queue *q)
{
	q->size = q->max_size;
	q->desc = q->avail = q->used = 0;
	q->ready = q->reset = false;
}

void fake_core_init(uint32_t id, struct evloop *loop)
{
	memset(&core, 0, sizeof(core));
	core.ops = (struct virtio_device_ops){.id = id, .name = "fake", .config_size = fake_config_size};
	core.dev.ops = &core.ops;
	core.dev.name = "fake0";
	core.dev.loop = loop;
	core.dev.nqueues = FAKE_QUEUES;
	core.dev.offered = FAKE_FEATURES;
	pthread_mutex_init(&core.dev.lock, NULL);
	for (unsigned i = 0; i < FAKE_QUEUES; i++) {
		core.dev.queue[i].max_size = FAKE_QUEUE_MAX;
		core.dev.queue[i].kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		core.dev.queue[i].call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		fake_queue_clear(&core.dev.queue[i]);
	}
	for (unsigned i = 0; i < FAKE_CONFIG_LEN; i++)
		core.config[i] = (uint8_t)(0xa0 + i);
}

void fake_unbind(unsigned q)
{
	if (core.bound & 1ull << q)
		core.dev.transport->ops->unbind(core.dev.transport, q);
	core.bound &= ~(1ull << q);
}

void fake_bind(unsigned q)
{
	struct virtio_queue *vq = &core.dev.queue[q];
	int rc = core.dev.transport->ops->bind(core.dev.transport, q, vq->kick_fd, vq->call_fd);

	if (rc)
		core.bind_rc = rc;
	else
		core.bound |= 1ull << q;
}

void fake_core_fini(void)
{
	for (unsigned i = 0; i < FAKE_QUEUES; i++) {
		if (core.dev.transport)
			fake_unbind(i);
		close(core.dev.queue[i].kick_fd);
		close(core.dev.queue[i].call_fd);
	}
	if (core.dev.transport)
		core.dev.transport->ops->destroy(core.dev.transport);
	pthread_mutex_destroy(&core.dev.lock);
}

uint8_t virtio_status(const struct virtio_device *dev)
{
	return dev->status;
}

void virtio_set_status(struct virtio_device *dev, uint8_t status)
{
	uint8_t old = dev->status;

	core.status_writes++;
	if (!status) {
		for (unsigned i = 0; i < FAKE_QUEUES; i++) {
			fake_unbind(i);
			fake_queue_clear(&dev->queue[i]);
		}
		dev->transport->ops->reset(dev->transport);
		dev->accepted = 0;
		dev->status = 0;
		core.resets++;
		return;
	}
	dev->status = old | status;
	if (status & ~old & VIRTIO_CONFIG_S_DRIVER_OK)
		for (unsigned i = 0; i < FAKE_QUEUES; i++)
			if (dev->queue[i].ready)
				fake_bind(i);
}

uint32_t virtio_features(const struct virtio_device *dev, uint32_t word)
{
	return word < 2 ? (uint32_t)(dev->offered >> 32 * word) : 0;
}

uint32_t virtio_accepted(const struct virtio_device *dev, uint32_t word)
{
	return word < 2 ? (uint32_t)(dev->accepted >> 32 * word) : 0;
}

void virtio_set_features(struct virtio_device *dev, uint32_t word, uint32_t bits)
{
	if (word < 2)
		dev->accepted = (dev->accepted & ~(0xffffffffull << 32 * word)) | (uint64_t)bits << 32 * word;
}

bool virtio_has(const struct virtio_device *dev, unsigned bit)
{
	return dev->accepted >> bit & 1;
}

void virtio_config_read(struct virtio_device *dev, uint64_t off, void *buf, unsigned len)
{
	(void)dev;
	for (unsigned i = 0; i < len; i++)
		((uint8_t *)buf)[i] = off + i < FAKE_CONFIG_LEN ? core.config[off + i] : 0;
}

void virtio_config_write(struct virtio_device *dev, uint64_t off, const void *buf, unsigned len)
{
	(void)dev;
	for (unsigned i = 0; i < len; i++)
		if (off + i < FAKE_CONFIG_LEN)
			core.config[off + i] = ((const uint8_t *)buf)[i];
}

struct virtio_queue *virtio_queue_get(struct virtio_device *dev, uint32_t q)
{
	return q < dev->nqueues && dev->queue[q].max_size ? &dev->queue[q] : NULL;
}

static struct virtio_queue *fake_queue(struct virtio_device *dev, uint32_t q)
{
	struct virtio_queue *vq = virtio_queue_get(dev, q);

	core.strays += !vq;
	return vq && !vq->ready ? vq : NULL;
}

void virtio_queue_set_size(struct virtio_device *dev, uint32_t q, uint16_t size)
{
	struct virtio_queue *vq = fake_queue(dev, q);

	if (vq)
		vq->size = size;
}

void virtio_queue_set_addr(struct virtio_device *dev, uint32_t q, enum virtio_queue_addr which, bool high,
			   uint32_t value)
{
	struct virtio_queue *vq = fake_queue(dev, q);
	gpa_t *a;

	if (!vq)
		return;
	a = which == VIRTIO_QUEUE_DESC ? &vq->desc : which == VIRTIO_QUEUE_AVAIL ? &vq->avail : &vq->used;
	*a = high ? (uint32_t)*a | (uint64_t)value << 32 : (*a >> 32 << 32) | value;
}

void virtio_queue_set_ready(struct virtio_device *dev, uint32_t q, bool ready)
{
	struct virtio_queue *vq = virtio_queue_get(dev, q);

	core.strays += !vq;
	if (!vq || vq->ready == ready)
		return;
	vq->ready = ready;
	if (!ready)
		fake_unbind(q);
	else if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		fake_bind(q);
}

void virtio_queue_reset(struct virtio_device *dev, uint32_t q)
{
	struct virtio_queue *vq = virtio_queue_get(dev, q);

	core.strays += !vq;
	if (!vq)
		return;
	fake_unbind(q);
	fake_queue_clear(vq);
	core.queue_resets[q]++;
}

void virtio_queue_notify(struct virtio_device *dev, uint32_t q)
{
	if (virtio_queue_get(dev, q))
		core.notified[q]++;
	else
		core.strays++;
}
