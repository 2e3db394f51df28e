/* Theory of operation.  launch() brings the device from reset to DRIVER_OK with all queues that are to run,
 * land() brings it back and learns their positions.  A start() or stop() of some of the queues is a land() and
 * a launch() with others; the records in queue[] hold what that takes.  All of it is on the device's loop's
 * thread, but for the configuration space, which any thread may ask for and which changes nothing here. */
#include "backends/vhost_vdpa.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backends/vhost_vdpa_dev.h"
#include "backends/vhost_vdpa_drain.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/evloop.h"

#define BIT(n) (UINT64_C(1) << (n))

#define PLATFORM BIT(VIRTIO_F_ACCESS_PLATFORM)

#ifndef VIRTIO_NET_F_VQ_NOTF_COAL /* not in the headers of kernels before 6.6 */
#define VIRTIO_NET_F_VQ_NOTF_COAL 52
#endif

/* What a network device needs its control queue for. */
#define CTRL_BITS                                                                                              \
	(BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_VLAN) |                 \
	 BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | BIT(VIRTIO_NET_F_MQ) |           \
	 BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) |                             \
	 BIT(VIRTIO_NET_F_VQ_NOTF_COAL) | BIT(VIRTIO_NET_F_NOTF_COAL) | BIT(VIRTIO_NET_F_HASH_REPORT) |        \
	 BIT(VIRTIO_NET_F_RSS))
/* What the configuration space says, which is then ours as well. */
#define CONFIG_BITS (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS))

struct vhost_vdpa {
	struct datapath dp;
	struct vdpa_dev dev;
	struct evloop *loop;
	bool own_ctrl;
	unsigned drain_ms, settle_ms;
	int config_fd;
	struct ev_watch watch; /* of config_fd, while queues run */

	/* From the first start() to the last stop(): */
	uint64_t running; /* bit per queue */
	int dead;         /* not 0: its queues stand still, and why */
	const struct guest_mem *mem;
	uint64_t features; /* the driver's */
	struct datapath_queue queue[VDPA_MAX_QUEUES];
};

static struct vhost_vdpa *vdpa_of(const struct datapath *dp)
{
	return (struct vhost_vdpa *)(uintptr_t)dp; /* its first member */
}

/* --- what it offers --- */

static uint64_t silent_on(const struct vhost_vdpa *v)
{
	return v->own_ctrl ? CTRL_BITS | CONFIG_BITS : 0;
}

static uint64_t usable(const struct vhost_vdpa *v)
{
	return v->dev.features & ~PLATFORM & ~(v->own_ctrl ? CTRL_BITS : 0);
}

static unsigned usable_queues(const struct vhost_vdpa *v)
{
	return v->own_ctrl && v->dev.nqueues > 2 ? 2 : v->dev.nqueues;
}

static int vdpa_offer(struct datapath *dp, struct datapath_offer *out)
{
	const struct vhost_vdpa *v = vdpa_of(dp);

	*out = (struct datapath_offer){
		.features = usable(v),
		.opinion = ~silent_on(v),
		.max_queues = usable_queues(v),
		.max_queue_size = v->dev.max_size,
		.device_id = v->dev.device_id,
		.config_len = v->dev.config_len,
		.adds = v->dev.features & PLATFORM,
		.pins_memory = true,
	};
	return 0;
}

/* --- events --- */

static void die(struct vhost_vdpa *v, int err)
{
	v->dead = err;
	if (v->dp.events)
		v->dp.events->failed(v->dp.opaque, err);
}

static void on_config(struct ev_watch *w, uint32_t events)
{
	struct vhost_vdpa *v = container_of(w, struct vhost_vdpa, watch);
	int status;
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) < 0 || !v->dp.events)
		return;
	status = vdpa_status(&v->dev);
	if (status < 0 || (status & VIRTIO_CONFIG_S_NEEDS_RESET))
		v->dp.events->failed(v->dp.opaque, status < 0 ? status : -EIO);
	else
		v->dp.events->config_changed(v->dp.opaque);
}

/* --- the device up and down --- */

