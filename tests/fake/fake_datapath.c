#include "tests/fake/fake_datapath.h"

#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"
#include "tests/fake/fake_transport.h"

static int fake_offer(struct datapath *dp, struct datapath_offer *out)
{
	struct fake_datapath *f = container_of(dp, struct fake_datapath, dp);

	*out = f->offer;
	if (f->drains_until && !--f->drains_until)
		f->offer.drains = false;
	return f->offer_err;
}

static void on_kick(struct ev_watch *w, uint32_t events)
{
	struct fake_watch *fw = container_of(w, struct fake_watch, watch);
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		fw->owner->kicks++;
	if (fw->owner->serve)
		fw->owner->serve(fw->owner, fw->owner->vq[fw - fw->owner->watch]);
}

void fake_datapath_serve(struct fake_datapath *f)
{
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		if (f->vq[i])
			f->serve(f, f->vq[i]);
}

struct watching {
	struct fake_datapath *f;
	const struct datapath_setup *setup;
};

/* These two on kicked's thread, if there is one. */
static void begin(void *arg)
{
	struct watching *w = arg;
	struct fake_datapath *f = w->f;

	for (unsigned i = 0; i < w->setup->nqueues; i++) {
		const struct datapath_queue *q = &w->setup->queue[i];
		struct fake_watch *fw = &f->watch[q->index];

		*fw = (struct fake_watch){.watch = {.fd = q->kick_fd, .fn = on_kick}, .owner = f};
		if (f->serve)
			f->mistakes += vq_new(&f->vq[q->index], q, w->setup->mem, w->setup->features) != 0 ||
				       vq_error(f->vq[q->index]) != 0;
		if (f->kicked)
			f->mistakes += evloop_add(f->kicked, &fw->watch, EPOLLIN) != 0;
	}
}

static void end(void *arg)
{
	struct watching *w = arg;
	struct fake_datapath *f = w->f;

	for (unsigned i = 0; i < w->setup->nqueues; i++) {
		struct datapath_queue *q = &w->setup->queue[i];
		struct virtqueue *vq = f->vq[q->index];

		if (f->kicked)
			evloop_del(f->kicked, &f->watch[q->index].watch);
		q->next = vq ? vq_position(vq) : f->give_next;
		f->mistakes += vq && !vq_error(vq) && vq_inflight(vq);
		vq_free(vq);
		f->vq[q->index] = NULL;
	}
}

static int fake_start(struct datapath *dp, const struct datapath_setup *setup)
{
	struct fake_datapath *f = container_of(dp, struct fake_datapath, dp);
	struct watching w = {f, setup};

	f->thread = pthread_self();
	f->start_calls++;
	if (f->in_start)
		f->in_start(f);
	if (f->start_err)
		return f->start_err;
	f->features = setup->features;
	f->mem = setup->mem;
	f->last_nqueues = setup->nqueues;
	for (unsigned i = 0; i < setup->nqueues; i++) {
		const uint64_t bit = UINT64_C(1) << setup->queue[i].index;

		f->mistakes += (f->running & bit) != 0;
		f->running |= bit;
		f->started[setup->queue[i].index] = setup->queue[i];
	}
	if (f->kicked)
		evloop_call(f->kicked, begin, &w);
	else
		begin(&w);
	f->starts++;
	f->started_at = fake_step();
	return 0;
}

static void fake_stop(struct datapath *dp, const struct datapath_setup *setup)
{
	struct fake_datapath *f = container_of(dp, struct fake_datapath, dp);
	struct watching w = {f, setup};

	f->thread = pthread_self();
	if (f->in_stop)
		f->in_stop(f);
	for (unsigned i = 0; i < setup->nqueues; i++) {
		const struct datapath_queue *q = &setup->queue[i];
		const uint64_t bit = UINT64_C(1) << q->index;

		f->mistakes += !(f->running & bit);
		f->mistakes += q->kick_fd != f->started[q->index].kick_fd;
		f->mistakes += q->call_fd != f->started[q->index].call_fd;
		f->running &= ~bit;
		f->stopped[q->index] = *q;
	}
	if (f->kicked)
		evloop_call(f->kicked, end, &w);
	else
		end(&w);
	f->stops++;
	f->stopped_at = fake_step();
}

static int fake_config_read(struct datapath *dp, size_t off, void *buf, size_t len)
{
	struct fake_datapath *f = container_of(dp, struct fake_datapath, dp);

	f->config_reads++;
	f->config_thread = pthread_self();
	memset(buf, 0xee, len);
	f->mistakes += off > sizeof(f->config) || len > sizeof(f->config) - off;
	if (!f->config_err)
		memcpy(buf, f->config + off, len);
	return f->config_err;
}

static int fake_config_write(struct datapath *dp, size_t off, const void *buf, size_t len)
{
	struct fake_datapath *f = container_of(dp, struct fake_datapath, dp);

	f->config_writes++;
	f->config_thread = pthread_self();
	f->mistakes += off > sizeof(f->config) || len > sizeof(f->config) - off;
	if (!f->config_err)
		memcpy(f->config + off, buf, len);
	return f->config_err;
}

static void fake_destroy(struct datapath *dp)
{
	struct fake_datapath *f = container_of(dp, struct fake_datapath, dp);

	f->mistakes += f->running != 0;
	f->destroyed++;
}

static bool fake_lingers(struct datapath *dp)
{
	struct fake_datapath *f = container_of(dp, struct fake_datapath, dp);

	return f->lingers;
}

void fake_datapath_let_go(struct fake_datapath *f)
{
	f->lingers = false;
	f->dp.events->let_go(f->dp.opaque);
}

static const struct datapath_ops fake_datapath_ops = {
	.name = "a fake",
	.offer = fake_offer,
	.start = fake_start,
	.stop = fake_stop,
	.lingers = fake_lingers,
	.config_read = fake_config_read,
	.config_write = fake_config_write,
	.destroy = fake_destroy,
};

void fake_datapath_init(struct fake_datapath *f)
{
	*f = (struct fake_datapath){.dp = {.ops = &fake_datapath_ops}};
}
