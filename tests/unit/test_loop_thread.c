/* Threads that are an event loop. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "vmm/loop_thread.h"

static struct loop_thread io;
static struct err e;

TestSuite(loop_thread, .timeout = 60);

struct seen {
	pthread_t thread;
	char name[16];
	sigset_t blocked;
	cpu_set_t cpus;
};

static void look(void *arg)
{
	struct seen *s = arg;

	s->thread = pthread_self();
	pthread_getname_np(pthread_self(), s->name, sizeof(s->name));
	pthread_sigmask(SIG_BLOCK, NULL, &s->blocked);
	pthread_getaffinity_np(pthread_self(), sizeof(s->cpus), &s->cpus);
}

static struct seen started(const char *name, int cpu)
{
	struct seen s;

	cr_assert_eq(loop_thread_start(&io, name, cpu, &e), 0, "%s", e.text);
	evloop_call(io.loop, look, &s);
	return s;
}

/* evloop_call() on a loop that does not run yet is made by the caller: that must not happen here. */
Test(loop_thread, calls_are_made_on_the_thread_from_the_start)
{
	for (unsigned i = 0; i < 200; i++) {
		struct seen s = started("io", -1);

		cr_assert(pthread_equal(s.thread, io.thread));
		cr_assert_not(pthread_equal(s.thread, pthread_self()));
		loop_thread_stop(&io);
	}
}

Test(loop_thread, has_its_name)
{
	struct seen s = started("net0-rx", -1);

	cr_expect_str_eq(s.name, "net0-rx");
	loop_thread_stop(&io);
}

Test(loop_thread, a_long_name_is_cut)
{
	struct seen s = started("a-device-with-a-long-name", -1);

	cr_expect_str_eq(s.name, "a-device-with-a");
	loop_thread_stop(&io);
}

Test(loop_thread, takes_no_signals)
{
	struct seen s = started("io", -1);
	sigset_t mine;

	cr_expect(sigismember(&s.blocked, SIGTERM));
	cr_expect(sigismember(&s.blocked, SIGINT));
	cr_expect(sigismember(&s.blocked, SIGUSR1));
	pthread_sigmask(SIG_BLOCK, NULL, &mine);
	cr_expect_not(sigismember(&mine, SIGUSR1), "the caller's mask is as it was");
	loop_thread_stop(&io);
}

Test(loop_thread, stays_on_its_cpu)
{
	cpu_set_t mine;
	size_t cpu = 0;
	struct seen s;

	sched_getaffinity(0, sizeof(mine), &mine);
	while (!CPU_ISSET(cpu, &mine))
		cpu++;
	s = started("io", (int)cpu);
	cr_expect_eq(CPU_COUNT(&s.cpus), 1);
	cr_expect(CPU_ISSET(cpu, &s.cpus));
	loop_thread_stop(&io);
}

static void expect_refused(int cpu)
{
	int before = dup(0), after;

	close(before);
	cr_expect_eq(loop_thread_start(&io, "io", cpu, &e), -EINVAL);
	cr_expect_null(io.loop);
	cr_expect(strstr(e.text, "CPU"), "%s", e.text);
	loop_thread_stop(&io);
	after = dup(0);
	close(after);
	cr_expect_eq(before, after);
}

Test(loop_thread, a_cpu_that_does_not_exist_is_refused)
{
	expect_refused(CPU_SETSIZE - 1);
	expect_refused(CPU_SETSIZE);
	expect_refused(1 << 30);
}

Test(loop_thread, stops_twice_and_starts_again)
{
	started("io", -1);
	loop_thread_stop(&io);
	cr_expect_null(io.loop);
	loop_thread_stop(&io);
	started("io", -1);
	loop_thread_stop(&io);
}

Test(loop_thread, leaves_no_descriptor_open)
{
	int before = dup(0), after;

	close(before);
	for (unsigned i = 0; i < 20; i++) {
		started("io", -1);
		loop_thread_stop(&io);
	}
	after = dup(0);
	close(after);
	cr_expect_eq(before, after);
}
