#include "tests/fake/fake_transport.h"

#include <errno.h>

#include "lib/cleanup.h"

unsigned fake_step(void)
{
	static _Atomic unsigned step;

	return ++step;
}

static int fake_bind(struct virtio_transport *t, unsigned q, int kick_fd, int call_fd)
{
	struct fake_transport *ft = container_of(t, struct fake_transport, t);

	ft->mistakes += ft->queue[q].bound || kick_fd < 0 || call_fd < 0;
	if ((int)q == ft->fail_bind)
		return -ENOSPC;
	ft->queue[q].bound = true;
	ft->queue[q].kick_fd = kick_fd;
	ft->queue[q].call_fd = call_fd;
	ft->queue[q].binds++;
	ft->queue[q].bound_at = fake_step();
	return 0;
}

static void fake_unbind(struct virtio_transport *t, unsigned q)
{
	struct fake_transport *ft = container_of(t, struct fake_transport, t);

	ft->mistakes += !ft->queue[q].bound;
	ft->queue[q].bound = false;
	ft->queue[q].unbinds++;
	ft->queue[q].unbound_at = fake_step();
}

static void fake_config_irq(struct virtio_transport *t)
{
	container_of(t, struct fake_transport, t)->config_irqs++;
}

static void fake_reset(struct virtio_transport *t)
{
	struct fake_transport *ft = container_of(t, struct fake_transport, t);

	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		ft->mistakes += ft->queue[i].bound;
	ft->resets++;
	ft->reset_at = fake_step();
}

static const struct virtio_transport_ops fake_transport_ops = {
	.bind = fake_bind,
	.unbind = fake_unbind,
	.config_irq = fake_config_irq,
	.reset = fake_reset,
};

void fake_transport_init(struct fake_transport *ft, struct virtio_device *dev)
{
	*ft = (struct fake_transport){.t = {.ops = &fake_transport_ops, .dev = dev}, .fail_bind = -1};
	dev->transport = &ft->t;
}
