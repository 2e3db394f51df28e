/* #syscalls[setup]: socket bind listen connect lstat
 * #syscalls[data]: accept4 sendto recvfrom sendmsg recvmsg epoll_ctl shutdown
 * #syscalls[main]: unlink */
/* Theory of operation.  A client's two directions end on their own: who has shut down its sending half (as
 * "echo x | socat - UNIX:..." does) may still be waiting for an answer, and who has gone altogether may have
 * left bytes that the other side has yet to take.  The client is let go when both have ended; the end of its
 * input is not looked for while some of that input waits.
 *
 * epoll tells a hang-up whether asked to or not, as long as it lasts, so a client that is gone is watched only
 * while its input can be taken. */
#include "backends/socket_port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/evloop.h"

#define BACKLOG 8

struct socket_port {
	struct socket_port_config cfg;
	struct evloop *loop;
	struct ev_watch listener; /* watched while nobody is connected */
	bool bound;
	struct sockaddr_un addr;

	struct ev_watch client; /* fd -1: nobody */
	bool watched;
	uint32_t events;       /* ... for these */
	bool in_ended;         /* it sends no more */
	bool out_ended;        /* it reads no more */
	size_t in_off, in_len; /* what input() did not take yet */
	size_t out_len;
	bool held; /* ready() said no */
	char in[SOCKET_PORT_CHUNK];
	char out[SOCKET_PORT_KEEP];
};

static bool has_reader(const struct socket_port *p)
{
	return p->client.fd >= 0 && !p->out_ended;
}

static bool is_done(const struct socket_port *p)
{
	return p->in_ended && p->out_ended;
}

static void tell_room(struct socket_port *p)
{
	if (!p->held || p->out_len > SOCKET_PORT_KEEP / 2)
		return;
	p->held = false;
	p->cfg.room(p->cfg.opaque);
}

/* --- the client --- */

static void unwatch(struct socket_port *p)
{
	if (p->watched)
		evloop_del(p->loop, &p->client);
	p->watched = false;
}

static void hang_up(struct socket_port *p)
{
	if (p->client.fd < 0)
		return;
	unwatch(p);
	close(steal_fd(&p->client.fd));
	p->in_ended = p->out_ended = false;
	p->in_off = p->in_len = 0;
}

static void watch(struct socket_port *p)
{
	uint32_t events = 0;
	int rc;

	if (!p->in_ended && !p->in_len)
		events |= EPOLLIN;
	if (p->out_len && !p->out_ended)
		events |= EPOLLOUT;
	if (!events && p->out_ended) {
		unwatch(p);
		return;
	}
	if (p->watched && p->events == events)
		return;
	rc = p->watched ? evloop_mod(p->loop, &p->client, events) : evloop_add(p->loop, &p->client, events);
	if (rc) {
		log_warn("%s: a client is turned away: %s", p->addr.sun_path, strerror(-rc));
		p->in_ended = p->out_ended = true;
		p->in_len = 0;
		p->out_len = 0;
		tell_room(p);
	}
	p->watched = !rc;
	p->events = events;
}

/* After anything that happened to the client. */
static void settle(struct socket_port *p)
{
	if (p->client.fd < 0)
		return;
	if (!is_done(p))
		watch(p);
	if (!is_done(p))
		return;
	hang_up(p);
	/* Whoever waits in line already is told at once. */
	if (evloop_add(p->loop, &p->listener, EPOLLIN | EPOLLET))
		log_warn("%s: takes no more clients", p->addr.sun_path);
}

/* What was meant for one that has left is of no use to the next. */
static void end_output(struct socket_port *p)
{
	if (p->out_ended)
		return;
	p->out_ended = true;
	p->out_len = 0;
	tell_room(p);
}

