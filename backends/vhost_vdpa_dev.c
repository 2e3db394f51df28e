/* #syscalls[setup]: openat
 * #ioctls[vcpu,data]: VHOST_VDPA_GET_STATUS VHOST_VDPA_SET_STATUS VHOST_VDPA_GET_CONFIG VHOST_VDPA_SET_CONFIG
 * #ioctls[vcpu,data]: VHOST_VDPA_SET_CONFIG_CALL VHOST_VDPA_SET_VRING_ENABLE VHOST_VDPA_SUSPEND
 * #ioctls[main]: VHOST_GET_BACKEND_FEATURES VHOST_SET_BACKEND_FEATURES VHOST_VDPA_GET_CONFIG_SIZE
 * #ioctls[main]: VHOST_VDPA_GET_DEVICE_ID VHOST_VDPA_GET_IOVA_RANGE VHOST_VDPA_GET_VQS_COUNT
 * VHOST_VDPA_GET_VRING_NUM */
#include "backends/vhost_vdpa_dev.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "backends/vhost_trace.h"
#include "lib/log.h"

#define BIT(n) (UINT64_C(1) << (n))

int vdpa_call(const struct vdpa_dev *d, unsigned long request, void *arg)
{
	int rc = d->sys->ioctl(d->fd, request, arg) < 0 ? -errno : 0;

	vhost_trace(d->device, "vhost-vdpa", request, arg, rc);
	return rc;
}

int vdpa_vring_state(const struct vdpa_dev *d, unsigned long request, unsigned index, unsigned num)
{
	struct vhost_vring_state s = {.index = index, .num = num};

	return vdpa_call(d, request, &s);
}

int vdpa_vring_fd(const struct vdpa_dev *d, unsigned long request, unsigned index, int fd)
{
	struct vhost_vring_file f = {.index = index, .fd = fd};

	return vdpa_call(d, request, &f);
}

int vdpa_config_call(const struct vdpa_dev *d, int fd)
{
	return vdpa_call(d, VHOST_VDPA_SET_CONFIG_CALL, &fd);
}

int vdpa_config(const struct vdpa_dev *d, unsigned long request, size_t off, void *buf, size_t len)
{
	union {
		struct vhost_vdpa_config head;
		uint8_t bytes[offsetof(struct vhost_vdpa_config, buf) + VDPA_MAX_CONFIG];
	} c;
	int rc;

	if (len > VDPA_MAX_CONFIG || off > VDPA_MAX_CONFIG - len)
		return -EINVAL;
	memset(&c, 0, sizeof(c));
	c.head.off = (uint32_t)off;
	c.head.len = (uint32_t)len;
	if (request == VHOST_VDPA_SET_CONFIG)
		memcpy(c.bytes + offsetof(struct vhost_vdpa_config, buf), buf, len);
	rc = vdpa_call(d, request, &c);
	if (!rc && request == VHOST_VDPA_GET_CONFIG)
		memcpy(buf, c.bytes + offsetof(struct vhost_vdpa_config, buf), len);
	return rc;
}

int vdpa_status(const struct vdpa_dev *d)
{
	uint8_t status = 0;
	int rc = vdpa_call(d, VHOST_VDPA_GET_STATUS, &status);

	return rc ? rc : status;
}

int vdpa_set_status(const struct vdpa_dev *d, uint8_t status)
{
	uint8_t s = status;
	int rc = vdpa_call(d, VHOST_VDPA_SET_STATUS, &s);

	if (rc || !status)
		return rc;
	rc = vdpa_status(d);
	if (rc < 0)
		return rc;
	return (rc & status) == status ? 0 : -EIO;
}

/* --- memory --- */

static int iotlb(const struct vdpa_dev *d, uint8_t type, const struct mem_region *r)
{
	struct vhost_msg_v2 msg = {.type = VHOST_IOTLB_MSG_V2, .iotlb = {.type = type}};
	ssize_t n;
	int rc;

	if (r) {
		msg.iotlb.iova = r->gpa;
		msg.iotlb.size = r->size;
	}
	if (type == VHOST_IOTLB_UPDATE) {
		msg.iotlb.uaddr = (uintptr_t)r->hva;
		msg.iotlb.perm = VHOST_ACCESS_RW;
	}
	n = d->sys->write(d->fd, &msg, sizeof(msg));
	rc = n < 0 ? -errno : (size_t)n == sizeof(msg) ? 0 : -EIO;
	vhost_trace_iotlb(d->device, "vhost-vdpa", &msg, rc);
	return rc;
}

static int batch(const struct vdpa_dev *d, uint8_t type)
{
	return d->backend & BIT(VHOST_BACKEND_F_IOTLB_BATCH) ? iotlb(d, type, NULL) : 0;
}

static void complain(const struct vdpa_dev *d, const struct guest_mem *mem, int rc)
{
	struct rlimit limit;

	if (rc == -ENOMEM && !getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur < mem->size)
		log_warn("%s: %s must lock %llu MiB of guest memory and may lock %llu (ulimit -l)", d->name,
			 d->path, (unsigned long long)(mem->size >> 20),
			 (unsigned long long)(limit.rlim_cur >> 20));
	else
		log_warn("%s: %s cannot be given guest memory: %s", d->name, d->path, strerror(-rc));
}

int vdpa_map(struct vdpa_dev *d, const struct guest_mem *mem)
{
	int rc = batch(d, VHOST_IOTLB_BATCH_BEGIN), end;

	for (unsigned i = 0; !rc && i < mem->nregions; i++) {
		rc = iotlb(d, VHOST_IOTLB_UPDATE, &mem->region[i]);
		if (!rc)
			d->nmapped++;
	}
	end = batch(d, VHOST_IOTLB_BATCH_END); /* also of one that failed: it would never end */
	rc = rc ? rc : end;
	if (rc) {
		vdpa_unmap(d, mem);
		complain(d, mem, rc);
	}
	return rc;
}

void vdpa_unmap(struct vdpa_dev *d, const struct guest_mem *mem)
{
	if (!d->nmapped)
		return;
	/* Whatever fails here the kernel makes good when the file is closed. */
	batch(d, VHOST_IOTLB_BATCH_BEGIN);
	while (d->nmapped)
		iotlb(d, VHOST_IOTLB_INVALIDATE, &mem->region[--d->nmapped]);
	batch(d, VHOST_IOTLB_BATCH_END);
}
