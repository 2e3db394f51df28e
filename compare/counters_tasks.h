/* Threads and the CPU time that they have used, from /proc.  Times are in nanoseconds. */
#ifndef COMPARE_COUNTERS_TASKS_H
#define COMPARE_COUNTERS_TASKS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum task_kind {
	TASK_OTHER,
	TASK_VCPU,  /* "vcpu0" */
	TASK_VHOST, /* "vhost-123": the kernel's worker, since Linux 6.4 a thread of who uses it */
	TASK_KINDS
};

struct task {
	pid_t tid;
	enum task_kind kind;
	uint64_t cpu_ns;
};

struct tasks {
	unsigned n;
	struct task *task;
};

/* The threads of a process.  0; -ESRCH: there is none; -ENOENT: this kernel does not tell times
 * (CONFIG_SCHED_INFO); -ENOMEM.  To be freed. */
int tasks_of(pid_t pid, struct tasks *out);
void tasks_free(struct tasks *t);
const struct task *tasks_find(const struct tasks *t, pid_t tid);

/* What a VMM, whose threads are `of`, has beside them: its child processes (helpers) and, before Linux 6.4, the
 * kernel's threads that work for it, both as tasks, whole processes.  0 or -ENOMEM.  To be freed. */
int tasks_beside(pid_t vmm, const struct tasks *of, struct tasks *helpers, struct tasks *vhost);

/* Of the whole process, threads that have ended included.  0 or -errno. */
int process_cpu_ns(pid_t pid, uint64_t *out);
#endif
