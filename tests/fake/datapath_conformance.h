/* What every datapath must do, whoever serves the rings: start, traffic, stop, start again where it
 * stopped, fail to start, one queue alone, and many rounds of it. */
#ifndef FAKE_DATAPATH_CONFORMANCE_H
#define FAKE_DATAPATH_CONFORMANCE_H
#include "devices/virtio/datapath.h"
#include "tests/fake/driver_ring.h"
#include "vmm/evloop.h"

struct datapath_conformance {
	struct datapath *dp;
	struct evloop *loop; /* runs; start and stop are made there */
	uint64_t features;   /* accepted */
	unsigned nqueues;    /* 1 to 4 */
	uint16_t size;       /* entries of each ring */
	unsigned rounds;     /* 0: 1000 */
	/* Adds a chain that is given back without more ado.  Its id, or -errno.  NULL: 16 bytes to be read
	 * and 16 to be written. */
	int (*add)(void *opaque, struct driver_mem *m, struct driver_ring *r, unsigned queue);
	/* Makes the next starts fail (true), or not.  NULL: the last queue has an address that is not RAM. */
	void (*spoil)(void *opaque, bool on);
	/* Between rings being made and the first start: guest memory is known from here on.  Or NULL. */
	void (*memory)(void *opaque, const struct guest_mem *mem);
	void *opaque;
};

/* NULL, or what it did wrong. */
const char *datapath_conforms(const struct datapath_conformance *c);
#endif
