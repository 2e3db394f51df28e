/* What the kernel's vhost devices share: /dev/vhost-net, vhost-vsock, vhost-scsi.  The kernel walks the rings
 * in a thread of its own that lives in this process's address space: it is told host virtual addresses.
 *
 * One struct vhost_kernel is one open file with its vrings; vring i serves the device's queue first + i. */
#ifndef BACKENDS_VHOST_KERNEL_H
#define BACKENDS_VHOST_KERNEL_H
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/datapath.h"
#include "lib/err.h"
#include "vmm/evloop.h"

#define VHOST_KERNEL_MAX_VRINGS 64

/* Bits of the ring's own that the drivers of vhost have a say in. */
#define VHOST_KERNEL_RING_BITS                                                                                 \
	(UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC | UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX |                 \
	 UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_F_RING_PACKED |                             \
	 UINT64_C(1) << VIRTIO_F_IN_ORDER | UINT64_C(1) << VIRTIO_F_RING_RESET)

struct vhost_kernel {
	/* Set before vhost_kernel_open(): */
	const char *name;    /* "net0": for messages */
	const char *option;  /* "--net: tap: vhost=on": for the user's errors */
	const char *path;    /* /dev/vhost-net */
	const int *given_fd; /* path, opened by somebody else; ours from vhost_kernel_open() on.  Or NULL */
	const char *module;  /* vhost_net */
	struct datapath *dp; /* whose events tell of a ring that the kernel calls broken */
	struct evloop *loop; /* start and stop are called on its thread; NULL: nobody looks */
	unsigned first, nvrings;
	/* 0 or -errno, all or nothing.  On: walk these vrings, which are set up.  Off: on return no
	 * request is in flight and nobody walks them. */
	int (*run)(struct vhost_kernel *vk, uint64_t vrings, bool on);
	/* The device has one switch for all vrings, whatever run() is told: those that run are halted for a
	 * moment when another is started or stopped. */
	bool whole;

	/* Filled in: */
	int fd;            /* -1 after a stop() that the kernel refused */
	uint64_t features; /* what it serves, without what is never ours to use */
	uint64_t running;  /* bit per vring */
	int kick_fd[VHOST_KERNEL_MAX_VRINGS];
	const char *refused; /* the first request that the kernel refused since a start() began */
	struct ev_watch err; /* an eventfd: some vring is broken */
	bool watched;
	struct { /* an empty ring, for vrings that must have one and do not run */
		struct vring_desc desc;
		uint16_t avail[4];
		uint32_t used[4];
	} idle;
};

/* Opens path and becomes its owner.  0, or -errno with a sentence in e and nothing to undo. */
int vhost_kernel_open(struct vhost_kernel *vk, struct err *e);
void vhost_kernel_close(struct vhost_kernel *vk);

/* Those of setup's queues that are vk's, as datapath start() and stop() do it.  Neither of a queue that runs
 * already (start) or does not run (stop). */
int vhost_kernel_start(struct vhost_kernel *vk, const struct datapath_setup *setup);
void vhost_kernel_stop(struct vhost_kernel *vk, const struct datapath_setup *setup);

/* 0 or -errno.  Each call is traced (lib/trace.h).  arg: as the request has it. */
int vhost_kernel_ioctl(struct vhost_kernel *vk, unsigned long request, void *arg);

/* The system calls behind it.  Tests put their own here. */
struct vhost_kernel_sys {
	int (*open)(const char *path, int flags, ...);
	int (*ioctl)(int fd, unsigned long request, ...);
};
extern struct vhost_kernel_sys vhost_kernel_sys;
#endif
