/* The kernel's requests. */
/* #syscalls[server]: read write eventfd2 timerfd_settime close */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/log.h"
#include "servers/vduse_state.h"

#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define MUST        (VDUSE_PLATFORM | SERVER_BIT(VIRTIO_F_VERSION_1))

/* --- memory --- */

static int add_region(struct vduse_server *s, const struct vduse_iotlb_entry *found, int fd)
{
	/* Its own addresses are the driver's: the bus's. */
	const struct vhost_user_mem_region r = {
		.guest_phys_addr = found->start,
		.userspace_addr = found->start,
		.memory_size = found->last - found->start + 1,
		.mmap_offset = found->offset,
	};

	/* What may not be written, a ROM, could not stand being part of a buffer that is. */
	return found->perm == VDUSE_ACCESS_RW ? server_memory_add(&s->core.memory, &r, fd) : 0;
}

static int load_memory(struct vduse_server *s)
{
	struct vduse_iotlb_entry e = {.last = UINT64_MAX};

	server_forget_memory(&s->core);
	for (;;) {
		int rc, fd = vduse_tell(s, VDUSE_IOTLB_GET_FD, &e);

		if (fd == -EINVAL) /* no more */
			return 0;
		if (fd < 0)
			return fd;
		rc = add_region(s, &e, fd);
		close(fd);
		if (rc) {
			log_warn("%s: %s: memory at %#llx to %#llx cannot be used: %s", s->core.c.ops->name,
				 s->core.name, (unsigned long long)e.start, (unsigned long long)e.last,
				 strerror(-rc));
			return rc;
		}
		if (e.last == UINT64_MAX)
			return 0;
		e = (struct vduse_iotlb_entry){.start = e.last + 1, .last = UINT64_MAX};
	}
}

/* Some of it has changed, or all: with maps of its own the kernel says so each time. */
static int update_memory(struct vduse_server *s)
{
	int rc;

	server_queues_stop(&s->core);
	server_forget_memory(&s->core);
	if (!(s->core.status & DRIVER_OK))
		return 0; /* it is looked at then */
	rc = load_memory(s);
	if (!rc)
		server_queues_start(&s->core); /* those that are not in it wait for one that has them */
	return rc;
}

/* --- rings --- */

static int ask_for_kicks(struct vduse_server *s, struct server_vring *v)
{
	struct vduse_vq_eventfd kick = {.index = v->q.index};

	if (s->core.c.polls)
		return 0;
	v->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->kick_fd < 0)
		return -errno;
	kick.fd = v->kick_fd;
	return vduse_tell(s, VDUSE_VQ_SETUP_KICKFD, &kick);
}

static int set_up_queue(struct vduse_server *s, struct server_vring *v)
{
	const unsigned most = s->core.c.max_queue_size ? s->core.c.max_queue_size : 32768;
	struct vduse_vq_info i = {.index = v->q.index};
	int rc = vduse_tell(s, VDUSE_VQ_GET_INFO, &i);

	if (rc || !i.ready)
		return rc;
	if (!i.num || i.num > most)
		return -EINVAL;
	v->size = (uint16_t)i.num;
	v->desc = i.desc_addr;
	v->avail = i.driver_addr;
	v->used = i.device_addr;
	v->next = i.split.avail_index;
	if (s->core.features >> VIRTIO_F_RING_PACKED & 1)
		v->next = (uint16_t)((i.packed.last_avail_idx & 0x7fff) | i.packed.last_avail_counter << 15);
	v->has_addr = v->started = true;
	return ask_for_kicks(s, v);
}

void vduse_reset(struct vduse_server *s)
{
	ev_timer_arm(&s->look, 0);
	for (unsigned i = 0; i < s->core.c.max_queues; i++) {
		struct vduse_vq_eventfd none = {.index = i, .fd = VDUSE_EVENTFD_DEASSIGN};

		if (s->core.vring[i].kick_fd >= 0)
			vduse_tell(s, VDUSE_VQ_SETUP_KICKFD, &none);
	}
	server_queues_reset(&s->core, true);
	server_forget_memory(&s->core); /* of a process that is killed the kernel may say no more than that */
	s->core.features = 0;
	s->core.status = 0;
}

/* --- requests --- */

static int accept_features(struct vduse_server *s)
{
	const struct server_device_ops *ops = s->core.c.ops;
	uint64_t f = 0;
	int rc = vduse_tell(s, VDUSE_DEV_GET_FEATURES, &f);

	if (rc)
		return rc;
	if ((f & ~vduse_offered(&s->core.c)) || (f & MUST) != MUST)
		return -EINVAL;
	f &= ~VDUSE_PLATFORM; /* its addresses are looked up in the same way */
	rc = ops->set_features ? ops->set_features(s->core.c.dev, f) : 0;
	if (!rc)
		s->core.features = f;
	return rc;
}

