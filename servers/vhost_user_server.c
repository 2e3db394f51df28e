/* The socket, and front ends that come and go. */
/* #syscalls: eventfd2 socket connect accept4 bind listen unlink epoll_ctl timerfd_settime read write close */
#include "servers/vhost_user_server.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backends/vhost_user_socket.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "servers/server_guard.h"
#include "servers/server_inflight.h"
#include "servers/server_state.h"

#define RETRY_MS 1000

static void listen_again(struct vhost_user_server *s)
{
	if (s->c.connects)
		ev_timer_arm(&s->retry, s->c.retry_ms);
	else if (!s->listening)
		s->listening = !evloop_add(s->thread.loop, &s->listen_watch, EPOLLIN);
}

static void drain_eventfd(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0) /* nothing there: fine */
		return;
}

static void hang_up(struct vhost_user_server *s)
{
	if (s->fd < 0)
		return;
	evloop_del(s->thread.loop, &s->conn_watch);
	server_queues_reset(s, true);
	server_inflight_unmap(s->inflight);
	s->inflight = NULL;
	server_memory_clear(&s->memory);
	drain_eventfd(s->lost_watch.fd); /* what it said was of that memory */
	vhost_user_reader_clear(&s->reader);
	close(s->fd);
	if (s->channel >= 0)
		close(s->channel);
	s->fd = s->channel = -1;
	s->features = s->protocol = 0;
	s->has_status = false;
	s->status = 0;
	if (s->c.ops->connected)
		s->c.ops->connected(s->c.dev, false);
}

static void refuse(struct vhost_user_server *s, const char *request, const char *why)
{
	atomic_fetch_add(&s->faults, 1);
	log_guest("%s: %s: the front end is sent away: %s: %s", s->c.ops->name, s->path, request, why);
	hang_up(s);
	listen_again(s);
}

static void on_conn(struct ev_watch *w, uint32_t events)
{
	struct vhost_user_server *s = container_of(w, struct vhost_user_server, conn_watch);

	(void)events;
	/* The rest comes again, after others had their turn. */
	for (unsigned n = 0; n < 16; n++) {
		const char *why = NULL;
		uint32_t request;
		int rc = vhost_user_read(s->fd, &s->reader);

		if (!rc)
			return;
		if (rc == -EPROTO) {
			refuse(s, "a message", "it is larger than any is");
			return;
		}
		if (rc > 0) {
			atomic_fetch_add(&s->messages, 1);
			request = s->reader.msg.request;
			rc = server_message(s, &why);
			if (rc && why) {
				refuse(s, vhost_user_request_name(request), why);
				return;
			}
			vhost_user_reader_clear(&s->reader);
		}
		if (rc < 0) {
			log_info("%s: %s: the front end has gone", s->c.ops->name, s->path);
			hang_up(s);
			listen_again(s);
			return;
		}
	}
}

static void greet(struct vhost_user_server *s, int fd)
{
	s->fd = fd;
	s->conn_watch.fd = fd;
	s->warned = false;
	atomic_fetch_add(&s->connections, 1);
	if (evloop_add(s->thread.loop, &s->conn_watch, EPOLLIN)) {
		close(fd);
		s->fd = -1;
		listen_again(s);
		return;
	}
	log_info("%s: %s: a front end is there", s->c.ops->name, s->path);
	if (s->c.ops->connected)
		s->c.ops->connected(s->c.dev, true);
}

static void on_listen(struct ev_watch *w, uint32_t events)
{
	struct vhost_user_server *s = container_of(w, struct vhost_user_server, listen_watch);
	int fd = vhost_user_accept(w->fd);

	(void)events;
	if (fd < 0)
		return;
	evloop_del(s->thread.loop, w);
	s->listening = false;
	greet(s, fd);
}

static void connect_now(struct vhost_user_server *s)
{
	int fd = vhost_user_connect(s->path);

	if (fd >= 0) {
		greet(s, fd);
		return;
	}
	if (!vhost_user_may_come(fd) && !s->warned) {
		struct err e;

		vhost_user_explain(s->path, false, fd, &e);
		log_warn("%s", e.text);
		s->warned = true;
	}
	ev_timer_arm(&s->retry, s->c.retry_ms);
}

static void on_retry(struct ev_timer *t)
{
	connect_now(container_of(t, struct vhost_user_server, retry));
}

