#include "tests/fake/driver_ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GUARD      (64ull << 10)
#define LOW_SIZE   DRIVER_MEM_LOW_END
#define HIGH_SIZE  (DRIVER_MEM_HIGH_END - DRIVER_MEM_HIGH_START)
#define AVAIL_USED (1u << VRING_PACKED_DESC_F_AVAIL | 1u << VRING_PACKED_DESC_F_USED)

struct driver_slot {
	uint16_t ndesc; /* 0: with the driver */
	uint16_t next;  /* split: descriptor after this one in the free list or the chain */
	uint32_t in_len;
};

static void die(const char *what)
{
	fprintf(stderr, "fake driver: %s\n", what);
	abort();
}

/* --- memory --- */

static void region(struct driver_mem *m, gpa_t gpa, uint64_t size, size_t at)
{
	struct mem_region *r = &m->mem.region[m->mem.nregions++];

	*r = (struct mem_region){.gpa = gpa, .size = size, .hva = (char *)m->map + at, .fd = -1};
	if (mprotect(r->hva, size, PROT_READ | PROT_WRITE))
		die("mprotect");
	m->mem.size += size;
}

void driver_mem_init(struct driver_mem *m)
{
	*m = (struct driver_mem){.next = 4096, .map_len = 3 * GUARD + LOW_SIZE + HIGH_SIZE};
	m->mem.fd = -1;
	m->mem.page_size = 4096;
	m->map = mmap(NULL, m->map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->map == MAP_FAILED)
		die("mmap");
	region(m, 0, LOW_SIZE, GUARD);
	region(m, DRIVER_MEM_HIGH_START, HIGH_SIZE, 2 * GUARD + LOW_SIZE);
}

void driver_mem_fini(struct driver_mem *m)
{
	munmap(m->map, m->map_len);
}

gpa_t driver_mem_alloc(struct driver_mem *m, size_t len, size_t align)
{
	gpa_t at = (m->next + align - 1) / align * align;

	if (len > DRIVER_MEM_LOW_END - at)
		die("out of guest memory");
	m->next = at + len;
	return at;
}

void *driver_mem_ptr(const struct driver_mem *m, gpa_t gpa, size_t len)
{
	void *p = guest_mem_ptr(&m->mem, gpa, len);

	if (!p)
		die("not RAM");
	return p;
}

/* --- set-up --- */

void driver_ring_init(struct driver_ring *r, struct driver_mem *m, uint16_t size, uint64_t features,
		      uint16_t pos)
{
	size_t n = size;

	*r = (struct driver_ring){
		.m = m,
		.size = size,
		.packed = features >> VIRTIO_F_RING_PACKED & 1,
		.event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1,
		.in_order = features >> VIRTIO_F_IN_ORDER & 1,
		.avail_pos = pos,
		.used_pos = pos,
		.kick_pos = pos,
		.nfree = size,
		.batch_last = -1,
	};
	r->slot = calloc(n, sizeof(*r->slot));
	r->order = calloc(n, sizeof(*r->order));
	if (!r->slot || !r->order)
		die("out of memory");
	r->desc_gpa = driver_mem_alloc(m, 16 * n, 16);
	r->avail_gpa = driver_mem_alloc(m, r->packed ? 4 : 6 + 2 * n, 4);
	r->used_gpa = driver_mem_alloc(m, r->packed ? 4 : 6 + 8 * n, 4);
	r->desc = driver_mem_ptr(m, r->desc_gpa, 16 * n);
	if (r->packed) {
		r->driver_event = driver_mem_ptr(m, r->avail_gpa, 4);
		r->device_event = driver_mem_ptr(m, r->used_gpa, 4);
	} else {
		r->avail = driver_mem_ptr(m, r->avail_gpa, 6 + 2 * n);
		r->used = driver_mem_ptr(m, r->used_gpa, 6 + 8 * n);
		r->used_event = (_Atomic uint16_t *)&r->avail->ring[n];
		r->avail_event = (_Atomic uint16_t *)(void *)&r->used->ring[n];
		r->avail->idx = r->used->idx = pos;
		/* Where a driver in order is, in the table, is where it is in the ring. */
		r->free_head = r->in_order ? pos & (uint16_t)(size - 1) : 0;
	}
	for (unsigned i = 0; i < size; i++)
		r->slot[i].next = (uint16_t)(i + 1u == size ? 0 : i + 1u);
	driver_ring_irq(r, true, 0);
}

void driver_ring_fini(struct driver_ring *r)
{
	free(r->slot);
	free(r->order);
}

void driver_ring_queue(const struct driver_ring *r, struct datapath_queue *q)
{
	q->size = r->size;
	q->desc = r->desc_gpa;
	q->avail = r->avail_gpa;
	q->used = r->used_gpa;
	q->next = r->avail_pos;
}

/* --- adding --- */

