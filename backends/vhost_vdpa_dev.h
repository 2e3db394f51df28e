/* The device behind /dev/vhost-vdpa-N, call by call: what vhost_vdpa*.c share.  Nothing here remembers queues.
 */
#ifndef BACKENDS_VHOST_VDPA_DEV_H
#define BACKENDS_VHOST_VDPA_DEV_H
#include <linux/vhost.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/vhost_vdpa.h"

#define VDPA_MAX_QUEUES 64
#define VDPA_MAX_CONFIG 256 /* bytes; no type of device has as many */

struct vdpa_dev {
	const struct vhost_vdpa_sys *sys;
	const char *name, *path;
	const char *device; /* for traces */
	int fd;
	uint32_t device_id;
	unsigned nqueues;
	uint16_t max_size;
	size_t config_len;
	uint64_t features; /* all it offers */
	uint64_t backend;  /* VHOST_BACKEND_F_*, as bits, that were agreed on */
	unsigned nmapped;  /* regions; those of the first that was mapped come first */
};

/* Fills in d from o and the kernel's answers.  0, or -errno with a sentence in e; d->fd is then -1. */
int vdpa_dev_open(struct vdpa_dev *d, const struct vhost_vdpa_options *o, struct err *e);

/* 0 or -errno. */
int vdpa_call(const struct vdpa_dev *d, unsigned long request, void *arg);
int vdpa_vring_state(const struct vdpa_dev *d, unsigned long request, unsigned index, unsigned num);
int vdpa_vring_fd(const struct vdpa_dev *d, unsigned long request, unsigned index, int fd);
int vdpa_config_call(const struct vdpa_dev *d, int fd);

/* VHOST_VDPA_GET_CONFIG or SET_CONFIG.  0; -EINVAL: not all of it is within VDPA_MAX_CONFIG. */
int vdpa_config(const struct vdpa_dev *d, unsigned long request, size_t off, void *buf, size_t len);

/* The device's status, or -errno. */
int vdpa_status(const struct vdpa_dev *d);
/* 0 resets.  The kernel does not say when a device refuses a bit, so it is read again: -EIO. */
int vdpa_set_status(const struct vdpa_dev *d, uint8_t status);

/* Maps all of mem, read and write; 0, or -errno and nothing is mapped. */
int vdpa_map(struct vdpa_dev *d, const struct guest_mem *mem);
/* What was mapped.  Where the device is a VDUSE daemon it has also finished with the status it was sent before.
 */
void vdpa_unmap(struct vdpa_dev *d, const struct guest_mem *mem);
#endif
