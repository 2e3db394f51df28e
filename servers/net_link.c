/* #syscalls[server]: eventfd2 epoll_ctl timerfd_create timerfd_settime read write close */
#include "servers/net_link.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/net/net_port.h"
#include "lib/cleanup.h"
#include "lib/clock.h"

#define PATIENCE_MS 100
#define ROUNDS      256               /* bursts of a lane before others on its thread have their turn */
#define SPIN_NS     UINT64_C(1000000) /* poll: between two looks at what else there is to do */
#define LOOK        64                /* poll: rounds between two looks at the clock */

/* --- a lane runs, on its worker's thread --- */

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0) /* it is awake enough */
		return;
}

/* The receiver has no buffers.  True: it has them after all. */
static bool wait_for_buffers(struct net_lane *l)
{
	struct net_rx *rx = l->to->target[l->pair];
	bool there = true;

	if (!rx)
		return true; /* nobody is there: it goes nowhere, now */
	l->blocked = true;
	pthread_mutex_lock(&rx->lock);
	if (rx->q)
		there = vq_wait(rx->q->vq);
	pthread_mutex_unlock(&rx->lock);
	if (there)
		l->blocked = false;
	return there;
}

static void be_patient(struct net_lane *l)
{
	l->timed = true;
	l->frames_then = l->counts.frames;
	ev_timer_arm(&l->timer, l->link->c.patience_ms);
}

static void lane_run(struct net_lane *l)
{
	unsigned rounds = ROUNDS;

	l->blocked = false;
	if (!l->tx)
		return;
	vq_busy(l->tx->vq);
	while (rounds--) {
		switch (net_burst(l)) {
		case NET_MOVED:
			l->dropping = false;
			continue;
		case NET_FULL:
			if (wait_for_buffers(l))
				continue;
			if (!l->dropping) {
				if (!l->timed)
					be_patient(l);
				return;
			}
			net_discard(l);
			break;
		case NET_EMPTY:
			break;
		}
		if (vq_error(l->tx->vq))
			return;
		if (!vq_poll(l->tx->vq) && !vq_wait(l->tx->vq))
			return;
		vq_busy(l->tx->vq);
	}
	signal_fd(l->again.fd);
}

static void on_again(struct ev_watch *w, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		lane_run(container_of(w, struct net_lane, again));
}

static void on_timer(struct ev_timer *t)
{
	struct net_lane *l = container_of(t, struct net_lane, timer);

	l->timed = false;
	if (!l->blocked)
		return;
	if (l->counts.frames != l->frames_then) { /* slow, but not still */
		be_patient(l);
		return;
	}
	l->dropping = true;
	lane_run(l);
}

/* --- or is polled --- */

static bool lane_poll(struct net_lane *l)
{
	switch (net_burst(l)) {
	case NET_EMPTY:
		return false;
	case NET_MOVED:
		l->full_since = 0;
		return true;
	case NET_FULL:
		break;
	}
	if (++l->full % LOOK)
		return false;
	if (!l->full_since)
		l->full_since = clock_ns(CLOCK_MONOTONIC);
	else if (clock_ns(CLOCK_MONOTONIC) - l->full_since > l->link->c.patience_ms * UINT64_C(1000000))
		net_discard(l);
	return false;
}

static void on_spin(struct ev_watch *w, uint32_t events)
{
	struct net_worker *worker = container_of(w, struct net_worker, spin);
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + SPIN_NS;

	(void)events;
	do {
		for (unsigned i = 0; i < LOOK; i++) {
			bool moved = false;

			for (unsigned k = 0; k < ARRAY_SIZE(worker->lane); k++)
				if (worker->lane[k] && worker->lane[k]->tx)
					moved |= lane_poll(worker->lane[k]);
			if (!moved)
				__builtin_ia32_pause();
		}
	} while (clock_ns(CLOCK_MONOTONIC) < end);
}

static int spin(struct net_worker *w, bool more)
{
	if (more) {
		const int rc = w->spinning ? 0 : evloop_add(w->thread.loop, &w->spin, EPOLLIN);

		w->spinning += !rc;
		return rc;
	}
	if (!--w->spinning)
		evloop_del(w->thread.loop, &w->spin);
	return 0;
}

/* --- what a server serves --- */

static void wake_senders(struct net_end *to, const struct net_rx *rx, const struct evloop *here)
{
	struct net_link *link = to->link;

	for (unsigned side = 0; side < link->nends; side++)
		for (unsigned i = 0; i < link->c.npairs; i++) {
			struct net_lane *l = &link->lane[side][i];

			if (l->to != to || !l->blocked || to->target[i] != rx)
				continue;
			if (l->worker->thread.loop == here)
				lane_run(l);
			else
				signal_fd(l->again.fd);
		}
}

