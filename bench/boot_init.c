/* The init of the QEMU sides of bench/boot.py: the work of Ringlet's own, what virtme-ng's does to speak with
 * its monitor, and no more. The command is what the kernel's command line has behind "--".  Its three streams
 * and its status go through virtio-serial ports of virtme-ng's names; then the machine is powered off.  With
 * bench_end=port the status goes to isa-debug-exit instead, which ends QEMU at once. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_PORT 0x5f0

static void mount_all(void)
{
	static const struct {
		const char *type, *dir, *options;
	} mounts[] = {
		{"devtmpfs", "/dev", "mode=0755"}, {"proc", "/proc", NULL},
		{"sysfs", "/sys", NULL},           {"devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666"},
		{"tmpfs", "/run", "mode=0755"},    {"tmpfs", "/tmp", "mode=1777"},
	};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].dir, 0755);
		mount(mounts[i].type, mounts[i].dir, mounts[i].type, MS_NOSUID, mounts[i].options);
	}
	mkdir("/dev/shm", 01777);
	if (symlink("/proc/self/fd", "/dev/fd") == 0) {
		(void)!symlink("/proc/self/fd/0", "/dev/stdin");
		(void)!symlink("/proc/self/fd/1", "/dev/stdout");
		(void)!symlink("/proc/self/fd/2", "/dev/stderr");
	}
}

/* Opens the virtio-serial port with that name, or returns -1. */
static int open_port(const char *name, int flags)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	int found = -1;

	while (found < 0 && dir && (entry = readdir(dir))) {
		char path[300], text[64] = "";
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		(void)!read(fd, text, sizeof(text) - 1);
		close(fd);
		text[strcspn(text, "\n")] = 0;
		if (strcmp(text, name) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		found = open(path, flags | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void run(char **argv)
{
	int in = open_port("virtme.stdin", O_RDONLY);
	int out = open_port("virtme.stdout", O_WRONLY);
	int err = open_port("virtme.stderr", O_WRONLY);

	setsid();
	dup2(in < 0 ? open("/dev/null", O_RDONLY) : in, 0);
	if (out >= 0)
		dup2(out, 1);
	if (err >= 0)
		dup2(err, 2);
	execvp(argv[0], argv);
	perror(argv[0]);
	_exit(127);
}

int main(int argc, char **argv)
{
	const char *end = getenv("bench_end"); /* the kernel makes variables of words it does not know */
	int status = 127 << 8;
	pid_t pid;

	mount_all();
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	pid = argc > 1 ? fork() : -1;
	if (pid == 0)
		run(argv + 1);
	while (pid > 0 && wait(&status) != pid)
		;
	status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	sync();
	if (end && strcmp(end, "port") == 0) {
		pid = fork(); /* it may die of it */
		if (pid == 0 && iopl(3) == 0)
			outl((unsigned)status, STATUS_PORT);
		if (pid == 0)
			_exit(1);
		waitpid(pid, NULL, 0);
	} else {
		int fd = open_port("virtme.ret", O_WRONLY);

		if (fd >= 0)
			dprintf(fd, "%d\n", status);
	}
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
