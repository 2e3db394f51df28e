#include "backends/vhost_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"

#define CHAIN_MAX 1024 /* UIO_MAXIOV: pieces of a chain */

static struct vhost_device *device_of(struct datapath *dp)
{
	return container_of(dp, struct vhost_device, dp);
}

static int offer(struct datapath *dp, struct datapath_offer *out)
{
	const struct vhost_device *d = device_of(dp);

	*out = (struct datapath_offer){
		.features = d->vk.features,
		.opinion = UINT64_MAX,
		.max_queues = d->vk.nvrings,
		.max_queue_size = CHAIN_MAX,
		.device_id = d->id,
		.config_len = d->config_len,
		.drains = true,
	};
	return 0;
}

static int start(struct datapath *dp, const struct datapath_setup *setup)
{
	return vhost_kernel_start(&device_of(dp)->vk, setup);
}

static void stop(struct datapath *dp, const struct datapath_setup *setup)
{
	vhost_kernel_stop(&device_of(dp)->vk, setup);
}

static int config_read(struct datapath *dp, size_t off, void *buf, size_t len)
{
	const struct vhost_device *d = device_of(dp);

	if (off > d->config_len || len > d->config_len - off)
		return -EINVAL;
	memcpy(buf, (const char *)d->config + off, len);
	return 0;
}

static void destroy(struct datapath *dp)
{
	struct vhost_device *d = device_of(dp);

	vhost_kernel_close(&d->vk);
	free(d);
}

int vhost_device_open(struct vhost_device *d, struct err *e)
{
	d->ops = (struct datapath_ops){
		.name = d->kind,
		.offer = offer,
		.start = start,
		.stop = stop,
		.config_read = config_read,
		.destroy = destroy,
	};
	d->dp.ops = &d->ops;
	d->vk.dp = &d->dp;
	d->vk.whole = true;
	return vhost_kernel_open(&d->vk, e);
}
