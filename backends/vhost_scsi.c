/* #syscalls: openat ioctl close */
#include "backends/vhost_scsi.h"

#include <endian.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_scsi.h>
#include <stdlib.h>
#include <string.h>

#include "backends/vhost_kernel.h"
#include "lib/cleanup.h"

#define BIT(n)             (UINT64_C(1) << (n))
#define DEFAULT_QUEUE_SIZE 128
#define CHAIN_MAX          1024 /* UIO_MAXIOV */

/* Protection information makes each request longer and is of no use without disks that have it. */
#define UNUSED_FEATURES BIT(VIRTIO_SCSI_F_T10_PI)

struct vhost_scsi {
	struct datapath dp;
	struct vhost_kernel vk;
	struct vhost_scsi_target target;
	struct virtio_scsi_config config;
};

static int run(struct vhost_kernel *vk, uint64_t vrings, bool on)
{
	struct vhost_scsi *vs = container_of(vk, struct vhost_scsi, vk);

	(void)vrings;
	/* Clearing waits for the requests in flight. */
	return vhost_kernel_ioctl(vk, on ? VHOST_SCSI_SET_ENDPOINT : VHOST_SCSI_CLEAR_ENDPOINT, &vs->target);
}

/* Its opinion is on every bit: there is no device but the kernel's. */
static int offer(struct datapath *dp, struct datapath_offer *out)
{
	struct vhost_scsi *vs = container_of(dp, struct vhost_scsi, dp);

	*out = (struct datapath_offer){
		.features = vs->vk.features,
		.opinion = UINT64_MAX,
		.max_queues = vs->vk.nvrings,
		.max_queue_size = CHAIN_MAX,
		.device_id = VIRTIO_ID_SCSI,
		.config_len = sizeof(vs->config),
		.drains = true,
	};
	return 0;
}

static int start(struct datapath *dp, const struct datapath_setup *setup)
{
	return vhost_kernel_start(&container_of(dp, struct vhost_scsi, dp)->vk, setup);
}

static void stop(struct datapath *dp, const struct datapath_setup *setup)
{
	vhost_kernel_stop(&container_of(dp, struct vhost_scsi, dp)->vk, setup);
}

/* There is no write: the kernel's sizes of CDB and sense data are the default ones, and reading them back tells
 * a driver that they stay. */
static int config_read(struct datapath *dp, size_t off, void *buf, size_t len)
{
	struct vhost_scsi *vs = container_of(dp, struct vhost_scsi, dp);

	if (off > sizeof(vs->config) || len > sizeof(vs->config) - off)
		return -EINVAL;
	memcpy(buf, (const char *)&vs->config + off, len);
	return 0;
}

static void destroy(struct datapath *dp)
{
	struct vhost_scsi *vs = container_of(dp, struct vhost_scsi, dp);

	vhost_kernel_close(&vs->vk);
	free(vs);
}

static const struct datapath_ops ops = {
	.name = "vhost-scsi",
	.offer = offer,
	.start = start,
	.stop = stop,
	.config_read = config_read,
	.destroy = destroy,
};

static int check(const struct vhost_scsi_config *c, struct err *e)
{
	const size_t max = sizeof(((struct vhost_scsi_target *)0)->vhost_wwpn) - 1;

	if (!c->wwpn || !*c->wwpn)
		return err_set(e, -EINVAL,
			       "--scsi: vhost: wwpn= is missing: the name of a target, naa.5001405...\n"
			       "Run: ls /sys/kernel/config/target/vhost; make one: targetcli /vhost create");
	if (strlen(c->wwpn) > max)
		return err_set(e, -EINVAL, "--scsi: vhost: wwpn=%s is longer than %zu characters", c->wwpn,
			       max);
	if (!c->nrequest || c->nrequest > VHOST_SCSI_MAX_REQUEST_QS)
		return err_set(e, -EINVAL, "--scsi: queues=%u: 1 to %u", c->nrequest,
			       VHOST_SCSI_MAX_REQUEST_QS);
	return 0;
}

