/* What every wire's server begins and ends with. */
/* #syscalls[server]: eventfd2 epoll_ctl read write close */
#include "servers/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "servers/server_guard.h"
#include "servers/server_state.h"
#include "servers/vduse_server.h"
#include "servers/vhost_user_server.h"

/* --- for devices --- */

int server_new(struct server **out, const struct server_config *c, struct err *e)
{
	struct vhost_user_server *s;
	int rc;

	if (c->vduse)
		return vduse_server_new(out, c, e);
	rc = vhost_user_server_new(&s, c, e);
	if (!rc)
		*out = vhost_user_server_base(s);
	return rc;
}

void server_free(struct server *s)
{
	if (s)
		s->wire->free(s);
}

void server_config_changed(struct server *s)
{
	const uint64_t one = 1;

	if (write(s->changed_watch.fd, &one, sizeof(one)) < 0) /* it is awake enough */
		return;
}

const char *server_name(const struct server *s)
{
	return s->name;
}

const char *server_node(const struct server *s)
{
	return s->wire->node ? s->wire->node(s) : NULL;
}

bool server_held(struct server *s)
{
	return s->wire->held && s->wire->held(s);
}

/* --- for wires --- */

void server_drain(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0) /* nothing there: fine */
		return;
}

static void on_lost(struct ev_watch *w, uint32_t events)
{
	struct server *s = container_of(w, struct server, lost_watch);

	(void)events;
	server_drain(w->fd);
	s->wire->lost(s);
}

static void on_changed(struct ev_watch *w, uint32_t events)
{
	struct server *s = container_of(w, struct server, changed_watch);

	(void)events;
	server_drain(w->fd);
	s->wire->changed(s);
}

void server_forget_memory(struct server *s)
{
	server_memory_clear(&s->memory);
	server_drain(s->lost_watch.fd); /* what it said was of that memory */
}

int server_init(struct server *s, const struct server_wire *wire, const struct server_config *c,
		const char *name, struct err *e)
{
	s->c = *c;
	s->wire = wire;
	s->lost_watch.fd = s->changed_watch.fd = -1;
	s->name = strdup(name);
	s->vring = calloc(c->max_queues, sizeof(*s->vring));
	if (!s->name || !s->vring)
		return err_set(e, -ENOMEM, "%s: out of memory", c->ops->name);
	s->c.path = s->c.vduse = NULL; /* the caller's, who may free them */
	server_queues_init(s);
	return 0;
}

static void begin(void *arg)
{
	(void)arg;
	server_guard_thread();
}

static int eventfd_watch(struct server *s, struct ev_watch *w,
			 void (*fn)(struct ev_watch *watch, uint32_t events))
{
	*w = (struct ev_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = fn};
	return w->fd < 0 ? -errno : evloop_add(s->thread.loop, w, EPOLLIN);
}

int server_start(struct server *s, const char *thread, struct err *e)
{
	int rc = loop_thread_start(&s->thread, thread, -1, e);

	if (rc)
		return rc;
	evloop_call(s->thread.loop, begin, s);
	rc = eventfd_watch(s, &s->lost_watch, on_lost);
	if (!rc)
		rc = eventfd_watch(s, &s->changed_watch, on_changed);
	if (rc)
		return err_set(e, rc, "%s: %s: %s", s->c.ops->name, s->name, strerror(-rc));
	server_memory_init(&s->memory, s->lost_watch.fd);
	return 0;
}

void server_stop(struct server *s)
{
	loop_thread_stop(&s->thread);
}

void server_fini(struct server *s)
{
	if (s->lost_watch.fd >= 0)
		close(s->lost_watch.fd);
	if (s->changed_watch.fd >= 0)
		close(s->changed_watch.fd);
	free(s->vring);
	free(s->name);
}
