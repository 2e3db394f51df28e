/* #syscalls: openat ioctl close */
#include "backends/vhost_vsock.h"

#include <endian.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <string.h>

#include "backends/vhost_kernel.h"
#include "lib/cleanup.h"

/* 0 is the hypervisor's, 1 this machine's own, 2 the host's, and the last one stands for any. */
#define CID_MIN 3
#define CID_MAX (UINT32_MAX - 1)

struct vhost_vsock {
	struct datapath dp;
	struct vhost_kernel vk;
	struct virtio_vsock_config config;
};

static int run(struct vhost_kernel *vk, uint64_t vrings, bool on)
{
	int running = on;

	(void)vrings;
	return vhost_kernel_ioctl(vk, VHOST_VSOCK_SET_RUNNING, &running);
}

/* Its opinion is on every bit: there is no device but the kernel's. */
static int offer(struct datapath *dp, struct datapath_offer *out)
{
	struct vhost_vsock *vs = container_of(dp, struct vhost_vsock, dp);

	*out = (struct datapath_offer){
		.features = vs->vk.features,
		.opinion = UINT64_MAX,
		.max_queues = vs->vk.nvrings,
		.max_queue_size = 1024, /* UIO_MAXIOV: pieces of a chain */
		.device_id = VIRTIO_ID_VSOCK,
		.config_len = sizeof(vs->config),
		.drains = true,
	};
	return 0;
}

static int start(struct datapath *dp, const struct datapath_setup *setup)
{
	return vhost_kernel_start(&container_of(dp, struct vhost_vsock, dp)->vk, setup);
}

static void stop(struct datapath *dp, const struct datapath_setup *setup)
{
	vhost_kernel_stop(&container_of(dp, struct vhost_vsock, dp)->vk, setup);
}

static int config_read(struct datapath *dp, size_t off, void *buf, size_t len)
{
	struct vhost_vsock *vs = container_of(dp, struct vhost_vsock, dp);

	if (off > sizeof(vs->config) || len > sizeof(vs->config) - off)
		return -EINVAL;
	memcpy(buf, (const char *)&vs->config + off, len);
	return 0;
}

static void destroy(struct datapath *dp)
{
	struct vhost_vsock *vs = container_of(dp, struct vhost_vsock, dp);

	vhost_kernel_close(&vs->vk);
	free(vs);
}

static const struct datapath_ops ops = {
	.name = "vhost-vsock",
	.offer = offer,
	.start = start,
	.stop = stop,
	.config_read = config_read,
	.destroy = destroy,
};

static int check(const struct vhost_vsock_config *c, struct err *e)
{
	if (c->cid < CID_MIN || c->cid > CID_MAX)
		return err_set(e, -EINVAL,
			       "--vsock: cid=%llu: %u to %u; 0, 1, 2 and %u have a meaning of their own",
			       (unsigned long long)c->cid, CID_MIN, CID_MAX, UINT32_MAX);
	return 0;
}

static int set_cid(struct vhost_kernel *vk, uint64_t cid, struct err *e)
{
	int rc = vhost_kernel_ioctl(vk, VHOST_VSOCK_SET_GUEST_CID, &cid);

	if (rc == -EADDRINUSE)
		return err_set(
			e, rc,
			"--vsock: cid=%llu is another virtual machine's on this host, or the host's own\n"
			"Use another number.  Who has one: fuser -v %s",
			(unsigned long long)cid, vk->path);
	return rc ? err_set(e, rc, "--vsock: cid=%llu: %s", (unsigned long long)cid, strerror(-rc)) : 0;
}

struct datapath *vhost_vsock_new(const struct vhost_vsock_config *c, struct err *e)
{
	struct vhost_vsock *vs;

	if (check(c, e))
		return NULL;
	vs = calloc(1, sizeof(*vs));
	if (!vs) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	vs->dp.ops = &ops;
	vs->config.guest_cid = htole64(c->cid);
	vs->vk = (struct vhost_kernel){
		.name = c->name,
		.option = "--vsock",
		.path = c->path ? c->path : VHOST_VSOCK_PATH,
		.module = "vhost_vsock",
		.dp = &vs->dp,
		.loop = c->loop,
		.nvrings = VHOST_VSOCK_EVENT_QUEUE,
		.run = run,
		.whole = true,
	};
	if (vhost_kernel_open(&vs->vk, e)) {
		free(vs);
		return NULL;
	}
	if (set_cid(&vs->vk, c->cid, e)) {
		destroy(&vs->dp);
		return NULL;
	}
	return &vs->dp;
}
