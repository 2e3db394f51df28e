// SPDX-License-Identifier: MIT
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOWER  "/ringlet/lower"
#define MEMORY "/ringlet/memory"
#define ROOT   "/ringlet/root"

#define ROOT_TAG     "ringlet.root" /* vmm/root_source.h has these as well */
#define ROOT_SERIAL  "ringlet-root"
#define DISK_WAIT_MS 2000

static bool root_writable, root_entered;

/* --- the directories of the host's --- */

static const char *why_no_virtiofs(int err)
{
	if (err == ENODEV)
		return "; the kernel has no virtiofs: build it with CONFIG_FUSE_FS=y CONFIG_VIRTIO_FS=y, or "
		       "name its "
		       "modules with --modules DIR";
	if (err == EINVAL)
		return "; the kernel has not found the device: build it with CONFIG_VIRTIO_PCI=y (or name its "
		       "modules with "
		       "--modules DIR)";
	return "";
}

static bool mount_virtiofs(const char *tag, const char *dir, bool writable)
{
	const unsigned long flags = writable ? 0 : MS_RDONLY;

	if (mount(tag, dir, "virtiofs", flags, NULL) == 0)
		return true;
	complain("%s cannot be mounted on %s: %s%s", tag, dir, strerror(errno), why_no_virtiofs(errno));
	return false;
}

static bool make_dirs(const char *path)
{
	char dir[PATH_MAX];
	size_t len = strlen(path);

	if (len >= sizeof(dir))
		return false;
	memcpy(dir, path, len + 1);
	for (size_t i = 1; i <= len; i++) {
		char c = dir[i];

		if (c != '/' && c != '\0')
			continue;
		dir[i] = '\0';
		if (mkdir(dir, 0755) < 0 && errno != EEXIST && access(dir, F_OK) < 0)
			return false;
		dir[i] = c;
	}
	return true;
}

/* "ro PATH" */
static bool mount_share(int index, const char *share)
{
	const char *path = share + 3;
	char tag[32];

	snprintf(tag, sizeof(tag), "ringlet.share%d", index);
	if (!make_dirs(path)) {
		complain("%s for a share cannot be made: %s", path, strerror(errno));
		return false;
	}
	return mount_virtiofs(tag, path, !strncmp(share, "rw", 2));
}

/* --- the image --- */

