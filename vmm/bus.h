/* Address decode for port I/O and MMIO.  One struct bus for each. */
#ifndef VMM_BUS_H
#define VMM_BUS_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct bus_range;

struct bus_ops { /* off < range->size and off + len <= range->size hold */
	void (*read)(struct bus_range *r, uint64_t off, void *data, unsigned len);
	void (*write)(struct bus_range *r, uint64_t off, const void *data, unsigned len);
};

struct bus_range { /* embed it in the device; container_of() gets back */
	const char *name;
	uint64_t base, size;
	const struct bus_ops *ops;
	_Atomic unsigned users; /* the bus's own: threads inside the handlers */
};

#define BUS_MAX_RANGES 256

struct bus {
	pthread_rwlock_t lock; /* the table; never held while a handler runs */
	unsigned nranges;
	struct bus_range *range[BUS_MAX_RANGES]; /* sorted by base */
};

void bus_init(struct bus *bus);
void bus_fini(struct bus *bus);
int bus_map(struct bus *bus, struct bus_range *r); /* -EEXIST on overlap, -ENOSPC, -EINVAL */
/* Waits until no other thread is in r's handlers; so hold no lock that they take.  The caller may
 * itself be inside another range of this bus: ECAM is where BARs move from. */
void bus_unmap(struct bus *bus, struct bus_range *r);
/* Any thread.  False: nobody lives at [addr, addr + len); data is then untouched. */
bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len);
bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len);
#endif
