#include "tests/fake/vdpa_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BIT(n) (1ull << (n))
#define PIECES 64

static struct vdpa_fake *the; /* the one in place */

static void say(struct vdpa_fake *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct vdpa_fake *f, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(f->log + f->log_len, sizeof(f->log) - f->log_len, fmt, ap);
	va_end(ap);
	if (n > 0 && f->log_len + (size_t)n < sizeof(f->log))
		f->log_len += (size_t)n;
}

/* --- the daemon --- */

static void serve(struct vdpa_fake *f, struct vdpa_fake_queue *q)
{
	struct iovec iov[PIECES];
	struct vq_chain c = {.iov = iov, .iov_max = PIECES};
	unsigned room = f->burst ? f->burst : VDPA_FAKE_HELD * 1000;

	q->kicked = false;
	vq_busy(q->vq);
	do {
		if (!q->nheld)
			q->given = vq_position(q->vq);
		while (q->nheld < VDPA_FAKE_HELD && room && vq_pop(q->vq, &c) > 0) {
			room--;
			if (f->hold) {
				q->held[q->nheld++] = c.head;
				continue;
			}
			vq_push(q->vq, c.head, 0);
			q->served++;
		}
		q->kicked = !room;
	} while (room && vq_wait(q->vq));
	vq_flush(q->vq);
	f->mistakes += vq_error(q->vq) != 0;
}

/* As vhost passes it on to a daemon's own eventfd. */
static void pass_kick(struct vdpa_fake *f, struct vdpa_fake_queue *q)
{
	eventfd_t n;

	if (q->vq && !f->dead && q->kick >= 0 && !eventfd_read(q->kick, &n))
		q->kicked = true;
}

static void look(struct vdpa_fake *f, struct vdpa_fake_queue *q)
{
	pass_kick(f, q);
	if (f->suspended || !q->vq)
		q->kicked = false;
	else if (q->kicked && !f->dead)
		serve(f, q);
}

static void *device(void *arg)
{
	struct vdpa_fake *f = arg;
	eventfd_t n;

	for (;;) {
		struct pollfd p[1 + VDPA_FAKE_QUEUES];
		bool kicked = false;

		pthread_mutex_lock(&f->lock);
		if (f->quit) {
			pthread_mutex_unlock(&f->lock);
			return NULL;
		}
		p[0] = (struct pollfd){.fd = f->wake, .events = POLLIN};
		/* What is kicked before DRIVER_OK, or while the daemon is away, is kept for later. */
		for (unsigned i = 0; i < VDPA_FAKE_QUEUES; i++)
			p[1 + i] = (struct pollfd){.fd = f->queue[i].vq && !f->dead ? f->queue[i].kick : -1,
						   .events = POLLIN};
		for (unsigned i = 0; i < VDPA_FAKE_QUEUES; i++)
			kicked |= f->queue[i].kicked && !f->dead;
		pthread_mutex_unlock(&f->lock);
		poll(p, 1 + VDPA_FAKE_QUEUES, kicked ? 0 : -1);
		if (p[0].revents)
			eventfd_read(f->wake, &n);
		if (f->nap_us)
			usleep(f->nap_us);
		pthread_mutex_lock(&f->lock);
		for (unsigned i = 0; i < VDPA_FAKE_QUEUES; i++)
			look(f, &f->queue[i]);
		pthread_mutex_unlock(&f->lock);
	}
}

static int start_queue(struct vdpa_fake *f, unsigned index)
{
	struct vdpa_fake_queue *q = &f->queue[index];
	struct datapath_queue dq = {.index = index,
				    .size = (uint16_t)q->num,
				    .desc = q->desc,
				    .avail = q->avail,
				    .used = q->used,
				    .next = (uint16_t)q->base,
				    .call_fd = q->call,
				    .stats = &q->stats};
	int rc = vq_new(&q->vq, &dq, &f->mem, f->driver_features);

	if (rc)
		q->vq = NULL;
	else
		f->mistakes += vq_error(q->vq) != 0;
	return rc;
}

static void reset(struct vdpa_fake *f)
{
	for (unsigned i = 0; i < VDPA_FAKE_QUEUES; i++) {
		struct vdpa_fake_queue *q = &f->queue[i];

		if (!f->dead)
			f->lost += q->nheld;
		if (q->vq)
			vq_free(q->vq);
		q->vq = NULL;
		q->enabled = q->kicked = false;
		q->num = q->base = q->nheld = 0;
		q->desc = q->avail = q->used = 0;
	}
	f->status = 0;
	f->driver_features = 0;
	f->suspended = false;
	f->resets++;
}