static struct virtio_scsi_config make_config(const struct vhost_scsi_config *c)
{
	const uint16_t size = c->queue_size ? c->queue_size : DEFAULT_QUEUE_SIZE;

	return (struct virtio_scsi_config){
		.num_queues = htole32(c->nrequest),
		.seg_max = htole32(size > 3 ? size - 2u : 1), /* the two headers are in the chain, too */
		.max_sectors = htole32(0xffff),
		.cmd_per_lun = htole32(size),
		.event_info_size = htole32(sizeof(struct virtio_scsi_event)),
		.sense_size = htole32(VIRTIO_SCSI_SENSE_DEFAULT_SIZE),
		.cdb_size = htole32(VIRTIO_SCSI_CDB_DEFAULT_SIZE),
		.max_target = htole16(255), /* a tag is below 256 */
		.max_lun = htole32(16383),  /* what a flat address holds */
	};
}

static int check_version(struct vhost_kernel *vk, struct err *e)
{
	int version = 0, rc = vhost_kernel_ioctl(vk, VHOST_SCSI_GET_ABI_VERSION, &version);

	if (rc)
		return err_set(e, rc, "--scsi: vhost: %s: %s", vk->path, strerror(-rc));
	if (version > VHOST_SCSI_ABI_VERSION)
		return err_set(e, -EOPNOTSUPP, "--scsi: vhost: %s has version %d of its interface; %d is known",
			       vk->path, version, VHOST_SCSI_ABI_VERSION);
	return 0;
}

/* No vring has an address yet, so nothing runs; the kernel wants to know of memory before. */
static int try_target(struct vhost_scsi *vs, struct err *e)
{
	struct vhost_memory none = {0};
	int rc = vhost_kernel_ioctl(&vs->vk, VHOST_SET_MEM_TABLE, &none);

	if (!rc)
		rc = run(&vs->vk, 0, true);
	if (!rc)
		rc = run(&vs->vk, 0, false);
	switch (rc) {
	case 0:
		return 0;
	case -EEXIST: /* what old drivers say of both */
	case -ENODEV:
	case -ENOENT:
		return err_set(e, rc,
			       "--scsi: vhost: wwpn=%s: no such target, or it has no nexus, or another virtual "
			       "machine has it\n"
			       "Run: ls /sys/kernel/config/target/vhost; make one: targetcli /vhost create",
			       vs->target.vhost_wwpn);
	}
	return err_set(e, rc, "--scsi: vhost: wwpn=%s: %s", vs->target.vhost_wwpn, strerror(-rc));
}

struct datapath *vhost_scsi_new(const struct vhost_scsi_config *c, struct err *e)
{
	struct vhost_scsi *vs;

	if (check(c, e))
		return NULL;
	vs = calloc(1, sizeof(*vs));
	if (!vs) {
		err_set(e, -ENOMEM, "%s: out of memory", c->name);
		return NULL;
	}
	vs->dp.ops = &ops;
	vs->config = make_config(c);
	vs->target.abi_version = VHOST_SCSI_ABI_VERSION;
	memcpy(vs->target.vhost_wwpn, c->wwpn, strlen(c->wwpn));
	vs->target.vhost_tpgt = c->tpgt;
	vs->vk = (struct vhost_kernel){
		.name = c->name,
		.option = "--scsi: vhost",
		.path = c->path ? c->path : VHOST_SCSI_PATH,
		.module = "vhost_scsi",
		.dp = &vs->dp,
		.loop = c->loop,
		.nvrings = VHOST_SCSI_FIXED_QUEUES + c->nrequest,
		.run = run,
		.whole = true,
	};
	if (vhost_kernel_open(&vs->vk, e)) {
		free(vs);
		return NULL;
	}
	vs->vk.features &= ~UNUSED_FEATURES;
	if (check_version(&vs->vk, e) || try_target(vs, e)) {
		destroy(&vs->dp);
		return NULL;
	}
	return &vs->dp;
}
