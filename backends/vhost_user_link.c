/* The back end comes and goes. */
/* #syscalls[vcpu,data]: recvfrom epoll_ctl timerfd_settime timerfd_create */
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "backends/vhost_user_again.h"
#include "backends/vhost_user_ring.h"
#include "backends/vhost_user_socket.h"
#include "backends/vhost_user_state.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/confine.h"
#include "lib/log.h"

#define BIT(n) (UINT64_C(1) << (n))
#define MS     UINT64_C(1000000)
#define SOON   1 /* ms; 0 would disarm a timer */
#define BATCH  8 /* of the back end's requests, before others have their turn */

const char *vhost_user_why(const struct vhost_user_conn *c, int rc, char *buf, size_t len)
{
	const char *request = vhost_user_request_name(c->asked);

	switch (rc) {
	case -ECONNRESET:
	case -EPIPE:
		snprintf(buf, len, "it closed the connection%s%s", c->asked ? " after " : "",
			 c->asked ? request : "");
		break;
	case -ETIMEDOUT:
		snprintf(buf, len, "it gave no reply to %s in %u ms", request, c->reply_ms);
		break;
	case -EPROTO:
		snprintf(buf, len, "it sent what is no reply%s%s", c->asked ? " to " : "",
			 c->asked ? request : " to anything");
		break;
	case -EREMOTEIO:
		snprintf(buf, len, "it refused %s", request);
		break;
	case -ENOSPC:
		snprintf(buf, len, "it takes %llu regions of memory, and there are more",
			 (unsigned long long)c->mem_slots);
		break;
	default:
		snprintf(buf, len, "%s: %s", request, strerror(-rc));
	}
	return buf;
}

/* --- its configuration space --- */

bool vhost_user_config_refresh(struct vhost_user *v)
{
	uint8_t now[VHOST_USER_MAX_CONFIG];
	bool changed;

	v->conn.config_changed = false;
	if (!v->config_len || vhost_user_get_config(&v->conn, 0, now, v->config_len))
		return false;
	pthread_mutex_lock(&v->config_lock);
	changed = memcmp(v->config, now, v->config_len) != 0;
	memcpy(v->config, now, v->config_len);
	pthread_mutex_unlock(&v->config_lock);
	return changed;
}

/* --- its end --- */

void vhost_user_link_retry(struct vhost_user *v)
{
	if (!v->reconnect_ms || v->lingers)
		return;
	if (v->listen_fd < 0)
		ev_timer_arm(&v->retry, v->reconnect_ms);
	else if (!v->listening)
		v->listening = !evloop_add(v->loop, &v->listen_watch, EPOLLIN);
}

static void close_channel(struct vhost_user *v)
{
	if (v->channel_watched)
		evloop_del(v->loop, &v->channel_watch);
	v->channel_watched = false;
	if (v->conn.channel >= 0)
		close(v->conn.channel);
	v->conn.channel = -1;
}

static void close_link(struct vhost_user *v)
{
	if (v->link == VHOST_USER_AWAY)
		return;
	close_channel(v);
	if (v->conn.fd >= 0)
		evloop_del(v->loop, &v->conn_watch);
	vhost_user_conn_close(&v->conn);
	v->shared.nregions = 0;
	v->link = VHOST_USER_AWAY;
}

/* What each queue has lost with it.  0, or the reason why the device cannot go on; it will not anyhow unless
 * the back end returns. */
static int judge(struct vhost_user *v, bool returns)
{
	const bool packed = v->accepted & BIT(VIRTIO_F_RING_PACKED);
	int rc = 0;

	for (unsigned i = 0; i < VHOST_USER_MAX_QUEUES; i++) {
		const struct datapath_queue *q = &v->queue[i];

		if (!(v->up & BIT(i)))
			continue;
		if (!packed && !v->net && vhost_user_ring_used(q, v->mem) != vhost_user_ring_avail(q, v->mem))
			v->taken |= BIT(i);
		if (!(v->wanted & BIT(i)))
			continue;
		if (!returns)
			rc = -ENOTCONN;
		else if ((packed || (v->taken & BIT(i))) && v->inflight.fd < 0)
			rc = -EIO;
	}
	return rc;
}

