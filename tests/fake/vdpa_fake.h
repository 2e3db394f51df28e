/* The kernel's half of vhost-vdpa and the device behind it, as VDUSE has them: it writes down what it is asked,
 * refuses when told to, and walks the rings that it is given in a thread of its own.  As strict as the kernel
 * is about order; what a daemon would not survive is a mistake. */
#ifndef FAKE_VDPA_FAKE_H
#define FAKE_VDPA_FAKE_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/vhost_vdpa.h"
#include "devices/virtio/virtqueue.h"

#define VDPA_FAKE_QUEUES 6
#define VDPA_FAKE_HELD   64

struct vdpa_fake_queue {
	unsigned num, base; /* as set */
	uint64_t desc, avail, used;
	int kick, call; /* its own copies; -1 */
	bool enabled;
	bool kicked;          /* and has not looked yet */
	struct virtqueue *vq; /* from DRIVER_OK to reset */
	struct queue_stats stats;
	unsigned served;
	uint16_t held[VDPA_FAKE_HELD]; /* popped, not pushed */
	unsigned nheld;
	uint16_t given; /* position of what came back, while some are held */
};

struct vdpa_fake {
	/* What it is; may be changed by the test while no call is made. */
	uint32_t device_id;
	unsigned nqueues;
	uint16_t max_size;
	uint8_t config[128];
	uint32_t config_len;
	uint64_t features, backend;
	uint64_t iova_first, iova_last;
	bool old_kernel;            /* before 5.18: no VQS_COUNT, no CONFIG_SIZE */
	int open_errno;             /* not 0: opening fails */
	int base_errno;             /* not 0: GET_VRING_BASE fails */
	uint64_t base_lie;          /* added to what GET_VRING_BASE says */
	uint8_t refuses;            /* status bits that it does not take */
	bool late_base, late_reset; /* it looks once more after the answer, or when it is reset */
	bool dead;                  /* the daemon: messages fail after their time, nobody walks the rings */
	_Atomic bool hold;          /* chains are taken and not given back */
	_Atomic unsigned nap_us;    /* before each burst */
	_Atomic unsigned burst;     /* so many chains at a time; 0: all */

	/* The n-th call from now fails (1: the next), or none (0).  A reset that fails is made all the same. */
	unsigned fail_at;
	int fail_errno;
	unsigned long fail_request; /* not 0: only these count */

	/* What it has seen. */
	bool owned, in_batch, suspended;
	uint8_t status;
	uint64_t backend_set, driver_features;
	struct guest_mem mem; /* what is mapped, by IOVA; unsorted */
	int config_call;      /* its copy; -1 */
	struct vdpa_fake_queue queue[VDPA_FAKE_QUEUES];
	unsigned calls, resets, suspends;
	unsigned lost;     /* chains that a reset found in flight */
	unsigned mistakes; /* what the kernel or a daemon would not have liked */

	/* Its own. */
	pthread_mutex_t lock;
	pthread_t thread;
	int wake;
	bool quit;
	char log[16384];
	size_t log_len;
};

/* A block device of two queues that offers what today's kernels and VDUSE do.  From here to fini it stands
 * behind vdpa_fake_sys. */
void vdpa_fake_init(struct vdpa_fake *f);
void vdpa_fake_fini(struct vdpa_fake *f);

extern const struct vhost_vdpa_sys vdpa_fake_sys;

/* "SET_VRING_NUM 1 256\n": request and arguments; since the last call. */
const char *vdpa_fake_log(struct vdpa_fake *f);
/* Chains that were held come back. */
void vdpa_fake_release(struct vdpa_fake *f);
/* Waits until the device has seen to all that it was kicked for. */
void vdpa_fake_wait_idle(struct vdpa_fake *f);
unsigned vdpa_fake_nheld(struct vdpa_fake *f, unsigned queue);
/* Configuration interrupt; with these status bits set by the device. */
void vdpa_fake_config_irq(struct vdpa_fake *f, uint8_t status);
/* NULL, or what it still has that it must not. */
const char *vdpa_fake_is_free(struct vdpa_fake *f);
#endif
