/* Theory of operation.  Three witnesses: the VM (vm_counts), the scheduler (tasks) and the kernel's tracepoints
 * (attach).  Each is asked twice and the differences are told; whatever goes backwards began anew and is not
 * known. */
#include "compare/counters.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compare/counters_attach.h"
#include "compare/counters_control.h"
#include "compare/counters_cpu.h"
#include "lib/clock.h"

static const char not_counted[] = "its threads could not be attached to";
static const char began_anew[] = "the guest began anew meanwhile";

struct counters {
	struct counted who;
	char *control, *device;
	bool posted; /* the processor takes interrupts without KVM */
	struct vm_counts before;
	struct cpu_times begin;
	struct perf perf[TRACED];
	struct perf held;             /* so that begin and end fit into the guest's pauses */
	const char *untraced[TRACED]; /* why there is no such trace, now */
	bool has_times;
	uint64_t began_ns;
	double seconds;
	const char *never[METRICS];  /* why it cannot be known */
	const char *failed[METRICS]; /* why it was not, last time */
};

/* --- what can be known --- */

static bool is_on(const char *path)
{
	FILE *f = fopen(path, "re");
	int word = f ? fgetc(f) : 0;

	if (f)
		fclose(f);
	return word == 'Y' || word == '1';
}

static const char *msis_untraced(const struct counters *c)
{
	if (!c->before.pci)
		return "the processor takes them without KVM (APICv, AVIC), and they are no MSIs";
	if (c->before.vdpa)
		return "the processor takes them without KVM (APICv, AVIC), and the kernel sends them";
	return attach_missing(TRACED_MSIS);
}

static const char *uncounted(const struct vm_counts *vm, uint64_t count)
{
	if (count != VM_COUNTS_UNKNOWN || vm->busy)
		return NULL;
	return vm->kvm_missing ? "KVM has no statistics (Linux 5.14 has)" : "this KVM does not count them";
}

static void find_untraced(struct counters *c)
{
	const char *const syscalls = attach_missing(TRACED_SYSCALLS);

	c->untraced[TRACED_SYSCALLS] = syscalls;
	c->untraced[TRACED_BACKEND] = c->who.backend ? syscalls : "there is no back end";
	c->untraced[TRACED_KICKS] = attach_missing(TRACED_KICKS);
	c->untraced[TRACED_MSIS] = c->posted ? msis_untraced(c) : "KVM counts interrupts";
}

static void find_missing(struct counters *c)
{
	const struct vm_counts *vm = &c->before;

	find_untraced(c);
	c->never[METRIC_EXITS] = uncounted(vm, vm->exits);
	c->never[METRIC_INTERRUPTS] = c->posted ? c->untraced[TRACED_MSIS] : uncounted(vm, vm->irq_injections);
	c->never[METRIC_SYSCALLS] = c->untraced[TRACED_SYSCALLS];
	if (c->who.backend)
		c->never[METRIC_SYSCALLS_BACKEND] = c->untraced[TRACED_BACKEND];
	else if (vm->remote && !vm->kernel_vhost)
		c->never[METRIC_SYSCALLS_BACKEND] = c->never[METRIC_CPU_BACKEND] =
			"who serves the device is not known";
	if (vm->remote && !vm->notify_exit)
		c->never[METRIC_KICKS] = c->untraced[TRACED_KICKS];
}

/* Threads' times are told by all kernels but those built without. */
static void find_times(struct counters *c)
{
	struct tasks t;

	c->has_times = tasks_of(c->who.vmm, &t) != -ENOENT;
	tasks_free(&t);
	for (unsigned m = METRIC_CPU_VCPU; !c->has_times && m <= METRIC_CPU_BACKEND; m++)
		c->never[m] = "this kernel does not tell threads' times (CONFIG_SCHED_INFO)";
}

const char *counters_missing(const struct counters *c, enum metric m)
{
	return c->never[m] ? c->never[m] : c->failed[m];
}

/* --- all --- */

int counters_new(struct counters **out, pid_t vmm, const char *control, const char *device, pid_t backend,
		 struct err *e)
{
	struct counters *c = calloc(1, sizeof(*c));
	int rc;

	*out = NULL;
	if (c)
		*c = (struct counters){.who = {vmm, backend},
				       .control = strdup(control),
				       .device = strdup(device)};
	if (!c || !c->control || !c->device) {
		counters_free(c);
		return err_set(e, -ENOMEM, "counters: out of memory");
	}
	rc = vm_counts_ask(c->control, c->device, &c->before, e);
	if (rc) {
		counters_free(c);
		return rc;
	}
	c->posted = is_on("/sys/module/kvm_intel/parameters/enable_apicv") ||
		    is_on("/sys/module/kvm_amd/parameters/avic");
	find_missing(c);
	find_times(c);
	for (unsigned i = 0; i < TRACED; i++)
		if (!c->untraced[i])
			attach_prepare(&c->held, i);
	*out = c;
	return 0;
}

static void stop(struct counters *c)
{
	for (unsigned i = 0; i < TRACED; i++)
		perf_free(&c->perf[i]);
	cpu_times_free(&c->begin);
}

void counters_free(struct counters *c)
{
	if (!c)
		return;
	stop(c);
	perf_free(&c->held);
	free(c->control);
	free(c->device);
	free(c);
}

static int gone(const struct counters *c, int rc, struct err *e)
{
	return err_set(e, rc,
		       "counters: the times of the VM, process %d, or of its back end cannot be read: %s%s",
		       (int)c->who.vmm, strerror(-rc), rc == -ESRCH ? "; has it ended?" : "");
}

