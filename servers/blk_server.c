/* #syscalls[server]: eventfd2 epoll_ctl write close */
#include "servers/blk_server.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/blk/blk_config.h"
#include "devices/blk/blk_queue.h"
#include "devices/blk/disk.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "servers/server.h"
#include "vmm/loop_thread.h"

#define BIT(n) (UINT64_C(1) << (n))

#define MAX_SIZE  1024u  /* entries of a ring */
#define LEAST     128u   /* ... that a front end is expected to have */
#define SPIN_NS   200000 /* polling: between two looks at the disk's other news and the server's */
#define SPIN_LOOK 64     /* ... and at the clock */

struct blk_worker { /* its thread's, from queue_start() to queue_stop() */
	struct blk_server *s;
	struct loop_thread thread;
	struct server_queue *q; /* NULL: does not run */
	struct blk_queue *queue;
	struct ev_watch again; /* an eventfd */
	struct ev_watch spin;  /* one that is always readable */
	bool spinning;
	_Atomic(struct queue_stats *)
		stats; /* the server's, which has them as long as it is; NULL: never ran */
};

struct blk_server {
	struct blk_server_config c;
	struct server *server;
	char serial[VIRTIO_BLK_ID_BYTES];
	_Atomic bool wce;       /* what the config space says: a driver's wish outlives its connection */
	_Atomic bool writeback; /* what holds: without FLUSH nobody could make a volatile write stable */
	uint64_t features;      /* accepted; the server's thread */
	struct blk_worker worker[BLK_SERVER_QUEUES];
};

/* --- a queue, on its worker's thread --- */

static int pop(void *opaque, struct vq_chain *c)
{
	return server_queue_pop(opaque, c);
}

static void push(void *opaque, uint16_t head, uint32_t written)
{
	server_queue_push(opaque, head, written);
}

static void again(void *opaque, struct virtqueue *vq)
{
	const struct server_queue *q = opaque;
	const struct blk_worker *w = q->opaque;
	const uint64_t one = 1;

	(void)vq;
	if (write(w->again.fd, &one, sizeof(one)) < 0) /* full: it is on its way */
		return;
}

static void serve(struct blk_worker *w)
{
	blk_queue_serve(w->queue);
	server_queue_broken(w->q);
}

/* Edge-triggered, so it need not be read. */
static void on_again(struct ev_watch *watch, uint32_t events)
{
	struct blk_worker *w = container_of(watch, struct blk_worker, again);

	(void)events;
	if (!w->s->c.poll)
		serve(w);
}

static void unwatch(struct blk_worker *w)
{
	if (w->spinning)
		evloop_del(w->thread.loop, &w->spin);
	w->spinning = false;
}

static void on_spin(struct ev_watch *watch, uint32_t events)
{
	struct blk_worker *w = container_of(watch, struct blk_worker, spin);
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + SPIN_NS;

	(void)events;
	do {
		for (unsigned i = 0; i < SPIN_LOOK; i++) {
			if (blk_queue_look(w->queue))
				continue;
			if (vq_error(w->q->vq)) {
				server_queue_broken(w->q);
				unwatch(w);
				return;
			}
			/* What the disk still has ends when the kernel is asked. */
			if (vq_inflight(w->q->vq))
				return;
			__builtin_ia32_pause();
		}
	} while (clock_ns(CLOCK_MONOTONIC) < end);
}

static int queue_start(void *dev, struct server_queue *q)
{
	struct blk_server *s = dev;
	struct blk_worker *w = &s->worker[q->index];
	const struct blk_queue_host host = {
		.name = "blk",
		.disk = s->c.disk,
		.loop = w->thread.loop,
		.serial = s->serial,
		.writeback = &s->writeback,
		.features = q->features,
		.opaque = q,
		.pop = q->inflight ? pop : NULL,
		.push = q->inflight ? push : NULL,
		.again = again,
	};
	int rc = evloop_add(w->thread.loop, &w->again, EPOLLIN | EPOLLET);

	if (rc)
		return rc;
	rc = blk_queue_new(&w->queue, &host, q->vq);
	if (!rc && s->c.poll) {
		rc = evloop_add(w->thread.loop, &w->spin, EPOLLIN);
		w->spinning = !rc;
		if (rc)
			blk_queue_free(w->queue);
	}
	if (rc) {
		evloop_del(w->thread.loop, &w->again);
		w->queue = NULL;
		return rc;
	}
	w->q = q;
	w->stats = vq_stats(q->vq);
	q->opaque = w;
	return 0;
}

static void queue_stop(void *dev, struct server_queue *q)
{
	struct blk_worker *w = q->opaque;

	(void)dev;
	unwatch(w);
	blk_queue_free(w->queue);
	evloop_del(w->thread.loop, &w->again);
	w->queue = NULL;
	w->q = NULL;
}

static void queue_kick(void *dev, struct server_queue *q)
{
	const struct blk_server *s = dev;

	if (!s->c.poll)
		serve(q->opaque);
}

/* --- the device, on the server's thread --- */

