/* #syscalls[setup]: openat
 * #ioctls[vcpu,data]: VHOST_VSOCK_SET_GUEST_CID VHOST_VSOCK_SET_RUNNING */
#include "backends/vhost_vsock.h"

#include <endian.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <string.h>

#include "backends/vhost_device.h"

/* 0 is the hypervisor's, 1 this machine's own, 2 the host's, and the last one stands for any. */
#define CID_MIN 3
#define CID_MAX (UINT32_MAX - 1)

struct vhost_vsock {
	struct vhost_device device;
	struct virtio_vsock_config config;
};

static int run(struct vhost_kernel *vk, uint64_t vrings, bool on)
{
	int running = on;

	(void)vrings;
	return vhost_kernel_ioctl(vk, VHOST_VSOCK_SET_RUNNING, &running);
}

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
	vs->config.guest_cid = htole64(c->cid);
	vs->device = (struct vhost_device){
		.kind = "vhost-vsock",
		.id = VIRTIO_ID_VSOCK,
		.config = &vs->config,
		.config_len = sizeof(vs->config),
		.vk = {.name = c->name,
		       .option = "--vsock",
		       .path = c->path ? c->path : VHOST_VSOCK_PATH,
		       .module = "vhost_vsock",
		       .loop = c->loop,
		       .nvrings = VHOST_VSOCK_EVENT_QUEUE,
		       .run = run},
	};
	if (vhost_device_open(&vs->device, e)) {
		free(vs);
		return NULL;
	}
	if (set_cid(&vs->device.vk, c->cid, e)) {
		vs->device.ops.destroy(&vs->device.dp);
		return NULL;
	}
	return &vs->device.dp;
}