/* Each pair's own queue, where it runs, else any other's.  With every rx->lock free. */
static void choose_targets(struct net_end *end)
{
	struct net_rx *some[NET_MAX_PAIRS];
	unsigned n = 0, npairs = end->link->c.npairs;

	for (unsigned i = 0; i < npairs; i++) {
		pthread_mutex_lock(&end->rx[i].lock);
		if (end->rx[i].q)
			some[n++] = &end->rx[i];
		pthread_mutex_unlock(&end->rx[i].lock);
	}
	for (unsigned i = 0; i < npairs; i++) {
		struct net_rx *own = &end->rx[i], *other = n ? some[i % n] : NULL;
		bool runs;

		pthread_mutex_lock(&own->lock);
		runs = own->q;
		pthread_mutex_unlock(&own->lock);
		atomic_store_explicit(&end->target[i], runs ? own : other, memory_order_release);
	}
}

static int set_features(void *dev, uint64_t features)
{
	struct net_end *end = dev;

	end->features = features;
	end->hdr_len = features & (NET_BIT(VIRTIO_F_VERSION_1) | NET_BIT(VIRTIO_NET_F_MRG_RXBUF))
			       ? sizeof(struct virtio_net_hdr_v1)
			       : sizeof(struct virtio_net_hdr);
	return 0;
}

static int config_read(void *dev, uint32_t off, void *buf, uint32_t len)
{
	return net_config_read(&((struct net_end *)dev)->link->c, off, buf, len);
}

static int set_mtu(void *dev, uint32_t off, const void *buf, uint32_t len)
{
	(void)dev;
	(void)off;
	(void)buf;
	(void)len;
	return 0; /* what is sent is what is received, whatever its size */
}

static struct evloop *loop_of(void *dev, unsigned queue)
{
	struct net_end *end = dev;

	return end->link->worker[queue / 2].thread.loop;
}

static int queue_start(void *dev, struct server_queue *q)
{
	struct net_end *end = dev;
	struct net_link *link = end->link;
	struct net_rx *rx = &end->rx[q->index / 2];

	vq_busy(q->vq);
	if (q->index % 2) {
		struct net_lane *l = &link->lane[end->side][q->index / 2];

		const int rc = link->c.poll ? spin(l->worker, true) : 0;

		l->dropping = false;
		if (!rc)
			l->tx = q;
		return rc;
	}
	pthread_mutex_lock(&rx->lock);
	rx->q = q;
	rx->mrg = q->features >> VIRTIO_NET_F_MRG_RXBUF & 1;
	rx->hdr_len = end->hdr_len;
	pthread_mutex_unlock(&rx->lock);
	choose_targets(end);
	return 0;
}

static void queue_stop(void *dev, struct server_queue *q)
{
	struct net_end *end = dev;
	struct net_link *link = end->link;
	struct net_rx *rx = &end->rx[q->index / 2];

	if (q->index % 2) {
		struct net_lane *l = &link->lane[end->side][q->index / 2];

		if (link->c.poll)
			spin(l->worker, false);
		ev_timer_arm(&l->timer, 0);
		l->timed = l->dropping = false;
		l->blocked = false;
		l->tx = NULL;
		return;
	}
	pthread_mutex_lock(&rx->lock);
	rx->q = NULL;
	pthread_mutex_unlock(&rx->lock);
	choose_targets(end);
	for (unsigned side = 0; side < link->nends; side++)
		for (unsigned i = 0; i < link->c.npairs; i++)
			if (link->lane[side][i].to == end && link->lane[side][i].blocked)
				signal_fd(link->lane[side][i].again.fd); /* to find another, or nobody */
}

static void queue_kick(void *dev, struct server_queue *q)
{
	struct net_end *end = dev;

	if (end->link->c.poll)
		return;
	if (q->index % 2)
		lane_run(&end->link->lane[end->side][q->index / 2]);
	else
		wake_senders(end, &end->rx[q->index / 2], q->loop);
}

static const struct server_device_ops ops = {
	.name = "net",
	.set_features = set_features,
	.config_read = config_read,
	.config_write = set_mtu,
	.loop = loop_of,
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.queue_kick = queue_kick,
};

/* --- life --- */

