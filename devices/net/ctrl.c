/* The control queue (virtio 1.3, 5.1.6.5).  A command takes effect on each pair's own thread before it is
 * acknowledged: evloop_call() waits. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "devices/net/frame.h"
#include "devices/net/net_device.h"
#include "lib/log.h"

/* What follows class and command. */
struct data {
	const struct vq_chain *chain;
	uint64_t off;
};

/* Reads len more bytes, once.  -EINVAL: there are fewer. */
static int take(struct data *d, void *dst, size_t len)
{
	if (frame_read(d->chain->iov, d->chain->nout, d->off, dst, len) != len)
		return -EINVAL;
	d->off += len;
	return 0;
}

/* --- what each pair has a copy of --- */

static void copy_filter(void *arg)
{
	struct net_pair *p = arg;

	p->filter = p->net->filter;
}

static int filters_changed(struct net *net)
{
	for (unsigned i = 0; i < net->npairs; i++)
		evloop_call(net_pair_loop(&net->pair[i]), copy_filter, &net->pair[i]);
	return 0;
}

struct pair_call {
	struct net_pair *pair;
	bool on;
	uint64_t features;
	int rc;
};

static void set_active(void *arg)
{
	struct pair_call *c = arg;
	struct net_pair *p = c->pair;

	if (p->active == c->on)
		return;
	if (!p->gone && p->port->ops->set_active)
		c->rc = p->port->ops->set_active(p->port, c->on);
	if (c->rc)
		return;
	p->active = c->on;
	net_rx_update(p);
}

static void set_offloads(void *arg)
{
	struct pair_call *c = arg;

	if (!c->pair->gone)
		c->rc = c->pair->port->ops->set_features(c->pair->port, c->features, NET_HDR_LEN);
}

/* --- commands: 0 or -errno --- */

static int rx_mode(struct net *net, uint8_t cmd, struct data *d)
{
	struct net_filter *f = &net->filter;
	bool *const mode[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &f->promisc, [VIRTIO_NET_CTRL_RX_ALLMULTI] = &f->allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &f->alluni,   [VIRTIO_NET_CTRL_RX_NOMULTI] = &f->nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &f->nouni,     [VIRTIO_NET_CTRL_RX_NOBCAST] = &f->nobcast,
	};
	unsigned bit = cmd < VIRTIO_NET_CTRL_RX_ALLUNI ? VIRTIO_NET_F_CTRL_RX : VIRTIO_NET_F_CTRL_RX_EXTRA;
	uint8_t on;

	if (cmd >= sizeof(mode) / sizeof(mode[0]) || !net_has(net, bit) || take(d, &on, sizeof(on)))
		return -EINVAL;
	*mode[cmd] = on;
	return filters_changed(net);
}

static int take_table(struct data *d, struct net_filter_table *t)
{
	uint8_t mac[NET_FILTER_MACS][ETH_ALEN];
	uint32_t n;
	uint64_t len;

	if (take(d, &n, sizeof(n)))
		return -EINVAL;
	n = le32toh(n);
	len = (uint64_t)n * ETH_ALEN;
	if (len > d->chain->out_len - d->off)
		return -EINVAL;
	if (n > NET_FILTER_MACS)
		d->off += len;
	else if (take(d, mac, (size_t)len))
		return -EINVAL;
	net_filter_set_table(t, mac, n);
	return 0;
}

static int mac(struct net *net, uint8_t cmd, struct data *d)
{
	struct net_filter_table unicast, multicast;
	uint8_t addr[ETH_ALEN];

	switch (cmd) {
	case VIRTIO_NET_CTRL_MAC_TABLE_SET:
		if (!net_has(net, VIRTIO_NET_F_CTRL_RX) || take_table(d, &unicast) || take_table(d, &multicast))
			return -EINVAL;
		net->filter.unicast = unicast;
		net->filter.multicast = multicast;
		return filters_changed(net);
	case VIRTIO_NET_CTRL_MAC_ADDR_SET:
		if (!net_has(net, VIRTIO_NET_F_CTRL_MAC_ADDR) || take(d, addr, sizeof(addr)) || (addr[0] & 1))
			return -EINVAL;
		net_set_mac(net, addr);
		return filters_changed(net);
	}
	return -EINVAL;
}

static int vlan(struct net *net, uint8_t cmd, struct data *d)
{
	uint16_t vid;

	if (!net_has(net, VIRTIO_NET_F_CTRL_VLAN) || cmd > VIRTIO_NET_CTRL_VLAN_DEL ||
	    take(d, &vid, sizeof(vid)) ||
	    net_filter_vlan(&net->filter, le16toh(vid), cmd == VIRTIO_NET_CTRL_VLAN_ADD))
		return -EINVAL;
	return filters_changed(net);
}

