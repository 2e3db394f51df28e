/* A virtio device of the kernel's vDPA bus, through /dev/vhost-vdpa-N: a network card, or a daemon behind
 * VDUSE.
 *
 * Which queues.  A vDPA device starts and stops as a whole: the kernel refuses addresses and positions once
 * DRIVER_OK is set (since 6.8), and no packaged device can suspend or enable a queue late.  So when some of the
 * queues stop, or more are started beside those that run, all are stopped, the device is reset, and the rest
 * goes on where it was.  That is the one way which every device has; VHOST_VDPA_RESUME and
 * ENABLE_AFTER_DRIVER_OK are therefore not used, SUSPEND is.  The others' pause is that of a stop().  If they
 * cannot go on, failed() is called.
 *
 * Stopping.  Kicks are unbound; then the device is suspended where it can be, else waited for until it has
 * given back what it has taken and rests, at most drain_ms (some daemons abort when they are reset with
 * requests in flight).  The reset comes last.  A split ring's position is then its used index, a packed one's
 * what the device has answered.  queue.lost is set where requests were still in flight when the time was up,
 * and on a packed ring whose position nobody tells or that has moved since.
 *
 * DPDK's VDUSE device starts only if all of its queues are started; and its packed positions are wrong.
 *
 * Death.  The kernel keeps a VDUSE device whose daemon has died, and tells nobody.  A daemon that returns goes
 * on from its own log, and neither guest nor we notice.  A start(), stop() or open while it is away waits as
 * long as VDUSE says (/sys/class/vduse/NAME/msg_timeout, 30 s); if it is not back by then VDUSE gives the
 * device up for good: start() fails with -EIO, stop() takes the positions from guest memory.  A device that
 * sets NEEDS_RESET itself is reported by failed().
 *
 * Memory.  The guest's addresses are the device's (IOVA = GPA).  From the first start() to the last stop() the
 * memory is mapped and guest_mem_pin() holds: the datapath makes that call itself. */
#ifndef BACKENDS_VHOST_VDPA_H
#define BACKENDS_VHOST_VDPA_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "devices/virtio/datapath.h"
#include "lib/err.h"

struct evloop;

/* How the kernel is called; each returns as the call does, with errno.  For tests and tracing. */
struct vhost_vdpa_sys {
	int (*open)(const char *path, int flags);
	int (*ioctl)(int fd, unsigned long request, void *arg);
	ssize_t (*write)(int fd, const void *buf, size_t len);
};

struct vhost_vdpa_options {          /* the kernel has a struct vhost_vdpa_config */
	const char *name;            /* begins each message: "--disk" */
	const char *device;          /* "disk0": for traces; NULL: as name */
	const char *path;            /* /dev/vhost-vdpa-N */
	const int *fd;               /* instead: path, opened by somebody else (only named in messages then) */
	const struct guest_mem *mem; /* checked here: shared, and within what the device can address; or NULL */
	struct evloop *loop;         /* the device's: start(), stop() and events are on its thread */
	uint32_t device_type;        /* VIRTIO_ID_*: the device must be this; 0: whatever it is */
	/* A network device whose control queue is ours: its own is hidden from the driver and not used, and
	 * without it only the first pair can be.  The datapath is then silent on the bits of that queue, and on
	 * MAC and STATUS, as the configuration space that the driver sees is not the device's either. */
	bool own_ctrl;
	unsigned drain_ms;                /* 0: 5000 */
	unsigned settle_ms;               /* so long a device must take nothing to count as idle; 0: 20 */
	const struct vhost_vdpa_sys *sys; /* NULL: the kernel */
};

/* Opens and resets the device.  Strings, mem, loop and sys outlive the datapath.  0, or -errno with a sentence
 * in e that says what to run; *o->fd is then still the caller's. */
int vhost_vdpa_new(struct datapath **dp, const struct vhost_vdpa_options *o, struct err *e);
/* A network device's own address.  False: it has none. */
bool vhost_vdpa_mac(struct datapath *dp, uint8_t mac[6]);

uint32_t vhost_vdpa_device_type(const struct datapath *dp); /* VIRTIO_ID_* of what was opened */
#endif