/* How much of it the socket took; 0 also when the client is gone. */
static size_t put(struct socket_port *p, const char *data, size_t len)
{
	ssize_t n;

	do {
		n = send(p->client.fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return (size_t)n;
	if (errno != EAGAIN)
		end_output(p);
	return 0;
}

static void flush(struct socket_port *p)
{
	size_t n = p->out_len && has_reader(p) ? put(p, p->out, p->out_len) : 0;

	if (!n)
		return;
	p->out_len -= n;
	memmove(p->out, p->out + n, p->out_len);
	tell_room(p);
}

static void offer_input(struct socket_port *p)
{
	size_t n = p->in_len ? p->cfg.input(p->cfg.opaque, p->in + p->in_off, p->in_len) : 0;

	p->in_off += n;
	p->in_len -= n;
}

static void take_input(struct socket_port *p)
{
	ssize_t n;

	if (p->in_ended || p->in_len)
		return;
	n = recv(p->client.fd, p->in, sizeof(p->in), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		p->in_ended = true;
		return;
	}
	p->in_off = 0;
	p->in_len = (size_t)n;
	offer_input(p);
}

static void on_client(struct ev_watch *w, uint32_t events)
{
	struct socket_port *p = container_of(w, struct socket_port, client);

	if (events & (EPOLLHUP | EPOLLERR))
		end_output(p);
	if (events & ~(uint32_t)EPOLLOUT)
		take_input(p);
	if (events & EPOLLOUT)
		flush(p);
	settle(p);
}

/* Edge-triggered: one that cannot be accepted for want of descriptors must not keep the loop busy. */
static void on_connection(struct ev_watch *w, uint32_t events)
{
	struct socket_port *p = container_of(w, struct socket_port, listener);

	(void)events;
	p->client.fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (p->client.fd < 0) {
		log_debug("%s: %s", p->addr.sun_path, strerror(errno));
		return;
	}
	evloop_del(p->loop, &p->listener);
	settle(p);
}

/* --- for the other side --- */

bool socket_port_ready(struct socket_port *p)
{
	if (!has_reader(p) || SOCKET_PORT_KEEP - p->out_len >= SOCKET_PORT_CHUNK)
		return true;
	p->held = true;
	return false;
}

void socket_port_output(struct socket_port *p, const void *data, size_t len)
{
	const char *from = data;
	size_t n = has_reader(p) && !p->out_len ? put(p, from, len) : 0;

	from += n;
	len -= n;
	if (len > SOCKET_PORT_KEEP - p->out_len)
		len = SOCKET_PORT_KEEP - p->out_len;
	memcpy(p->out + p->out_len, from, len);
	p->out_len += len;
	settle(p);
}

void socket_port_room(struct socket_port *p)
{
	offer_input(p);
	settle(p);
}

/* --- the socket --- */

/* 0: nothing is in the way. */
static int clear_place(const struct socket_port *p, struct err *e)
{
	const char *path = p->addr.sun_path;
	CLEANUP_FD int fd = -1;
	struct stat st;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "%s: there is a file already, and it is no socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	if (connect(fd, (const struct sockaddr *)&p->addr, sizeof(p->addr)) == 0 || errno != ECONNREFUSED)
		return err_set(e, -EADDRINUSE,
			       "%s: another program listens there\nStop it, or choose another path", path);
	return unlink(path) ? err_set(e, -errno, "%s: %s", path, strerror(errno)) : 0;
}

static int bind_socket(struct socket_port *p, struct err *e)
{
	int rc = clear_place(p, e);

	if (rc)
		return rc;
	p->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->listener.fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	/* The file gets the socket's mode; other threads make files, so not by umask(). */
	if (fchmod(p->listener.fd, 0600) ||
	    bind(p->listener.fd, (const struct sockaddr *)&p->addr, sizeof(p->addr)))
		return err_set(e, -errno, "%s: %s", p->addr.sun_path, strerror(errno));
	p->bound = true;
	if (listen(p->listener.fd, BACKLOG))
		return err_set(e, -errno, "%s: %s", p->addr.sun_path, strerror(errno));
	return 0;
}

struct start_call {
	struct socket_port *p;
	int rc;
};

static void start(void *arg)
{
	struct start_call *call = arg;

	call->rc = evloop_add(call->p->loop, &call->p->listener, EPOLLIN | EPOLLET);
}

int socket_port_open(struct socket_port **out, struct evloop *loop, const struct socket_port_config *cfg,
		     struct err *e)
{
	struct socket_port *p;
	struct start_call call;
	int rc;

	*out = NULL;
	if (strlen(cfg->path) >= sizeof(p->addr.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s: a socket's path has at most %zu bytes", cfg->path,
			       sizeof(p->addr.sun_path) - 1);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->cfg = *cfg;
	p->loop = loop;
	p->addr.sun_family = AF_UNIX;
	strcpy(p->addr.sun_path, cfg->path);
	p->client = (struct ev_watch){.fd = -1, .fn = on_client};
	p->listener = (struct ev_watch){.fd = -1, .fn = on_connection};
	rc = bind_socket(p, e);
	if (!rc) {
		call = (struct start_call){.p = p};
		evloop_call(loop, start, &call);
		rc = call.rc;
		if (rc)
			err_set(e, rc, "%s: %s", cfg->path, strerror(-rc));
	}
	if (rc)
		socket_port_close(p);
	else
		*out = p;
	return rc;
}

static void stop(void *arg)
{
	struct socket_port *p = arg;

	hang_up(p);
	if (p->listener.fd >= 0) {
		evloop_del(p->loop, &p->listener); /* it may not be watched */
		close(p->listener.fd);
	}
}

void socket_port_close(struct socket_port *p)
{
	if (!p)
		return;
	evloop_call(p->loop, stop, p);
	if (p->bound)
		unlink(p->addr.sun_path);
	free(p);
}
