/* #syscalls[setup]: openat
 * #ioctls[vcpu,data]: VHOST_NET_SET_BACKEND VHOST_SET_VRING_BUSYLOOP_TIMEOUT */
#include "backends/vhost_net.h"

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/tap_watch.h"
#include "backends/vhost_kernel.h"
#include "lib/cleanup.h"

#define BIT(n)     (UINT64_C(1) << (n))
#define OPINION    (VHOST_KERNEL_RING_BITS | BIT(VIRTIO_NET_F_MRG_RXBUF))
#define CHAIN_MAX  1024 /* UIO_MAXIOV: pieces of a chain */
#define PAIR_RINGS 2

struct vhost_net {
	struct datapath dp;
	uint64_t running; /* bit per queue */
	struct tap_watch watch;
	unsigned npairs;
	struct vhost_net_pair {
		struct vhost_kernel vk;
		int tap;
		struct net_port *port; /* or NULL */
	} pair[];
};

static int set_backend(struct vhost_kernel *vk, unsigned vring, int fd)
{
	struct vhost_vring_file f = {.index = vring, .fd = fd};

	return vhost_kernel_ioctl(vk, VHOST_NET_SET_BACKEND, &f);
}

static int run(struct vhost_kernel *vk, uint64_t vrings, bool on)
{
	struct vhost_net_pair *p = container_of(vk, struct vhost_net_pair, vk);
	int rc = 0;

	for (unsigned i = 0; i < PAIR_RINGS; i++) {
		int err = 0;

		if (vrings & BIT(i))
			err = set_backend(vk, i, on ? p->tap : -1);
		if (!rc)
			rc = err;
		if (err && on) {
			run(vk, vrings & (BIT(i) - 1), false);
			return err;
		}
	}
	return rc;
}

static void look(void *opaque)
{
	struct vhost_net *vn = opaque;

	for (unsigned i = 0; i < vn->npairs; i++) {
		struct net_port *port = vn->pair[i].port;

		if (port && tap_fd_gone(vn->pair[i].tap)) {
			vn->pair[i].port = NULL; /* once */
			port->gone(port->opaque, -ENODEV);
		}
	}
}

static uint64_t queues_of(const struct datapath_setup *setup)
{
	uint64_t queues = 0;

	for (unsigned i = 0; i < setup->nqueues; i++)
		queues |= BIT(setup->queue[i].index);
	return queues;
}

static int offer(struct datapath *dp, struct datapath_offer *out)
{
	struct vhost_net *vn = container_of(dp, struct vhost_net, dp);
	uint64_t features = OPINION;

	for (unsigned i = 0; i < vn->npairs; i++)
		features &= vn->pair[i].vk.features;
	*out = (struct datapath_offer){
		.features = features,
		.opinion = OPINION,
		.max_queues = PAIR_RINGS * vn->npairs,
		.max_queue_size = CHAIN_MAX,
		.device_id = VIRTIO_ID_NET,
		.drains = true,
	};
	return 0;
}

static int start(struct datapath *dp, const struct datapath_setup *setup)
{
	struct vhost_net *vn = container_of(dp, struct vhost_net, dp);

	for (unsigned i = 0; i < vn->npairs; i++) {
		int rc = vhost_kernel_start(&vn->pair[i].vk, setup);

		if (!rc)
			continue;
		while (i--)
			vhost_kernel_stop(&vn->pair[i].vk, setup);
		return rc;
	}
	vn->running |= queues_of(setup);
	if (vn->pair[0].port)
		tap_watch_start(&vn->watch);
	return 0;
}

static void stop(struct datapath *dp, const struct datapath_setup *setup)
{
	struct vhost_net *vn = container_of(dp, struct vhost_net, dp);

	for (unsigned i = 0; i < vn->npairs; i++)
		vhost_kernel_stop(&vn->pair[i].vk, setup);
	vn->running &= ~queues_of(setup);
	if (!vn->running)
		tap_watch_stop(&vn->watch);
}

static void destroy(struct datapath *dp)
{
	struct vhost_net *vn = container_of(dp, struct vhost_net, dp);

	for (unsigned i = 0; i < vn->npairs; i++)
		vhost_kernel_close(&vn->pair[i].vk);
	free(vn);
}

static const struct datapath_ops ops = {
	.name = "vhost-net",
	.offer = offer,
	.start = start,
	.stop = stop,
	.destroy = destroy,
};

/* It stays with the file. */
static int set_busy_poll(struct vhost_kernel *vk, unsigned us, struct err *e)
{
	for (unsigned i = 0; i < PAIR_RINGS && us; i++) {
		struct vhost_vring_state s = {.index = i, .num = us};
		int rc = vhost_kernel_ioctl(vk, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &s);

		if (rc == -ENOTTY)
			return err_set(e, rc,
				       "%s: this kernel's vhost knows no busy polling; it came with Linux 4.6",
				       vk->option);
		if (rc)
			return err_set(e, rc, "%s: busy polling for %u us: %s", vk->option, us, strerror(-rc));
	}
	return 0;
}

static int pair_open(struct vhost_net *vn, unsigned i, const struct vhost_net_config *c, struct err *e)
{
	struct vhost_net_pair *p = &vn->pair[i];
	int rc;

	p->tap = c->taps[i];
	p->port = c->ports ? c->ports[i] : NULL;
	p->vk = (struct vhost_kernel){
		.name = c->name,
		.option = "--net: tap: vhost=on",
		.path = c->path ? c->path : VHOST_NET_PATH,
		.given_fd = c->fds ? &c->fds[i] : NULL,
		.module = "vhost_net",
		.dp = &vn->dp,
		.loop = c->loop,
		.first = PAIR_RINGS * i,
		.nvrings = PAIR_RINGS,
		.run = run,
	};
	rc = vhost_kernel_open(&p->vk, e);
	if (rc)
		return rc;
	/* Of the device's own bits it may know some that are the tap's to offer. */
	p->vk.features &= OPINION;
	rc = set_busy_poll(&p->vk, c->busy_poll_us, e);
	if (rc)
		vhost_kernel_close(&p->vk);
	return rc;
}

struct datapath *vhost_net_new(const struct vhost_net_config *c, struct err *e)
{
	struct vhost_net *vn = calloc(1, sizeof(*vn) + c->npairs * sizeof(vn->pair[0]));

	if (!vn) {
		for (unsigned i = 0; c->fds && i < c->npairs; i++)
			close(c->fds[i]);
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	vn->dp.ops = &ops;
	vn->watch = (struct tap_watch){.loop = c->loop, .look = look, .opaque = vn};
	for (; vn->npairs < c->npairs; vn->npairs++)
		if (pair_open(vn, vn->npairs, c, e)) {
			for (unsigned i = vn->npairs + 1; c->fds && i < c->npairs; i++)
				close(c->fds[i]);
			destroy(&vn->dp);
			return NULL;
		}
	return &vn->dp;
}
