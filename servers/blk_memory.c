/* #syscalls[server]: mmap munmap madvise */
#include "servers/blk_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/cleanup.h"

#define PAGE 4096u

struct memory {
	struct disk disk;
	char *at;
	size_t len; /* mapped */
};

struct disk_lane {
	struct memory *m;
	struct disk_client client;
	struct disk_req *first, **last;
	bool running;
};

static void copy(char *at, const struct disk_req *r)
{
	const struct iovec *v = r->iov;

	for (int i = 0; i < r->iovcnt; at += v[i++].iov_len) {
		if (r->op == DISK_READ)
			memcpy(v[i].iov_base, at, v[i].iov_len);
		else
			memcpy(at, v[i].iov_base, v[i].iov_len);
	}
}

/* Whole pages are given back, which then read as zeroes. */
static void zero(char *at, size_t len)
{
	char *const end = at + len;
	char *const first = (char *)(((uintptr_t)at + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
	char *const last = (char *)((uintptr_t)end & ~(uintptr_t)(PAGE - 1));

	if (first >= last || madvise(first, (size_t)(last - first), MADV_DONTNEED)) {
		memset(at, 0, len);
		return;
	}
	memset(at, 0, (size_t)(first - at));
	memset(last, 0, (size_t)(end - last));
}

static void act(const struct memory *m, const struct disk_req *r)
{
	char *const at = m->at + r->offset;

	switch (r->op) {
	case DISK_READ:
	case DISK_WRITE:
		copy(at, r);
		break;
	case DISK_DISCARD:
	case DISK_ZERO_UNMAP:
		zero(at, r->len);
		break;
	case DISK_ZERO:
		memset(at, 0, r->len);
		break;
	case DISK_FLUSH:
		break;
	}
}

static void memory_submit(struct disk_lane *l, struct disk_req *r)
{
	r->next = NULL;
	*l->last = r;
	l->last = &r->next;
}

static void memory_commit(struct disk_lane *l)
{
	bool any = false;

	if (l->running)
		return;
	l->running = true;
	while (l->first) {
		struct disk_req *r = l->first;

		l->first = r->next;
		if (!l->first)
			l->last = &l->first;
		act(l->m, r);
		r->done(r, 0);
		any = true;
	}
	l->running = false;
	if (any)
		l->client.batch(l->client.opaque);
}

static struct disk_lane *memory_lane(struct disk *d, struct evloop *loop, unsigned nreqs,
				     const struct disk_client *client)
{
	struct disk_lane *l = calloc(1, sizeof(*l));

	(void)loop;
	(void)nreqs;
	if (!l)
		return NULL;
	l->m = container_of(d, struct memory, disk);
	l->client = *client;
	l->last = &l->first;
	return l;
}

static void memory_lane_free(struct disk_lane *l)
{
	free(l);
}

static int memory_lock(struct disk *d, bool on)
{
	(void)d;
	(void)on;
	return 0;
}

static int memory_refresh(struct disk *d)
{
	(void)d;
	return 0;
}

static void memory_destroy(struct disk *d)
{
	struct memory *m = container_of(d, struct memory, disk);

	munmap(m->at, m->len);
	free(m);
}

static const struct disk_ops memory_ops = {
	.name = "memory",
	.lane = memory_lane,
	.lane_free = memory_lane_free,
	.submit = memory_submit,
	.commit = memory_commit,
	.drain = memory_commit,
	.lock = memory_lock,
	.refresh = memory_refresh,
	.destroy = memory_destroy,
};

struct disk *blk_memory_new(uint64_t size, struct err *e)
{
	struct memory *m = calloc(1, sizeof(*m));

	if (!m) {
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	m->disk = (struct disk){
		.ops = &memory_ops,
		.size = size,
		.block_size = 512,
		.physical_block_size = PAGE,
		.discard_granularity = PAGE,
		.write_zeroes = true,
	};
	m->len = (size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	m->at = mmap(NULL, m->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->at == MAP_FAILED) {
		err_set(e, -errno, "%llu bytes of memory are not to be had: %s", (unsigned long long)size,
			strerror(errno));
		free(m);
		return NULL;
	}
	madvise(m->at, m->len, MADV_HUGEPAGE); /* where there are some */
	return &m->disk;
}
