/* Guest RAM: a fixed, sorted table of mappings.  Nobody else turns a guest address into a pointer. */
#ifndef VMM_GUEST_MEM_H
#define VMM_GUEST_MEM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

typedef uint64_t gpa_t; /* an integer, so it cannot be dereferenced */

#define GUEST_MEM_MAX_REGIONS 8 /* VHOST_MEMORY_MAX_NREGIONS of many a back end */

struct mem_region {
	gpa_t gpa;
	uint64_t size;      /* bytes, a multiple of 2 MiB */
	void *hva;          /* our mapping */
	int fd;             /* the file (vmm/ram_file.h); -1: share=off */
	uint64_t fd_offset; /* where gpa lies in fd, for back ends that map it themselves */
};

struct guest_mem {
	unsigned nregions;
	struct mem_region region[GUEST_MEM_MAX_REGIONS];
	int fd; /* the one file behind all regions, or -1 */
	uint64_t size;
	uint64_t page_size; /* of the backing: what one fault brings in */
	const char *path;   /* path=, or NULL */
	bool keep;          /* every page was populated, and stays */
	unsigned pins;      /* guest_mem_pin() without guest_mem_unpin() so far */
	unsigned small;     /* regions, a bit each, that large pages are kept out of: see guest_mem_discard() */
};

struct mem_config;

/* Makes RAM of cfg->size bytes: [0, hole_start) and what is left from hole_end up.  Huge pages are
 * populated here; too few of them, a cgroup limit or a mount of another page size is found now and
 * explained in e with numbers and the command that mends it.  0 or -errno. */
int guest_mem_init(struct guest_mem *mem, const struct mem_config *cfg, gpa_t hole_start, gpa_t hole_end,
		   struct err *e);
void guest_mem_fini(struct guest_mem *mem);
/* Every byte zero again, pages given back unless they were populated (a VM that starts anew). */
void guest_mem_clear(const struct guest_mem *mem);

/* Gives the host its pages back (balloon): a hole in the file, so that every sharer reads zeroes there.
 * Only pages of the backing that lie wholly in [gpa, gpa + len) go.  Any thread.  0; -EFAULT: not all
 * RAM; -EBUSY: pages are pinned, or were populated to stay; -EINVAL: there is no whole page in it; or
 * what the file system says (-EOPNOTSUPP).  Except after 0 nothing is promised of the contents. */
int guest_mem_discard(const struct guest_mem *mem, gpa_t gpa, uint64_t len);
/* From pin to unpin a device holds on to the pages that are there now (vDPA, VFIO), and would not see
 * others in their place: nothing is discarded.  Calls nest.  Any thread; no discard runs on return. */
void guest_mem_pin(const struct guest_mem *mem);
void guest_mem_unpin(const struct guest_mem *mem);

/* NULL unless all of [gpa, gpa + len) lies in one region. */
void *guest_mem_ptr(const struct guest_mem *mem, gpa_t gpa, uint64_t len);
/* The way back, for what guest_mem_ptr() gave.  False: no address of guest RAM. */
bool guest_mem_gpa(const struct guest_mem *mem, const void *ptr, gpa_t *gpa);

/* Copies may cross regions.  0, or -EFAULT with nothing promised about dst. */
int guest_mem_read(const struct guest_mem *mem, gpa_t gpa, void *dst, size_t len);
int guest_mem_write(const struct guest_mem *mem, gpa_t gpa, const void *src, size_t len);

/* Brings [offset, offset + len) of a regular file into RAM, without passing through this process's
 * pages where the kernel can (sendfile).  0; -EFAULT: not all RAM; -ENODATA: the file is shorter. */
int guest_mem_load(const struct guest_mem *mem, gpa_t gpa, int fd, uint64_t offset, uint64_t len);

/* Is addr inside guest RAM?  For the SIGBUS handler: async-signal-safe. */
bool guest_mem_holds(const struct guest_mem *mem, const void *addr);
#endif
