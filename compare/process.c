#include "compare/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compare/process_family.h"
#include "compare/process_output.h"
#include "compare/process_signals.h"
#include "compare/process_spawn.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"

#define KILL_MS 10000        /* how long a killed process may take */
#define RUN_MS  60000        /* a tool */
#define CHUNK   (64u << 10)  /* read at a time, so that nobody's output keeps us from the others' */
#define REST    (2u << 20)   /* what may be in the pipe of one that has ended, and more */
#define UNKNOWN (128 + 0x7f) /* status of one whose end somebody else was told of */

struct process {
	struct process *next;
	pid_t pid;
	int fd, out, err; /* pidfd, its stdout, its stderr: -1 at their end */
	int status;       /* once fd is -1 */
	char name[96];
	struct lines lines;
	struct tail tail;
};

static struct process *all;

static bool is_known(pid_t pid)
{
	for (const struct process *p = all; p; p = p->next)
		if (p->pid == pid)
			return true;
	return false;
}

/* --- reading --- */

/* Bytes read; 0: nothing there, or no more and *fd is -1. */
static size_t take(struct process *p, int *fd)
{
	static char chunk[CHUNK];
	ssize_t n = *fd < 0 ? -1 : read(*fd, chunk, sizeof(chunk));

	if (n > 0) {
		if (fd == &p->out)
			lines_put(&p->lines, chunk, (size_t)n);
		else
			tail_put(&p->tail, chunk, (size_t)n);
		return (size_t)n;
	}
	if (*fd >= 0 && (!n || (errno != EAGAIN && errno != EINTR))) {
		close(steal_fd(fd));
		if (fd == &p->out)
			lines_close(&p->lines);
	}
	return 0;
}

/* All that it has written is in its pipes: what another that has them writes later is nobody's business. */
static void take_rest(struct process *p, int *fd)
{
	size_t n, total = 0;

	while (total < REST && (n = take(p, fd)))
		total += n;
	if (*fd >= 0)
		close(steal_fd(fd));
	if (fd == &p->out)
		lines_close(&p->lines);
}

/* It has ended. */
static void finish(struct process *p)
{
	int status;

	/* While it is a zombie its number is no other group's. */
	kill(-p->pid, SIGKILL);
	if (waitpid(p->pid, &status, 0) != p->pid)
		p->status = UNKNOWN;
	else
		p->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	close(steal_fd(&p->fd));
	take_rest(p, &p->out);
	take_rest(p, &p->err);
}

/* One round: waits for something to read from anybody, or the end of p, if there is a p. */
static void turn(struct process *p, int timeout_ms, bool interruptible)
{
	struct pollfd fds[2 * PROCESS_MAX + 2];
	nfds_t n = 0;

	for (const struct process *q = all; q; q = q->next) {
		fds[n++] = (struct pollfd){.fd = q->out, .events = POLLIN};
		fds[n++] = (struct pollfd){.fd = q->err, .events = POLLIN};
	}
	fds[n++] = (struct pollfd){.fd = p ? p->fd : -1, .events = POLLIN};
	fds[n++] = (struct pollfd){.fd = interruptible ? process_signal_fd() : -1, .events = POLLIN};
	if (poll(fds, n, timeout_ms) <= 0)
		return;
	for (struct process *q = all; q; q = q->next) {
		take(q, &q->out);
		take(q, &q->err);
	}
	if (fds[n - 2].revents)
		finish(p);
}

/* --- waiting --- */

struct wait {
	uint64_t until_ns;
	bool interruptible, late;
};

static struct wait wait_for(unsigned ms, bool interruptible)
{
	return (struct wait){.until_ns = clock_ns(CLOCK_MONOTONIC) + ms * UINT64_C(1000000),
			     .interruptible = interruptible};
}

/* 0: ask again; -ETIMEDOUT; -ECANCELED.  What is there already is seen even by those who have no time. */
static int wait_more(struct wait *w, struct process *p)
{
	const uint64_t now = clock_ns(CLOCK_MONOTONIC);
	uint64_t left_ms = 0;

	if (w->late)
		return -ETIMEDOUT;
	if (now >= w->until_ns)
		w->late = true;
	else
		left_ms = (w->until_ns - now + 999999) / 1000000;
	turn(p, left_ms < INT_MAX ? (int)left_ms : INT_MAX, w->interruptible);
	return w->interruptible && process_interrupted() ? -ECANCELED : 0;
}

int process_line(struct process *p, unsigned timeout_ms, const char **line)
{
	struct wait w = wait_for(timeout_ms, true);
	int rc = process_interrupted() ? -ECANCELED : 0;

	while (!rc) {
		*line = lines_get(&p->lines);
		if (*line)
			return 1;
		if (p->out < 0)
			return 0;
		rc = wait_more(&w, p);
	}
	return rc;
}

static int wait_end(struct process *p, unsigned timeout_ms, bool interruptible)
{
	struct wait w = wait_for(timeout_ms, interruptible);
	int rc = interruptible && process_interrupted() ? -ECANCELED : 0;

	while (!rc && p->fd >= 0)
		rc = wait_more(&w, p);
	return rc ? rc : p->status;
}

int process_wait(struct process *p, unsigned timeout_ms)
{
	return wait_end(p, timeout_ms, true);
}

const char *process_complaint(struct process *p)
{
	take(p, &p->err);
	return tail_get(&p->tail);
}

pid_t process_pid(const struct process *p)
{
	return p->pid;
}

const char *process_name(const struct process *p)
{
	return p->name;
}

/* --- starting --- */

