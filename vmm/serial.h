/* A 16550A (National Semiconductor PC16550D data sheet), as far as drivers go: FIFOs, interrupts,
 * loop-back, break.  The line is infinitely fast: what is written to THR is sent at once. */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/shadow.h"

#define SERIAL_RX_MAX 4096

struct serial {
	struct bus_range pio, mmio; /* the same registers, 8 of one byte each */
	pthread_mutex_t lock;       /* everything below */
	int irq_fd;                 /* eventfd, owned: written on each rising edge of the line */
	bool line;
	/* Bytes the guest sent.  On a vCPU's thread (or whoever drains queued writes), lock held. */
	void (*send)(void *opaque, const void *data, size_t len);
	/* There is room again after serial_receive() took less than it was given.  Same context. */
	void (*room)(void *opaque);
	void *opaque;

	uint8_t ier, fcr, lcr, mcr, msr, scr, dll, dlm;
	bool thr_interrupt;     /* THRE is due and not yet seen through IIR */
	unsigned lsr_polls;     /* reads of LSR with nothing else between */
	unsigned console_polls; /* THR writes in a row each followed by one LSR read */
	bool wrote_thr;
	uint16_t rx[SERIAL_RX_MAX]; /* a byte, or SERIAL_BREAK */
	unsigned rx_head, rx_len;
	bool rx_refused;
	bool rx_told;     /* the driver has read LSR with DR set since */
	uint8_t loop[16]; /* what went round the loop-back; apart from what comes from outside */
	unsigned loop_len;

	/* While a driver polls (no interrupts enabled), LSR and the rest are read from this page without
	 * leaving the guest, and its writes queue up: no exit a byte.  NULL: not available. */
	struct shadow *shadow;
	_Atomic bool shadowed;
	uint64_t shadow_count; /* how often it was turned on */
};

int serial_init(struct serial *s, uint64_t port, uint64_t mmio); /* mmio 0: ports only.  0 or -errno */
void serial_fini(struct serial *s);
/* Bytes from the other end.  Any thread.  Returns how many were taken. */
size_t serial_receive(struct serial *s, const void *data, size_t len);
void serial_break(struct serial *s);
/* No queued write has come for a while.  A guest that polls for input behind the shadow page would not
 * see it: where input waits, the page goes. */
void serial_quiet(struct serial *s);
#endif
