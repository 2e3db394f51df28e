/* The kernel's SCSI target walks the rings of a SCSI host: /dev/vhost-scsi.  It serves all of them: control
 * (0), events (1), and requests from 2 on, and answers for the configuration space (virtio 1.3, 5.6.4).
 *
 * What disks there are is set up in configfs, for instance by targetcli, under a name (WWPN); all target portal
 * groups of that name are the guest's, each a target of its own by its tag. */
#ifndef BACKENDS_VHOST_SCSI_H
#define BACKENDS_VHOST_SCSI_H
#include <stdint.h>

#include "devices/virtio/datapath.h"
#include "lib/err.h"
#include "vmm/evloop.h"

#define VHOST_SCSI_PATH           "/dev/vhost-scsi"
#define VHOST_SCSI_FIXED_QUEUES   2 /* control and events */
#define VHOST_SCSI_MAX_REQUEST_QS 62

struct vhost_scsi_config {
	const char *name;    /* "scsi0"; outlives the datapath */
	const char *wwpn;    /* "naa.5001405..." */
	uint16_t tpgt;       /* the kernel ignores it since 2013, and has all */
	unsigned nrequest;   /* request queues, 1 to VHOST_SCSI_MAX_REQUEST_QS; the device has 2 more */
	uint16_t queue_size; /* entries, for what the driver is told of limits; 0: 128 */
	struct evloop *loop; /* the device's */
	const char *path;    /* NULL: VHOST_SCSI_PATH; outlives the datapath */
};

/* The target is tried here, so that what is wrong with it is said before the guest runs.
 * NULL with a sentence in e. */
struct datapath *vhost_scsi_new(const struct vhost_scsi_config *c, struct err *e);
#endif
