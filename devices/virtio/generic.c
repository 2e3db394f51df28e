#include "devices/virtio/generic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/inproc.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"

struct generic {
	struct virtio_device dev;
	struct virtio_device_ops ops; /* each has an id of its own */
	uint64_t features;
	bool asks; /* the configuration space is the datapath's */
	size_t config_len;
	uint8_t config[VIRTIO_MAX_CONFIG]; /* as given; or as the datapath last answered */
};

static struct generic *generic_of(struct virtio_device *dev)
{
	return container_of(dev, struct generic, dev);
}

static uint64_t features(struct virtio_device *dev)
{
	return generic_of(dev)->features;
}

/* --- configuration space --- */

struct transfer { /* on dev->loop, where the datapath lives */
	struct generic *g;
	size_t off, len;
	const void *src;
	int rc;
};

static void read_on_loop(void *arg)
{
	struct transfer *t = arg;
	struct datapath *dp = t->g->dev.remote;
	uint8_t now[VIRTIO_MAX_CONFIG];

	t->rc = dp->ops->config_read(dp, t->off, now, t->len);
	if (!t->rc)
		memcpy(t->g->config + t->off, now, t->len);
}

static void write_on_loop(void *arg)
{
	struct transfer *t = arg;
	struct datapath *dp = t->g->dev.remote;

	t->rc = dp->ops->config_write(dp, t->off, t->src, t->len);
}

static size_t config_size(struct virtio_device *dev)
{
	return generic_of(dev)->config_len;
}

/* What a datapath that does not answer said before stands. */
static void config_read(struct virtio_device *dev, size_t off, void *buf, size_t len)
{
	struct generic *g = generic_of(dev);
	struct transfer t = {.g = g, .off = off, .len = len};

	if (g->asks)
		evloop_call(dev->loop, read_on_loop, &t);
	memcpy(buf, g->config + off, len);
}

/* One that is refused is read back unchanged. */
static void config_write(struct virtio_device *dev, size_t off, const void *buf, size_t len)
{
	struct generic *g = generic_of(dev);
	struct transfer t = {.g = g, .off = off, .len = len, .src = buf};

	if (g->asks && dev->remote->ops->config_write)
		evloop_call(dev->loop, write_on_loop, &t);
}

/* --- queues that nobody serves --- */

static int run(struct virtio_device *dev, struct virtqueue *vq)
{
	(void)dev;
	vq_busy(vq); /* kicks would be for nothing */
	return 0;
}

static void kick(struct virtio_device *dev, struct virtqueue *vq)
{
	(void)dev;
	(void)vq;
}

/* --- life --- */

static void destroy(struct virtio_device *dev)
{
	dev->remote->ops->destroy(dev->remote);
	if (dev->local)
		dev->local->ops->destroy(dev->local);
	free(generic_of(dev));
}

static const struct virtio_device_ops ops = {
	.features = features,
	.config_size = config_size,
	.config_read = config_read,
	.config_write = config_write,
	.run = run,
	.kick = kick,
	.halt = kick,
	.destroy = destroy,
};

static int check(const struct generic_config *c, uint32_t id, size_t config_len, unsigned nqueues,
		 struct err *e)
{
	if (!id)
		return err_set(e, -EINVAL, "%s: %s does not say what device it is: say it", c->name,
			       c->datapath->ops->name);
	if (config_len > VIRTIO_MAX_CONFIG)
		return err_set(e, -EINVAL, "%s: a configuration of %zu bytes is larger than %u", c->name,
			       config_len, VIRTIO_MAX_CONFIG);
	if (!nqueues || nqueues > VIRTIO_MAX_QUEUES)
		return err_set(e, -EINVAL, "%s: %u queues; 1 to %u", c->name, nqueues, VIRTIO_MAX_QUEUES);
	return 0;
}

static int first_config(struct generic *g, const struct generic_config *c, struct err *e)
{
	struct transfer t = {.g = g, .len = g->config_len};

	if (c->config)
		memcpy(g->config, c->config, c->config_len);
	if (!g->asks)
		return 0;
	evloop_call(c->loop, read_on_loop, &t);
	return t.rc ? err_set(e, t.rc, "%s: %s does not give its configuration: %s", c->name,
			      c->datapath->ops->name, strerror(-t.rc))
		    : 0;
}

struct virtio_device *generic_new(const struct generic_config *c, struct err *e)
{
	struct datapath *dp = c->datapath;
	struct datapath_offer offer = {0};
	unsigned nqueues;
	size_t config_len;
	struct generic *g;
	uint32_t id;
	int rc = dp->ops->offer(dp, &offer);

	if (rc) {
		err_set(e, rc, "%s: %s does not answer: %s", c->name, dp->ops->name, strerror(-rc));
		return NULL;
	}
	id = c->id ? c->id : offer.device_id;
	nqueues = c->nqueues ? c->nqueues : offer.max_queues;
	config_len = c->config ? c->config_len : dp->ops->config_read ? offer.config_len : 0;
	if (check(c, id, config_len, nqueues, e))
		return NULL;
	g = calloc(1, sizeof(*g));
	if (!g) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	g->ops = ops;
	g->ops.id = id;
	g->ops.name = c->type;
	g->features = c->features;
	g->config_len = config_len;
	g->asks = !c->config && config_len;
	g->dev = (struct virtio_device){
		.ops = &g->ops,
		.mem = c->mem,
		.loop = c->loop,
		.remote = dp,
		.local_queues = c->idle_queues,
		.hidden = c->hidden,
		.name = c->name,
		.nqueues = nqueues,
	};
	for (unsigned i = 0; i < nqueues; i++) {
		g->dev.queue[i].max_size = c->queue_size ? c->queue_size : GENERIC_DEFAULT_QUEUE_SIZE;
		g->dev.queue[i].loop = c->loop;
	}
	if (c->idle_queues) {
		g->dev.local = inproc_new(&g->dev);
		if (!g->dev.local) {
			err_set(e, -ENOMEM, "%s: out of memory", c->name);
			goto fail;
		}
	}
	if (first_config(g, c, e) || virtio_init(&g->dev, e))
		goto fail;
	return &g->dev;
fail:
	if (g->dev.local)
		g->dev.local->ops->destroy(g->dev.local);
	free(g);
	return NULL;
}
