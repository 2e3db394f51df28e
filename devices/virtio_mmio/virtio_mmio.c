#include "devices/virtio_mmio/virtio_mmio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/evloop.h"

#define MAGIC     0x74726976u
#define VERSION   2u
#define VENDOR_ID 0x474c4e52u /* "RNGL" */

#ifndef VIRTIO_MMIO_QUEUE_RESET
#define VIRTIO_MMIO_QUEUE_RESET 0x0c0
#endif

struct virtio_mmio_queue {
	struct virtio_mmio *t;
	bool bound, watched;
	int kick_fd, call_fd;
	struct ev_watch watch; /* irq_ioctl */
};

struct virtio_mmio {
	struct virtio_transport transport;
	struct bus *bus;
	struct bus_range range;
	struct vmevent *vmevent;
	int gsi;
	bool notify_exit, irq_ioctl;
	/* Under dev->lock: */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	struct virtio_mmio_queue queue[VIRTIO_MAX_QUEUES];

	_Atomic bool config_pending;
	pthread_mutex_t pulse_lock; /* a leaf */
};

static struct virtio_mmio *vmmio_of(struct virtio_transport *t)
{
	return container_of(t, struct virtio_mmio, transport);
}

/* --- registers, under dev->lock --- */

static uint32_t interrupt_status(const struct virtio_mmio *t)
{
	uint32_t v = t->config_pending ? VIRTIO_MMIO_INT_CONFIG : 0;

	if (virtio_status(t->transport.dev) & VIRTIO_CONFIG_S_DRIVER_OK)
		v |= VIRTIO_MMIO_INT_VRING;
	return v;
}

static uint32_t register_read(const struct virtio_mmio *t, uint64_t off)
{
	struct virtio_device *dev = t->transport.dev;
	const struct virtio_queue *vq = virtio_queue_get(dev, t->queue_sel);

	switch (off) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->ops->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR_ID;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return virtio_features(dev, t->device_features_sel);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return vq ? vq->max_size : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return vq ? vq->ready || virtio_queue_stopping(dev, vq) : 0;
	case VIRTIO_MMIO_QUEUE_RESET:
		return vq ? virtio_queue_stopping(dev, vq) : 0;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return interrupt_status(t);
	case VIRTIO_MMIO_STATUS:
		return virtio_status(dev);
	case VIRTIO_MMIO_SHM_LEN_LOW: /* there is no region, whichever was selected */
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return dev->config_generation;
	default:
		return 0;
	}
}

static void register_write(struct virtio_mmio *t, uint64_t off, uint32_t v)
{
	struct virtio_device *dev = t->transport.dev;
	uint32_t q = t->queue_sel;

	switch (off) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		t->device_features_sel = v;
		return;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		virtio_set_features(dev, t->driver_features_sel, v);
		return;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		t->driver_features_sel = v;
		return;
	case VIRTIO_MMIO_QUEUE_SEL:
		t->queue_sel = v;
		return;
	case VIRTIO_MMIO_QUEUE_NUM:
		if (v <= UINT16_MAX)
			virtio_queue_set_size(dev, q, (uint16_t)v);
		return;
	case VIRTIO_MMIO_QUEUE_READY:
		if (v <= 1)
			virtio_queue_set_ready(dev, q, v);
		return;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		virtio_queue_notify(dev, v);
		return;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		if (v & VIRTIO_MMIO_INT_CONFIG)
			t->config_pending = false;
		return;
	case VIRTIO_MMIO_STATUS:
		virtio_set_status(dev, (uint8_t)v);
		return;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_DESC, false, v);
		return;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_DESC, true, v);
		return;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_AVAIL, false, v);
		return;
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_AVAIL, true, v);
		return;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_USED, false, v);
		return;
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		virtio_queue_set_addr(dev, q, VIRTIO_QUEUE_USED, true, v);
		return;
	case VIRTIO_MMIO_QUEUE_RESET:
		if (v == 1 && virtio_has(dev, VIRTIO_F_RING_RESET))
			virtio_queue_reset(dev, q);
		return;
	}
}

static void mmio_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	struct virtio_mmio *t = container_of(r, struct virtio_mmio, range);
	uint32_t v;

	memset(data, 0, len);
	virtio_lock(t->transport.dev);
	if (off >= VIRTIO_MMIO_CONFIG) {
		virtio_config_read(t->transport.dev, off - VIRTIO_MMIO_CONFIG, data, len);
	} else if (len == 4 && off % 4 == 0) {
		v = register_read(t, off);
		memcpy(data, &v, 4);
	}
	virtio_unlock(t->transport.dev);
}

static void mmio_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct virtio_mmio *t = container_of(r, struct virtio_mmio, range);
	uint32_t v;

	virtio_lock(t->transport.dev);
	if (off >= VIRTIO_MMIO_CONFIG) {
		virtio_config_write(t->transport.dev, off - VIRTIO_MMIO_CONFIG, data, len);
	} else if (len == 4 && off % 4 == 0) {
		memcpy(&v, data, 4);
		register_write(t, off, v);
	}
	virtio_unlock(t->transport.dev);
}

/* --- what the core asks for --- */

/* One at a time: of two pulses that overlap the guest would see one edge, perhaps before the second had
 * anything to tell. */
