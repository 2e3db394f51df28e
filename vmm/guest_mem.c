/* #syscalls[main]: sendfile pread64
 * #syscalls[vcpu,data]: fallocate:1&FALLOC_FL_PUNCH_HOLE madvise */
/* Theory of operation: all RAM is one file (vmm/ram_file.h), mapped in as many
 * pieces as the address map has.  One file, because a vhost-user peer is given each region as
 * (fd, offset) and may well take only eight of them. */
#include "vmm/guest_mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "vmm/config.h"
#include "vmm/hugepages.h"
#include "vmm/ram_file.h"

#define MIB              (1ull << 20)
#define PREALLOC_CHUNK   (64 * MIB)
#define PREALLOC_THREADS 16

static int huge_flags(const struct guest_mem *mem)
{
	if (mem->page_size < 2 * MIB)
		return 0;
	return MAP_HUGETLB | __builtin_ctzll(mem->page_size) << MAP_HUGE_SHIFT;
}

/* Huge pages were refused.  Why is found out once ours are given back: they count against every limit. */
#define STARVED (-EDQUOT)

static int region_add(struct guest_mem *mem, gpa_t gpa, uint64_t size, uint64_t offset, bool share,
		      struct err *e)
{
	struct mem_region *r = &mem->region[mem->nregions];
	int flags = MAP_FIXED | (share ? MAP_SHARED : MAP_PRIVATE);
	uint64_t align = mem->page_size > 2 * MIB ? mem->page_size : 2 * MIB;
	char *p;

	/* Reserve with room to align: THP and 2 MiB stage-2 mappings need hva and gpa in step. */
	p = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return err_set(e, -errno, "--mem: no address space for %llu MiB: %s",
			       (unsigned long long)(size / MIB), strerror(errno));
	r->hva = (void *)(((uintptr_t)p + align - 1) & ~(uintptr_t)(align - 1));
	if ((char *)r->hva > p)
		munmap(p, (size_t)((char *)r->hva - p));
	if ((char *)r->hva < p + align)
		munmap((char *)r->hva + size, (size_t)(p + align - (char *)r->hva));
	/* Private and without a name of its own: a private mapping of the memfd would pay for each page
	 * twice, once in the file. */
	if (!share && !mem->path)
		flags |= MAP_ANONYMOUS | huge_flags(mem);
	/* No MAP_NORESERVE here: with it too few huge pages are a SIGBUS later instead of an error now. */
	if (mmap(r->hva, size, PROT_READ | PROT_WRITE, flags, (flags & MAP_ANONYMOUS) ? -1 : mem->fd,
		 (flags & MAP_ANONYMOUS) ? 0 : (off_t)offset) == MAP_FAILED) {
		int code = -errno;

		munmap(r->hva, size);
		if (code == -ENOMEM && mem->page_size >= 2 * MIB)
			return STARVED;
		return err_set(e, code, "--mem: cannot map %llu MiB: %s", (unsigned long long)(size / MIB),
			       strerror(-code));
	}
	r->gpa = gpa;
	r->size = size;
	r->fd = share ? mem->fd : -1;
	r->fd_offset = offset;
	mem->nregions++;
	return 0;
}

/* --- population: threads take chunks from a common counter --- */

struct populate {
	const struct guest_mem *mem;
	uint64_t chunk;
	_Atomic uint64_t next; /* offset into all RAM, regions end to end */
	_Atomic int error;
};

static void *populate_run(void *arg)
{
	struct populate *p = arg;
	uint64_t at;

	while (!p->error && (at = atomic_fetch_add(&p->next, p->chunk)) < p->mem->size) {
		uint64_t end = at + p->chunk < p->mem->size ? at + p->chunk : p->mem->size;

		for (unsigned i = 0; i < p->mem->nregions; i++) {
			const struct mem_region *r = &p->mem->region[i];
			uint64_t from = at > r->fd_offset ? at : r->fd_offset;
			uint64_t to = end < r->fd_offset + r->size ? end : r->fd_offset + r->size;

			if (from >= to)
				continue;
			while (madvise((char *)r->hva + (from - r->fd_offset), to - from,
				       MADV_POPULATE_WRITE)) {
				if (errno == EINTR || errno == EAGAIN)
					continue;
				p->error = errno;
				return NULL;
			}
		}
	}
	return NULL;
}

