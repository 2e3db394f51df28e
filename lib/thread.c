#include "lib/thread.h"

#include <signal.h>
#include <stddef.h>

#include "lib/cleanup.h"

int thread_start(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	static const int crash[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	sigset_t blocked, old;
	int rc;

	sigfillset(&blocked);
	for (size_t i = 0; i < ARRAY_SIZE(crash); i++)
		sigdelset(&blocked, crash[i]);
	pthread_sigmask(SIG_SETMASK, &blocked, &old);
	rc = pthread_create(thread, attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -rc;
}
