/* The socket, and front ends that come and go. */
/* #syscalls[server]: eventfd2 socket connect accept4 bind listen unlink epoll_ctl timerfd_settime read write
 * close */
#include "servers/vhost_user_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "backends/vhost_user_socket.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "servers/server_inflight.h"
#include "servers/vhost_user_state.h"

#define RETRY_MS 1000

static void listen_again(struct vhost_user_server *s)
{
	if (s->core.c.connects)
		ev_timer_arm(&s->retry, s->core.c.retry_ms);
	else if (!s->listening)
		s->listening = !evloop_add(s->core.thread.loop, &s->listen_watch, EPOLLIN);
}

static void hang_up(struct vhost_user_server *s)
{
	if (s->fd < 0)
		return;
	evloop_del(s->core.thread.loop, &s->conn_watch);
	server_queues_reset(&s->core, true);
	server_inflight_unmap(s->core.inflight);
	s->core.inflight = NULL;
	server_forget_memory(&s->core);
	vhost_user_reader_clear(&s->reader);
	close(s->fd);
	if (s->channel >= 0)
		close(s->channel);
	s->fd = s->channel = -1;
	s->core.features = s->protocol = 0;
	s->core.by_enable = s->core.has_status = false;
	s->core.status = 0;
	if (s->core.c.ops->connected)
		s->core.c.ops->connected(s->core.c.dev, false);
}

static void refuse(struct vhost_user_server *s, const char *request, const char *why)
{
	atomic_fetch_add(&s->faults, 1);
	log_guest("%s: %s: the front end is sent away: %s: %s", s->core.c.ops->name, s->core.name, request,
		  why);
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
			log_info("%s: %s: the front end has gone", s->core.c.ops->name, s->core.name);
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
	if (evloop_add(s->core.thread.loop, &s->conn_watch, EPOLLIN)) {
		close(fd);
		s->fd = -1;
		listen_again(s);
		return;
	}
	log_info("%s: %s: a front end is there", s->core.c.ops->name, s->core.name);
	if (s->core.c.ops->connected)
		s->core.c.ops->connected(s->core.c.dev, true);
}

static void on_listen(struct ev_watch *w, uint32_t events)
{
	struct vhost_user_server *s = container_of(w, struct vhost_user_server, listen_watch);
	int fd = vhost_user_accept(w->fd);

	(void)events;
	if (fd < 0)
		return;
	evloop_del(s->core.thread.loop, w);
	s->listening = false;
	greet(s, fd);
}

static void connect_now(struct vhost_user_server *s)
{
	int fd = vhost_user_connect(s->core.name);

	if (fd >= 0) {
		greet(s, fd);
		return;
	}
	if (!vhost_user_may_come(fd) && !s->warned) {
		struct err e;

		vhost_user_explain(s->core.name, false, fd, &e);
		log_warn("%s", e.text);
		s->warned = true;
	}
	ev_timer_arm(&s->retry, s->core.c.retry_ms);
}

static void on_retry(struct ev_timer *t)
{
	connect_now(container_of(t, struct vhost_user_server, retry));
}

/* --- what the core asks of its wire --- */

static struct vhost_user_server *of(struct server *core)
{
	return container_of(core, struct vhost_user_server, core);
}

static void lost(struct server *core)
{
	struct vhost_user_server *s = of(core);

	if (s->fd >= 0)
		refuse(s, "its memory", "a file behind it was cut off");
}

static void changed(struct server *core)
{
	const struct vhost_user_msg m = {.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
					 .flags = VHOST_USER_VERSION};
	struct vhost_user_server *s = of(core);

	if (s->channel >= 0 && server_has(s, VHOST_USER_PROTOCOL_F_CONFIG))
		vhost_user_send(s->channel, &m, NULL, 0, clock_ns(CLOCK_MONOTONIC) + 100000000);
}

static void free_core(struct server *core)
{
	vhost_user_server_free(of(core));
}

static const struct server_wire wire = {.changed = changed, .lost = lost, .free = free_core};

void vhost_user_server_config_changed(struct vhost_user_server *s)
{
	server_config_changed(&s->core);
}

struct server *vhost_user_server_base(struct vhost_user_server *s)
{
	return &s->core;
}

/* --- its life --- */

static void begin(void *arg)
{
	struct vhost_user_server *s = arg;

	if (s->core.c.connects)
		connect_now(s);
	else
		listen_again(s);
}

static void end(void *arg)
{
	struct vhost_user_server *s = arg;

	if (s->listening)
		evloop_del(s->core.thread.loop, &s->listen_watch);
	ev_timer_fini(&s->retry);
	hang_up(s);
}

static int set_up(struct vhost_user_server *s, struct err *e)
{
	int rc;

	if (!s->core.c.connects) {
		s->listen_fd = vhost_user_listen(s->core.name, e);
		if (s->listen_fd < 0)
			return s->listen_fd;
	}
	s->listen_watch = (struct ev_watch){.fd = s->listen_fd, .fn = on_listen};
	s->conn_watch.fn = on_conn;
	rc = server_start(&s->core, "vhost-user", e);
	if (rc)
		return rc;
	rc = ev_timer_init(&s->retry, s->core.thread.loop, on_retry);
	return rc ? err_set(e, rc, "%s: %s: %s", s->core.c.ops->name, s->core.name, strerror(-rc)) : 0;
}

int vhost_user_server_new(struct vhost_user_server **out, const struct server_config *c, struct err *e)
{
	struct vhost_user_server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, -ENOMEM, "%s: out of memory", c->ops->name);
	s->fd = s->channel = s->listen_fd = s->retry.watch.fd = -1;
	rc = server_init(&s->core, &wire, c, c->path, e);
	if (!s->core.c.retry_ms)
		s->core.c.retry_ms = RETRY_MS;
	if (!rc)
		rc = set_up(s, e);
	if (rc) {
		vhost_user_server_free(s);
		return rc;
	}
	evloop_call(s->core.thread.loop, begin, s);
	*out = s;
	return 0;
}

void vhost_user_server_free(struct vhost_user_server *s)
{
	if (!s)
		return;
	if (s->core.thread.loop)
		evloop_call(s->core.thread.loop, end, s);
	server_stop(&s->core);
	if (s->listen_fd >= 0) {
		close(s->listen_fd);
		unlink(s->core.name);
	}
	server_fini(&s->core);
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
