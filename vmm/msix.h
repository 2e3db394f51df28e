/* MSI-X: vectors of a function, and the eventfds that fire them (PCI Local Bus 3.0, 6.8.2).
 *
 * Where irqfds serve, a vector that may fire has every eventfd mapped to it attached as one, and a vector
 * that may not has none: what is written meanwhile stays in the eventfd, whose count is the pending bit,
 * and KVM injects at once when an eventfd is attached that is readable (tests/assumptions/irqfd_pending.c).
 * Without irqfds the owner watches the eventfds and calls msix_fire().
 *
 * Any thread.  The lock is a leaf: nothing that it covers waits for a loop or another lock of ours. */
#ifndef VMM_MSIX_H
#define VMM_MSIX_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/pci.h"
#include "vmm/vmevent.h"

#define MSIX_NO_VECTOR   0xffff
#define MSIX_MAX_VECTORS 128

struct msix_source { /* an event that fires a vector; embed it */
	struct msix_source *next;
	uint16_t vector;
	int fd; /* the caller's; -1: only by msix_fire() */
	bool mapped, attached;
};

struct msix_vector {
	uint8_t entry[16]; /* as in the table */
	int gsi;           /* -1 until something with an eventfd is mapped */
	bool routed;       /* the gsi sends `msg` */
	struct msi_msg msg;
	bool latched; /* fired by msix_fire() while it might not */
	struct msix_source *sources;
};

struct msix {
	pthread_mutex_t lock;
	struct vmevent *vmevent;
	bool irqfd;
	bool on; /* enabled, the function not masked, and the function may write memory */
	unsigned nvectors;
	struct msix_vector vector[MSIX_MAX_VECTORS];
};

void msix_init(struct msix *m, unsigned nvectors, struct vmevent *vmevent, bool irqfd);
/* Every source is unmapped already. */
void msix_fini(struct msix *m);
/* The capability, with table and PBA at these offsets of BAR `bar`.  Its offset, or -ENOSPC. */
int msix_add_capability(const struct msix *m, struct pci_device *d, unsigned bar, uint32_t table, uint32_t pba);
/* The message control register and the bus master bit as they are now: an interrupt is a write to memory. */
void msix_control(struct msix *m, uint16_t flags, bool bus_master);

/* Every width at every offset; beyond the end reads zero and writes nothing. */
void msix_table_read(struct msix *m, uint64_t off, void *data, unsigned len);
void msix_table_write(struct msix *m, uint64_t off, const void *data, unsigned len);
/* A bit is set while the vector may not fire and something that it would tell happened. */
void msix_pba_read(struct msix *m, uint64_t off, void *data, unsigned len);

/* Can an eventfd be mapped to this vector?  Reserves what that takes, until msix_fini().  False: no such
 * vector, or no interrupt route is left. */
bool msix_reserve(struct msix *m, uint16_t vector);
/* Maps s; MSIX_NO_VECTOR: to nothing, and then nothing fires.  s was zero or is unmapped.
 * 0; -ENOSPC: no route; -errno of the attaching, and s is unmapped. */
int msix_map(struct msix *m, struct msix_source *s, uint16_t vector, int fd);
/* After it nobody reads s->fd on our behalf.  Fine for one that is not mapped. */
void msix_unmap(struct msix *m, struct msix_source *s);
/* What s tells has happened: send now, or when the vector may fire. */
void msix_fire(struct msix *m, struct msix_source *s);
#endif
