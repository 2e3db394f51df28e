// SPDX-License-Identifier: MIT
/* The line to the VMM: who has it, and frames on their way out. */
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#define SERIAL       "/dev/ttyS1"
#define CONSOLE_ID   "0x0003" /* VIRTIO_ID_CONSOLE */
#define PORT_WAIT_MS 3000     /* the device tells of its ports after its driver is there */

int channel_fd = -1;
bool channel_serial;

static uint8_t pending[2 * (WIRE_HEAD + WIRE_MAX)]; /* on their way; whole frames but for the first */
static size_t pending_from, pending_to;

static bool file_begins(const char *path, const char *with)
{
	char text[128] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool same = fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && !strncmp(text, with, strlen(with));

	if (fd >= 0)
		close(fd);
	return same;
}

/* The first entry of a directory whose file FILE begins with those words; false: none. */
static bool find_entry(char found[256], const char *dir, const char *file, const char *with)
{
	char path[320];
	struct dirent *entry;
	bool is = false;
	DIR *d = opendir(dir);

	while (!is && d && (entry = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%.200s/%s", dir, entry->d_name, file);
		is = entry->d_name[0] != '.' && file_begins(path, with);
		snprintf(found, 256, "%s", entry->d_name);
	}
	if (d)
		closedir(d);
	return is;
}

static int open_named_port(void)
{
	char name[256], path[280];

	if (!find_entry(name, "/sys/class/virtio-ports", "name", WIRE_PORT "\n"))
		return -1;
	snprintf(path, sizeof(path), "/dev/%s", name);
	return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

/* Until the other side has the port open as well it can be neither read nor written. */
static bool port_ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	return poll(&p, 1, 0) == 1 && p.revents == POLLOUT;
}

static int open_port(void)
{
	char name[256];
	int fd = -1;

	/* A console device with a driver: its ports will come. */
	if (!find_entry(name, "/sys/bus/virtio/drivers/virtio_console", "device", CONSOLE_ID))
		return -1;
	for (int ms = 0; ms < PORT_WAIT_MS; ms++) {
		if (fd < 0)
			fd = open_named_port();
		if (fd >= 0 && port_ready(fd))
			return fd;
		usleep(1000);
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Raw: what is sent must reach the VMM byte for byte. */
static int open_serial(void)
{
	int fd = open(SERIAL, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	struct termios t;

	if (fd >= 0 && tcgetattr(fd, &t) == 0) {
		cfmakeraw(&t);
		cfsetspeed(&t, B115200);
		t.c_cflag |= CLOCAL | CREAD;
		tcsetattr(fd, TCSANOW, &t);
	}
	return fd;
}

void channel_open(void)
{
	uint8_t hello[WIRE_SMALL] = WIRE_NAME;
	size_t len = sizeof(WIRE_NAME) - 1;
	struct utsname name;

	channel_fd = open_port();
	if (channel_fd < 0) {
		channel_fd = open_serial();
		channel_serial = true;
	}
	if (channel_fd < 0) {
		complain("there is no way to the VMM: no virtio console port, and " SERIAL ": %s",
			 strerror(errno));
		return;
	}
	hello[len++] = WIRE_VERSION;
	if (uname(&name) == 0)
		len += (size_t)snprintf((char *)hello + len, sizeof(hello) - len, "%s", name.release);
	channel_send(WIRE_HELLO, hello, len);
	channel_push();
}

bool channel_idle(void)
{
	return pending_from == pending_to;
}

void channel_push(void)
{
	while (channel_fd >= 0 && !channel_idle()) {
		ssize_t n = write(channel_fd, pending + pending_from, pending_to - pending_from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			pending_from = pending_to; /* nobody is there: the VMM ends us for it, or has ended */
		if (n <= 0)
			return;
		pending_from += (size_t)n;
	}
}

void channel_flush(void)
{
	for (channel_push(); !channel_idle(); channel_push()) {
		struct pollfd p = {.fd = channel_fd, .events = POLLOUT};

		poll(&p, 1, -1);
		if (!(p.revents & POLLOUT))
			usleep(1000); /* a port whose other end is gone hangs up without end */
	}
	if (channel_serial)
		tcdrain(channel_fd);
}

uint8_t *channel_room(size_t len)
{
	if (sizeof(pending) - pending_to < WIRE_HEAD + len) {
		memmove(pending, pending + pending_from, pending_to - pending_from);
		pending_to -= pending_from;
		pending_from = 0;
	}
	if (sizeof(pending) - pending_to < WIRE_HEAD + len) {
		channel_flush();
		pending_from = pending_to = 0;
	}
	return pending + pending_to + WIRE_HEAD;
}

void channel_put(enum wire_type type, size_t len)
{
	wire_put_head(pending + pending_to, type, len);
	pending_to += WIRE_HEAD + len;
}

void channel_send(enum wire_type type, const void *data, size_t len)
{
	if (channel_fd < 0)
		return;
	memcpy(channel_room(len), data, len);
	channel_put(type, len);
}
