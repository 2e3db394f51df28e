/* The VDUSE wire (Linux, Documentation/userspace-api/vduse.rst): a device of ours that the kernel shows to
 * others as a vDPA device, /dev/vhost-vdpa-N.  The kernel asks for a status, a ring's position or news of
 * memory by messages on the device's file, and gives up a device that leaves one without an answer for half a
 * minute.
 *
 * What it cannot: a configuration space that drivers write, and so a control queue of a card; another status
 * than the driver's, so a broken ring stands still and nobody is told; in-flight buffers. */
#ifndef SERVERS_VDUSE_SERVER_H
#define SERVERS_VDUSE_SERVER_H
#include "servers/server.h"

/* Makes the device c->vduse, serves it and puts it on the bus.  0, or -errno with a sentence in e and nothing
 * left behind. */
int vduse_server_new(struct server **out, const struct server_config *c, struct err *e);

/* As ioctl(). */
typedef int vduse_ioctl(int fd, unsigned long request, void *arg);

/* Serves a device that is there: fd, which becomes the server's, is its file, and calls go through fn.  For
 * tests. */
int vduse_server_on(struct server **out, const struct server_config *c, int fd, vduse_ioctl *fn, struct err *e);
#endif