static int run(struct vduse_server *s)
{
	int rc = load_memory(s);

	for (unsigned i = 0; !rc && i < s->core.c.max_queues; i++)
		rc = set_up_queue(s, &s->core.vring[i]);
	if (!rc)
		rc = server_queues_start(&s->core);
	return rc;
}

static int set_status(struct vduse_server *s, uint8_t status)
{
	const uint8_t risen = (uint8_t)(status & ~s->core.status);
	int rc = 0;

	if (!status) {
		vduse_reset(s);
		return 0;
	}
	if (risen & FEATURES_OK)
		rc = accept_features(s);
	if (rc)
		return rc;
	s->core.status = status;
	if (risen & DRIVER_OK)
		rc = run(s);
	if (rc) { /* the driver sees that it was not taken */
		log_guest("%s: %s: it does not start: %s", s->core.c.ops->name, s->core.name, strerror(-rc));
		vduse_reset(s);
	}
	return rc;
}

struct position { /* there and back */
	const struct server_vring *v;
	uint16_t next;
	bool busy;
};

static void look(void *arg)
{
	struct position *p = arg;

	p->next = vq_position(p->v->q.vq);
	p->busy = vq_inflight(p->v->q.vq);
}

static int get_state(struct vduse_server *s, struct vduse_vq_state *state)
{
	struct server_vring *v = state->index < s->core.c.max_queues ? &s->core.vring[state->index] : NULL;
	const bool packed = s->core.features >> VIRTIO_F_RING_PACKED & 1;
	struct position p = {.v = v};

	if (!v)
		return -EINVAL;
	if (v->running)
		evloop_call(v->q.loop, look, &p);
	if (p.busy && packed) { /* the other half, what was given back, is known when it is the same */
		server_queue_stop(&s->core, v);
		p.next = v->next;
		server_queue_start(&s->core, v);
	} else if (!v->running) {
		p.next = v->next;
	}
	if (packed) {
		state->packed.last_avail_idx = state->packed.last_used_idx = p.next & 0x7fff;
		state->packed.last_avail_counter = state->packed.last_used_counter = p.next >> 15;
	} else {
		state->split.avail_index = p.next;
	}
	return 0;
}

static int answer(struct vduse_server *s, const struct vduse_dev_request *q, struct vduse_dev_response *a)
{
	switch (q->type) {
	case VDUSE_GET_VQ_STATE:
		log_debug("%s: %s: where queue %u stands", s->core.c.ops->name, s->core.name,
			  q->vq_state.index);
		a->vq_state.index = q->vq_state.index;
		return get_state(s, &a->vq_state);
	case VDUSE_SET_STATUS:
		log_debug("%s: %s: status %#x", s->core.c.ops->name, s->core.name, q->s.status);
		return set_status(s, q->s.status);
	case VDUSE_UPDATE_IOTLB:
		log_debug("%s: %s: memory at %#llx to %#llx has changed", s->core.c.ops->name, s->core.name,
			  (unsigned long long)q->iova.start, (unsigned long long)q->iova.last);
		return update_memory(s);
	}
	return -EOPNOTSUPP;
}

static void give_up(struct vduse_server *s)
{
	log_error("%s: %s: the kernel has given the device up, since a request was not answered in time\n"
		  "End the back end and start it again",
		  s->core.c.ops->name, s->core.name);
	vduse_unwatch(s);
	vduse_reset(s);
}

void vduse_on_request(struct ev_watch *w, uint32_t events)
{
	struct vduse_server *s = container_of(w, struct vduse_server, watch);
	const uint8_t before = s->core.status;
	struct vduse_dev_request q;
	struct vduse_dev_response a = {0};

	if (events & (EPOLLERR | EPOLLHUP)) {
		give_up(s);
		return;
	}
	if (read(s->fd, &q, sizeof(q)) != sizeof(q)) /* taken back: who asked was killed */
		return;
	a.request_id = q.request_id;
	a.result = answer(s, &q, &a) ? VDUSE_REQ_RESULT_FAILED : VDUSE_REQ_RESULT_OK;
	if (write(s->fd, &a, sizeof(a)) != sizeof(a)) /* likewise */
		log_debug("%s: %s: nobody waits for an answer any more", s->core.c.ops->name, s->core.name);
	if (s->core.status & ~before & DRIVER_OK) {
		s->early = true;
		ev_timer_arm(&s->look, VDUSE_EARLY_MS);
	}
}
