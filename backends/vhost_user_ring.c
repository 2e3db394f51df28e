#include "backends/vhost_user_ring.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

static bool is_packed(uint64_t features)
{
	return features >> VIRTIO_F_RING_PACKED & 1;
}

struct areas { /* host addresses, 0: not RAM */
	uint64_t desc, avail, used;
};

static uint64_t hva(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	return (uintptr_t)guest_mem_ptr(mem, gpa, len);
}

static struct areas translate(const struct datapath_queue *q, const struct guest_mem *mem, bool packed)
{
	const uint64_t size = q->size, event = sizeof(struct vring_packed_desc_event);

	return (struct areas){
		.desc = hva(mem, q->desc, size * sizeof(struct vring_desc)),
		.avail = hva(mem, q->avail, packed ? event : (3 + size) * sizeof(uint16_t)),
		.used = hva(mem, q->used,
			    packed ? event : 3 * sizeof(uint16_t) + size * sizeof(struct vring_used_elem)),
	};
}

int vhost_user_ring_check(const struct datapath_queue *q, const struct guest_mem *mem, uint64_t features)
{
	const struct areas a = translate(q, mem, is_packed(features));

	return a.desc && a.avail && a.used ? 0 : -EFAULT;
}

/* Both areas have flags, then the index. */
static uint16_t index_at(const struct guest_mem *mem, gpa_t area)
{
	const uint16_t *p = guest_mem_ptr(mem, area + sizeof(uint16_t), sizeof(*p));

	return p ? __atomic_load_n(p, __ATOMIC_ACQUIRE) : 0;
}

uint16_t vhost_user_ring_used(const struct datapath_queue *q, const struct guest_mem *mem)
{
	return index_at(mem, q->used);
}

uint16_t vhost_user_ring_avail(const struct datapath_queue *q, const struct guest_mem *mem)
{
	return index_at(mem, q->avail);
}

/* --- memory --- */

static struct vhost_user_mem_region describe(const struct mem_region *r)
{
	return (struct vhost_user_mem_region){
		.guest_phys_addr = r->gpa,
		.memory_size = r->size,
		.userspace_addr = (uintptr_t)r->hva,
		.mmap_offset = r->fd_offset,
	};
}

static int one_region(struct vhost_user_conn *c, uint32_t request, const struct mem_region *r, unsigned nfds)
{
	struct vhost_user_msg m = {.request = request,
				   .size = sizeof(m.mem_reg),
				   .mem_reg.region = describe(r)};

	return vhost_user_set(c, &m, &r->fd, nfds);
}

int vhost_user_unshare_memory(struct vhost_user_conn *c, const struct guest_mem *mem)
{
	int rc = 0;

	if (!vhost_user_has(c, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
		return 0; /* the next table takes the place of this */
	for (unsigned i = 0; !rc && i < mem->nregions; i++)
		rc = one_region(c, VHOST_USER_REM_MEM_REG, &mem->region[i], 0);
	return rc;
}

int vhost_user_share_memory(struct vhost_user_conn *c, const struct guest_mem *mem)
{
	struct vhost_user_msg m = {.request = VHOST_USER_SET_MEM_TABLE};
	int fd[VHOST_USER_MAX_FDS], rc = 0;

	if (mem->nregions > c->mem_slots || mem->nregions > VHOST_USER_MAX_FDS)
		return -ENOSPC;
	if (vhost_user_has(c, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
		for (unsigned i = 0; !rc && i < mem->nregions; i++)
			rc = one_region(c, VHOST_USER_ADD_MEM_REG, &mem->region[i], 1);
		return rc;
	}
	for (unsigned i = 0; i < mem->nregions; i++) {
		m.memory.region[i] = describe(&mem->region[i]);
		fd[i] = mem->region[i].fd;
	}
	m.memory.nregions = mem->nregions;
	m.size = (uint32_t)(offsetof(struct vhost_user_memory, region) +
			    mem->nregions * sizeof(m.memory.region[0]));
	return vhost_user_set(c, &m, fd, mem->nregions);
}

/* --- a queue --- */

int vhost_user_ring_start(struct vhost_user_conn *c, const struct datapath_queue *q,
			  const struct guest_mem *mem, uint64_t features)
{
	const bool packed = is_packed(features);
	const struct areas a = translate(q, mem, packed);
	/* Packed: the used position in the upper half; it is the same. */
	const uint32_t base = packed ? (uint32_t)q->next << 16 | q->next : q->next;
	struct vhost_user_msg addr = {
		.request = VHOST_USER_SET_VRING_ADDR,
		.size = sizeof(addr.addr),
		.addr = {.index = q->index,
			 .desc_user_addr = a.desc,
			 .used_user_addr = a.used,
			 .avail_user_addr = a.avail,
			 .log_guest_addr = q->used},
	};
	int rc = vhost_user_set_state(c, VHOST_USER_SET_VRING_NUM, q->index, q->size);

	if (!rc)
		rc = vhost_user_set_state(c, VHOST_USER_SET_VRING_BASE, q->index, base);
	if (!rc)
		rc = vhost_user_set(c, &addr, NULL, 0);
	if (!rc)
		rc = vhost_user_set_fd(c, VHOST_USER_SET_VRING_CALL, q->index, q->call_fd);
	/* Last, as it is what makes the ring start. */
	if (!rc)
		rc = vhost_user_set_fd(c, VHOST_USER_SET_VRING_KICK, q->index, q->kick_fd);
	return rc;
}

int vhost_user_ring_enable(struct vhost_user_conn *c, unsigned index, bool on)
{
	if (!vhost_user_has_protocol(c))
		return 0; /* its rings are enabled from the start */
	return vhost_user_set_state(c, VHOST_USER_SET_VRING_ENABLE, index, on);
}

int vhost_user_ring_stop(struct vhost_user_conn *c, unsigned index, uint32_t *base)
{
	struct vhost_user_msg m = {.request = VHOST_USER_GET_VRING_BASE,
				   .size = sizeof(m.state),
				   .state.index = index};
	int rc = vhost_user_get(c, &m, sizeof(m.state), NULL);

	if (rc)
		return rc;
	if (m.state.index != index) {
		c->broken = -EPROTO;
		return -EPROTO;
	}
	*base = m.state.num;
	return 0;
}
