/* What a vDPA device is, asked once when it is opened, and what to tell a user who has none. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/vhost_trace.h"
#include "backends/vhost_vdpa_dev.h"
#include "lib/cleanup.h"

#define BIT(n) (UINT64_C(1) << (n))

static int sys_open(const char *path, int flags)
{
	return open(path, flags);
}

static int sys_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg);
}

static const struct vhost_vdpa_sys kernel = {.open = sys_open, .ioctl = sys_ioctl, .write = write};

static const char *type_name(uint32_t id)
{
	static const char *const name[] = {
		[VIRTIO_ID_NET] = "network",    [VIRTIO_ID_BLOCK] = "block",  [VIRTIO_ID_CONSOLE] = "console",
		[VIRTIO_ID_RNG] = "entropy",    [VIRTIO_ID_SCSI] = "SCSI",    [VIRTIO_ID_GPU] = "graphics",
		[VIRTIO_ID_INPUT] = "input",    [VIRTIO_ID_VSOCK] = "socket", [VIRTIO_ID_CRYPTO] = "crypto",
		[VIRTIO_ID_FS] = "file system",
	};

	return id < ARRAY_SIZE(name) && name[id] ? name[id] : "virtio";
}

/* --- opening --- */

static int explain_open(const char *name, const char *path, int rc, struct err *e)
{
	switch (rc) {
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
		return err_set(e, rc,
			       "%s: vdpa: %s does not exist: %s\n"
			       "Run: %svdpa mgmtdev show; and vdpa dev add name NAME mgmtdev ONE-OF-THEM; and "
			       "ls /dev/vhost-vdpa-*",
			       name, path,
			       access("/sys/module/vhost_vdpa", F_OK)
				       ? "the kernel module vhost_vdpa is not loaded"
				       : "no such vDPA device is bound to vhost_vdpa",
			       access("/sys/module/vhost_vdpa", F_OK) ? "modprobe vhost_vdpa; and " : "");
	case -EACCES:
	case -EPERM:
		return err_set(e, rc, "%s: vdpa: %s may not be opened: %s\nRun: sudo chown $USER %s", name,
			       path, strerror(-rc), path);
	case -EBUSY:
		return err_set(e, rc, "%s: vdpa: %s is in use by another program\nRun: fuser -v %s", name, path,
			       path);
	case -EIO:
		return err_set(
			e, rc,
			"%s: vdpa: the daemon behind %s does not answer\n"
			"Start it again.  If it runs: vdpa dev del NAME, and then vdpa dev add name NAME "
			"mgmtdev vduse",
			name, path);
	}
	return err_set(e, rc, "%s: vdpa: %s: %s", name, path, strerror(-rc));
}

static int open_path(const struct vdpa_dev *d, struct err *e)
{
	int fd;

	if (!*d->path)
		return err_set(e, -EINVAL, "%s: vdpa: needs path=/dev/vhost-vdpa-N\nRun: ls /dev/vhost-vdpa-*",
			       d->name);
	do {
		fd = d->sys->open(d->path, O_RDWR | O_CLOEXEC);
	} while (fd < 0 && errno == EINTR);
	vhost_trace_open(d->device, "vhost-vdpa", d->path, fd < 0 ? -errno : 0);
	return fd < 0 ? explain_open(d->name, d->path, -errno, e) : fd;
}

/* --- what it is --- */

static int ask(const struct vdpa_dev *d, unsigned long request, void *arg, struct err *e)
{
	int rc = vdpa_call(d, request, arg);

	return rc ? err_set(e, rc, "%s: vdpa: %s: %s: %s", d->name, d->path, vhost_request_name(request),
			    strerror(-rc))
		  : 0;
}

static int check_type(struct vdpa_dev *d, uint32_t wanted, struct err *e)
{
	int rc = vdpa_call(d, VHOST_VDPA_GET_DEVICE_ID, &d->device_id);

	if (rc == -EIO)
		return explain_open(d->name, d->path, rc, e);
	if (rc)
		return err_set(e, rc, "%s: vdpa: %s is no vDPA device: %s\nRun: ls /dev/vhost-vdpa-*", d->name,
			       d->path, strerror(-rc));
	if (wanted && wanted != d->device_id)
		return err_set(e, -ENODEV,
			       "%s: vdpa: %s is a %s device (virtio type %u), not a %s device (type %u)\n"
			       "Run: vdpa dev show; and %s",
			       d->name, d->path, type_name(d->device_id), d->device_id, type_name(wanted),
			       wanted,
			       d->device_id == VIRTIO_ID_NET     ? "use --net vdpa,path= for it"
			       : d->device_id == VIRTIO_ID_BLOCK ? "use --disk vdpa,path= for it"
								 : "use another path=");
	return 0;
}

static int agree_backend(struct vdpa_dev *d, struct err *e)
{
	const uint64_t v2 = BIT(VHOST_BACKEND_F_IOTLB_MSG_V2);
	uint64_t f = 0;
	int rc = vdpa_call(d, VHOST_GET_BACKEND_FEATURES, &f);

	if (rc || !(f & v2))
		return err_set(
			e, rc ? rc : -EOPNOTSUPP,
			"%s: vdpa: %s: this kernel is too old for it: no IOTLB messages of version 2 (Linux "
			"5.10 has them)",
			d->name, d->path);
	d->backend = f & (v2 | BIT(VHOST_BACKEND_F_IOTLB_BATCH) | BIT(VHOST_BACKEND_F_SUSPEND));
	f = d->backend;
	return ask(d, VHOST_SET_BACKEND_FEATURES, &f, e);
}