static int populate(const struct guest_mem *mem, struct err *e)
{
	struct populate p = {.mem = mem, .chunk = PREALLOC_CHUNK};
	pthread_t thread[PREALLOC_THREADS];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned want, n = 0;

	if (p.chunk < mem->page_size)
		p.chunk = mem->page_size;
	want = (unsigned)((mem->size + p.chunk - 1) / p.chunk);
	if (cpus > 0 && want > (unsigned)cpus)
		want = (unsigned)cpus;
	if (want > PREALLOC_THREADS)
		want = PREALLOC_THREADS;
	while (n + 1 < want && !pthread_create(&thread[n], NULL, populate_run, &p))
		n++;
	populate_run(&p);
	while (n--)
		pthread_join(thread[n], NULL);
	if (!p.error)
		return 0;
	if (mem->page_size >= 2 * MIB)
		return STARVED;
	if (mem->path)
		return err_set(e, -ENOSPC, "--mem: path=%s has no room for %llu MiB of RAM (%s)\nSee: df -h %s",
			       mem->path, (unsigned long long)(mem->size / MIB), strerror(p.error), mem->path);
	return err_set(e, -p.error,
		       "--mem: cannot populate %llu MiB of RAM: %s\nA memory cgroup may "
		       "limit it: cat /proc/self/cgroup",
		       (unsigned long long)(mem->size / MIB), strerror(p.error));
}

int guest_mem_init(struct guest_mem *mem, const struct mem_config *cfg, gpa_t hole_start, gpa_t hole_end,
		   struct err *e)
{
	uint64_t low = cfg->size < hole_start ? cfg->size : hole_start;
	int rc;

	*mem = (struct guest_mem){.fd = -1, .size = cfg->size, .path = cfg->path};
	mem->page_size = cfg->hugepage_size ? cfg->hugepage_size : (uint64_t)sysconf(_SC_PAGESIZE);
	if (cfg->share || cfg->path)
		mem->fd = rc = ram_file_open(cfg, &mem->page_size, e);
	else
		rc = ram_file_check_size(cfg->size, mem->page_size, e);
	rc = rc < 0 ? rc : 0;
	if (!rc)
		rc = region_add(mem, 0, low, 0, cfg->share, e);
	if (!rc && cfg->size > low)
		rc = region_add(mem, hole_end, cfg->size - low, low, cfg->share, e);
	if (!rc && mem->page_size < 2 * MIB)
		for (unsigned i = 0; i < mem->nregions; i++) /* advice: may well be off for shmem */
			madvise(mem->region[i].hva, mem->region[i].size,
				cfg->thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	mem->keep = cfg->prealloc || mem->page_size >= 2 * MIB;
	if (!rc && mem->keep)
		rc = populate(mem, e);
	if (!rc)
		return 0;
	guest_mem_fini(mem);
	return rc == STARVED ? hugepages_explain(mem->page_size, cfg->size, e) : rc;
}

void guest_mem_fini(struct guest_mem *mem)
{
	for (unsigned i = 0; i < mem->nregions; i++)
		munmap(mem->region[i].hva, mem->region[i].size);
	mem->nregions = 0;
	if (mem->fd >= 0)
		close(mem->fd);
	mem->fd = -1;
}

void guest_mem_clear(const struct guest_mem *mem)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *r = &mem->region[i];

		if (r->fd < 0 && !mem->keep && !madvise(r->hva, r->size, MADV_DONTNEED))
			continue;
		/* Pages that were populated stay ours: given back, they might be gone when wanted again. */
		if (!mem->keep && r->fd >= 0 &&
		    !fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->fd_offset,
			       (off_t)r->size))
			continue;
		memset(r->hva, 0, r->size);
	}
}

static const struct mem_region *region_find(const struct guest_mem *mem, gpa_t gpa)
{
	for (unsigned i = 0; i < mem->nregions; i++)
		if (gpa - mem->region[i].gpa < mem->region[i].size)
			return &mem->region[i];
	return NULL;
}

void *guest_mem_ptr(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	const struct mem_region *r = region_find(mem, gpa);

	if (!r || len > r->size - (gpa - r->gpa))
		return NULL;
	return (char *)r->hva + (gpa - r->gpa);
}

/* The part of [gpa, gpa + len) that lies in gpa's region: pointer and length, or NULL. */
static void *piece(const struct guest_mem *mem, gpa_t gpa, size_t len, size_t *n)
{
	const struct mem_region *r = region_find(mem, gpa);

	if (!r)
		return NULL;
	*n = r->size - (gpa - r->gpa) < len ? r->size - (gpa - r->gpa) : len;
	return (char *)r->hva + (gpa - r->gpa);
}

int guest_mem_read(const struct guest_mem *mem, gpa_t gpa, void *dst, size_t len)
{
	for (size_t n; len; gpa += n, dst = (char *)dst + n, len -= n) {
		const void *p = piece(mem, gpa, len, &n);

		if (!p)
			return -EFAULT;
		memcpy(dst, p, n);
	}
	return 0;
}