static void fail(struct vhost_user *v, int rc)
{
	if (v->failed)
		return;
	v->failed = v->tell_failed = true;
	v->failed_err = rc;
}

void vhost_user_link_lost(struct vhost_user *v, int rc)
{
	const bool was_up = v->link == VHOST_USER_UP;
	char why[96];
	int end;

	vhost_user_why(&v->conn, rc, why, sizeof(why));
	if (v->up && rc != -ECONNRESET && rc != -EPIPE) {
		evloop_del(v->loop, &v->conn_watch);
		vhost_user_leave(v, 0);
	}
	close_link(v);
	if (was_up) {
		end = judge(v, v->reconnect_ms);
		v->up = 0;
		log_guest("%s: the vhost-user back end%s%s is gone: %s%s", v->name, *v->path ? " at " : "",
			  v->path, why,
			  end == -EIO       ? "; what it was doing is lost with it"
			  : v->reconnect_ms ? "; waiting for it to come back"
					    : "");
		if (end)
			fail(v, end);
	}
	vhost_user_link_retry(v);
}

/* --- its return --- */

/* Nothing in the ring says which requests an old back end has done unless it has given them back. */
static void find_positions(struct vhost_user *v)
{
	const bool packed = v->accepted & BIT(VIRTIO_F_RING_PACKED);

	for (unsigned i = 0; i < VHOST_USER_MAX_QUEUES; i++) {
		struct datapath_queue *q = &v->queue[i];

		if (!(v->wanted & BIT(i)))
			continue;
		if (!packed)
			q->next = vhost_user_ring_used(q, v->mem);
		else if (!(v->fresh & BIT(i)) &&
			 !vhost_user_inflight_position(&v->inflight, i, q->size, &q->next))
			fail(v, -EIO);
	}
}

static void signal_queues(struct vhost_user *v)
{
	for (unsigned i = 0; i < VHOST_USER_MAX_QUEUES; i++)
		if (v->up & BIT(i)) {
			eventfd_write(v->queue[i].kick_fd, 1);
			eventfd_write(v->queue[i].call_fd, 1);
		}
}

static int watch_channel(struct vhost_user *v)
{
	int rc;

	if (v->conn.channel < 0)
		return 0;
	v->channel_watch.fd = v->conn.channel;
	rc = evloop_add(v->loop, &v->channel_watch, EPOLLIN);
	v->channel_watched = !rc;
	return rc;
}

/* It has answered the greeting, or will. */
static int welcome(struct vhost_user *v)
{
	int rc = vhost_user_conn_negotiate(&v->conn, &v->wish);

	if (!rc)
		rc = vhost_user_suits(v, v->wanted);
	if (!rc)
		rc = watch_channel(v);
	if (rc)
		return rc;
	v->link = VHOST_USER_UP;
	v->tell_config |= vhost_user_config_refresh(v);
	if (v->conn.broken)
		return v->conn.broken;
	if (!v->failed)
		find_positions(v);
	if (v->wanted && !v->failed) {
		rc = vhost_user_queues_up(v, v->wanted);
		if (rc)
			return rc;
		v->taken &= ~v->wanted;
		signal_queues(v);
	}
	ev_timer_arm(&v->retry, 0);
	v->returns++;
	log_info("%s: the vhost-user back end at %s is back", v->name, v->path);
	return 0;
}

static int open_link(struct vhost_user *v, int fd)
{
	int rc = vhost_user_conn_greet(&v->conn, fd);

	if (rc)
		return rc;
	v->conn_watch.fd = fd;
	rc = evloop_add(v->loop, &v->conn_watch, EPOLLIN | EPOLLRDHUP);
	if (rc) {
		vhost_user_conn_close(&v->conn);
		return rc;
	}
	v->link = VHOST_USER_GREETING;
	ev_timer_arm(&v->retry, v->reply_ms);
	return 0;
}

