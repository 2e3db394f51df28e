/* The datapath that is this process: makes a struct virtqueue of each ring, watches its kick_fd on the
 * queue's loop, and calls the device model's run, kick and halt there. */
#ifndef VIRTIO_INPROC_H
#define VIRTIO_INPROC_H
#include "devices/virtio/datapath.h"

struct virtio_device;

/* NULL without memory; ops->destroy() frees it.  Of dev it needs ops and the queues' loops, at start(). */
struct datapath *inproc_new(struct virtio_device *dev);
#endif
