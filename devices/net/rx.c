/* From the port to the driver.
 *
 * Theory of operation.  How long a frame is shows only once it is read, so a window of buffers is popped
 * beforehand and each frame is read straight into its front; what it does not fill stays for the next
 * frame, however long that takes, and is unpopped when the queue stops.  Behind the window every read
 * has a spill area of our own.  It makes a frame that is too long visible; with VIRTIO_NET_F_MRG_RXBUF what
 * lands there is copied into more buffers, so the window need not always be as large as the largest
 * frame: it is while such frames come. */
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "devices/net/frame.h"
#include "devices/net/net_device.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#define WANT_SMALL 4096
#define WANT_LARGE NET_SPILL
/* So many frames in a row that would have fitted WANT_SMALL make it that again. */
#define SMALL_RUN 64

/* So few frames may be questions, the answer to which is next. */
#define ANSWERED 4

#define PENDING_MS 1000 /* how long a driver may leave a frame without enough buffers */

enum fill {
	FILL_ENOUGH,
	FILL_EMPTY, /* the driver gives no more */
	FILL_STUCK, /* there are more, but not for this frame */
};

int net_rx_init(struct net_pair *p, uint16_t queue_size)
{
	struct net_window *w = &p->rx.window;

	w->chain = calloc(queue_size, sizeof(*w->chain));
	w->iov = calloc(NET_WINDOW_IOV, sizeof(*w->iov));
	p->rx.spill = malloc(NET_SPILL);
	return w->chain && w->iov && p->rx.spill ? 0 : -ENOMEM;
}

void net_rx_fini(struct net_pair *p)
{
	free(p->rx.window.chain);
	free(p->rx.window.iov);
	free(p->rx.spill);
}

/* --- the window --- */

static const char *malformed(const struct vq_chain *c)
{
	if (c->nout)
		return "holds buffers to read from";
	if (c->in_len < NET_HDR_LEN)
		return "is too short for a header";
	return NULL;
}

/* To the front of the arrays, where what follows has room. */
static void compact(struct net_window *w)
{
	memmove(w->chain, w->chain + w->first, w->n * sizeof(*w->chain));
	memmove(w->iov, w->iov + w->iov_first, w->niov * sizeof(*w->iov));
	w->first = w->iov_first = 0;
}

/* *budget: how many malformed buffers may go back. */
static enum fill fill(struct net_pair *p, size_t want, unsigned *budget)
{
	struct net_rx *rx = &p->rx;
	struct net_window *w = &rx->window;
	const unsigned max = net_has(p->net, VIRTIO_NET_F_MRG_RXBUF) ? vq_size(rx->vq) : 1;
	struct vq_chain c;
	const char *fault;
	int rc;

	while (w->bytes < want) {
		if (w->n == max || w->niov + NET_CHAIN_IOV >= NET_WINDOW_IOV || !*budget)
			return FILL_STUCK;
		if (w->first + w->n == vq_size(rx->vq) ||
		    w->iov_first + w->niov + NET_CHAIN_IOV >= NET_WINDOW_IOV)
			compact(w);
		c = (struct vq_chain){.iov = w->iov + w->iov_first + w->niov, .iov_max = NET_CHAIN_IOV};
		rc = vq_pop(rx->vq, &c);
		if (rc < 0) {
			virtio_needs_reset(&p->net->dev, "a receive queue is broken", rc);
			return FILL_STUCK;
		}
		if (!rc)
			return FILL_EMPTY;
		fault = malformed(&c);
		if (fault && w->n) { /* it can only go back after those before it */
			vq_unpop(rx->vq, 1);
			return FILL_STUCK;
		}
		if (fault) {
			log_guest("%s: a buffer on a receive queue %s; it goes back empty", p->net->dev.name,
				  fault);
			vq_push(rx->vq, c.head, 0);
			--*budget;
			continue;
		}
		w->chain[w->first + w->n++] =
			(struct net_chain){.head = c.head, .niov = c.nin, .len = c.in_len};
		w->niov += c.nin;
		w->bytes += c.in_len;
	}
	return FILL_ENOUGH;
}

/* Gives the front of the window to the driver, len bytes of it filled. */
static void give(struct net_rx *rx, size_t len)
{
	struct net_window *w = &rx->window;
	size_t left = len;
	uint16_t n = 0;
	uint16_t num_buffers; /* little-endian */

	while (left) {
		const struct net_chain *c = &w->chain[w->first + n++];

		left -= left < c->len ? left : (size_t)c->len;
	}
	num_buffers = htole16(n);
	frame_write(w->iov + w->iov_first, w->niov, offsetof(struct virtio_net_hdr_v1, num_buffers),
		    &num_buffers, sizeof(num_buffers));
	for (left = len; n; n--) {
		const struct net_chain *c = &w->chain[w->first];
		const size_t k = left < c->len ? left : (size_t)c->len;

		vq_push(rx->vq, c->head, (uint32_t)k);
		left -= k;
		w->bytes -= c->len;
		w->iov_first += c->niov;
		w->niov -= c->niov;
		w->first++;
		w->n--;
	}
	if (!w->n)
		w->first = w->iov_first = 0;
}

