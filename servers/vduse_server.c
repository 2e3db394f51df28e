/* #syscalls[server]: ioctl epoll_ctl timerfd_create timerfd_settime close */
#include "servers/vduse_server.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "servers/vduse_state.h"

#define BIT(n) SERVER_BIT(n)

#define MAX_CONFIG 256
#define LOOK_MS    1000
#define ALIGN      4096 /* of a ring, for drivers in the kernel */

/* --- what the device is --- */

/* Writes to the configuration space never arrive, nor would a control queue be reached through vhost_vdpa: the
 * kernel refuses a device with one of these. */
static uint64_t refused(uint32_t device_id)
{
	switch (device_id) {
	case VIRTIO_ID_NET:
		return BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ);
	case VIRTIO_ID_BLOCK:
		return BIT(VIRTIO_BLK_F_CONFIG_WCE);
	}
	return 0;
}

uint64_t vduse_offered(const struct server_config *c)
{
	return (c->features & ~refused(c->device_id)) | VDUSE_PLATFORM;
}

/* --- an interrupt --- */

static int call(void *vring)
{
	const struct server_vring *v = vring;
	uint32_t index = v->q.index;

	return vduse_tell(vduse_server_of(v->q.server), VDUSE_VQ_INJECT_IRQ, &index);
}

/* While DRIVER_OK is being answered, the kernel does not know of it yet and may refuse interrupts. */
static bool interrupt_all(struct vduse_server *s)
{
	bool heard = true;

	for (unsigned i = 0; i < s->core.c.max_queues; i++)
		if (s->core.vring[i].running)
			heard &= call(&s->core.vring[i]) != -EINVAL;
	return heard;
}

/* A process that is killed does not wait until its goodbye was heard, but the kernel has reset the device: what
 * the driver chose is gone. */
static bool is_gone(const struct vduse_server *s)
{
	uint64_t f = 0;

	return !vduse_tell(s, VDUSE_DEV_GET_FEATURES, &f) && !f;
}

static void on_look(struct ev_timer *t)
{
	struct vduse_server *s = container_of(t, struct vduse_server, look);

	if (is_gone(s)) {
		log_info("%s: %s: the front end has gone", s->core.c.ops->name, s->core.name);
		vduse_reset(s);
		return;
	}
	s->early = s->early && !interrupt_all(s);
	ev_timer_arm(t, s->early ? VDUSE_EARLY_MS : LOOK_MS);
}

void vduse_unwatch(struct vduse_server *s)
{
	if (s->watching)
		evloop_del(s->core.thread.loop, &s->watch);
	s->watching = false;
}

/* --- what the core asks of its wire --- */

static void lost(struct server *core)
{
	struct vduse_server *s = vduse_server_of(core);

	log_guest("%s: %s: a file behind its memory was cut off: the device stands still until it is reset",
		  core->c.ops->name, core->name);
	server_queues_stop(&s->core);
	server_forget_memory(&s->core);
}

static void changed(struct server *core)
{
	union {
		struct vduse_config_data data;
		uint8_t room[sizeof(struct vduse_config_data) + MAX_CONFIG];
	} c = {.data = {.length = core->c.config_len}};
	int rc = core->c.ops->config_read(core->c.dev, 0, c.data.buffer, core->c.config_len);

	if (!rc)
		rc = vduse_tell(vduse_server_of(core), VDUSE_DEV_SET_CONFIG, &c);
	if (rc)
		log_warn("%s: %s: its configuration cannot be changed: %s", core->c.ops->name, core->name,
			 strerror(-rc));
	/* Refused where no driver is: fine. */
	vduse_tell(vduse_server_of(core), VDUSE_DEV_INJECT_CONFIG_IRQ, NULL);
}

static bool held(struct server *core)
{
	return vduse_device_held(&vduse_server_of(core)->dev);
}

static const char *node(const struct server *core)
{
	return ((const struct vduse_server *)(const void *)core)->dev.node;
}

/* --- its life --- */

static void watch(void *arg)
{
	struct vduse_server *s = arg;

	s->watching = !evloop_add(s->core.thread.loop, &s->watch, EPOLLIN);
}

