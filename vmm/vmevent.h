/* What a device needs from the hypervisor besides memory: doorbells and interrupts, both as eventfds.
 * vmm/kvm implements it; tests fake it.  Any thread. */
#ifndef VMM_VMEVENT_H
#define VMM_VMEVENT_H
#include <stdbool.h>
#include <stdint.h>

/* len 0: any width, and then no match; virtio-mmio needs len 4 and match = queue */
struct doorbell {
	bool pio;
	uint64_t addr;
	unsigned len;
	int64_t match; /* -1: any value */
};

struct msi_msg {
	uint64_t addr;
	uint32_t data;
	uint32_t devid;
};

struct vmevent;
struct vmevent_ops { /* 0 or -errno unless said otherwise */
	int (*doorbell_add)(struct vmevent *v, const struct doorbell *d, int fd);
	void (*doorbell_del)(struct vmevent *v, const struct doorbell *d, int fd);
	int (*msi_alloc)(struct vmevent *v); /* gsi >= 0, or -errno */
	void (*msi_free)(struct vmevent *v, int gsi);
	int (*msi_set)(struct vmevent *v, int gsi, const struct msi_msg *m);
	int (*irq_attach)(struct vmevent *v, int gsi, int fd);  /* fd written -> gsi fires */
	void (*irq_detach)(struct vmevent *v, int gsi, int fd); /* empties fd: read it first if it counts */
	int (*irq_line)(struct vmevent *v, int gsi, bool level);
	int (*msi_send)(struct vmevent *v, const struct msi_msg *m);
};

struct vmevent {
	const struct vmevent_ops *ops;
};
#endif
