/* #syscalls[main]: fcntl:1==F_GETFL fcntl:1==F_SETFL fcntl:1==F_DUPFD_CLOEXEC unlink */
#include "backends/vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "backends/vhost_user_again.h"
#include "backends/vhost_user_socket.h"
#include "backends/vhost_user_state.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/confine.h"

#define BIT(n)         (UINT64_C(1) << (n))
#define MS             UINT64_C(1000000)
#define REPLY_MS       5000
#define MAX_QUEUE_SIZE 1024 /* most back ends' */

#define RING_BITS                                                                                              \
	(BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1) |           \
	 BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER) | BIT(VIRTIO_F_RING_RESET))
/* Bits 24 to 49 are the rings' and the transports'. */
#define OUTSIDE_DEVICE (BIT(50) - BIT(24))

/* What of net is done where the frames are; the rest is the control queue's and the configuration space's. */
#define NET_BITS                                                                                               \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) |       \
	 BIT(VIRTIO_NET_F_MTU) | BIT(6) /* GSO */ | BIT(VIRTIO_NET_F_GUEST_TSO4) |                             \
	 BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_GUEST_UFO) |            \
	 BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) |              \
	 BIT(VIRTIO_NET_F_HOST_UFO) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MQ) |                     \
	 BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6) | BIT(VIRTIO_NET_F_HOST_USO) |            \
	 BIT(VIRTIO_NET_F_HASH_REPORT) | BIT(VIRTIO_NET_F_RSS))

/* Bytes of configuration space, as old a version as serves: a back end may refuse more than it has. */
static size_t usual_config_len(uint32_t device_type, uint64_t features)
{
	switch (device_type) {
	case VIRTIO_ID_BLOCK:
		if (features & BIT(17)) /* ZONED */
			return 96;
		return features & BIT(16) /* SECURE_ERASE */ ? 72 : 60;
	case VIRTIO_ID_CONSOLE:
		return 12;
	case VIRTIO_ID_SCSI:
		return 36;
	case VIRTIO_ID_GPU:
		return 16;
	case VIRTIO_ID_INPUT:
		return 136;
	case VIRTIO_ID_VSOCK:
		return 8;
	case VIRTIO_ID_CRYPTO:
		return 56;
	case VIRTIO_ID_SOUND:
		return 12;
	case VIRTIO_ID_FS:
		return 40;
	case VIRTIO_ID_PMEM:
		return 16;
	case 41: /* GPIO */
		return 8;
	}
	return 0;
}

static uint64_t protocol_wish(const struct vhost_user_config *c, bool net)
{
	uint64_t bits = BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
			BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT(VHOST_USER_PROTOCOL_F_STATUS) |
			BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ);

	if (net && c->mtu)
		bits |= BIT(VHOST_USER_PROTOCOL_F_NET_MTU);
	if (!net) /* nothing is lost with a frame */
		bits |= BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
	if (!net || c->config_len)
		bits |= BIT(VHOST_USER_PROTOCOL_F_CONFIG);
	return bits;
}

/* --- ops --- */

static int vhost_user_offer(struct datapath *dp, struct datapath_offer *out)
{
	struct vhost_user *v = vhost_user_of(dp);
	bool idle;

	/* Away, and none of the requests that wait was ever taken. */
	pthread_mutex_lock(&v->lock);
	idle = v->link == VHOST_USER_AWAY && !v->lingers && !(v->taken & v->wanted) &&
	       !(v->accepted & BIT(VIRTIO_F_RING_PACKED));
	pthread_mutex_unlock(&v->lock);
	*out = (struct datapath_offer){
		.features = v->features,
		.opinion = v->opinion,
		.max_queues = v->max_queues,
		.max_queue_size = MAX_QUEUE_SIZE,
		.config_len = v->config_len,
		/* Frames are done with at once; of other requests a back end can lose hold. */
		.drains = v->net || idle,
		.keeps_fds = true,
	};
	return 0;
}

