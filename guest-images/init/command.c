// SPDX-License-Identifier: MIT
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ARGS 1024
#define TAINT    "/proc/sys/kernel/tainted"

static int taint_fd = -1; /* opened while /proc is where we put it */

static uint32_t taint(void)
{
	char text[32] = "";

	if (taint_fd < 0 || pread(taint_fd, text, sizeof(text) - 1, 0) <= 0)
		return 0;
	return (uint32_t)strtoul(text, NULL, 10);
}

__attribute__((noreturn)) static void run_command(char **argv, const struct stdio_ends *ends, int failed)
{
	struct child_failure f;

	setsid();
	for (int i = 0; i < WIRE_STREAMS; i++)
		dup2(ends->fd[i], i);
	f = child_become(argv[0], argv, "/");
	(void)!write(failed, &f, sizeof(f));
	_exit(CANNOT_EXECUTE);
}

static int as_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int wait_for(pid_t pid)
{
	for (;;) {
		int status;
		pid_t got = wait(&status);

		if (got < 0 && errno == ECHILD)
			return NOT_FOUND;
		if (got == pid)
			return as_status(status);
	}
}

/* As wait() would have it. */
static int run_to_end(char **argv)
{
	struct stdio_ends ends = {{-1, -1, -1}};
	struct child_failure f;
	int failed[2];
	ssize_t n;
	pid_t pid;

	if (!child_prepare(false))
		return CANNOT_EXECUTE << 8;
	if (!stdio_open(&ends) || pipe2(failed, O_CLOEXEC) < 0) {
		complain("pipes for the command: %s", strerror(errno));
		return CANNOT_EXECUTE << 8;
	}
	pid = fork();
	if (pid == 0)
		run_command(argv, &ends, failed[1]);
	if (pid < 0) {
		complain("fork: %s", strerror(errno));
		return CANNOT_EXECUTE << 8;
	}
	close(failed[1]);
	for (int i = 0; i < WIRE_STREAMS; i++)
		if (ends.fd[i] >= 0)
			close(ends.fd[i]);
	n = read(failed[0], &f, sizeof(f)); /* nothing: exec has closed it */
	close(failed[0]);
	if (n == (ssize_t)sizeof(f))
		return child_complain(&f, argv) << 8;
	channel_send(WIRE_STARTED, "", 0);
	return stdio_serve(pid);
}

static void send_exit(int status)
{
	uint8_t answer[WIRE_EXIT_LEN] = {WIFSIGNALED(status)};

	answer[1] = (uint8_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	wire_put32(answer + 2, taint());
	channel_send(WIRE_EXIT, answer, sizeof(answer));
	channel_flush();
}

void command_mode(char *buf, size_t len)
{
	static char *argv[MAX_ARGS + 1];
	int status;

	if (channel_fd < 0)
		return;
	taint_fd = open(TAINT, O_RDONLY | O_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	if (split_strings(buf, len, argv, MAX_ARGS) == 0) {
		complain("%s is empty", COMMAND_FILE);
		status = NOT_FOUND << 8;
	} else {
		status = run_to_end(argv);
	}
	settle();
	send_exit(status);
	sleep(10); /* the VMM ends us; where it does not, we do */
}

__attribute__((noreturn)) static void run_shell(void)
{
	static char *argv[] = {"-sh", NULL};
	struct child_failure f;
	int fd;

	setsid();
	fd = open("/dev/console", O_RDWR);
	if (fd >= 0) {
		for (int i = 0; i < 3; i++)
			dup2(fd, i);
		if (fd > 2)
			close(fd);
	}
	/* Not by O_NOCTTY's absence: the kernel never makes /dev/console a controlling terminal by itself. */
	ioctl(0, TIOCSCTTY, 1);
	f = child_become("/bin/sh", argv, getenv("HOME"));
	if (f.error == ENOENT)
		complain("there is no shell (/bin/sh) and no command to run; powering off");
	else
		child_complain(&f, argv);
	_exit(NOT_FOUND);
}

void shell_mode(void)
{
	pid_t pid;

	if (!child_prepare(true))
		return;
	pid = fork();
	if (pid == 0)
		run_shell();
	if (pid < 0)
		complain("fork: %s", strerror(errno));
	else
		wait_for(pid);
	root_leave();
}
