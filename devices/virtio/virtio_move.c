/* Theory of operation.  stop() gives ring positions back and start() takes them, so any datapath can go on
 * where another stopped, provided that nothing is in flight between the two.  A datapath that completes what it
 * took (offer.drains) sees to that itself.  Of others we wait, before they are stopped, until every buffer of
 * the queues that are always answered is used; buffers of the others (receive queues) may stay, for whoever was
 * to fill them has not begun. */
#include "devices/virtio/virtio_move.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "devices/virtio/feature_names.h"
#include "devices/virtio/virtio_queue.h"

#define BIT(n) (UINT64_C(1) << (n))

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- may it? --- */

static struct datapath *server_of(struct virtio_device *dev, struct datapath *remote)
{
	return remote ? remote : dev->local;
}

/* What the driver counts on: accepted, or still to be chosen from. */
static uint64_t needed_bits(const struct virtio_device *dev)
{
	return dev->status & VIRTIO_CONFIG_S_FEATURES_OK ? dev->accepted : dev->status ? dev->offered : 0;
}

static int fits_queues(const struct virtio_device *dev, const char *name, const struct datapath_offer *offer,
		       uint64_t local_queues, struct err *e)
{
	unsigned n = 0;

	for (unsigned i = 0; i < dev->nqueues; i++) {
		const struct virtio_queue *q = &dev->queue[i];

		if (!q->max_size || (local_queues & QUEUE_BIT(i)))
			continue;
		n++;
		if (offer->max_queue_size && q->max_size > offer->max_queue_size)
			return err_set(e, -EOPNOTSUPP,
				       "%s: queue %u has %u entries, and %s serves at most %u\n"
				       "Start with queue-size=%u to be able to change to it.",
				       dev->name, i, q->max_size, name, offer->max_queue_size,
				       offer->max_queue_size);
	}
	if (offer->max_queues && n > offer->max_queues)
		return err_set(e, -EOPNOTSUPP, "%s: has %u queues, and %s serves at most %u", dev->name, n,
			       name, offer->max_queues);
	return 0;
}

int virtio_move_fits(struct virtio_device *dev, struct datapath *to, uint64_t local_queues, struct err *e)
{
	struct datapath *dp = server_of(dev, to);
	struct datapath_offer offer = {0};
	uint64_t missing;
	char names[256];
	int rc = dp->ops->offer(dp, &offer);

	if (rc)
		return err_set(e, rc, "%s: %s does not answer: %s", dev->name, dp->ops->name, strerror(-rc));
	if (offer.device_id && offer.device_id != dev->ops->id)
		return err_set(e, -ENODEV, "%s: %s serves virtio device type %u, not %u (%s)", dev->name,
			       dp->ops->name, offer.device_id, dev->ops->id, dev->ops->name);
	missing = needed_bits(dev) & offer.opinion & ~offer.features;
	if (missing)
		return err_set(e, -EOPNOTSUPP,
			       "%s: its driver %s %s, which %s does not serve\n"
			       "Start with these turned off to be able to change to it.",
			       dev->name, dev->status & VIRTIO_CONFIG_S_FEATURES_OK ? "uses" : "was offered",
			       feature_names(dev->ops->id, missing, names, sizeof(names)), dp->ops->name);
	return fits_queues(dev, dp->ops->name, &offer, to ? local_queues : 0, e);
}

/* --- waiting for answers --- */

static uint16_t index_at(const struct virtio_device *dev, gpa_t ring)
{
	const uint16_t *idx = guest_mem_ptr(dev->mem, ring + sizeof(uint16_t), sizeof(uint16_t));

	return idx ? le16toh(__atomic_load_n(idx, __ATOMIC_ACQUIRE)) : 0;
}

static bool answered(const struct virtio_device *dev, unsigned i)
{
	const struct datapath_queue *q = &dev->running[i];

	return index_at(dev, q->avail) == index_at(dev, q->used);
}

/* The first queue of which buffers are away that come back in the end; -1: none, or whoever serves them gives
 * them back when he stops. */
static int unanswered(struct virtio_device *dev)
{
	struct datapath_offer offer = {0};
	uint64_t queues;

	if (!dev->remote || dev->remote->ops->offer(dev->remote, &offer) || offer.drains)
		return -1;
	queues = dev->running_queues & ~queues_local(dev) & dev->answered_queues;
	for (unsigned i = 0; i < dev->nqueues; i++)
		if ((queues & QUEUE_BIT(i)) && !answered(dev, i))
			return (int)i;
	return -1;
}

static bool all_answered(struct virtio_device *dev)
{
	return unanswered(dev) < 0;
}

static int drain(struct virtio_device *dev, uint64_t end, unsigned ms, struct err *e)
{
	const struct timespec nap = {.tv_nsec = 50000};
	int i;

	while ((i = unanswered(dev)) >= 0) {
		if (now_ns() > end)
			return err_set(
				e, -ETIMEDOUT,
				"%s: %s has not answered all of queue %d within %u ms; nothing was changed",
				dev->name, dev->remote->ops->name, i, ms);
		nanosleep(&nap, NULL);
	}
	return 0;
}

