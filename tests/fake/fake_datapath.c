#include "tests/fake/fake_datapath.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "tests/fake/fake_transport.h"

static int fake_offer(struct datapath *dp, struct datapath_offer *out)
{
	struct fake_datapath *f = container_of(dp, struct fake_datapath, dp);

	*out = f->offer;
	return f->offer_err;
}

static void on_kick(struct ev_watch *w, uint32_t events)
{
	struct fake_watch *fw = container_of(w, struct fake_watch, watch);
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		fw->owner->kicks++;
}

struct watching {
	struct fake_datapath *f;
	const struct datapath_setup *setup;
};

static void watch(void *arg)
{
	struct watching *w = arg;

	for (unsigned i = 0; i < w->setup->nqueues; i++) {
		const struct datapath_queue *q = &w->setup->queue[i];
		struct fake_watch *fw = &w->f->watch[q->index];

		*fw = (struct fake_watch){.watch = {.fd = q->kick_fd, .fn = on_kick}, .owner = w->f};
		w->f->mistakes += evloop_add(w->f->kicked, &fw->watch, EPOLLIN) != 0;
	}
}

static void unwatch(void *arg)
{
	struct watching *w = arg;

	for (unsigned i = 0; i < w->setup->nqueues; i++)
		evloop_del(w->f->kicked, &w->f->watch[w->setup->queue[i].index].watch);
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
		evloop_call(f->kicked, watch, &w);
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
	if (f->kicked)
		evloop_call(f->kicked, unwatch, &w);
	for (unsigned i = 0; i < setup->nqueues; i++) {
		struct datapath_queue *q = &setup->queue[i];
		const uint64_t bit = UINT64_C(1) << q->index;

		f->mistakes += !(f->running & bit);
		f->mistakes += q->kick_fd != f->started[q->index].kick_fd;
		f->mistakes += q->call_fd != f->started[q->index].call_fd;
		f->running &= ~bit;
		f->stopped[q->index] = *q;
		q->next = f->give_next;
	}
	f->stops++;
	f->stopped_at = fake_step();
}

static const struct datapath_ops fake_datapath_ops = {
	.name = "a fake",
	.offer = fake_offer,
	.start = fake_start,
	.stop = fake_stop,
};

void fake_datapath_init(struct fake_datapath *f)
{
	*f = (struct fake_datapath){.dp = {.ops = &fake_datapath_ops}};
}