/* As vhost_user_connect(), by whoever may. */
static int connect_again(struct vhost_user *v)
{
	if (v->again_fd >= 0)
		return vhost_user_again(v->again_fd);
	return confine_is_on() ? -EPERM : vhost_user_connect(v->path);
}

static int reach_again(struct vhost_user *v, uint64_t deadline)
{
	const struct timespec pause = {.tv_nsec = 10 * (long)MS};
	int fd;

	if (v->listen_fd >= 0)
		return vhost_user_reach(v->path, v->listen_fd, deadline, NULL);
	while ((fd = connect_again(v)) < 0 && vhost_user_may_come(fd) && clock_ns(CLOCK_MONOTONIC) < deadline)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	return fd;
}

void vhost_user_link_renew(struct vhost_user *v)
{
	const uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + v->reply_ms * MS;
	int rc;

	log_guest("%s: requests were in flight; the vhost-user back end at %s is disconnected to end them",
		  v->name, v->path);
	evloop_del(v->loop, &v->conn_watch);
	vhost_user_leave(v, v->reply_ms);
	close_link(v);
	if (judge(v, true))
		fail(v, -EIO);
	v->up = 0;
	do {
		const bool never = !*v->path || (v->server && v->listen_fd < 0) || v->lingers;
		int fd = never ? -ENOTCONN : reach_again(v, deadline);

		rc = fd < 0 ? fd : open_link(v, fd);
		if (!rc) {
			rc = welcome(v);
			if (rc && v->up && v->conn.fd >= 0 && rc != -ECONNRESET && rc != -EPIPE) {
				evloop_del(v->loop, &v->conn_watch);
				vhost_user_leave(v, 0);
			}
			if (rc)
				close_link(v);
		}
	} while ((rc == -ECONNRESET || rc == -EPIPE) && clock_ns(CLOCK_MONOTONIC) < deadline);
	if (!rc)
		return;
	log_guest("%s: the vhost-user back end has not come back: %s", v->name, strerror(-rc));
	if (v->wanted && !v->reconnect_ms)
		fail(v, -ENOTCONN);
	vhost_user_link_retry(v);
}

/* --- events, on the loop's thread --- */

static void on_retry(struct ev_timer *t)
{
	struct vhost_user *v = container_of(t, struct vhost_user, retry);
	int fd;

	pthread_mutex_lock(&v->lock);
	if (v->link == VHOST_USER_GREETING) {
		vhost_user_link_lost(v, -ETIMEDOUT);
	} else if (v->link == VHOST_USER_AWAY && v->reconnect_ms && v->listen_fd < 0 && !v->lingers) {
		fd = connect_again(v);
		if (fd < 0 || open_link(v, fd))
			vhost_user_link_retry(v);
	}
	vhost_user_unlock(v);
}

static void on_listen(struct ev_watch *w, uint32_t events)
{
	struct vhost_user *v = container_of(w, struct vhost_user, listen_watch);
	int fd;

	(void)events;
	pthread_mutex_lock(&v->lock);
	fd = v->link == VHOST_USER_AWAY ? vhost_user_accept(v->listen_fd) : -EBUSY;
	/* One back end at a time; the next waits in the socket's queue. */
	if (fd >= 0 && !open_link(v, fd)) {
		evloop_del(v->loop, &v->listen_watch);
		v->listening = false;
	}
	vhost_user_unlock(v);
}

