/* A port's two byte streams. */
#include <assert.h>
#include <string.h>

#include "devices/console/console_parts.h"
#include "lib/cleanup.h"

#define TX_BURST (128u << 10) /* bytes of one port before others on the loop have their turn */

/* --- towards the guest --- */

void console_scatter(const struct vq_chain *c, const void *data, size_t len)
{
	const char *from = data;

	for (unsigned i = c->nout; i < c->nout + c->nin && len; i++) {
		size_t n = c->iov[i].iov_len < len ? c->iov[i].iov_len : len;

		memcpy(c->iov[i].iov_base, from, n);
		from += n;
		len -= n;
	}
}

static bool input_waits(struct console_port *p)
{
	bool waits;

	pthread_mutex_lock(&p->lock);
	waits = p->in_len > 0;
	pthread_mutex_unlock(&p->lock);
	return waits;
}

/* Moves input into the chain; returns how much. */
static size_t take_input(struct console_port *p, const struct vq_chain *c)
{
	uint8_t buf[CONSOLE_INPUT_MAX];
	size_t n, first;

	pthread_mutex_lock(&p->lock);
	n = p->in_len < c->in_len ? p->in_len : (size_t)c->in_len;
	first = n < CONSOLE_INPUT_MAX - p->in_head ? n : CONSOLE_INPUT_MAX - p->in_head;
	memcpy(buf, p->in + p->in_head, first);
	memcpy(buf + first, p->in, n - first);
	p->in_head = (unsigned)(p->in_head + n) % CONSOLE_INPUT_MAX;
	p->in_len -= (unsigned)n;
	pthread_mutex_unlock(&p->lock);
	console_scatter(c, buf, n);
	return n;
}

static void tell_room(struct console_port *p)
{
	bool room;

	pthread_mutex_lock(&p->lock);
	room = p->in_refused && p->in_len < CONSOLE_INPUT_MAX / 2;
	if (room)
		p->in_refused = false;
	pthread_mutex_unlock(&p->lock);
	if (room && p->cfg.room)
		p->cfg.room(p->cfg.opaque);
}

void console_port_rx(struct console_device *d, struct console_port *p)
{
	struct virtqueue *vq = p->rx;
	struct vq_chain c = {.iov = d->iov, .iov_max = CONSOLE_PIECES_MAX};
	unsigned left;

	/* Linux throws away what comes to a port that nobody in the guest has open. */
	if (!vq || (!p->open && console_multiport(d)))
		return;
	vq_busy(vq); /* without input there is nothing to hear about */
	for (left = vq_size(vq); left && input_waits(p); left--) {
		int rc = console_pop(d, vq, &c);
		size_t n;

		if (rc < 0)
			return;
		if (!rc) {
			if (vq_wait(vq))
				continue;
			break;
		}
		n = take_input(p, &c);
		vq_push(vq, c.head, (uint32_t)n);
		vq_stats(vq)->bytes += n;
	}
	vq_flush(vq);
	if (!left)
		console_wake(d);
	tell_room(p);
}

size_t virtio_console_input(struct virtio_device *dev, unsigned port, const void *data, size_t len)
{
	struct console_device *d = container_of(dev, struct console_device, dev);
	struct console_port *p = &d->port[port];
	const uint8_t *from = data;
	size_t n = 0;

	assert(port < d->nports);
	pthread_mutex_lock(&p->lock);
	while (n < len && p->in_len < CONSOLE_INPUT_MAX)
		p->in[(p->in_head + p->in_len++) % CONSOLE_INPUT_MAX] = from[n++];
	p->in_refused |= n < len;
	pthread_mutex_unlock(&p->lock);
	if (n)
		console_wake(d);
	return n;
}

/* --- from the guest --- */

/* Puts out what is left of the chain in hand.  True: it is all out. */
static bool send_chain(struct console_port *p, size_t *budget)
{
	uint8_t buf[CONSOLE_CHUNK_MAX];

	while (p->piece < p->chain.nout) {
		const struct iovec *v = &p->iov[p->piece];
		size_t n = v->iov_len - p->off;

		if (n > sizeof(buf))
			n = sizeof(buf);
		if (n > *budget || (n && p->cfg.ready && !p->cfg.ready(p->cfg.opaque)))
			return false;
		/* The guest may write to it meanwhile: whoever looks at it gets a copy. */
		memcpy(buf, (const char *)v->iov_base + p->off, n);
		if (n)
			p->cfg.output(p->cfg.opaque, buf, n);
		*budget -= n;
		vq_stats(p->tx)->bytes += n;
		p->off += n;
		if (p->off == v->iov_len) {
			p->piece++;
			p->off = 0;
		}
	}
	return true;
}

void console_port_tx(struct console_device *d, struct console_port *p)
{
	struct virtqueue *vq = p->tx;
	size_t budget = TX_BURST;
	unsigned left;

	if (!vq)
		return;
	vq_busy(vq);
	for (left = vq_size(vq); left; left--) {
		if (!p->sending) {
			int rc;

			p->chain = (struct vq_chain){.iov = p->iov, .iov_max = CONSOLE_PIECES_MAX};
			rc = console_pop(d, vq, &p->chain);
			if (rc < 0)
				return;
			if (!rc) {
				if (vq_wait(vq))
					continue;
				return;
			}
			p->sending = true;
			p->piece = 0;
			p->off = 0;
		}
		if (!send_chain(p, &budget)) {
			vq_flush(vq);
			if (budget < CONSOLE_CHUNK_MAX)
				console_wake(d);
			return;
		}
		vq_push(vq, p->chain.head, 0);
		p->sending = false;
	}
	vq_flush(vq);
	console_wake(d);
}

void console_port_drop(struct console_port *p)
{
	if (!p->sending)
		return;
	vq_push(p->tx, p->chain.head, 0);
	p->sending = false;
}

void console_port_set_open(struct console_port *p, bool open)
{
	if (p->open == open)
		return;
	p->open = open;
	if (p->cfg.opened)
		p->cfg.opened(p->cfg.opaque, open);
}
