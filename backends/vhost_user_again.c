/* #syscalls[connect]: recvfrom sendmsg
 * #syscalls[vcpu,data]: sendto recvmsg */
#include "backends/vhost_user_again.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/vhost_user_socket.h"
#include "lib/cleanup.h"
#include "lib/confine.h"
#include "lib/log.h"

#define ANSWER_MS 1000
#define PATH_SIZE sizeof(((struct sockaddr_un *)0)->sun_path)

struct answer {
	uint32_t number; /* the request's: a late answer is not the next one's */
	int32_t rc;
};

/* --- who asks --- */

static int spawn(int fd)
{
	char *argv[] = {VHOST_USER_AGAIN_NAME, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	pid_t pid;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	rc = posix_spawn_file_actions_adddup2(&files, fd, VHOST_USER_AGAIN_FD);
	if (!rc)
		rc = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	/* A session of its own: the terminal's signals are not for it. */
	if (!rc)
		rc = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
							     POSIX_SPAWN_SETSID);
	if (!rc)
		rc = posix_spawnattr_setsigmask(&attr, &none);
	if (!rc)
		rc = posix_spawnattr_setsigdefault(&attr, &all);
	if (!rc)
		rc = posix_spawn(&pid, "/proc/self/exe", &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -rc;
}

int vhost_user_again_start(const char *path)
{
	CLEANUP_FD int ours = -1, theirs = -1;
	int fds[2], rc;

	if (strlen(path) >= PATH_SIZE)
		return -ENAMETOOLONG;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return -errno;
	ours = fds[0];
	theirs = fds[1];
	if (send(ours, path, strlen(path) + 1, MSG_NOSIGNAL) < 0)
		return -errno;
	rc = spawn(theirs);
	return rc ? rc : steal_fd(&ours);
}

static int take(const struct msghdr *m)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);
	int fd = -EPROTO;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

int vhost_user_again(int again_fd)
{
	static _Atomic uint32_t last;
	const uint32_t number = ++last;

	if (send(again_fd, &number, sizeof(number), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return errno == EAGAIN ? -EAGAIN : -EPIPE;
	for (;;) {
		struct pollfd p = {.fd = again_fd, .events = POLLIN};
		struct answer a;
		struct iovec iov = {&a, sizeof(a)};
		union {
			struct cmsghdr align;
			char buf[CMSG_SPACE(sizeof(int))];
		} control;
		struct msghdr m = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.buf,
			.msg_controllen = sizeof(control.buf),
		};
		const int n = poll(&p, 1, ANSWER_MS);
		int fd;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EAGAIN;
		if (recvmsg(again_fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof(a))
			return -EPIPE;
		fd = a.rc < 0 ? a.rc : take(&m);
		if (a.number == number)
			return fd;
		if (fd >= 0)
			close(fd);
	}
}

/* --- who connects --- */

bool vhost_user_again_wanted(int argc, char *argv[])
{
	return argc >= 1 && argv[0] && !strcmp(argv[0], VHOST_USER_AGAIN_NAME);
}

static bool pass(uint32_t number, int fd)
{
	struct answer a = {.number = number, .rc = fd < 0 ? fd : 0};
	struct iovec iov = {&a, sizeof(a)};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		struct cmsghdr *c;

		m.msg_control = control.buf;
		m.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(VHOST_USER_AGAIN_FD, &m, MSG_NOSIGNAL) == sizeof(a);
}

int vhost_user_again_main(int argc, char *argv[])
{
	/* Who was let in as root before is let in again. */
	const uint64_t keep = UINT64_C(1) << CAP_DAC_OVERRIDE;
	char path[PATH_SIZE] = "";
	struct err e = {0};
	uint32_t number;

	(void)argc;
	(void)argv;
	close_range(VHOST_USER_AGAIN_FD + 1, ~0u, 0);
	prctl(PR_SET_NAME, VHOST_USER_AGAIN_NAME);
	signal(SIGPIPE, SIG_IGN);
	if (recv(VHOST_USER_AGAIN_FD, path, sizeof(path) - 1, 0) <= 0) {
		log_error("%s is started by ringlet, and not by hand", VHOST_USER_AGAIN_NAME);
		return 1;
	}
	if (confine_begin(NULL, &e) || confine_keeping(THREAD_CONNECT, keep, &e)) {
		log_error("%s", e.text);
		return 1;
	}
	while (recv(VHOST_USER_AGAIN_FD, &number, sizeof(number), 0) == sizeof(number)) {
		const int fd = vhost_user_connect(path);
		const bool passed = pass(number, fd);

		if (fd >= 0)
			close(fd);
		if (!passed)
			break;
	}
	return 0;
}
