/* --disk: the disk, its file, or who serves it. */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <unistd.h>

#include "backends/file_disk.h"
#include "backends/file_uring.h"
#include "backends/vhost_user.h"
#include "backends/vhost_vdpa.h"
#include "devices/blk/blk.h"
#include "devices/blk/disk.h"
#include "lib/confine.h"
#include "vmm/devices_parts.h"

#define BIT(n) (UINT64_C(1) << (n))

static struct disk *open_file(const struct disk_options *o, const int *fd, struct err *e)
{
	static const enum file_aio aio[] = {
		[DISK_AIO_DEFAULT] = FILE_AIO_AUTO,
		[DISK_AIO_URING] = FILE_AIO_URING,
		[DISK_AIO_SYNC] = FILE_AIO_SYNC,
	};
	const struct file_disk_config f = {
		.path = o->path,
		.fd = fd,
		.read_only = o->read_only,
		.direct = o->direct,
		.raw = o->raw,
		.aio = aio[o->aio],
	};

	return file_disk_open(&f, e);
}

/* One of the two. */
struct served {
	struct disk *disk;
	struct datapath *remote;
};

static void give_back(const struct served *s)
{
	if (s->disk)
		s->disk->ops->destroy(s->disk);
	if (s->remote)
		s->remote->ops->destroy(s->remote);
}

static int serve(struct devices *all, struct device *d, const struct disk_options *o, unsigned nqueues,
		 struct evloop *loop, struct errand_fds *given, struct served *s, struct err *e)
{
	int fd = given ? errand_take(given) : -1;
	int again = given && o->kind == DISK_VHOST_USER ? errand_take(given) : -1;
	const int *const taken = fd >= 0 ? &fd : NULL;
	const struct vhost_user_config user = {
		.name = d->name,
		.path = o->remote.path,
		.fd = taken,
		.again = again >= 0 ? &again : NULL,
		.server = o->remote.server,
		.wait_ms = o->remote.wait_ms,
		.reconnect_ms = o->remote.reconnect_ms,
		.must_serve = d->virtio != NULL, /* a live change */
		.hello_ms = d->virtio ? HELLO_MS : 0,
		.device_type = VIRTIO_ID_BLOCK,
		.nqueues = nqueues,
		.mem = all->mem,
		.loop = loop,
	};
	const struct vhost_vdpa_options vdpa = {
		.name = "--disk",
		.device = d->name,
		.path = o->remote.path,
		.fd = taken,
		.mem = all->mem,
		.loop = loop,
		.device_type = VIRTIO_ID_BLOCK,
	};
	int rc = 0;

	switch (o->kind) {
	case DISK_VHOST_USER:
		rc = vhost_user_new(&s->remote, &user, e);
		break;
	case DISK_VDPA:
		rc = vhost_vdpa_new(&s->remote, &vdpa, e);
		break;
	case DISK_FILE:
		s->disk = open_file(o, taken, e);
		return s->disk ? 0 : e->code;
	}
	if (rc && taken)
		close(fd);
	if (rc && again >= 0)
		close(again);
	return rc;
}

static uint64_t hidden_disk_bits(const struct disk_options *o)
{
	return hidden_ring_bits(&o->virtio, true) | (o->virtio.all_bits ? 0 : BIT(VIRTIO_BLK_F_CONFIG_WCE));
}

int add_disk(struct devices *all, const struct disk_options *o, unsigned number, struct err *e)
{
	struct device *d = next_device(all, &o->virtio, "disk", number);
	struct evloop *loops[CONFIG_MAX_QUEUES];
	struct served s = {0};
	struct blk_config c = {
		.name = d->name,
		.mem = all->mem,
		.loops = loops,
		.nqueues = o->queues,
		.queue_size = o->virtio.queue_size ? o->virtio.queue_size : 256,
		.serial = o->serial,
		.common_limits = !o->virtio.all_bits,
		.writethrough = o->writethrough,
		.hidden = hidden_disk_bits(o),
	};
	int rc = start_threads(d, o->queues, loops, e);

	d->disk_options = o;
	if (rc)
		return rc;
	/* Also for a disk that a live change may bring; without a ring it is served all the same. */
	if (o->aio != DISK_AIO_SYNC && !file_uring_allowed())
		file_uring_reserve(o->queues, c.queue_size);
	rc = serve(all, d, o, o->queues, loops[0], NULL, &s, e);
	if (rc)
		return o->kind == DISK_VDPA ? rc : err_prefix(e, "--disk");
	c.disk = s.disk;
	c.remote = s.remote;
	d->virtio = blk_new(&c, e);
	if (!d->virtio) {
		give_back(&s);
		return e->code;
	}
	d->disk = s.disk;
	return 0;
}

void move_disk_errands(const struct disk_options *o, struct errands *out)
{
	static const enum errand_kind kind[] = {
		[DISK_FILE] = ERRAND_FILE,
		[DISK_VHOST_USER] = ERRAND_SOCKET,
		[DISK_VDPA] = ERRAND_FILE,
	};
	struct errand *r = &out->errand[out->n++];

	*r = (struct errand){
		.kind = kind[o->kind],
		.count = o->kind == DISK_VHOST_USER && confine_is_on() ? 2 : 1,
		.write = !o->read_only,
		.wait_ms = o->remote.wait_ms,
	};
	snprintf(r->path, sizeof(r->path), "%s", o->kind == DISK_FILE ? o->path : o->remote.path);
}

int move_disk(struct devices *all, struct device *d, const struct disk_options *o, struct move *m,
	      struct err *e)
{
	struct served s = {0};
	int rc = serve(all, d, o, d->disk_options->queues, d->virtio->loop, m->fds, &s, e);

	if (!rc) {
		rc = blk_move(d->virtio, s.disk, s.remote, &m->how, &m->moved, e);
	}
	if (rc)
		give_back(&s);
	else
		d->disk = s.disk;
	return rc;
}
