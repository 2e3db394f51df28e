#include "matrix/run.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "matrix/run_case.h"

#define SECOND_NS UINT64_C(1000000000)

static uint64_t now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* --- what fits --- */

/* Of those that run. */
static void in_use(const struct run *r, unsigned *cpus, uint64_t *memory)
{
	*cpus = 0;
	*memory = 0;
	for (size_t i = 0; i < r->next; i++) {
		if (r->cases[i].phase == CASE_RUNS) {
			*cpus += r->plan->cases[i].cpus;
			*memory += r->plan->cases[i].memory;
		}
	}
}

/* In the plan's order: a large one is not overtaken until there is room for it, or it might wait for ever. */
static bool next_fits(const struct run *r)
{
	const unsigned jobs = r->options->jobs ? r->options->jobs : r->plan->jobs;
	const struct matrix_case *c = &r->plan->cases[r->next];
	uint64_t memory;
	unsigned cpus;

	if (!r->running)
		return true;
	if (jobs)
		return r->running < jobs;
	in_use(r, &cpus, &memory);
	return cpus + c->cpus <= r->host.cpus && memory + c->memory <= r->host.memory;
}

/* --- the end of one --- */

static void conclude(struct run *r, size_t i, const struct run_listener *l)
{
	struct case_run *c = &r->cases[i];

	c->phase = CASE_DONE;
	c->seconds = (double)(now() - c->began_ns) / 1e9;
	r->done++;
	r->failed += !c->verdict.passed;
	if (l->done)
		l->done(r, i);
}

static void begin(struct run *r, const struct run_listener *l)
{
	const size_t i = r->next++;
	struct case_run *c = &r->cases[i];
	struct err e = {0};

	c->began_ns = now();
	if (!case_begin(r, i, &e)) {
		c->phase = CASE_RUNS;
		r->running++;
		if (r->plan->cases[i].timeout_ms)
			c->limit_ns = c->began_ns +
				      (r->plan->cases[i].timeout_ms + r->plan->grace_ms) * UINT64_C(1000000);
		return;
	}
	c->verdict = (struct verdict){.kind = "host"};
	snprintf(c->verdict.reason, sizeof(c->verdict.reason), "it could not be started: %s", e.text);
	r->host_failed = true;
	conclude(r, i, l);
}

static void finish(struct run *r, size_t i, const struct run_listener *l)
{
	r->running--;
	case_end(r, i);
	conclude(r, i, l);
}

static void enforce_limits(struct run *r)
{
	const uint64_t t = now();

	for (size_t i = 0; i < r->next; i++) {
		struct case_run *c = &r->cases[i];

		if (c->phase != CASE_RUNS || !c->limit_ns || t < c->limit_ns)
			continue;
		c->late = true;
		c->limit_ns = 0;
		keeper_end(&c->keeper);
	}
}

/* --- signals --- */

/* before: the mask until then. */
static int catch_signals(sigset_t *before)
{
	struct sigaction hup;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	/* A blocked signal comes even where it is ignored, as nohup does. */
	if (!sigaction(SIGHUP, NULL, &hup) && hup.sa_handler != SIG_IGN)
		sigaddset(&set, SIGHUP);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		log_warn("signals cannot be caught: signalfd: %m");
	sigprocmask(SIG_BLOCK, fd < 0 ? NULL : &set, before);
	return fd;
}

static void take_signal(struct run *r, int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (!r->signal)
		r->signal = (int)info.ssi_signo;
	for (size_t i = 0; i < r->next; i++) {
		if (r->cases[i].phase == CASE_RUNS) {
			r->cases[i].interrupted = true;
			keeper_end(&r->cases[i].keeper);
		}
	}
}

/* --- the loop --- */

static int until_next(const struct run *r)
{
	uint64_t t = now(), next = t + SECOND_NS;

	for (size_t i = 0; i < r->next; i++)
		if (r->cases[i].phase == CASE_RUNS && r->cases[i].limit_ns && r->cases[i].limit_ns < next)
			next = r->cases[i].limit_ns;
	return next > t ? (int)((next - t + 999999) / 1000000) : 0;
}

/* fds: room for all that run and one more. */
static void turn(struct run *r, struct pollfd *fds, int signals, const struct run_listener *l)
{
	nfds_t n = 0;

	fds[n++] = (struct pollfd){.fd = signals, .events = POLLIN};
	for (size_t i = 0; i < r->next; i++)
		if (r->cases[i].phase == CASE_RUNS)
			fds[n++] = (struct pollfd){.fd = r->cases[i].keeper.fd, .events = POLLIN};
	if (poll(fds, n, until_next(r)) > 0) {
		n = 1;
		for (size_t i = 0; i < r->next; i++)
			if (r->cases[i].phase == CASE_RUNS && fds[n++].revents)
				finish(r, i, l);
		if (fds[0].revents)
			take_signal(r, signals);
	}
	enforce_limits(r);
}

static bool starts_more(const struct run *r)
{
	return r->next < r->plan->n && !r->signal && !(r->options->fail_fast && r->failed);
}

void run_all(struct run *r, const struct run_listener *l)
{
	CLEANUP_FREE struct pollfd *fds = calloc(r->plan->n + 1, sizeof(*fds));
	sigset_t before;
	CLEANUP_FD int signals = catch_signals(&before);

	r->began_ns = now();
	if (!fds) {
		log_error("no memory left");
		r->host_failed = true;
		sigprocmask(SIG_SETMASK, &before, NULL);
		return;
	}
	while (r->running || starts_more(r)) {
		while (starts_more(r) && next_fits(r))
			begin(r, l);
		if (l->tick)
			l->tick(r);
		if (r->running)
			turn(r, fds, signals, l);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
}

int run_prepare(struct run *r, const struct plan *plan, const struct options *options, struct err *e)
{
	*r = (struct run){.plan = plan, .options = options};
	r->program = options->ringlet ? realpath(options->ringlet, NULL) : strdup("/proc/self/exe");
	if (!r->program || access(r->program, X_OK))
		return err_set(e, -errno, "--ringlet: %s cannot be run: %m", options->ringlet);
	if (access(plan->directory, X_OK))
		return err_set(e, -errno, "%s: directory: %s: %m", plan->file.path, plan->directory);
	r->cases = calloc(plan->n, sizeof(*r->cases));
	if (!r->cases)
		return err_set(e, -ENOMEM, "no memory left");
	for (size_t i = 0; i < plan->n; i++)
		r->cases[i].keeper.fd = -1;
	host_look(&r->host, "");
	return case_make_out(&r->out, options->out, e);
}

void run_free(struct run *r)
{
	for (size_t i = 0; r->cases && i < r->plan->n; i++)
		free(r->cases[i].dir);
	free(r->cases);
	free(r->out);
	free(r->program);
}
