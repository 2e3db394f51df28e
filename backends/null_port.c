#include "backends/null_port.h"

#include <stdlib.h>

struct null_port {
	struct net_port port;
	uint64_t features;
};

static uint64_t features(struct net_port *p)
{
	return ((const struct null_port *)(uintptr_t)p)->features; /* its first member */
}

static int set_features(struct net_port *p, uint64_t accepted, unsigned hdr_len)
{
	(void)p;
	(void)accepted;
	(void)hdr_len;
	return 0;
}

static void destroy(struct net_port *p)
{
	free(p);
}

static const struct net_port_ops ops = {
	.name = "vDPA",
	.features = features,
	.set_features = set_features,
	.destroy = destroy,
};

struct net_port *null_port_new(uint64_t served)
{
	struct null_port *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->port.ops = &ops;
	p->features = served;
	return &p->port;
}
