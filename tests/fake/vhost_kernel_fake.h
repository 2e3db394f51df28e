/* The kernel's half of vhost: it writes down what it is asked, refuses when told to, and walks the rings that
 * it is given in a thread of its own.  As strict as the kernel is about order, owners and rings that run. */
#ifndef FAKE_VHOST_KERNEL_FAKE_H
#define FAKE_VHOST_KERNEL_FAKE_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/datapath.h"
#include "devices/virtio/virtqueue.h"

#define VHOST_FAKE_FILES  4
#define VHOST_FAKE_VRINGS 6

enum vhost_fake_kind { VHOST_FAKE_NET, VHOST_FAKE_VSOCK, VHOST_FAKE_SCSI };

struct vhost_fake_vring {
	unsigned num, base;
	uintptr_t desc, avail, used;
	int kick, call, err; /* its own copies; -1 */
	bool on;
	struct virtqueue *vq; /* on, and the ring lies in guest memory */
	struct queue_stats stats;
	unsigned busy_poll, served;
};

struct vhost_fake_file {
	int fd;
	bool owned, has_memory;
	uint64_t features;
	struct guest_mem mem;
	struct vhost_fake_vring vring[VHOST_FAKE_VRINGS];
};

struct vhost_fake {
	enum vhost_fake_kind kind;
	unsigned nvrings;
	uint64_t features;   /* what VHOST_GET_FEATURES says */
	int open_errno;      /* not 0: opening fails */
	unsigned long fail;  /* this request ... */
	unsigned fail_after; /* ... after so many that go well ... */
	unsigned fail_times; /* ... fails so often ... */
	int fail_errno;      /* ... with this */
	char path[64];       /* last opened */
	char wwpn[64];       /* SCSI: the target there is */
	int abi_version;     /* SCSI */
	uint64_t cid;        /* vsock: as set */
	unsigned calls;      /* ioctls so far */
	unsigned mistakes;   /* what the kernel would not have liked, or leaked */

	/* Its own. */
	pthread_mutex_t lock;
	pthread_t thread;
	int epoll, quit;
	unsigned nfiles;
	struct vhost_fake_file file[VHOST_FAKE_FILES];
	char log[65536];
	size_t log_len;
};

/* From here to fini it stands behind vhost_kernel_sys. */
void vhost_fake_init(struct vhost_fake *f, enum vhost_fake_kind kind);
void vhost_fake_fini(struct vhost_fake *f);

/* "0 SET_VRING_NUM 1 256\n": file, in the order of opening, request, arguments; since the last call.  Ring
 * addresses are guest physical, or "idle" if they are no guest memory. */
const char *vhost_fake_log(struct vhost_fake *f);
/* What the kernel does when it finds a ring broken. */
void vhost_fake_error(struct vhost_fake *f, unsigned file, unsigned vring);
#endif
