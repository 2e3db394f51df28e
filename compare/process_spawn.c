/* Theory of operation: between fork and exec a child may only make system calls, as the C library's locks are
 * in whatever state they were.  What fails there is told through a pipe that exec closes.
 *
 * A process enters a PID namespace by being made by one whose children are to be in it.  Once this process asks
 * for that of its own children it can have no second thread, and a user cannot take it back.  So a go-between
 * asks, and what it makes is by CLONE_PARENT its sibling: a child of ours. */
#include "compare/process_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cleanup.h"

/* What a child says before it runs the program: its pid, by the go-between; or what failed. */
struct said {
	pid_t pid;
	int error;
	char what[24];
};

static void __attribute__((noreturn)) fail(int said_fd, const char *what, int error)
{
	struct said s = {.error = error};
	ssize_t ignored;

	strncpy(s.what, what, sizeof(s.what) - 1);
	ignored = write(said_fd, &s, sizeof(s));
	(void)ignored;
	_exit(127);
}

int process_die_with(int parent)
{
	struct pollfd p = {.fd = parent, .events = POLLIN};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		return -errno;
	/* It may have ended before; getppid() cannot tell, as it is 0 for a parent outside the namespace. */
	return poll(&p, 1, 0) ? -ESRCH : 0;
}

static void reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL); /* some cannot be set, which is as well */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* /proc of the namespace: who looks for itself there under its own pid finds itself. */
static void mount_proc(void)
{
	if (!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static int set_descriptors(const struct spawn *s)
{
	const int from[] = {s->in, s->out, s->err};
	int high[3];

	for (int i = 0; i < 3; i++) /* none in the way of another */
		if ((high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 3)) < 0)
			return -errno;
	for (int i = 0; i < 3; i++)
		if (dup2(high[i], i) < 0)
			return -errno;
	/* Ours are CLOEXEC; a library's may not be. */
	close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC);
	return 0;
}

static void __attribute__((noreturn)) become(const struct spawn *s, int parent, int said_fd)
{
	cpu_set_t cpus;
	int rc = process_die_with(parent);

	if (rc)
		fail(said_fd, "PR_SET_PDEATHSIG", -rc);
	setsid();
	reset_signals();
	if (s->into >= 0)
		mount_proc();
	if (s->cpu >= 0) {
		CPU_ZERO(&cpus);
		CPU_SET((size_t)s->cpu, &cpus);
		if (sched_setaffinity(0, sizeof(cpus), &cpus))
			fail(said_fd, "processor", errno);
	}
	said_fd = fcntl(said_fd, F_DUPFD_CLOEXEC, 3);
	rc = set_descriptors(s);
	if (rc)
		fail(said_fd, "descriptors", -rc);
	execv(s->file, s->argv);
	fail(said_fd, "exec", errno);
}

static void __attribute__((noreturn)) go_between(const struct spawn *s, int parent, int said_fd)
{
	struct said said = {0};

	if (setns(s->into, CLONE_NEWPID))
		fail(said_fd, "setns", errno);
	said.pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (!said.pid)
		become(s, parent, said_fd);
	if (said.pid < 0)
		fail(said_fd, "clone", errno);
	_exit(write(said_fd, &said, sizeof(said)) != sizeof(said));
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static bool read_said(int fd, struct said *said)
{
	ssize_t n;

	do {
		n = read(fd, said, sizeof(*said));
	} while (n < 0 && errno == EINTR);
	return n == sizeof(*said);
}

static int tell(const struct spawn *s, const struct said *failed, struct err *e)
{
	const int rc = -failed->error;

	if (!strcmp(failed->what, "processor"))
		return err_set(e, rc, "%s: it cannot run on processor %d: %s", s->argv[0], s->cpu,
			       strerror(-rc));
	if (!strcmp(failed->what, "exec"))
		return err_set(e, rc, "%s cannot be run: %s", s->file, strerror(-rc));
	return err_set(e, rc, "%s cannot be started: %s: %s", s->argv[0], failed->what, strerror(-rc));
}

int process_spawn(const struct spawn *s, pid_t *pid, struct err *e)
{
	CLEANUP_FD int parent = pidfd_open(getpid(), 0), from = -1, to = -1;
	struct said said, failed = {0};
	pid_t first, started;
	int fds[2];

	if (parent < 0)
		return err_set(e, -errno, "pidfd_open: %s%s", strerror(errno),
			       errno == ENOSYS ? ": this kernel is older than 5.3" : "");
	if (s->cpu >= CPU_SETSIZE)
		return err_set(e, -EINVAL, "%s: it cannot run on processor %d: at most %d", s->argv[0], s->cpu,
			       CPU_SETSIZE - 1);
	if (pipe2(fds, O_CLOEXEC))
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	from = fds[0];
	to = fds[1];
	first = fork();
	if (!first && s->into >= 0)
		go_between(s, parent, to);
	if (!first)
		become(s, parent, to);
	if (first < 0)
		return err_set(e, -errno, "%s cannot be started: fork: %s", s->argv[0], strerror(errno));
	close(steal_fd(&to));
	started = s->into < 0 ? first : 0;
	while (read_said(from, &said)) {
		if (said.pid)
			started = said.pid;
		else
			failed = said;
	}
	if (s->into >= 0)
		reap(first);
	if (!started && !failed.error) /* killed in between */
		failed = (struct said){.error = ECHILD, .what = "clone"};
	if (!failed.error) {
		*pid = started;
		return 0;
	}
	if (started)
		reap(started);
	return tell(s, &failed, e);
}

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

int process_find(const char *program, char *path, size_t size)
{
	/* A user's PATH lacks those of administrators, which works in a namespace of his own. */
	static const char *const lists[] = {NULL, "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"};

	if (!strcmp(program, "ringlet")) {
		snprintf(path, size, "/proc/self/exe");
		return 0;
	}
	if (strchr(program, '/'))
		return (size_t)snprintf(path, size, "%s", program) < size && is_program(path) ? 0 : -ENOENT;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const char *dir = i ? lists[i] : getenv("PATH");

		for (size_t len; dir; dir = dir[len] ? dir + len + 1 : NULL) {
			len = strcspn(dir, ":");
			if (len && (size_t)snprintf(path, size, "%.*s/%s", (int)len, dir, program) < size &&
			    is_program(path))
				return 0;
		}
	}
	return -ENOENT;
}

int process_try(int (*fn)(void *arg), void *arg)
{
	const pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(-fn(arg));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}