static int may_drain(struct virtio_device *dev, struct err *e)
{
	struct datapath_offer offer = {0};

	if (!dev->remote || !virtio_has(dev, VIRTIO_F_RING_PACKED) ||
	    !(dev->running_queues & ~queues_local(dev) & dev->answered_queues) ||
	    dev->remote->ops->offer(dev->remote, &offer) || offer.drains)
		return 0;
	return err_set(e, -EOPNOTSUPP,
		       "%s: with packed rings nobody can see whether %s has answered all\n"
		       "Start with packed=off to be able to change.",
		       dev->name, dev->remote->ops->name);
}

/* Who was away may come back and take requests until the moment that the queues stop. */
static int suspend(struct virtio_device *dev, const struct virtio_move *m, uint64_t *queues,
		   struct virtio_moved *moved, uint64_t *stopped_at, struct err *e)
{
	const unsigned ms = m->how->drain_ms;
	const uint64_t began = now_ns(), end = began + ms * UINT64_C(1000000);
	int rc = may_drain(dev, e);

	/* A vCPU may stand still between making buffers available and saying so. */
	for (unsigned i = 0; !rc && i < dev->nqueues; i++)
		if (dev->running_queues & ~queues_local(dev) & dev->answered_queues & QUEUE_BIT(i))
			queue_kick(dev, i);
	while (!rc) {
		rc = drain(dev, end, ms, e);
		if (rc)
			break;
		moved->drained_ns = now_ns() - began;
		*stopped_at = now_ns();
		if (!queues_suspend(dev, all_answered, queues))
			return 0;
	}
	return rc;
}

/* --- the move --- */

struct change {
	struct virtio_device *dev;
	const struct virtio_move *m;
	bool to_new;
	int rc;
};

static void heard_no_more(void *opaque)
{
	(void)opaque;
}

static void failed_no_more(void *opaque, int err)
{
	(void)opaque;
	(void)err;
}

/* Of who served before: its end is not the device's any more.  Who takes over gets the real ones. */
static const struct datapath_events silence = {
	.config_changed = heard_no_more,
	.failed = failed_no_more,
	.let_go = heard_no_more,
};

static void swap_on_loop(void *arg)
{
	struct change *c = arg;

	if (c->to_new && c->dev->remote && c->dev->remote != c->m->remote)
		c->dev->remote->events = &silence;
	c->rc = c->m->swap ? c->m->swap(c->m->opaque, c->to_new) : 0;
}

static int swap(struct virtio_device *dev, const struct virtio_move *m, bool to_new)
{
	struct change c = {.dev = dev, .m = m, .to_new = to_new};

	evloop_call(dev->loop, swap_on_loop, &c);
	return c.rc;
}

/* Who failed to start may have served some before: nothing of that is in flight, so the used index says how
 * far. */
static void settle(struct virtio_device *dev, uint64_t queues)
{
	if (virtio_has(dev, VIRTIO_F_RING_PACKED))
		return; /* what the failed start left in running[] stands */
	for (unsigned i = 0; i < dev->nqueues; i++)
		if (queues & QUEUE_BIT(i))
			dev->running[i].next = index_at(dev, dev->running[i].used);
}

/* The process before has left its counts; who counts nothing must not seem to have counted those. */
static void forget_counts(struct virtio_device *dev, uint64_t queues)
{
	for (unsigned i = 0; i < dev->nqueues; i++) {
		struct queue_stats *s = &dev->queue[i].stats;
		_Atomic uint64_t *const each[] = {&s->kicks,  &s->calls, &s->calls_suppressed, &s->bursts,
						  &s->chains, &s->bytes, &s->syscalls};
		const bool here = queues_local(dev) & QUEUE_BIT(i);

		for (unsigned n = 0; (queues & QUEUE_BIT(i)) && n < sizeof(each) / sizeof(each[0]); n++)
			if (!here)
				*each[n] = QUEUE_STAT_UNSEEN;
			else if (*each[n] == QUEUE_STAT_UNSEEN)
				*each[n] = 0;
	}
}

/* The device is remote's from here on, whether its queues start there or not. */
static int take_over(struct virtio_device *dev, struct datapath *remote, uint64_t local_queues, uint64_t queues,
		     struct err *e)
{
	int rc;

	dev->remote = remote;
	dev->local_queues = local_queues;
	forget_counts(dev, queues);
	rc = virtio_narrow(dev, e);
	if (!rc && queues_lost(dev, queues))
		rc = -ENODATA;
	return rc ? rc : queues_resume(dev, queues);
}

static bool linger(struct virtio_device *dev)
{
	bool lingers;

	pthread_mutex_lock(&dev->life_lock);
	lingers = queues_linger(dev);
	pthread_mutex_unlock(&dev->life_lock);
	return lingers;
}