static void pulse(struct virtio_mmio *t)
{
	pthread_mutex_lock(&t->pulse_lock);
	t->vmevent->ops->irq_line(t->vmevent, t->gsi, true);
	t->vmevent->ops->irq_line(t->vmevent, t->gsi, false);
	pthread_mutex_unlock(&t->pulse_lock);
}

static void on_call(struct ev_watch *w, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		pulse(container_of(w, struct virtio_mmio_queue, watch)->t);
}

static void watch_on_loop(void *arg)
{
	struct virtio_mmio_queue *b = arg;

	b->watch = (struct ev_watch){.fd = b->call_fd, .fn = on_call};
	b->watched = !evloop_add(b->t->transport.dev->loop, &b->watch, EPOLLIN);
}

static void unwatch_on_loop(void *arg)
{
	struct virtio_mmio_queue *b = arg;

	evloop_del(b->t->transport.dev->loop, &b->watch);
	b->watched = false;
}

static struct doorbell doorbell(const struct virtio_mmio *t, unsigned q)
{
	return (struct doorbell){.addr = t->range.base + VIRTIO_MMIO_QUEUE_NOTIFY, .len = 4, .match = q};
}

static int bind(struct virtio_transport *transport, unsigned q, int kick_fd, int call_fd)
{
	struct virtio_mmio *t = vmmio_of(transport);
	struct virtio_mmio_queue *b = &t->queue[q];
	struct doorbell d = doorbell(t, q);
	int rc = 0;

	b->kick_fd = kick_fd;
	b->call_fd = call_fd;
	if (!t->notify_exit)
		rc = t->vmevent->ops->doorbell_add(t->vmevent, &d, kick_fd);
	if (rc)
		return rc;
	if (t->irq_ioctl) {
		evloop_call(transport->dev->loop, watch_on_loop, b);
		rc = b->watched ? 0 : -EIO;
	} else {
		rc = t->vmevent->ops->irq_attach(t->vmevent, t->gsi, call_fd);
	}
	if (rc && !t->notify_exit)
		t->vmevent->ops->doorbell_del(t->vmevent, &d, kick_fd);
	b->bound = !rc;
	return rc;
}

static void unbind(struct virtio_transport *transport, unsigned q)
{
	struct virtio_mmio *t = vmmio_of(transport);
	struct virtio_mmio_queue *b = &t->queue[q];
	struct doorbell d = doorbell(t, q);

	if (!b->bound)
		return;
	b->bound = false;
	if (b->watched)
		evloop_call(transport->dev->loop, unwatch_on_loop, b);
	else
		t->vmevent->ops->irq_detach(t->vmevent, t->gsi, b->call_fd);
	if (!t->notify_exit)
		t->vmevent->ops->doorbell_del(t->vmevent, &d, b->kick_fd);
}

static void config_irq(struct virtio_transport *transport)
{
	struct virtio_mmio *t = vmmio_of(transport);

	t->config_pending = true;
	pulse(t);
}

static void reset(struct virtio_transport *transport)
{
	struct virtio_mmio *t = vmmio_of(transport);

	t->device_features_sel = t->driver_features_sel = t->queue_sel = 0;
	t->config_pending = false;
}

static void destroy(struct virtio_transport *transport)
{
	struct virtio_mmio *t = vmmio_of(transport);

	for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++)
		unbind(transport, q);
	bus_unmap(t->bus, &t->range);
	pthread_mutex_destroy(&t->pulse_lock);
	free(t);
}

struct virtio_transport *virtio_mmio_new(const struct virtio_mmio_config *c, struct err *e)
{
	static const struct virtio_transport_ops ops = {
		.bind = bind,
		.unbind = unbind,
		.config_irq = config_irq,
		.reset = reset,
		.destroy = destroy,
	};
	static const struct bus_ops range_ops = {.read = mmio_read, .write = mmio_write};
	struct virtio_mmio *t;
	int rc;

	if (c->index >= VIRTIO_MMIO_MAX) {
		err_set(e, -ENOSPC, "%s: at most %u devices fit on virtio-mmio; put it on PCI", c->dev->name,
			VIRTIO_MMIO_MAX);
		return NULL;
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		err_set(e, -ENOMEM, "%s: out of memory", c->dev->name);
		return NULL;
	}
	t->transport = (struct virtio_transport){.ops = &ops, .dev = c->dev};
	t->bus = c->mmio;
	t->vmevent = c->vmevent;
	t->gsi = (int)virtio_mmio_gsi(c->index);
	t->notify_exit = c->notify_exit;
	t->irq_ioctl = c->irq_ioctl;
	for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++)
		t->queue[q].t = t;
	pthread_mutex_init(&t->pulse_lock, NULL);
	t->range.name = c->dev->name;
	t->range.base = virtio_mmio_addr(c->index);
	t->range.size = VIRTIO_MMIO_STRIDE;
	t->range.ops = &range_ops;
	rc = bus_map(c->mmio, &t->range);
	if (rc) {
		err_set(e, rc, "%s: no place at %#llx: %s", c->dev->name, (unsigned long long)t->range.base,
			strerror(-rc));
		pthread_mutex_destroy(&t->pulse_lock);
		free(t);
		return NULL;
	}
	c->dev->transport = &t->transport;
	return &t->transport;
}
