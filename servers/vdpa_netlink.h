/* `vdpa dev add` and `vdpa dev del`, of devices that VDUSE manages (Linux, include/uapi/linux/vdpa.h). */
#ifndef SERVERS_VDPA_NETLINK_H
#define SERVERS_VDPA_NETLINK_H
#include <stddef.h>

/* Both wait for the kernel, and it for drivers that take or leave the device: whoever serves it must be
 * answering meanwhile, on another thread.  0, or -errno: -EPERM without CAP_NET_ADMIN, -EOPNOTSUPP without
 * vDPA.  why, of len bytes: what the kernel says beside the number, or "". */
int vdpa_dev_add(const char *name, char *why, size_t len);
/* Waits until nobody has the device's file open: ask first. */
int vdpa_dev_del(const char *name, char *why, size_t len);
#endif