static int still_held(const struct virtio_device *dev, struct err *e)
{
	return err_set(e, -EBUSY,
		       "%s: %s does not answer and may still use the guest's memory, so nobody can take over\n"
		       "End it, and give the command again.",
		       dev->name, dev->remote->ops->name);
}

/* Its peer may have the rings in its hands.  Not on the loop, which hears of it. */
static bool lets_go(struct datapath *dp, unsigned ms)
{
	const uint64_t end = now_ns() + ms * UINT64_C(1000000);
	const struct timespec nap = {.tv_nsec = 1000000};

	while (dp && dp->ops->lingers && dp->ops->lingers(dp)) {
		if (now_ns() > end)
			return false;
		nanosleep(&nap, NULL);
	}
	return true;
}

static int change(struct virtio_device *dev, const struct virtio_move *m, struct virtio_moved *moved,
		  struct err *e)
{
	struct datapath *const old = dev->remote;
	const uint64_t old_local = dev->local_queues;
	const char *const name = server_of(dev, m->remote)->ops->name;
	uint64_t queues, began;
	int rc, back;

	rc = suspend(dev, m, &queues, moved, &began, e);
	if (rc)
		return rc;
	if (queues_lost(dev, queues)) {
		queues_give_up(dev, queues);
		virtio_needs_reset(dev, "who served it took its place in a ring with him", -ENODATA);
		return err_set(
			e, -ENODATA,
			"%s: %s did not say where in the rings it stopped; the device stands still until its "
			"driver resets it",
			dev->name, server_of(dev, old)->ops->name);
	}
	if (linger(dev)) {
		back = queues_resume(dev, queues);
		if (back) {
			queues_give_up(dev, queues);
			virtio_needs_reset(dev, "who served it does not answer", back);
			return err_set(e, back,
				       "%s: %s does not answer and cannot go on\n"
				       "End it; the device stands still until its driver resets it.",
				       dev->name, dev->remote->ops->name);
		}
		return still_held(dev, e);
	}
	rc = swap(dev, m, true);
	if (!rc) {
		rc = take_over(dev, m->remote, m->local_queues, queues, e);
		if (!rc) {
			moved->stopped_ns = now_ns() - began;
			return 0;
		}
		if (dev->renew_fds) /* the one that failed may have kept copies */
			dev->stale_fds |= queues & ~queues_local(dev);
		settle(dev, queues);
		swap(dev, m, false);
		if (!lets_go(m->remote, m->how->drain_ms)) {
			dev->remote = old;
			dev->local_queues = old_local;
			virtio_narrow(dev, e);
			queues_give_up(dev, queues);
			virtio_needs_reset(dev, "who was to take over does not answer and has its rings", rc);
			return err_set(e, rc,
				       "%s: %s was given the rings and does not answer\n"
				       "End it; the device stands still until its driver resets it.",
				       dev->name, name);
		}
	}
	back = take_over(dev, old, old_local, queues, e);
	if (!back)
		return err_set(e, rc, "%s: %s cannot take over: %s; nothing was changed", dev->name, name,
			       strerror(-rc));
	queues_give_up(dev, queues);
	virtio_needs_reset(dev, "neither the new nor the old datapath can serve it", back);
	return err_set(e, rc,
		       "%s: %s cannot take over: %s; and %s cannot go on: %s\n"
		       "The device stands still until its driver resets it.",
		       dev->name, name, strerror(-rc), server_of(dev, old)->ops->name, strerror(-back));
}

static int may_move(struct virtio_device *dev, const struct virtio_move *m, struct err *e)
{
	if (linger(dev))
		return still_held(dev, e);
	if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return err_set(e, -EIO, "%s: waits for its driver to reset it", dev->name);
	if (m->fits) {
		int rc = m->fits(m->opaque, e);

		if (rc)
			return rc;
	}
	return virtio_move_fits(dev, m->remote, m->local_queues, e);
}

static void stand_still(const struct virtio_move *m, bool on)
{
	if (m->how->stand_still)
		m->how->stand_still(m->how->opaque, on);
}

/* A vCPU that waits for the lock cannot stand still, so it is let go of between the two looks. */
int virtio_move(struct virtio_device *dev, const struct virtio_move *m, struct virtio_moved *moved,
		struct err *e)
{
	uint64_t began;
	int rc;

	*moved = (struct virtio_moved){0};
	virtio_lock(dev);
	rc = may_move(dev, m, e);
	virtio_unlock(dev);
	if (rc)
		return rc;
	began = now_ns();
	stand_still(m, true);
	virtio_lock(dev);
	rc = may_move(dev, m, e);
	if (!rc)
		rc = change(dev, m, moved, e);
	virtio_unlock(dev);
	stand_still(m, false);
	moved->stood_still_ns = now_ns() - began;
	return rc;
}
