/* A queue starts and stops. */
/* #syscalls[server]: epoll_ctl timerfd_create timerfd_settime write close */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "devices/virtio/vq_burst.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "servers/server_call.h"
#include "servers/server_guard.h"
#include "servers/server_inflight.h"
#include "servers/server_state.h"

#define DRIVER_OK     4u /* of the status */
#define LOOK_EVERY_MS 1  /* where the front end gives no kick descriptor */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* --- on the queue's loop --- */

/* What was given back is shown in one by the next flush, which counts it. */
static void note_shown(struct server_queue *q)
{
	if (q->inflight)
		server_inflight_shown(q->inflight, vq_stats(q->vq)->chains);
}

static void kicked(struct server_vring *v)
{
	v->q.server->c.ops->queue_kick(v->q.dev, &v->q);
	note_shown(&v->q);
}

/* Edge-triggered, so that the descriptor need not be read: it is the front end's too, who could see to it that
 * a read blocks. */
static void on_kick(struct ev_watch *w, uint32_t events)
{
	struct server_vring *v = container_of(w, struct server_vring, kick);
	uint64_t n;

	if (v->by_timer && read(w->fd, &n, sizeof(n)) < 0)
		return;
	if (v->q.broken || !(events & EPOLLIN))
		return;
	atomic_store_explicit(&v->stats.kicks, v->stats.kicks + 1, memory_order_relaxed);
	kicked(v);
}

static int watch(struct server_vring *v)
{
	const struct itimerspec often = {.it_interval.tv_nsec = LOOK_EVERY_MS * 1000000,
					 .it_value.tv_nsec = LOOK_EVERY_MS * 1000000};
	int rc;

	if (v->q.server->c.polls)
		return 0;
	v->by_timer |= v->kick_fd < 0;
	if (v->kick_fd < 0) {
		v->kick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (v->kick_fd < 0 || timerfd_settime(v->kick_fd, 0, &often, NULL))
			return -errno;
	}
	v->kick = (struct ev_watch){.fd = v->kick_fd, .fn = on_kick};
	rc = evloop_add(v->q.loop, &v->kick, EPOLLIN | EPOLLET);
	v->watched = !rc;
	return rc;
}

static void unwatch(struct server_vring *v)
{
	if (v->watched)
		evloop_del(v->q.loop, &v->kick);
	v->watched = false;
}

static void start_on_loop(void *arg)
{
	struct server_vring *v = arg;
	const struct server_device_ops *ops = v->q.server->c.ops;

	server_guard_thread();
	v->rc = ops->queue_start(v->q.dev, &v->q);
	if (v->rc)
		return;
	v->rc = watch(v);
	if (v->rc)
		ops->queue_stop(v->q.dev, &v->q);
	else
		kicked(v);
}

static void stop_on_loop(void *arg)
{
	struct server_vring *v = arg;

	unwatch(v);
	v->q.server->c.ops->queue_stop(v->q.dev, &v->q);
	note_shown(&v->q);
}

static const char *what_broke(int err)
{
	switch (err) {
	case -EILSEQ:
		return "the driver put in what is no chain";
	case -EFAULT:
		return "a buffer is not in the guest's memory";
	case -E2BIG:
		return "a chain has too many pieces";
	case -EBUSY:
		return "a chain is there twice";
	}
	return strerror(-err);
}

void server_queue_broken(struct server_queue *q)
{
	struct server_vring *v = container_of(q, struct server_vring, q);

	if (q->broken || !vq_error(q->vq))
		return;
	q->broken = true;
	log_guest("%s: %s: queue %u is broken: %s", q->server->c.ops->name, q->server->name, q->index,
		  what_broke(vq_error(q->vq)));
	server_call_once(v->err_fd);
}

int server_queue_pop(struct server_queue *q, struct vq_chain *c)
{
	int rc, head;

	if (!q->inflight)
		return vq_pop(q->vq, c);
	note_shown(q);
	head = server_inflight_redo(q->inflight);
	if (head >= 0)
		return vq_pop_again(q->vq, (uint16_t)head, c);
	rc = vq_pop(q->vq, c);
	if (rc > 0)
		server_inflight_take(q->inflight, c->head);
	return rc;
}

void server_queue_push(struct server_queue *q, uint16_t head, uint32_t written)
{
	note_shown(q);
	if (q->inflight)
		server_inflight_give(q->inflight, head);
	vq_push(q->vq, head, written);
}

/* --- on the server's thread --- */

/* How its interrupts are made, and a first one: what was there before it may have been missed.  While nobody
 * else makes any. */
static void begin_calls(const struct server *s, struct server_vring *v, struct datapath_queue *dq)
{
	int rc = s->wire->call || v->call_fd < 0 ? 0 : server_call_new(&v->call, v->call_fd);

	if (rc)
		log_warn("%s: %s: no io_uring (%s): a front end may hold up others by its call descriptors",
			 s->c.ops->name, s->name, strerror(-rc));
	if (!v->call)
		return;
	dq->call_fd = -1;
	dq->call = server_call_make;
	dq->call_opaque = v->call;
	server_call_make(v->call);
}

