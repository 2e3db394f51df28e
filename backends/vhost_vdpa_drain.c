/* Theory of operation.  A device that cannot be suspended goes on with what it finds in the avail ring until it
 * is reset.  It is left alone until it is seen to rest: everything available is used; or its position (what it
 * has taken) is the used index (what it has given back) and both stay as they are for settle_ms, since the last
 * kick may still be on its way to it: a net device's receive queue always rests so.  Only the device knows its
 * position: it is asked, which for VDUSE is a message to the daemon.  A device that cannot say rests when its
 * used index does.
 *
 * A packed ring shows nobody where it stands; there the device's answer has both halves.  What is at that place
 * shows whether there is anything left to take, and afterwards whether the device has gone on all the same. */
#include "backends/vhost_vdpa_drain.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/log.h"

#define MS UINT64_C(1000000)

/* How long to sleep between looks: most devices rest at once, a slow one may be asked less often. */
#define FIRST_NAP (50 * 1000l)
#define LAST_NAP  (2 * 1000 * 1000l)

int vdpa_check_ring(const struct guest_mem *mem, const struct datapath_queue *q, bool packed)
{
	const uint64_t size = q->size;

	if (!size || (q->desc & 15) || (q->avail & (packed ? 3 : 1)) || (q->used & 3))
		return -EINVAL;
	if (!guest_mem_ptr(mem, q->desc, 16 * size) ||
	    !guest_mem_ptr(mem, q->avail, packed ? 4 : 4 + 2 * size + 2) ||
	    !guest_mem_ptr(mem, q->used, packed ? 4 : 4 + 8 * size + 2))
		return -EFAULT;
	return 0;
}

/* The index of a split ring's avail or used part. */
static uint16_t ring_idx(const struct guest_mem *mem, gpa_t part)
{
	const uint16_t *idx = guest_mem_ptr(mem, part + 2, 2);

	return le16toh(__atomic_load_n(idx, __ATOMIC_ACQUIRE));
}

/* A packed ring's descriptor at pos: what its flags say to a device that stands there. */
enum slot { SLOT_AVAILABLE, SLOT_USED, SLOT_OLD };

static enum slot slot_at(const struct guest_mem *mem, const struct datapath_queue *q, uint16_t pos)
{
	const uint16_t *p = guest_mem_ptr(mem, q->desc + 16u * (pos & 0x7fffu) + 14, 2);
	const uint16_t flags = le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
	const bool wrap = pos >> VRING_PACKED_EVENT_F_WRAP_CTR;
	const bool avail = flags & 1u << VRING_PACKED_DESC_F_AVAIL,
		   used = flags & 1u << VRING_PACKED_DESC_F_USED;

	if (avail != wrap)
		return SLOT_OLD;
	return used == wrap ? SLOT_USED : SLOT_AVAILABLE;
}

struct look {
	uint16_t taken, given; /* positions: what the device has taken, what it has given back */
	int rc;                /* 0: both are known.  Else why taken is not */
	bool all;              /* everything that is available was given back */
	uint64_t since;        /* when it was first seen so, 0: it was not */
	bool done;
};

static bool can_be(const struct vdpa_drain *d, const struct datapath_queue *q, const struct look *l)
{
	if (d->packed)
		return (l->taken & 0x7fff) < q->size && (l->given & 0x7fff) < q->size;
	return (uint16_t)(l->taken - l->given) <= q->size;
}

static struct look look(const struct vdpa_drain *d, const struct datapath_queue *q)
{
	struct vhost_vring_state s = {.index = q->index};
	struct look now = {0};

	if (!d->packed) {
		now.given = now.taken = ring_idx(d->mem, q->used);
		now.all = now.given == ring_idx(d->mem, q->avail);
		if (now.all)
			return now;
	}
	now.rc = vdpa_call(d->dev, VHOST_GET_VRING_BASE, &s);
	if (now.rc)
		return now;
	now.taken = (uint16_t)s.num;
	if (d->packed)
		now.given = (uint16_t)(s.num >> 16);
	else if (!can_be(d, q, &now))
		now.given = ring_idx(d->mem, q->used); /* it may have gone on between the two */
	if (!can_be(d, q, &now)) {
		now.taken = now.given;
		now.rc = -EBADMSG;
	} else if (d->packed)
		now.all = now.taken == now.given && slot_at(d->mem, q, now.taken) == SLOT_OLD;
	return now;
}

/* Looks at a queue once more. */
static void watch(const struct vdpa_drain *d, const struct datapath_queue *q, struct look *l)
{
	const uint64_t now = clock_ns(CLOCK_MONOTONIC);
	struct look seen = look(d, q);
	const bool rests = seen.rc ? !d->packed : seen.taken == seen.given;

	if (rests && (!l->since || seen.taken != l->taken || seen.given != l->given))
		seen.since = now;
	else if (rests)
		seen.since = l->since;
	*l = seen;
	l->done = l->all || l->rc == -EIO || (l->rc && d->packed) ||
		  (l->since && (d->suspended || now - l->since >= d->settle_ms * MS));
}

static void conclude(const struct vdpa_drain *d, struct datapath_queue *q, const struct look *l)
{
	q->next = l->given;
	q->lost = l->rc ? d->packed : l->taken != l->given;
	if (l->rc)
		log_debug("%s: queue %u of %s does not say where it stands: %s", d->dev->name, q->index,
			  d->dev->path, strerror(-l->rc));
	else if (q->lost)
		log_warn("%s: queue %u of %s: requests are still in flight after %u ms, and are lost",
			 d->dev->name, q->index, d->dev->path, d->drain_ms);
}

void vdpa_drain(const struct vdpa_drain *d, struct datapath_queue *const *queue, unsigned n)
{
	const uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + d->drain_ms * MS;
	struct look looks[VDPA_MAX_QUEUES] = {0};
	struct timespec nap = {.tv_nsec = FIRST_NAP};

	for (;;) {
		unsigned busy = 0;

		for (unsigned i = 0; i < n; i++) {
			if (!looks[i].done)
				watch(d, queue[i], &looks[i]);
			busy += !looks[i].done;
		}
		if (!busy || clock_ns(CLOCK_MONOTONIC) >= deadline)
			break;
		nanosleep(&nap, NULL);
		nap.tv_nsec = nap.tv_nsec * 2 < LAST_NAP ? nap.tv_nsec * 2 : LAST_NAP;
	}
	for (unsigned i = 0; i < n; i++)
		conclude(d, queue[i], &looks[i]);
}

void vdpa_recheck(const struct vdpa_drain *d, struct datapath_queue *const *queue, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct datapath_queue *q = queue[i];

		if (!d->packed)
			q->next = ring_idx(d->mem, q->used);
		else if (!q->lost && slot_at(d->mem, q, q->next) == SLOT_USED) {
			log_warn("%s: queue %u of %s has gone on until it was reset", d->dev->name, q->index,
				 d->dev->path);
			q->lost = true;
		}
	}
}
