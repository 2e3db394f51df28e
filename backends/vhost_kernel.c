/* #syscalls[setup]: openat
 * #syscalls[vcpu,data]: eventfd2 epoll_ctl
 * #ioctls[vcpu,data]: VHOST_GET_FEATURES VHOST_SET_FEATURES VHOST_SET_OWNER VHOST_SET_MEM_TABLE
 * VHOST_SET_VRING_NUM #ioctls[vcpu,data]: VHOST_SET_VRING_BASE VHOST_GET_VRING_BASE VHOST_SET_VRING_ADDR
 * VHOST_SET_VRING_KICK #ioctls[vcpu,data]: VHOST_SET_VRING_CALL VHOST_SET_VRING_ERR
 *
 * Theory of operation.  Features and memory are told when the first vring of a file starts, then each vring's
 * size, position, addresses and eventfds, and last it is switched on.  A stop switches off first: from then
 * on the kernel's thread does not touch the ring, so the position that it gives is final.
 *
 * Where one switch is for all vrings (vsock, scsi), a vring that the driver does not use must not keep the
 * addresses it had before, and some drivers refuse to run with a vring that has none: it gets an empty ring
 * of ours.  The kernel looks at a kick once and forgets it, so what was kicked while the switch was off is
 * kicked again. */
#include "backends/vhost_kernel.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backends/vhost_trace.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#define BIT(n) (UINT64_C(1) << (n))

/* Old and new drivers of vhost say these of themselves: interfaces before virtio 1.0, a log of writes, a
 * header made by vhost (the bit is ANY_LAYOUT's), and translation through an IOTLB.
 * IN_ORDER: with it the driver takes a vring's base for the index of the next descriptor, which it is only
 * while each chain has one descriptor, so a ring could not go on elsewhere where it was stopped. */
#define NEVER                                                                                                  \
	(BIT(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT(VHOST_F_LOG_ALL) | BIT(VHOST_NET_F_VIRTIO_NET_HDR) |              \
	 BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_F_IN_ORDER))

struct vhost_kernel_sys vhost_kernel_sys = {.open = open, .ioctl = ioctl};

/* --- calls --- */

int vhost_kernel_ioctl(struct vhost_kernel *vk, unsigned long request, void *arg)
{
	int rc = vhost_kernel_sys.ioctl(vk->fd, request, arg) < 0 ? -errno : 0;

	vhost_trace(vk->name, "vhost", request, arg, rc);
	if (rc && !vk->refused)
		vk->refused = vhost_request_name(request);
	return rc;
}

static int set_state(struct vhost_kernel *vk, unsigned long request, unsigned vring, unsigned num)
{
	struct vhost_vring_state s = {.index = vring, .num = num};

	return vhost_kernel_ioctl(vk, request, &s);
}

static int set_fd(struct vhost_kernel *vk, unsigned long request, unsigned vring, int fd)
{
	struct vhost_vring_file f = {.index = vring, .fd = fd};

	return vhost_kernel_ioctl(vk, request, &f);
}

static int set_addr(struct vhost_kernel *vk, unsigned vring, const void *desc, const void *avail,
		    const void *used)
{
	struct vhost_vring_addr a = {
		.index = vring,
		.desc_user_addr = (uintptr_t)desc,
		.avail_user_addr = (uintptr_t)avail,
		.used_user_addr = (uintptr_t)used,
	};

	return vhost_kernel_ioctl(vk, VHOST_SET_VRING_ADDR, &a);
}

/* --- opening --- */

static int explain_open(const struct vhost_kernel *vk, int rc, struct err *e)
{
	switch (rc) {
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
		return err_set(e, rc,
			       "%s: this host has no %s (%s)\n"
			       "Run: sudo modprobe %s.  In a container: --device %s",
			       vk->option, vk->path, strerror(-rc), vk->module, vk->path);
	case -EACCES:
	case -EPERM:
		return err_set(e, rc,
			       "%s: %s may not be opened: %s\n"
			       "Run: sudo chmod 0666 %s; or join its group (ls -l %s)",
			       vk->option, vk->path, strerror(-rc), vk->path, vk->path);
	}
	return err_set(e, rc, "%s: %s: %s", vk->option, vk->path, strerror(-rc));
}

