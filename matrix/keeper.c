/* Theory of operation: the keeper is a subreaper, so whoever loses his parent below it becomes its child; it is
 * done when it has no child any more, killing those that stay.  It is in a session of its own: a terminal's
 * signals reach only the matrix, which passes on what it wants.  It watches the matrix by a pidfd, so a matrix
 * that is killed is one that asks for the end; should the keeper itself be killed, the kernel kills `ringlet
 * run`. */
#include "matrix/keeper.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"

#define ASK_MS    1000 /* from SIGTERM, which asks the guest, to the second, which does not */
#define GRACE_MS  2000 /* from that to SIGKILL */
#define SETTLE_MS 1000 /* for helpers that end with `ringlet run` */
#define KILL_MS   5000 /* how long the killed may take */
#define PASS_MS   20

struct report {
	int status; /* waitpid()'s */
	unsigned left;
};

struct ward {
	pid_t pid;
	bool ended;
	int status;
	unsigned told;    /* to end: the third time it is killed */
	uint64_t next_at; /* ms: when it is told again; 0: nobody has asked for its end, or it was killed */
};

static uint64_t now_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

/* --- the case's own process --- */

static void __attribute__((noreturn)) become(const struct charge *c, pid_t keeper)
{
	const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != keeper || null < 0)
		_exit(127);
	setpgid(0, 0);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL); /* some cannot be set, which is as well */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(null, STDIN_FILENO) < 0 || dup2(c->out, STDOUT_FILENO) < 0 || dup2(c->err, STDERR_FILENO) < 0)
		_exit(127);
	close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC);
	if (!chdir(c->directory))
		execv(c->file, c->argv);
	dprintf(STDERR_FILENO, "%s cannot be run in %s: %s\n", c->file, c->directory, strerror(errno));
	_exit(127);
}

/* --- the keeper --- */

/* Takes the ends of children; how many.  *none: there are no more children. */
static unsigned reap(struct ward *w, bool *none)
{
	unsigned n = 0;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == w->pid) {
			w->ended = true;
			w->status = status;
		} else {
			n++;
		}
	}
	*none = pid < 0 && errno == ECHILD;
	return n;
}

static void tell(struct ward *w)
{
	const int sig = w->told < 2 ? SIGTERM : SIGKILL;

	/* The whole group only when there is no other way: what it has started is its own to end. */
	if (sig == SIGKILL)
		kill(-w->pid, sig);
	kill(w->pid, sig);
	w->next_at = w->told < 2 ? now_ms() + (w->told ? GRACE_MS : ASK_MS) : 0;
	w->told++;
}

/* Until it has ended. */
static void watch(struct ward *w, int signals, int parent)
{
	struct pollfd fds[] = {{.fd = signals, .events = POLLIN}, {.fd = parent, .events = POLLIN}};
	struct signalfd_siginfo info;
	bool none = false;

	while (!w->ended && !none) {
		uint64_t now = now_ms();
		int timeout = !w->next_at ? -1 : w->next_at > now ? (int)(w->next_at - now) : 0;

		if (!poll(fds, ARRAY_SIZE(fds), timeout))
			tell(w);
		if (fds[1].revents) {
			fds[1].fd = -1;
			tell(w);
		}
		while (read(signals, &info, sizeof(info)) == sizeof(info))
			if (info.ssi_signo == SIGTERM)
				tell(w);
		reap(w, &none);
	}
}

static pid_t parent_of(const char *pid)
{
	char path[300], text[512], *p;
	CLEANUP_FD int fd = -1;
	ssize_t n;
	int parent;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	p = strrchr(text, ')'); /* its name may hold anything */
	return p && sscanf(p, ") %*c %d", &parent) == 1 ? parent : 0;
}

/* A child of ours keeps its number until we take its end: nobody else is hit. */
static unsigned kill_children(void)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	unsigned n = 0;

	while (d && (entry = readdir(d))) {
		if (isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == getpid()) {
			kill(atoi(entry->d_name), SIGKILL);
			n++;
		}
	}
	if (d)
		closedir(d);
	return n;
}

/* Ends what the case has left behind: how many that were. */
static unsigned clean_up(struct ward *w)
{
	const uint64_t settled = now_ms() + (w->told ? 0 : SETTLE_MS), until = settled + KILL_MS;
	unsigned killed = 0, there = 0;
	bool none;

	for (reap(w, &none); !none && now_ms() < settled; reap(w, &none))
		poll(NULL, 0, PASS_MS);
	while (!none && now_ms() < until) {
		there = kill_children();
		killed += reap(w, &none);
		if (!none)
			poll(NULL, 0, PASS_MS);
		if (!none)
			killed += reap(w, &none);
	}
	return none ? killed : killed + there;
}

static int keeper_signals(void)
{
	sigset_t all, set;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void __attribute__((noreturn)) keep(const struct charge *c, int parent, int to)
{
	const int signals = keeper_signals(), null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const pid_t self = getpid();
	struct ward w = {0};
	struct report r;

	setsid();
	prctl(PR_SET_NAME, "matrix-keeper");
	if (signals < 0 || null < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1))
		_exit(1);
	w.pid = fork();
	if (!w.pid)
		become(c, self);
	if (w.pid < 0)
		_exit(1);
	for (int fd = 0; fd < 3; fd++) /* a reader of the matrix's output does not wait for us */
		dup2(null, fd);
	watch(&w, signals, parent);
	r.status = w.status;
	r.left = clean_up(&w);
	_exit(write(to, &r, sizeof(r)) != sizeof(r));
}

/* --- the matrix --- */

int keeper_start(struct keeper *k, const struct charge *c, struct err *e)
{
	CLEANUP_FD int parent = pidfd_open(getpid(), 0), from = -1, to = -1;
	int fds[2];
	pid_t pid;

	if (parent < 0)
		return err_set(e, -errno, "pidfd_open: %s%s", strerror(errno),
			       errno == ENOSYS ? ": this kernel is older than 5.3" : "");
	if (pipe2(fds, O_CLOEXEC))
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	from = fds[0];
	to = fds[1];
	fflush(NULL);
	pid = fork();
	if (!pid)
		keep(c, parent, to);
	if (pid < 0)
		return err_set(e, -errno, "fork: %s", strerror(errno));
	*k = (struct keeper){.pid = pid, .fd = steal_fd(&from)};
	return 0;
}

void keeper_end(const struct keeper *k)
{
	if (k->pid > 0)
		kill(k->pid, SIGTERM);
}

void keeper_finish(struct keeper *k, struct ended *how)
{
	struct report r = {.status = SIGKILL}; /* of a keeper that was killed itself */
	ssize_t n;

	do {
		n = read(k->fd, &r, sizeof(r));
	} while (n < 0 && errno == EINTR);
	if (n != sizeof(r))
		r = (struct report){.status = SIGKILL};
	while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(k->fd);
	*k = (struct keeper){.fd = -1};
	how->signalled = WIFSIGNALED(r.status);
	how->status = how->signalled ? WTERMSIG(r.status) : WEXITSTATUS(r.status);
	how->left = r.left;
}