static void end(void *arg)
{
	struct vduse_server *s = arg;

	vduse_unwatch(s);
	vduse_reset(s);
	ev_timer_fini(&s->look);
}

static void free_core(struct server *core)
{
	struct vduse_server *s = vduse_server_of(core);

	vduse_device_detach(&s->dev); /* what it asks for meanwhile is answered */
	if (s->core.thread.loop)
		evloop_call(s->core.thread.loop, end, s);
	server_stop(&s->core);
	if (s->fd >= 0)
		close(s->fd);
	vduse_device_unmake(&s->dev);
	server_fini(&s->core);
	free(s);
}

static const struct server_wire wire = {
	.changed = changed,
	.lost = lost,
	.call = call,
	.held = held,
	.node = node,
	.free = free_core,
};

static int kernel_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg);
}

static int make_device(struct vduse_device *d, const struct server_config *c, struct err *e)
{
	CLEANUP_FREE struct vduse_dev_config *config = calloc(1, sizeof(*config) + MAX_CONFIG);

	d->fd = -1;
	d->who = c->ops->name;
	if (!config)
		return err_set(e, -ENOMEM, "%s: out of memory", c->ops->name);
	config->device_id = c->device_id;
	config->features = vduse_offered(c);
	config->vq_num = c->max_queues;
	config->vq_align = ALIGN;
	config->config_size = c->config_len;
	if (c->config_len && c->ops->config_read(c->dev, 0, config->config, c->config_len))
		return err_set(e, -EINVAL, "%s: vduse=%s: no configuration space", c->ops->name, c->vduse);
	return vduse_device_make(d, config, e);
}

static int set_up(struct vduse_server *s, struct err *e)
{
	const struct server_config *c = &s->core.c;
	int rc = server_start(&s->core, "vduse", e);

	if (rc)
		return rc;
	rc = ev_timer_init(&s->look, s->core.thread.loop, on_look);
	for (unsigned i = 0; !rc && i < c->max_queues; i++) {
		struct vduse_vq_config q = {.index = i,
					    .max_size = c->max_queue_size ? c->max_queue_size : 32768};

		rc = vduse_tell(s, VDUSE_VQ_SETUP, &q);
	}
	if (!rc)
		evloop_call(s->core.thread.loop, watch, s);
	if (!rc && !s->watching)
		rc = -ENOMEM;
	return rc ? err_set(e, rc, "%s: %s: %s", c->ops->name, s->core.name, strerror(-rc)) : 0;
}

static int begin(struct server **out, const struct server_config *c, struct vduse_device *d, int fd,
		 vduse_ioctl *fn, struct err *e)
{
	struct vduse_server *s = calloc(1, sizeof(*s));
	char name[VDUSE_NAME_CHARS + 8];
	int rc;

	if (!s) {
		close(fd);
		if (d)
			vduse_device_unmake(d);
		return err_set(e, -ENOMEM, "%s: out of memory", c->ops->name);
	}
	snprintf(name, sizeof(name), "vduse %s", c->vduse);
	s->fd = fd;
	s->ioctl = fn;
	s->watch = (struct ev_watch){.fd = fd, .fn = vduse_on_request};
	s->look.watch.fd = -1;
	if (d)
		s->dev = *d;
	rc = server_init(&s->core, &wire, c, name, e);
	s->core.has_status = true;
	if (!rc)
		rc = set_up(s, e);
	if (!rc && d)
		rc = vduse_device_attach(&s->dev, e);
	if (rc)
		free_core(&s->core);
	else
		*out = &s->core;
	return rc;
}

int vduse_server_new(struct server **out, const struct server_config *c, struct err *e)
{
	struct vduse_device d = {0};
	int rc = vduse_device_name(c->vduse, e);

	if (rc)
		return err_prefix(e, "%s", c->ops->name);
	snprintf(d.name, sizeof(d.name), "%s", c->vduse);
	rc = make_device(&d, c, e);
	return rc ? rc : begin(out, c, &d, d.fd, kernel_ioctl, e);
}

int vduse_server_on(struct server **out, const struct server_config *c, int fd, vduse_ioctl *fn, struct err *e)
{
	return begin(out, c, NULL, fd, fn, e);
}