static int worker_init(struct net_link *link, unsigned i, struct err *e)
{
	struct net_worker *w = &link->worker[i];
	char name[16] = "net";
	int rc;

	name[3] = (char)('0' + i / 10);
	name[4] = (char)('0' + i % 10);
	rc = loop_thread_start(&w->thread, name, -1, e);
	if (rc)
		return rc;
	w->spin = (struct ev_watch){.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_spin};
	return w->spin.fd < 0 ? err_set(e, -errno, "net: an eventfd: %s", strerror(errno)) : 0;
}

static int lane_init(struct net_link *link, unsigned side, unsigned pair)
{
	struct net_lane *l = &link->lane[side][pair];
	int rc;

	l->link = link;
	l->worker = &link->worker[pair];
	l->worker->lane[side] = l;
	l->from = link->end[side];
	l->to = link->end[link->nends - 1 - side];
	l->pair = pair;
	l->tx_iov = calloc(NET_IOV, sizeof(*l->tx_iov));
	l->rx_iov = calloc(2 * (size_t)NET_IOV, sizeof(*l->rx_iov));
	if (!l->tx_iov || !l->rx_iov)
		return -ENOMEM;
	rc = ev_timer_init(&l->timer, l->worker->thread.loop, on_timer);
	if (rc)
		return rc;
	l->again = (struct ev_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_again};
	return l->again.fd < 0 ? -errno : evloop_add(l->worker->thread.loop, &l->again, EPOLLIN);
}

static struct net_end *end_new(struct net_link *link, unsigned side)
{
	struct net_end *end = calloc(1, sizeof(*end));

	if (!end)
		return NULL;
	end->link = link;
	end->side = side;
	for (unsigned i = 0; i < NET_MAX_PAIRS; i++)
		pthread_mutex_init(&end->rx[i].lock, NULL);
	return end;
}

static int end_serve(struct net_link *link, unsigned side, struct err *e)
{
	struct server_config c =
		net_server_config(&link->c, side, net_features(link->c.offloads, link->c.npairs > 1),
				  link->c.poll);

	c.ops = &ops;
	c.dev = link->end[side];
	return server_new(&link->end[side]->server, &c, e);
}

static int build(struct net_link *l, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < l->nends; i++) {
		l->end[i] = end_new(l, i);
		if (!l->end[i])
			rc = err_set(e, -ENOMEM, "net: out of memory");
	}
	for (unsigned i = 0; !rc && i < l->c.npairs; i++)
		rc = worker_init(l, i, e);
	for (unsigned side = 0; side < l->nends; side++)
		for (unsigned i = 0; !rc && i < l->c.npairs; i++) {
			rc = lane_init(l, side, i);
			if (rc)
				err_set(e, rc, "net: %s", strerror(-rc));
		}
	for (unsigned i = 0; !rc && i < l->nends; i++)
		rc = end_serve(l, i, e);
	return rc;
}

int net_link_new(struct net_link **out, const struct net_link_config *c, struct err *e)
{
	struct net_link *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return err_set(e, -ENOMEM, "net: out of memory");
	l->c = *c;
	if (!l->c.patience_ms)
		l->c.patience_ms = PATIENCE_MS;
	l->nends = c->path[1] || c->vduse[1] ? 2 : 1;
	for (unsigned i = 0; i < NET_MAX_PAIRS; i++) {
		l->worker[i].spin.fd = -1;
		for (unsigned side = 0; side < 2; side++)
			l->lane[side][i].again.fd = l->lane[side][i].timer.watch.fd = -1;
	}
	rc = build(l, e);
	if (rc) {
		net_link_free(l);
		return rc;
	}
	*out = l;
	return 0;
}

static void worker_end(void *arg)
{
	struct net_worker *w = arg;

	for (unsigned i = 0; i < ARRAY_SIZE(w->lane); i++)
		if (w->lane[i])
			ev_timer_fini(&w->lane[i]->timer);
}

static void worker_fini(struct net_worker *w)
{
	if (w->thread.loop)
		evloop_call(w->thread.loop, worker_end, w);
	loop_thread_stop(&w->thread);
	if (w->spin.fd >= 0)
		close(w->spin.fd);
	for (unsigned i = 0; i < ARRAY_SIZE(w->lane); i++) {
		struct net_lane *l = w->lane[i];

		if (!l)
			continue;
		if (l->again.fd >= 0)
			close(l->again.fd);
		free(l->tx_iov);
		free(l->rx_iov);
	}
}

void net_link_free(struct net_link *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < 2; i++)
		if (l->end[i])
			server_free(l->end[i]->server);
	for (unsigned i = 0; i < l->c.npairs; i++)
		worker_fini(&l->worker[i]);
	for (unsigned i = 0; i < 2; i++)
		free(l->end[i]);
	free(l);
}
