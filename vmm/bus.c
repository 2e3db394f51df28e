#include "vmm/bus.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

void bus_init(struct bus *bus)
{
	memset(bus, 0, sizeof(*bus));
	pthread_rwlock_init(&bus->lock, NULL);
}

void bus_fini(struct bus *bus)
{
	pthread_rwlock_destroy(&bus->lock);
}

/* Index of the first range whose end lies above addr. */
static unsigned position(const struct bus *bus, uint64_t addr)
{
	unsigned lo = 0, hi = bus->nranges;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct bus_range *r = bus->range[mid];

		if (r->base + (r->size - 1) < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int bus_map(struct bus *bus, struct bus_range *r)
{
	uint64_t last;
	unsigned i;
	int rc = 0;

	if (!r->size || __builtin_add_overflow(r->base, r->size - 1, &last))
		return -EINVAL;
	pthread_rwlock_wrlock(&bus->lock);
	i = position(bus, r->base);
	if (i < bus->nranges && bus->range[i]->base <= last) {
		rc = -EEXIST;
	} else if (bus->nranges == BUS_MAX_RANGES) {
		rc = -ENOSPC;
	} else {
		memmove(&bus->range[i + 1], &bus->range[i], (bus->nranges - i) * sizeof(bus->range[0]));
		bus->range[i] = r;
		bus->nranges++;
		r->users = 0;
	}
	pthread_rwlock_unlock(&bus->lock);
	return rc;
}

void bus_unmap(struct bus *bus, struct bus_range *r)
{
	unsigned i;

	pthread_rwlock_wrlock(&bus->lock);
	for (i = 0; i < bus->nranges && bus->range[i] != r; i++)
		;
	if (i < bus->nranges) {
		bus->nranges--;
		memmove(&bus->range[i], &bus->range[i + 1], (bus->nranges - i) * sizeof(bus->range[0]));
	}
	pthread_rwlock_unlock(&bus->lock);
	while (atomic_load(&r->users)) /* handlers are short, moves are rare */
		sched_yield();
}

static struct bus_range *enter(struct bus *bus, uint64_t addr, unsigned len)
{
	struct bus_range *r = NULL;
	unsigned i;

	pthread_rwlock_rdlock(&bus->lock);
	i = position(bus, addr);
	if (i < bus->nranges && addr >= bus->range[i]->base &&
	    len <= bus->range[i]->size - (addr - bus->range[i]->base)) {
		r = bus->range[i];
		atomic_fetch_add(&r->users, 1);
	}
	pthread_rwlock_unlock(&bus->lock);
	return r;
}

bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len)
{
	struct bus_range *r = enter(bus, addr, len);

	if (!r)
		return false;
	r->ops->read(r, addr - r->base, data, len);
	atomic_fetch_sub(&r->users, 1);
	return true;
}

bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len)
{
	struct bus_range *r = enter(bus, addr, len);

	if (!r)
		return false;
	r->ops->write(r, addr - r->base, data, len);
	atomic_fetch_sub(&r->users, 1);
	return true;
}
