/* How often the kernel comes past one of its tracepoints in some threads: perf_event_open(2). */
#ifndef COMPARE_COUNTERS_PERF_H
#define COMPARE_COUNTERS_PERF_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct perf {
	unsigned n;
	int *fd;
};

/* NULL: events of that tracepoint ("raw_syscalls:sys_enter") can be counted here; or why not, in a few words
 * that live as long as the process. */
const char *perf_missing(const char *tracepoint);

/* Counts from now on in these n threads and in all that they will make.  filter: as of tracefs, on the fields
 * of the tracepoint, or NULL.  Adds to p, which is all zero at first.  0; -ESRCH: a thread is no more, and t
 * has what came before it; another -errno. */
int perf_add(struct perf *p, const char *tracepoint, const char *filter, const pid_t *tid, unsigned n);
/* While p lives, adding to another and freeing it are fast: the kernel need not change its code each time.
 * Counts nothing.  Adds to p, where that is possible. */
void perf_hold(struct perf *p, const char *tracepoint);
/* So many until now.  0 or -errno. */
int perf_read(const struct perf *p, uint64_t *count);
void perf_free(struct perf *p); /* ends counting; it is all zero again */
#endif
