#include "tests/fake/vhost_kernel_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backends/vhost_kernel.h"

#define BIT(n)      (1ull << (n))
#define RING_BITS   (BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1))
#define OLD_BITS    (BIT(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT(VHOST_F_LOG_ALL) | BIT(VIRTIO_F_ANY_LAYOUT))
#define PIECES      64
#define MRG_RXBUF   15 /* VIRTIO_NET_F_MRG_RXBUF */
#define SEQPACKET   1
#define HOTPLUG     1
#define T10_PI      3
#define QUIT_MARKER UINT64_MAX

static struct vhost_fake *the; /* the one in place */

static void say(struct vhost_fake *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct vhost_fake *f, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(f->log + f->log_len, sizeof(f->log) - f->log_len, fmt, ap);
	va_end(ap);
	if (n > 0 && f->log_len + (size_t)n < sizeof(f->log))
		f->log_len += (size_t)n;
}

/* --- rings --- */

static bool to_gpa(const struct vhost_fake_file *file, uintptr_t addr, gpa_t *gpa)
{
	return guest_mem_gpa(&file->mem, (const void *)addr, gpa);
}

static void serve(struct vhost_fake_vring *r)
{
	struct iovec iov[PIECES];
	struct vq_chain c = {.iov = iov, .iov_max = PIECES};

	if (!r->on || !r->vq)
		return;
	vq_busy(r->vq);
	do {
		while (vq_pop(r->vq, &c) > 0) {
			vq_push(r->vq, c.head, 0);
			r->served++;
		}
	} while (vq_wait(r->vq));
}

static int switch_on(struct vhost_fake_file *file, struct vhost_fake_vring *r)
{
	struct datapath_queue q = {.size = (uint16_t)r->num,
				   .next = (uint16_t)r->base,
				   .call_fd = r->call,
				   .stats = &r->stats};

	if (!r->desc || !r->avail || !r->used)
		return -EFAULT;
	*(volatile uint16_t *)r->used = 0; /* as vhost_vq_init_access(): it must be there */
	r->on = true;
	if (!to_gpa(file, r->desc, &q.desc))
		return 0;
	if (!to_gpa(file, r->avail, &q.avail) || !to_gpa(file, r->used, &q.used) ||
	    vq_new(&r->vq, &q, &file->mem, file->features)) {
		r->vq = NULL;
		r->on = false;
		return -EFAULT;
	}
	return 0;
}

static void switch_off(struct vhost_fake_vring *r)
{
	if (r->vq) {
		vq_flush(r->vq);
		r->base = vq_position(r->vq);
		vq_free(r->vq);
	}
	r->vq = NULL;
	r->on = false;
}

static void *worker(void *arg)
{
	struct vhost_fake *f = arg;
	struct epoll_event ev;

	for (;;) {
		if (epoll_wait(f->epoll, &ev, 1, -1) != 1)
			continue;
		if (ev.data.u64 == QUIT_MARKER)
			return NULL;
		/* The count stays: nobody reads a kick. */
		pthread_mutex_lock(&f->lock);
		serve(&f->file[ev.data.u64 >> 32].vring[(uint32_t)ev.data.u64]);
		pthread_mutex_unlock(&f->lock);
	}
}

/* --- requests --- */

static int copy_fd(int *slot, int fd)
{
	int copy = fd == -1 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (fd != -1 && copy < 0)
		return -EBADF;
	if (*slot >= 0)
		close(*slot);
	*slot = copy;
	return 0;
}

static int set_kick(struct vhost_fake *f, unsigned file, unsigned vring, int fd)
{
	struct vhost_fake_vring *r = &f->file[file].vring[vring];
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = (uint64_t)file << 32 | vring};
	int rc;

	if (r->kick >= 0)
		epoll_ctl(f->epoll, EPOLL_CTL_DEL, r->kick, NULL);
	rc = copy_fd(&r->kick, fd);
	if (!rc && r->kick >= 0)
		epoll_ctl(f->epoll, EPOLL_CTL_ADD, r->kick, &ev);
	return rc;
}

