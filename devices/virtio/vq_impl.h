/* What the two ring formats share.  For virtqueue.c, vq_split.c and vq_packed.c only. */
#ifndef VIRTIO_VQ_IMPL_H
#define VIRTIO_VQ_IMPL_H
#include <endian.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/virtio/virtqueue.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Tests put themselves here, to change guest memory right after each read of it. */
#ifndef VQ_FETCHED
#define VQ_FETCHED(ptr, len) ((void)0)
#endif

#define VQ_CHAIN_MAX (1ull << 32) /* bytes in a chain: 2.7.5.2 */

/* VIRTIO_F_IN_ORDER: a chain from pop until the driver may see it used. */
struct vq_done {
	uint32_t written;
	uint16_t ndesc;
	bool done;
	bool readonly; /* nothing in it for the device to write */
};

struct virtqueue {
	bool packed, event_idx, indirect, in_order;
	bool rare;      /* in order, or unpopped */
	bool batch;     /* in order: the next used chain shares the entry of the last */
	bool call_due;  /* by the next flush */
	bool kicks_off; /* the driver was told not to notify */
	uint16_t size;  /* entries */
	uint16_t next;  /* avail position to pop; packed: bit 15 is the wrap counter, as below */
	uint16_t seen;  /* ... where it was before unpop, while unpopped */
	uint16_t unpopped;
	uint16_t avail_idx;  /* split: the driver's, as last read */
	uint16_t used_next;  /* where the next used chain goes */
	uint16_t used_shown; /* used_next as the driver knows it */
	uint16_t entry;      /* in order: of the used chain before, for a batch */
	uint16_t ndesc_out;  /* packed: descriptors popped and not yet shown used */
	uint16_t ndesc_done; /* packed: those of them that the next flush shows */
	unsigned shown;      /* chains since the last flush */
	uint16_t nshow;      /* packed: chains that the next flush shows */
	uint16_t pop_slot;   /* packed: in order[], of the next pop; split: next modulo size */
	uint16_t retire_slot;
	uint16_t inflight;
	int error;

	/* The region of the last address translated: nearly always that of the next one. */
	gpa_t hit_gpa;
	uint64_t hit_size;
	char *hit_hva;

	/* The ring.  The driver writes it whenever it likes. */
	union {
		const struct vring_desc *desc;
		struct vring_packed_desc *pdesc;
	};
	const struct vring_avail *avail; /* split */
	struct vring_used *used;         /* split */
	const uint32_t *driver_event;    /* packed */
	uint32_t *device_event;          /* packed */
	uint64_t held;                   /* packed: of the entry at used_shown: id, len and flags */

	uint16_t *flight;     /* by head or id: 0 not in flight, else how many descriptors (split: 1);
			       * in order: slot + 1 */
	uint16_t *order;      /* [size] what was popped last, a slot each */
	struct vq_done *done; /* [size] in order only */

	uint16_t pop_flushed; /* next at the last flush */
	uint16_t poll_skip;   /* so many polls are not made */
	uint16_t poll_misses; /* since one found something, up to VQ_POLL_MISSES */
	unsigned index;
	int call_fd;
	int (*call)(void *opaque); /* instead of call_fd */
	void *call_opaque;
	const struct guest_mem *mem;
	struct queue_stats *stats;
	void *opaque;
};

static inline uint16_t vq_load16(const void *p, int order)
{
	uint16_t v = le16toh(__atomic_load_n((const uint16_t *)p, order));

	VQ_FETCHED(p, sizeof(v));
	return v;
}

static inline uint32_t vq_load32(const void *p, int order)
{
	uint32_t v = le32toh(__atomic_load_n((const uint32_t *)p, order));

	VQ_FETCHED(p, sizeof(v));
	return v;
}

static inline uint64_t vq_load64(const void *p, int order)
{
	uint64_t v = le64toh(__atomic_load_n((const uint64_t *)p, order));

	VQ_FETCHED(p, sizeof(v));
	return v;
}

/* For indirect tables, which may lie anywhere: volatile, so that it is read here and only here. */
static inline uint64_t vq_load64_unaligned(const void *p)
{
	typedef uint64_t __attribute__((aligned(1), may_alias)) word;
	uint64_t v = le64toh(*(const volatile word *)p);

	VQ_FETCHED(p, sizeof(v));
	return v;
}

/* Latches err and returns what is latched. */
int vq_fail(struct virtqueue *vq, int err);

void *vq_ptr_miss(struct virtqueue *vq, gpa_t gpa, uint32_t len);

/* NULL unless all of [gpa, gpa + len) is RAM, in one piece. */
static inline void *vq_ptr(struct virtqueue *vq, gpa_t gpa, uint32_t len)
{
	uint64_t at = gpa - vq->hit_gpa;

	if (likely(at < vq->hit_size && len <= vq->hit_size - at))
		return vq->hit_hva + at;
	return vq_ptr_miss(vq, gpa, len);
}

/* What a descriptor refers to, which is not checked here. */
static inline void vq_prefetch(const struct virtqueue *vq, const uint64_t *addr)
{
	const uint64_t at = le64toh(__atomic_load_n(addr, __ATOMIC_RELAXED)) - vq->hit_gpa;

	if (at < vq->hit_size)
		__builtin_prefetch(vq->hit_hva + at);
}