/* --- ioctls: 0 or -errno --- */

static int replace(int *copy, int fd)
{
	if (*copy >= 0)
		close(*copy);
	*copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd >= 0 && *copy < 0 ? -EBADF : 0;
}

static int set_status(struct vdpa_fake *f, uint8_t status)
{
	const uint8_t rising = status & (uint8_t)~f->status;

	say(f, "SET_STATUS %#x\n", status);
	if (!status) {
		for (unsigned i = 0; f->late_reset && i < f->nqueues; i++)
			if (f->queue[i].vq)
				serve(f, &f->queue[i]);
		reset(f);
		return f->dead ? -EIO : 0;
	}
	if (f->status & (uint8_t)~status)
		return -EINVAL;
	if (f->dead) /* VDUSE does not say */
		return 0;
	if ((rising & VIRTIO_CONFIG_S_FEATURES_OK) && (f->features & BIT(VIRTIO_F_ACCESS_PLATFORM)) &&
	    !(f->driver_features & BIT(VIRTIO_F_ACCESS_PLATFORM)))
		return 0;
	if (rising & f->refuses)
		return 0;
	if (rising & VIRTIO_CONFIG_S_DRIVER_OK) {
		f->mistakes += !(f->status & VIRTIO_CONFIG_S_FEATURES_OK) || f->in_batch;
		for (unsigned i = 0; i < f->nqueues; i++)
			if (f->queue[i].enabled && start_queue(f, i))
				return 0; /* nor this */
	}
	f->status = status;
	eventfd_write(f->wake, 1);
	return 0;
}

