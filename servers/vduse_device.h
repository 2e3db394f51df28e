/* A VDUSE device's place in the system: made, put on the vDPA bus for vhost_vdpa to take, and removed again
 * (Linux, Documentation/userspace-api/vduse.rst).  What is said through it is vduse_server.c's. */
#ifndef SERVERS_VDUSE_DEVICE_H
#define SERVERS_VDUSE_DEVICE_H
#include <linux/vduse.h>
#include <stdbool.h>

#include "lib/err.h"

#define VDUSE_NAME_CHARS 63

struct vduse_device {
	char name[VDUSE_NAME_CHARS + 1];
	const char *who; /* in messages: "net", "blk" */
	int fd;          /* /dev/vduse/NAME, non-blocking; the caller's to use and to close */
	bool made, on_bus;
	char node[64]; /* /dev/vhost-vdpa-N, once attached */
};

/* Whether a device can have that name.  0, or -EINVAL with a sentence in e. */
int vduse_device_name(const char *name, struct err *e);

/* Makes a device called d->name of *config, whose name is filled in here, and opens it.  One of that name that
 * a process left behind is removed first.  0, or -errno with a sentence in e and nothing made. */
int vduse_device_make(struct vduse_device *d, struct vduse_dev_config *config, struct err *e);
/* Puts it on the bus, and finds d->node.  Its queues are set up, and its requests are being answered on another
 * thread.  0, or -errno with a sentence in e; it may be on the bus then. */
int vduse_device_attach(struct vduse_device *d, struct err *e);
/* Somebody has d->node open.  Requests are being answered. */
bool vduse_device_held(const struct vduse_device *d);
/* Takes it off the bus.  Requests are being answered.  False: it stays there, since somebody holds it. */
bool vduse_device_detach(struct vduse_device *d);
/* Removes it, d->fd closed before.  Nothing where it was not made, or is on the bus still. */
void vduse_device_unmake(struct vduse_device *d);
#endif