/* A packed position n descriptors on. */
static uint16_t advance(const struct driver_ring *r, uint16_t pos, unsigned n)
{
	unsigned at = (pos & 0x7fffu) + n, wrap = pos & 0x8000u;

	for (; at >= r->size; at -= r->size)
		wrap ^= 0x8000u;
	return (uint16_t)(at | wrap);
}

void driver_ring_offer(struct driver_ring *r, uint16_t head)
{
	__atomic_store_n(&r->avail->ring[r->avail_pos & (r->size - 1)], head, __ATOMIC_RELAXED);
	r->avail_pos++;
}

/* A packed descriptor's len, id and flags: one word, as the device reads and writes it, or the thread
 * sanitizer would not see that they are in step. */
static uint64_t *word_at(const struct driver_ring *r, uint16_t pos)
{
	return (uint64_t *)(void *)&r->pdesc[pos & 0x7fff].len;
}

void driver_ring_put(struct driver_ring *r, gpa_t addr, uint32_t len, uint16_t id, uint16_t flags)
{
	uint64_t word;

	flags = (uint16_t)(flags ^ (r->avail_pos & 0x8000 ? 1u << VRING_PACKED_DESC_F_AVAIL
							  : 1u << VRING_PACKED_DESC_F_USED));
	word = len | (uint64_t)id << 32 | (uint64_t)flags << 48;
	r->pdesc[r->avail_pos & 0x7fff].addr = addr;
	/* The first one since the last kick keeps the device from all that follow. */
	if (r->kick_n++)
		__atomic_store_n(word_at(r, r->avail_pos), word, __ATOMIC_RELEASE);
	else
		r->held = word;
	r->avail_pos = advance(r, r->avail_pos, 1);
}

static uint16_t flags_of(const struct driver_buf *buf, bool next)
{
	return (uint16_t)((buf->write ? VRING_DESC_F_WRITE : 0) | (next ? VRING_DESC_F_NEXT : 0));
}

static int take(struct driver_ring *r, uint16_t id, const struct driver_buf *buf, unsigned n, unsigned ndesc)
{
	struct driver_slot *s = &r->slot[id];

	s->ndesc = (uint16_t)ndesc;
	s->in_len = 0;
	for (unsigned i = 0; i < n; i++)
		s->in_len += buf[i].write ? buf[i].len : 0;
	r->order[(r->order_head + r->norder++) % r->size] = id;
	r->nfree -= ndesc;
	return id;
}

static uint16_t free_id(const struct driver_ring *r)
{
	uint16_t id = r->packed ? r->avail_pos & 0x7fff : r->free_head;

	for (; r->slot[id].ndesc; id = (uint16_t)((id + 1u) % r->size))
		if (!r->packed)
			die("free list");
	return id;
}

int driver_ring_add(struct driver_ring *r, const struct driver_buf *buf, unsigned n)
{
	uint16_t id;

	if (n > r->nfree || !n)
		return -ENOSPC;
	id = free_id(r);
	for (unsigned i = 0; i < n; i++) {
		if (r->packed) {
			driver_ring_put(r, buf[i].addr, buf[i].len, id, flags_of(&buf[i], i + 1 < n));
			continue;
		}
		r->desc[r->free_head] = (struct vring_desc){.addr = buf[i].addr,
							    .len = buf[i].len,
							    .flags = flags_of(&buf[i], i + 1 < n),
							    .next = r->slot[r->free_head].next};
		r->free_head = r->slot[r->free_head].next;
	}
	if (!r->packed)
		driver_ring_offer(r, id);
	return take(r, id, buf, n, n);
}

int driver_ring_add_indirect(struct driver_ring *r, gpa_t table, const struct driver_buf *buf, unsigned n)
{
	void *t = driver_mem_ptr(r->m, table, 16ull * n);
	uint16_t id;

	if (!r->nfree)
		return -ENOSPC;
	id = free_id(r);
	for (unsigned i = 0; i < n; i++) {
		struct vring_desc d = {.addr = buf[i].addr,
				       .len = buf[i].len,
				       .flags = flags_of(&buf[i], i + 1 < n),
				       .next = (uint16_t)(i + 1)};
		struct vring_packed_desc p = {.addr = d.addr, .len = d.len, .flags = flags_of(&buf[i], false)};

		memcpy((char *)t + 16ull * i, r->packed ? (void *)&p : (void *)&d, 16);
	}
	if (r->packed) {
		driver_ring_put(r, table, 16 * n, id, VRING_DESC_F_INDIRECT);
	} else {
		r->desc[id] = (struct vring_desc){.addr = table, .len = 16 * n, .flags = VRING_DESC_F_INDIRECT};
		r->free_head = r->slot[id].next;
		driver_ring_offer(r, id);
	}
	return take(r, id, buf, n, 1);
}

