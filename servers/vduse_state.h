/* What the files of the VDUSE wire share.  All on its thread unless it says otherwise. */
#ifndef SERVERS_VDUSE_STATE_H
#define SERVERS_VDUSE_STATE_H
#include <errno.h>
#include <linux/vduse.h>
#include <linux/virtio_config.h>
#include <sys/ioctl.h>

#include "lib/cleanup.h"
#include "servers/server_state.h"
#include "servers/vduse_device.h"
#include "servers/vduse_server.h"

#define VDUSE_EARLY_MS 2 /* until interrupts that the kernel may have refused come again */

/* Of the platform (the addresses are the bus's), which the kernel wants, and which no device hears of. */
#define VDUSE_PLATFORM SERVER_BIT(VIRTIO_F_ACCESS_PLATFORM)

struct vduse_server {
	struct server core;
	vduse_ioctl *ioctl;
	int fd;
	struct vduse_device dev; /* all zeroes: somebody else's */
	struct ev_watch watch;
	bool watching;
	struct ev_timer look; /* while a driver is there */
	bool early;           /* it has come a moment ago */
};

static inline struct vduse_server *vduse_server_of(struct server *core)
{
	return container_of(core, struct vduse_server, core);
}

/* What the call returns, or -errno.  Any thread. */
static inline int vduse_tell(const struct vduse_server *s, unsigned long request, void *arg)
{
	int rc = s->ioctl(s->fd, request, arg);

	return rc < 0 ? -errno : rc;
}

/* vduse_server.c: what a driver may choose from. */
uint64_t vduse_offered(const struct server_config *c);
/* Nothing is heard of the kernel any more. */
void vduse_unwatch(struct vduse_server *s);

/* vduse_message.c: the kernel asks, and is answered. */
void vduse_on_request(struct ev_watch *w, uint32_t events);
/* The queues stop, as if there were no driver. */
void vduse_reset(struct vduse_server *s);
#endif