static int become_owner(struct vhost_kernel *vk, struct err *e)
{
	int rc = vhost_kernel_ioctl(vk, VHOST_SET_OWNER, NULL);

	if (!rc)
		rc = vhost_kernel_ioctl(vk, VHOST_GET_FEATURES, &vk->features);
	if (rc == -ENOTTY)
		return err_set(e, rc, "%s: %s is no device of vhost; it should be that of the module %s",
			       vk->option, vk->path, vk->module);
	if (rc)
		return err_set(e, rc, "%s: %s does not start: %s", vk->option, vk->path, strerror(-rc));
	vk->features &= ~NEVER;
	return 0;
}

/* Once a start: the first error is all that counts. */
static void on_err(struct ev_watch *w, uint32_t events)
{
	struct vhost_kernel *vk = container_of(w, struct vhost_kernel, err);

	(void)events;
	evloop_del(vk->loop, &vk->err);
	vk->watched = false;
	if (vk->dp->events)
		vk->dp->events->failed(vk->dp->opaque, -EILSEQ);
}

int vhost_kernel_open(struct vhost_kernel *vk, struct err *e)
{
	int rc;

	assert(vk->nvrings <= VHOST_KERNEL_MAX_VRINGS);
	vk->running = 0;
	vk->watched = false;
	memset(&vk->idle, 0, sizeof(vk->idle));
	vk->fd = vk->given_fd ? *vk->given_fd : vhost_kernel_sys.open(vk->path, O_RDWR | O_CLOEXEC);
	vhost_trace_open(vk->name, "vhost", vk->path, vk->fd < 0 ? -errno : 0);
	if (vk->fd < 0)
		return explain_open(vk, -errno, e);
	rc = become_owner(vk, e);
	if (rc)
		goto fail;
	vk->err = (struct ev_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_err};
	if (vk->err.fd < 0) {
		rc = err_set(e, -errno, "%s: no descriptors: %s (ulimit -n)", vk->option, strerror(errno));
		goto fail;
	}
	return 0;
fail:
	close(vk->fd);
	return rc;
}

void vhost_kernel_close(struct vhost_kernel *vk)
{
	close(vk->err.fd);
	if (vk->fd >= 0)
		close(vk->fd);
}

/* --- errors that the kernel finds --- */

static int watch_errors(struct vhost_kernel *vk)
{
	eventfd_t old;
	int rc;

	if (!vk->loop)
		return 0;
	while (!eventfd_read(vk->err.fd, &old)) /* of the life before */
		;
	rc = evloop_add(vk->loop, &vk->err, EPOLLIN);
	vk->watched = !rc;
	return rc;
}

static void unwatch_errors(struct vhost_kernel *vk)
{
	if (vk->watched)
		evloop_del(vk->loop, &vk->err);
	vk->watched = false;
}

/* --- vrings --- */

static int set_memory(struct vhost_kernel *vk, const struct guest_mem *mem)
{
	struct {
		struct vhost_memory m;
		struct vhost_memory_region region[GUEST_MEM_MAX_REGIONS];
	} table = {.m.nregions = mem->nregions};

	for (unsigned i = 0; i < mem->nregions; i++)
		table.region[i] = (struct vhost_memory_region){
			.guest_phys_addr = mem->region[i].gpa,
			.memory_size = mem->region[i].size,
			.userspace_addr = (uintptr_t)mem->region[i].hva,
		};
	return vhost_kernel_ioctl(vk, VHOST_SET_MEM_TABLE, &table.m);
}

