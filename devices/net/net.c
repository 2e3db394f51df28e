/* The device: features, configuration space, which queue is what. */
#include "devices/net/net.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "devices/net/net_device.h"
#include "devices/virtio/inproc.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#define CTRL_QUEUE_SIZE 64
#define MTU_MIN         68 /* 5.1.4.1 */

/* --- features --- */

/* 5.1.3.1.  What is needed comes before what needs it. */
static const struct {
	unsigned bit;
	uint64_t any_of;
} needs[] = {
	{VIRTIO_NET_F_HOST_TSO4, NET_BIT(VIRTIO_NET_F_CSUM)},
	{VIRTIO_NET_F_HOST_TSO6, NET_BIT(VIRTIO_NET_F_CSUM)},
	{VIRTIO_NET_F_HOST_USO, NET_BIT(VIRTIO_NET_F_CSUM)},
	{VIRTIO_NET_F_HOST_ECN, NET_BIT(VIRTIO_NET_F_HOST_TSO4) | NET_BIT(VIRTIO_NET_F_HOST_TSO6)},
	{VIRTIO_NET_F_GUEST_TSO4, NET_BIT(VIRTIO_NET_F_GUEST_CSUM)},
	{VIRTIO_NET_F_GUEST_TSO6, NET_BIT(VIRTIO_NET_F_GUEST_CSUM)},
	{VIRTIO_NET_F_GUEST_USO4, NET_BIT(VIRTIO_NET_F_GUEST_CSUM)},
	{VIRTIO_NET_F_GUEST_USO6, NET_BIT(VIRTIO_NET_F_GUEST_CSUM)},
	{VIRTIO_NET_F_GUEST_ECN, NET_BIT(VIRTIO_NET_F_GUEST_TSO4) | NET_BIT(VIRTIO_NET_F_GUEST_TSO6)},
	{VIRTIO_NET_F_CTRL_RX, NET_BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_CTRL_VLAN, NET_BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_GUEST_ANNOUNCE, NET_BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_MQ, NET_BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_CTRL_MAC_ADDR, NET_BIT(VIRTIO_NET_F_CTRL_VQ)},
};

/* A driver may accept these without, but they mean nothing then. */
static const uint64_t pointless_without_ctrl_vq =
	NET_BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | NET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);

bool net_features_stand(uint64_t features)
{
	for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
		if ((features & NET_BIT(needs[i].bit)) && !(features & needs[i].any_of))
			return false;
	return true;
}

static uint64_t without_the_baseless(uint64_t features)
{
	if (!(features & NET_BIT(VIRTIO_NET_F_CTRL_VQ)))
		features &= ~pointless_without_ctrl_vq;
	for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
		if (!(features & needs[i].any_of))
			features &= ~NET_BIT(needs[i].bit);
	if (!(features & NET_GUEST_OFFLOADS))
		features &= ~NET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	return features;
}

static uint64_t features(struct virtio_device *dev)
{
	struct net *net = net_of(dev);
	uint64_t f = NET_GUEST_OFFLOADS | NET_HOST_OFFLOADS;

	for (unsigned i = 0; i < net->npairs; i++)
		f &= net->pair[i].port->ops->features(net->pair[i].port);
	f |= NET_BIT(VIRTIO_NET_F_MAC) | NET_BIT(VIRTIO_NET_F_STATUS) | NET_BIT(VIRTIO_NET_F_MRG_RXBUF) |
	     NET_BIT(VIRTIO_NET_F_CTRL_VQ) | NET_BIT(VIRTIO_NET_F_CTRL_RX) |
	     NET_BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | NET_BIT(VIRTIO_NET_F_CTRL_VLAN) |
	     NET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | NET_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |
	     NET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (net->mtu)
		f |= NET_BIT(VIRTIO_NET_F_MTU);
	if (net->npairs > 1)
		f |= NET_BIT(VIRTIO_NET_F_MQ);
	return without_the_baseless(f & ~dev->hidden);
}

/* --- state that the driver sets --- */

void net_set_mac(struct net *net, const uint8_t mac[ETH_ALEN])
{
	uint64_t word = 0;

	for (unsigned i = 0; i < ETH_ALEN; i++)
		word |= (uint64_t)mac[i] << 8 * i;
	net->current_mac = word;
	memcpy(net->filter.mac, mac, ETH_ALEN);
}

