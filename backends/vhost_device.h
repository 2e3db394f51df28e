/* A device that is the kernel's alone: vsock, SCSI.  There is nothing of ours beside it, so it has a say in
 * every feature.  It is one open file, with one switch for all vrings, and a configuration space that stays as
 * it was made. */
#ifndef BACKENDS_VHOST_DEVICE_H
#define BACKENDS_VHOST_DEVICE_H
#include <stddef.h>
#include <stdint.h>

#include "backends/vhost_kernel.h"
#include "devices/virtio/datapath.h"
#include "lib/err.h"

/* The first member of what calloc() gave. */
struct vhost_device {
	/* Set before vhost_device_open(): */
	const char *kind;       /* "vhost-vsock": the datapath's name */
	uint32_t id;            /* VIRTIO_ID_ */
	const void *config;     /* the configuration space; lives as long as the device */
	size_t config_len;      /* bytes */
	struct vhost_kernel vk; /* but dp and whole */

	/* Filled in: */
	struct datapath dp;
	struct datapath_ops ops;
};

/* From now on dp is a datapath.  Its destroy() closes the device and frees what it is the first member of.
 * 0, or -errno with a sentence in e and nothing to undo but calloc(). */
int vhost_device_open(struct vhost_device *d, struct err *e);
#endif
