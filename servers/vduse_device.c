/* #syscalls[server]: openat ioctl readlink getdents64 write close nanosleep */
#include "servers/vduse_device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "servers/vdpa_netlink.h"

#define CONTROL    "/dev/vduse/control"
#define DRIVER     "/sys/bus/vdpa/drivers/vhost_vdpa"
#define DEVICES    "/sys/bus/vdpa/devices"
#define NODE       "vhost-vdpa-"
#define PATIENCE   10 /* seconds for a node to appear */
#define NAP_NS     (20 * 1000 * 1000)
#define STALE_WAIT "1" /* seconds for requests that nobody will answer */

int vduse_device_name(const char *name, struct err *e)
{
	const size_t len = strlen(name);

	if (!len || len > VDUSE_NAME_CHARS || strpbrk(name, "/ \t\n") || !strcmp(name, ".") ||
	    !strcmp(name, "..") || !strcmp(name, "control"))
		return err_set(
			e, -EINVAL,
			"\"%s\" cannot be the name of a VDUSE device: 1 to %d bytes, no slash or space, not "
			"\"control\"",
			name, VDUSE_NAME_CHARS);
	return 0;
}

/* --- the bus --- */

static bool write_text(const char *path, const char *text)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static bool is_on_bus(const char *name)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), DEVICES "/%s", name);
	return !access(dir, F_OK);
}

static bool find_node(const char *name, char *node, size_t len)
{
	char dir[PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *d;

	snprintf(dir, sizeof(dir), DEVICES "/%s", name);
	d = opendir(dir);
	while (d && !found && (entry = readdir(d))) {
		if (strncmp(entry->d_name, NODE, strlen(NODE)))
			continue;
		snprintf(node, len, "/dev/%.40s", entry->d_name);
		found = !access(node, F_OK);
	}
	if (d)
		closedir(d);
	return found;
}

/* To open it resets it, which its server is asked for; where it is held nothing happens. */
static bool is_open(const char *node)
{
	CLEANUP_FD int fd = open(node, O_RDWR | O_CLOEXEC);

	return fd < 0 && errno == EBUSY;
}

static bool is_bound(const char *name)
{
	char path[PATH_MAX], driver[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), DEVICES "/%s/driver", name);
	n = readlink(path, driver, sizeof(driver) - 1);
	driver[n < 0 ? 0 : n] = '\0';
	return !strcmp(basename(driver), "vhost_vdpa");
}

/* The host's own virtio drivers take what comes first where they are loaded. */
static void give_to_vhost(const char *name)
{
	char path[PATH_MAX];

	if (is_bound(name))
		return;
	snprintf(path, sizeof(path), DEVICES "/%s/driver/unbind", name);
	write_text(path, name);
	snprintf(path, sizeof(path), DEVICES "/%s/driver_override", name);
	write_text(path, "vhost_vdpa");
	write_text(DRIVER "/bind", name);
}

/* --- its making --- */

static int open_control(const struct vduse_device *d, struct err *e)
{
	int fd = open(CONTROL, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENXIO || errno == ENODEV)
		return err_set(e, -errno, "%s: vduse=%s: there is no " CONTROL "\nRun: modprobe vduse", d->who,
			       d->name);
	return err_set(e, -errno, "%s: vduse=%s: " CONTROL " cannot be opened: %s%s", d->who, d->name,
		       strerror(errno), errno == EACCES || errno == EPERM ? "\nRun it as root" : "");
}

static int destroy(int control, const char *name)
{
	char text[VDUSE_NAME_MAX] = "";

	snprintf(text, sizeof(text), "%s", name);
	return ioctl(control, VDUSE_DESTROY_DEV, text) ? -errno : 0;
}

static int open_device(const char *name)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "/dev/vduse/%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Requests to a device that nobody serves any more fail after that long, and not after half a minute. */
static void hurry(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/class/vduse/%s/msg_timeout", name);
	write_text(path, STALE_WAIT);
}

/* There is a device of that name: whose? */
static int remove_stale(const struct vduse_device *d, int control, struct err *e)
{
	char node[sizeof(d->node)], why[128] = "";
	int rc = 0, fd = open_device(d->name);

	if (fd == -EBUSY)
		return err_set(e, fd,
			       "%s: vduse=%s: another process serves a device of that name\nEnd that one "
			       "(fuser -v /dev/vduse/%s), or take another name",
			       d->who, d->name, d->name);
	if (fd >= 0)
		close(fd);
	hurry(d->name);
	if (is_on_bus(d->name)) {
		if (find_node(d->name, node, sizeof(node)) && is_open(node))
			return err_set(e, -EBUSY,
				       "%s: vduse=%s: the back end before has died, and a VM has %s still\n"
				       "End that VM (fuser -v %s), or take another name",
				       d->who, d->name, node, node);
		rc = vdpa_dev_del(d->name, why, sizeof(why));
	}
	if (!rc)
		rc = destroy(control, d->name);
	if (rc)
		return err_set(e, rc,
			       "%s: vduse=%s: what a back end before has left cannot be removed: %s\n"
			       "Run: vdpa dev del %s",
			       d->who, d->name, *why ? why : strerror(-rc), d->name);
	log_warn("%s: vduse=%s: removed what a back end before had left", d->who, d->name);
	return 0;
}

