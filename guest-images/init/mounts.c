// SPDX-License-Identifier: MIT
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

void mount_at(const char *type, const char *dir, const char *options)
{
	mkdir(dir, 0755);
	/* EBUSY: it is there already. Everything else shows up in what needs the mount. */
	if (mount(type, dir, type, MS_NOSUID, options) < 0 && errno != EBUSY)
		complain("mount %s on %s: %s", type, dir, strerror(errno));
}

void mount_all(void)
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
void open_stdio(void)
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

/* What test suites of the kernel look for. Each is there or not, as the kernel was built. */
void mount_more(void)
{
	static const char *const list[][3] = {
		{"tmpfs", "/dev/shm", "mode=1777"},       {"mqueue", "/dev/mqueue", NULL},
		{"cgroup2", "/sys/fs/cgroup", NULL},      {"debugfs", "/sys/kernel/debug", NULL},
		{"tracefs", "/sys/kernel/tracing", NULL}, {"securityfs", "/sys/kernel/security", NULL},
		{"configfs", "/sys/kernel/config", NULL}, {"bpf", "/sys/fs/bpf", "mode=0700"},
	};

	mkdir("/dev/mqueue", 01777);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		mount(list[i][0], list[i][1], list[i][0], MS_NOSUID, list[i][2]);
}

/* By what the root says, unless the kernel was told. */
void name_host(void)
{
	struct utsname uts;
	size_t len;
	char *name;

	if (uname(&uts) < 0 || strcmp(uts.nodename, "(none)"))
		return;
	name = read_whole("/etc/hostname", &len);
	len = name ? strcspn(name, " \t\n") : 0;
	if (!len || sethostname(name, len) < 0)
		sethostname("ringlet", 7);
}
