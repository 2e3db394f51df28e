/* virtio-rng, the entropy device (virtio 1.3, 5.4): the host's random numbers. */
#ifndef RNG_RNG_H
#define RNG_RNG_H
#include <stdint.h>

#include "devices/virtio/virtio.h"

#define RNG_REQUEST_MAX 4096 /* bytes given to one request; it may well ask for more */

struct rng_config {
	const char *name; /* "rng0"; must outlive the device */
	const struct guest_mem *mem;
	struct evloop *loop;
	uint64_t hidden; /* feature bits the driver is not to see */
};

/* A device whose queue is served on c->loop.  NULL with a sentence in e. */
struct virtio_device *rng_new(const struct rng_config *c, struct err *e);
#endif
