/* The kernel walks the rings of a socket device, and is the other end of its sockets: /dev/vhost-vsock.
 *
 * It serves queues 0 (receive) and 1 (transmit) and answers for the configuration space.  Queue 2 (events) it
 * knows nothing of: the device puts it into local_queues and leaves its buffers where they are. */
#ifndef BACKENDS_VHOST_VSOCK_H
#define BACKENDS_VHOST_VSOCK_H
#include <stdint.h>

#include "devices/virtio/datapath.h"
#include "lib/err.h"
#include "vmm/evloop.h"

#define VHOST_VSOCK_PATH        "/dev/vhost-vsock"
#define VHOST_VSOCK_QUEUES      3 /* of the device */
#define VHOST_VSOCK_EVENT_QUEUE 2

struct vhost_vsock_config {
	const char *name;    /* "vsock0"; outlives the datapath */
	uint64_t cid;        /* the guest's; nobody else's on this host */
	struct evloop *loop; /* the device's */
	const char *path;    /* NULL: VHOST_VSOCK_PATH; outlives the datapath */
};

/* From now on the CID is taken.  NULL with a sentence in e. */
struct datapath *vhost_vsock_new(const struct vhost_vsock_config *c, struct err *e);
#endif
