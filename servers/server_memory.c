/* #syscalls[server]: mmap munmap fstat */
#include "servers/server_memory.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "servers/server_guard.h"

#define PAGE      UINT64_C(4096)
#define RING_UNIT 16 /* the strictest alignment of a ring, which must hold here as well as there */

void server_memory_init(struct server_memory *m, int lost_fd)
{
	*m = (struct server_memory){.lost_fd = lost_fd};
	m->mem.fd = -1;
	m->mem.page_size = PAGE;
}

static bool overlap(uint64_t a, uint64_t b, uint64_t a_len, uint64_t b_len)
{
	return a - b < b_len || b - a < a_len;
}

static int check(const struct server_memory *m, const struct vhost_user_mem_region *r)
{
	uint64_t end;

	if (!r->memory_size || r->memory_size > PTRDIFF_MAX || r->mmap_offset > INT64_MAX ||
	    __builtin_add_overflow(r->guest_phys_addr, r->memory_size - 1, &end) ||
	    __builtin_add_overflow(r->userspace_addr, r->memory_size - 1, &end) ||
	    __builtin_add_overflow(r->mmap_offset, r->memory_size, &end) || end > PTRDIFF_MAX)
		return -EINVAL;
	if ((r->guest_phys_addr ^ r->mmap_offset) % RING_UNIT)
		return -EINVAL;
	if (m->mem.nregions == GUEST_MEM_MAX_REGIONS)
		return -ENOSPC;
	for (unsigned i = 0; i < m->mem.nregions; i++) {
		const struct mem_region *o = &m->mem.region[i];

		if (overlap(o->gpa, r->guest_phys_addr, o->size, r->memory_size) ||
		    overlap(m->mapping[i].user, r->userspace_addr, o->size, r->memory_size))
			return -EINVAL;
	}
	return 0;
}

/* What mmap() wants an offset in the file to be a multiple of; the file may be of huge pages. */
static int page_of(int fd, const struct vhost_user_mem_region *r, uint64_t *page)
{
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) || fstatfs(fd, &fs))
		return -errno;
	/* A page of these comes when its owner likes. */
	if (fs.f_type == FUSE_SUPER_MAGIC || fs.f_type == NFS_SUPER_MAGIC)
		return -EINVAL;
	if (S_ISREG(st.st_mode) && (st.st_size < 0 || r->mmap_offset + r->memory_size > (uint64_t)st.st_size))
		return -EINVAL;
	*page = st.st_blksize > (blksize_t)PAGE ? (uint64_t)st.st_blksize : PAGE;
	return *page & (*page - 1) ? -EINVAL : 0;
}

/* Its place, or -1. */
static int find(const struct server_memory *m, const struct vhost_user_mem_region *r)
{
	for (unsigned i = 0; i < m->mem.nregions; i++) {
		const struct mem_region *o = &m->mem.region[i];

		if (o->gpa == r->guest_phys_addr && o->size == r->memory_size &&
		    m->mapping[i].user == r->userspace_addr)
			return (int)i;
	}
	return -1;
}

int server_memory_add(struct server_memory *m, const struct vhost_user_mem_region *r, int fd)
{
	const int there = find(m, r);
	struct server_mapping *map = &m->mapping[m->mem.nregions];
	uint64_t page = PAGE, before, len;
	int rc;

	if (there >= 0) {
		m->mapping[there].again++;
		return 0;
	}
	rc = check(m, r);
	if (!rc)
		rc = page_of(fd, r, &page);
	if (rc)
		return rc;
	before = r->mmap_offset & (page - 1);
	len = (r->memory_size + before + page - 1) & ~(page - 1);
	*map = (struct server_mapping){.user = r->userspace_addr, .map_len = len};
	map->map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
			(off_t)(r->mmap_offset - before));
	if (map->map == MAP_FAILED)
		return -errno;
	map->guard = server_guard_add(map->map, len, m->lost_fd);
	if (map->guard < 0) {
		munmap(map->map, len);
		return map->guard;
	}
	madvise(map->map, len, MADV_DONTDUMP);
	m->mem.region[m->mem.nregions++] = (struct mem_region){
		.gpa = r->guest_phys_addr,
		.size = r->memory_size,
		.hva = (char *)map->map + before,
		.fd = -1,
	};
	m->mem.size += r->memory_size;
	return 0;
}

static void unmap(struct server_memory *m, unsigned i)
{
	server_guard_remove(m->mapping[i].guard);
	munmap(m->mapping[i].map, m->mapping[i].map_len);
	m->mem.size -= m->mem.region[i].size;
	m->mem.nregions--;
	memmove(&m->mapping[i], &m->mapping[i + 1], (m->mem.nregions - i) * sizeof(m->mapping[0]));
	memmove(&m->mem.region[i], &m->mem.region[i + 1], (m->mem.nregions - i) * sizeof(m->mem.region[0]));
}

int server_memory_remove(struct server_memory *m, const struct vhost_user_mem_region *r)
{
	const int there = find(m, r);

	if (there < 0)
		return -ENOENT;
	if (m->mapping[there].again)
		m->mapping[there].again--;
	else
		unmap(m, (unsigned)there);
	return 0;
}

void server_memory_clear(struct server_memory *m)
{
	while (m->mem.nregions)
		unmap(m, m->mem.nregions - 1);
}

bool server_memory_gpa(const struct server_memory *m, uint64_t user, uint64_t len, gpa_t *gpa)
{
	for (unsigned i = 0; i < m->mem.nregions; i++) {
		const uint64_t at = user - m->mapping[i].user;

		if (at >= m->mem.region[i].size || len > m->mem.region[i].size - at)
			continue;
		*gpa = m->mem.region[i].gpa + at;
		return true;
	}
	return false;
}
