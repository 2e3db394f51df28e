#include <criterion/criterion.h>
#include <signal.h>

#include "lib/thread.h"
#include "vmm/loop_thread.h"

static sigset_t mask;

static void *look(void *arg)
{
	(void)arg;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	return NULL;
}

static void look_on_loop(void *arg)
{
	look(arg);
}

static void for_crashes_only(void)
{
	cr_expect(sigismember(&mask, SIGTERM));
	cr_expect(sigismember(&mask, SIGINT));
	cr_expect(sigismember(&mask, SIGPIPE));
	cr_expect_not(sigismember(&mask, SIGBUS));
	cr_expect_not(sigismember(&mask, SIGSEGV));
	cr_expect_not(sigismember(&mask, SIGABRT));
	cr_expect_not(sigismember(&mask, SIGSYS));
}

Test(thread, takes_the_signals_of_a_crash_and_no_others)
{
	sigset_t before, after;
	pthread_t t;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	cr_assert_eq(thread_start(&t, NULL, THREAD_DATA, look, NULL), 0);
	pthread_join(t, NULL);
	for_crashes_only();
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	cr_expect_eq(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
}

Test(thread, so_do_the_loops_of_devices)
{
	struct loop_thread t;
	struct err e = {0};

	cr_assert_eq(loop_thread_start(&t, "io", -1, &e), 0);
	evloop_call(t.loop, look_on_loop, NULL);
	loop_thread_stop(&t);
	for_crashes_only();
}