/* As the driver finds it.  No queue runs. */
static void forget(struct net *net, uint64_t accepted)
{
	net->features = accepted;
	net->offloads = accepted & (NET_GUEST_OFFLOADS | NET_HOST_OFFLOADS);
	net->announce = false;
	net->active_pairs = 1;
	net_filter_init(&net->filter, net_has(net, VIRTIO_NET_F_CTRL_RX), net_has(net, VIRTIO_NET_F_CTRL_VLAN),
			net->mac);
	net_set_mac(net, net->mac);
	for (unsigned i = 0; i < net->npairs; i++) {
		net->pair[i].filter = net->filter;
		net->pair[i].active = !i;
	}
}

/* What counts when the driver has not said otherwise: no offloads towards us, one pair. */
static int ports_reset(struct net *net)
{
	int rc = 0, first = 0;

	for (unsigned i = 0; i < net->npairs; i++) {
		struct net_port *port = net->pair[i].port;

		if (net->pair[i].gone)
			continue;
		rc = port->ops->set_features(port, 0, NET_HDR_LEN);
		if (!rc && i && port->ops->set_active)
			rc = port->ops->set_active(port, false);
		if (!first)
			first = rc;
	}
	return first;
}

unsigned net_ctrl_index(const struct net *net, uint64_t features)
{
	return features & NET_BIT(VIRTIO_NET_F_MQ) ? 2 * net->npairs : 2;
}

/* Of a device that is served elsewhere: the control queue, and what has no meaning with these features. */
static void serve_control_here(struct net *net, uint64_t features)
{
	net->dev.local_queues = UINT64_MAX << net_ctrl_index(net, features);
}

static int negotiated(struct virtio_device *dev, uint64_t accepted)
{
	struct net *net = net_of(dev);
	int rc;

	if (!net_features_stand(accepted))
		return -EINVAL;
	for (unsigned i = 0; i < net->npairs; i++) {
		struct net_port *port = net->pair[i].port;

		if (net->pair[i].gone)
			continue;
		rc = port->ops->set_features(port, accepted & (NET_GUEST_OFFLOADS | NET_HOST_OFFLOADS),
					     NET_HDR_LEN);
		if (rc)
			return rc;
	}
	forget(net, accepted);
	serve_control_here(net, accepted);
	/* Without VIRTIO_NET_F_MQ the control queue is where the second pair's first queue would be. */
	if (net->npairs > 1)
		dev->queue[2].loop = net_has(net, VIRTIO_NET_F_MQ) ? net->pair[1].loop : dev->loop;
	return 0;
}

static void reset(struct virtio_device *dev)
{
	struct net *net = net_of(dev);

	ports_reset(net);
	forget(net, 0);
}

/* --- configuration space --- */

static size_t config_size(struct virtio_device *dev)
{
	(void)dev;
	return offsetof(struct virtio_net_config, speed);
}

/* Each byte that a register shows comes out of one load of what other threads change. */
static void config_read(struct virtio_device *dev, size_t off, void *buf, size_t len)
{
	struct net *net = net_of(dev);
	const uint64_t mac = net->current_mac;
	const unsigned status =
		(net_link_up(net) ? VIRTIO_NET_S_LINK_UP : 0) | (net->announce ? VIRTIO_NET_S_ANNOUNCE : 0);
	struct virtio_net_config c = {
		.status = htole16((uint16_t)status),
		.max_virtqueue_pairs = htole16((uint16_t)net->npairs),
		.mtu = htole16(net->mtu),
	};

	for (unsigned i = 0; i < ETH_ALEN; i++)
		c.mac[i] = (uint8_t)(mac >> 8 * i);
	memcpy(buf, (const char *)&c + off, len);
}

/* --- link --- */

void net_set_link(struct virtio_device *dev, bool up)
{
	if (atomic_exchange(&net_of(dev)->link_off, !up) == up)
		virtio_config_changed(dev);
}

void net_announce(struct virtio_device *dev)
{
	if (!virtio_has(dev, VIRTIO_NET_F_GUEST_ANNOUNCE))
		return;
	net_of(dev)->announce = true;
	virtio_config_changed(dev);
}

void net_gone(struct net_pair *p, int err)
{
	if (p->gone)
		return;
	p->gone = true;
	net_rx_update(p);
	if (atomic_exchange(&p->net->gone, true))
		return;
	log_warn("%s: its %s has ended (%s); the guest sees the link go down", p->net->dev.name,
		 p->port->ops->name, strerror(err < 0 ? -err : err));
	virtio_config_changed(&p->net->dev);
}

