#include "compare/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compare/host_private.h"
#include "compare/process.h"
#include "compare/process_spawn.h"
#include "lib/cleanup.h"
#include "lib/log.h"

/* Directories that are there on every host.  The first that is empty is where our tmpfs comes: nothing is
 * hidden by it, and nothing of it is left. */
static const char *const places[] = {
	"/mnt",     "/media",           "/srv",           "/opt",       "/var/local",
	"/var/opt", "/usr/local/games", "/usr/local/src", "/usr/games",
};

static bool is_empty(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *entry;
	bool empty = true;

	if (!d)
		return false;
	while (empty && (entry = readdir(d)))
		empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	closedir(d);
	return empty;
}

static bool find_place(struct host *h)
{
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (lstat(places[i], &st) || !S_ISDIR(st.st_mode) || !is_empty(places[i]))
			continue;
		snprintf(h->dir, sizeof(h->dir), "%s", places[i]);
		return true;
	}
	return false;
}

static int make_dir(struct host *h, struct err *e)
{
	static const char *const names[] = {"/dev/shm/ringlet-compare-XXXXXX", "/tmp/ringlet-compare-XXXXXX"};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		strcpy(h->dir, names[i]);
		if (mkdtemp(h->dir)) {
			h->made_dir = true;
			return 0;
		}
		rc = -errno;
	}
	h->dir[0] = '\0';
	return err_set(e, rc, "no directory can be made in /dev/shm or /tmp: %s", strerror(-rc));
}

/* --- namespaces --- */

static int write_file(const char *path, const char *text)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* Root in there is the user out here. */
static int map_user(uid_t uid, gid_t gid)
{
	char text[64];
	int rc;

	write_file("/proc/self/setgroups", "deny"); /* older kernels have none */
	snprintf(text, sizeof(text), "0 %u 1", (unsigned)uid);
	rc = write_file("/proc/self/uid_map", text);
	snprintf(text, sizeof(text), "0 %u 1", (unsigned)gid);
	return rc ? rc : write_file("/proc/self/gid_map", text);
}

static int mount_own(const struct host *h)
{
	/* What is mounted and unmounted outside still happens here, but not the other way round. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) ||
	    mount("ringlet-compare", h->dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755"))
		return -errno;
	return 0;
}

/* The namespaces, and the tmpfs on h->dir.  h->root: without a user namespace. */
static int enter(void *arg)
{
	const struct host *h = arg;
	const uid_t uid = geteuid();
	const gid_t gid = getegid();
	int rc = 0;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS | (h->root ? 0 : CLONE_NEWUSER)))
		return -errno;
	if (!h->root)
		rc = map_user(uid, gid);
	rc = rc ? rc : mount_own(h);
	return rc ? rc : host_link_up("lo");
}

/* In a child first: some hosts let a user have a user namespace and nothing in it, and there is no way back. */
static int enter_if_possible(struct host *h)
{
	int rc = -EPERM;

	h->root = !geteuid();
	if (h->root)
		rc = process_try(enter, h);
	if (rc) {
		h->root = false;
		rc = process_try(enter, h);
	}
	return rc ? rc : enter(h);
}

static long read_number(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[32];
	const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return -1;
	text[n] = '\0';
	return strtol(text, NULL, 10);
}

int host_tell_refused(const struct host *h, struct err *e)
{
	const char *mend = "run it as root; in a container: --privileged";

	if (!geteuid())
		mend = "it takes CAP_SYS_ADMIN; in a container: --privileged";
	else if (!read_number("/proc/sys/kernel/unprivileged_userns_clone"))
		mend = "run it as root; or let users do it: sysctl kernel.unprivileged_userns_clone=1";
	else if (read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
		mend = "run it as root; or let users do it: sysctl "
		       "kernel.apparmor_restrict_unprivileged_userns=0";
	else if (!read_number("/proc/sys/user/max_user_namespaces"))
		mend = "run it as root; or let users do it: sysctl user.max_user_namespaces=10000";
	return err_set(e, h->refused, "a tap of its own takes a network namespace of its own: unshare: %s\n%s",
		       strerror(-h->refused), mend);
}

/* --- */

/* As a file, since the programs that are started see neither our descriptors nor our /proc. */
static void show_outside(const struct host *h)
{
	char file[80], link[40];
	CLEANUP_FD int fd = -1;

	snprintf(file, sizeof(file), "%s/.outside", h->dir);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", h->outside);
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || mount(link, file, NULL, MS_BIND, NULL) || setenv(HOST_OUTSIDE, file, 1))
		log_debug("compare: the host's network namespace cannot be shown: %s", strerror(errno));
}

int host_new(struct host *h, struct err *e)
{
	CLEANUP_FD int outside = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int rc = 0;

	*h = (struct host){.outside = -1};
	if (!find_place(h))
		rc = make_dir(h, e);
	if (rc)
		return rc;
	h->refused = enter_if_possible(h);
	if (h->refused) {
		h->root = false;
		return h->made_dir ? 0 : make_dir(h, e);
	}
	h->own_net = true;
	h->outside = steal_fd(&outside);
	if (h->root)
		show_outside(h);
	rc = process_confine();
	if (rc)
		log_debug("compare: no PID namespace: %s", strerror(-rc));
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	remove(path);
	return 0;
}

void host_free(struct host *h)
{
	if (!h->dir[0])
		return;
	if (h->own_net) {
		host_tap_del(h);
		unsetenv(HOST_OUTSIDE);
		umount2(h->dir, MNT_DETACH);
		close(steal_fd(&h->outside));
	}
	if (h->made_dir)
		nftw(h->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	h->dir[0] = '\0';
	h->own_net = false;
}