static int set_vring(struct vhost_kernel *vk, unsigned vring, const struct datapath_queue *q,
		     const struct guest_mem *mem)
{
	const uint64_t size = q->size;
	/* With the event index, whether it is in use or not. */
	void *desc = guest_mem_ptr(mem, q->desc, size * sizeof(struct vring_desc));
	void *avail = guest_mem_ptr(mem, q->avail, (3 + size) * sizeof(uint16_t));
	void *used = guest_mem_ptr(mem, q->used, 3 * sizeof(uint16_t) + size * sizeof(struct vring_used_elem));
	int rc;

	if (!desc || !avail || !used)
		return -EFAULT;
	rc = set_state(vk, VHOST_SET_VRING_NUM, vring, q->size);
	if (!rc)
		rc = set_state(vk, VHOST_SET_VRING_BASE, vring, q->next);
	if (!rc)
		rc = set_addr(vk, vring, desc, avail, used);
	if (!rc)
		rc = set_fd(vk, VHOST_SET_VRING_KICK, vring, q->kick_fd);
	if (!rc)
		rc = set_fd(vk, VHOST_SET_VRING_CALL, vring, q->call_fd);
	if (!rc)
		rc = set_fd(vk, VHOST_SET_VRING_ERR, vring, vk->err.fd);
	return rc;
}

/* The kernel would hold on to the eventfds for as long as the file is open. */
static void clear_vring(struct vhost_kernel *vk, unsigned vring)
{
	set_fd(vk, VHOST_SET_VRING_KICK, vring, -1);
	set_fd(vk, VHOST_SET_VRING_CALL, vring, -1);
	set_fd(vk, VHOST_SET_VRING_ERR, vring, -1);
}

/* Those of vrings get the empty ring. */
static int idle_vrings(struct vhost_kernel *vk, uint64_t vrings)
{
	int rc = 0;

	for (unsigned i = 0; i < vk->nvrings && !rc; i++) {
		if (!(vrings & BIT(i)))
			continue;
		rc = set_state(vk, VHOST_SET_VRING_NUM, i, 1);
		if (!rc)
			rc = set_state(vk, VHOST_SET_VRING_BASE, i, 0);
		if (!rc)
			rc = set_addr(vk, i, &vk->idle.desc, vk->idle.avail, vk->idle.used);
	}
	return rc;
}

/* By the used index where the kernel does not say: nothing is in flight. */
static uint16_t position(struct vhost_kernel *vk, unsigned vring, const struct datapath_queue *q,
			 const struct guest_mem *mem)
{
	struct vhost_vring_state s = {.index = vring};
	uint16_t used = 0;

	if (!vhost_kernel_ioctl(vk, VHOST_GET_VRING_BASE, &s))
		return (uint16_t)s.num;
	guest_mem_read(mem, q->used + offsetof(struct vring_used, idx), &used, sizeof(used));
	return le16toh(used);
}

/* Nobody here sees what the kernel's thread does; and it needs no system call. */
/* --- start and stop --- */

static bool is_ours(const struct vhost_kernel *vk, const struct datapath_queue *q)
{
	return q->index - vk->first < vk->nvrings; /* those before first are far beyond it */
}

static uint64_t vrings_of(const struct vhost_kernel *vk, const struct datapath_setup *setup)
{
	uint64_t vrings = 0;

	for (unsigned i = 0; i < setup->nqueues; i++)
		if (is_ours(vk, &setup->queue[i]))
			vrings |= BIT(setup->queue[i].index - vk->first);
	return vrings;
}

/* The first vrings of all to start are mine. */
static int begin(struct vhost_kernel *vk, const struct datapath_setup *setup, uint64_t mine)
{
	uint64_t features = setup->features & vk->features;
	int rc = vhost_kernel_ioctl(vk, VHOST_SET_FEATURES, &features);

	if (!rc)
		rc = set_memory(vk, setup->mem);
	if (!rc && vk->whole)
		rc = idle_vrings(vk, ~mine);
	if (!rc)
		rc = watch_errors(vk);
	return rc;
}