static bool is_packed(const struct vhost_vdpa *v)
{
	return v->features & BIT(VIRTIO_F_RING_PACKED);
}

/* Everything it was lent is its own no more.  What fails cannot be helped: the kernel has then reset the device
 * all the same, or there is none. */
static void unlend(struct vhost_vdpa *v)
{
	int rc = vdpa_set_status(&v->dev, 0);

	if (rc)
		log_warn("%s: %s cannot be reset: %s", v->dev.name, v->dev.path, strerror(-rc));
	/* Only after the reset: a VDUSE daemon may have answered that before it let go of the rings, but it
	 * answers the change of memory afterwards. */
	vdpa_unmap(&v->dev, v->mem);
	for (unsigned i = 0; i < v->dev.nqueues; i++)
		if (v->running & BIT(i))
			vdpa_vring_fd(&v->dev, VHOST_SET_VRING_CALL, i, VHOST_FILE_UNBIND);
	vdpa_config_call(&v->dev, VHOST_FILE_UNBIND);
}

static void unbind_kicks(struct vhost_vdpa *v)
{
	for (unsigned i = 0; i < v->dev.nqueues; i++)
		if (v->running & BIT(i))
			vdpa_vring_fd(&v->dev, VHOST_SET_VRING_KICK, i, VHOST_FILE_UNBIND);
}

/* All queues stop; next and lost of each are known then. */
static void land(struct vhost_vdpa *v)
{
	struct datapath_queue *queue[VDPA_MAX_QUEUES];
	struct vdpa_drain drain = {.dev = &v->dev,
				   .mem = v->mem,
				   .packed = is_packed(v),
				   .drain_ms = v->drain_ms,
				   .settle_ms = v->settle_ms};
	unsigned n = 0;

	for (unsigned i = 0; i < v->dev.nqueues; i++)
		if (v->running & BIT(i))
			queue[n++] = &v->queue[i];
	unbind_kicks(v);
	if (v->dev.backend & BIT(VHOST_BACKEND_F_SUSPEND))
		drain.suspended = !vdpa_call(&v->dev, VHOST_VDPA_SUSPEND, NULL);
	vdpa_drain(&drain, queue, n);
	unlend(v);
	vdpa_recheck(&drain, queue, n);
}

static int negotiate(const struct vhost_vdpa *v)
{
	uint64_t features = (v->features & usable(v)) | (v->dev.features & PLATFORM);
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
	int rc = vdpa_set_status(&v->dev, 0);

	if (!rc)
		rc = vdpa_set_status(&v->dev, status);
	status |= VIRTIO_CONFIG_S_DRIVER;
	if (!rc)
		rc = vdpa_set_status(&v->dev, status);
	if (!rc)
		rc = vdpa_call(&v->dev, VHOST_SET_FEATURES, &features);
	status |= VIRTIO_CONFIG_S_FEATURES_OK;
	if (!rc)
		rc = vdpa_set_status(&v->dev, status);
	return rc;
}

static int set_up(const struct vhost_vdpa *v, const struct datapath_queue *q)
{
	struct vhost_vring_addr addr = {.index = q->index,
					.desc_user_addr = q->desc,
					.avail_user_addr = q->avail,
					.used_user_addr = q->used};
	const unsigned base = is_packed(v) ? q->next | (unsigned)q->next << 16 : q->next;
	int rc = vdpa_check_ring(v->mem, q, is_packed(v));

	if (!rc)
		rc = vdpa_vring_state(&v->dev, VHOST_SET_VRING_NUM, q->index, q->size);
	if (!rc)
		rc = vdpa_vring_state(&v->dev, VHOST_SET_VRING_BASE, q->index, base);
	if (!rc)
		rc = vdpa_call(&v->dev, VHOST_SET_VRING_ADDR, &addr);
	if (!rc)
		rc = vdpa_vring_fd(&v->dev, VHOST_SET_VRING_KICK, q->index, q->kick_fd);
	if (!rc)
		rc = vdpa_vring_fd(&v->dev, VHOST_SET_VRING_CALL, q->index, q->call_fd);
	if (rc)
		log_warn("%s: queue %u of %s cannot be set up: %s", v->dev.name, q->index, v->dev.path,
			 strerror(-rc));
	return rc;
}

