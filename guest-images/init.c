// SPDX-License-Identifier: MIT
/*
 * PID 1 of a Ringlet guest.
 *
 * With /ringlet/command (argv, each string ended by NUL; the VMM adds it in a cpio archive of its own) it runs
 * that command with its output on the second serial port, tells the VMM the exit status through an I/O port,
 * and powers off. Without, it gives the console a shell and powers off when the shell ends.
 *
 * It is either /init of our own initramfs or /ringlet/init in somebody else's: it may rely on no file of the
 * guest. It must never return: the kernel panics when PID 1 does.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <sys/io.h>
#endif

#define COMMAND_FILE "/ringlet/command"
#define ENV_FILE     "/ringlet/env"
#define MODULE_LIST  "/lib/modules/ringlet.order"
#define VIRTIO_LIST  "/lib/modules/ringlet.virtio" /* loaded where there is a virtio device */
#define OUTPUT_TTY   "/dev/ttyS1"

#define STATUS_PORT    0x5f0 /* a write here, of 1 or 4 bytes, ends the machine with that exit status */
#define MAX_ARGS       1024
#define MAX_FILE       (1 << 20)
#define MAX_INPUT      32
#define CANNOT_EXECUTE 126
#define NOT_FOUND      127

__attribute__((format(printf, 1, 2))) static void complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("ringlet-init: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

__attribute__((noreturn)) static void machine_stop(int how)
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

static void mount_at(const char *type, const char *dir, const char *options)
{
	mkdir(dir, 0755);
	/* EBUSY: it is there already. Everything else shows up in what needs the mount. */
	if (mount(type, dir, type, MS_NOSUID, options) < 0 && errno != EBUSY)
		complain("mount %s on %s: %s", type, dir, strerror(errno));
}

static void mount_all(void)
{
	mount_at("devtmpfs", "/dev", "mode=0755");
	mount_at("proc", "/proc", NULL);
	mount_at("sysfs", "/sys", NULL);
	mount_at("devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666");
	mount_at("tmpfs", "/run", "mode=0755");
	mount_at("tmpfs", "/tmp", "mode=1777");
	mkdir("/dev/shm", 01777);
	mkdir("/root", 0700);
	/* What shells and scripts take for granted; udev would make them. */
	if (symlink("/proc/self/fd", "/dev/fd") == 0) {
		(void)!symlink("/proc/self/fd/0", "/dev/stdin");
		(void)!symlink("/proc/self/fd/1", "/dev/stdout");
		(void)!symlink("/proc/self/fd/2", "/dev/stderr");
	}
}

/* fds 0 to 2: an initramfs without /dev/console leaves them closed. */
static void open_stdio(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		return;
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

/* Returns the file with a NUL behind its last byte, or NULL with errno set. Never freed: PID 1 reads three
 * files once. */
static char *read_whole(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	char *buf;

	if (fd < 0)
		return NULL;
	buf = malloc(MAX_FILE + 1);
	while (buf && used < MAX_FILE) {
		ssize_t n = read(fd, buf + used, MAX_FILE - used);

		if (n <= 0)
			break;
		used += (size_t)n;
	}
	close(fd);
	if (!buf)
		return NULL;
	buf[used] = '\0';
	*len = used;
	return buf;
}

static void load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		complain("%s: %s", path, strerror(errno));
		return;
	}
	/* EEXIST: built in or loaded already. ENODEV: this machine has no such device. */
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENODEV)
		complain("cannot load %s: %s", path, strerror(errno));
	close(fd);
}

static void load_modules(const char *list_path)
{
	size_t len;
	char *list = read_whole(list_path, &len);
	char *save = NULL;

	if (!list)
		return;
	for (char *path = strtok_r(list, "\n", &save); path; path = strtok_r(NULL, "\n", &save))
		load_module(path);
}

/* By PCI's vendor, or by the name that ACPI has for virtio-mmio. */
static bool has_virtio(void)
{
	struct dirent *entry;
	bool found = access("/sys/bus/acpi/devices/LNRO0005:00", F_OK) == 0;
	DIR *dir = opendir("/sys/bus/pci/devices");

	while (!found && dir && (entry = readdir(dir))) {
		char path[320], vendor[8] = "";
		int fd;

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		found = read(fd, vendor, sizeof(vendor) - 1) > 0 && strncmp(vendor, "0x1af4", 6) == 0;
		close(fd);
	}
	if (dir)
		closedir(dir);
	return found;
}

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

static void start_power_button(void)
{
	mkdir("/dev/input", 0755); /* devtmpfs makes it with the first device; the watch wants it now */
	if (fork() == 0)
		watch_power_button();
}

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

static int split_strings(char *buf, size_t len, char **strings, int max)
{
	int n = 0;

	for (size_t i = 0; i < len && n < max; i += strlen(buf + i) + 1)
		strings[n++] = buf + i;
	return n;
}

static void read_env(void)
{
	static char *strings[MAX_ARGS];
	size_t len;
	char *buf = read_whole(ENV_FILE, &len);
	int n = buf ? split_strings(buf, len, strings, MAX_ARGS) : 0;

	for (int i = 0; i < n; i++)
		if (strchr(strings[i], '='))
			putenv(strings[i]);
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
static int wait_for(pid_t pid)
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

static void command_mode(char *buf, size_t len)
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

static void shell_mode(void)
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
	load_modules(MODULE_LIST);
	if (has_virtio())
		load_modules(VIRTIO_LIST);
	start_power_button();

	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	read_env();
	command = read_whole(COMMAND_FILE, &len);
	if (command)
		command_mode(command, len);
	else
		shell_mode();
	machine_stop(RB_POWER_OFF);
}
