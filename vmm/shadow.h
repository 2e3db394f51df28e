/* A page of device registers that the guest can read without leaving, and whose writes are queued for
 * the bus instead of stopping the vCPU.  vmm/kvm implements it (a read-only memory slot and coalesced
 * MMIO); tests fake it. */
#ifndef VMM_SHADOW_H
#define VMM_SHADOW_H
#include <stdbool.h>
#include <stdint.h>

struct shadow {
	uint8_t *page; /* 4096 bytes: what reads see while it is on */
	/* 0 or -errno; off always works.  Any thread. */
	int (*set)(struct shadow *s, bool on);
};
#endif
