/* The ioctls of vhost and vhost-vdpa by their names, with what they carry. */
#ifndef BACKENDS_VHOST_TRACE_H
#define BACKENDS_VHOST_TRACE_H

/* "SET_VRING_NUM", without the VHOST_ that all have; "?" for one that nobody here makes. */
const char *vhost_request_name(unsigned long request);
/* After the call, so that what was asked for is shown too.  arg: as the request has it; rc: 0 or -errno, with
 * which what only the kernel fills in is left out. */
void vhost_trace(const char *device, const char *protocol, unsigned long request, const void *arg, int rc);

void vhost_trace_open(const char *device, const char *protocol, const char *path, int rc);

struct vhost_msg_v2;
/* A message about the IOTLB, which is written and not an ioctl. */
void vhost_trace_iotlb(const char *device, const char *protocol, const struct vhost_msg_v2 *msg, int rc);
#endif