static bool find_disk(char name[64])
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	bool found = false;

	while (!found && dir && (entry = readdir(dir))) {
		char path[300], serial[32] = "";
		int fd;

		snprintf(path, sizeof(path), "/sys/block/%s/serial", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		found = read(fd, serial, sizeof(serial) - 1) > 0 &&
			!strncmp(serial, ROOT_SERIAL, strlen(ROOT_SERIAL));
		close(fd);
		if (found)
			snprintf(name, 64, "%.40s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool wait_for_file(const char *path)
{
	for (int ms = 0; ms < DISK_WAIT_MS; ms++) {
		if (access(path, F_OK) == 0)
			return true;
		usleep(1000);
	}
	return false;
}

/* Of a file system that was not left cleanly, on a disk that cannot be written. */
static const char *without_log(const char *type)
{
	if (!strcmp(type, "ext4"))
		return "noload";
	if (!strcmp(type, "xfs"))
		return "norecovery";
	return !strcmp(type, "btrfs") ? "rescue=nologreplay" : NULL;
}

static bool mount_disk(const char *dir, const char *type, unsigned part, bool writable)
{
	const unsigned long flags = writable ? 0 : MS_RDONLY;
	char name[64], path[80];
	int err;

	if (!find_disk(name)) {
		complain("the root's disk is not there; the kernel needs CONFIG_VIRTIO_PCI=y and "
			 "CONFIG_VIRTIO_BLK=y, or "
			 "--modules DIR with its modules");
		return false;
	}
	snprintf(path, sizeof(path), part ? "/dev/%s%u" : "/dev/%s", name, part);
	if (!wait_for_file(path)) {
		complain("the root's disk has no partition %u (%s)", part, path);
		return false;
	}
	if (mount(path, dir, type, flags, NULL) == 0)
		return true;
	err = errno;
	if (err == EROFS && without_log(type) && mount(path, dir, type, flags, without_log(type)) == 0) {
		complain("the root's file system was not left cleanly; what only its log has is not seen");
		return true;
	}
	complain("the root, %s on %s, cannot be mounted: %s%s", type, path, strerror(err),
		 err == ENODEV ? "; the kernel has no such file system: name its modules with --modules DIR"
			       : "");
	return false;
}

/* --- entering --- */

static bool mount_root(const char *dir, const char *type, unsigned part)
{
	if (!strcmp(type, "virtiofs"))
		return mount_virtiofs(ROOT_TAG, dir, root_writable);
	return mount_disk(dir, type, part, root_writable);
}

/* What is written stays in the guest's memory. */
static bool cover(void)
{
	static const char options[] = "lowerdir=" LOWER ",upperdir=" MEMORY "/data,workdir=" MEMORY "/scratch";

	if (mount("tmpfs", MEMORY, "tmpfs", 0, "mode=0755") < 0) {
		complain("a tmpfs for what is written to the root: %s", strerror(errno));
		return false;
	}
	mkdir(MEMORY "/data", 0755);
	mkdir(MEMORY "/scratch", 0755);
	if (mount("overlay", ROOT, "overlay", 0, options) == 0)
		return true;
	complain("the root cannot be covered by an overlay: %s%s", strerror(errno),
		 errno == ENODEV ? "; build the kernel with CONFIG_OVERLAY_FS=y, name its modules with "
				   "--modules DIR, or let "
				   "the guest write: --root ...,rw"
				 : "");
	return false;
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return path && !strncmp(path, dir, len) && (path[len] == '/' || path[len] == '\0');
}

static bool move_mounts(void)
{
	static const char *const dirs[] = {"/dev", "/proc", "/sys", "/run", "/tmp"};

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		char path[64];

		/* Below an overlay the root's own /tmp is as good, and what the host has there is seen. */
		if (!strcmp(dirs[i], "/tmp") && (!root_writable || is_below(plan_value("cwd", 0), "/tmp")))
			continue;
		snprintf(path, sizeof(path), ROOT "%s", dirs[i]);
		if (mkdir(path, 0755) < 0 && errno != EEXIST) {
			complain("the root has no %s, and it cannot be made: %s", dirs[i], strerror(errno));
			return false;
		}
		if (mount(dirs[i], path, NULL, MS_MOVE, NULL) < 0) {
			complain("%s cannot be moved into the root: %s", dirs[i], strerror(errno));
			return false;
		}
	}
	return true;
}

/* As switch_root does it: the initramfs cannot be unmounted, only covered. */
static bool change_root(void)
{
	if (chdir(ROOT) == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 &&
	    chdir("/") == 0)
		return true;
	complain("the root cannot be entered: %s", strerror(errno));
	return false;
}

/* "ro virtiofs", "rw ext4 1" */
static bool enter(const char *plan)
{
	char mode[4] = "", type[16] = "";
	unsigned part = 0;

	if (sscanf(plan, "%3s %15s %u", mode, type, &part) < 2) {
		complain("%s: \"root %s\" is not understood", PLAN_FILE, plan);
		return false;
	}
	root_writable = !strcmp(mode, "rw");
	mkdir(LOWER, 0755);
	mkdir(MEMORY, 0755);
	mkdir(ROOT, 0755);
	if (!mount_root(root_writable ? ROOT : LOWER, type, part) || (!root_writable && !cover()))
		return false;
	if (!move_mounts() || !change_root())
		return false;
	root_entered = true;
	mount_more();
	return true;
}

bool root_enter(void)
{
	const char *root = plan_value("root", 0), *share;

	if (root && !enter(root))
		return false;
	for (int i = 0; (share = plan_value("share", i)); i++)
		if (!mount_share(i, share))
			return false;
	name_host();
	net_up(!root_writable);
	return true;
}

/* What is read-only has nothing to lose. */
void root_leave(void)
{
	const char *share;

	for (int i = 0; (share = plan_value("share", i)); i++)
		if (!strncmp(share, "rw ", 3) && umount2(share + 3, 0) < 0 && errno == EBUSY)
			complain("%s is still in use; what was written there is written, though", share + 3);
	if (!root_entered || !root_writable)
		return;
	sync();
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
}
