/* A device model that echoes: what it reads from a chain it writes back into it. */
#ifndef FAKE_DEVICE_H
#define FAKE_DEVICE_H
#include "devices/virtio/virtio.h"
#include "devices/virtio/virtqueue.h"

#define FAKE_DEVICE_CONFIG 24

struct fake_device {
	struct virtio_device dev;
	uint64_t features;
	size_t config_size; /* up to FAKE_DEVICE_CONFIG */
	uint8_t config[FAKE_DEVICE_CONFIG];
	int negotiated_err, run_err;
	int fail_run; /* the queue whose run() returns run_err; -1 all */
	bool hold;    /* answers in halt() only */
	void (*in_reset)(struct fake_device *f);

	uint64_t negotiated; /* as the device model was told */
	unsigned resets, reset_at;
	_Atomic unsigned config_writes;
	struct fake_device_queue {
		struct virtqueue *vq; /* from run to halt */
		pthread_t thread;     /* of the last run, kick or halt */
		_Atomic unsigned runs, kicks, halts, echoed, nheld;
		uint16_t held[VIRTIO_MAX_QUEUE_SIZE];
	} q[VIRTIO_MAX_QUEUES];
	_Atomic unsigned mistakes; /* run twice, kicked or halted while it does not run, on another thread */
};

/* Two queues of 256 entries on loop; whoever likes changes it before virtio_init(). */
void fake_device_init(struct fake_device *f, const struct guest_mem *mem, struct evloop *loop);
/* Registers as a driver writes them, under the lock. */
void fake_device_status(struct fake_device *f, uint8_t status);
/* Reset, ACKNOWLEDGE, DRIVER, VERSION_1 with these bits, FEATURES_OK.  True: it stays set. */
bool fake_device_negotiate(struct fake_device *f, uint64_t features);
/* Size, the three addresses, ready. */
void fake_device_queue(struct fake_device *f, unsigned q, uint16_t size, gpa_t desc, gpa_t avail, gpa_t used);
#endif
