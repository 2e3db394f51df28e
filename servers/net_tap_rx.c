/* Frames from the tap into receive buffers: read straight into them, and what does not fit into a spill. */
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "devices/virtio/virtqueue.h"
#include "servers/net_tap_state.h"

/* Receive buffers, taken and not given back: in p->rx_iov, in order. */
struct window {
	unsigned n, niov;
	size_t bytes;
	struct {
		uint16_t head;
		size_t len;
	} buf[NET_IOV];
};

/* Until there are want bytes.  1; 0: the driver has no more; -errno: the ring is broken. */
static int take_room(struct tap_pair *p, struct window *w, size_t want)
{
	struct virtqueue *vq = p->rx->vq;
	const bool mrg = p->tap->features & NET_BIT(VIRTIO_NET_F_MRG_RXBUF);

	while (w->bytes < want && (!w->n || mrg) && w->niov < NET_IOV && w->n < NET_IOV) {
		struct vq_chain d = {.iov = p->rx_iov + w->niov, .iov_max = NET_IOV};
		int rc = vq_pop(vq, &d);

		if (rc <= 0)
			return rc;
		w->buf[w->n].head = d.head;
		w->buf[w->n++].len = d.in_len;
		w->niov += d.nin;
		w->bytes += d.in_len;
		if (d.nout) {
			vq_break(vq, -EILSEQ);
			return -EILSEQ;
		}
	}
	return 1;
}

static void put_num_buffers(struct tap_pair *p, unsigned n)
{
	const uint8_t le[2] = {(uint8_t)n, (uint8_t)(n >> 8)};
	size_t at = offsetof(struct virtio_net_hdr_v1, num_buffers);
	const struct iovec *iov = p->rx_iov;

	if (p->tap->hdr_len < sizeof(struct virtio_net_hdr_v1))
		return;
	for (unsigned i = 0; i < sizeof(le); i++, at++) {
		for (; at >= iov->iov_len; iov++)
			at -= iov->iov_len;
		((uint8_t *)iov->iov_base)[at] = le[i];
	}
}

static void give_back(struct tap_pair *p, const struct window *w, size_t len)
{
	unsigned used = 0;
	size_t left = len;

	for (; used < w->n && left; used++)
		left -= left < w->buf[used].len ? left : w->buf[used].len;
	put_num_buffers(p, used);
	vq_unpop(p->rx->vq, w->n - used);
	left = len;
	for (unsigned i = 0; i < used; i++) {
		const size_t n = left < w->buf[i].len ? left : w->buf[i].len;

		vq_push(p->rx->vq, w->buf[i].head, (uint32_t)n);
		left -= n;
	}
	net_count(&p->in.frames, 1);
	net_count(&p->in.bytes, len - p->tap->hdr_len);
}

/* One frame, of which what is beyond the first *niov pieces, *bytes of them, is in the spill. */
static ssize_t read_frame(struct tap_pair *p, const struct window *w, unsigned *niov, size_t *bytes)
{
	struct iovec *last, saved;
	ssize_t n;

	*niov = w->niov;
	*bytes = w->bytes;
	while (*niov > NET_IOV - 1) /* the port takes IOV_MAX, and the spill is one */
		*bytes -= p->rx_iov[--*niov].iov_len;
	last = &p->rx_iov[*niov];
	saved = *last;
	*last = (struct iovec){p->spill, WHOLE};
	n = p->port->ops->recv(p->port, p->rx_iov, (int)*niov + 1);
	*last = saved;
	return n;
}

/* There may be buffers for what is in the spill after all: of a frame of len bytes, those that are not in the
 * first so many pieces. */
static bool unspill(struct tap_pair *p, struct window *w, size_t len, unsigned niov, size_t bytes)
{
	const char *from = p->spill;
	size_t left = len - bytes;

	if (take_room(p, w, len) < 0 || w->bytes < len)
		return false;
	for (unsigned i = niov; left; i++) {
		const size_t n = left < p->rx_iov[i].iov_len ? left : p->rx_iov[i].iov_len;

		memcpy(p->rx_iov[i].iov_base, from, n);
		from += n;
		left -= n;
	}
	return true;
}

/* 1: a frame has come, or was lost; 0: none is there; -ENOBUFS: no buffers; else the ring or the port is
 * broken. */
static int receive(struct tap_pair *p)
{
	struct window w;
	unsigned niov;
	size_t bytes;
	ssize_t n;
	int rc;

	w.n = w.niov = 0;
	w.bytes = 0;
	rc = take_room(p, &w, p->want);
	if (rc < 0)
		vq_unpop(p->rx->vq, w.n);
	if (rc < 0 || !w.n)
		return rc < 0 ? rc : -ENOBUFS;
	n = read_frame(p, &w, &niov, &bytes);
	if (n > (ssize_t)p->tap->hdr_len) {
		const size_t len = (size_t)n;

		p->want = len > USUAL ? WHOLE : USUAL;
		if (len <= bytes || unspill(p, &w, len, niov, bytes)) {
			give_back(p, &w, len);
			return 1;
		}
		n = -EMSGSIZE;
	}
	vq_unpop(p->rx->vq, w.n);
	if (n == -EAGAIN)
		return 0;
	net_count(&p->in.dropped, 1);
	return n == -EMSGSIZE || n >= 0 ? 1 : (int)n;
}

void net_tap_run_rx(struct tap_pair *p)
{
	struct virtqueue *vq = p->rx->vq;

	vq_busy(vq);
	for (unsigned i = 0; i < BURST; i++) {
		int rc = receive(p);

		if (!rc)
			break;
		if (rc == -ENOBUFS && vq_wait(vq))
			vq_busy(vq);
		else if (rc < 0) {
			p->port->ops->recv_enable(p->port, false); /* until the driver kicks */
			break;
		}
	}
	vq_flush(vq);
	server_queue_broken(p->rx);
}
