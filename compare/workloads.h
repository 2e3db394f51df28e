/* The workloads that there are.  All are static. */
#ifndef COMPARE_WORKLOADS_H
#define COMPARE_WORKLOADS_H
#include "compare/plan.h"

/* Of a disk, or else of a card, by name; the user's own command has none.  NULL: there is no such. */
const struct workload *workload_find(const char *name, bool disk);
/* The nth of these, in the order of their listing; NULL past the last. */
const struct workload *workload_nth(unsigned n, bool disk);
const struct workload *workload_command(void);

/* Is there a program for it in that guest? */
bool workload_runs(const struct workload *w, enum guest_kind guest);
/* The program that the host must run at the other end of a Linux guest's, "iperf3", or NULL. */
const char *workload_server(const struct workload *w);
#endif