static int config_read(struct datapath *dp, size_t off, void *buf, size_t len)
{
	struct vhost_user *v = vhost_user_of(dp);

	if (off > v->config_len || len > v->config_len - off)
		return -EINVAL;
	pthread_mutex_lock(&v->config_lock);
	memcpy(buf, v->config + off, len);
	pthread_mutex_unlock(&v->config_lock);
	return 0;
}

static int config_write(struct datapath *dp, size_t off, const void *buf, size_t len)
{
	struct vhost_user *v = vhost_user_of(dp);
	int rc = -ENOTCONN;

	if (off > v->config_len || len > v->config_len - off)
		return -EINVAL;
	pthread_mutex_lock(&v->lock);
	if (v->link == VHOST_USER_UP) {
		vhost_user_conn_begin(&v->conn);
		rc = vhost_user_set_config(&v->conn, off, buf, len);
		if (!rc) {
			const bool announced = v->conn.config_changed;

			vhost_user_config_refresh(v);
			v->conn.config_changed |= announced;
		}
	}
	vhost_user_unlock_elsewhere(v);
	return rc;
}

void vhost_user_unref(struct vhost_user *v)
{
	if (--v->refs)
		return;
	pthread_mutex_destroy(&v->lock);
	pthread_mutex_destroy(&v->config_lock);
	free(v->name);
	free(v->path);
	free(v);
}

static void detach(void *arg)
{
	struct vhost_user *v = arg;

	pthread_mutex_lock(&v->lock);
	vhost_user_link_detach(v);
	pthread_mutex_unlock(&v->lock);
}

static void close_all(struct vhost_user *v)
{
	vhost_user_conn_close(&v->conn);
	vhost_user_inflight_drop(&v->inflight);
	if (v->listen_fd >= 0) {
		close(v->listen_fd);
		unlink(v->path);
	}
	v->listen_fd = -1;
	if (v->again_fd >= 0)
		close(v->again_fd);
	v->again_fd = -1;
}

static bool vhost_user_lingers(struct datapath *dp)
{
	return vhost_user_of(dp)->lingers;
}

static void vhost_user_destroy(struct datapath *dp)
{
	struct vhost_user *v = vhost_user_of(dp);

	evloop_call(v->loop, detach, v);
	close_all(v);
	vhost_user_unref(v);
}

static const struct datapath_ops vhost_user_ops = {
	.name = "the vhost-user back end",
	.offer = vhost_user_offer,
	.start = vhost_user_start,
	.stop = vhost_user_stop,
	.lingers = vhost_user_lingers,
	.config_read = config_read,
	.config_write = config_write,
	.destroy = vhost_user_destroy,
};

void vhost_user_info(struct datapath *dp, struct vhost_user_info *out)
{
	struct vhost_user *v = vhost_user_of(dp);

	pthread_mutex_lock(&v->lock);
	*out = (struct vhost_user_info){
		.connected = v->link == VHOST_USER_UP,
		.features = v->conn.features,
		.protocol = v->conn.protocol,
		.queues = v->conn.queues,
		.serving = v->up,
		.returns = v->returns,
	};
	pthread_mutex_unlock(&v->lock);
}

/* --- making one --- */

static struct vhost_user *make(const struct vhost_user_config *c)
{
	struct vhost_user *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->dp.ops = &vhost_user_ops;
	v->refs = 1;
	pthread_mutex_init(&v->lock, NULL);
	pthread_mutex_init(&v->config_lock, NULL);
	v->name = strdup(c->name ? c->name : "vhost-user");
	v->path = strdup(c->path ? c->path : "");
	v->server = c->server;
	v->net = c->device_type == VIRTIO_ID_NET;
	v->reconnect_ms = *v->path ? c->reconnect_ms : 0;
	v->reply_ms = c->reply_ms ? c->reply_ms : REPLY_MS;
	v->mtu = c->mtu;
	v->loop = c->loop;
	v->nqueues = c->nqueues;
	v->untried = c->must_serve;
	v->wish = (struct vhost_user_wish){.protocol = protocol_wish(c, v->net), .pairs = v->net};
	v->active = v->net ? 3 : UINT64_MAX;
	v->again_fd = v->listen_fd = v->inflight.fd = v->leave_watch.fd = v->leave_grace.watch.fd = -1;
	vhost_user_conn_init(&v->conn, v->reply_ms);
	v->conn.name = v->name;
	if (c->hello_ms)
		v->conn.reply_ms = c->hello_ms;
	v->conn.trace = c->trace;
	v->conn.trace_opaque = c->trace_opaque;
	if (!v->name || !v->path) {
		vhost_user_unref(v);
		return NULL;
	}
	return v;
}

