/* #syscalls[data]: prctl:0==PR_SET_NAME */
#include "vmm/loop_thread.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/thread.h"

/* The first thing that happens on the loop. */
static void on_first(struct ev_watch *w, uint32_t events)
{
	struct loop_thread *t = container_of(w, struct loop_thread, first);

	(void)events;
	evloop_del(t->loop, w);
	sem_post(&t->running);
}

static void *loop_main(void *arg)
{
	struct loop_thread *t = arg;

	pthread_setname_np(pthread_self(), t->name);
	evloop_run(t->loop);
	return NULL;
}

static int create(struct loop_thread *t, int cpu)
{
	pthread_attr_t attr;
	cpu_set_t set;
	int rc = 0;

	pthread_attr_init(&attr);
	if (cpu >= CPU_SETSIZE) {
		rc = -EINVAL;
	} else if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET((size_t)cpu, &set);
		rc = -pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	}
	if (!rc)
		rc = thread_start(&t->thread, &attr, THREAD_DATA, loop_main, t);
	pthread_attr_destroy(&attr);
	return rc;
}

int loop_thread_start(struct loop_thread *t, const char *name, int cpu, struct err *e)
{
	CLEANUP_FD int fd = -1;
	int rc;

	snprintf(t->name, sizeof(t->name), "%s", name);
	t->loop = evloop_new();
	rc = t->loop ? 0 : -errno;
	if (!rc) {
		fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		rc = fd < 0 ? -errno : 0;
	}
	t->first = (struct ev_watch){.fd = fd, .fn = on_first};
	if (!rc)
		rc = evloop_add(t->loop, &t->first, EPOLLIN);
	if (rc) {
		err_set(e, rc, "cannot make the event loop of thread %s: %s", name, strerror(-rc));
		goto fail;
	}
	sem_init(&t->running, 0, 0);
	rc = create(t, cpu);
	if (rc) {
		if (cpu >= 0)
			err_set(e, rc,
				"cannot run thread %s on host CPU %d: %s\nSee which are allowed: "
				"taskset -pc $$",
				name, cpu, strerror(-rc));
		else
			err_set(e, rc, "cannot start thread %s: %s", name, strerror(-rc));
		sem_destroy(&t->running);
		goto fail;
	}
	while (sem_wait(&t->running) && errno == EINTR)
		;
	return 0;
fail:
	evloop_free(t->loop);
	t->loop = NULL;
	return rc;
}

void loop_thread_stop(struct loop_thread *t)
{
	if (!t->loop)
		return;
	evloop_quit(t->loop, 0);
	pthread_join(t->thread, NULL);
	sem_destroy(&t->running);
	evloop_free(t->loop);
	t->loop = NULL;
}
