/* A frame of any kind: in pieces, over several receive buffers, with a checksum or segments yet to be made. */
#include <endian.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "devices/net/net_port.h"
#include "devices/virtio/vq_burst.h"
#include "lib/log.h"
#include "servers/net_link.h"

/* Where one is in a list of pieces. */
struct cursor {
	const struct iovec *iov;
	size_t at;
};

static void skip(struct cursor *c, size_t n)
{
	for (; n; c->iov++, c->at = 0) {
		const size_t here = c->iov->iov_len - c->at;

		if (n < here) {
			c->at += n;
			return;
		}
		n -= here;
	}
}

static void copy(struct cursor *dst, struct cursor *src, size_t len)
{
	while (len) {
		size_t n = src->iov->iov_len - src->at, room = dst->iov->iov_len - dst->at;

		n = n < room ? n : room;
		n = n < len ? n : len;
		memcpy((char *)dst->iov->iov_base + dst->at, (const char *)src->iov->iov_base + src->at, n);
		skip(dst, n);
		skip(src, n);
		len -= n;
	}
}

/* The Internet checksum of what follows. */
static uint16_t checksum(struct cursor c, size_t len)
{
	uint64_t sum = 0;
	bool odd = false;

	while (len) {
		const uint8_t *p = (const uint8_t *)c.iov->iov_base + c.at;
		size_t n = c.iov->iov_len - c.at;

		n = n < len ? n : len;
		for (size_t i = 0; i < n; i++, odd = !odd)
			sum += odd ? (uint64_t)p[i] << 8 : p[i];
		skip(&c, n);
		len -= n;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	/* In the order of bytes in which it was summed; 0 would say that there is none. */
	return sum == 0xffff ? 0xffff : (uint16_t)~sum;
}

static bool takes_segments(uint64_t features, uint8_t gso)
{
	if (gso & VIRTIO_NET_HDR_GSO_ECN && !(features & NET_BIT(VIRTIO_NET_F_GUEST_ECN)))
		return false;
	switch (gso & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return true;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return features & NET_BIT(VIRTIO_NET_F_GUEST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return features & NET_BIT(VIRTIO_NET_F_GUEST_TSO6);
	case VIRTIO_NET_HDR_GSO_UDP_L4: /* either family */
		return features & NET_BIT(VIRTIO_NET_F_GUEST_USO4) &&
		       features & NET_BIT(VIRTIO_NET_F_GUEST_USO6);
	}
	return false;
}

struct parcel {
	struct virtio_net_hdr_v1 hdr; /* for the receiver */
	struct cursor data;           /* the frame */
	size_t len;                   /* bytes of it */
	bool sum;                     /* its checksum is ours to make */
	size_t sum_start, sum_at;
};

static bool refuse(struct net_lane *l)
{
	net_count(&l->counts.refused, 1);
	return false;
}

/* A front end may not have been told what the other takes, which may come later. */
static bool drop_segments(struct net_lane *l)
{
	if (!l->said)
		log_warn("net: %s: frames to be segmented, which the other end does not take, are dropped\n"
			 "Say offloads=off",
			 server_name(l->from->server));
	l->said = true;
	net_count(&l->counts.dropped, 1);
	return false;
}

/* Reads and judges what is in a chain.  False: it goes nowhere, and is counted. */
static bool unpack(struct net_lane *l, const struct vq_chain *c, uint64_t takes, struct parcel *p)
{
	struct virtio_net_hdr_v1 theirs = {0};
	struct iovec to = {&theirs, l->from->hdr_len};
	struct cursor header = {.iov = &to};

	if (c->nin || c->out_len < l->from->hdr_len + ETH_HLEN || c->out_len > l->from->hdr_len + NET_FRAME_MAX)
		return refuse(l);
	p->data = (struct cursor){.iov = c->iov};
	copy(&header, &p->data, l->from->hdr_len);
	p->len = c->out_len - l->from->hdr_len;
	p->hdr = (struct virtio_net_hdr_v1){0};
	p->sum = false;
	if (!takes_segments(takes, theirs.gso_type))
		return drop_segments(l);
	if (theirs.gso_type) {
		p->hdr.gso_type = theirs.gso_type;
		p->hdr.gso_size = theirs.gso_size;
		p->hdr.hdr_len = theirs.hdr_len;
	}
	if (!(theirs.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return true;
	if (takes & NET_BIT(VIRTIO_NET_F_GUEST_CSUM)) {
		p->hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		p->hdr.csum_start = theirs.csum_start;
		p->hdr.csum_offset = theirs.csum_offset;
		return true;
	}
	p->sum = true;
	p->sum_start = le16toh(theirs.csum_start);
	p->sum_at = p->sum_start + le16toh(theirs.csum_offset);
	return p->sum_at + 2 <= p->len || refuse(l);
}

/* Receive buffers for need bytes: their heads and lengths, at most one iov array of pieces. */
struct room {
	unsigned n;
	struct {
		uint16_t head;
		uint32_t len;
	} buf[NET_IOV];
};

/* 1: there is; 0: not now; -1: never, or the ring is broken.  Unless 1, nothing stays popped. */
static int find_room(struct net_lane *l, struct net_rx *rx, size_t need, struct room *r)
{
	struct virtqueue *vq = rx->q->vq;
	unsigned niov = 0;
	size_t got = 0;
	int rc = -1;

	for (r->n = 0; got < need && (!r->n || rx->mrg) && niov < NET_IOV && r->n < vq_size(vq);) {
		struct vq_chain d = {.iov = l->rx_iov + niov, .iov_max = NET_IOV};

		rc = vq_pop(vq, &d);
		if (rc <= 0)
			break;
		if (d.nout)
			vq_break(vq, -EILSEQ);
		r->buf[r->n].head = d.head;
		r->buf[r->n++].len = d.in_len < UINT32_MAX ? (uint32_t)d.in_len : UINT32_MAX;
		niov += d.nin;
		got += d.in_len;
		rc = -1;
		if (d.nout)
			break;
	}
	if (got >= need && !vq_error(vq))
		return 1;
	vq_unpop(vq, r->n);
	return rc < 0 ? -1 : 0;
}

static void deliver(struct net_lane *l, struct net_rx *rx, struct parcel *p, const struct room *r)
{
	struct iovec from = {&p->hdr, rx->hdr_len};
	struct cursor header = {.iov = &from}, to = {.iov = l->rx_iov}, data = p->data, spot = to;
	size_t left = rx->hdr_len + p->len;
	uint16_t sum;

	p->hdr.num_buffers = htole16((uint16_t)r->n);
	copy(&to, &header, rx->hdr_len);
	copy(&to, &data, p->len);
	if (p->sum) {
		struct iovec sum_iov = {&sum, sizeof(sum)};
		struct cursor c = {.iov = &sum_iov}, start = p->data;

		skip(&start, p->sum_start);
		sum = checksum(start, p->len - p->sum_start);
		skip(&spot, rx->hdr_len + p->sum_at);
		copy(&spot, &c, sizeof(sum));
	}
	for (unsigned i = 0; i < r->n; i++) {
		const size_t n = left < r->buf[i].len ? left : r->buf[i].len;

		vq_push(rx->q->vq, r->buf[i].head, (uint32_t)n);
		left -= n;
	}
}

enum net_moved net_frame(struct net_lane *l, struct net_rx *rx)
{
	struct virtqueue *vq = l->tx->vq;
	struct vq_chain c = {.iov = l->tx_iov, .iov_max = NET_IOV};
	struct parcel p;
	struct room room;
	int rc = vq_pop(vq, &c);

	if (rc <= 0)
		return NET_EMPTY;
	if (!unpack(l, &c, rx->q->features, &p)) {
		vq_push(vq, c.head, 0);
		return NET_MOVED;
	}
	rc = find_room(l, rx, rx->hdr_len + p.len, &room);
	if (!rc) {
		vq_unpop(vq, 1);
		return NET_FULL;
	}
	if (rc > 0) {
		deliver(l, rx, &p, &room);
		net_count(&l->counts.frames, 1);
		net_count(&l->counts.bytes, p.len);
	} else {
		net_count(&l->counts.refused, 1);
	}
	vq_push(vq, c.head, 0);
	return NET_MOVED;
}

void net_discard(struct net_lane *l)
{
	struct virtqueue *vq = l->tx->vq;
	unsigned budget = vq_size(vq);
	int rc = 0;

	while (budget--) {
		struct vq_chain c = {.iov = l->tx_iov, .iov_max = NET_IOV};

		rc = vq_pop(vq, &c);
		if (rc <= 0)
			break;
		vq_push(vq, c.head, 0);
		net_count(&l->counts.dropped, 1);
	}
	vq_flush(vq);
	if (rc < 0)
		server_queue_broken(l->tx);
}