static int set_memory(struct vhost_fake *f, struct vhost_fake_file *file, const struct vhost_memory *m)
{
	file->mem = (struct guest_mem){.nregions = m->nregions, .fd = -1};
	for (unsigned i = 0; i < m->nregions; i++) {
		file->mem.region[i] = (struct mem_region){
			.gpa = m->regions[i].guest_phys_addr,
			.size = m->regions[i].memory_size,
			.hva = (void *)(uintptr_t)m->regions[i].userspace_addr,
			.fd = -1,
		};
		say(f, " %#llx+%#llx", (unsigned long long)file->mem.region[i].gpa,
		    (unsigned long long)file->mem.region[i].size);
	}
	file->has_memory = true;
	return m->padding ? -EOPNOTSUPP : 0;
}

static int set_addr(struct vhost_fake *f, struct vhost_fake_file *file, const struct vhost_vring_addr *a)
{
	struct vhost_fake_vring *r = &file->vring[a->index];
	gpa_t desc, avail, used;

	if (to_gpa(file, (uintptr_t)a->desc_user_addr, &desc) &&
	    to_gpa(file, (uintptr_t)a->avail_user_addr, &avail) &&
	    to_gpa(file, (uintptr_t)a->used_user_addr, &used))
		say(f, " %u %#llx %#llx %#llx", a->index, (unsigned long long)desc, (unsigned long long)avail,
		    (unsigned long long)used);
	else
		say(f, " %u idle", a->index);
	if (a->flags)
		return -EOPNOTSUPP;
	if (a->avail_user_addr % 2 || a->used_user_addr % 4)
		return -EINVAL;
	r->desc = (uintptr_t)a->desc_user_addr;
	r->avail = (uintptr_t)a->avail_user_addr;
	r->used = (uintptr_t)a->used_user_addr;
	return 0;
}

static int set_state(struct vhost_fake_vring *r, unsigned long request, unsigned num)
{
	if (r->on && request != VHOST_SET_VRING_BUSYLOOP_TIMEOUT)
		return -EBUSY;
	if (request == VHOST_SET_VRING_NUM) {
		if (!num || num > 0xffff || (num & (num - 1)))
			return -EINVAL;
		r->num = num;
	} else if (request == VHOST_SET_VRING_BASE) {
		if (num > 0xffff)
			return -EINVAL;
		r->base = num;
	} else {
		r->busy_poll = num;
	}
	return 0;
}

static int set_backend(struct vhost_fake_file *file, const struct vhost_vring_file *b)
{
	struct vhost_fake_vring *r = &file->vring[b->index];

	if (b->index > 1)
		return -ENOBUFS;
	if (!file->has_memory)
		return -EFAULT;
	if (b->fd != -1 && fcntl(b->fd, F_GETFD) < 0)
		return -EBADF;
	switch_off(r);
	return b->fd == -1 ? 0 : switch_on(file, r);
}

static int set_running(struct vhost_fake *f, struct vhost_fake_file *file, bool on, bool strict)
{
	int rc = 0;

	if (!file->has_memory)
		return -EFAULT;
	for (unsigned i = 0; i < f->nvrings; i++)
		if (!on)
			switch_off(&file->vring[i]);
		else if (!file->vring[i].on && !rc && (strict || file->vring[i].desc))
			rc = switch_on(file, &file->vring[i]);
	for (unsigned i = 0; i < f->nvrings && rc; i++)
		switch_off(&file->vring[i]);
	return rc;
}

static int set_endpoint(struct vhost_fake *f, struct vhost_fake_file *file, const struct vhost_scsi_target *t,
			bool on)
{
	say(f, " %s %u", t->vhost_wwpn, t->vhost_tpgt);
	if (t->reserved)
		return -EOPNOTSUPP;
	if (strcmp(t->vhost_wwpn, f->wwpn))
		return on ? -EEXIST : -EINVAL;
	return set_running(f, file, on, false);
}