int guest_mem_write(const struct guest_mem *mem, gpa_t gpa, const void *src, size_t len)
{
	for (size_t n; len; gpa += n, src = (const char *)src + n, len -= n) {
		void *p = piece(mem, gpa, len, &n);

		if (!p)
			return -EFAULT;
		memcpy(p, src, n);
	}
	return 0;
}

int guest_mem_load(const struct guest_mem *mem, gpa_t gpa, int fd, uint64_t offset, uint64_t len)
{
	off_t from = (off_t)offset;
	size_t n;

	for (; len; gpa += n, len -= n) {
		const struct mem_region *r = region_find(mem, gpa);
		char *p = piece(mem, gpa, len, &n);
		ssize_t got = -1;

		if (!p)
			return -EFAULT;
		if (n > 1u << 30)
			n = 1u << 30;
		/* One copy in the kernel, no page faults here.  hugetlbfs has no write(). */
		if (r->fd >= 0 && mem->page_size < 2 * MIB &&
		    lseek(r->fd, (off_t)(r->fd_offset + (gpa - r->gpa)), SEEK_SET) >= 0)
			got = sendfile(r->fd, fd, &from, n);
		if (got < 0) {
			got = pread(fd, p, n, from);
			from += got > 0 ? got : 0;
		}
		if (got < 0 && errno == EINTR)
			got = 0;
		else if (got < 0)
			return -errno;
		else if (got == 0)
			return -ENODATA;
		n = (size_t)got;
	}
	return 0;
}

/* --- pages given back --- */

/* A page may not go between somebody's look at the pins and its being pinned. */
static pthread_mutex_t discard_lock = PTHREAD_MUTEX_INITIALIZER;

/* The regions are what users must not change; this is not theirs to see. */
static unsigned *pins(const struct guest_mem *mem)
{
	return (unsigned *)(uintptr_t)&mem->pins;
}

void guest_mem_pin(const struct guest_mem *mem)
{
	pthread_mutex_lock(&discard_lock);
	++*pins(mem);
	pthread_mutex_unlock(&discard_lock);
}

void guest_mem_unpin(const struct guest_mem *mem)
{
	pthread_mutex_lock(&discard_lock);
	assert(*pins(mem) > 0);
	--*pins(mem);
	pthread_mutex_unlock(&discard_lock);
}

/* A part of a large page is given back.  The kernel's khugepaged would make it whole again, with what was given
 * back, where as little as one page is left of it. */
static void keep_small(const struct guest_mem *mem, const struct mem_region *r)
{
	const unsigned bit = 1u << (r - mem->region);
	unsigned *small = (unsigned *)(uintptr_t)&mem->small;

	if (!(*small & bit))
		madvise(r->hva, r->size, MADV_NOHUGEPAGE);
	*small |= bit;
}

static int region_discard(const struct mem_region *r, uint64_t from, uint64_t len)
{
	int rc;

	if (r->fd < 0) /* anonymous, or a private mapping of a file that nobody writes: zeroes either way */
		rc = madvise((char *)r->hva + from, len, MADV_DONTNEED);
	else
		rc = fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(r->fd_offset + from),
			       (off_t)len);
	return rc ? -errno : 0;
}

int guest_mem_discard(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	int rc = -EINVAL;
	size_t n;

	for (uint64_t at = 0; at < len; at += n)
		if (!piece(mem, gpa + at, len - at, &n))
			return -EFAULT;
	pthread_mutex_lock(&discard_lock);
	if (mem->keep || mem->pins)
		rc = -EBUSY;
	for (uint64_t at = 0; at < len && (!rc || rc == -EINVAL); at += n) {
		const struct mem_region *r = region_find(mem, gpa + at);
		uint64_t from = gpa + at - r->gpa, to, page = mem->page_size;

		piece(mem, gpa + at, len - at, &n);
		to = (from + n) / page * page;
		from = (from + page - 1) / page * page;
		if (from < to && (from | to) % (2 * MIB))
			keep_small(mem, r);
		if (from < to)
			rc = region_discard(r, from, to - from);
	}
	pthread_mutex_unlock(&discard_lock);
	return rc;
}

bool guest_mem_gpa(const struct guest_mem *mem, const void *ptr, gpa_t *gpa)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *r = &mem->region[i];

		if ((uintptr_t)ptr - (uintptr_t)r->hva < r->size) {
			*gpa = r->gpa + ((uintptr_t)ptr - (uintptr_t)r->hva);
			return true;
		}
	}
	return false;
}

bool guest_mem_holds(const struct guest_mem *mem, const void *addr)
{
	for (unsigned i = 0; i < mem->nregions; i++)
		if ((uintptr_t)addr - (uintptr_t)mem->region[i].hva < mem->region[i].size)
			return true;
	return false;
}
