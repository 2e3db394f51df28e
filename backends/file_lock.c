/* #syscalls[setup]: openat getdents64
 * #syscalls[main]: fcntl:1==F_OFD_SETLK fcntl:1==F_OFD_GETLK */
/* Theory of operation: QEMU gives each use of an image (a permission) a number n and marks bytes of the file
 * with shared locks: byte 100 + n by who uses it so, byte 200 + n by who cannot bear others that do.  Nobody
 * takes an exclusive lock; who wants in sets its own marks and then asks whether an exclusive lock would be
 * granted on the opposite byte.  The locks belong to the open file description, so they end with it however we
 * end. */
#include "backends/file_lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "lib/confine.h"
#include "lib/log.h"

#define USES_BASE  100
#define BARS_BASE  200
#define USE_READ   0 /* reads, and wants what it reads to be consistent */
#define USE_WRITE  1
#define LOCK_TRIES 50 /* of 10 ms */
#define BYTES_SPAN (BARS_BASE - USES_BASE + 64)

struct marks {
	unsigned uses, bars; /* bit per permission */
};

/* A reader bears other readers; nobody bears a writer beside. */
static struct marks marks_of(bool writer)
{
	return (struct marks){
		.uses = 1u << USE_READ | (writer ? 1u << USE_WRITE : 0),
		.bars = 1u << USE_WRITE,
	};
}

static int set(int fd, short type, off_t start, off_t len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

/* 1: somebody else has a lock there. */
static int taken(int fd, off_t at, pid_t *pid)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

	if (fcntl(fd, F_OFD_GETLK, &l))
		return -errno;
	if (l.l_type == F_UNLCK)
		return 0;
	*pid = l.l_pid; /* -1: an open file description's */
	return 1;
}

static int set_marks(int fd, struct marks m)
{
	int rc = 0;

	for (unsigned n = 0; n < 2 && !rc; n++) {
		if (m.uses & 1u << n)
			rc = set(fd, F_RDLCK, USES_BASE + (off_t)n, 1);
		if (!rc && m.bars & 1u << n)
			rc = set(fd, F_RDLCK, BARS_BASE + (off_t)n, 1);
	}
	return rc;
}

static int check_marks(int fd, struct marks m, pid_t *pid)
{
	int rc = 0;

	for (unsigned n = 0; n < 2 && !rc; n++) {
		if (m.uses & 1u << n)
			rc = taken(fd, BARS_BASE + (off_t)n, pid);
		if (!rc && m.bars & 1u << n)
			rc = taken(fd, USES_BASE + (off_t)n, pid);
	}
	return rc;
}

/* --- who it is: open file descriptions have no owner, but whoever holds one shows its locks --- */

static bool fdinfo_locks(const char *path, const char *id)
{
	char line[256];
	bool found = false;
	FILE *f = fopen(path, "re");

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "lock:", 5) && strstr(line, id);
	fclose(f);
	return found;
}

static bool process_locks(const char *pid, const char *id, int but_fd)
{
	char dir[64], file[sizeof(dir) + 256];
	bool found = false, self = (pid_t)strtol(pid, NULL, 10) == getpid();
	struct dirent *entry;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%.20s/fdinfo", pid);
	d = opendir(dir);
	while (d && !found && (entry = readdir(d))) {
		if (entry->d_name[0] == '.' || (self && (int)strtol(entry->d_name, NULL, 10) == but_fd))
			continue;
		snprintf(file, sizeof(file), "%s/%s", dir, entry->d_name);
		found = fdinfo_locks(file, id);
	}
	if (d)
		closedir(d);
	return found;
}

static pid_t find_holder(int fd)
{
	struct dirent *entry;
	struct stat st;
	pid_t pid = -1;
	char id[64];
	DIR *d;

	if (confine_is_on() || fstat(fd, &st))
		return -1;
	/* As /proc writes it: "1: OFDLCK ADVISORY READ -1 fd:00:1234 100 100". */
	snprintf(id, sizeof(id), " %02x:%02x:%llu ", major(st.st_dev), minor(st.st_dev),
		 (unsigned long long)st.st_ino);
	d = opendir("/proc");
	while (d && pid < 0 && (entry = readdir(d)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && process_locks(entry->d_name, id, fd))
			pid = (pid_t)strtol(entry->d_name, NULL, 10);
	if (d)
		closedir(d);
	return pid;
}

static void name_of(pid_t pid, char *name, size_t size)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f || !fgets(name, (int)size, f))
		snprintf(name, size, "?");
	name[strcspn(name, "\n")] = 0;
	if (f)
		fclose(f);
}

static int in_use(const char *path, bool writer, pid_t pid, struct err *e)
{
	const char *hint = writer ? "Stop it, give each its own copy, or share the image with ro on both sides"
				  : "Stop it, or give each its own copy: a file system that changes under a "
				    "reader makes no sense to it";
	char name[64];

	if (pid == getpid())
		return err_set(e, -EAGAIN,
			       "%s is given twice\nGive each disk its own copy, or share the image "
			       "with ro on both",
			       path);
	if (pid <= 0)
		return err_set(e, -EAGAIN, "%s is in use by another process\n%s", path, hint);
	name_of(pid, name, sizeof(name));
	return err_set(e, -EAGAIN, "%s is in use by process %d (%s)\n%s", path, (int)pid, name, hint);
}

static int try_lock(int fd, struct marks m, pid_t *pid)
{
	int rc = set_marks(fd, m);

	if (!rc)
		rc = check_marks(fd, m, pid);
	if (rc)
		file_unlock(fd);
	return rc;
}

/* 0 also where the file system has no such locks.  -EAGAIN: somebody else has it, who is in e. */
int file_lock(int fd, const char *path, bool writer, struct err *e)
{
	struct marks m = marks_of(writer);
	pid_t pid = -1;
	int rc;

	/* A process that was killed is gone before its io_uring is, which holds the file open meanwhile. */
	for (unsigned i = 0; (rc = try_lock(fd, m, &pid)) == 1; i++) {
		if (pid <= 0)
			pid = find_holder(fd);
		if (pid > 0 || i == LOCK_TRIES)
			return in_use(path, writer, pid, e);
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	if (rc)
		log_info("%s: no image lock: %s", path, strerror(-rc));
	return 0;
}

void file_unlock(int fd)
{
	set(fd, F_UNLCK, USES_BASE, BYTES_SPAN);
}
