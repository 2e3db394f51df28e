/* Live change of who serves the data queues. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

#include "devices/net/net_device.h"
#include "devices/virtio/feature_names.h"
#include "devices/virtio/virtio_move.h"

struct net_swap {
	struct net *net;
	struct virtio_move *move;
	struct net_port *const *ports; /* the new ones, or NULL: they stay */
	struct net_port *old[NET_MAX_PAIRS];
	bool was_gone[NET_MAX_PAIRS];
	bool gone;
};

/* A port as the driver wants it now. */
static int prepare(const struct net *net, unsigned i, struct net_port *port)
{
	int rc = port->ops->set_features(port, net->offloads, NET_HDR_LEN);

	if (!rc && i && port->ops->set_active)
		rc = port->ops->set_active(port, net->pair[i].active);
	return rc;
}

static int to_new(struct net_swap *s)
{
	struct net *net = s->net;
	int rc = 0;

	for (unsigned i = 0; i < net->npairs && !rc; i++)
		rc = prepare(net, i, s->ports[i]);
	if (rc)
		return rc;
	s->gone = net->gone;
	for (unsigned i = 0; i < net->npairs; i++) {
		s->old[i] = net->pair[i].port;
		s->was_gone[i] = net->pair[i].gone;
		net->pair[i].gone = false;
		net_pair_port(&net->pair[i], s->ports[i]);
	}
	net->gone = false;
	return 0;
}

static int swap(void *opaque, bool forth)
{
	struct net_swap *s = opaque;
	struct net *net = s->net;

	if (!s->ports)
		return 0;
	if (forth)
		return to_new(s);
	for (unsigned i = 0; i < net->npairs; i++) {
		net_pair_port(&net->pair[i], s->old[i]);
		net->pair[i].gone = s->was_gone[i];
	}
	net->gone = s->gone;
	return 0;
}

/* What the driver uses must go through the new ports too, and what it may still choose. */
static int ports_fit(const struct net *net, struct net_port *const *ports, struct err *e)
{
	const uint8_t status = virtio_status(&net->dev);
	const bool chosen = status & VIRTIO_CONFIG_S_FEATURES_OK;
	const uint64_t needed = chosen ? net->features : status ? net->dev.offered : 0;

	for (unsigned i = 0; ports && i < net->npairs; i++) {
		const uint64_t offloads = needed & (NET_GUEST_OFFLOADS | NET_HOST_OFFLOADS);
		const uint64_t missing = offloads & ~ports[i]->ops->features(ports[i]);
		char names[256];

		if (missing)
			return err_set(e, -EOPNOTSUPP,
				       "%s: its driver %s %s, which %s does not pass\n"
				       "Start with csum=off, tso=off or uso=off to be able to change to it.",
				       net->dev.name, chosen ? "uses" : "was offered",
				       feature_names(net->dev.ops->id, missing, names, sizeof(names)),
				       ports[i]->ops->name);
	}
	return 0;
}

static int fits(void *opaque, struct err *e)
{
	struct net_swap *s = opaque;
	struct net *net = s->net;
	int rc = ports_fit(net, s->ports, e);

	s->move->local_queues = net->dev.local_queues; /* as negotiated meanwhile */
	/* The next driver may use every pair, whatever this one does. */
	if (!rc && s->move->remote)
		rc = virtio_move_fits(&net->dev, s->move->remote, NET_BIT(2 * net->npairs), e);
	return rc;
}

static bool limited(const struct net *net)
{
	return net->rx_limit.on || net->tx_limit.on;
}

int net_move(struct virtio_device *dev, struct net_port *const *ports, struct datapath *remote,
	     const struct virtio_move_how *how, struct virtio_moved *moved, struct err *e)
{
	struct net *net = net_of(dev);
	struct net_swap s = {.net = net, .ports = ports};
	struct datapath *const old = dev->remote;
	const bool was_down = net->gone;
	struct virtio_move move = {
		.remote = remote,
		.fits = fits,
		.swap = swap,
		.opaque = &s,
		.how = how,
	};
	int rc;

	s.move = &move;
	if (remote && limited(net))
		return err_set(e, -EOPNOTSUPP,
			       "%s: rate= holds only while this process serves the queues, not %s", dev->name,
			       remote->ops->name);
	rc = virtio_move(dev, &move, moved, e);
	if (rc)
		return rc;
	if (old && old != remote)
		old->ops->destroy(old);
	for (unsigned i = 0; ports && i < net->npairs; i++)
		s.old[i]->ops->destroy(s.old[i]);
	if (was_down && !net->gone)
		virtio_config_changed(dev);
	net_announce(dev);
	return 0;
}
