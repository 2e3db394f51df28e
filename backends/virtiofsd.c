/* #syscalls[setup]: socket bind listen connect mkdir unlink rmdir pidfd_open fcntl
 * #syscalls[main]: kill wait4 poll read */
#include "backends/virtiofsd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/virtiofsd_parts.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "vmm/evloop.h"

#define END_MS     2000
#define EXPLAIN_MS 5000 /* between the end of the connection and that of the process */
#define WORDS_SIZE 2048 /* of what it has said last */
#define SHOWN      600  /* ... in a sentence */

struct virtiofsd {
	pid_t pid; /* 0: reaped */
	int status;
	int fd; /* connected */
	char *option, *source;
	struct evloop *loop;
	struct ev_watch end, output; /* a pidfd, a pipe */
	bool watched, output_watched;
	void (*died)(void *opaque, const char *text);
	void *opaque;
	char words[WORDS_SIZE];
	size_t nwords;
};

/* --- starting --- */

pid_t virtiofsd_fork(int listener, int *out, int (*fn)(const void *arg), const void *arg)
{
	const pid_t parent = getpid();
	int ends[2], null;
	sigset_t none;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid) {
		const int rc = -errno;

		close(ends[1]);
		if (pid < 0)
			close(ends[0]);
		else
			*out = ends[0];
		return pid < 0 ? rc : pid;
	}
	/* A session of its own: the terminal's signals are not for it. */
	setsid();
	null = open("/dev/null", O_RDWR);
	if (listener >= 0)
		listener = fcntl(listener, F_DUPFD_CLOEXEC, VIRTIOFSD_FD + 1);
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	dup2(ends[1], STDOUT_FILENO);
	dup2(ends[1], STDERR_FILENO);
	if (listener >= 0)
		dup2(listener, VIRTIOFSD_FD);
	syscall(SYS_close_range, listener >= 0 ? VIRTIOFSD_FD + 1 : VIRTIOFSD_FD, ~0u, 0);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(getppid() == parent ? fn(arg) : 1);
}

static int become(const void *arg)
{
	struct err e = {0};

	virtiofsd_become(arg, &e);
	dprintf(STDERR_FILENO, "%s\n", e.text);
	return 125;
}

/* A listening socket without a name, and one that is connected to it. */
static int make_sockets(int *listener, int *fd, struct err *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char dir[] = "/tmp/ringlet-fs-XXXXXX";
	int rc = 0;

	if (!mkdtemp(dir))
		return err_set(e, -errno, "a directory in /tmp for virtiofsd's socket: %s", strerror(errno));
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/socket", dir);
	*listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*listener < 0 || *fd < 0 || bind(*listener, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(*listener, 1) || connect(*fd, (struct sockaddr *)&a, sizeof(a)))
		rc = err_set(e, -errno, "virtiofsd's socket: %s", strerror(errno));
	unlink(a.sun_path);
	rmdir(dir);
	return rc;
}

int virtiofsd_start(struct virtiofsd **out, const struct virtiofsd_config *c, struct err *e)
{
	CLEANUP_FD int listener = -1;
	struct virtiofsd *v = calloc(1, sizeof(*v));
	int rc;

	*out = v;
	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	*v = (struct virtiofsd){.fd = -1, .end.fd = -1, .output.fd = -1};
	v->option = strdup(c->option);
	v->source = strdup(c->source);
	rc = v->option && v->source ? 0 : err_set(e, -ENOMEM, "out of memory");
	rc = rc ? rc : make_sockets(&listener, &v->fd, e);
	if (!rc) {
		v->pid = virtiofsd_fork(listener, &v->output.fd, become, c);
		if (v->pid < 0) {
			rc = err_set(e, (int)v->pid, "virtiofsd: fork: %s", strerror((int)-v->pid));
			v->pid = 0;
		}
	}
	if (!rc) {
		fcntl(v->output.fd, F_SETFL, O_NONBLOCK);
		v->end.fd = pidfd_open(v->pid, 0);
		if (v->end.fd < 0)
			rc = err_set(e, -errno, "virtiofsd: pidfd_open: %s", strerror(errno));
	}
	if (rc) {
		virtiofsd_stop(v);
		*out = NULL;
	}
	return rc;
}

int virtiofsd_take_socket(struct virtiofsd *v)
{
	return steal_fd(&v->fd);
}

/* --- its words --- */

static void log_lines(const struct virtiofsd *v, const char *text, size_t len)
{
	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t n = end ? (size_t)(end - text) : len;

		if (n)
			log_info("virtiofsd of %s %s: %.*s", v->option, v->source, (int)n, text);
		n += end != NULL;
		text += n;
		len -= n;
	}
}

