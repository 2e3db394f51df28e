/* #syscalls: memfd_create ftruncate mmap munmap fstat close */
#include "servers/server_inflight.h"

#include <errno.h>
#include <stdbool.h>
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
	uint64_t counter;
	unsigned nredo, redone;
	struct redo {
		uint64_t counter;
		uint16_t head;
	} redo[];
};

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
	const struct redo *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

/* The one before us died between the used index and the flags: what the index shows is done. */
static void settle(struct region *r, uint16_t size, uint16_t used)
{
	uint16_t n = (uint16_t)(used - r->used_idx);
	uint16_t head = __atomic_load_n(&r->last_batch_head, __ATOMIC_RELAXED);

	if (n <= size)
		for (; n && head < size; n--) {
			r->desc[head].inflight = 0;
			head = __atomic_load_n(&r->desc[head].next, __ATOMIC_RELAXED);
		}
	r->used_idx = used;
}

struct server_inflight *server_inflight_begin(struct server_inflight_buffer *b, unsigned queue, uint16_t size,
					      uint16_t used)
{
	struct server_inflight *f;
	struct region *r;

	if (!b || queue >= b->nqueues || size > b->queue_size)
		return NULL;
	f = calloc(1, sizeof(*f) + size * sizeof(f->redo[0]));
	if (!f)
		return NULL;
	f->size = size;
	f->region = r = (struct region *)(void *)((char *)b->map + b->offset + b->stride * queue);
	if (r->version != VERSION || r->desc_num != size) { /* new */
		for (unsigned i = 0; i < size; i++)
			r->desc[i] = (struct entry){0};
		r->features = 0;
		r->version = VERSION;
		r->desc_num = size;
		r->last_batch_head = 0;
		r->used_idx = used;
		return f;
	}
	settle(r, size, used);
	for (uint16_t i = 0; i < size; i++) {
		const uint64_t counter = __atomic_load_n(&r->desc[i].counter, __ATOMIC_RELAXED);

		if (__atomic_load_n(&r->desc[i].inflight, __ATOMIC_RELAXED) != 1)
			continue;
		f->redo[f->nredo++] = (struct redo){.counter = counter, .head = i};
		if (counter >= f->counter)
			f->counter = counter + 1;
	}
	qsort(f->redo, f->nredo, sizeof(f->redo[0]), by_counter);
	return f;
}

void server_inflight_end(struct server_inflight *f)
{
	free(f);
}

int server_inflight_redo(struct server_inflight *f)
{
	return f->redone < f->nredo ? f->redo[f->redone++].head : -1;
}

void server_inflight_take(struct server_inflight *f, uint16_t head)
{
	f->region->desc[head].counter = f->counter++;
	__atomic_store_n(&f->region->desc[head].inflight, 1, __ATOMIC_RELEASE);
}

void server_inflight_give(struct server_inflight *f, uint16_t head)
{
	f->region->desc[head].next = f->region->last_batch_head;
	__atomic_store_n(&f->region->last_batch_head, head, __ATOMIC_RELEASE);
}

void server_inflight_given(struct server_inflight *f, uint16_t head)
{
	__atomic_store_n(&f->region->desc[head].inflight, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&f->region->used_idx, (uint16_t)(f->region->used_idx + 1), __ATOMIC_RELEASE);
}
