/* The control queues (5.3.6.2). */
#include <endian.h>
#include <linux/virtio_console.h>
#include <string.h>

#include "devices/console/console_parts.h"
#include "lib/log.h"

/* Messages that are due, in the order in which they go. */
enum {
	DUE_ADD = 1u << 0,
	DUE_CONSOLE = 1u << 1,
	DUE_NAME = 1u << 2,
	DUE_RESIZE = 1u << 3,
	DUE_OPEN = 1u << 4,
};

/* --- to the driver --- */

/* The message for the lowest bit in `due`, as the driver gets it; returns its length. */
static size_t message(const struct console_device *d, unsigned port, unsigned due, void *buf)
{
	const struct console_port *p = &d->port[port];
	struct virtio_console_control m = {.id = htole32(port), .value = htole16(1)};
	uint32_t size = d->size;
	uint16_t cols = htole16((uint16_t)(size >> 16)), rows = htole16((uint16_t)size);
	uint16_t pair[2] = {d->rows_first ? rows : cols, d->rows_first ? cols : rows};
	const void *more = NULL;
	size_t len = 0;

	switch (due & -due) {
	case DUE_ADD:
		m.event = htole16(VIRTIO_CONSOLE_PORT_ADD);
		break;
	case DUE_CONSOLE:
		m.event = htole16(VIRTIO_CONSOLE_CONSOLE_PORT);
		break;
	case DUE_NAME:
		m.event = htole16(VIRTIO_CONSOLE_PORT_NAME);
		more = p->cfg.name;
		len = strlen(p->cfg.name);
		break;
	case DUE_RESIZE:
		m.event = htole16(VIRTIO_CONSOLE_RESIZE);
		more = pair;
		len = sizeof(pair);
		break;
	default:
		m.event = htole16(VIRTIO_CONSOLE_PORT_OPEN);
		break;
	}
	memcpy(buf, &m, sizeof(m));
	if (more)
		memcpy((char *)buf + sizeof(m), more, len);
	return sizeof(m) + len;
}

/* 1: the lowest message of that port is out.  0: no buffer for it.  -errno: the ring is broken. */
static int send_message(struct console_device *d, unsigned port)
{
	struct vq_chain c = {.iov = d->iov, .iov_max = CONSOLE_PIECES_MAX};
	struct console_port *p = &d->port[port];
	char buf[sizeof(struct virtio_console_control) + CONSOLE_NAME_MAX];
	size_t len;
	int rc = console_pop(d, d->control_rx, &c);

	if (rc <= 0)
		return rc;
	len = message(d, port, p->due, buf);
	if (len > c.in_len) {
		log_guest("%s: the driver's buffer has no room for a control message of %zu bytes", d->dev.name,
			  len);
		len = 0;
	}
	console_scatter(&c, buf, len);
	vq_push(d->control_rx, c.head, (uint32_t)len);
	p->due &= p->due - 1;
	return 1;
}

static void take_resize(struct console_device *d)
{
	if (!atomic_exchange(&d->resized, false))
		return;
	for (unsigned i = 0; i < d->nports; i++)
		if (d->port[i].known && d->port[i].cfg.console)
			d->port[i].due |= DUE_RESIZE;
}

void console_control_rx(struct console_device *d)
{
	struct virtqueue *vq = d->control_rx;

	if (!vq || !console_multiport(d))
		return;
	take_resize(d);
	vq_busy(vq);
	for (unsigned i = 0; i < d->nports; i++)
		while (d->port[i].due) {
			int rc = send_message(d, i);

			if (rc < 0 || (!rc && !vq_wait(vq)))
				return;
		}
	vq_flush(vq);
}

/* --- from the driver --- */

static void port_ready(struct console_device *d, struct console_port *p)
{
	if (p->known) /* all that follows was said */
		return;
	p->known = true;
	if (p->cfg.console)
		p->due |= DUE_CONSOLE | (d->size ? DUE_RESIZE : 0);
	if (p->cfg.name)
		p->due |= DUE_NAME;
	p->due |= DUE_OPEN; /* our side always is */
}

static void handle_message(struct console_device *d, const struct virtio_console_control *m)
{
	uint32_t id = le32toh(m->id);
	uint16_t event = le16toh(m->event);
	bool value = m->value != 0;

	if (event == VIRTIO_CONSOLE_DEVICE_READY) {
		for (unsigned i = 0; value && i < d->nports; i++)
			if (!d->port[i].added) { /* 5.3.6.2.1: never twice */
				d->port[i].added = true;
				d->port[i].due |= DUE_ADD;
			}
	} else if (id >= d->nports || !d->port[id].added) {
		log_guest("%s: control message %u for port %u, which there is not", d->dev.name, event, id);
	} else if (event == VIRTIO_CONSOLE_PORT_READY && value) {
		port_ready(d, &d->port[id]);
	} else if (event == VIRTIO_CONSOLE_PORT_READY) {
		log_guest("%s: the driver cannot use port %u", d->dev.name, id);
	} else if (event == VIRTIO_CONSOLE_PORT_OPEN) {
		console_port_set_open(&d->port[id], value);
	} else {
		log_guest("%s: control message %u is none a driver sends", d->dev.name, event);
	}
}

/* The first bytes of what the driver wrote; returns how many there are, len at most. */
static size_t gather(const struct vq_chain *c, void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < c->nout && done < len; i++) {
		size_t n = c->iov[i].iov_len < len - done ? c->iov[i].iov_len : len - done;

		memcpy((char *)buf + done, c->iov[i].iov_base, n);
		done += n;
	}
	return done;
}

void console_control_tx(struct console_device *d)
{
	struct virtqueue *vq = d->control_tx;
	struct vq_chain c = {.iov = d->iov, .iov_max = CONSOLE_PIECES_MAX};
	unsigned left;

	if (!vq)
		return;
	left = vq_size(vq);
	vq_busy(vq);
	do {
		for (; left; left--) {
			struct virtio_console_control m;
			int rc = console_pop(d, vq, &c);

			if (rc < 0)
				return;
			if (!rc)
				break;
			if (gather(&c, &m, sizeof(m)) == sizeof(m) && console_multiport(d))
				handle_message(d, &m);
			vq_push(vq, c.head, 0);
		}
	} while (left && vq_wait(vq));
	vq_flush(vq);
	if (!left)
		console_wake(d);
	console_control_rx(d);
	for (unsigned i = 0; i < d->nports; i++)
		console_port_rx(d, &d->port[i]); /* it may just have been opened */
}