/* False: nobody has the other end any more. */
static bool listen_to(struct virtiofsd *v)
{
	char buf[1024];
	ssize_t n;

	while ((n = read(v->output.fd, buf, sizeof(buf))) > 0) {
		size_t len = (size_t)n;

		log_lines(v, buf, len);
		if (v->nwords + len >= WORDS_SIZE) {
			size_t keep = WORDS_SIZE - 1 - len;

			if (keep > v->nwords)
				keep = v->nwords;
			memmove(v->words, v->words + v->nwords - keep, keep);
			v->nwords = keep;
		}
		memcpy(v->words + v->nwords, buf, len);
		v->nwords += len;
		v->words[v->nwords] = '\0';
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static bool wait_readable(int fd, unsigned ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, (int)ms) > 0;
}

/* Until all that hold the pipe are gone. */
static void listen_to_the_end(struct virtiofsd *v, unsigned ms)
{
	const uint64_t until = clock_ns(CLOCK_MONOTONIC) + ms * UINT64_C(1000000);

	while (listen_to(v) && clock_ns(CLOCK_MONOTONIC) < until)
		wait_readable(v->output.fd, 10);
}

static bool reap(struct virtiofsd *v, unsigned ms)
{
	if (!v->pid)
		return true;
	if (!wait_readable(v->end.fd, ms))
		return false;
	if (waitpid(v->pid, &v->status, 0) == v->pid)
		v->pid = 0;
	return true;
}

static const char *last_words(const struct virtiofsd *v)
{
	const char *words = v->words;
	const char *end;

	if (v->nwords > SHOWN) {
		words += v->nwords - SHOWN;
		end = strchr(words, '\n');
		words = end && end[1] ? end + 1 : words;
	}
	return words;
}

static void tell_end(struct virtiofsd *v, char *text, size_t size)
{
	char how[64];
	size_t n;

	if (v->pid)
		snprintf(how, sizeof(how), "closed its connection");
	else if (WIFSIGNALED(v->status))
		snprintf(how, sizeof(how), "was ended by signal %d (%s)", WTERMSIG(v->status),
			 strsignal(WTERMSIG(v->status)));
	else
		snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(v->status));
	snprintf(text, size, "virtiofsd, which serves %s %s to the guest, %s%s%.*s", v->option, v->source, how,
		 v->nwords ? "; it said:\n" : "", SHOWN, last_words(v));
	for (n = strlen(text); n && text[n - 1] == '\n'; n--)
		text[n - 1] = '\0';
}

int virtiofsd_explain(struct virtiofsd *v, struct err *e)
{
	char text[SHOWN + 400];
	const int code = e->code ? e->code : -ECONNRESET;

	if (reap(v, EXPLAIN_MS))
		listen_to_the_end(v, 200);
	else
		listen_to(v);
	if (v->pid) /* it lives: what is wrong was said */
		return err_prefix(e, "virtiofsd of %s %s", v->option, v->source);
	tell_end(v, text, sizeof(text));
	return err_set(e, code, "%s", text);
}

/* --- while the guest runs --- */

static void unwatch(struct virtiofsd *v)
{
	if (v->watched)
		evloop_del(v->loop, &v->end);
	if (v->output_watched)
		evloop_del(v->loop, &v->output);
	v->watched = v->output_watched = false;
}

static void on_output(struct ev_watch *w, uint32_t events)
{
	struct virtiofsd *v = container_of(w, struct virtiofsd, output);

	(void)events;
	if (listen_to(v))
		return;
	evloop_del(v->loop, &v->output);
	v->output_watched = false;
}

static void on_end(struct ev_watch *w, uint32_t events)
{
	struct virtiofsd *v = container_of(w, struct virtiofsd, end);
	char text[SHOWN + 400];

	(void)events;
	reap(v, 0);
	unwatch(v);
	listen_to_the_end(v, 100);
	tell_end(v, text, sizeof(text));
	v->died(v->opaque, text);
}

int virtiofsd_watch(struct virtiofsd *v, struct evloop *loop, void (*died)(void *opaque, const char *text),
		    void *opaque)
{
	int rc;

	v->loop = loop;
	v->died = died;
	v->opaque = opaque;
	v->end.fn = on_end;
	v->output.fn = on_output;
	rc = evloop_add(loop, &v->end, EPOLLIN);
	v->watched = !rc;
	if (!rc) {
		rc = evloop_add(loop, &v->output, EPOLLIN);
		v->output_watched = !rc;
	}
	return rc;
}

void virtiofsd_stop(struct virtiofsd *v)
{
	if (!v)
		return;
	unwatch(v);
	if (v->fd >= 0)
		close(v->fd);
	if (v->pid) {
		/* It is a session of its own, with what it has forked.  Before setsid() it is alone. */
		kill(-v->pid, SIGKILL);
		kill(v->pid, SIGKILL);
		if (!reap(v, END_MS))
			log_error("virtiofsd, process %d, does not end", (int)v->pid);
	}
	if (v->output.fd >= 0) {
		listen_to_the_end(v, END_MS);
		close(v->output.fd);
	}
	if (v->end.fd >= 0)
		close(v->end.fd);
	free(v->option);
	free(v->source);
	free(v);
}

int virtiofsd_describe(const struct virtiofsd_config *c, char *buf, size_t size)
{
	struct virtiofsd_command cmd;
	size_t used = 0;

	virtiofsd_command(&cmd, c, c->source, geteuid() && !strcmp(c->source, "/") ? CAGE_NONE : CAGE_MOUNT);
	for (unsigned i = 0; cmd.argv[i] && used < size; i++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? " " : "", cmd.argv[i]);
	return (int)used;
}
