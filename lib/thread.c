#include "lib/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include "lib/cleanup.h"

struct start {
	enum thread_kind kind;
	void *(*fn)(void *);
	void *arg;
};

static void (*_Atomic on_begin)(enum thread_kind kind);

void thread_on_begin(void (*fn)(enum thread_kind kind))
{
	on_begin = fn;
}

void thread_begin(enum thread_kind kind)
{
	void (*fn)(enum thread_kind) = on_begin;

	if (fn)
		fn(kind);
}

static void *begin(void *arg)
{
	const struct start s = *(struct start *)arg;

	free(arg);
	thread_begin(s.kind);
	return s.fn(s.arg);
}

int thread_start(pthread_t *thread, const pthread_attr_t *attr, enum thread_kind kind, void *(*fn)(void *),
		 void *arg)
{
	static const int crash[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
	struct start *s = malloc(sizeof(*s));
	sigset_t blocked, old;
	int rc;

	if (!s)
		return -ENOMEM;
	*s = (struct start){.kind = kind, .fn = fn, .arg = arg};
	sigfillset(&blocked);
	for (size_t i = 0; i < ARRAY_SIZE(crash); i++)
		sigdelset(&blocked, crash[i]);
	pthread_sigmask(SIG_SETMASK, &blocked, &old);
	rc = pthread_create(thread, attr, begin, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		free(s);
	return -rc;
}

const char *thread_kind_name(enum thread_kind kind)
{
	static const char *const name[THREAD_KINDS] = {
		[THREAD_MAIN] = "main",       [THREAD_VCPU] = "vcpu",       [THREAD_DATA] = "data",
		[THREAD_DISK] = "disk",       [THREAD_CONSOLE] = "console", [THREAD_SLIRP] = "slirp",
		[THREAD_CONNECT] = "connect",
	};

	return name[kind];
}
