/* Theory of operation.
 *
 * All queues are served on one loop.  What other threads bring - input, room for output, a new size - is
 * left under a lock or in an atomic, and an eventfd wakes the loop, which pumps whatever can move.
 *
 * Messages to the driver are not queued: each port has a bit for each message that is due, and they go out
 * lowest bit first when the driver has a buffer for them.  So memory is bounded whatever the driver asks
 * for, and the order within a port is the one Linux needs: ADD; and once the driver says PORT_READY,
 * CONSOLE_PORT before anything that is for consoles only.
 *
 * Everything below "loop's" in the structs belongs to the loop's thread while a queue runs.  The device's
 * reset touches it as well, but then no queue does, and code on the loop looks at the queue first. */
#include "devices/console/virtio_console.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "devices/console/console_parts.h"
#include "devices/virtio/inproc.h"
#include "lib/cleanup.h"

#define BIT(n) (UINT64_C(1) << (n))

enum { CONTROL_RX = 2, CONTROL_TX = 3 }; /* queues; port 0 has 0 and 1, port n the two from 2n + 2 */

static struct console_device *console_of(struct virtio_device *dev)
{
	return container_of(dev, struct console_device, dev);
}

void console_wake(struct console_device *d)
{
	const uint64_t one = 1;

	if (write(d->wake.fd, &one, sizeof(one)) < 0) /* EAGAIN: it is awake enough */
		return;
}

bool console_multiport(const struct console_device *d)
{
	return virtio_has(&d->dev, VIRTIO_CONSOLE_F_MULTIPORT);
}

int console_pop(struct console_device *d, struct virtqueue *vq, struct vq_chain *c)
{
	int rc = vq_pop(vq, c);

	if (rc < 0) {
		vq_flush(vq);
		virtio_needs_reset(&d->dev, "a queue is broken", rc);
	}
	return rc;
}

static void on_wake(struct ev_watch *w, uint32_t events)
{
	struct console_device *d = container_of(w, struct console_device, wake);
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) < 0)
		return;
	console_control_tx(d);
	console_control_rx(d);
	for (unsigned i = 0; i < d->nports; i++) {
		console_port_rx(d, &d->port[i]);
		console_port_tx(d, &d->port[i]);
	}
}

/* --- the device --- */

/* Which port a queue belongs to; NULL for the control queues. */
static struct console_port *port_of(struct console_device *d, unsigned queue)
{
	if (queue < CONTROL_RX)
		return &d->port[0];
	return queue > CONTROL_TX ? &d->port[queue / 2 - 1] : NULL;
}

static struct virtqueue **slot(struct console_device *d, unsigned queue)
{
	struct console_port *p = port_of(d, queue);

	if (p)
		return queue % 2 ? &p->tx : &p->rx;
	return queue == CONTROL_TX ? &d->control_tx : &d->control_rx;
}

static uint64_t console_features(struct virtio_device *dev)
{
	uint64_t f = BIT(VIRTIO_CONSOLE_F_SIZE) | BIT(VIRTIO_CONSOLE_F_EMERG_WRITE);

	return console_of(dev)->multiport ? f | BIT(VIRTIO_CONSOLE_F_MULTIPORT) : f;
}

static size_t console_config_size(struct virtio_device *dev)
{
	(void)dev;
	return sizeof(struct virtio_console_config);
}

static void console_config_read(struct virtio_device *dev, size_t off, void *buf, size_t len)
{
	const struct console_device *d = console_of(dev);
	uint32_t size = d->size;
	struct virtio_console_config c = {
		.cols = htole16((uint16_t)(size >> 16)),
		.rows = htole16((uint16_t)size),
		.max_nr_ports = htole32(d->nports),
	};

	memcpy(buf, (const char *)&c + off, len);
}

/* 5.3.5.1: a write to emerg_wr works at any time, whatever was negotiated. */
static void console_config_write(struct virtio_device *dev, size_t off, const void *buf, size_t len)
{
	const size_t emerg = offsetof(struct virtio_console_config, emerg_wr);
	struct console_device *d = console_of(dev);

	if (off > emerg || emerg - off >= len || (dev->hidden & BIT(VIRTIO_CONSOLE_F_EMERG_WRITE)))
		return;
	for (unsigned i = 0; i < d->nports; i++)
		if (d->port[i].cfg.console) {
			d->port[i].cfg.output(d->port[i].cfg.opaque, (const char *)buf + (emerg - off), 1);
			return;
		}
}

static void console_reset(struct virtio_device *dev)
{
	struct console_device *d = console_of(dev);

	for (unsigned i = 0; i < d->nports; i++) {
		struct console_port *p = &d->port[i];

		p->added = p->known = false;
		p->due = 0;
		console_port_set_open(p, false);
	}
}

static int console_run(struct virtio_device *dev, struct virtqueue *vq)
{
	*slot(console_of(dev), vq_index(vq)) = vq;
	return 0;
}