static int check(const struct vhost_user_config *c, struct err *e)
{
	if ((!c->path || !*c->path) && !c->fd)
		return err_set(e, -EINVAL, "vhost-user: no path=, the socket of the back end");
	if (c->nqueues > VHOST_USER_MAX_QUEUES)
		return err_set(e, -EINVAL, "vhost-user: %u queues; it can be 1 to %u", c->nqueues,
			       VHOST_USER_MAX_QUEUES);
	if (c->config_len > VHOST_USER_MAX_CONFIG)
		return err_set(e, -EINVAL, "vhost-user: a configuration space of %zu bytes; at most %u",
			       c->config_len, VHOST_USER_MAX_CONFIG);
	for (unsigned i = 0; c->mem && i < c->mem->nregions; i++)
		if (c->mem->region[i].fd < 0)
			return err_set(e, -EINVAL,
				       "vhost-user: guest memory is not shared (--mem share=off), and a back "
				       "end must see it\nLeave out share=off");
	return 0;
}

static int said(const struct vhost_user *v, int rc, struct err *e)
{
	char why[96];

	return err_set(e, rc,
		       "vhost-user: the back end at path=%s: %s\n"
		       "Is it a vhost-user back end, free, and for this kind of device?",
		       v->path, vhost_user_why(&v->conn, rc, why, sizeof(why)));
}

static int handshake(struct vhost_user *v, int fd)
{
	int rc = vhost_user_conn_greet(&v->conn, fd);

	return rc ? rc : vhost_user_conn_negotiate(&v->conn, &v->wish);
}

/* One that is just being started may listen, and close again. */
static int reach(struct vhost_user *v, const struct vhost_user_config *c, struct err *e)
{
	const uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + c->wait_ms * MS;
	const struct timespec pause = {.tv_nsec = 10 * (long)MS};
	int fd, rc;

	if (c->fd) {
		fd = fcntl(*c->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)) {
			rc = -errno;
			if (fd >= 0)
				close(fd);
			return err_set(e, rc, "vhost-user: fd=%d: %s", *c->fd, strerror(-rc));
		}
		rc = handshake(v, fd);
		return rc ? said(v, rc, e) : 0;
	}
	if (v->server) {
		v->listen_fd = vhost_user_listen(v->path, e);
		if (v->listen_fd < 0)
			return v->listen_fd;
	}
	for (;;) {
		fd = vhost_user_reach(v->path, v->listen_fd, deadline, v->name);
		if (fd < 0)
			return vhost_user_explain(v->path, v->server, fd, e);
		rc = handshake(v, fd);
		if (!rc)
			return 0;
		vhost_user_conn_close(&v->conn);
		if ((rc != -ECONNRESET && rc != -EPIPE) || clock_ns(CLOCK_MONOTONIC) >= deadline)
			return said(v, rc, e);
		nanosleep(&pause, NULL);
	}
}

