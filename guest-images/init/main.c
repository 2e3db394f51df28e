// SPDX-License-Identifier: MIT
#include "init.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <unistd.h>

void complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("ringlet-init: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

void machine_stop(int how)
{
	sync();
	reboot(how);
	/* The kernel halts this way when it finds no means to switch the machine off. */
	for (;;)
		pause();
}

/* What busybox's poweroff, reboot and halt send to PID 1 when they are not forced. */
static void on_signal(int sig)
{
	machine_stop(sig == SIGTERM ? RB_AUTOBOOT : sig == SIGUSR1 ? (int)RB_HALT_SYSTEM : RB_POWER_OFF);
}

int main(void)
{
	size_t len;
	char *command, *env;

	if (getpid() != 1) {
		complain("this is the first process of a guest; it does nothing elsewhere");
		return 1;
	}
	mount_all();
	open_stdio();
	reboot(RB_DISABLE_CAD);
	signal(SIGTERM, on_signal);
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	plan_read();
	modules_load();
	start_power_button();

	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	for (int i = 0; (env = plan_value("env", i)); i++)
		putenv(env);
	command = read_whole(COMMAND_FILE, &len);
	if (!root_enter())
		machine_stop(RB_POWER_OFF);
	if (command)
		command_mode(command, len);
	else
		shell_mode();
	machine_stop(RB_POWER_OFF);
}
