/* What a vhost-user back end is told of guest memory and of a queue. */
#ifndef BACKENDS_VHOST_USER_RING_H
#define BACKENDS_VHOST_USER_RING_H
#include "backends/vhost_user_conn.h"
#include "devices/virtio/datapath.h"

/* 0; -EFAULT: an area of q is not RAM. */
int vhost_user_ring_check(const struct datapath_queue *q, const struct guest_mem *mem, uint64_t features);

/* Split rings that passed the check: the index in guest memory now. */
uint16_t vhost_user_ring_used(const struct datapath_queue *q, const struct guest_mem *mem);
uint16_t vhost_user_ring_avail(const struct datapath_queue *q, const struct guest_mem *mem);

/* All regions have descriptors.  -ENOSPC: the back end takes fewer regions. */
int vhost_user_share_memory(struct vhost_user_conn *c, const struct guest_mem *mem);
int vhost_user_unshare_memory(struct vhost_user_conn *c, const struct guest_mem *mem);

/* Sizes, position, addresses and eventfds; the queue then waits for its kick and to be enabled. */
int vhost_user_ring_start(struct vhost_user_conn *c, const struct datapath_queue *q,
			  const struct guest_mem *mem, uint64_t features);
int vhost_user_ring_enable(struct vhost_user_conn *c, unsigned index, bool on);
/* *base: what the back end says, as in VHOST_USER_GET_VRING_BASE. */
int vhost_user_ring_stop(struct vhost_user_conn *c, unsigned index, uint32_t *base);
#endif