static int announce(struct net *net, uint8_t cmd)
{
	if (!net_has(net, VIRTIO_NET_F_GUEST_ANNOUNCE) || cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
		return -EINVAL;
	net->announce = false;
	return 0;
}

/* Pairs [net->active_pairs, n) on, or [n, net->active_pairs) off. */
static int activate(struct net *net, unsigned n)
{
	while (net->active_pairs != n) {
		bool on = net->active_pairs < n;
		struct pair_call c = {.pair = &net->pair[on ? net->active_pairs : net->active_pairs - 1],
				      .on = on};

		evloop_call(net_pair_loop(c.pair), set_active, &c);
		if (c.rc)
			return c.rc;
		net->active_pairs += on ? 1u : -1u;
	}
	return 0;
}

static int mq(struct net *net, uint8_t cmd, struct data *d)
{
	unsigned was = net->active_pairs;
	uint16_t n;
	int rc;

	if (!net_has(net, VIRTIO_NET_F_MQ) || cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || take(d, &n, sizeof(n)))
		return -EINVAL;
	n = le16toh(n);
	if (n < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN || n > net->npairs)
		return -EINVAL;
	rc = activate(net, n);
	if (rc) {
		log_guest("%s: %u queue pairs cannot be had: %s", net->dev.name, n, strerror(-rc));
		activate(net, was);
	}
	return rc;
}

static int set_all_offloads(struct net *net, uint64_t features)
{
	for (unsigned i = 0; i < net->npairs; i++) {
		struct pair_call c = {.pair = &net->pair[i], .features = features};

		evloop_call(net_pair_loop(c.pair), set_offloads, &c);
		if (c.rc)
			return c.rc;
	}
	return 0;
}

static int offloads(struct net *net, uint8_t cmd, struct data *d)
{
	const uint64_t guest = net->features & NET_GUEST_OFFLOADS;
	uint64_t on;
	int rc;

	if (!net_has(net, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) || cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ||
	    take(d, &on, sizeof(on)))
		return -EINVAL;
	on = le64toh(on);
	if ((on & ~guest) || !net_features_stand(on))
		return -EINVAL;
	on |= net->features & NET_HOST_OFFLOADS;
	rc = set_all_offloads(net, on);
	if (rc)
		set_all_offloads(net, net->offloads);
	else
		net->offloads = on;
	return rc;
}

static int command(struct net *net, const struct vq_chain *c)
{
	struct data d = {.chain = c};
	struct virtio_net_ctrl_hdr hdr;

	if (take(&d, &hdr, sizeof(hdr)))
		return -EINVAL;
	switch (hdr.class) {
	case VIRTIO_NET_CTRL_RX:
		return rx_mode(net, hdr.cmd, &d);
	case VIRTIO_NET_CTRL_MAC:
		return mac(net, hdr.cmd, &d);
	case VIRTIO_NET_CTRL_VLAN:
		return vlan(net, hdr.cmd, &d);
	case VIRTIO_NET_CTRL_ANNOUNCE:
		return announce(net, hdr.cmd);
	case VIRTIO_NET_CTRL_MQ:
		return mq(net, hdr.cmd, &d);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		return offloads(net, hdr.cmd, &d);
	}
	return -EINVAL;
}

void net_ctrl_kick(struct net *net, struct virtqueue *vq)
{
	unsigned budget = vq_size(vq);
	int rc;

	vq_busy(vq);
	for (; budget; budget--) {
		struct vq_chain c = {.iov = net->ctrl_iov, .iov_max = NET_CHAIN_IOV};
		virtio_net_ctrl_ack ack;

		rc = vq_pop(vq, &c);
		if (rc < 0) {
			virtio_needs_reset(&net->dev, "the control queue is broken", rc);
			break;
		}
		if (!rc) {
			if (!vq_wait(vq))
				return;
			vq_busy(vq);
			continue;
		}
		if (!c.in_len) { /* nowhere to say how it went, so it does not go */
			log_guest("%s: a control command has no room for its status", net->dev.name);
			vq_push(vq, c.head, 0);
			continue;
		}
		ack = command(net, &c) ? VIRTIO_NET_ERR : VIRTIO_NET_OK;
		frame_write(c.iov + c.nout, c.nin, 0, &ack, sizeof(ack));
		vq_push(vq, c.head, sizeof(ack));
	}
	vq_flush(vq);
	if (!vq_error(vq))
		net_again(net, vq_index(vq));
}
