/* A hypervisor's doorbells and interrupts without one: what is attached where, and KVM's ways with it -
 * one place for an eventfd, an injection on attaching one that is readable (whose count stays), a detach
 * that empties it. */
#ifndef TESTS_FAKE_VMEVENT_H
#define TESTS_FAKE_VMEVENT_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/vmevent.h"

#define FAKE_GSIS      256
#define FAKE_FIRST_MSI 24
#define FAKE_SLOTS     512

struct fake_vmevent {
	struct vmevent event; /* what the code under test is given */
	pthread_mutex_t lock;
	struct fake_doorbell {
		bool used;
		struct doorbell at;
		int fd;
	} doorbell[FAKE_SLOTS];
	struct fake_irqfd {
		bool used;
		int gsi, fd;
		uint64_t stale; /* count that was injected when it was attached */
	} irqfd[FAKE_SLOTS];
	bool msi_used[FAKE_GSIS], msi_set[FAKE_GSIS];
	struct msi_msg msi[FAKE_GSIS];
	bool level[FAKE_GSIS];
	/* What the guest got. */
	unsigned injected[FAKE_GSIS]; /* by irqfd, and rising edges of irq_line() */
	unsigned sent;                /* by msi_send() */
	struct msi_msg last_sent;
	unsigned msi_sets; /* calls of msi_set(): each costs the kernel a grace period */
	unsigned lines;    /* calls of irq_line() */
	unsigned misuse;   /* calls that KVM would answer with an error, or that free what is not there */
	/* How many more calls succeed; -1: all. */
	int doorbells_left, msis_left, attaches_left, sets_left;
};

void fake_vmevent_init(struct fake_vmevent *f);
void fake_vmevent_fini(struct fake_vmevent *f);
/* A guest's write: true if a doorbell took it. */
bool fake_vmevent_ring(struct fake_vmevent *f, bool pio, uint64_t addr, unsigned len, uint64_t value);
/* Lets irqfds that were written inject; how many did. */
unsigned fake_vmevent_pump(struct fake_vmevent *f);
unsigned fake_vmevent_doorbells(struct fake_vmevent *f);
unsigned fake_vmevent_irqfds(struct fake_vmevent *f);
unsigned fake_vmevent_msis(struct fake_vmevent *f);
/* The gsi that fd is attached to, or -1. */
int fake_vmevent_gsi_of(struct fake_vmevent *f, int fd);
#endif