static void on_lost(struct ev_watch *w, uint32_t events)
{
	struct vhost_user_server *s = container_of(w, struct vhost_user_server, lost_watch);

	(void)events;
	drain_eventfd(w->fd);
	if (s->fd >= 0)
		refuse(s, "its memory", "a file behind it was cut off");
}

static void on_changed(struct ev_watch *w, uint32_t events)
{
	struct vhost_user_server *s = container_of(w, struct vhost_user_server, changed_watch);
	const struct vhost_user_msg m = {.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
					 .flags = VHOST_USER_VERSION};

	(void)events;
	drain_eventfd(w->fd);
	if (s->channel >= 0 && server_has(s, VHOST_USER_PROTOCOL_F_CONFIG))
		vhost_user_send(s->channel, &m, NULL, 0, clock_ns(CLOCK_MONOTONIC) + 100000000);
}

void vhost_user_server_config_changed(struct vhost_user_server *s)
{
	const uint64_t one = 1;

	if (write(s->changed_watch.fd, &one, sizeof(one)) < 0) /* it is awake enough */
		return;
}

/* --- its life --- */

static void begin(void *arg)
{
	struct vhost_user_server *s = arg;

	server_guard_thread();
	if (s->c.connects)
		connect_now(s);
	else
		listen_again(s);
}

static void end(void *arg)
{
	struct vhost_user_server *s = arg;

	if (s->listening)
		evloop_del(s->thread.loop, &s->listen_watch);
	ev_timer_fini(&s->retry);
	hang_up(s);
}

static int eventfd_watch(struct vhost_user_server *s, struct ev_watch *w,
			 void (*fn)(struct ev_watch *w, uint32_t events))
{
	int rc;

	*w = (struct ev_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = fn};
	rc = w->fd < 0 ? -errno : evloop_add(s->thread.loop, w, EPOLLIN);
	return rc;
}

static int set_up(struct vhost_user_server *s, struct err *e)
{
	int rc;

	if (!s->c.connects) {
		s->listen_fd = vhost_user_listen(s->path, e);
		if (s->listen_fd < 0)
			return s->listen_fd;
	}
	s->listen_watch = (struct ev_watch){.fd = s->listen_fd, .fn = on_listen};
	s->conn_watch.fn = on_conn;
	rc = loop_thread_start(&s->thread, "vhost-user", -1, e);
	if (rc)
		return rc;
	rc = eventfd_watch(s, &s->lost_watch, on_lost);
	if (!rc)
		rc = eventfd_watch(s, &s->changed_watch, on_changed);
	if (!rc)
		rc = ev_timer_init(&s->retry, s->thread.loop, on_retry);
	if (rc)
		return err_set(e, rc, "%s: %s: %s", s->c.ops->name, s->path, strerror(-rc));
	server_memory_init(&s->memory, s->lost_watch.fd);
	return 0;
}

int vhost_user_server_new(struct vhost_user_server **out, const struct server_config *c, struct err *e)
{
	struct vhost_user_server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, -ENOMEM, "%s: out of memory", c->ops->name);
	s->c = *c;
	if (!s->c.retry_ms)
		s->c.retry_ms = RETRY_MS;
	s->fd = s->channel = s->listen_fd = s->lost_watch.fd = s->changed_watch.fd = s->retry.watch.fd = -1;
	s->path = strdup(c->path);
	s->vring = calloc(c->max_queues, sizeof(*s->vring));
	if (s->path && s->vring) {
		s->c.path = s->path;
		server_queues_init(s);
		rc = set_up(s, e);
	} else {
		rc = err_set(e, -ENOMEM, "%s: out of memory", c->ops->name);
	}
	if (rc) {
		vhost_user_server_free(s);
		return rc;
	}
	evloop_call(s->thread.loop, begin, s);
	*out = s;
	return 0;
}

void vhost_user_server_free(struct vhost_user_server *s)
{
	if (!s)
		return;
	if (s->thread.loop)
		evloop_call(s->thread.loop, end, s);
	loop_thread_stop(&s->thread);
	if (s->listen_fd >= 0) {
		close(s->listen_fd);
		unlink(s->path);
	}
	if (s->lost_watch.fd >= 0)
		close(s->lost_watch.fd);
	if (s->changed_watch.fd >= 0)
		close(s->changed_watch.fd);
	free(s->vring);
	free(s->path);
	free(s);
}

void vhost_user_server_counts(struct vhost_user_server *s, struct server_counts *out)
{
	*out = (struct server_counts){
		.connections = s->connections,
		.messages = s->messages,
		.faults = s->faults,
	};
}