static void on_gone(void *opaque, int err)
{
	net_gone(opaque, err);
}

static void on_readable(void *opaque)
{
	net_rx_drain(opaque);
}

const struct net_counters *net_counters(const struct virtio_device *dev, unsigned pair)
{
	return &net_of(dev)->pair[pair].counters;
}

/* --- queues --- */

void net_again(struct net *net, unsigned queue)
{
	eventfd_write(net->dev.queue[queue].kick_fd, 1);
}

static bool is_ctrl(const struct net *net, unsigned queue)
{
	return net_has(net, VIRTIO_NET_F_CTRL_VQ) && queue == net_ctrl_index(net, net->features);
}

/* NULL: a queue that has no meaning with these features.  It does nothing. */
static struct net_pair *pair_of(struct net *net, unsigned queue)
{
	if (queue / 2 >= (net_has(net, VIRTIO_NET_F_MQ) ? net->npairs : 1))
		return NULL;
	return &net->pair[queue / 2];
}

static int port_get(struct net_pair *p)
{
	int rc;

	if (!p->users && !p->gone) {
		p->rx.enabled = false;
		rc = p->port->ops->attach(p->port, p->loop);
		if (rc)
			return rc;
		p->attached = true;
	}
	p->users++;
	return 0;
}

static void port_put(struct net_pair *p)
{
	if (--p->users || !p->attached)
		return;
	p->attached = false;
	p->port->ops->detach(p->port);
}

static int run(struct virtio_device *dev, struct virtqueue *vq)
{
	struct net *net = net_of(dev);
	struct net_pair *p = pair_of(net, vq_index(vq));
	int rc;

	if (is_ctrl(net, vq_index(vq)) || !p)
		return 0;
	rc = port_get(p);
	if (rc)
		return rc;
	rc = vq_index(vq) % 2 ? net_tx_run(p, vq) : net_rx_run(p, vq);
	if (rc)
		port_put(p);
	return rc;
}

static void kick(struct virtio_device *dev, struct virtqueue *vq)
{
	struct net *net = net_of(dev);
	struct net_pair *p = pair_of(net, vq_index(vq));

	if (is_ctrl(net, vq_index(vq)))
		net_ctrl_kick(net, vq);
	else if (p && vq_index(vq) % 2)
		net_tx_kick(p);
	else if (p)
		net_rx_kick(p);
}

static void halt(struct virtio_device *dev, struct virtqueue *vq)
{
	struct net *net = net_of(dev);
	struct net_pair *p = pair_of(net, vq_index(vq));

	if (is_ctrl(net, vq_index(vq)) || !p)
		return;
	if (vq_index(vq) % 2)
		net_tx_halt(p);
	else
		net_rx_halt(p);
	port_put(p);
}

/* --- life --- */

static void free_all(struct net *net)
{
	for (unsigned i = 0; i < net->npairs; i++) {
		net_rx_fini(&net->pair[i]);
		net_tx_fini(&net->pair[i]);
	}
	if (net->dev.local)
		net->dev.local->ops->destroy(net->dev.local);
	net_limit_fini(&net->rx_limit);
	net_limit_fini(&net->tx_limit);
	free(net->ctrl_iov);
	free(net);
}

static void destroy(struct virtio_device *dev)
{
	struct net *net = net_of(dev);

	for (unsigned i = 0; i < net->npairs; i++)
		net->pair[i].port->ops->destroy(net->pair[i].port);
	if (dev->remote)
		dev->remote->ops->destroy(dev->remote);
	free_all(net);
}

static const struct virtio_device_ops ops = {
	.id = VIRTIO_ID_NET,
	.name = "net",
	.features = features,
	.config_size = config_size,
	.config_read = config_read,
	.negotiated = negotiated,
	.reset = reset,
	.run = run,
	.kick = kick,
	.halt = halt,
	.destroy = destroy,
};

