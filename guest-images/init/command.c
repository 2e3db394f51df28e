// SPDX-License-Identifier: MIT
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <sys/io.h>
#endif

#define OUTPUT_TTY  "/dev/ttyS1"
#define STATUS_PORT 0x5f0 /* a write here, of 1 or 4 bytes, ends the machine with that exit status */
#define MAX_ARGS    1024

/* Raw: what a command writes must reach the VMM byte for byte. */
static int open_output(void)
{
	int fd = open(OUTPUT_TTY, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	struct termios t;

	if (fd < 0) {
		complain("%s: %s; the output goes to the console", OUTPUT_TTY, strerror(errno));
		return dup(2);
	}
	if (tcgetattr(fd, &t) == 0) {
		cfmakeraw(&t);
		cfsetspeed(&t, B115200);
		t.c_cflag |= CLOCAL | CREAD;
		tcsetattr(fd, TCSANOW, &t);
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

static void default_signals(void)
{
	signal(SIGTERM, SIG_DFL);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
}

__attribute__((noreturn)) static void run_command(char **argv, int output)
{
	int null = open("/dev/null", O_RDONLY);
	int err;

	default_signals();
	setsid();
	dup2(null, 0);
	dup2(output, 1);
	dup2(output, 2);
	if (null > 2)
		close(null);
	execvp(argv[0], argv);
	err = errno;
	complain("%s: %s", argv[0], strerror(err));
	_exit(err == ENOENT ? NOT_FOUND : CANNOT_EXECUTE);
}

__attribute__((noreturn)) static void run_shell(void)
{
	int fd;

	default_signals();
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
	if (chdir("/root") < 0)
		(void)!chdir("/");
	execl("/bin/sh", "-sh", (char *)NULL);
	complain("there is no shell (/bin/sh: %s) and no command to run; powering off", strerror(errno));
	_exit(NOT_FOUND);
}

/* PID 1 inherits every orphan: all are reaped, one is waited for. */
int wait_for(pid_t pid)
{
	for (;;) {
		int status;
		pid_t got = wait(&status);

		if (got < 0 && errno == ECHILD)
			return NOT_FOUND; /* fork() failed and nobody else is left */
		if (got != pid)
			continue;
		return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
}

#if defined(__x86_64__)
/*
 * In a process of its own, which may die of it: QEMU's TCG (up to 10.0) refuses port I/O of a nested guest's
 * user space, whatever ioperm() said, once the VMM has written the processor's segments back while the guest
 * ran.
 */
static void report_by_outl(int status)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (ioperm(STATUS_PORT, 4, 1) == 0 || iopl(3) == 0)
			outl((unsigned int)status, STATUS_PORT);
		_exit(0);
	}
	if (pid > 0)
		wait_for(pid);
}

/* The kernel writes bytes for us, and a status is one. Kernels for clouds lack this device. */
static void report_by_dev_port(int status)
{
	uint8_t byte = (uint8_t)status;
	int fd = open("/dev/port", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)!pwrite(fd, &byte, 1, STATUS_PORT);
	close(fd);
}
#endif

/* Comes back only where nobody listens on the port. */
static void report_status(int status)
{
#if defined(__x86_64__)
	report_by_outl(status);
	report_by_dev_port(status);
#endif
	complain("nobody took the exit status %d", status);
}

void command_mode(char *buf, size_t len)
{
	static char *argv[MAX_ARGS + 1];
	int output = open_output();
	int status;
	pid_t pid;

	if (split_strings(buf, len, argv, MAX_ARGS) == 0) {
		dprintf(output, "ringlet-init: %s is empty\n", COMMAND_FILE);
		status = NOT_FOUND;
	} else {
		pid = fork();
		if (pid == 0)
			run_command(argv, output);
		if (pid < 0)
			dprintf(output, "ringlet-init: fork: %s\n", strerror(errno));
		status = pid < 0 ? CANNOT_EXECUTE : wait_for(pid);
	}
	tcdrain(output);
	sync();
	report_status(status);
}

void shell_mode(void)
{
	pid_t pid;

	setenv("TERM", "vt100", 1);
	pid = fork();
	if (pid == 0)
		run_shell();
	if (pid < 0)
		complain("fork: %s", strerror(errno));
	else
		wait_for(pid);
}
