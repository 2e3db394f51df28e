/* Tracepoints: system calls of a process that does as it is told. */
#include <errno.h>
#include <sys/mman.h>

#include "compare/counters_attach.h"
#include "tests/unit/test_compare_counters_crowd.h"

#define CALLS 10000u
#define SLACK 200u /* being told, and saying that it is done */

static struct crowd crowd, backend;
static struct perf perf;
static struct vm_counts vm;
static struct counted who;

static void setup(void)
{
	crowd_start(&crowd);
	crowd_start(&backend);
	who = (struct counted){crowd.pid, backend.pid};
}

static void teardown(void)
{
	perf_free(&perf);
	crowd_stop(&crowd);
	crowd_stop(&backend);
}

TestSuite(compare_counters_perf, .init = setup, .fini = teardown, .timeout = 60);

/* Where nobody may count, that has to be said, and nothing is counted. */
static bool begin(enum traced what)
{
	const char *why = attach_missing(what);

	if (!why) {
		cr_assert_eq(attach(&perf, what, &who, &vm), 0);
		return true;
	}
	cr_expect_gt(strlen(why), 10);
	cr_expect_neq(attach(&perf, what, &who, &vm), 0);
	cr_expect_eq(perf.n, 0);
	return false;
}

static void expect_count(unsigned calls)
{
	uint64_t n;

	cr_assert_eq(perf_read(&perf, &n), 0);
	cr_expect_geq(n, calls, "%llu, expected %u", (unsigned long long)n, calls);
	cr_expect_lt(n, calls + SLACK, "%llu, expected %u", (unsigned long long)n, calls);
}

Test(compare_counters_perf, of_all_threads_but_the_kernels)
{
	crowd_do(&crowd, WHO_NET, CALLS, 0); /* before: not counted */
	if (!begin(TRACED_SYSCALLS))
		return;
	expect_count(0);
	crowd_do(&crowd, WHO_NET, CALLS, 0);
	crowd_do(&crowd, WHO_VCPU, CALLS, 0);
	crowd_do(&crowd, WHO_VHOST, CALLS, 0);
	crowd_do(&backend, WHO_NET, CALLS, 0);
	expect_count(2 * CALLS);
}

Test(compare_counters_perf, of_helpers)
{
	if (!begin(TRACED_SYSCALLS))
		return;
	crowd_do(&crowd, WHO_HELPER, CALLS, 0);
	expect_count(CALLS);
}

Test(compare_counters_perf, of_threads_that_are_made_meanwhile)
{
	if (!begin(TRACED_SYSCALLS))
		return;
	for (unsigned i = 0; i < 5; i++)
		crowd_do(&crowd, WHO_NEW, CALLS, 0);
	expect_count(5 * CALLS);
}

Test(compare_counters_perf, of_a_back_end)
{
	if (!begin(TRACED_BACKEND))
		return;
	crowd_do(&crowd, WHO_NET, CALLS, 0);
	crowd_do(&backend, WHO_VHOST, CALLS, 0);
	crowd_do(&backend, WHO_NEW, CALLS, 0);
	expect_count(2 * CALLS);
}

Test(compare_counters_perf, a_thread_that_ended_is_still_counted)
{
	uint64_t n;

	if (!begin(TRACED_SYSCALLS))
		return;
	crowd_do(&crowd, WHO_NET, CALLS, 0);
	crowd_stop(&crowd);
	cr_assert_eq(perf_read(&perf, &n), 0);
	cr_expect_geq(n, CALLS);
}

Test(compare_counters_perf, with_a_filter)
{
	char filter[64];
	uint64_t n;

	if (attach_missing(TRACED_SYSCALLS))
		return;
	snprintf(filter, sizeof(filter), "id == %d", SYS_getppid);
	cr_assert_eq(perf_add(&perf, "raw_syscalls:sys_enter", filter, &(pid_t){getpid()}, 1), 0);
	for (unsigned i = 0; i < CALLS; i++) {
		syscall(SYS_getppid);
		syscall(SYS_getuid);
	}
	cr_assert_eq(perf_read(&perf, &n), 0);
	cr_expect_eq(n, CALLS);
}

Test(compare_counters_perf, what_is_prepared_counts_nothing)
{
	uint64_t n;

	attach_prepare(&perf, TRACED_SYSCALLS);
	cr_expect_eq(perf.n, attach_missing(TRACED_SYSCALLS) ? 0 : 1);
	syscall(SYS_getppid);
	cr_assert_eq(perf_read(&perf, &n), 0);
	cr_expect_eq(n, 0);
}

Test(compare_counters_perf, a_filter_that_is_none)
{
	if (attach_missing(TRACED_SYSCALLS))
		return;
	cr_expect_neq(perf_add(&perf, "raw_syscalls:sys_enter", "nonsense ==", &(pid_t){getpid()}, 1), 0);
	cr_expect_eq(perf.n, 0);
}

Test(compare_counters_perf, no_such_tracepoint)
{
	cr_expect(perf_missing("raw_syscalls:nonsense"));
	cr_expect(perf_missing("nonsense"));
	cr_expect_neq(perf_add(&perf, "raw_syscalls:nonsense", NULL, &(pid_t){getpid()}, 1), 0);
}

Test(compare_counters_perf, of_a_process_that_is_no_more)
{
	crowd_stop(&crowd);
	cr_expect_neq(attach(&perf, TRACED_SYSCALLS, &who, &vm), 0);
	cr_expect_eq(perf.n, 0);
}

/* Whoever may not has to be told so; the words are the parent's to see. */
Test(compare_counters_perf, not_for_everybody)
{
	char *said = mmap(NULL, 256, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;
	int status;

	if (geteuid())
		cr_skip_test("only root can be nobody for a while");
	pid = fork();
	if (!pid) {
		struct perf p = {0};
		const char *why;

		if (setgid(65534) || setuid(65534))
			_exit(1);
		why = attach_missing(TRACED_SYSCALLS);
		snprintf(said, 256, "%s", why ? why : "");
		_exit(attach(&p, TRACED_SYSCALLS, &who, &vm) ? 0 : 2);
	}
	waitpid(pid, &status, 0);
	cr_expect_eq(status, 0);
	cr_expect(strstr(said, "root") || strstr(said, "tracefs"), "\"%s\"", said);
}
