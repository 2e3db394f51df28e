/* A process that does as it is told, whose threads are named like a VMM's. */
#ifndef TESTS_UNIT_TEST_COMPARE_COUNTERS_CROWD_H
#define TESTS_UNIT_TEST_COMPARE_COUNTERS_CROWD_H
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"

enum who { WHO_VCPU, WHO_NET, WHO_VHOST, WHO_NEW, WHO_HELPER, WHO_MAX };

struct order {
	enum who who;   /* WHO_NEW: a thread that is made for it by WHO_NET, and ends */
	unsigned calls; /* of the system, and */
	unsigned ms;    /* of CPU time */
};

struct crowd {
	pid_t pid;
	int to, from;
};

static int crowd_pipe[WHO_MAX][2], crowd_done[2];

static void crowd_obey(const struct order *o)
{
	const uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + o->ms * UINT64_C(1000000);

	for (unsigned i = 0; i < o->calls; i++)
		syscall(SYS_getppid);
	while (o->ms && clock_ns(CLOCK_THREAD_CPUTIME_ID) < end) /* which is a system call, so not too often */
		for (volatile unsigned i = 0; i < 3000000; i++)
			;
}

static void *crowd_new(void *arg)
{
	crowd_obey(arg);
	return NULL;
}

static void crowd_serve(enum who who)
{
	struct order o;

	while (read(crowd_pipe[who][0], &o, sizeof(o)) == sizeof(o)) {
		pthread_t t;

		if (o.who == WHO_NEW) {
			pthread_create(&t, NULL, crowd_new, &o);
			pthread_join(t, NULL);
		} else {
			crowd_obey(&o);
		}
		if (write(crowd_done[1], "", 1) != 1)
			return;
	}
}

static void *crowd_thread(void *arg)
{
	static const char *const names[] = {"vcpu7", "net0", "vhost-"};
	const enum who who = *(enum who *)arg;
	char name[16];

	snprintf(name, sizeof(name), who == WHO_VHOST ? "%s%d" : "%s", names[who], (int)getpid());
	prctl(PR_SET_NAME, name);
	if (write(crowd_done[1], "", 1) == 1)
		crowd_serve(who);
	return NULL;
}

static void crowd_main(int orders)
{
	static enum who who[] = {WHO_VCPU, WHO_NET, WHO_VHOST};
	struct order o;
	pid_t helper;
	pthread_t t;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < WHO_MAX; i++)
		if (pipe(crowd_pipe[i]))
			_exit(1);
	helper = fork();
	if (!helper) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (write(crowd_done[1], "", 1) == 1)
			crowd_serve(WHO_HELPER);
		_exit(0);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_create(&t, NULL, crowd_thread, &who[i]);
	while (read(orders, &o, sizeof(o)) == sizeof(o))
		if (write(crowd_pipe[o.who == WHO_NEW ? WHO_NET : o.who][1], &o, sizeof(o)) < 0)
			break;
	kill(helper, SIGKILL);
	waitpid(helper, NULL, 0);
	_exit(0);
}

static void crowd_await(const struct crowd *c)
{
	struct pollfd p = {.fd = c->from, .events = POLLIN};
	char byte;

	cr_assert_eq(poll(&p, 1, 20000), 1, "the crowd does not answer");
	cr_assert_eq(read(c->from, &byte, 1), 1, "the crowd is gone");
}

static void crowd_start(struct crowd *c)
{
	int orders[2];

	cr_assert_eq(pipe(orders), 0);
	cr_assert_eq(pipe(crowd_done), 0);
	c->pid = fork();
	if (!c->pid) {
		close(orders[1]);
		crowd_main(orders[0]);
	}
	close(orders[0]);
	close(crowd_done[1]);
	c->to = orders[1];
	c->from = crowd_done[0];
	for (unsigned i = 0; i < 4; i++) /* three threads and the helper */
		crowd_await(c);
}

static void crowd_do(const struct crowd *c, enum who who, unsigned calls, unsigned ms)
{
	const struct order o = {who, calls, ms};

	cr_assert_eq(write(c->to, &o, sizeof(o)), (ssize_t)sizeof(o));
	crowd_await(c);
}

static void crowd_stop(struct crowd *c)
{
	if (!c->pid)
		return;
	kill(c->pid, SIGKILL); /* its helper goes with it */
	close(c->to);
	close(c->from);
	waitpid(c->pid, NULL, 0);
	c->pid = 0;
}
#endif
