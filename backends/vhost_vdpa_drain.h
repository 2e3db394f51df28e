/* Waiting for a vDPA device to have nothing in hand, and finding out where its queues stand. */
#ifndef BACKENDS_VHOST_VDPA_DRAIN_H
#define BACKENDS_VHOST_VDPA_DRAIN_H
#include "backends/vhost_vdpa_dev.h"

struct vdpa_drain {
	const struct vdpa_dev *dev;
	const struct guest_mem *mem;
	bool packed;
	bool suspended; /* it takes nothing any more */
	unsigned drain_ms, settle_ms;
};

/* Whether the parts of q's ring are RAM, and aligned.  0; -EFAULT; -EINVAL. */
int vdpa_check_ring(const struct guest_mem *mem, const struct datapath_queue *q, bool packed);

/* The kicks of these queues are unbound; whatever index they have in queue[].  Sets next and lost of each. */
void vdpa_drain(const struct vdpa_drain *d, struct datapath_queue *const *queue, unsigned n);

/* After the reset: what the device has done in the meantime is in guest memory. */
void vdpa_recheck(const struct vdpa_drain *d, struct datapath_queue *const *queue, unsigned n);
#endif