static int set_features(struct vdpa_fake *f, uint64_t features)
{
	say(f, "SET_FEATURES %#llx\n", (unsigned long long)features);
	if (f->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return -EBUSY;
	if (features & ~f->features)
		return -EINVAL;
	f->driver_features = features;
	return 0;
}

static int get_base(struct vdpa_fake *f, struct vhost_vring_state *s)
{
	struct vdpa_fake_queue *q = &f->queue[s->index];
	uint16_t taken, given;

	say(f, "GET_VRING_BASE %u\n", s->index);
	if (f->base_errno || f->dead)
		return f->dead ? -EIO : -f->base_errno;
	taken = q->vq ? vq_position(q->vq) : 0;
	given = q->nheld ? q->given : taken;
	if (f->driver_features & BIT(VIRTIO_F_RING_PACKED))
		s->num = (uint16_t)(taken + f->base_lie) | (unsigned)(uint16_t)(given + f->base_lie) << 16;
	else
		s->num = (uint16_t)(taken + f->base_lie);
	if (f->late_base && q->vq) {
		serve(f, q);
		q->kicked = false;
	}
	return 0;
}

static bool frozen(const struct vdpa_fake *f)
{
	return (f->status & VIRTIO_CONFIG_S_DRIVER_OK) && !f->suspended;
}

static int vring(struct vdpa_fake *f, unsigned long request, void *arg)
{
	const unsigned index = *(unsigned *)arg;
	struct vhost_vring_state *s = arg;
	struct vhost_vring_addr *a = arg;
	struct vhost_vring_file *file = arg;
	struct vdpa_fake_queue *q;

	if (index >= f->nqueues)
		return -ENOBUFS;
	q = &f->queue[index];
	switch (request) {
	case VHOST_SET_VRING_NUM:
		say(f, "SET_VRING_NUM %u %u\n", index, s->num);
		if (!s->num || s->num > f->max_size || (s->num & (s->num - 1)))
			return -EINVAL;
		q->num = s->num;
		return 0;
	case VHOST_SET_VRING_BASE:
		say(f, "SET_VRING_BASE %u %#x\n", index, s->num);
		if (frozen(f))
			return -EINVAL;
		if (f->driver_features & BIT(VIRTIO_F_RING_PACKED))
			f->mistakes += (s->num & 0xffff) != s->num >> 16;
		else if (s->num > 0xffff)
			return -EINVAL;
		q->base = s->num & 0xffff;
		return 0;
	case VHOST_GET_VRING_BASE:
		return get_base(f, s);
	case VHOST_SET_VRING_ADDR:
		say(f, "SET_VRING_ADDR %u %#llx %#llx %#llx\n", index, a->desc_user_addr, a->avail_user_addr,
		    a->used_user_addr);
		if (frozen(f) || a->flags || (a->avail_user_addr & 1) || (a->used_user_addr & 3))
			return -EINVAL;
		q->desc = a->desc_user_addr;
		q->avail = a->avail_user_addr;
		q->used = a->used_user_addr;
		return 0;
	case VHOST_SET_VRING_KICK:
		say(f, "SET_VRING_KICK %u%s\n", index, file->fd < 0 ? " -" : "");
		if (file->fd < 0) /* what was kicked is delivered first */
			pass_kick(f, q);
		eventfd_write(f->wake, 1);
		return replace(&q->kick, file->fd);
	case VHOST_SET_VRING_CALL:
		say(f, "SET_VRING_CALL %u%s\n", index, file->fd < 0 ? " -" : "");
		f->mistakes += q->vq != NULL;
		return replace(&q->call, file->fd);
	case VHOST_VDPA_SET_VRING_ENABLE:
		say(f, "SET_VRING_ENABLE %u %u\n", index, s->num);
		f->mistakes += (f->status & VIRTIO_CONFIG_S_DRIVER_OK) != 0;
		q->enabled = s->num;
		return 0;
	}
	return -ENOTTY;
}

static int config(struct vdpa_fake *f, unsigned long request, struct vhost_vdpa_config *c)
{
	say(f, "%s %u %u\n", request == VHOST_VDPA_GET_CONFIG ? "GET_CONFIG" : "SET_CONFIG", c->off, c->len);
	if (!c->len || c->off > f->config_len || c->len > f->config_len - c->off)
		return -EINVAL;
	if (request == VHOST_VDPA_GET_CONFIG)
		memcpy(c->buf, f->config + c->off, c->len);
	else
		memcpy(f->config + c->off, c->buf, c->len);
	return 0;
}

static int device_ioctl(struct vdpa_fake *f, unsigned long request, void *arg)
{
	struct vhost_vdpa_iova_range *range = arg;

	switch (request) {
	case VHOST_SET_OWNER:
		say(f, "SET_OWNER\n");
		if (f->owned)
			return -EBUSY;
		f->owned = true;
		return 0;
	case VHOST_GET_BACKEND_FEATURES:
		say(f, "GET_BACKEND_FEATURES\n");
		*(uint64_t *)arg = f->backend;
		return 0;
	case VHOST_SET_BACKEND_FEATURES:
		say(f, "SET_BACKEND_FEATURES %#llx\n", (unsigned long long)*(uint64_t *)arg);
		if (*(uint64_t *)arg & ~f->backend)
			return -EOPNOTSUPP;
		f->backend_set = *(uint64_t *)arg;
		return 0;
	case VHOST_GET_FEATURES:
		say(f, "GET_FEATURES\n");
		*(uint64_t *)arg = f->features;
		return 0;
	case VHOST_SET_FEATURES:
		return set_features(f, *(uint64_t *)arg);
	case VHOST_VDPA_GET_DEVICE_ID:
		say(f, "GET_DEVICE_ID\n");
		*(uint32_t *)arg = f->device_id;
		return 0;
	case VHOST_VDPA_GET_STATUS:
		say(f, "GET_STATUS\n");
		*(uint8_t *)arg = f->status;
		return 0;
	case VHOST_VDPA_SET_STATUS:
		return set_status(f, *(uint8_t *)arg);
	case VHOST_VDPA_GET_VRING_NUM:
		say(f, "GET_VRING_NUM\n");
		*(uint16_t *)arg = f->max_size;
		return 0;
	case VHOST_VDPA_GET_VQS_COUNT:
		say(f, "GET_VQS_COUNT\n");
		*(uint32_t *)arg = f->nqueues;
		return f->old_kernel ? -ENOTTY : 0;
	case VHOST_VDPA_GET_CONFIG_SIZE:
		say(f, "GET_CONFIG_SIZE\n");
		*(uint32_t *)arg = f->config_len;
		return f->old_kernel ? -ENOTTY : 0;
	case VHOST_VDPA_GET_IOVA_RANGE:
		say(f, "GET_IOVA_RANGE\n");
		range->first = f->iova_first;
		range->last = f->iova_last;
		return 0;
	case VHOST_VDPA_GET_CONFIG:
	case VHOST_VDPA_SET_CONFIG:
		return config(f, request, arg);
	case VHOST_VDPA_SET_CONFIG_CALL:
		say(f, "SET_CONFIG_CALL%s\n", *(int *)arg < 0 ? " -" : "");
		return replace(&f->config_call, *(int *)arg);
	case VHOST_VDPA_SUSPEND:
		say(f, "SUSPEND\n");
		if (!(f->backend & BIT(VHOST_BACKEND_F_SUSPEND)))
			return -EOPNOTSUPP;
		f->suspended = true;
		f->suspends++;
		return 0;
	}
	return vring(f, request, arg);
}

/* --- memory --- */

static int update(struct vdpa_fake *f, const struct vhost_iotlb_msg *m)
{
	struct guest_mem *mem = &f->mem;

	say(f, "IOTLB_UPDATE %#llx %#llx\n", m->iova, m->size);
	if (!m->size || m->iova < f->iova_first || m->iova + (m->size - 1) > f->iova_last)
		return -EINVAL;
	f->mistakes += m->perm != VHOST_ACCESS_RW;
	for (unsigned i = 0; i < mem->nregions; i++)
		if (m->iova < mem->region[i].gpa + mem->region[i].size &&
		    mem->region[i].gpa < m->iova + m->size)
			return -EEXIST;
	mem->region[mem->nregions++] = (struct mem_region){.gpa = m->iova,
							   .size = m->size,
							   .hva = (void *)(uintptr_t)m->uaddr,
							   .fd = -1};
	return 0;
}

static int invalidate(struct vdpa_fake *f, const struct vhost_iotlb_msg *m)
{
	struct guest_mem *mem = &f->mem;

	say(f, "IOTLB_INVALIDATE %#llx %#llx\n", m->iova, m->size);
	f->mistakes += (f->status & VIRTIO_CONFIG_S_DRIVER_OK) != 0; /* the daemon may be at it */
	for (unsigned i = 0; i < mem->nregions; i++)
		if (mem->region[i].gpa == m->iova && mem->region[i].size == m->size) {
			mem->region[i] = mem->region[--mem->nregions];
			return 0;
		}
	f->mistakes++;
	return 0;
}

static int message(struct vdpa_fake *f, const struct vhost_msg_v2 *msg)
{
	const struct vhost_iotlb_msg *m = &msg->iotlb;

	if (msg->type != VHOST_IOTLB_MSG_V2)
		return -EINVAL;
	if (!f->owned)
		return -EPERM;
	switch (m->type) {
	case VHOST_IOTLB_BATCH_BEGIN:
		say(f, "IOTLB_BATCH_BEGIN\n");
		f->in_batch = true;
		return 0;
	case VHOST_IOTLB_BATCH_END:
		say(f, "IOTLB_BATCH_END\n");
		f->in_batch = false;
		return 0;
	case VHOST_IOTLB_UPDATE:
		return update(f, m);
	case VHOST_IOTLB_INVALIDATE:
		return invalidate(f, m);
	}
	return -EINVAL;
}

/* --- the calls --- */

static int fails(struct vdpa_fake *f, unsigned long request)
{
	f->calls++;
	if (!f->fail_at || (f->fail_request && f->fail_request != request) || --f->fail_at)
		return 0;
	return f->fail_errno;
}

static int result(int rc)
{
	if (rc < 0)
		errno = -rc;
	return rc < 0 ? -1 : 0;
}

static int fake_open(const char *path, int flags)
{
	int fd = -1, err;

	pthread_mutex_lock(&the->lock);
	say(the, "open %s\n", path);
	err = fails(the, 0);
	if (!err)
		err = the->open_errno;
	the->mistakes += !(flags & O_CLOEXEC);
	if (!err) {
		fd = eventfd(0, EFD_CLOEXEC);
		reset(the);
		the->resets = 0;
		the->owned = false;
	}
	pthread_mutex_unlock(&the->lock);
	errno = err;
	return fd;
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	int rc;

	pthread_mutex_lock(&the->lock);
	rc = fcntl(fd, F_GETFD) < 0 ? EBADF : fails(the, request);
	if (rc) {
		say(the, "(fails)\n");
		if (request == VHOST_VDPA_SET_STATUS && !*(uint8_t *)arg)
			reset(the);
		rc = -rc;
	} else
		rc = device_ioctl(the, request, arg);
	pthread_mutex_unlock(&the->lock);
	return result(rc);
}

static ssize_t fake_write(int fd, const void *buf, size_t len)
{
	int rc;

	pthread_mutex_lock(&the->lock);
	rc = fcntl(fd, F_GETFD) < 0 ? EBADF : fails(the, 0);
	if (rc)
		say(the, "(fails)\n");
	rc = rc ? -rc : len != sizeof(struct vhost_msg_v2) ? -EINVAL : message(the, buf);
	pthread_mutex_unlock(&the->lock);
	return result(rc) ? -1 : (ssize_t)len;
}

const struct vhost_vdpa_sys vdpa_fake_sys = {.open = fake_open, .ioctl = fake_ioctl, .write = fake_write};

/* --- for the test --- */

void vdpa_fake_init(struct vdpa_fake *f)
{
	*f = (struct vdpa_fake){
		.device_id = VIRTIO_ID_BLOCK,
		.nqueues = 2,
		.max_size = 256,
		.config_len = 60,
		.features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) |
			    BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC),
		.backend = BIT(VHOST_BACKEND_F_IOTLB_MSG_V2) | BIT(VHOST_BACKEND_F_IOTLB_BATCH) |
			   BIT(VHOST_BACKEND_F_IOTLB_ASID),
		.iova_last = UINT64_MAX,
		.fail_errno = EINVAL,
		.config_call = -1,
	};
	for (unsigned i = 0; i < sizeof(f->config); i++)
		f->config[i] = (uint8_t)(i + 1);
	for (unsigned i = 0; i < VDPA_FAKE_QUEUES; i++)
		f->queue[i].kick = f->queue[i].call = -1;
	f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&f->lock, NULL);
	the = f;
	pthread_create(&f->thread, NULL, device, f);
}

