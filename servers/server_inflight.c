/* Theory of operation: who dies leaves the stores it has made, in their order, and its successor goes by them.
 *  taken: the flag is set before anything is done for the chain.
 *  given back: the chain goes to the front of the list of the batch, in the buffer; then one store of the used
 *   index shows the batch; then the flags go, and the index is noted.  Died before the index: all of the batch
 * is done again, and the driver has not heard of any of it.  After it: the index says how long the batch is,
 * from the front of the list, and all of that is done, whether or not its flags have gone already. So the list
 * may get no longer between the index and its note, and no head on it be taken again: a batch ends before the
 * next chain is taken or given.
 *
 * In order (VIRTIO_F_IN_ORDER) a chain goes to the list when all that were taken before it are there, as it is
 * only then that the virtqueue lets it go: the index has to count the list's first entries. */
/* #syscalls[server]: memfd_create ftruncate mmap munmap fstat close */
#include "servers/server_inflight.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "servers/server_guard.h"

#define ALIGN   64u
#define VERSION 1

/* As the protocol has them; the front end can change all of it at any time. */
struct entry {
	uint8_t inflight, padding[5];
	uint16_t next;
	uint64_t counter;
};

struct region {
	uint64_t features;
	uint16_t version, desc_num;
	uint16_t last_batch_head, used_idx;
	struct entry desc[];
};

/* A packed ring's are larger: QueueRegionPacked is 32 bytes, and 32 for each descriptor. */
static uint64_t region_len(uint64_t queue_size)
{
	return (32 + 32 * queue_size + ALIGN - 1) / ALIGN * ALIGN;
}

struct server_inflight_buffer {
	void *map;
	size_t len;
	int guard;
	uint64_t offset, stride;
	unsigned nqueues;
	uint16_t queue_size;
};

struct server_inflight {
	struct region *region;
	uint16_t size;
	bool in_order;
	uint64_t counter;
	uint64_t given; /* counted as what is shown */
	uint16_t last;  /* as the buffer has them: last_batch_head, used_idx */
	uint16_t used;
	unsigned nredo, redone;
	unsigned nbatch;
	unsigned oldest, newest; /* in order: taken and not on the list, positions in turn[] modulo size */
	struct slot {
		uint64_t counter; /* of what is to be done again, by age: */
		uint16_t redo;
		uint16_t batch; /* a list of our own: the front end could make the one in the buffer a ring */
		uint16_t turn;  /* in order: heads as they were taken ... */
		bool back;      /* ... and whether it has been given back */
		uint16_t at;    /* by head: where in turn[] */
	} slot[];
};

/* Tests put themselves here, to see what somebody leaves who dies right after a store. */
#ifndef INFLIGHT_STORED
#define INFLIGHT_STORED() ((void)0)
#endif

/* Release: the compiler must not change the order. */
#define STORE(where, value)                                                                                    \
	do {                                                                                                   \
		__atomic_store_n(&(where), value, __ATOMIC_RELEASE);                                           \
		INFLIGHT_STORED();                                                                             \
	} while (0)

