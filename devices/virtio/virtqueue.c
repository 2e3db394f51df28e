#include "devices/virtio/virtqueue.h"

#include <assert.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "devices/virtio/vq_impl.h"

/* A driver that polls is back within this, and so is many a one that sleeps; a kick costs both sides more. */
#define VQ_POLL_NS     20000u
#define VQ_POLL_MISSES 10
#define PACKED_IDS     65536u /* the driver chooses them; 2.8.1 sets no bound */

static bool has(uint64_t features, unsigned bit)
{
	return features >> bit & 1;
}

int vq_new(struct virtqueue **out, const struct datapath_queue *q, const struct guest_mem *mem,
	   uint64_t features)
{
	struct virtqueue *vq = calloc(1, sizeof(*vq));
	int rc = -ENOMEM;

	assert(q->stats);
	if (!vq)
		return -ENOMEM;
	vq->packed = has(features, VIRTIO_F_RING_PACKED);
	vq->event_idx = has(features, VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = has(features, VIRTIO_RING_F_INDIRECT_DESC);
	vq->in_order = vq->rare = has(features, VIRTIO_F_IN_ORDER);
	vq->index = q->index;
	vq->size = q->size;
	vq->next = vq->used_next = vq->used_shown = vq->pop_flushed = q->next;
	vq->call_fd = q->call_fd;
	vq->call = q->call;
	vq->call_opaque = q->call_opaque;
	vq->mem = mem;
	vq->stats = q->stats;
	/* Of all those ids the driver uses a few: pages that are not touched are not there. */
	vq->flight = calloc(vq->packed ? PACKED_IDS : (size_t)q->size + 1, sizeof(*vq->flight));
	vq->order = calloc((size_t)q->size + 1, sizeof(*vq->order));
	if (vq->in_order)
		vq->done = calloc((size_t)q->size + 1, sizeof(*vq->done));
	if (vq->flight && vq->order && (vq->done || !vq->in_order))
		rc = vq->packed ? vq_packed_new(vq, q) : vq_split_new(vq, q);
	if (rc) {
		vq_free(vq);
		return rc;
	}
	(void)vq_ptr(vq, q->desc, 1); /* buffers are likely to be where the ring is */
	*out = vq;
	return 0;
}

void vq_free(struct virtqueue *vq)
{
	if (!vq)
		return;
	free(vq->flight);
	free(vq->order);
	free(vq->done);
	free(vq);
}

void *vq_ptr_miss(struct virtqueue *vq, gpa_t gpa, uint32_t len)
{
	for (unsigned i = 0; i < vq->mem->nregions; i++) {
		const struct mem_region *r = &vq->mem->region[i];

		if (gpa - r->gpa >= r->size || len > r->size - (gpa - r->gpa))
			continue;
		vq->hit_gpa = r->gpa;
		vq->hit_size = r->size;
		vq->hit_hva = r->hva;
		return vq->hit_hva + (gpa - r->gpa);
	}
	return NULL;
}

int vq_chain_add(struct virtqueue *vq, struct vq_chain *c, gpa_t addr, uint32_t len, bool writable)
{
	void *p;

	if (!writable && c->nin)
		return -EILSEQ; /* 2.7.4.2 */
	if (!len)               /* nothing in it, so its address is nobody's business */
		return 0;
	if (c->nout + c->nin == c->iov_max)
		return -E2BIG;
	p = vq_ptr(vq, addr, len);
	if (!p)
		return -EFAULT;
	c->iov[c->nout + c->nin] = (struct iovec){.iov_base = p, .iov_len = len};
	vq_chain_count(c, len, writable);
	return 0;
}

int vq_chain_end_rare(struct virtqueue *vq, const struct vq_chain *c, uint16_t slot, uint16_t ndesc)
{
	if (vq->in_order) {
		vq->flight[c->head] = (uint16_t)(slot + 1);
		vq->done[slot] = (struct vq_done){.ndesc = ndesc, .readonly = !c->nin};
	}
	if (vq->unpopped)
		vq->unpopped--;
	vq->rare = vq->in_order || vq->unpopped;
	return 1;
}

int vq_fail(struct virtqueue *vq, int err)
{
	assert(err < 0);
	if (!vq->error)
		vq->error = err;
	return vq->error;
}

void vq_break(struct virtqueue *vq, int err)
{
	vq_fail(vq, err);
}

int vq_pop(struct virtqueue *vq, struct vq_chain *c)
{
	if (unlikely(vq->error))
		return vq->error;
	return vq->packed ? vq_packed_pop(vq, c) : vq_split_pop(vq, c);
}

void vq_ahead(const struct virtqueue *vq, unsigned n)
{
	if (vq->packed)
		vq_packed_ahead(vq, n);
	else
		vq_split_ahead(vq, n);
}

void vq_unpop(struct virtqueue *vq, unsigned n)
{
	uint16_t slot = vq->packed ? vq->pop_slot : vq->next & (uint16_t)(vq->size - 1);
	unsigned ndesc = 0;

	assert(n <= vq->inflight);
	if (!n)
		return;
	if (!vq->unpopped)
		vq->seen = vq->next;
	for (unsigned i = 0; i < n; i++) {
		uint16_t head;

		slot = (uint16_t)((slot ? slot : vq->size) - 1);
		head = vq->order[slot];
		assert(vq->flight[head]);
		ndesc += vq->in_order ? vq->done[slot].ndesc : vq->flight[head];
		vq->flight[head] = 0;
	}
	vq->unpopped = (uint16_t)(vq->unpopped + n);
	vq->rare = true;
	vq->inflight = (uint16_t)(vq->inflight - n);
	if (vq->packed) {
		vq->pop_slot = slot;
		vq->ndesc_out = (uint16_t)(vq->ndesc_out - ndesc);
		vq->next = vq_packed_before(vq, vq->next, ndesc);
	} else {
		vq->next = (uint16_t)(vq->next - n);
	}
}

static void used(struct virtqueue *vq, uint16_t entry, uint16_t head, uint32_t written, uint16_t ndesc)
{
	if (vq->packed)
		vq_packed_used(vq, entry, head, written, ndesc);
	else
		vq_split_used(vq, entry, head, written);
}

/* In order: everything from the oldest on that is back, until one that is not. */
static void retire(struct virtqueue *vq)
{
	struct vq_done *d;

	while ((d = &vq->done[vq->retire_slot])->done) {
		if (!vq->batch)
			vq->entry = vq->used_next;
		d->done = false;
		used(vq, vq->entry, vq->order[vq->retire_slot], d->written, d->ndesc);
		/* Chains that a batch skips count as written in full (2.7.8), so it may skip those only that
		 * have nothing to write.  It could skip full ones too, but a driver that looks for each length
		 * in the entry of the chain itself would find nonsense. */
		vq->batch = d->readonly;
		vq->retire_slot = (uint16_t)(vq->retire_slot + 1 == vq->size ? 0 : vq->retire_slot + 1);
	}
}

static __attribute__((noinline)) void push_in_order(struct virtqueue *vq, uint16_t slot, uint32_t written)
{
	vq->done[slot].written = written;
	vq->done[slot].done = true;
	retire(vq);
}

void vq_push(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	uint16_t flight = vq->flight[head];

	assert(flight);
	vq->flight[head] = 0;
	vq->inflight--;
	if (unlikely(vq->in_order))
		push_in_order(vq, (uint16_t)(flight - 1), written);
	else
		used(vq, vq->used_next, head, written, flight);
}

/* One thread writes: no need to lock the bus. */
static void stat_add(_Atomic uint64_t *stat, uint64_t n)
{
	atomic_store_explicit(stat, atomic_load_explicit(stat, memory_order_relaxed) + n, memory_order_relaxed);
}

static void call(const struct virtqueue *vq)
{
	const uint64_t one = 1;

	if (vq->call_fd < 0) {
		if (vq->call && !vq->call(vq->call_opaque))
			stat_add(&vq->stats->calls, 1);
		return;
	}
	/* Full (EAGAIN) is as good: the driver has yet to hear of it. */
	if (write(vq->call_fd, &one, sizeof(one)) < 0 && errno != EAGAIN) /* #syscalls[data]: write */
		return;
	stat_add(&vq->stats->calls, 1);
}

void vq_show(struct virtqueue *vq)
{
	bool wanted = false;
	unsigned n = vq->packed ? vq_packed_show(vq, &wanted) : vq_split_show(vq, &wanted);

	if (!n)
		return;
	vq->batch = false;
	vq->shown += n;
	vq->call_due |= wanted;
}

void vq_flush(struct virtqueue *vq)
{
	if (vq->next != vq->pop_flushed) {
		vq->pop_flushed = vq->next;
		stat_add(&vq->stats->bursts, 1);
	}
	vq_show(vq);
	if (!vq->shown)
		return;
	stat_add(&vq->stats->chains, vq->shown);
	vq->shown = 0;
	if (vq->call_due)
		call(vq);
	else
		stat_add(&vq->stats->calls_suppressed, 1);
	vq->call_due = false;
}

bool vq_wait(struct virtqueue *vq)
{
	vq_flush(vq);
	if (vq->error)
		return false;
	return vq->packed ? vq_packed_ask(vq) : vq_split_ask(vq);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool more_soon(const struct virtqueue *vq)
{
	uint64_t end = now_ns() + VQ_POLL_NS;

	do {
		for (unsigned i = 0; i < 16; i++) {
			if (vq->packed ? vq_packed_more(vq) : vq_split_more(vq))
				return true;
			__builtin_ia32_pause();
		}
	} while (now_ns() < end);
	return false;
}

/* Each miss doubles how long it is before the next try. */
static bool poll_due(struct virtqueue *vq)
{
	if (!vq->poll_skip)
		return true;
	vq->poll_skip--;
	return false;
}

static bool poll(struct virtqueue *vq)
{
	if (more_soon(vq)) {
		vq->poll_misses = 0;
		return true;
	}
	if (vq->poll_misses < VQ_POLL_MISSES)
		vq->poll_misses++;
	vq->poll_skip = (uint16_t)((1u << vq->poll_misses) - 1);
	return false;
}

bool vq_poll(struct virtqueue *vq)
{
	vq_flush(vq);
	return !vq->error && poll_due(vq) && poll(vq);
}

bool vq_expect(struct virtqueue *vq)
{
	if (vq->error || vq->kicks_off || !poll_due(vq))
		return false;
	if (vq->packed)
		vq_packed_busy(vq);
	else
		vq_split_busy(vq);
	vq->kicks_off = true;
	return poll(vq) || vq_wait(vq);
}

void vq_busy(struct virtqueue *vq)
{
	/* Split with EVENT_IDX: the event has passed, so the driver is quiet already. */
	if (vq->kicks_off || (vq->event_idx && !vq->packed))
		return;
	vq->kicks_off = true;
	if (vq->packed)
		vq_packed_busy(vq);
	else
		vq_split_busy(vq);
}

unsigned vq_index(const struct virtqueue *vq)
{
	return vq->index;
}

uint16_t vq_size(const struct virtqueue *vq)
{
	return vq->size;
}

unsigned vq_inflight(const struct virtqueue *vq)
{
	return vq->inflight;
}

int vq_error(const struct virtqueue *vq)
{
	return vq->error;
}

uint16_t vq_position(const struct virtqueue *vq)
{
	return vq->next;
}

struct queue_stats *vq_stats(struct virtqueue *vq)
{
	return vq->stats;
}

void *vq_opaque(const struct virtqueue *vq)
{
	return vq->opaque;
}

void vq_set_opaque(struct virtqueue *vq, void *opaque)
{
	vq->opaque = opaque;
}
