/* A back end that is hung up on.
 *
 * Closing our end does not stop one that is frozen: it holds the rings and the memory, and goes on with them
 * when it thaws, until it looks at its socket.  So the connection is closed in one direction only, which it
 * reads as the end, and its own end is watched: it closes that, or dies, when it is done.  Back ends were seen
 * to close the socket a moment before their last burst has ended (DPDK 22.11), hence the grace.  No other back
 * end is let in meanwhile. */
/* #syscalls[vcpu,data]: shutdown poll epoll_ctl timerfd_settime */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/vhost_user_state.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#define GRACE_MS 100

static void hang_up(struct vhost_user *v)
{
	if (v->leave_watch.fd >= 0)
		close(v->leave_watch.fd);
	v->leave_watch.fd = -1;
}

static void on_leave_grace(struct ev_timer *t)
{
	struct vhost_user *v = container_of(t, struct vhost_user, leave_grace);

	pthread_mutex_lock(&v->lock);
	hang_up(v);
	v->lingers = false;
	v->tell_let_go = true;
	log_info("%s: the back end that was disconnected from %s has let go of the guest's memory", v->name,
		 v->path);
	vhost_user_link_retry(v);
	vhost_user_unlock(v);
}

static void on_leave(struct ev_watch *w, uint32_t events)
{
	struct vhost_user *v = container_of(w, struct vhost_user, leave_watch);

	(void)events;
	evloop_del(v->loop, w);
	ev_timer_arm(&v->leave_grace, GRACE_MS);
}

int vhost_user_leave_init(struct vhost_user *v)
{
	v->leave_watch = (struct ev_watch){.fd = -1, .fn = on_leave};
	v->leave_grace.watch.fd = -1;
	return ev_timer_init(&v->leave_grace, v->loop, on_leave_grace);
}

void vhost_user_leave_fini(struct vhost_user *v)
{
	if (v->leave_watch.fd >= 0)
		evloop_del(v->loop, &v->leave_watch);
	hang_up(v);
	ev_timer_fini(&v->leave_grace);
}

static bool has_closed(int fd, unsigned wait_ms)
{
	/* Whatever else it sends nobody reads. */
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, (int)wait_ms) > 0;
}

bool vhost_user_leave(struct vhost_user *v, unsigned wait_ms)
{
	const int fd = v->conn.fd;

	v->conn.fd = -1;
	shutdown(fd, SHUT_WR);
	if (has_closed(fd, wait_ms)) {
		close(fd);
		return false;
	}
	v->leave_watch.fd = fd;
	if (evloop_add(v->loop, &v->leave_watch, EPOLLRDHUP)) {
		hang_up(v);
		return false;
	}
	v->lingers = true;
	log_guest(
		"%s: the vhost-user back end at %s was disconnected and has not noticed: it may still use the "
		"guest's memory; the device waits until it ends",
		v->name, v->path);
	return true;
}
