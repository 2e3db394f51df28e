#include "backends/null_port.h"

#include <stdlib.h>

static uint64_t features(struct net_port *p)
{
	(void)p;
	return UINT64_MAX; /* the datapath says what it serves */
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

struct net_port *null_port_new(void)
{
	struct net_port *p = calloc(1, sizeof(*p));

	if (p)
		p->ops = &ops;
	return p;
}