/* All of v->running from reset to DRIVER_OK.  0, or -errno with the device reset and nothing lent to it. */
static int launch(struct vhost_vdpa *v)
{
	int rc = negotiate(v);

	if (!rc)
		rc = vdpa_map(&v->dev, v->mem);
	for (unsigned i = 0; !rc && i < v->dev.nqueues; i++)
		if (v->running & BIT(i))
			rc = set_up(v, &v->queue[i]);
	if (!rc)
		rc = vdpa_config_call(&v->dev, v->config_fd);
	/* Before DRIVER_OK: a VDUSE daemon looks then which queues are enabled, and never again. */
	for (unsigned i = 0; !rc && i < v->dev.nqueues; i++)
		if (v->running & BIT(i))
			rc = vdpa_vring_state(&v->dev, VHOST_VDPA_SET_VRING_ENABLE, i, 1);
	if (!rc)
		rc = vdpa_set_status(&v->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
						      VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	if (rc) {
		log_warn("%s: %s does not start: %s", v->dev.name, v->dev.path, strerror(-rc));
		unbind_kicks(v);
		unlend(v);
	}
	return rc;
}

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0) /* EAGAIN: it is signalled enough */
		return;
}

/* Those that ran before go on; the core kicks only those it has just started. */
static int relaunch(struct vhost_vdpa *v, uint64_t before)
{
	int rc = 0;

	for (unsigned i = 0; i < v->dev.nqueues; i++)
		if ((before & BIT(i)) && v->queue[i].lost)
			rc = -ENODATA;
	if (!rc)
		rc = launch(v);
	for (unsigned i = 0; !rc && i < v->dev.nqueues; i++)
		if (before & BIT(i)) {
			signal_fd(v->queue[i].kick_fd);
			signal_fd(v->queue[i].call_fd);
		}
	return rc;
}

/* --- start and stop --- */

/* Only the device sees these. */
static void set_stats(struct queue_stats *s, uint64_t value)
{
	s->kicks = s->calls = s->calls_suppressed = value;
	s->bursts = s->chains = s->bytes = value;
}

static uint64_t bits_of(const struct datapath_setup *setup)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < setup->nqueues; i++)
		bits |= BIT(setup->queue[i].index);
	return bits;
}

static int check(const struct vhost_vdpa *v, const struct datapath_setup *setup)
{
	if (!setup->nqueues || setup->features & ~usable(v) & ~silent_on(v))
		return -EINVAL;
	for (unsigned i = 0; i < setup->nqueues; i++)
		if (setup->queue[i].index >= usable_queues(v) || (v->running & BIT(setup->queue[i].index)))
			return -EINVAL;
	if (v->dead)
		return v->dead;
	return v->running && (setup->features != v->features || setup->mem != v->mem) ? -EINVAL : 0;
}

static int first_start(struct vhost_vdpa *v, const struct datapath_setup *setup)
{
	int rc;

	v->mem = setup->mem;
	v->features = setup->features;
	v->watch = (struct ev_watch){.fd = v->config_fd, .fn = on_config};
	rc = evloop_add(v->loop, &v->watch, EPOLLIN);
	if (!rc)
		guest_mem_pin(v->mem);
	return rc;
}

static void last_stop(struct vhost_vdpa *v)
{
	evloop_del(v->loop, &v->watch);
	guest_mem_unpin(v->mem);
	v->mem = NULL;
	v->dead = 0;
}

static int vdpa_start(struct datapath *dp, const struct datapath_setup *setup)
{
	struct vhost_vdpa *v = vdpa_of(dp);
	const uint64_t before = v->running;
	int rc = check(v, setup), again;

	if (!rc && !before)
		rc = first_start(v, setup);
	if (rc)
		return rc;
	if (before)
		land(v);
	for (unsigned i = 0; i < setup->nqueues; i++) {
		v->queue[setup->queue[i].index] = setup->queue[i];
		v->queue[setup->queue[i].index].lost = false;
	}
	v->running |= bits_of(setup);
	rc = relaunch(v, before);
	if (!rc) {
		for (unsigned i = 0; i < setup->nqueues; i++)
			set_stats(setup->queue[i].stats, QUEUE_STAT_UNSEEN);
		return 0;
	}
	v->running = before;
	again = before ? relaunch(v, before) : 0;
	if (again)
		die(v, again);
	if (!before)
		last_stop(v);
	return rc;
}

