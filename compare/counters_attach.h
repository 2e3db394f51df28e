/* Tracepoints counted in the threads that they are about. */
#ifndef COMPARE_COUNTERS_ATTACH_H
#define COMPARE_COUNTERS_ATTACH_H
#include "compare/counters_control.h"
#include "compare/counters_cpu.h"
#include "compare/counters_perf.h"

enum traced {
	TRACED_SYSCALLS, /* of the VMM and its helpers */
	TRACED_BACKEND,  /* system calls of the back end */
	TRACED_KICKS,    /* writes to the device's doorbells, by vCPUs */
	TRACED_MSIS,     /* sent by all of them and the kernel's vhost */
	TRACED
};

/* NULL, or why that cannot be counted here; lives as long as the process. */
const char *attach_missing(enum traced what);

/* While p lives, attach() and the end of what it made are fast. */
void attach_prepare(struct perf *p, enum traced what);

/* Counts from now on into t, which is all zero and is zero again after an error.  vm: where the doorbells are.
 * 0, or -errno: -EAGAIN, threads come and go too fast. */
int attach(struct perf *t, enum traced what, const struct counted *who, const struct vm_counts *vm);
#endif
