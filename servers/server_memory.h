/* A front end's memory: its regions, mapped here, and the way from its addresses to the guest's. */
#ifndef SERVERS_SERVER_MEMORY_H
#define SERVERS_SERVER_MEMORY_H
#include "backends/vhost_user_msg.h"
#include "vmm/guest_mem.h"

struct server_memory {
	struct guest_mem mem; /* region[].hva: our mappings; fd -1: the descriptors are not kept */
	struct server_mapping {
		uint64_t user; /* where the front end has the region */
		void *map;     /* whole pages around it */
		size_t map_len;
		int guard;
		unsigned again; /* so often it was added once more */
	} mapping[GUEST_MEM_MAX_REGIONS];
	int lost_fd; /* eventfd, its owner's: a region's file was cut off */
};

/* Empty. */
void server_memory_init(struct server_memory *m, int lost_fd);
/* Maps one more; what is there already counts once more (QEMU before 8.0 tells of it for each pair of queues).
 * fd stays the caller's.  No queue runs.  0; -EINVAL: it wraps round, overlaps another, is
 * empty or beyond the end of its file; -ENOSPC: one too many; or what mmap() says. */
int server_memory_add(struct server_memory *m, const struct vhost_user_mem_region *r, int fd);
/* The one with these addresses and this size, as often as it was added.  No queue runs.  0, or -ENOENT. */
int server_memory_remove(struct server_memory *m, const struct vhost_user_mem_region *r);
/* All.  No queue runs. */
void server_memory_clear(struct server_memory *m);
/* False unless all of [user, user + len) lies in one region. */
bool server_memory_gpa(const struct server_memory *m, uint64_t user, uint64_t len, gpa_t *gpa);
#endif