/* A chain is put together in c itself, whose counts say how far it is. */
static inline __attribute__((always_inline)) void vq_chain_begin(struct vq_chain *c, uint16_t head)
{
	c->head = head;
	c->nout = c->nin = 0;
	c->out_len = c->in_len = 0;
}

static inline __attribute__((always_inline)) void vq_chain_count(struct vq_chain *c, uint64_t len,
								 bool writable)
{
	if (writable) {
		c->nin++;
		c->in_len += len;
	} else {
		c->nout++;
		c->out_len += len;
	}
}

/* A piece as most are: in its place in the chain, not empty, and in the region where the last one was.
 * len is below 2^32; iov is the next to fill in, *room what it has room for.  False: nothing done, see
 * vq_chain_add(). */
static inline __attribute__((always_inline)) bool vq_chain_add_quick(const struct virtqueue *vq,
								     struct vq_chain *c, struct iovec *iov,
								     unsigned *room, gpa_t addr, uint64_t len,
								     bool writable)
{
	uint64_t at = addr - vq->hit_gpa, end = at + len;

	if (unlikely(end <= at || end > vq->hit_size || !*room || (!writable && c->nin)))
		return false;
	--*room;
	iov->iov_base = vq->hit_hva + at;
	iov->iov_len = len;
	vq_chain_count(c, len, writable);
	return true;
}

/* Any piece.  0, -EILSEQ, -E2BIG or -EFAULT.  put: the same, quick where it can be. */
int vq_chain_add(struct virtqueue *vq, struct vq_chain *c, gpa_t addr, uint32_t len, bool writable);

static inline __attribute__((always_inline)) int vq_chain_put(struct virtqueue *vq, struct vq_chain *c,
							      gpa_t addr, uint32_t len, bool writable)
{
	unsigned n = c->nout + c->nin, room = c->iov_max - n;

	if (likely(vq_chain_add_quick(vq, c, c->iov + n, &room, addr, len, writable)))
		return 0;
	return vq_chain_add(vq, c, addr, len, writable);
}

/* What few virtqueues need to remember of a chain.  1. */
int vq_chain_end_rare(struct virtqueue *vq, const struct vq_chain *c, uint16_t slot, uint16_t ndesc);

/* The chain is whole, and the ring's position behind it: remembers it as in flight under head, which is
 * c->head.  1, for vq_pop(). */
static inline __attribute__((always_inline)) int vq_chain_end(struct virtqueue *vq, const struct vq_chain *c,
							      uint16_t slot, size_t head, uint16_t ndesc)
{
	vq->flight[head] = ndesc;
	vq->order[slot] = (uint16_t)head;
	vq->inflight++;
	if (unlikely(vq->rare))
		return vq_chain_end_rare(vq, c, slot, ndesc);
	return 1;
}

static inline bool vq_chain_too_long(const struct vq_chain *c)
{
	return c->out_len + c->in_len > VQ_CHAIN_MAX;
}

/* Packed: the position n descriptors on, n <= size. */
static inline uint16_t vq_packed_after(const struct virtqueue *vq, uint16_t pos, unsigned n)
{
	unsigned at = (pos & 0x7fffu) + n;

	return at < vq->size ? (uint16_t)(pos + n) : (uint16_t)((at - vq->size) | ((pos ^ 0x8000u) & 0x8000u));
}

static inline uint16_t vq_packed_before(const struct virtqueue *vq, uint16_t pos, unsigned n)
{
	unsigned at = pos & 0x7fffu;

	return at >= n ? (uint16_t)(pos - n) : (uint16_t)((at + vq->size - n) | ((pos ^ 0x8000u) & 0x8000u));
}

/* The formats.  new: areas to pointers.  used: one used entry at position `entry`, not shown yet; a chain
 * more is used.  show: shows all; how many, and whether the driver wants to hear of it.  ask: arms
 * notification; true if something is there already.  more: is there?  ahead: see vq_ahead(). */
int vq_split_new(struct virtqueue *vq, const struct datapath_queue *q);
int vq_split_pop(struct virtqueue *vq, struct vq_chain *c);
void vq_split_ahead(const struct virtqueue *vq, unsigned n);
static inline void vq_split_used(struct virtqueue *vq, uint16_t entry, uint16_t head, uint32_t written)
{
	struct vring_used_elem *e = &vq->used->ring[entry & (vq->size - 1)];

	__atomic_store_n(&e->id, htole32(head), __ATOMIC_RELAXED);
	__atomic_store_n(&e->len, htole32(written), __ATOMIC_RELAXED);
	vq->used_next++;
}

unsigned vq_split_show(struct virtqueue *vq, bool *wanted);
bool vq_split_ask(struct virtqueue *vq);
bool vq_split_more(const struct virtqueue *vq);
void vq_split_busy(struct virtqueue *vq);

int vq_packed_new(struct virtqueue *vq, const struct datapath_queue *q);
int vq_packed_pop(struct virtqueue *vq, struct vq_chain *c);
void vq_packed_ahead(const struct virtqueue *vq, unsigned n);
void vq_packed_used(struct virtqueue *vq, uint16_t entry, uint16_t id, uint32_t written, uint16_t ndesc);
unsigned vq_packed_show(struct virtqueue *vq, bool *wanted);
bool vq_packed_ask(struct virtqueue *vq);
bool vq_packed_more(const struct virtqueue *vq);
void vq_packed_busy(struct virtqueue *vq);
#endif