/* The program and the words that say what it is to do. */
static void set_name(struct process *p, char *const argv[])
{
	const char *slash = strrchr(argv[0], '/');
	size_t len;

	snprintf(p->name, sizeof(p->name), "%s", slash ? slash + 1 : argv[0]);
	for (int i = 1; i < 3 && argv[i] && argv[i][0] != '-' && !strchr(argv[i], '/'); i++) {
		len = strlen(p->name);
		snprintf(p->name + len, sizeof(p->name) - len, " %s", argv[i]);
	}
}

/* A pipe whose end for us does not block. */
static int open_pipe(int *ours, int *theirs)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	*ours = fds[0];
	*theirs = fds[1];
	return fcntl(fds[0], F_SETFL, O_NONBLOCK) ? -errno : 0;
}

static void release(struct process *p)
{
	for (struct process **q = &all; *q; q = &(*q)->next) {
		if (*q == p) {
			*q = p->next;
			break;
		}
	}
	for (int i = 0; i < 3; i++) {
		const int fd = (int[]){p->fd, p->out, p->err}[i];

		if (fd >= 0)
			close(fd);
	}
	lines_fini(&p->lines);
	free(p);
}

/* A parent that ignores them is told of no child's end. */
static void want_children(void)
{
	struct sigaction sa;

	if (!sigaction(SIGCHLD, NULL, &sa) && (sa.sa_handler == SIG_IGN || (sa.sa_flags & SA_NOCLDWAIT)))
		signal(SIGCHLD, SIG_DFL);
	family_adopt();
}

/* one_pipe: stdout is kept with stderr. */
static int start(struct process *p, char *const argv[], int cpu, bool one_pipe, struct err *e)
{
	CLEANUP_FD int null = open("/dev/null", O_RDONLY | O_CLOEXEC), out = -1, err = -1;
	char path[PATH_MAX];
	int rc;

	if (null < 0)
		return err_set(e, -errno, "/dev/null: %s", strerror(errno));
	rc = process_find(argv[0], path, sizeof(path));
	if (rc)
		return err_set(e, rc, "there is no program \"%s\"%s", argv[0],
			       strchr(argv[0], '/') ? "" : " in PATH");
	rc = open_pipe(&p->err, &err);
	if (!rc && !one_pipe)
		rc = open_pipe(&p->out, &out);
	if (rc)
		return err_set(e, rc, "%s: pipe: %s", p->name, strerror(-rc));
	want_children();
	rc = process_spawn(&(struct spawn){.file = path,
					   .argv = argv,
					   .in = null,
					   .out = one_pipe ? err : out,
					   .err = err,
					   .cpu = cpu,
					   .into = family_namespace()},
			   &p->pid, e);
	if (rc)
		return rc;
	p->fd = pidfd_open(p->pid, 0);
	if (p->fd < 0) {
		rc = -errno;
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
		return err_set(e, rc, "%s: pidfd_open: %s", p->name, strerror(-rc));
	}
	return 0;
}

static int start_new(struct process **out, char *const argv[], int cpu, bool one_pipe, struct err *e)
{
	struct process *p;
	unsigned n = 0;
	int rc;

	for (p = all; p; p = p->next)
		n++;
	if (n >= PROCESS_MAX)
		return err_set(e, -EMFILE, "%s: %u programs run already", argv[0], n);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, -ENOMEM, "%s: out of memory", argv[0]);
	p->fd = p->out = p->err = -1;
	set_name(p, argv);
	rc = start(p, argv, cpu, one_pipe, e);
	if (rc) {
		release(p);
		return rc;
	}
	p->next = all;
	all = p;
	*out = p;
	return 0;
}

int process_start(struct process **out, char *const argv[], int cpu, struct err *e)
{
	return start_new(out, argv, cpu, false, e);
}

/* --- stopping --- */

/* False: not even that ended it. */
static bool kill_now(struct process *p)
{
	kill(-p->pid, SIGKILL);
	kill(p->pid, SIGKILL);
	if (wait_end(p, KILL_MS, false) != -ETIMEDOUT)
		return true;
	log_error("%s, %d, was killed and does not end", p->name, (int)p->pid);
	return false;
}

void process_stop(struct process *p, unsigned grace_ms)
{
	if (!p)
		return;
	if (p->fd >= 0) {
		kill(p->pid, SIGTERM);
		if (wait_end(p, grace_ms, false) == -ETIMEDOUT)
			kill_now(p);
	}
	release(p);
	family_end_orphans(is_known);
}

/* --- tools --- */

static void command_text(char *const argv[], char *text, size_t size)
{
	size_t len = 0;

	text[0] = '\0';
	for (int i = 0; argv[i] && len < size; i++)
		len += (size_t)snprintf(text + len, size - len, "%s%s", i ? " " : "", argv[i]);
}

int process_run(struct err *e, char *const argv[])
{
	char command[256];
	struct process *p;
	int rc = start_new(&p, argv, -1, true, e), status;

	if (rc == -ENOENT)
		return rc;
	if (rc) {
		if (e)
			e->code = -EIO;
		return -EIO;
	}
	command_text(argv, command, sizeof(command));
	status = wait_end(p, RUN_MS, false);
	if (status == -ETIMEDOUT) {
		kill_now(p);
		rc = err_set(e, -EIO, "%s: it did not end within %d s", command, RUN_MS / 1000);
	} else if (status) {
		const char *words = process_complaint(p);

		rc = err_set(e, -EIO, "%s: it ended with %s %d%s%s", command,
			     status > 128 ? "signal" : "status", status > 128 ? status - 128 : status,
			     *words ? ": " : "", words);
	}
	release(p);
	return rc;
}

bool process_exists(const char *program)
{
	char path[PATH_MAX];

	return !process_find(program, path, sizeof(path));
}
