/* The signals are blocked and come as data: no system call of anybody is interrupted by them. */
#include "compare/process_signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "compare/process.h"
#include "lib/log.h"

static int fd = -1;
static bool seen;

int process_signal_fd(void)
{
	return fd;
}

void process_catch_signals(void)
{
	struct sigaction hup;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	/* A blocked signal comes even where it is ignored. */
	if (!sigaction(SIGHUP, NULL, &hup) && hup.sa_handler != SIG_IGN)
		sigaddset(&set, SIGHUP);
	fd = signalfd(fd, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0) {
		log_warn("signals cannot be caught: signalfd: %m");
		return;
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
}

bool process_interrupted(void)
{
	struct signalfd_siginfo info;

	if (!seen && fd >= 0 && read(fd, &info, sizeof(info)) > 0)
		seen = true;
	return seen;
}
