// SPDX-License-Identifier: MIT
#include "init.h"

#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_INPUT 32

static bool has_power_key(int fd)
{
	uint8_t keys[KEY_MAX / 8 + 1] = {0};

	if (ioctl(fd, (int)EVIOCGBIT(EV_KEY, sizeof(keys)), keys) < 0)
		return false;
	return keys[KEY_POWER / 8] & 1 << KEY_POWER % 8;
}

static void open_inputs(struct pollfd inputs[MAX_INPUT])
{
	for (int i = 0; i < MAX_INPUT; i++) {
		char path[32];
		int fd;

		if (inputs[i].fd >= 0)
			continue;
		snprintf(path, sizeof(path), "/dev/input/event%d", i);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			continue;
		if (!has_power_key(fd)) {
			close(fd);
			continue;
		}
		inputs[i] = (struct pollfd){.fd = fd, .events = POLLIN};
	}
}

static bool power_pressed(int fd)
{
	struct input_event ev;

	while (read(fd, &ev, sizeof(ev)) == (ssize_t)sizeof(ev))
		if (ev.type == EV_KEY && ev.code == KEY_POWER && ev.value == 1)
			return true;
	return false;
}

/* A process of its own, asleep until the button is pressed or an input device appears: an idle guest must stay
 * idle. */
__attribute__((noreturn)) static void watch_power_button(void)
{
	struct pollfd fds[MAX_INPUT + 1];
	char events[4096];
	int dir;

	for (int i = 0; i < MAX_INPUT; i++)
		fds[i].fd = -1;
	dir = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	inotify_add_watch(dir, "/dev/input", IN_CREATE | IN_ATTRIB);
	fds[MAX_INPUT] = (struct pollfd){.fd = dir, .events = POLLIN};
	for (;;) {
		open_inputs(fds);
		if (poll(fds, MAX_INPUT + 1, -1) < 0)
			continue;
		while (read(dir, events, sizeof(events)) > 0)
			;
		for (int i = 0; i < MAX_INPUT; i++)
			if (fds[i].fd >= 0 && power_pressed(fds[i].fd))
				machine_stop(RB_POWER_OFF);
	}
}

void start_power_button(void)
{
	mkdir("/dev/input", 0755); /* devtmpfs makes it with the first device; the watch wants it now */
	if (fork() == 0)
		watch_power_button();
}
