/* #syscalls[vcpu,data]: fstat pread64 */
#include "backends/vhost_user_inflight.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST (UINT64_C(1) << 30) /* bytes: far more than 256 queues of 32768 entries need */

/* QueueRegionPacked, up to its descriptors. */
struct packed_region {
	uint64_t features;
	uint16_t version, desc_num;
	uint16_t free_head, old_free_head;
	uint16_t used_idx, old_used_idx;
	uint8_t used_wrap_counter, old_used_wrap_counter;
};

void vhost_user_inflight_drop(struct vhost_user_inflight *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static bool sound(const struct vhost_user_inflight_desc *d, int fd)
{
	struct stat st;
	uint64_t end;

	return fd >= 0 && d->mmap_size && d->mmap_size <= MOST &&
	       !__builtin_add_overflow(d->mmap_size, d->mmap_offset, &end) && !fstat(fd, &st) &&
	       st.st_size >= 0 && (uint64_t)st.st_size >= end;
}

int vhost_user_inflight_get(struct vhost_user_inflight *f, struct vhost_user_conn *c, unsigned nqueues,
			    uint16_t queue_size)
{
	struct vhost_user_msg m = {
		.request = VHOST_USER_GET_INFLIGHT_FD,
		.size = sizeof(m.inflight),
		.inflight = {.num_queues = (uint16_t)nqueues, .queue_size = queue_size},
	};
	const size_t bare = offsetof(struct vhost_user_inflight_desc, queue_size) + sizeof(queue_size);
	int fd, rc = vhost_user_get(c, &m, 0, &fd);

	vhost_user_inflight_drop(f);
	if (rc)
		return rc;
	if ((m.size != sizeof(m.inflight) && m.size != bare) || !sound(&m.inflight, fd)) {
		if (fd >= 0)
			close(fd);
		c->broken = -EPROTO;
		return -EPROTO;
	}
	f->fd = fd;
	f->desc = (struct vhost_user_inflight_desc){
		.mmap_size = m.inflight.mmap_size,
		.mmap_offset = m.inflight.mmap_offset,
		.num_queues = (uint16_t)nqueues,
		.queue_size = queue_size,
	};
	return 0;
}

int vhost_user_inflight_set(const struct vhost_user_inflight *f, struct vhost_user_conn *c)
{
	struct vhost_user_msg m = {.request = VHOST_USER_SET_INFLIGHT_FD,
				   .size = sizeof(m.inflight),
				   .inflight = f->desc};

	return vhost_user_set(c, &m, &f->fd, 1);
}

/* Read, not mapped: whoever made the file can shorten it at any time. */
bool vhost_user_inflight_position(const struct vhost_user_inflight *f, unsigned index, uint16_t size,
				  uint16_t *next)
{
	struct packed_region r;
	uint64_t at;

	if (f->fd < 0 || index >= f->desc.num_queues)
		return false;
	at = f->desc.mmap_offset + f->desc.mmap_size / f->desc.num_queues * index;
	if (pread(f->fd, &r, sizeof(r), (off_t)at) != (ssize_t)sizeof(r) || !r.version ||
	    r.old_used_idx >= size)
		return false;
	*next = (uint16_t)(r.old_used_idx | (r.old_used_wrap_counter ? 0x8000 : 0));
	return true;
}
