/* What switches a pair of a vhost-user net's queues: a net_port that no frame crosses. */
#include <errno.h>
#include <stdlib.h>

#include "backends/vhost_user_ring.h"
#include "backends/vhost_user_state.h"
#include "lib/cleanup.h"

#define BIT(n) (UINT64_C(1) << (n))

struct vhost_user_pair {
	struct net_port port;
	struct vhost_user *v;
	unsigned pair;
};

static struct vhost_user_pair *pair_of(struct net_port *p)
{
	return container_of(p, struct vhost_user_pair, port);
}

static uint64_t pair_features(struct net_port *p)
{
	return pair_of(p)->v->features;
}

static int pair_set_features(struct net_port *p, uint64_t features, unsigned hdr_len)
{
	(void)p;
	(void)features; /* the back end is told with the queues */
	(void)hdr_len;
	return 0;
}

static int pair_set_active(struct net_port *p, bool on)
{
	const unsigned first = 2 * pair_of(p)->pair;
	struct vhost_user *v = pair_of(p)->v;
	int rc = 0;

	if (first + 1 >= VHOST_USER_MAX_QUEUES)
		return -EINVAL;
	pthread_mutex_lock(&v->lock);
	vhost_user_conn_begin(&v->conn);
	for (unsigned i = first; i < first + 2; i++) {
		const bool change = (v->active >> i & 1) != on;

		v->active = on ? v->active | BIT(i) : v->active & ~BIT(i);
		if (change && !rc && v->link == VHOST_USER_UP && (v->up & BIT(i)))
			rc = vhost_user_ring_enable(&v->conn, i, on);
	}
	/* One that went away meanwhile is told when it comes back. */
	if (v->conn.broken && v->reconnect_ms)
		rc = 0;
	vhost_user_unlock_elsewhere(v);
	return rc;
}

static int pair_attach(struct net_port *p, struct evloop *loop)
{
	(void)p;
	(void)loop;
	return 0;
}

static void pair_detach(struct net_port *p)
{
	(void)p;
}

static ssize_t pair_no_frames(struct net_port *p, const struct iovec *iov, int n)
{
	(void)p;
	(void)iov;
	(void)n;
	return -EAGAIN;
}

static int pair_commit(struct net_port *p)
{
	(void)p;
	return 0;
}

static void pair_recv_enable(struct net_port *p, bool on)
{
	(void)p;
	(void)on;
}

static void pair_destroy(struct net_port *p)
{
	vhost_user_unref(pair_of(p)->v);
	free(pair_of(p));
}

static const struct net_port_ops ops = {
	.name = "vhost-user",
	.features = pair_features,
	.set_features = pair_set_features,
	.attach = pair_attach,
	.detach = pair_detach,
	.send = pair_no_frames,
	.commit = pair_commit,
	.recv = pair_no_frames,
	.recv_enable = pair_recv_enable,
	.set_active = pair_set_active,
	.destroy = pair_destroy,
};

struct net_port *vhost_user_port(struct datapath *dp, unsigned pair)
{
	struct vhost_user_pair *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->port.ops = &ops;
	p->v = vhost_user_of(dp);
	p->pair = pair;
	p->v->refs++;
	return &p->port;
}
