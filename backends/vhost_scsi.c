/* #syscalls[setup]: openat
 * #ioctls[vcpu,data]: VHOST_SCSI_SET_ENDPOINT VHOST_SCSI_CLEAR_ENDPOINT VHOST_SCSI_GET_ABI_VERSION */
#include "backends/vhost_scsi.h"

#include <endian.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_scsi.h>
#include <stdlib.h>
#include <string.h>

#include "backends/vhost_device.h"
#include "lib/cleanup.h"

#define BIT(n)             (UINT64_C(1) << (n))
#define DEFAULT_QUEUE_SIZE 128

/* Protection information makes each request longer and is of no use without disks that have it. */
#define UNUSED_FEATURES BIT(VIRTIO_SCSI_F_T10_PI)

struct vhost_scsi {
	struct vhost_device device;
	struct vhost_scsi_target target;
	struct virtio_scsi_config config;
};

static int run(struct vhost_kernel *vk, uint64_t vrings, bool on)
{
	struct vhost_scsi *vs = container_of(vk, struct vhost_scsi, device.vk);

	(void)vrings;
	/* Clearing waits for the requests in flight. */
	return vhost_kernel_ioctl(vk, on ? VHOST_SCSI_SET_ENDPOINT : VHOST_SCSI_CLEAR_ENDPOINT, &vs->target);
}

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

/* A driver that writes other sizes of CDB and sense data reads back that these stay: the kernel has no others.
 */
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
	int rc = vhost_kernel_ioctl(&vs->device.vk, VHOST_SET_MEM_TABLE, &none);

	if (!rc)
		rc = run(&vs->device.vk, 0, true);
	if (!rc)
		rc = run(&vs->device.vk, 0, false);
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
	vs->config = make_config(c);
	vs->target.abi_version = VHOST_SCSI_ABI_VERSION;
	memcpy(vs->target.vhost_wwpn, c->wwpn, strlen(c->wwpn));
	vs->target.vhost_tpgt = c->tpgt;
	vs->device = (struct vhost_device){
		.kind = "vhost-scsi",
		.id = VIRTIO_ID_SCSI,
		.config = &vs->config,
		.config_len = sizeof(vs->config),
		.vk = {.name = c->name,
		       .option = "--scsi: vhost",
		       .path = c->path ? c->path : VHOST_SCSI_PATH,
		       .module = "vhost_scsi",
		       .loop = c->loop,
		       .nvrings = VHOST_SCSI_FIXED_QUEUES + c->nrequest,
		       .run = run},
	};
	if (vhost_device_open(&vs->device, e)) {
		free(vs);
		return NULL;
	}
	vs->device.vk.features &= ~UNUSED_FEATURES;
	if (check_version(&vs->device.vk, e) || try_target(vs, e)) {
		vs->device.ops.destroy(&vs->device.dp);
		return NULL;
	}
	return &vs->device.dp;
}