static bool kick_packed(struct driver_ring *r)
{
	uint32_t e;
	uint16_t event, pos = r->avail_pos & 0x7fff;

	if (r->kick_n)
		__atomic_store_n(word_at(r, r->kick_pos), r->held, __ATOMIC_SEQ_CST);
	e = atomic_load(r->device_event);
	if (e >> 16 == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (e >> 16 != VRING_PACKED_EVENT_FLAG_DESC || !r->event_idx)
		return true;
	event = e & 0x7fff;
	if ((e ^ r->avail_pos) & 0x8000)
		event = (uint16_t)(event - r->size);
	return vring_need_event(event, pos, (uint16_t)(pos - r->kick_n));
}

static bool kick_split(struct driver_ring *r)
{
	__atomic_store_n(&r->avail->idx, r->avail_pos, __ATOMIC_SEQ_CST);
	if (r->event_idx)
		return vring_need_event(atomic_load(r->avail_event), r->avail_pos, r->kick_pos);
	return !(__atomic_load_n(&r->used->flags, __ATOMIC_SEQ_CST) & VRING_USED_F_NO_NOTIFY);
}

bool driver_ring_kick(struct driver_ring *r)
{
	bool wanted = r->packed ? kick_packed(r) : kick_split(r);

	r->kick_pos = r->avail_pos;
	r->kick_n = 0;
	return wanted;
}

/* --- collecting --- */

/* What the next place in the used ring says.  False: nothing. */
static bool used_next(struct driver_ring *r, uint32_t *id, uint32_t *len)
{
	if (r->packed) {
		uint64_t word = __atomic_load_n(word_at(r, r->used_pos), __ATOMIC_ACQUIRE);
		uint16_t flags = (uint16_t)(word >> 48);

		if ((flags & AVAIL_USED) != (r->used_pos & 0x8000 ? AVAIL_USED : 0))
			return false;
		*id = (uint16_t)(word >> 32);
		*len = flags & VRING_DESC_F_WRITE ? (uint32_t)word : 0;
		return true;
	}
	if (__atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE) == r->used_pos)
		return false;
	*id = r->used->ring[r->used_pos & (r->size - 1)].id;
	*len = r->used->ring[r->used_pos & (r->size - 1)].len;
	return true;
}

static void give_back(struct driver_ring *r, uint16_t id)
{
	struct driver_slot *s = &r->slot[id];
	unsigned i = 0;

	r->used_pos = r->packed ? advance(r, r->used_pos, s->ndesc) : (uint16_t)(r->used_pos + 1);
	if (!r->packed && !r->in_order) {
		uint16_t tail = id;

		for (unsigned n = s->ndesc; n > 1; n--)
			tail = r->slot[tail].next;
		if (r->nfree)
			r->slot[tail].next = r->free_head;
		r->free_head = id;
	}
	r->nfree += s->ndesc;
	s->ndesc = 0;
	while (r->order[(r->order_head + i) % r->size] != id)
		i++;
	for (; i; i--)
		r->order[(r->order_head + i) % r->size] = r->order[(r->order_head + i - 1) % r->size];
	r->order_head = (r->order_head + 1) % r->size;
	r->norder--;
}

int driver_ring_collect(struct driver_ring *r, uint16_t *id_out, uint32_t *len_out)
{
	uint32_t id, len;

	if (r->batch_last >= 0) {
		id = (uint32_t)r->batch_last;
		len = r->batch_len;
	} else if (!used_next(r, &id, &len)) {
		return 0;
	} else if (id >= r->size || !r->slot[id].ndesc) {
		return -EILSEQ;
	}
	if (r->in_order && id != r->order[r->order_head]) { /* ends a batch that is still to come */
		r->batch_last = (int)id;
		r->batch_len = len;
		id = r->order[r->order_head];
		len = r->slot[id].in_len;
	} else {
		r->batch_last = -1;
	}
	give_back(r, (uint16_t)id);
	if (id_out)
		*id_out = (uint16_t)id;
	if (len_out)
		*len_out = len;
	return 1;
}

void driver_ring_irq(struct driver_ring *r, bool on, uint16_t after)
{
	if (after && !r->event_idx)
		die("only with EVENT_IDX");
	if (r->packed) {
		uint32_t flags = !on            ? VRING_PACKED_EVENT_FLAG_DISABLE
				 : r->event_idx ? VRING_PACKED_EVENT_FLAG_DESC
						: VRING_PACKED_EVENT_FLAG_ENABLE;

		atomic_store(r->driver_event, advance(r, r->used_pos, after) | flags << 16);
	} else if (r->event_idx) {
		/* Off: as far away as can be. */
		atomic_store(r->used_event, (uint16_t)(r->used_pos + (on ? after : 0x8000)));
	} else {
		__atomic_store_n(&r->avail->flags, on ? 0 : VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_SEQ_CST);
	}
}
