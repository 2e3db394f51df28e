/* Threads by their names, and their CPU time: of a process that does as it is told. */
#include <errno.h>

#include "compare/counters_cpu.h"
#include "tests/unit/test_compare_counters_crowd.h"

#define MS UINT64_C(1000000)

static struct crowd crowd, backend;
static struct cpu_times begin, end;
static struct cpu_spent spent;
static struct counted who;

static void setup(void)
{
	crowd_start(&crowd);
	who.vmm = crowd.pid;
}

static void teardown(void)
{
	cpu_times_free(&begin);
	cpu_times_free(&end);
	crowd_stop(&crowd);
	crowd_stop(&backend);
}

TestSuite(compare_counters_tasks, .init = setup, .fini = teardown, .timeout = 60);

static void from_here(void)
{
	cr_assert_eq(cpu_times_read(&who, &begin), 0);
}

static void to_here(void)
{
	cr_assert_eq(cpu_times_read(&who, &end), 0);
	cpu_times_spent(&begin, &end, &spent);
}

/* What was asked for is done in pieces, and being asked costs something too. */
static void expect_ms(uint64_t ns, unsigned ms, const char *whose)
{
	cr_expect_geq(ns, ms * MS, "%s: %.3f ms", whose, (double)ns / 1e6);
	cr_expect_lt(ns, (ms + 60) * MS, "%s: %.3f ms", whose, (double)ns / 1e6);
}

static void expect_all(unsigned vcpu, unsigned vmm, unsigned vhost, unsigned of_backend)
{
	expect_ms(spent.vcpu, vcpu, "vCPU");
	expect_ms(spent.vmm, vmm, "VMM");
	expect_ms(spent.vhost, vhost, "vhost");
	expect_ms(spent.backend, of_backend, "back end");
}

Test(compare_counters_tasks, threads_are_known_by_their_names)
{
	struct tasks t;
	unsigned n[TASK_KINDS] = {0};

	cr_assert_eq(tasks_of(crowd.pid, &t), 0);
	for (unsigned i = 0; i < t.n; i++)
		n[t.task[i].kind]++;
	cr_expect_eq(n[TASK_VCPU], 1);
	cr_expect_eq(n[TASK_VHOST], 1);
	cr_expect_eq(n[TASK_OTHER], 2);
	cr_expect(tasks_find(&t, crowd.pid));
	cr_expect_null(tasks_find(&t, getpid()));
	tasks_free(&t);
}

Test(compare_counters_tasks, each_has_what_it_spent)
{
	crowd_do(&crowd, WHO_VCPU, 0, 100); /* before: not counted */
	from_here();
	crowd_do(&crowd, WHO_VCPU, 0, 250);
	crowd_do(&crowd, WHO_NET, 0, 150);
	crowd_do(&crowd, WHO_VHOST, 0, 80);
	to_here();
	expect_all(250, 150, 80, 0);
	cr_expect(spent.vhost_seen);
	cr_expect_geq(spent.wall, 480 * MS);
}

Test(compare_counters_tasks, helpers_are_the_vmms)
{
	from_here();
	crowd_do(&crowd, WHO_HELPER, 0, 200);
	to_here();
	expect_all(0, 200, 0, 0);
}

Test(compare_counters_tasks, threads_that_came_and_went)
{
	from_here();
	crowd_do(&crowd, WHO_NEW, 0, 120);
	crowd_do(&crowd, WHO_NEW, 0, 120);
	to_here();
	expect_all(0, 240, 0, 0);
}

Test(compare_counters_tasks, threads_that_came_and_stay)
{
	crowd_do(&crowd, WHO_VCPU, 0, 100);
	from_here();
	for (unsigned i = 0; i < begin.threads.n; i++) /* as if it had not been there yet */
		if (begin.threads.task[i].kind == TASK_VCPU)
			begin.threads.task[i].tid = 0;
	crowd_do(&crowd, WHO_VCPU, 0, 100);
	to_here();
	expect_all(200, 0, 0, 0);
}

Test(compare_counters_tasks, a_back_end)
{
	crowd_start(&backend);
	who.backend = backend.pid;
	from_here();
	crowd_do(&backend, WHO_VCPU, 0, 100); /* whatever its threads are called */
	crowd_do(&backend, WHO_NEW, 0, 100);
	to_here();
	expect_all(0, 0, 0, 200);
}

Test(compare_counters_tasks, nobody_works)
{
	from_here();
	usleep(100000);
	to_here();
	expect_all(0, 0, 0, 0);
}

Test(compare_counters_tasks, a_process_that_is_no_more)
{
	struct tasks t;
	pid_t pid = crowd.pid;

	crowd_stop(&crowd);
	cr_expect_eq(tasks_of(pid, &t), -ESRCH);
	cr_expect_neq(cpu_times_read(&who, &begin), 0);
}