static void kick(const struct vhost_kernel *vk, uint64_t vrings)
{
	for (unsigned i = 0; i < vk->nvrings; i++)
		if (vrings & BIT(i))
			eventfd_write(vk->kick_fd[i], 1);
}

/* Others were halted so that vrings could change; these have been given back. */
static void go_on(struct vhost_kernel *vk, uint64_t others, uint64_t vrings)
{
	int rc = idle_vrings(vk, vrings);

	if (!rc)
		rc = vk->run(vk, others, true);
	if (!rc)
		kick(vk, others);
	else if (vk->dp->events)
		vk->dp->events->failed(vk->dp->opaque, rc);
}

int vhost_kernel_start(struct vhost_kernel *vk, const struct datapath_setup *setup)
{
	const uint64_t others = vk->running, mine = vrings_of(vk, setup);
	const char *refused;
	int rc = 0;

	assert(!(others & mine));
	if (!mine)
		return 0;
	vk->refused = NULL;
	if (!others)
		rc = begin(vk, setup, mine);
	else if (vk->whole)
		rc = vk->run(vk, others, false);
	refused = vk->refused;
	if (rc) /* nothing is halted, no vring is set */
		goto fail;
	for (unsigned i = 0; i < setup->nqueues && !rc; i++)
		if (is_ours(vk, &setup->queue[i]))
			rc = set_vring(vk, setup->queue[i].index - vk->first, &setup->queue[i], setup->mem);
	if (!rc)
		rc = vk->run(vk, mine, true);
	if (rc)
		goto fail_vrings;

	vk->running |= mine;
	for (unsigned i = 0; i < setup->nqueues; i++) {
		const struct datapath_queue *q = &setup->queue[i];

		if (!is_ours(vk, q))
			continue;
		vk->kick_fd[q->index - vk->first] = q->kick_fd;
		queue_stats_unseen(q->stats);
	}
	if (vk->whole)
		kick(vk, others);
	return 0;

fail_vrings:
	refused = vk->refused; /* not what is refused while this is undone */
	for (unsigned i = 0; i < vk->nvrings; i++)
		if (mine & BIT(i))
			clear_vring(vk, i);
	if (others && vk->whole)
		go_on(vk, others, mine);
fail:
	if (!others)
		unwatch_errors(vk);
	if (refused)
		log_guest("%s: %s: %s: %s", vk->name, vk->path, refused, strerror(-rc));
	return rc;
}

/* The kernel does not let go of the rings by asking: it does when the file is closed. */
static void cut_off(struct vhost_kernel *vk, int rc)
{
	if (vk->fd < 0)
		return;
	log_error("%s: %s does not stop: %s; it is closed", vk->name, vk->path, strerror(-rc));
	close(vk->fd);
	vk->fd = -1;
}

void vhost_kernel_stop(struct vhost_kernel *vk, const struct datapath_setup *setup)
{
	const uint64_t mine = vrings_of(vk, setup), others = vk->running & ~mine;
	int rc;

	assert((vk->running & mine) == mine);
	if (!mine)
		return;
	rc = vk->run(vk, mine, false);
	if (rc)
		cut_off(vk, rc);
	for (unsigned i = 0; i < setup->nqueues; i++) {
		struct datapath_queue *q = &setup->queue[i];

		if (!is_ours(vk, q))
			continue;
		q->next = position(vk, q->index - vk->first, q, setup->mem);
		clear_vring(vk, q->index - vk->first);
	}
	vk->running = others;
	if (!others)
		unwatch_errors(vk);
	else if (vk->whole)
		go_on(vk, others, mine);
	else if (rc && vk->dp->events)
		vk->dp->events->failed(vk->dp->opaque, rc);
}