/* Nobody waits for a reply, so there is nothing to come but the end. */
static int unasked(struct vhost_user *v)
{
	char c;
	ssize_t n = recv(v->conn.fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	if (v->conn.broken)
		return v->conn.broken;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return n ? -EPROTO : -ECONNRESET;
}

static void on_conn(struct ev_watch *w, uint32_t events)
{
	struct vhost_user *v = container_of(w, struct vhost_user, conn_watch);
	int rc = 0;

	(void)events;
	pthread_mutex_lock(&v->lock);
	if (v->link == VHOST_USER_GREETING) {
		rc = vhost_user_conn_greeted(&v->conn);
		if (rc > 0)
			rc = welcome(v);
	} else if (v->link == VHOST_USER_UP) {
		rc = unasked(v);
		if (!v->conn.broken)
			v->conn.asked = 0;
	}
	if (rc)
		vhost_user_link_lost(v, rc);
	vhost_user_unlock(v);
}

static void on_channel(struct ev_watch *w, uint32_t events)
{
	struct vhost_user *v = container_of(w, struct vhost_user, channel_watch);
	int rc = 0;

	(void)events;
	pthread_mutex_lock(&v->lock);
	if (v->conn.channel >= 0) {
		for (unsigned i = 0; !rc && !v->conn.channel_ended && i < BATCH; i++)
			rc = vhost_user_channel_serve(&v->conn);
		if (rc)
			vhost_user_link_lost(v, rc);
		else if (v->conn.channel_ended)
			close_channel(v);
	}
	vhost_user_unlock(v);
}

/* What was found on threads that may not do it. */
static void on_work(struct ev_timer *t)
{
	struct vhost_user *v = container_of(t, struct vhost_user, work);

	pthread_mutex_lock(&v->lock);
	if (v->link == VHOST_USER_UP) {
		if (v->conn.channel_ended)
			close_channel(v);
		if (v->conn.config_changed) {
			vhost_user_conn_begin(&v->conn);
			vhost_user_config_refresh(v);
			v->tell_config = true;
		}
		if (v->conn.broken)
			vhost_user_link_lost(v, v->conn.broken);
	}
	vhost_user_unlock(v);
}

static void defer(struct vhost_user *v)
{
	if (v->link == VHOST_USER_UP && (v->conn.config_changed || v->conn.broken))
		ev_timer_arm(&v->work, SOON);
}

void vhost_user_unlock(struct vhost_user *v)
{
	const bool config = v->tell_config, failed = v->tell_failed, let_go = v->tell_let_go;
	const int err = v->failed_err;

	v->tell_config = v->tell_failed = v->tell_let_go = false;
	defer(v);
	pthread_mutex_unlock(&v->lock);
	if (config && v->dp.events)
		v->dp.events->config_changed(v->dp.opaque);
	if (failed && v->dp.events)
		v->dp.events->failed(v->dp.opaque, err);
	if (let_go && v->dp.events && v->dp.events->let_go)
		v->dp.events->let_go(v->dp.opaque);
}

void vhost_user_unlock_elsewhere(struct vhost_user *v)
{
	defer(v);
	pthread_mutex_unlock(&v->lock);
}

/* --- the loop --- */

int vhost_user_link_attach(struct vhost_user *v)
{
	int rc;

	v->conn_watch = (struct ev_watch){.fd = v->conn.fd, .fn = on_conn};
	v->channel_watch = (struct ev_watch){.fd = -1, .fn = on_channel};
	v->listen_watch = (struct ev_watch){.fd = v->listen_fd, .fn = on_listen};
	v->work.watch.fd = -1;
	rc = vhost_user_leave_init(v);
	if (!rc)
		rc = ev_timer_init(&v->retry, v->loop, on_retry);
	if (!rc)
		rc = ev_timer_init(&v->work, v->loop, on_work);
	if (!rc)
		rc = evloop_add(v->loop, &v->conn_watch, EPOLLIN | EPOLLRDHUP);
	if (!rc) {
		v->link = VHOST_USER_UP;
		rc = watch_channel(v);
	}
	if (rc)
		vhost_user_link_detach(v);
	return rc;
}

void vhost_user_link_detach(struct vhost_user *v)
{
	close_link(v);
	if (v->listening)
		evloop_del(v->loop, &v->listen_watch);
	v->listening = false;
	ev_timer_fini(&v->retry);
	ev_timer_fini(&v->work);
	vhost_user_leave_fini(v);
}