/* Linux before 5.18 does not say; but a queue that there is not is refused as such. */
static unsigned count_queues(const struct vdpa_dev *d)
{
	uint32_t n = 0;

	if (vdpa_call(d, VHOST_VDPA_GET_VQS_COUNT, &n))
		while (n < VDPA_MAX_QUEUES && vdpa_vring_fd(d, VHOST_SET_VRING_CALL, n, -1) != -ENOBUFS)
			n++;
	return n < VDPA_MAX_QUEUES ? n : VDPA_MAX_QUEUES;
}

static bool has_config(const struct vdpa_dev *d, size_t len)
{
	uint8_t buf[VDPA_MAX_CONFIG];

	return !vdpa_config(d, VHOST_VDPA_GET_CONFIG, 0, buf, len);
}

/* The same with its configuration space: what does not fit into it is refused. */
static size_t config_size(const struct vdpa_dev *d)
{
	uint32_t n = 0;

	if (vdpa_call(d, VHOST_VDPA_GET_CONFIG_SIZE, &n)) {
		n = 0;
		for (uint32_t step = VDPA_MAX_CONFIG; step; step /= 2)
			if (n + step <= VDPA_MAX_CONFIG && has_config(d, n + step))
				n += step;
	}
	return n < VDPA_MAX_CONFIG ? n : VDPA_MAX_CONFIG;
}

static int check_memory(const struct vdpa_dev *d, const struct guest_mem *mem, struct err *e)
{
	struct vhost_vdpa_iova_range range = {0};

	if (!mem)
		return 0;
	/* A VDUSE daemon maps the files; VDUSE leaves out what is in none and says nothing. */
	for (unsigned i = 0; i < mem->nregions; i++)
		if (mem->region[i].fd < 0)
			return err_set(
				e, -EINVAL,
				"%s: vdpa: %s needs guest memory that can be shared: leave out share=off",
				d->name, d->path);
	if (vdpa_call(d, VHOST_VDPA_GET_IOVA_RANGE, &range)) /* not before 5.11: maps fail if they must */
		return 0;
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *r = &mem->region[i];

		if (r->gpa < range.first || r->gpa + (r->size - 1) > range.last)
			return err_set(
				e, -ERANGE,
				"%s: vdpa: %s can address %#llx to %#llx, and guest memory is at %#llx to "
				"%#llx\nUse less memory, or another device.",
				d->name, d->path, (unsigned long long)range.first,
				(unsigned long long)range.last, (unsigned long long)r->gpa,
				(unsigned long long)(r->gpa + (r->size - 1)));
	}
	return 0;
}

static int check_features(struct vdpa_dev *d, struct err *e)
{
	int rc = ask(d, VHOST_GET_FEATURES, &d->features, e);

	if (!rc && !(d->features & BIT(VIRTIO_F_VERSION_1)))
		rc = err_set(e, -EOPNOTSUPP, "%s: vdpa: %s is a device of before virtio 1.0 (features %#llx)",
			     d->name, d->path, (unsigned long long)d->features);
	return rc;
}

static int check_queues(struct vdpa_dev *d, struct err *e)
{
	int rc = ask(d, VHOST_VDPA_GET_VRING_NUM, &d->max_size, e);

	if (rc)
		return rc;
	d->nqueues = count_queues(d);
	if (!d->nqueues || !d->max_size)
		return err_set(e, -EINVAL, "%s: vdpa: %s has %u queues of %u entries at most: not usable",
			       d->name, d->path, d->nqueues, d->max_size);
	return 0;
}

int vdpa_dev_open(struct vdpa_dev *d, const struct vhost_vdpa_options *o, struct err *e)
{
	CLEANUP_FD int opened = -1;
	int rc;

	*d = (struct vdpa_dev){.sys = o->sys ? o->sys : &kernel,
			       .name = o->name ? o->name : "vhost-vdpa",
			       .device = o->device ? o->device
					 : o->name ? o->name
						   : "vhost-vdpa",
			       .path = o->path ? o->path
				       : o->fd ? "the descriptor"
					       : "",
			       .fd = -1};
	if (o->fd) {
		if (fcntl(*o->fd, F_SETFD, FD_CLOEXEC))
			return err_set(e, -errno, "%s: vdpa: fd=%d: %s", d->name, *o->fd, strerror(errno));
		d->fd = *o->fd;
	} else {
		opened = open_path(d, e);
		if (opened < 0)
			return opened;
		d->fd = opened;
	}

	rc = check_type(d, o->device_type, e);
	if (!rc)
		rc = ask(d, VHOST_SET_OWNER, NULL, e);
	if (!rc)
		rc = agree_backend(d, e);
	if (!rc)
		rc = check_features(d, e);
	if (!rc)
		rc = check_queues(d, e);
	if (!rc)
		rc = check_memory(d, o->mem, e);
	if (rc) {
		d->fd = -1;
		return rc;
	}
	d->config_len = config_size(d);
	steal_fd(&opened);
	return 0;
}