/* Each is named and its arguments are written down, whether it goes well or not. */
static int request(struct vhost_fake *f, unsigned n, unsigned long req, void *arg)
{
	struct vhost_fake_file *file = &f->file[n];
	struct vhost_vring_state *s = arg;
	struct vhost_vring_file *b = arg;
	uint64_t *bits = arg;

#define NAME(name) say(f, "%u %s", n, #name)
	switch (req) {
	case VHOST_GET_FEATURES:
		NAME(GET_FEATURES);
		*bits = f->features;
		return 0;
	case VHOST_SET_OWNER:
		NAME(SET_OWNER);
		if (file->owned)
			return -EBUSY;
		file->owned = true;
		return 0;
	case VHOST_SCSI_GET_ABI_VERSION:
		NAME(SCSI_GET_ABI_VERSION);
		*(int *)arg = f->abi_version;
		return 0;
	case VHOST_VSOCK_SET_GUEST_CID:
		NAME(VSOCK_SET_GUEST_CID);
		say(f, " %llu", (unsigned long long)*bits);
		f->cid = *bits;
		return 0;
	}
	if (!file->owned)
		return -EPERM;
	switch (req) {
	case VHOST_SET_FEATURES:
		NAME(SET_FEATURES);
		say(f, " %#llx", (unsigned long long)*bits);
		if (*bits & ~f->features)
			return -EOPNOTSUPP;
		file->features = *bits;
		return 0;
	case VHOST_SET_MEM_TABLE:
		NAME(SET_MEM_TABLE);
		return set_memory(f, file, arg);
	case VHOST_NET_SET_BACKEND:
		NAME(NET_SET_BACKEND);
		say(f, " %u %d", b->index, b->fd);
		return set_backend(file, b);
	case VHOST_VSOCK_SET_RUNNING:
		NAME(VSOCK_SET_RUNNING);
		say(f, " %d", *(int *)arg);
		return set_running(f, file, *(int *)arg, true);
	case VHOST_SCSI_SET_ENDPOINT:
		NAME(SCSI_SET_ENDPOINT);
		return set_endpoint(f, file, arg, true);
	case VHOST_SCSI_CLEAR_ENDPOINT:
		NAME(SCSI_CLEAR_ENDPOINT);
		return set_endpoint(f, file, arg, false);
	}
	if (s->index >= f->nvrings)
		return -ENOBUFS;
	switch (req) {
	case VHOST_SET_VRING_NUM:
		NAME(SET_VRING_NUM);
		break;
	case VHOST_SET_VRING_BASE:
		NAME(SET_VRING_BASE);
		break;
	case VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
		NAME(SET_VRING_BUSYLOOP_TIMEOUT);
		break;
	case VHOST_SET_VRING_ADDR:
		NAME(SET_VRING_ADDR);
		return set_addr(f, file, arg);
	case VHOST_GET_VRING_BASE:
		NAME(GET_VRING_BASE);
		say(f, " %u", s->index);
		s->num = file->vring[s->index].base;
		if (file->vring[s->index].on)
			f->mistakes++; /* it may change */
		return 0;
	case VHOST_SET_VRING_KICK:
		NAME(SET_VRING_KICK);
		say(f, " %u %d", b->index, b->fd);
		return set_kick(f, n, b->index, b->fd);
	case VHOST_SET_VRING_CALL:
		NAME(SET_VRING_CALL);
		say(f, " %u %d", b->index, b->fd);
		return copy_fd(&file->vring[b->index].call, b->fd);
	case VHOST_SET_VRING_ERR:
		NAME(SET_VRING_ERR);
		say(f, " %u %s", b->index, b->fd == -1 ? "-1" : "fd");
		return copy_fd(&file->vring[b->index].err, b->fd);
	default:
		f->mistakes++;
		return -ENOTTY;
	}
	say(f, " %u %u", s->index, s->num);
	return set_state(&file->vring[s->index], req, s->num);
}

static bool fails(struct vhost_fake *f, unsigned long req)
{
	if (!f->fail_times || req != f->fail)
		return false;
	if (f->fail_after) {
		f->fail_after--;
		return false;
	}
	f->fail_times--;
	return true;
}

