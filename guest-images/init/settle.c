// SPDX-License-Identifier: MIT
#include "init.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 10

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Whether we have no child any more, within PATIENCE_S. */
static bool all_ended(void)
{
	const double from = now();
	unsigned pause_us = 200;

	for (;;) {
		pid_t got = waitpid(-1, NULL, WNOHANG);

		if (got < 0)
			return true;
		if (got > 0)
			continue;
		if (now() - from > PATIENCE_S)
			return false;
		usleep(pause_us);
		if (pause_us < 10000)
			pause_us *= 2;
	}
}

static void write_out(void)
{
	sync();
	root_leave();
}

/* What the command left behind would hold what is to be unmounted. */
void settle(void)
{
	pid_t pid;

	signal(SIGCHLD, SIG_DFL);
	kill(-1, SIGKILL);
	if (all_ended()) {
		write_out();
		return;
	}
	/* It waits in the kernel for a device that does not answer, and whoever writes to that would wait as
	 * well. */
	complain("a process that the command has left cannot be ended; see the kernel's log for what it waits "
		 "for");
	channel_flush(); /* what is yet to be sent is not to be sent twice */
	pid = fork();
	if (pid < 0)
		complain("what was written may not have reached its disk: fork: %s", strerror(errno));
	if (pid == 0) {
		write_out();
		channel_flush();
		_exit(0);
	}
	for (double from = now(); pid > 0 && waitpid(pid, NULL, WNOHANG) == 0; usleep(10000))
		if (now() - from > PATIENCE_S) {
			complain("not all that was written has reached its disk within %d s", PATIENCE_S);
			return;
		}
}