static void decide_writeback(struct blk_server *s)
{
	s->writeback = s->wce && s->features & BIT(VIRTIO_BLK_F_FLUSH);
}

static int set_features(void *dev, uint64_t features)
{
	struct blk_server *s = dev;

	s->features = features;
	decide_writeback(s);
	return 0;
}

static int config_read(void *dev, uint32_t off, void *buf, uint32_t len)
{
	struct blk_server *s = dev;
	const struct blk_shape shape = {
		.nqueues = s->c.nqueues,
		.queue_size = LEAST,
		.common_limits = true, /* so that a disk can go from us to another server */
		.writeback = s->wce,
	};
	struct virtio_blk_config c;

	blk_config_make(s->c.disk, &shape, &c);
	memcpy(buf, (const char *)&c + off, len);
	return 0;
}

static int config_write(void *dev, uint32_t off, const void *buf, uint32_t len)
{
	const uint32_t wce = offsetof(struct virtio_blk_config, wce);
	struct blk_server *s = dev;

	if (off > wce || wce - off >= len)
		return -EINVAL;
	s->wce = ((const uint8_t *)buf)[wce - off] != 0;
	decide_writeback(s);
	return 0;
}

static struct evloop *loop(void *dev, unsigned queue)
{
	return ((struct blk_server *)dev)->worker[queue].thread.loop;
}

static const struct server_device_ops ops = {
	.name = "blk",
	.set_features = set_features,
	.config_read = config_read,
	.config_write = config_write,
	.loop = loop,
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.queue_kick = queue_kick,
};

static void resized(void *opaque)
{
	server_config_changed(((struct blk_server *)opaque)->server);
}

/* --- its life --- */

static int worker_start(struct blk_server *s, unsigned index, struct err *e)
{
	struct blk_worker *w = &s->worker[index];
	char name[16];

	w->s = s;
	w->again = (struct ev_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_again};
	w->spin = (struct ev_watch){.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_spin};
	if (w->again.fd < 0 || w->spin.fd < 0)
		return err_set(e, -errno, "blk: an eventfd: %s", strerror(errno));
	snprintf(name, sizeof(name), "blk-%u", index);
	return loop_thread_start(&w->thread, name, -1, e);
}

static void worker_stop(struct blk_worker *w)
{
	loop_thread_stop(&w->thread);
	if (w->again.fd >= 0)
		close(w->again.fd);
	if (w->spin.fd >= 0)
		close(w->spin.fd);
}

static int start(struct blk_server *s, struct err *e)
{
	const struct server_config c = {
		.path = s->c.path,
		.connects = s->c.connects,
		.vduse = s->c.vduse,
		.device_id = VIRTIO_ID_BLOCK,
		.ops = &ops,
		.dev = s,
		.features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_RING_F_EVENT_IDX) |
			    BIT(VIRTIO_RING_F_INDIRECT_DESC) | (s->c.in_order ? BIT(VIRTIO_F_IN_ORDER) : 0) |
			    blk_features_of_disk(s->c.disk, s->c.nqueues),
		.config_len = BLK_CONFIG_LEN,
		.max_queues = s->c.nqueues,
		.max_queue_size = MAX_SIZE,
		.inflight = true,
		.polls = s->c.poll,
	};
	int rc = 0;

	for (unsigned i = 0; !rc && i < s->c.nqueues; i++)
		rc = worker_start(s, i, e);
	return rc ? rc : server_new(&s->server, &c, e);
}

int blk_server_new(struct blk_server **out, const struct blk_server_config *c, struct err *e)
{
	struct blk_server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, -ENOMEM, "blk: out of memory");
	s->c = *c;
	s->c.serial = NULL;
	if (c->serial)
		memcpy(s->serial, c->serial, strnlen(c->serial, sizeof(s->serial)));
	s->wce = !c->writethrough;
	for (unsigned i = 0; i < BLK_SERVER_QUEUES; i++)
		s->worker[i].again.fd = s->worker[i].spin.fd = -1;
	rc = start(s, e);
	if (rc) {
		blk_server_free(s);
		return rc;
	}
	s->c.disk->opaque = s;
	s->c.disk->resized = resized;
	*out = s;
	return 0;
}

void blk_server_free(struct blk_server *s)
{
	if (!s)
		return;
	s->c.disk->resized = NULL;
	server_free(s->server);
	for (unsigned i = 0; i < BLK_SERVER_QUEUES; i++)
		worker_stop(&s->worker[i]);
	free(s);
}

struct server *blk_server_wire(const struct blk_server *s)
{
	return s->server;
}

void blk_server_counts(struct blk_server *s, struct blk_server_counts *sum)
{
	*sum = (struct blk_server_counts){0};
	for (unsigned i = 0; i < s->c.nqueues; i++) {
		const struct queue_stats *q = s->worker[i].stats;

		if (!q)
			continue;
		sum->requests += q->chains;
		sum->bytes += q->bytes;
		sum->kicks += q->kicks;
		sum->calls += q->calls;
		sum->syscalls += q->syscalls;
	}
}
