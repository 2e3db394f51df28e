/* --vsock, --scsi, --fs, --device: devices whose model is their datapath's. */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <unistd.h>

#include "backends/vhost_scsi.h"
#include "backends/vhost_user.h"
#include "backends/vhost_vsock.h"
#include "devices/virtio/generic.h"
#include "vmm/devices_parts.h"

#define FS_FIXED_QUEUES 1 /* high priority */

static int by_vsock(struct device *d, const struct generic_options *o, struct generic_config *c, struct err *e)
{
	const struct vhost_vsock_config v = {.name = d->name, .cid = o->cid, .loop = c->loop};

	c->type = "vsock";
	c->nqueues = VHOST_VSOCK_QUEUES;
	c->idle_queues = UINT64_C(1) << VHOST_VSOCK_EVENT_QUEUE;
	c->datapath = vhost_vsock_new(&v, e);
	return c->datapath ? 0 : e->code;
}

static int by_scsi(struct device *d, const struct generic_options *o, struct generic_config *c, struct err *e)
{
	const struct vhost_scsi_config v = {
		.name = d->name,
		.wwpn = o->wwpn,
		.nrequest = o->queues ? o->queues : 1,
		.queue_size = c->queue_size,
		.loop = c->loop,
	};

	c->type = "scsi";
	c->datapath = vhost_scsi_new(&v, e);
	return c->datapath ? 0 : e->code;
}

/* fd: connected already, and -1 once it is somebody else's; or NULL. */
static int by_vhost_user(struct device *d, const struct generic_options *o, int *fd, struct generic_config *c,
			 struct err *e)
{
	const struct vhost_user_config v = {
		.name = d->name,
		.path = o->remote.path,
		.fd = fd,
		.server = o->remote.server,
		.wait_ms = o->remote.wait_ms,
		.reconnect_ms = o->remote.reconnect_ms,
		.device_type = c->id,
		.nqueues = c->nqueues,
		.mem = c->mem,
		.loop = c->loop,
	};

	int rc = vhost_user_new(&c->datapath, &v, e);

	if (!rc && fd)
		*fd = -1;
	return rc;
}

static int by_fs(struct device *d, const struct generic_options *o, int *fd, struct virtio_fs_config *fs,
		 struct generic_config *c, struct err *e)
{
	const unsigned nrequest = o->queues ? o->queues : 1;

	memcpy(fs->tag, o->tag, strlen(o->tag)); /* not terminated when it fills its place (5.11.4) */
	fs->num_request_queues = htole32(nrequest);
	c->type = "fs";
	c->id = VIRTIO_ID_FS;
	c->nqueues = FS_FIXED_QUEUES + nrequest;
	c->config = fs;
	c->config_len = sizeof(*fs);
	return by_vhost_user(d, o, fd, c, e);
}

static int by_any(struct device *d, const struct generic_options *o, struct generic_config *c, struct err *e)
{
	c->type = "vhost-user";
	c->id = o->id;
	c->nqueues = o->queues;
	c->config = o->config_len ? o->config : NULL;
	c->config_len = o->config_len;
	return by_vhost_user(d, o, NULL, c, e);
}

static int add(struct devices *all, const struct generic_options *o, unsigned number, int *fd, struct err *e)
{
	static const char *const kinds[] = {"vsock", "scsi", "fs", "device"}; /* enum generic_kind */
	struct device *d = next_device(all, &o->virtio, kinds[o->kind], number);
	struct virtio_fs_config fs = {0};
	struct generic_config c = {
		.name = d->name,
		.mem = all->mem,
		.features = UINT64_MAX,
		.hidden = hidden_ring_bits(&o->virtio, true),
		.queue_size = o->virtio.queue_size,
	};
	int rc = start_threads(d, 1, &c.loop, e);

	if (rc)
		return rc;
	switch (o->kind) {
	case GENERIC_VSOCK:
		rc = by_vsock(d, o, &c, e);
		break;
	case GENERIC_SCSI:
		rc = by_scsi(d, o, &c, e);
		break;
	case GENERIC_FS:
		rc = by_fs(d, o, fd, &fs, &c, e);
		break;
	case GENERIC_VHOST_USER:
		rc = by_any(d, o, &c, e);
	}
	/* The kernel's say it themselves. */
	if (rc)
		return o->kind == GENERIC_VSOCK || o->kind == GENERIC_SCSI
			       ? rc
			       : err_prefix(e, "--%s", kinds[o->kind]);
	d->virtio = generic_new(&c, e);
	if (!d->virtio)
		c.datapath->ops->destroy(c.datapath);
	return d->virtio ? 0 : e->code;
}

int add_generic(struct devices *all, const struct generic_options *o, unsigned number, struct err *e)
{
	return add(all, o, number, NULL, e);
}

int add_connected(struct devices *all, const struct generic_options *o, unsigned number, int fd, struct err *e)
{
	int rc = add(all, o, number, &fd, e);

	if (fd >= 0)
		close(fd);
	return rc;
}
