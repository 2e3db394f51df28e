/* CPU time of a VM, by who spends it. */
#ifndef COMPARE_COUNTERS_CPU_H
#define COMPARE_COUNTERS_CPU_H
#include <stdbool.h>
#include <stdint.h>

#include "compare/counters_tasks.h"

struct counted {            /* whose it is */
	pid_t vmm, backend; /* backend 0: there is none */
};

struct cpu_times { /* at one moment, in nanoseconds */
	uint64_t wall_ns;
	uint64_t vmm_ns, backend_ns; /* whole processes */
	struct tasks threads;        /* the VMM's */
	struct tasks helpers, vhost; /* beside it */
};

struct cpu_spent { /* between two, in nanoseconds */
	uint64_t wall, vcpu, vmm, vhost, backend;
	bool vhost_seen; /* there is a worker of the kernel's vhost */
};

/* 0; -ESRCH: one of them is no more; another -errno.  To be freed. */
int cpu_times_read(const struct counted *who, struct cpu_times *out);
void cpu_times_free(struct cpu_times *t); /* all zero is fine */
void cpu_times_spent(const struct cpu_times *begin, const struct cpu_times *end, struct cpu_spent *out);
#endif