void vdpa_fake_fini(struct vdpa_fake *f)
{
	pthread_mutex_lock(&f->lock);
	f->quit = true;
	pthread_mutex_unlock(&f->lock);
	eventfd_write(f->wake, 1);
	pthread_join(f->thread, NULL);
	reset(f);
	for (unsigned i = 0; i < VDPA_FAKE_QUEUES; i++) {
		replace(&f->queue[i].kick, -1);
		replace(&f->queue[i].call, -1);
	}
	replace(&f->config_call, -1);
	close(f->wake);
	pthread_mutex_destroy(&f->lock);
	the = NULL;
}

const char *vdpa_fake_log(struct vdpa_fake *f)
{
	static char copy[sizeof(f->log)];

	pthread_mutex_lock(&f->lock);
	memcpy(copy, f->log, f->log_len);
	copy[f->log_len] = '\0';
	f->log_len = 0;
	pthread_mutex_unlock(&f->lock);
	return copy;
}

void vdpa_fake_release(struct vdpa_fake *f)
{
	pthread_mutex_lock(&f->lock);
	f->hold = false;
	for (unsigned i = 0; i < f->nqueues; i++) {
		struct vdpa_fake_queue *q = &f->queue[i];

		if (!q->vq)
			continue;
		for (unsigned k = 0; k < q->nheld; k++)
			vq_push(q->vq, q->held[k], 0);
		q->served += q->nheld;
		q->nheld = 0;
		vq_flush(q->vq);
	}
	pthread_mutex_unlock(&f->lock);
}

