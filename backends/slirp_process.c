/* #syscalls[setup]: socketpair clone clone3 vfork execve wait4
 * #syscalls[main]: wait4 kill */
#include "backends/slirp_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backends/slirp_helper.h"
#include "lib/cleanup.h"
#include "lib/confine.h"
#include "lib/log.h"

#define START_MS    5000
#define END_MS      2000      /* how long a killed process may take */
#define SOCKET_SIZE (4 << 20) /* bytes each way; the kernel may give less */
#define UNKNOWN     -1        /* status of a process whose end somebody else was told of */

static void sleep_ms(unsigned ms)
{
	struct timespec t = {.tv_nsec = (long)ms * 1000000};

	nanosleep(&t, NULL);
}

/* True: it is no more, and *status says how it ended. */
static bool reap(pid_t pid, unsigned ms, int *status)
{
	for (unsigned waited = 0;; waited++) {
		pid_t r = waitpid(pid, status, WNOHANG);

		if (r == pid)
			return true;
		if (r < 0 && errno != EINTR) {
			*status = UNKNOWN;
			return true;
		}
		if (waited >= ms)
			return false;
		sleep_ms(1);
	}
}

static void describe(int status, char *how)
{
	if (status == UNKNOWN)
		snprintf(how, SLIRP_PROCESS_HOW, "ended");
	else if (WIFSIGNALED(status))
		snprintf(how, SLIRP_PROCESS_HOW, "was ended by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(how, SLIRP_PROCESS_HOW, "ended with status %d", WEXITSTATUS(status));
}

void slirp_process_end(struct slirp_process *p, unsigned grace_ms, char how[SLIRP_PROCESS_HOW])
{
	int status = UNKNOWN;

	if (p->fd >= 0)
		close(steal_fd(&p->fd));
	if (p->pid && !reap(p->pid, grace_ms, &status)) {
		kill(p->pid, SIGKILL);
		if (!reap(p->pid, END_MS, &status))
			log_error("the process of the user-mode network, %d, does not end", (int)p->pid);
	}
	p->pid = 0;
	if (how)
		describe(status, how);
}

static void enlarge(int fd)
{
	const int size = SOCKET_SIZE;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static int set_actions(posix_spawn_file_actions_t *files, int fd)
{
	int r = posix_spawn_file_actions_adddup2(files, fd, SLIRP_HELPER_FD);

	if (!r)
		r = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (!r)
		r = posix_spawn_file_actions_addopen(files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	return r;
}

/* A session of its own: the terminal's signals are not for it. */
static int set_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	if (!r)
		r = posix_spawnattr_setsigmask(attr, &none);
	if (!r)
		r = posix_spawnattr_setsigdefault(attr, &all);
	return r;
}

static int spawn(struct slirp_process *p, int fd)
{
	char name[] = SLIRP_HELPER_NAME;
	char *argv[] = {name, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	r = set_actions(&files, fd);
	if (!r)
		r = set_attributes(&attr);
	if (!r)
		r = posix_spawn(&pid, "/proc/self/exe", &files, &attr, argv, environ);
	if (!r)
		p->pid = pid;
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Its answer is the result.  0 or -errno. */
static int await_answer(struct slirp_process *p, struct err *e)
{
	struct pollfd in = {.fd = p->fd, .events = POLLIN};
	int64_t until = now_ms() + START_MS, left;
	char how[SLIRP_PROCESS_HOW];
	struct err answer;
	int n;

	do {
		left = until - now_ms();
		n = poll(&in, 1, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return err_set(e, -ETIMEDOUT, "its process did not answer within %d s", START_MS / 1000);
	if (recv(p->fd, &answer, sizeof(answer), MSG_DONTWAIT) != sizeof(answer)) {
		slirp_process_end(p, END_MS, how);
		return err_set(e, -EPIPE, "its process %s", how);
	}
	answer.text[sizeof(answer.text) - 1] = '\0';
	return answer.code ? err_set(e, answer.code, "%s", answer.text) : 0;
}

static int start(struct slirp_process *p, pid_t parent, const struct user_net_config *cfg, struct err *e)
{
	struct slirp_hello hello = {.parent = parent, .confined = !confine_is_off(), .cfg = *cfg};
	CLEANUP_FD int theirs = -1;
	int fds[2], r;

	*p = (struct slirp_process){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return err_set(e, -errno, "socketpair: %s", strerror(errno));
	p->fd = fds[0];
	theirs = fds[1];
	enlarge(fds[0]);
	enlarge(fds[1]);
	if (send(p->fd, &hello, sizeof(hello), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(hello))
		return err_set(e, -errno, "its process cannot be told: %s", strerror(errno));
	r = spawn(p, theirs);
	if (r)
		return err_set(e, r, "its process cannot start from /proc/self/exe: %s", strerror(-r));
	close(steal_fd(&theirs)); /* so that an early end shows */
	return await_answer(p, e);
}

int slirp_process_start(struct slirp_process *p, const struct user_net_config *cfg, struct err *e)
{
	return start(p, getpid(), cfg, e);
}

int slirp_process_lend(const struct user_net_config *cfg, struct err *e)
{
	struct slirp_process p;
	int r = start(&p, 0, cfg, e);

	if (r)
		slirp_process_end(&p, 0, NULL);
	return r ? r : p.fd;
}