static int fake_ioctl(int fd, unsigned long req, ...)
{
	struct vhost_fake *f = the;
	va_list ap;
	void *arg;
	int rc = -EBADF;

	va_start(ap, req);
	arg = va_arg(ap, void *);
	va_end(ap);
	pthread_mutex_lock(&f->lock);
	f->calls++;
	for (unsigned n = f->nfiles; n--;) {
		if (f->file[n].fd != fd)
			continue;
		rc = fails(f, req) ? -f->fail_errno : request(f, n, req, arg);
		if (rc)
			say(f, " = %d", rc);
		say(f, "\n");
		break;
	}
	pthread_mutex_unlock(&f->lock);
	if (!rc)
		return 0;
	errno = -rc;
	return -1;
}

static int fake_open(const char *path, int flags, ...)
{
	struct vhost_fake *f = the;
	struct vhost_fake_file *file;

	snprintf(f->path, sizeof(f->path), "%s", path);
	if (f->open_errno) {
		errno = f->open_errno;
		return -1;
	}
	if (!(flags & O_CLOEXEC) || (flags & O_ACCMODE) != O_RDWR || f->nfiles == VHOST_FAKE_FILES) {
		f->mistakes++;
		errno = EINVAL;
		return -1;
	}
	file = &f->file[f->nfiles];
	*file = (struct vhost_fake_file){.fd = eventfd(0, EFD_CLOEXEC)};
	for (unsigned i = 0; i < VHOST_FAKE_VRINGS; i++)
		file->vring[i] = (struct vhost_fake_vring){.num = 1, .kick = -1, .call = -1, .err = -1};
	f->nfiles++;
	return file->fd;
}

/* --- life --- */

void vhost_fake_init(struct vhost_fake *f, enum vhost_fake_kind kind)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = QUIT_MARKER};

	memset(f, 0, sizeof(*f));
	f->kind = kind;
	f->features = RING_BITS | OLD_BITS | BIT(VIRTIO_F_ACCESS_PLATFORM);
	f->abi_version = VHOST_SCSI_ABI_VERSION;
	f->fail_errno = EIO;
	switch (kind) {
	case VHOST_FAKE_NET:
		f->nvrings = 2;
		f->features |= BIT(MRG_RXBUF) | BIT(VIRTIO_F_IN_ORDER) | BIT(VIRTIO_F_RING_RESET);
		break;
	case VHOST_FAKE_VSOCK:
		f->nvrings = 2;
		f->features |= BIT(SEQPACKET);
		break;
	case VHOST_FAKE_SCSI:
		f->nvrings = VHOST_FAKE_VRINGS;
		f->features |= BIT(HOTPLUG) | BIT(T10_PI);
		break;
	}
	pthread_mutex_init(&f->lock, NULL);
	f->epoll = epoll_create1(EPOLL_CLOEXEC);
	f->quit = eventfd(0, EFD_CLOEXEC);
	epoll_ctl(f->epoll, EPOLL_CTL_ADD, f->quit, &ev);
	the = f;
	vhost_kernel_sys = (struct vhost_kernel_sys){.open = fake_open, .ioctl = fake_ioctl};
	if (pthread_create(&f->thread, NULL, worker, f))
		abort();
}

void vhost_fake_fini(struct vhost_fake *f)
{
	eventfd_write(f->quit, 1);
	pthread_join(f->thread, NULL);
	for (unsigned n = 0; n < f->nfiles; n++)
		for (unsigned i = 0; i < VHOST_FAKE_VRINGS; i++) {
			struct vhost_fake_vring *r = &f->file[n].vring[i];

			switch_off(r);
			copy_fd(&r->kick, -1);
			copy_fd(&r->call, -1);
			copy_fd(&r->err, -1);
		}
	close(f->epoll);
	close(f->quit);
	pthread_mutex_destroy(&f->lock);
	vhost_kernel_sys = (struct vhost_kernel_sys){.open = open, .ioctl = ioctl};
	the = NULL;
}

const char *vhost_fake_log(struct vhost_fake *f)
{
	static char text[sizeof(f->log)];

	pthread_mutex_lock(&f->lock);
	memcpy(text, f->log, f->log_len);
	text[f->log_len] = '\0';
	f->log_len = 0;
	pthread_mutex_unlock(&f->lock);
	return text;
}

void vhost_fake_error(struct vhost_fake *f, unsigned file, unsigned vring)
{
	eventfd_write(f->file[file].vring[vring].err, 1);
}
