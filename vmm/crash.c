/* #syscalls[all]: tgkill:0==PID */
#include "vmm/crash.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "vmm/outcome.h"
#include "vmm/terminal.h"

static _Atomic(const struct guest_mem *) watched;

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

static void on_crash(int sig, siginfo_t *info, void *context)
{
	const struct guest_mem *mem = watched;

	(void)context;
	terminal_restore();
	if (sig == SIGBUS && mem && guest_mem_holds(mem, info->si_addr)) {
		say("ringlet: guest RAM is lost: the file behind it");
		if (mem->path) {
			say(" (in ");
			say(mem->path);
			say(")");
		}
		say(" was truncated or punched by another process, or no huge page was left for it\n");
		_exit(STATUS_MEMORY_LOST);
	}
	if (sig == SIGBUS && info->si_code == BUS_ADRERR) {
		say("ringlet: a file was cut off while it was read\n");
		_exit(STATUS_FAILED);
	}
	/* The handler was reset: this time it kills, with a core where the user wants one. */
	raise(sig);
}

void crash_install(const struct guest_mem *mem)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	struct sigaction sa = {.sa_sigaction = on_crash,
			       .sa_flags = (int)(SA_SIGINFO | SA_RESETHAND | SA_NODEFER)};

	watched = mem;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
}