static int explain_make(const struct vduse_device *d, int rc, struct err *e)
{
	switch (rc) {
	case -EPERM:
		return err_set(e, rc,
			       "%s: vduse=%s: only root may make a VDUSE device of this kind (CAP_NET_ADMIN)",
			       d->who, d->name);
	case -EINVAL:
		return err_set(e, rc, "%s: vduse=%s: this kernel's VDUSE does not take such a device", d->who,
			       d->name);
	}
	return err_set(e, rc, "%s: vduse=%s: it cannot be made: %s", d->who, d->name, strerror(-rc));
}

int vduse_device_make(struct vduse_device *d, struct vduse_dev_config *config, struct err *e)
{
	const uint64_t version = 0; /* without groups of queues */
	CLEANUP_FD int control = open_control(d, e);
	int rc;

	if (control < 0)
		return control;
	if (access(DRIVER, F_OK))
		return err_set(e, -ENODEV,
			       "%s: vduse=%s: the kernel module vhost_vdpa is not loaded\nRun: modprobe "
			       "vhost_vdpa",
			       d->who, d->name);
	ioctl(control, VDUSE_SET_API_VERSION, &version); /* those that know no other do not mind */
	snprintf(config->name, sizeof(config->name), "%s", d->name);
	rc = ioctl(control, VDUSE_CREATE_DEV, config) ? -errno : 0;
	if (rc == -EEXIST) {
		rc = remove_stale(d, control, e);
		if (rc)
			return rc;
		rc = ioctl(control, VDUSE_CREATE_DEV, config) ? -errno : 0;
	}
	if (rc)
		return explain_make(d, rc, e);
	d->fd = open_device(d->name);
	if (d->fd < 0) {
		rc = d->fd;
		destroy(control, d->name);
		return err_set(e, rc, "%s: vduse=%s: /dev/vduse/%s cannot be opened: %s", d->who, d->name,
			       d->name, strerror(-rc));
	}
	d->made = true;
	return 0;
}

int vduse_device_attach(struct vduse_device *d, struct err *e)
{
	const struct timespec nap = {.tv_nsec = NAP_NS};
	char why[128];
	int rc = vdpa_dev_add(d->name, why, sizeof(why));

	if (rc)
		return err_set(e, rc, "%s: vduse=%s: it cannot be put on the vDPA bus: %s%s", d->who, d->name,
			       *why ? why : strerror(-rc), rc == -EPERM ? "\nRun it as root" : "");
	d->on_bus = true;
	give_to_vhost(d->name);
	for (unsigned i = 0; i < PATIENCE * (1000000000 / NAP_NS); i++) {
		if (find_node(d->name, d->node, sizeof(d->node)))
			return 0;
		nanosleep(&nap, NULL);
	}
	return err_set(e, -ENODEV,
		       "%s: vduse=%s: it is on the vDPA bus, but no /dev/" NODE "N comes of it within %d s\n"
		       "Run: ls -l " DEVICES "/%s/driver",
		       d->who, d->name, PATIENCE, d->name);
}

/* --- its end --- */

bool vduse_device_held(const struct vduse_device *d)
{
	char node[sizeof(d->node)];

	return d->on_bus && find_node(d->name, node, sizeof(node)) && is_open(node);
}

bool vduse_device_detach(struct vduse_device *d)
{
	char why[128];
	int rc;

	if (!d->on_bus)
		return true;
	if (vduse_device_held(d)) {
		log_warn("%s: vduse=%s is left behind: a VM has %s still, and goes on without its device\n"
			 "It is removed when a back end of that name is started after that VM",
			 d->who, d->name, d->node);
		hurry(d->name);
		return false;
	}
	rc = vdpa_dev_del(d->name, why, sizeof(why));
	d->on_bus = rc && is_on_bus(d->name);
	if (d->on_bus)
		log_warn("%s: vduse=%s cannot be taken off the vDPA bus: %s", d->who, d->name,
			 *why ? why : strerror(-rc));
	return !d->on_bus;
}

void vduse_device_unmake(struct vduse_device *d)
{
	struct err e;
	CLEANUP_FD int control = -1;
	int rc;

	if (!d->made || d->on_bus)
		return;
	control = open_control(d, &e);
	rc = control < 0 ? control : destroy(control, d->name);
	if (rc)
		log_warn("%s: vduse=%s cannot be removed: %s", d->who, d->name, strerror(-rc));
	d->made = false;
}
