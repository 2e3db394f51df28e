/* A virtio device with no model of its own: what it is the user says, or who serves it; its queues and most of
 * its configuration space are a remote datapath's. */
#ifndef VIRTIO_GENERIC_H
#define VIRTIO_GENERIC_H
#include <stddef.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"
#include "lib/err.h"

#define GENERIC_DEFAULT_QUEUE_SIZE 256

struct generic_config {
	const char *name; /* "vsock0"; outlives the device */
	const char *type; /* "vsock": what it is, for messages; outlives the device */
	uint32_t id;      /* VIRTIO_ID_*; 0: the datapath's, which must then have one */
	const struct guest_mem *mem;
	struct evloop *loop;  /* where it starts and stops and the datapath is asked for configuration */
	uint64_t features;    /* device bits it may have; the datapath narrows them */
	uint64_t hidden;      /* bits the user turned off */
	unsigned nqueues;     /* 0: as many as the datapath has */
	uint16_t queue_size;  /* entries, a power of two; 0: GENERIC_DEFAULT_QUEUE_SIZE, or less */
	uint64_t idle_queues; /* bit per queue that nobody serves: its buffers stay where they are */
	/* Its configuration space, copied, for reading only.  NULL: the datapath's, if it has one. */
	const void *config;
	size_t config_len;
	struct datapath *datapath; /* on success the device's */
};

/* Ready for a transport.  NULL with a sentence in e; the datapath is then still the caller's. */
struct virtio_device *generic_new(const struct generic_config *c, struct err *e);
#endif
