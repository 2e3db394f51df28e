#include "compare/counters_cpu.h"

#include <time.h>

#include "lib/clock.h"

/* Threads that run are counted at the scheduler's tick, the whole and the parts not in the same moment. */
#define TICKS_NS 20000000

void cpu_times_free(struct cpu_times *t)
{
	tasks_free(&t->threads);
	tasks_free(&t->helpers);
	tasks_free(&t->vhost);
}

int cpu_times_read(const struct counted *who, struct cpu_times *out)
{
	int rc;

	*out = (struct cpu_times){.wall_ns = clock_ns(CLOCK_MONOTONIC)};
	rc = process_cpu_ns(who->vmm, &out->vmm_ns);
	rc = rc ? rc : tasks_of(who->vmm, &out->threads);
	if (!rc && who->backend)
		rc = process_cpu_ns(who->backend, &out->backend_ns);
	rc = rc ? rc : tasks_beside(who->vmm, &out->threads, &out->helpers, &out->vhost);
	if (rc)
		cpu_times_free(out);
	return rc;
}

static uint64_t beyond(uint64_t end, uint64_t begin)
{
	return end > begin ? end - begin : 0;
}

/* Of these threads since then.  One that was not there has used all it has in between. */
static void spent(const struct tasks *begin, const struct tasks *end, uint64_t by[TASK_KINDS])
{
	for (unsigned i = 0; i < end->n; i++) {
		const struct task *before = tasks_find(begin, end->task[i].tid);

		by[end->task[i].kind] += beyond(end->task[i].cpu_ns, before ? before->cpu_ns : 0);
	}
}

static bool has_vhost(const struct cpu_times *t)
{
	for (unsigned i = 0; i < t->threads.n; i++)
		if (t->threads.task[i].kind == TASK_VHOST)
			return true;
	return t->vhost.n;
}

void cpu_times_spent(const struct cpu_times *begin, const struct cpu_times *end, struct cpu_spent *out)
{
	uint64_t by[TASK_KINDS] = {0}, beside[TASK_KINDS] = {0}, gone;

	spent(&begin->threads, &end->threads, by);
	spent(&begin->helpers, &end->helpers, beside);
	spent(&begin->vhost, &end->vhost, beside);
	/* Threads that have ended are in the process's time only. */
	gone = beyond(beyond(end->vmm_ns, begin->vmm_ns), by[TASK_VCPU] + by[TASK_VHOST] + by[TASK_OTHER]);
	*out = (struct cpu_spent){
		.wall = beyond(end->wall_ns, begin->wall_ns),
		.vcpu = by[TASK_VCPU],
		.vmm = by[TASK_OTHER] + beside[TASK_OTHER] + (gone > TICKS_NS ? gone : 0),
		.vhost = by[TASK_VHOST] + beside[TASK_VHOST],
		.backend = beyond(end->backend_ns, begin->backend_ns),
		.vhost_seen = has_vhost(begin) || has_vhost(end),
	};
}
