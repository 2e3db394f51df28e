/* What a running VM and its back end spend: sampled before and after a measurement, from outside.
 *
 * - CPU time: what the scheduler has counted for each thread (/proc/PID/task/TID/schedstat).
 *
 * - Exits: KVM's statistics of the vCPUs; those to the VMM are the VMM's own count.
 *
 * - Interrupts: what KVM has injected.  Where a processor takes them without KVM's help (APICv, AVIC) that
 *   is next to nothing, so there: MSIs that the threads counted here have sent, by a tracepoint.
 *
 * - Kicks: the driver's writes to the device's doorbells, whoever they wake, as KVM's tracepoints see them
 *   on the vCPUs.  Without tracepoints: the VMM's count of wake-ups where it serves the device, which is
 *   less when several rings were one; with notify=exit its count of such exits.
 *
 * - System calls: the tracepoint raw_syscalls:sys_enter on each thread of the VMM and its helpers, and of
 *   the back end.  One that is counted takes some 20 ns more, and any other on the host some 7 ns.
 *
 * Tracepoints are counted by perf_event_open(2), which takes root and tracefs. */
#ifndef COMPARE_COUNTERS_H
#define COMPARE_COUNTERS_H
#include <sys/types.h>

#include "compare/result.h"
#include "lib/err.h"

struct counters;

/* control: the VM's control socket (--control).  backend: the back end's process, or 0: there is none, and it
 * spends nothing.  device: "net0", "disk1".  0, or -errno with a sentence in e: the VM cannot be asked. */
int counters_new(struct counters **out, pid_t vmm, const char *control, const char *device, pid_t backend,
		 struct err *e);
void counters_free(struct counters *c); /* NULL is fine */
/* Why a metric cannot be known on this path, on this host: NULL, or a few words ("KVM has no statistics"),
 * which live as long as the process.  After counters_new(); after counters_end() also what went wrong
 * meanwhile. */
const char *counters_missing(const struct counters *c, enum metric m);

/* From here ...  Asking the VM stops its vCPUs for a moment, so both are outside of what is measured: the first
 * asks and then looks at clocks, the second looks at clocks and then asks. */
int counters_begin(struct counters *c, struct err *e);
/* ... to here: totals into value[], those of METRIC_CPU_* as seconds of CPU a second of wall clock, the others
 * as counts, still to be divided; NAN where not known.  Others than CPU and counts are left alone. */
int counters_end(struct counters *c, double value[METRICS], struct err *e);
/* Wall clock between the two, in seconds.  After counters_end(). */
double counters_seconds(const struct counters *c);
#endif
