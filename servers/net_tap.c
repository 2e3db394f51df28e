/* #syscalls[server]: eventfd2 epoll_ctl read write close */
#include "servers/net_tap.h"

#include <endian.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/net/net_port.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "servers/net_tap_state.h"

#define SPIN_NS UINT64_C(1000000) /* poll: between two looks at what else there is to do */

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0) /* it is awake enough */
		return;
}

/* --- to the tap --- */

static void transmit(struct tap_pair *p, const struct vq_chain *c)
{
	const unsigned hdr = p->tap->hdr_len;

	if (c->nin || c->out_len < hdr + ETH_HLEN || c->out_len > hdr + NET_FRAME_MAX) {
		net_count(&p->out.refused, 1);
		return;
	}
	if (p->port->ops->send(p->port, c->iov, (int)c->nout) < 0) {
		net_count(&p->out.dropped, 1);
		return;
	}
	net_count(&p->out.frames, 1);
	net_count(&p->out.bytes, c->out_len - hdr);
}

/* True: there was something. */
static bool send_some(struct tap_pair *p)
{
	struct virtqueue *vq = p->tx->vq;
	unsigned n;
	int rc = 1;

	for (n = 0; n < BURST; n++) {
		struct vq_chain c = {.iov = p->tx_iov, .iov_max = NET_IOV};

		rc = vq_pop(vq, &c);
		if (rc <= 0)
			break;
		transmit(p, &c);
		vq_push(vq, c.head, 0);
	}
	if (p->port->ops->commit)
		p->port->ops->commit(p->port);
	if (n)
		vq_flush(vq);
	if (rc < 0)
		server_queue_broken(p->tx);
	return n;
}

static void run_tx(struct tap_pair *p)
{
	if (!p->tx || !p->attached)
		return;
	vq_busy(p->tx->vq);
	for (unsigned turns = 4; turns; turns--) {
		if (send_some(p))
			continue;
		if (vq_error(p->tx->vq) || (!vq_poll(p->tx->vq) && !vq_wait(p->tx->vq)))
			return;
		vq_busy(p->tx->vq);
	}
	signal_fd(p->again.fd);
}

/* --- what comes from it: net_tap_rx.c --- */

static void on_readable(void *opaque)
{
	struct tap_pair *p = opaque;

	if (p->rx)
		net_tap_run_rx(p);
}

static void on_gone(void *opaque, int err)
{
	(void)opaque;
	log_error("net: the tap is gone: %s", strerror(-err));
}

/* --- what the server serves --- */

static void on_again(struct ev_watch *w, uint32_t events)
{
	struct tap_pair *p = container_of(w, struct tap_pair, again);
	uint64_t end, n;

	(void)events;
	if (!p->tap->c.poll) {
		if (read(w->fd, &n, sizeof(n)) == sizeof(n))
			run_tx(p);
		return;
	}
	end = clock_ns(CLOCK_MONOTONIC) + SPIN_NS;
	do {
		for (unsigned i = 0; i < BURST; i++)
			if (!send_some(p))
				__builtin_ia32_pause();
	} while (clock_ns(CLOCK_MONOTONIC) < end);
}

static int attach(struct tap_pair *p)
{
	int rc = 0;

	if (!p->attached)
		rc = p->port->ops->attach(p->port, p->thread.loop);
	p->attached = p->attached || !rc;
	return rc;
}

static void detach(struct tap_pair *p)
{
	if (!p->attached || p->rx || p->tx)
		return;
	p->port->ops->detach(p->port);
	p->attached = false;
}

static int set_features(void *dev, uint64_t features)
{
	struct net_tap *t = dev;
	int rc = 0;

	t->features = features;
	t->hdr_len = features & (NET_BIT(VIRTIO_F_VERSION_1) | NET_BIT(VIRTIO_NET_F_MRG_RXBUF))
			     ? sizeof(struct virtio_net_hdr_v1)
			     : sizeof(struct virtio_net_hdr);
	for (unsigned i = 0; !rc && i < t->c.npairs; i++)
		rc = t->ports[i]->ops->set_features(t->ports[i], features, t->hdr_len);
	return rc;
}

static int config_read(void *dev, uint32_t off, void *buf, uint32_t len)
{
	return net_config_read(&((struct net_tap *)dev)->c, off, buf, len);
}

static int set_mtu(void *dev, uint32_t off, const void *buf, uint32_t len)
{
	(void)dev;
	(void)off;
	(void)buf;
	(void)len;
	return 0; /* the interface's is its owner's */
}

static struct evloop *loop_of(void *dev, unsigned queue)
{
	return ((struct net_tap *)dev)->pair[queue / 2].thread.loop;
}

static void take_part(struct tap_pair *p, bool on)
{
	if (p->port->ops->set_active && p != p->tap->pair && p->port->ops->set_active(p->port, on))
		log_warn("net: a queue of the tap cannot be %s", on ? "used" : "let go");
}

