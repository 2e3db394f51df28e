// SPDX-License-Identifier: MIT
#include "init.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

/* What was said before there was a way to the VMM: sentences, each ended by NUL. */
static char early[4096];
static size_t early_len;

static void tell(const char *text)
{
	size_t len = strlen(text);

	if (getpid() != 1) /* the channel is PID 1's */
		return;
	if (channel_fd >= 0) {
		channel_send(WIRE_COMPLAINT, text, len);
		channel_push();
	} else if (len < sizeof(early) - early_len) {
		memcpy(early + early_len, text, len + 1);
		early_len += len + 1;
	}
}

void complain(const char *fmt, ...)
{
	char text[WIRE_SMALL];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "ringlet-init: %s\n", text);
	tell(text);
}

static void start_channel(void)
{
	channel_open();
	if (channel_fd < 0)
		return;
	for (size_t at = 0; at < early_len; at += strlen(early + at) + 1)
		tell(early + at);
}

void machine_stop(int how)
{
	if (getpid() == 1)
		channel_flush();
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
	char *command;

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
	if (plan_value("channel", 0))
		start_channel();
	start_power_button();

	command = read_whole(COMMAND_FILE, &len);
	if (!root_enter())
		machine_stop(RB_POWER_OFF);
	if (command)
		command_mode(command, len);
	else
		shell_mode();
	machine_stop(RB_POWER_OFF);
}