static void vdpa_stop(struct datapath *dp, const struct datapath_setup *setup)
{
	struct vhost_vdpa *v = vdpa_of(dp);
	int rc;

	assert((v->running & bits_of(setup)) == bits_of(setup));
	if (!v->dead)
		land(v);
	for (unsigned i = 0; i < setup->nqueues; i++) {
		struct datapath_queue *q = &setup->queue[i];

		q->next = v->queue[q->index].next;
		q->lost = v->queue[q->index].lost;
		set_stats(q->stats, 0);
	}
	v->running &= ~bits_of(setup);
	if (!v->running) {
		last_stop(v);
		return;
	}
	rc = v->dead ? 0 : relaunch(v, v->running);
	if (rc)
		die(v, rc);
}

/* --- configuration space --- */

static int config(const struct vhost_vdpa *v, unsigned long request, size_t off, void *buf, size_t len)
{
	if (len > v->dev.config_len || off > v->dev.config_len - len)
		return -EINVAL;
	return len ? vdpa_config(&v->dev, request, off, buf, len) : 0;
}

static int vdpa_config_read(struct datapath *dp, size_t off, void *buf, size_t len)
{
	return config(vdpa_of(dp), VHOST_VDPA_GET_CONFIG, off, buf, len);
}

static int vdpa_config_write(struct datapath *dp, size_t off, const void *buf, size_t len)
{
	return config(vdpa_of(dp), VHOST_VDPA_SET_CONFIG, off, (void *)(uintptr_t)buf, len);
}

/* --- life --- */

static void vdpa_destroy(struct datapath *dp)
{
	struct vhost_vdpa *v = vdpa_of(dp);

	assert(!v->running);
	close(v->dev.fd); /* resets it and unmaps what may be left */
	close(v->config_fd);
	free(v);
}

static const struct datapath_ops ops = {
	.name = "vhost-vdpa",
	.offer = vdpa_offer,
	.start = vdpa_start,
	.stop = vdpa_stop,
	.config_read = vdpa_config_read,
	.config_write = vdpa_config_write,
	.destroy = vdpa_destroy,
};

bool vhost_vdpa_mac(struct datapath *dp, uint8_t mac[6])
{
	const struct vhost_vdpa *v = vdpa_of(dp);

	return v->dev.device_id == VIRTIO_ID_NET && (v->dev.features & BIT(VIRTIO_NET_F_MAC)) &&
	       !dp->ops->config_read(dp, offsetof(struct virtio_net_config, mac), mac, 6);
}

int vhost_vdpa_new(struct datapath **dp, const struct vhost_vdpa_options *o, struct err *e)
{
	struct vhost_vdpa *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return err_set(e, -ENOMEM, "%s: vdpa: out of memory", o->name);
	v->config_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->config_fd < 0)
		rc = err_set(e, -errno, "%s: vdpa: no eventfd: %s", o->name, strerror(errno));
	else
		rc = vdpa_dev_open(&v->dev, o, e);
	if (rc) {
		if (v->config_fd >= 0)
			close(v->config_fd);
		free(v);
		return rc;
	}
	v->dp.ops = &ops;
	v->loop = o->loop;
	v->own_ctrl = o->own_ctrl && v->dev.device_id == VIRTIO_ID_NET;
	v->drain_ms = o->drain_ms ? o->drain_ms : 5000;
	v->settle_ms = o->settle_ms ? o->settle_ms : 20;
	*dp = &v->dp;
	return 0;
}

uint32_t vhost_vdpa_device_type(const struct datapath *dp)
{
	return vdpa_of(dp)->dev.device_id;
}
