/* What it costs to leave a guest and come back. */
#ifndef VMM_KVM_EXITS_H
#define VMM_KVM_EXITS_H
#include "lib/err.h"

/* Runs a loop of port writes in a VM of one page, for about 200 ms at most, each a way out to this program and
 * back.  Nanoseconds for one, the best of a few rounds; or -errno with what KVM answered.  Any thread; leaves
 * nothing behind. */
int kvm_exits_measure(double *ns, struct err *e);
#endif
