/* The process that connects again for one that may not: it reaches what listens, ends with its asker, and a
 * late answer is nobody's. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/vhost_user_again.h"
#include "backends/vhost_user_socket.h"
#include "tests/unit/open_fds.h"

/* The process is this program again. */
__attribute__((constructor)) static void be_the_other(int argc, char *argv[])
{
	if (vhost_user_again_wanted(argc, argv))
		exit(vhost_user_again_main(argc, argv));
}

static char path[64];

static void setup(void)
{
	snprintf(path, sizeof(path), "/tmp/test-again-%d", getpid());
}

static void fini(void)
{
	unlink(path);
}

TestSuite(vhost_user_again, .init = setup, .fini = fini, .timeout = 60);

/* Its process id: our one child. */
static pid_t start(int *again)
{
	FILE *f;
	int pid = -1;

	*again = vhost_user_again_start(path);
	cr_assert_geq(*again, 0, "%s", strerror(-*again));
	f = fopen("/proc/thread-self/children", "re");
	cr_assert(f && fscanf(f, "%d", &pid) == 1);
	fclose(f);
	return pid;
}

static int listener(void)
{
	struct err e = {0};
	int fd = vhost_user_listen(path, &e);

	cr_assert_geq(fd, 0, "%s", e.text);
	return fd;
}

/* What goes in here comes out where somebody listened. */
static void joined(int fd, int listen_fd)
{
	int there = vhost_user_accept(listen_fd);
	char got[6] = "";

	cr_assert_geq(there, 0);
	cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_assert_eq(write(fd, "hello", 6), 6);
	cr_assert_eq(read(there, got, 6), 6);
	cr_expect_str_eq(got, "hello");
	close(there);
	close(fd);
}

static void ends(pid_t pid)
{
	int status = -1;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", (unsigned)status);
}

Test(vhost_user_again, reaches_who_listens_time_and_again)
{
	const unsigned fds = open_fds();
	int at = listener(), again;
	pid_t pid = start(&again);

	for (unsigned i = 0; i < 20; i++)
		joined(vhost_user_again(again), at);
	close(again);
	ends(pid);
	close(at);
	cr_expect_eq(open_fds(), fds);
}

Test(vhost_user_again, says_why_not_and_tries_again)
{
	int again, at;
	pid_t pid = start(&again);

	cr_expect_eq(vhost_user_again(again), -ENOENT);
	at = listener();
	joined(vhost_user_again(again), at);
	close(at);
	cr_expect_eq(vhost_user_again(again), -ECONNREFUSED);
	close(again);
	ends(pid);
}

Test(vhost_user_again, is_confined_and_knows_one_path)
{
	int again, at = listener();
	pid_t pid = start(&again);
	char line[128];
	unsigned filters = 0;
	FILE *f;

	joined(vhost_user_again(again), at);
	snprintf(line, sizeof(line), "/proc/%d/status", pid);
	f = fopen(line, "re");
	while (fgets(line, sizeof(line), f))
		filters += !strcmp(line, "Seccomp:\t2\n") || !strcmp(line, "NoNewPrivs:\t1\n");
	fclose(f);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	cr_expect_eq(filters, 2);
#endif
	close(again);
	ends(pid);
}

Test(vhost_user_again, one_that_is_gone)
{
	int again, at = listener();
	pid_t pid = start(&again);

	joined(vhost_user_again(again), at);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cr_expect_eq(vhost_user_again(again), -EPIPE);
	cr_expect_eq(vhost_user_again(again), -EPIPE);
	close(again);
}

Test(vhost_user_again, a_late_answer_is_nobodys)
{
	int again, at = listener();
	pid_t pid = start(&again);
	unsigned fds;

	joined(vhost_user_again(again), at);
	fds = open_fds();
	kill(pid, SIGSTOP);
	waitpid(pid, NULL, WUNTRACED);
	cr_expect_eq(vhost_user_again(again), -EAGAIN);
	kill(pid, SIGCONT);
	cr_assert_eq(poll(&(struct pollfd){.fd = at, .events = POLLIN}, 1, 10000), 1);
	close(vhost_user_accept(at)); /* of the late one */
	joined(vhost_user_again(again), at);
	cr_expect_eq(open_fds(), fds, "the late socket stays");
	close(again);
	ends(pid);
}

Test(vhost_user_again, a_path_too_long)
{
	char longer[200];

	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	cr_expect_eq(vhost_user_again_start(longer), -ENAMETOOLONG);
}