static void end_calls(struct server_vring *v)
{
	server_call_free(v->call);
	v->call = NULL;
}

static bool ready(const struct server *s, const struct server_vring *v)
{
	if (!v->started || !v->size || !v->has_addr)
		return false;
	if (!v->enabled && s->by_enable)
		return false;
	return !s->has_status || s->status & DRIVER_OK;
}

static bool packed(const struct server *s)
{
	return s->features >> VIRTIO_F_RING_PACKED & 1;
}

static bool translate(struct server *s, const struct server_vring *v, struct datapath_queue *dq)
{
	const uint64_t n = v->size, event = s->features >> VIRTIO_RING_F_EVENT_IDX & 1 ? 2 : 0;
	const uint64_t avail = packed(s) ? 4 : 4 + 2 * n + event, used = packed(s) ? 4 : 4 + 8 * n + event;

	return server_memory_gpa(&s->memory, v->desc, 16 * n, &dq->desc) &&
	       server_memory_gpa(&s->memory, v->avail, avail, &dq->avail) &&
	       server_memory_gpa(&s->memory, v->used, used, &dq->used);
}

/* What the driver has been shown is done, and the rest is not, whatever the base says: who was there before us
 * may have died with it. */
static void from_used_index(struct server *s, struct server_vring *v, struct datapath_queue *dq)
{
	const struct vring_used *used = guest_mem_ptr(&s->memory.mem, dq->used, sizeof(*used));
	const uint16_t idx = le16toh(__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE));
	const struct server_inflight_queue q = {
		.index = v->q.index,
		.size = v->size,
		.used = idx,
		.in_order = s->features >> VIRTIO_F_IN_ORDER & 1,
		.shown = v->stats.chains,
	};

	v->q.inflight = server_inflight_begin(s->inflight, &q);
	dq->next = idx;
}

int server_queue_start(struct server *s, struct server_vring *v)
{
	struct datapath_queue dq = {
		.index = v->q.index,
		.size = v->size,
		.next = v->next,
		.call_fd = v->call_fd,
		.call = s->wire->call,
		.call_opaque = v,
		.stats = &v->stats,
	};
	int rc;

	if (v->running || !ready(s, v))
		return 0;
	if (!translate(s, v, &dq))
		return -EFAULT;
	if (!packed(s)) {
		if (dq.used % VRING_USED_ALIGN_SIZE)
			return -EINVAL;
		from_used_index(s, v, &dq);
	}
	v->q.features = s->features;
	v->q.broken = false;
	v->q.loop = s->c.ops->loop(s->c.dev, v->q.index);
	begin_calls(s, v, &dq);
	rc = vq_new(&v->q.vq, &dq, &s->memory.mem, v->q.features);
	if (!rc) {
		evloop_call(v->q.loop, start_on_loop, v);
		rc = v->rc;
	}
	if (!rc) {
		v->running = true;
		if (s->wire->call)
			s->wire->call(v);
		return 0;
	}
	vq_free(v->q.vq);
	v->q.vq = NULL;
	end_calls(v);
	server_inflight_end(v->q.inflight);
	v->q.inflight = NULL;
	v->started = false; /* another kick descriptor tries again */
	return rc;
}

void server_queue_stop(struct server *s, struct server_vring *v)
{
	if (!v->running)
		return;
	evloop_call(v->q.loop, stop_on_loop, v);
	(void)s;
	v->running = false;
	v->next = vq_position(v->q.vq);
	vq_free(v->q.vq);
	v->q.vq = NULL;
	end_calls(v);
	server_inflight_end(v->q.inflight);
	v->q.inflight = NULL;
}

void server_queue_end(struct server *s, struct server_vring *v)
{
	server_queue_stop(s, v);
	v->started = false;
	close_fd(&v->kick_fd);
	close_fd(&v->call_fd);
}

void server_queues_init(struct server *s)
{
	for (unsigned i = 0; i < s->c.max_queues; i++) {
		struct server_vring *v = &s->vring[i];

		*v = (struct server_vring){.kick_fd = -1, .call_fd = -1, .err_fd = -1};
		v->q.index = i;
		v->q.server = s;
		v->q.dev = s->c.dev;
	}
}

void server_queues_reset(struct server *s, bool gone)
{
	for (unsigned i = 0; i < s->c.max_queues; i++) {
		struct server_vring *v = &s->vring[i];

		server_queue_stop(s, v);
		v->started = false;
		close_fd(&v->kick_fd);
		if (gone) {
			close_fd(&v->call_fd);
			close_fd(&v->err_fd);
		}
		v->size = v->next = 0;
		v->has_addr = v->enabled = false;
	}
}

void server_queues_stop(struct server *s)
{
	for (unsigned i = 0; i < s->c.max_queues; i++)
		server_queue_stop(s, &s->vring[i]);
}

int server_queues_start(struct server *s)
{
	int rc = 0;

	for (unsigned i = 0; i < s->c.max_queues; i++) {
		int r = server_queue_start(s, &s->vring[i]);

		if (!rc)
			rc = r;
	}
	return rc;
}