static bool idle(struct vdpa_fake *f)
{
	bool busy = false;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->nqueues; i++) {
		struct pollfd p = {.fd = f->queue[i].kick, .events = POLLIN};

		busy |= f->queue[i].kicked || poll(&p, 1, 0) > 0;
	}
	pthread_mutex_unlock(&f->lock);
	return !busy;
}

void vdpa_fake_wait_idle(struct vdpa_fake *f)
{
	while (!idle(f))
		usleep(100);
}

unsigned vdpa_fake_nheld(struct vdpa_fake *f, unsigned queue)
{
	unsigned n;

	pthread_mutex_lock(&f->lock);
	n = f->queue[queue].nheld;
	pthread_mutex_unlock(&f->lock);
	return n;
}

void vdpa_fake_config_irq(struct vdpa_fake *f, uint8_t status)
{
	pthread_mutex_lock(&f->lock);
	f->status |= status;
	if (f->config_call >= 0)
		eventfd_write(f->config_call, 1);
	pthread_mutex_unlock(&f->lock);
}

const char *vdpa_fake_is_free(struct vdpa_fake *f)
{
	const char *what = NULL;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < VDPA_FAKE_QUEUES; i++)
		what = f->queue[i].kick >= 0 ? "a kick" : f->queue[i].call >= 0 ? "a call" : what;
	if (f->config_call >= 0)
		what = "the configuration's eventfd";
	if (f->mem.nregions)
		what = "memory";
	if (f->in_batch)
		what = "a batch";
	if (f->status)
		what = "a status";
	pthread_mutex_unlock(&f->lock);
	return what;
}
