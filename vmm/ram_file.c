/* #syscalls[setup]: openat memfd_create fsopen fsconfig fsmount unlinkat clone wait4 prctl */
/* Theory of operation: a memfd has pages of 4 KiB unless the host's shmem_enabled says otherwise, and hardly
 * any host's does.  A tmpfs that is mounted with huge= has large ones everywhere.  So, where a memfd has none,
 * RAM is a file of a tmpfs of its own, which is mounted nowhere and goes with its last descriptor.  What that
 * costs is the seals: only memfds have them, and a sharer who cuts this file ends the VM (vmm/crash.c), and
 * whoever else maps it and is not prepared, instead of being refused. */
#include "vmm/ram_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/config.h"

#define MIB  (1ull << 20)
#define NAME "ringlet-ram" /* what /proc/PID/maps shows */

static int memfd_open(const struct mem_config *cfg, struct err *e)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd;

	if (cfg->hugepage_size)
		flags |= MFD_HUGETLB | (unsigned)__builtin_ctzll(cfg->hugepage_size) << MFD_HUGE_SHIFT;
	fd = memfd_create(NAME, flags);
	if (fd < 0 && errno == ENODEV)
		return err_set(e, -ENODEV, "--mem: this kernel has no huge pages of %llu MiB",
			       (unsigned long long)(cfg->hugepage_size / MIB));
	if (fd < 0)
		return err_set(e, -errno, "--mem: memfd_create: %s", strerror(errno));
	return fd;
}

/* --- a tmpfs of our own --- */

/* -1: not here, or not by us. */
static int tmpfs_open(void)
{
	CLEANUP_FD int mount = -1;
	CLEANUP_FD int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd;

	/* within_size: no large page for a smaller rest.  size=0: as much as there is, as for a memfd. */
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "huge", "within_size", 0) ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", "0", 0) ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -1;
	mount = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (mount < 0)
		return -1;
	fd = openat(mount, NAME, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		unlinkat(mount, NAME, 0);
	return fd;
}

static bool write_file(const char *path, const char *text)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* Who may not mount may in a user namespace, where the host lets everybody have one.  A process goes there
 * and opens the file as ours: descriptors are common to both.  Without SIGCHLD, which we may ignore, and then
 * would not hear how it ended. */
static int tmpfs_open_namespaced(void)
{
	const int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_FILES;
	CLEANUP_FD int place = open("/dev/null", O_RDWR | O_CLOEXEC);
	char uid[32], gid[32];
	int status = -1;
	pid_t pid;

	if (place < 0)
		return -1;
	snprintf(uid, sizeof(uid), "0 %u 1", geteuid());
	snprintf(gid, sizeof(gid), "0 %u 1", getegid());
	pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
	if (pid < 0)
		return -1;
	if (!pid) {
		int fd = -1;

		if (write_file("/proc/self/uid_map", uid) && write_file("/proc/self/setgroups", "deny") &&
		    write_file("/proc/self/gid_map", gid))
			fd = tmpfs_open();
		status = fd < 0 || dup3(fd, place, O_CLOEXEC) < 0;
		cleanup_fd_(&fd); /* it would stay open in us */
		_exit(status);
	}
	while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? steal_fd(&place) : -1;
}

/* --- path= --- */