static int survey(struct vhost_user *v, const struct vhost_user_config *c, struct err *e)
{
	const struct vhost_user_conn *conn = &v->conn;
	const unsigned have = conn->queues ? conn->queues : v->net ? 2 : v->nqueues;
	int rc;

	if (!v->nqueues)
		v->nqueues = !have ? 1 : have < VHOST_USER_MAX_QUEUES ? have : VHOST_USER_MAX_QUEUES;
	if (v->nqueues > (have ? have : 1))
		return err_set(e, -EINVAL, "vhost-user: the back end at path=%s has %u queues, not %u\n%s",
			       v->path, have, v->nqueues,
			       conn->queues ? "Use fewer queues="
					    : "It does not know the protocol feature MQ; use queues=1");
	if (c->mem && c->mem->nregions > conn->mem_slots)
		return err_set(e, -ENOSPC,
			       "vhost-user: the back end at path=%s takes %llu regions of memory, and there "
			       "are %u",
			       v->path, (unsigned long long)conn->mem_slots, c->mem->nregions);
	v->max_queues = have < VHOST_USER_MAX_QUEUES ? have : VHOST_USER_MAX_QUEUES;
	if (!v->max_queues)
		v->max_queues = v->nqueues;
	v->can_enable = vhost_user_has_protocol(conn);
	v->opinion = OUTSIDE_DEVICE | (v->net ? NET_BITS : ~OUTSIDE_DEVICE);
	v->features = conn->features & (RING_BITS | ~OUTSIDE_DEVICE);
	if (v->net)
		v->features &= ~BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	/* What it noted of a queue would be taken for what it notes of the same queue's next life. */
	if (vhost_user_has(conn, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))
		v->features &= ~BIT(VIRTIO_F_RING_RESET);
	if (!vhost_user_has(conn, VHOST_USER_PROTOCOL_F_CONFIG))
		return 0;
	v->config_len = c->config_len ? c->config_len : usual_config_len(c->device_type, conn->features);
	if (!v->config_len)
		return 0;
	rc = vhost_user_get_config(&v->conn, 0, v->config, v->config_len);
	return rc ? said(v, rc, e) : 0;
}

/* When this process is confined, somebody else has to reach the back end again. */
static int prepare_again(struct vhost_user *v, const struct vhost_user_config *c, struct err *e)
{
	if (!confine_is_due() || v->server || !*v->path)
		return 0;
	if ((confine_is_on() || c->fd) && !c->again)
		return 0; /* it serves as long as it lasts */
	v->again_fd = c->again ? *c->again : vhost_user_again_start(v->path);
	if (v->again_fd < 0)
		return err_set(e, v->again_fd,
			       "vhost-user: the process that reaches path=%s again cannot start: %s", v->path,
			       strerror(-v->again_fd));
	return 0;
}

struct attaching {
	struct vhost_user *v;
	int rc;
};

static void attach(void *arg)
{
	struct attaching *a = arg;

	pthread_mutex_lock(&a->v->lock);
	a->rc = vhost_user_link_attach(a->v);
	pthread_mutex_unlock(&a->v->lock);
}

int vhost_user_new(struct datapath **out, const struct vhost_user_config *c, struct err *e)
{
	struct attaching a = {0};
	struct vhost_user *v;
	int rc = check(c, e);

	if (rc)
		return rc;
	v = make(c);
	if (!v)
		return err_set(e, -ENOMEM, "vhost-user: out of memory");
	rc = reach(v, c, e);
	if (!rc)
		rc = survey(v, c, e);
	if (!rc)
		rc = prepare_again(v, c, e);
	v->conn.reply_ms = v->reply_ms;
	if (!rc) {
		a.v = v;
		evloop_call(v->loop, attach, &a);
		rc = a.rc ? err_set(e, a.rc, "vhost-user: the event loop: %s", strerror(-a.rc)) : 0;
	}
	if (rc || !v->reconnect_ms) {
		if (v->listen_fd >= 0) {
			close(v->listen_fd);
			unlink(v->path);
		}
		v->listen_fd = -1;
	}
	if (rc) {
		if (c->again)
			v->again_fd = -1; /* still the caller's */
		close_all(v);
		vhost_user_unref(v);
		return rc;
	}
	if (c->fd)
		close(*c->fd);
	*out = &v->dp;
	return 0;
}