int server_inflight_make(struct vhost_user_inflight_desc *d)
{
	CLEANUP_FD int fd = -1;

	if (!d->num_queues || !d->queue_size || d->queue_size > 32768)
		return -EINVAL;
	d->mmap_offset = 0;
	d->mmap_size = d->num_queues * region_len(d->queue_size);
	fd = memfd_create("vhost-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)d->mmap_size))
		return -errno;
	return steal_fd(&fd);
}

int server_inflight_map(struct server_inflight_buffer **out, const struct vhost_user_inflight_desc *d, int fd,
			int lost_fd)
{
	struct server_inflight_buffer *b;
	struct stat st;
	uint64_t end;
	int rc;

	if (!d->num_queues || !d->queue_size || d->queue_size > 32768 ||
	    __builtin_add_overflow(d->mmap_size, d->mmap_offset, &end) || end > (UINT64_C(1) << 32) ||
	    d->mmap_offset % ALIGN ||
	    d->mmap_size / d->num_queues < sizeof(struct region) + d->queue_size * sizeof(struct entry) ||
	    fstat(fd, &st) || st.st_size < 0 || (uint64_t)st.st_size < end)
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	*b = (struct server_inflight_buffer){
		.len = end,
		.offset = d->mmap_offset,
		.stride = d->mmap_size / d->num_queues / ALIGN * ALIGN,
		.nqueues = d->num_queues,
		.queue_size = d->queue_size,
	};
	b->map = mmap(NULL, b->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	rc = b->map == MAP_FAILED ? -errno : 0;
	if (!rc) {
		b->guard = server_guard_add(b->map, b->len, lost_fd);
		if (b->guard >= 0) {
			*out = b;
			return 0;
		}
		rc = b->guard;
		munmap(b->map, b->len);
	}
	free(b);
	return rc;
}

void server_inflight_unmap(struct server_inflight_buffer *b)
{
	if (!b)
		return;
	server_guard_remove(b->guard);
	munmap(b->map, b->len);
	free(b);
}

static int by_counter(const void *a, const void *b)
{
	const struct slot *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

/* The one before us died between the used index and its note: what the index shows is done. */
static void settle(struct region *r, uint16_t size, uint16_t used)
{
	uint16_t n = (uint16_t)(used - r->used_idx);
	uint16_t head = __atomic_load_n(&r->last_batch_head, __ATOMIC_RELAXED);

	if (n <= size)
		for (; n && head < size; n--) {
			STORE(r->desc[head].inflight, 0);
			head = __atomic_load_n(&r->desc[head].next, __ATOMIC_RELAXED);
		}
	STORE(r->used_idx, used);
}

static void find_redos(struct server_inflight *f)
{
	for (uint16_t i = 0; i < f->size; i++) {
		const struct entry *d = &f->region->desc[i];
		const uint64_t counter = __atomic_load_n(&d->counter, __ATOMIC_RELAXED);

		if (__atomic_load_n(&d->inflight, __ATOMIC_RELAXED) != 1)
			continue;
		f->slot[f->nredo].counter = counter;
		f->slot[f->nredo++].redo = i;
		if (counter >= f->counter)
			f->counter = counter + 1;
	}
	qsort(f->slot, f->nredo, sizeof(f->slot[0]), by_counter);
}

struct server_inflight *server_inflight_begin(struct server_inflight_buffer *b,
					      const struct server_inflight_queue *q)
{
	struct server_inflight *f;
	struct region *r;

	if (!b || q->index >= b->nqueues || q->size > b->queue_size)
		return NULL;
	f = calloc(1, sizeof(*f) + q->size * sizeof(f->slot[0]));
	if (!f)
		return NULL;
	f->size = q->size;
	f->in_order = q->in_order;
	f->given = q->shown;
	f->used = q->used;
	f->region = r = (struct region *)(void *)((char *)b->map + b->offset + b->stride * q->index);
	if (r->version != VERSION || r->desc_num != q->size) { /* new */
		for (unsigned i = 0; i < q->size; i++)
			r->desc[i] = (struct entry){0};
		r->features = 0;
		r->desc_num = q->size;
		r->last_batch_head = 0;
		r->used_idx = q->used;
		STORE(r->version, VERSION);
		return f;
	}
	settle(r, q->size, q->used);
	f->last = r->last_batch_head;
	find_redos(f);
	return f;
}

void server_inflight_end(struct server_inflight *f)
{
	free(f);
}

static void queue_up(struct server_inflight *f, uint16_t head)
{
	const uint16_t at = (uint16_t)(f->newest++ % f->size);

	f->slot[at].turn = head;
	f->slot[at].back = false;
	f->slot[head].at = at;
}

/* It keeps its age: the next one after us goes by that too. */
int server_inflight_redo(struct server_inflight *f)
{
	uint16_t head;

	if (f->redone == f->nredo)
		return -1;
	head = f->slot[f->redone++].redo;
	if (f->in_order)
		queue_up(f, head);
	return head;
}

void server_inflight_take(struct server_inflight *f, uint16_t head)
{
	STORE(f->region->desc[head].counter, f->counter++);
	STORE(f->region->desc[head].inflight, 1);
	if (f->in_order)
		queue_up(f, head);
}

static void list(struct server_inflight *f, uint16_t head)
{
	struct region *r = f->region;

	assert(f->nbatch < f->size);
	STORE(r->desc[head].next, f->last);
	STORE(r->last_batch_head, head);
	f->last = head;
	f->slot[f->nbatch++].batch = head;
	f->given++;
}

void server_inflight_give(struct server_inflight *f, uint16_t head)
{
	if (!f->in_order) {
		list(f, head);
		return;
	}
	f->slot[f->slot[head].at].back = true;
	for (; f->oldest != f->newest && f->slot[f->oldest % f->size].back; f->oldest++)
		list(f, f->slot[f->oldest % f->size].turn);
}

void server_inflight_shown(struct server_inflight *f, uint64_t shown)
{
	if (!f->nbatch || shown != f->given)
		return;
	for (unsigned i = 0; i < f->nbatch; i++)
		STORE(f->region->desc[f->slot[i].batch].inflight, 0);
	f->used = (uint16_t)(f->used + f->nbatch);
	STORE(f->region->used_idx, f->used);
	f->nbatch = 0;
}