/* A file without a name in the user's directory: nothing is left behind however we end. */
static int path_open(const struct mem_config *cfg, uint64_t *page_size, struct err *e)
{
	CLEANUP_FD int fd = -1;
	struct statfs fs;

	if (statfs(cfg->path, &fs))
		return err_set(e, -errno, "--mem: path=%s: %s", cfg->path, strerror(errno));
	if (fs.f_type == HUGETLBFS_MAGIC) {
		*page_size = (uint64_t)fs.f_bsize;
		if (cfg->hugepage_size && cfg->hugepage_size != *page_size)
			return err_set(e, -EINVAL,
				       "--mem: path=%s is mounted with pages of %llu MiB, but hugepages=%lluM "
				       "was asked for\nLeave hugepages= out, or: mount -t hugetlbfs -o "
				       "pagesize=%lluM none DIR",
				       cfg->path, (unsigned long long)(*page_size / MIB),
				       (unsigned long long)(cfg->hugepage_size / MIB),
				       (unsigned long long)(cfg->hugepage_size / MIB));
	} else if (cfg->hugepage_size) {
		return err_set(e, -EINVAL,
			       "--mem: path=%s is not a hugetlbfs mount, but hugepages were asked for\n"
			       "Leave path= out, or: mount -t hugetlbfs -o pagesize=%lluM none %s",
			       cfg->path, (unsigned long long)(cfg->hugepage_size / MIB), cfg->path);
	}
	fd = open(cfg->path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
		CLEANUP_FREE char *name = NULL;

		if (asprintf(&name, "%s/ringlet-ram-XXXXXX", cfg->path) < 0)
			return err_set(e, -ENOMEM, "--mem: out of memory");
		fd = mkostemp(name, O_CLOEXEC);
		if (fd >= 0)
			unlink(name);
	}
	if (fd < 0)
		return err_set(e, -errno, "--mem: cannot make a file in path=%s: %s", cfg->path,
			       strerror(errno));
	return steal_fd(&fd);
}

int ram_file_check_size(uint64_t size, uint64_t page_size, struct err *e)
{
	if (size % page_size)
		return err_set(e, -EINVAL, "--mem: %llu MiB is not a multiple of the page size, %llu MiB",
			       (unsigned long long)(size / MIB), (unsigned long long)(page_size / MIB));
	return 0;
}

static int size_to(int fd, const struct mem_config *cfg, struct err *e)
{
	if (!ftruncate(fd, (off_t)cfg->size))
		return 0;
	return err_set(e, -errno, "--mem: cannot make a file of %llu MiB: %s",
		       (unsigned long long)(cfg->size / MIB), strerror(errno));
}

static bool has_large_pages(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_blksize >= (blksize_t)(2 * MIB);
}

/* -1: they are not to be had. */
static int large_open(const struct mem_config *cfg)
{
	/* A list of system calls may end who asks for one that is not on it: then better not us. */
	CLEANUP_FD int fd = prctl(PR_GET_SECCOMP) > 0 ? -1 : tmpfs_open();

	if (fd < 0)
		fd = tmpfs_open_namespaced();
	if (fd < 0 || size_to(fd, cfg, NULL) || !has_large_pages(fd))
		return -1;
	return steal_fd(&fd);
}

static int seal(int fd, struct err *e)
{
	/* A sharer that shrinks the file would take the guest's RAM away. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return err_set(e, -errno, "--mem: cannot seal the memfd: %s", strerror(errno));
	return 0;
}

int ram_file_open(const struct mem_config *cfg, uint64_t *page_size, struct err *e)
{
	CLEANUP_FD int fd = cfg->path ? path_open(cfg, page_size, e) : memfd_open(cfg, e);
	int rc;

	if (fd < 0)
		return fd;
	rc = ram_file_check_size(cfg->size, *page_size, e);
	rc = rc ? rc : size_to(fd, cfg, e);
	if (rc)
		return rc;
	if (cfg->path)
		return steal_fd(&fd);
	if (cfg->thp && !cfg->hugepage_size && !has_large_pages(fd)) {
		const int large = large_open(cfg);

		if (large >= 0)
			return large;
		log_info("memory: in pages of 4 KiB; this host has no larger ones for it (ringlet doctor: "
			 "shmem_enabled)");
	}
	rc = seal(fd, e);
	return rc ? rc : steal_fd(&fd);
}

bool ram_file_large(void)
{
	const struct mem_config cfg = {.size = 2 * MIB, .share = true, .thp = true};
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	CLEANUP_FD int fd = ram_file_open(&cfg, &page_size, NULL);

	return fd >= 0 && has_large_pages(fd);
}