int counters_begin(struct counters *c, struct err *e)
{
	static const enum metric by[TRACED] = {
		[TRACED_SYSCALLS] = METRIC_SYSCALLS,
		[TRACED_BACKEND] = METRIC_SYSCALLS_BACKEND,
		[TRACED_KICKS] = METRIC_KICKS,
		[TRACED_MSIS] = METRIC_INTERRUPTS,
	};
	int rc;

	stop(c);
	memset(c->failed, 0, sizeof(c->failed));
	rc = vm_counts_ask(c->control, c->device, &c->before, e);
	if (rc)
		return rc;
	for (unsigned i = 0; i < TRACED; i++)
		if (!c->untraced[i] && attach(&c->perf[i], i, &c->who, &c->before))
			c->failed[by[i]] = not_counted;
	c->began_ns = clock_ns(CLOCK_MONOTONIC);
	rc = c->has_times ? cpu_times_read(&c->who, &c->begin) : 0;
	return rc ? gone(c, rc, e) : 0;
}

static void cpu_values(struct counters *c, const struct cpu_times *end, double value[METRICS])
{
	struct cpu_spent spent;
	double wall;

	cpu_times_spent(&c->begin, end, &spent);
	wall = (double)spent.wall;
	c->seconds = wall / 1e9;
	value[METRIC_CPU_VCPU] = (double)spent.vcpu / wall;
	value[METRIC_CPU_VMM] = (double)spent.vmm / wall;
	value[METRIC_CPU_VHOST] = (double)spent.vhost / wall;
	value[METRIC_CPU_BACKEND] = (double)spent.backend / wall;
	if (c->before.kernel_vhost && !spent.vhost_seen)
		c->failed[METRIC_CPU_VHOST] = "the kernel's worker is not to be seen from here";
}

/* What has been counted between two answers, or NAN and why. */
static double between(struct counters *c, enum metric m, uint64_t before, uint64_t after)
{
	if (before == VM_COUNTS_UNKNOWN || after == VM_COUNTS_UNKNOWN) {
		c->failed[m] = "it could not be asked: a vCPU waited for a back end";
		return NAN;
	}
	if (after < before) {
		c->failed[m] = began_anew;
		return NAN;
	}
	return (double)(after - before);
}

/* Of a trace that there is. */
static double traced(struct counters *c, enum traced what, enum metric m)
{
	uint64_t n;

	if (c->failed[m] || perf_read(&c->perf[what], &n)) {
		c->failed[m] = not_counted;
		return NAN;
	}
	return (double)n;
}

/* Where no tracepoint has seen them. */
static double kicks(struct counters *c, const struct vm_counts *after)
{
	const struct vm_counts *before = &c->before;

	if (before->notify_exit)
		return between(c, METRIC_KICKS, before->exit_kicks, after->exit_kicks);
	if (!before->remote)
		return between(c, METRIC_KICKS, before->kicks, after->kicks);
	c->failed[METRIC_KICKS] = "the VM did not know where the device's doorbells are";
	return NAN;
}

static void vm_values(struct counters *c, const struct vm_counts *after, double value[METRICS])
{
	const struct vm_counts *before = &c->before;

	value[METRIC_EXITS] = between(c, METRIC_EXITS, before->exits, after->exits);
	value[METRIC_USER_EXITS] = between(c, METRIC_USER_EXITS, before->user_exits, after->user_exits);
	if (!c->posted)
		value[METRIC_INTERRUPTS] =
			between(c, METRIC_INTERRUPTS, before->irq_injections, after->irq_injections);
	if (c->untraced[TRACED_KICKS] || !before->ndoorbells)
		value[METRIC_KICKS] = kicks(c, after);
}

/* What goes on counting, and so is read before the VM is asked. */
static int end_traced(struct counters *c, double value[METRICS], struct err *e)
{
	struct cpu_times end = {0};
	int rc = c->has_times ? cpu_times_read(&c->who, &end) : 0;

	c->seconds = (double)(clock_ns(CLOCK_MONOTONIC) - c->began_ns) / 1e9;
	if (rc)
		return gone(c, rc, e);
	if (c->has_times)
		cpu_values(c, &end, value);
	cpu_times_free(&end);
	if (!c->untraced[TRACED_SYSCALLS])
		value[METRIC_SYSCALLS] = traced(c, TRACED_SYSCALLS, METRIC_SYSCALLS);
	if (!c->untraced[TRACED_BACKEND])
		value[METRIC_SYSCALLS_BACKEND] = traced(c, TRACED_BACKEND, METRIC_SYSCALLS_BACKEND);
	else if (!c->who.backend)
		value[METRIC_SYSCALLS_BACKEND] = 0;
	if (!c->untraced[TRACED_MSIS])
		value[METRIC_INTERRUPTS] = traced(c, TRACED_MSIS, METRIC_INTERRUPTS);
	if (!c->untraced[TRACED_KICKS] && c->before.ndoorbells)
		value[METRIC_KICKS] = traced(c, TRACED_KICKS, METRIC_KICKS);
	return 0;
}

int counters_end(struct counters *c, double value[METRICS], struct err *e)
{
	struct vm_counts after;
	int rc;

	for (unsigned m = METRIC_CPU_VCPU; m < METRICS; m++)
		value[m] = NAN;
	rc = end_traced(c, value, e);
	rc = rc ? rc : vm_counts_ask(c->control, c->device, &after, e);
	if (!rc)
		vm_values(c, &after, value);
	for (unsigned m = METRIC_CPU_VCPU; m < METRICS; m++)
		if (rc || counters_missing(c, m))
			value[m] = NAN;
	stop(c);
	return rc;
}

double counters_seconds(const struct counters *c)
{
	return c->seconds;
}