/* --- one frame --- */

/* Has the driver accepted what the header says of the frame?  Frames from before a reset can wait in the port
 * with offloads of the life before (5.1.6.4.1). */
static bool understood(const struct net *net, const struct virtio_net_hdr_v1 *hdr)
{
	if (hdr->flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID))
		return false; /* of features that are never offered */
	if ((hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !net_has(net, VIRTIO_NET_F_GUEST_CSUM))
		return false;
	if ((hdr->gso_type & VIRTIO_NET_HDR_GSO_ECN) && !net_has(net, VIRTIO_NET_F_GUEST_ECN))
		return false;
	switch (hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return true;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return net_has(net, VIRTIO_NET_F_GUEST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return net_has(net, VIRTIO_NET_F_GUEST_TSO6);
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return net_has(net, VIRTIO_NET_F_GUEST_USO4) || net_has(net, VIRTIO_NET_F_GUEST_USO6);
	}
	return false;
}

/* 5.1.4.1: what comes in one piece may not be longer than the MTU. */
static bool too_long(const struct net *net, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame,
		     size_t len)
{
	const bool tagged = len >= ETH_HLEN && frame[12] == ETH_P_8021Q >> 8 && !frame[13];

	return net_has(net, VIRTIO_NET_F_MTU) && !(hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) &&
	       len > (size_t)net->mtu + ETH_HLEN + (tagged ? 4 : 0);
}

/* Is the frame that lies in iov for this driver?  It has been read into memory the guest can write: if
 * it changes what we look at it fools itself only. */
static bool wanted(struct net_pair *p, const struct iovec *iov, unsigned n, size_t len)
{
	uint8_t head[NET_HDR_LEN + NET_FILTER_HEAD] = {0};
	const uint8_t *frame = head + NET_HDR_LEN;
	struct virtio_net_hdr_v1 hdr;
	size_t got;

	got = frame_read(iov, n, 0, head, len < sizeof(head) ? len : sizeof(head));
	memcpy(&hdr, head, sizeof(hdr));
	if (!net_link_up(p->net) || !understood(p->net, &hdr) ||
	    !net_filter_wants(&p->filter, frame, got - NET_HDR_LEN)) {
		net_count(&p->counters.rx_filtered, 1);
		return false;
	}
	if (too_long(p->net, &hdr, frame, len - NET_HDR_LEN)) {
		net_count(&p->counters.rx_too_long, 1);
		return false;
	}
	return true;
}

static void learn(struct net_rx *rx, size_t len)
{
	if (len > WANT_SMALL) {
		rx->want = WANT_LARGE;
		rx->small_frames = 0;
	} else if (rx->want > WANT_SMALL && ++rx->small_frames == SMALL_RUN) {
		rx->want = WANT_SMALL;
		rx->small_frames = 0;
	}
}

/* Finishes the pending frame.  False: it still waits for buffers. */
static bool deliver(struct net_pair *p, unsigned *budget)
{
	static const uint8_t no_flags;
	struct net_rx *rx = &p->rx;
	struct net_window *w = &rx->window;
	const size_t len = rx->pending;
	enum fill rc;

	while ((rc = fill(p, len, budget)) == FILL_EMPTY) {
		if (!vq_wait(rx->vq)) {
			ev_timer_arm(&rx->timer, PENDING_MS);
			return false;
		}
		vq_busy(rx->vq);
		if (!*budget || !--*budget) /* a driver that gives and takes back */
			rc = FILL_STUCK;
		if (rc == FILL_STUCK)
			break;
	}
	rx->pending = 0;
	if (rc == FILL_STUCK) {
		net_count(&p->counters.rx_too_long, 1);
		return true;
	}
	if (len > rx->pending_head)
		frame_write(w->iov + w->iov_first, w->niov, rx->pending_head, rx->spill,
			    len - rx->pending_head);
	/* The kernel may say that a checksum is valid whether asked or not (5.1.6.4.1). */
	if (!net_has(p->net, VIRTIO_NET_F_GUEST_CSUM))
		frame_write(w->iov + w->iov_first, w->niov, offsetof(struct virtio_net_hdr_v1, flags),
			    &no_flags, sizeof(no_flags));
	give(rx, len);
	net_count(&p->counters.rx_frames, 1);
	net_count(&vq_stats(rx->vq)->bytes, len - NET_HDR_LEN);
	net_limit_take(&p->net->rx_limit, len - NET_HDR_LEN);
	return true;
}

/* Reads one frame into the window and makes it the pending one if the driver is to have it.  Its length, or
 * what the port says. */
static ssize_t receive(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;
	struct net_window *w = &rx->window;
	struct iovec *iov = w->iov + w->iov_first, saved;
	size_t room = (size_t)w->bytes;
	unsigned n = w->niov;
	ssize_t len;

	for (; n > IOV_MAX - 1; n--)
		room -= iov[n - 1].iov_len;
	saved = iov[n];
	iov[n] = (struct iovec){.iov_base = rx->spill, .iov_len = NET_SPILL};
	len = p->port->ops->recv(p->port, iov, (int)n + 1);
	if (len >= (ssize_t)NET_HDR_LEN && wanted(p, iov, n + 1, (size_t)len)) {
		rx->pending = (size_t)len;
		rx->pending_head = room;
	}
	iov[n] = saved;
	net_count(&vq_stats(rx->vq)->syscalls, 1);
	return len;
}

static bool throttle(struct net_pair *p)
{
	uint64_t wait = net_limit_wait(&p->net->rx_limit);

	if (!wait)
		return false;
	p->rx.throttled = true;
	ev_timer_arm(&p->rx.timer, (wait + 999999) / 1000000);
	return true;
}

static bool may_receive(const struct net_pair *p)
{
	const struct net_rx *rx = &p->rx;

	return rx->vq && p->attached && p->active && !p->gone && !rx->throttled && !vq_error(rx->vq);
}

static void burst(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;
	unsigned budget = vq_size(rx->vq);
	size_t bytes = 0;
	enum fill rc;
	ssize_t len;

	if (rx->pending && !deliver(p, &budget))
		return;
	while (budget && bytes < NET_BURST_BYTES) {
		budget--;
		if (throttle(p))
			return;
		rc = fill(p, rx->want, &budget);
		if (!rx->window.n && rc == FILL_STUCK)
			return;
		if (!rx->window.n) {
			rx->starved = !vq_wait(rx->vq);
			if (rx->starved)
				return;
			vq_busy(rx->vq);
			continue;
		}
		len = receive(p);
		if (len == -EMSGSIZE) {
			net_count(&p->counters.rx_too_long, 1);
			continue;
		}
		if (len < 0) {
			if (len != -EAGAIN)
				net_gone(p, (int)len);
			return;
		}
		bytes += (size_t)len;
		learn(rx, (size_t)len);
		if (rx->pending && !deliver(p, &budget))
			return;
	}
}

void net_rx_drain(struct net_pair *p)
{
	const uint64_t before = p->counters.rx_frames;
	uint64_t n;

	if (may_receive(p)) {
		burst(p);
		vq_flush(p->rx.vq);
		n = p->counters.rx_frames - before;
		if (n && n <= ANSWERED)
			net_tx_expect(p);
	}
	net_rx_update(p);
}

void net_rx_update(struct net_pair *p)
{
	bool on = may_receive(p) && !p->rx.starved && !p->rx.pending;

	if (!p->attached || on == p->rx.enabled)
		return;
	p->rx.enabled = on;
	p->port->ops->recv_enable(p->port, on);
}

static void on_timer(struct ev_timer *t)
{
	struct net_pair *p = container_of(t, struct net_pair, rx.timer);

	p->rx.throttled = false;
	if (p->rx.pending) {
		p->rx.pending = 0;
		net_count(&p->counters.rx_too_long, 1);
	}
	net_rx_drain(p);
}

int net_rx_run(struct net_pair *p, struct virtqueue *vq)
{
	struct net_rx *rx = &p->rx;
	int rc = ev_timer_init(&rx->timer, p->loop, on_timer);

	if (rc)
		return rc;
	rx->vq = vq;
	rx->want = WANT_SMALL;
	rx->small_frames = 0;
	rx->starved = rx->throttled = false;
	return 0;
}

void net_rx_kick(struct net_pair *p)
{
	if (!p->rx.vq)
		return;
	if (p->rx.pending)
		ev_timer_arm(&p->rx.timer, 0);
	p->rx.starved = false;
	vq_busy(p->rx.vq);
	net_rx_drain(p);
}

void net_rx_halt(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;
	struct net_window *w = &rx->window;

	if (!rx->vq)
		return;
	ev_timer_fini(&rx->timer);
	vq_unpop(rx->vq, w->n);
	vq_flush(rx->vq);
	w->first = w->n = w->iov_first = w->niov = 0;
	w->bytes = 0;
	rx->pending = 0;
	rx->vq = NULL;
	net_rx_update(p);
}
