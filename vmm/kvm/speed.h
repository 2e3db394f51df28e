/* What /dev/kvm is worth: how fast does a bare guest run on it? */
#ifndef VMM_KVM_SPEED_H
#define VMM_KVM_SPEED_H
#include <stdbool.h>

#include "lib/err.h"

/* Below this, guest ring 0 is emulated instruction by instruction and a kernel takes minutes to
 * boot: such a KVM does 2-3 million a second, one inside an emulated host 400 million. */
#define KVM_SPEED_MIN 20e6

struct kvm_speed {
	double per_second; /* guest instructions in ring 0, best round */
	bool cut_short;    /* the first round alone took longer than the time there is */
};

/* Runs a counted loop in a VM of one page, for 2 seconds at most.  Blocks and restores a signal in
 * the calling thread; leaves nothing behind.  0, or -errno with what KVM answered. */
int kvm_speed_measure(struct kvm_speed *speed, struct err *e);
#endif