static int check(const struct net_config *c, struct err *e)
{
	if (!c->npairs || c->npairs > NET_MAX_PAIRS)
		return err_set(e, -EINVAL, "--net: queues=%u: 1 to %u pairs", c->npairs, NET_MAX_PAIRS);
	if (c->queue_size > VIRTIO_MAX_QUEUE_SIZE || (c->queue_size & (c->queue_size - 1)))
		return err_set(e, -EINVAL, "--net: queue-size=%u: a power of two up to %u", c->queue_size,
			       VIRTIO_MAX_QUEUE_SIZE);
	if (c->mtu && c->mtu < MTU_MIN)
		return err_set(e, -EINVAL, "--net: mtu=%u: %u to 65535", c->mtu, MTU_MIN);
	if (c->remote && (c->rx.bytes_per_s || c->rx.packets_per_s || c->tx.bytes_per_s || c->tx.packets_per_s))
		return err_set(e, -EOPNOTSUPP,
			       "%s: rate= holds only while this process serves the queues, not %s", c->name,
			       c->remote->ops->name);
	if (c->mac[0] & 1)
		return err_set(e, -EINVAL,
			       "--net: mac=%02x:%02x:%02x:%02x:%02x:%02x is the address of a group\n"
			       "The first byte must be even; 02 is for addresses of one's own.",
			       c->mac[0], c->mac[1], c->mac[2], c->mac[3], c->mac[4], c->mac[5]);
	return 0;
}

static void set_address(struct net *net, const uint8_t mac[ETH_ALEN])
{
	static const uint8_t none[ETH_ALEN];

	memcpy(net->mac, mac, ETH_ALEN);
	if (memcmp(mac, none, ETH_ALEN))
		return;
	if (getrandom(net->mac, ETH_ALEN, GRND_NONBLOCK) != ETH_ALEN)
		memcpy(net->mac, (const uint8_t[]){0, 0x52, 0x4c, 0, 0, 1}, ETH_ALEN);
	net->mac[0] = 2; /* locally administered, one station's */
}

void net_pair_port(struct net_pair *p, struct net_port *port)
{
	p->port = port;
	port->readable = on_readable;
	port->gone = on_gone;
	port->opaque = p;
}

static int pair_init(struct net *net, unsigned i, const struct net_config *c, uint16_t queue_size)
{
	struct net_pair *p = &net->pair[i];
	int rc;

	p->net = net;
	p->index = i;
	p->loop = c->loops[i];
	net_pair_port(p, c->ports[i]);
	rc = net_rx_init(p, queue_size);
	return rc ? rc : net_tx_init(p);
}

struct virtio_device *net_new(const struct net_config *c, struct err *e)
{
	const uint16_t queue_size = c->queue_size ? c->queue_size : NET_DEFAULT_QUEUE_SIZE;
	struct net *net;
	int rc = check(c, e);

	if (rc)
		return NULL;
	net = calloc(1, sizeof(*net) + c->npairs * sizeof(net->pair[0]));
	if (!net) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	net->dev = (struct virtio_device){
		.ops = &ops, .mem = c->mem, .loop = c->loop, .hidden = c->hidden, .name = c->name};
	net->npairs = c->npairs;
	net->mtu = c->mtu;
	set_address(net, c->mac);
	net_limit_init(&net->rx_limit, &c->rx);
	net_limit_init(&net->tx_limit, &c->tx);
	for (unsigned i = 0; i < c->npairs && !rc; i++)
		rc = pair_init(net, i, c, queue_size);
	net->ctrl_iov = calloc(NET_CHAIN_IOV, sizeof(*net->ctrl_iov));
	net->dev.local = inproc_new(&net->dev);
	if (rc || !net->ctrl_iov || !net->dev.local) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		goto fail;
	}
	forget(net, 0);
	rc = ports_reset(net);
	if (rc) {
		err_set(e, rc, "%s: %s cannot be set up: %s", c->name, c->ports[0]->ops->name, strerror(-rc));
		goto fail;
	}

	for (unsigned i = 0; i < 2 * c->npairs; i++) {
		net->dev.queue[i].max_size = queue_size;
		net->dev.queue[i].loop = c->loops[i / 2];
	}
	net->dev.nqueues = 2 * c->npairs;
	net->dev.remote = c->remote;
	serve_control_here(net, features(&net->dev));
	net->dev.answered_queues = UINT64_C(0xaaaaaaaaaaaaaaaa) | net->dev.local_queues;
	if (features(&net->dev) & NET_BIT(VIRTIO_NET_F_CTRL_VQ)) {
		net->dev.queue[net->dev.nqueues].max_size = CTRL_QUEUE_SIZE;
		net->dev.queue[net->dev.nqueues++].loop = c->loop;
	}
	if (virtio_init(&net->dev, e))
		goto fail;
	return &net->dev;
fail:
	free_all(net);
	return NULL;
}