static void console_kick(struct virtio_device *dev, struct virtqueue *vq)
{
	struct console_device *d = console_of(dev);
	unsigned queue = vq_index(vq);
	struct console_port *p = port_of(d, queue);

	if (p && queue % 2)
		console_port_tx(d, p);
	else if (p)
		console_port_rx(d, p);
	else if (queue == CONTROL_TX)
		console_control_tx(d);
	else
		console_control_rx(d);
}

static void console_halt(struct virtio_device *dev, struct virtqueue *vq)
{
	struct console_device *d = console_of(dev);
	unsigned queue = vq_index(vq);
	struct console_port *p = port_of(d, queue);

	if (p && queue % 2)
		console_port_drop(p);
	vq_flush(vq);
	*slot(d, queue) = NULL;
}

static void unwatch(void *arg)
{
	struct console_device *d = arg;

	evloop_del(d->dev.loop, &d->wake);
}

static void console_destroy(struct virtio_device *dev)
{
	struct console_device *d = console_of(dev);

	evloop_call(dev->loop, unwatch, d);
	if (dev->local)
		dev->local->ops->destroy(dev->local);
	for (unsigned i = 0; i < d->nports; i++)
		pthread_mutex_destroy(&d->port[i].lock);
	close(d->wake.fd);
	free(d);
}

static const struct virtio_device_ops console_ops = {
	.id = VIRTIO_ID_CONSOLE,
	.name = "console",
	.features = console_features,
	.config_size = console_config_size,
	.config_read = console_config_read,
	.config_write = console_config_write,
	.reset = console_reset,
	.run = console_run,
	.kick = console_kick,
	.halt = console_halt,
	.destroy = console_destroy,
};

struct watch_call {
	struct console_device *d;
	int rc;
};

static void watch(void *arg)
{
	struct watch_call *call = arg;

	call->rc = evloop_add(call->d->dev.loop, &call->d->wake, EPOLLIN);
}

static int check(const struct console_device_config *c, struct err *e)
{
	if (!c->nports || c->nports > CONSOLE_PORTS_MAX)
		return err_set(e, -EINVAL, "%s: %u ports; there may be 1 to %u", c->name, c->nports,
			       CONSOLE_PORTS_MAX);
	for (unsigned i = 0; i < c->nports; i++)
		if (c->port[i].name && (!*c->port[i].name || strlen(c->port[i].name) > CONSOLE_NAME_MAX))
			return err_set(e, -EINVAL, "%s: port name '%s' has not 1 to %u bytes", c->name,
				       c->port[i].name, CONSOLE_NAME_MAX);
	return 0;
}

struct virtio_device *virtio_console_new(const struct console_device_config *c, struct err *e)
{
	struct console_device *d;
	struct watch_call call = {.rc = -EMFILE};

	if (check(c, e))
		return NULL;
	d = calloc(1, sizeof(*d) + c->nports * sizeof(d->port[0]));
	if (!d) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	d->multiport = c->multiport || c->nports > 1 || c->port[0].name || !c->port[0].console;
	d->rows_first = c->rows_first;
	d->size = (uint32_t)c->cols << 16 | c->rows;
	d->nports = c->nports;
	d->dev.ops = &console_ops;
	d->dev.name = c->name;
	d->dev.mem = c->mem;
	d->dev.loop = c->loop;
	d->dev.hidden = c->hidden;
	d->dev.nqueues = d->multiport ? 2 * c->nports + 2 : 2;
	for (unsigned i = 0; i < d->dev.nqueues; i++) {
		d->dev.queue[i].max_size = CONSOLE_QUEUE_SIZE;
		d->dev.queue[i].loop = c->loop;
	}
	for (unsigned i = 0; i < c->nports; i++) {
		d->port[i].cfg = c->port[i];
		pthread_mutex_init(&d->port[i].lock, NULL);
	}
	d->wake.fn = on_wake;
	d->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	call.d = d;
	if (d->wake.fd >= 0)
		evloop_call(c->loop, watch, &call);
	if (call.rc) {
		err_set(e, call.rc, "%s: no descriptor for it: %s (ulimit -n)", c->name, strerror(-call.rc));
		cleanup_fd_(&d->wake.fd);
		free(d);
		return NULL;
	}
	d->dev.local = inproc_new(&d->dev);
	if (!d->dev.local)
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
	if (!d->dev.local || virtio_init(&d->dev, e)) {
		console_destroy(&d->dev);
		return NULL;
	}
	return &d->dev;
}

/* --- from outside --- */

void virtio_console_room(struct virtio_device *dev, unsigned port)
{
	struct console_device *d = console_of(dev);

	assert(port < d->nports);
	console_wake(d);
}

void virtio_console_resize(struct virtio_device *dev, uint16_t cols, uint16_t rows)
{
	struct console_device *d = console_of(dev);
	uint32_t size = (uint32_t)cols << 16 | rows;

	if (atomic_exchange(&d->size, size) == size)
		return;
	d->resized = true;
	console_wake(d);
	virtio_config_changed(dev);
}
