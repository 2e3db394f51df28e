#include "compare/counters_attach.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYS_ENTER "raw_syscalls:sys_enter"
#define MMIO      "kvm:kvm_mmio"
#define FAST_MMIO "kvm:kvm_fast_mmio"
#define PIO       "kvm:kvm_pio"
#define MSI       "kvm:kvm_msi_set_irq"
#define TRIES     5 /* to see the same threads before and after they are attached to */
#define ALL       (~0u)

struct tids {
	unsigned n;
	pid_t *tid;
};

/* --- who --- */

static int add_tids(struct tids *out, const struct tasks *t, unsigned kinds)
{
	pid_t *more = realloc(out->tid, (out->n + t->n + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	out->tid = more;
	for (unsigned i = 0; i < t->n; i++)
		if (kinds & (1u << t->task[i].kind))
			out->tid[out->n++] = t->task[i].tid;
	return 0;
}

static int add_process(struct tids *out, pid_t pid)
{
	struct tasks t;
	int rc = tasks_of(pid, &t);

	rc = rc ? rc : add_tids(out, &t, ALL);
	tasks_free(&t);
	return rc;
}

static int add_beside(struct tids *out, enum traced what, const struct counted *who,
		      const struct tasks *threads)
{
	struct tasks helpers, vhost;
	int rc = tasks_beside(who->vmm, threads, &helpers, &vhost);

	for (unsigned i = 0; !rc && i < helpers.n; i++)
		rc = add_process(out, helpers.task[i].tid);
	if (!rc && what == TRACED_MSIS)
		rc = add_tids(out, &vhost, ALL);
	if (!rc && what == TRACED_MSIS && who->backend)
		rc = add_process(out, who->backend);
	tasks_free(&helpers);
	tasks_free(&vhost);
	return rc;
}

static int list(struct tids *out, enum traced what, const struct counted *who)
{
	struct tasks threads;
	int rc;

	out->n = 0;
	if (what == TRACED_BACKEND)
		return add_process(out, who->backend);
	rc = tasks_of(who->vmm, &threads);
	rc = rc ? rc
		: add_tids(out, &threads,
			   what == TRACED_KICKS      ? 1u << TASK_VCPU
			   : what == TRACED_SYSCALLS ? ALL & ~(1u << TASK_VHOST)
						     : ALL);
	if (!rc && what != TRACED_KICKS)
		rc = add_beside(out, what, who, &threads);
	tasks_free(&threads);
	return rc;
}

/* --- what --- */

static const char *const tracepoints[TRACED][3] = {
	[TRACED_SYSCALLS] = {SYS_ENTER},
	[TRACED_BACKEND] = {SYS_ENTER},
	[TRACED_KICKS] = {MMIO, FAST_MMIO, PIO},
	[TRACED_MSIS] = {MSI},
};

const char *attach_missing(enum traced what)
{
	const char *why = NULL;

	for (unsigned i = 0; i < 3 && tracepoints[what][i] && !why; i++)
		why = perf_missing(tracepoints[what][i]);
	return why;
}

void attach_prepare(struct perf *p, enum traced what)
{
	for (unsigned i = 0; i < 3 && tracepoints[what][i]; i++)
		perf_hold(p, tracepoints[what][i]);
}

static int trace_doorbell(struct perf *t, bool pio, uint64_t first, uint64_t end, const struct tids *on)
{
	char filter[128];
	int rc;

	if (pio) {
		snprintf(filter, sizeof(filter), "rw == 1 && port >= %" PRIu64 " && port < %" PRIu64, first,
			 end);
		return perf_add(t, PIO, filter, on->tid, on->n);
	}
	/* What KVM emulates, whoever the write is for; and what it need not. */
	snprintf(filter, sizeof(filter), "type == 2 && gpa >= %" PRIu64 " && gpa < %" PRIu64, first, end);
	rc = perf_add(t, MMIO, filter, on->tid, on->n);
	snprintf(filter, sizeof(filter), "gpa >= %" PRIu64 " && gpa < %" PRIu64, first, end);
	return rc ? rc : perf_add(t, FAST_MMIO, filter, on->tid, on->n);
}

static int trace_on(struct perf *t, enum traced what, const struct tids *on, const struct vm_counts *vm)
{
	int rc = 0;

	if (what == TRACED_MSIS)
		return perf_add(t, MSI, NULL, on->tid, on->n);
	if (what != TRACED_KICKS)
		return perf_add(t, SYS_ENTER, NULL, on->tid, on->n);
	for (unsigned i = 0; i < vm->ndoorbells && !rc; i++)
		rc = trace_doorbell(t, vm->doorbell[i].pio, vm->doorbell[i].address,
				    vm->doorbell[i].address + vm->doorbell[i].length, on);
	return rc;
}

/* A thread that is made while others are being attached to may be missed, or counted twice: then again. */
int attach(struct perf *t, enum traced what, const struct counted *who, const struct vm_counts *vm)
{
	struct tids before = {0}, after = {0};
	int rc = -EAGAIN;

	for (unsigned i = 0; i < TRIES && (rc == -EAGAIN || rc == -ESRCH); i++) {
		perf_free(t);
		rc = list(&before, what, who);
		rc = rc ? rc : trace_on(t, what, &before, vm);
		rc = rc ? rc : list(&after, what, who);
		if (!rc &&
		    (before.n != after.n || memcmp(before.tid, after.tid, before.n * sizeof(pid_t)) != 0))
			rc = -EAGAIN;
	}
	if (rc)
		perf_free(t);
	free(before.tid);
	free(after.tid);
	return rc;
}