static int queue_start(void *dev, struct server_queue *q)
{
	struct tap_pair *p = &((struct net_tap *)dev)->pair[q->index / 2];
	int rc = attach(p);

	if (rc)
		return rc;
	vq_busy(q->vq);
	if (q->index % 2) {
		p->tx = q;
		if (p->tap->c.poll)
			rc = evloop_add(p->thread.loop, &p->again, EPOLLIN);
		if (rc)
			p->tx = NULL;
	} else {
		p->rx = q;
		take_part(p, true);
		p->port->ops->recv_enable(p->port, true);
	}
	detach(p); /* unless one runs */
	return rc;
}

static void queue_stop(void *dev, struct server_queue *q)
{
	struct tap_pair *p = &((struct net_tap *)dev)->pair[q->index / 2];

	if (q->index % 2) {
		if (p->tap->c.poll)
			evloop_del(p->thread.loop, &p->again);
		p->tx = NULL;
	} else {
		p->port->ops->recv_enable(p->port, false);
		take_part(p, false);
		p->rx = NULL;
	}
	detach(p);
}

static void queue_kick(void *dev, struct server_queue *q)
{
	struct tap_pair *p = &((struct net_tap *)dev)->pair[q->index / 2];

	if (q->index % 2)
		run_tx(p);
	else
		p->port->ops->recv_enable(p->port, true);
}

static const struct server_device_ops ops = {
	.name = "net",
	.set_features = set_features,
	.config_read = config_read,
	.config_write = set_mtu,
	.loop = loop_of,
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.queue_kick = queue_kick,
};

/* --- life --- */

static int pair_init(struct net_tap *t, unsigned i, struct err *e)
{
	struct tap_pair *p = &t->pair[i];
	int rc = loop_thread_start(&p->thread, "net-tap", -1, e);

	if (rc)
		return rc;
	p->tap = t;
	p->port = t->ports[i];
	p->port->readable = on_readable;
	p->port->gone = on_gone;
	p->port->opaque = p;
	p->tx_iov = calloc(NET_IOV, sizeof(*p->tx_iov));
	p->rx_iov = calloc(2 * (size_t)NET_IOV + 1, sizeof(*p->rx_iov));
	p->spill = malloc(WHOLE);
	p->want = USUAL;
	p->again = (struct ev_watch){.fd = eventfd(t->c.poll, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_again};
	if (!p->tx_iov || !p->rx_iov || !p->spill || p->again.fd < 0)
		return err_set(e, -ENOMEM, "net: out of memory");
	rc = t->c.poll ? 0 : evloop_add(p->thread.loop, &p->again, EPOLLIN);
	return rc ? err_set(e, rc, "net: %s", strerror(-rc)) : 0;
}

int net_tap_new(struct net_tap **out, const struct net_link_config *c, struct net_port *const *ports,
		struct err *e)
{
	struct net_tap *t = calloc(1, sizeof(*t));
	struct server_config config;
	int rc = 0;

	if (!t)
		return err_set(e, -ENOMEM, "net: out of memory");
	t->c = *c;
	for (unsigned i = 0; i < NET_MAX_PAIRS; i++)
		t->pair[i].again.fd = -1;
	memcpy(t->ports, ports, c->npairs * sizeof(ports[0]));
	for (unsigned i = 0; !rc && i < c->npairs; i++)
		rc = pair_init(t, i, e);
	config = net_server_config(c, 0, net_features(false, c->npairs > 1), false);
	config.ops = &ops;
	config.dev = t;
	if (c->offloads)
		config.features |= t->ports[0]->ops->features(t->ports[0]);
	if (!rc)
		rc = server_new(&t->server, &config, e);
	if (rc) {
		net_tap_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

void net_tap_free(struct net_tap *t)
{
	if (!t)
		return;
	server_free(t->server);
	for (unsigned i = 0; i < t->c.npairs; i++) {
		struct tap_pair *p = &t->pair[i];

		loop_thread_stop(&p->thread);
		if (p->again.fd >= 0)
			close(p->again.fd);
		free(p->tx_iov);
		free(p->rx_iov);
		free(p->spill);
	}
	free(t);
}

struct server *net_tap_server(const struct net_tap *t)
{
	return t->server;
}

void net_tap_counts(const struct net_tap *t, struct net_counts *out, struct net_counts *in)
{
	*out = *in = (struct net_counts){0};
	for (unsigned i = 0; i < t->c.npairs; i++) {
		out->frames += t->pair[i].out.frames;
		out->bytes += t->pair[i].out.bytes;
		out->dropped += t->pair[i].out.dropped;
		out->refused += t->pair[i].out.refused;
		in->frames += t->pair[i].in.frames;
		in->bytes += t->pair[i].in.bytes;
		in->dropped += t->pair[i].in.dropped;
		in->refused += t->pair[i].in.refused;
	}
}
