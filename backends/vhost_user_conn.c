/* #syscalls[vcpu,data]: socketpair:0==AF_UNIX poll shutdown */
#include "backends/vhost_user_conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/trace.h"

#define BIT(n)       (UINT64_C(1) << (n))
#define MS           UINT64_C(1000000)
#define OPERATION_BY 4 /* times reply_ms */

void vhost_user_conn_init(struct vhost_user_conn *c, unsigned reply_ms)
{
	*c = (struct vhost_user_conn){.fd = -1, .channel = -1, .broken = -ENOTCONN, .reply_ms = reply_ms};
}

void vhost_user_conn_close(struct vhost_user_conn *c)
{
	vhost_user_reader_clear(&c->in);
	vhost_user_reader_clear(&c->channel_in);
	if (c->fd >= 0)
		close(c->fd);
	if (c->channel >= 0)
		close(c->channel);
	c->fd = c->channel = -1;
	c->channel_ended = false;
	if (!c->broken)
		c->broken = -ENOTCONN;
}

void vhost_user_conn_begin(struct vhost_user_conn *c)
{
	c->end = clock_ns(CLOCK_MONOTONIC) + OPERATION_BY * c->reply_ms * MS;
}

/* Nothing comes after the message that this is about. */
static void trace_broken(const struct vhost_user_conn *c, int rc)
{
	char line[64];

	snprintf(line, sizeof(line), "- after %s the connection is of no more use",
		 vhost_user_request_name(c->asked));
	trace_call(c->name ? c->name : "?", "vhost-user", line, rc);
}

static int broken(struct vhost_user_conn *c, int rc)
{
	if (!c->broken) {
		c->broken = rc;
		if (trace_wanted())
			trace_broken(c, rc);
	}
	return rc;
}

static void trace(const struct vhost_user_conn *c, const char *way, const struct vhost_user_msg *m,
		  unsigned nfds)
{
	char text[160], line[170];

	if (!c->trace && !trace_wanted())
		return;
	snprintf(line, sizeof(line), "%s %s", way, vhost_user_msg_text(m, nfds, text, sizeof(text)));
	if (c->trace)
		c->trace(c->trace_opaque, line);
	trace_call(c->name ? c->name : "?", "vhost-user", line, 0);
}

static uint64_t deadline(const struct vhost_user_conn *c)
{
	const uint64_t one = clock_ns(CLOCK_MONOTONIC) + c->reply_ms * MS;

	return one < c->end ? one : c->end;
}

/* --- requests --- */

static int send_msg(struct vhost_user_conn *c, struct vhost_user_msg *m, bool need_reply, const int *fds,
		    unsigned nfds, uint64_t by)
{
	int rc;

	if (c->broken)
		return c->broken;
	m->flags = VHOST_USER_VERSION | (need_reply ? VHOST_USER_NEED_REPLY : 0);
	c->asked = m->request;
	trace(c, ">", m, nfds);
	rc = vhost_user_send(c->fd, m, fds, nfds, by);
	return rc ? broken(c, rc) : 0;
}

/* A peer may want an answer on the channel before it gives ours. */
static int await(struct vhost_user_conn *c, uint64_t by)
{
	for (;;) {
		struct pollfd p[] = {
			{.fd = c->fd, .events = POLLIN},
			{.fd = c->channel_ended ? -1 : c->channel, .events = POLLIN},
		};
		int rc = vhost_user_read(c->fd, &c->in);
		uint64_t now;

		if (rc)
			return rc < 0 ? rc : 0;
		now = clock_ns(CLOCK_MONOTONIC);
		if (now >= by)
			return -ETIMEDOUT;
		if (poll(p, 2, (int)((by - now) / MS + 1)) < 0 && errno != EINTR)
			return -errno;
		if (p[1].revents) {
			rc = vhost_user_channel_serve(c);
			if (rc)
				return rc;
		}
	}
}

/* The reply to `request` is in c->in. */
static int receive(struct vhost_user_conn *c, uint32_t request, uint64_t by)
{
	int rc = await(c, by);

	if (rc)
		return broken(c, rc);
	trace(c, "<", &c->in.msg, c->in.nfds);
	if (c->in.msg.request != request || !(c->in.msg.flags & VHOST_USER_REPLY) ||
	    (c->in.msg.flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION) {
		vhost_user_reader_clear(&c->in);
		return broken(c, -EPROTO);
	}
	return 0;
}

int vhost_user_set(struct vhost_user_conn *c, struct vhost_user_msg *m, const int *fds, unsigned nfds)
{
	const bool ack = vhost_user_has(c, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	const uint64_t by = deadline(c);
	int rc = send_msg(c, m, ack, fds, nfds, by);

	if (rc || !ack)
		return rc;
	rc = receive(c, m->request, by);
	if (rc)
		return rc;
	if (c->in.msg.size != sizeof(c->in.msg.u64))
		rc = broken(c, -EPROTO);
	else if (c->in.msg.u64)
		rc = -EREMOTEIO;
	vhost_user_reader_clear(&c->in);
	return rc;
}

int vhost_user_set_u64(struct vhost_user_conn *c, uint32_t request, uint64_t value)
{
	struct vhost_user_msg m = {.request = request, .size = sizeof(m.u64), .u64 = value};

	return vhost_user_set(c, &m, NULL, 0);
}

int vhost_user_set_fd(struct vhost_user_conn *c, uint32_t request, uint64_t value, int fd)
{
	struct vhost_user_msg m = {.request = request, .size = sizeof(m.u64), .u64 = value};

	return vhost_user_set(c, &m, &fd, 1);
}

int vhost_user_set_state(struct vhost_user_conn *c, uint32_t request, unsigned index, unsigned num)
{
	struct vhost_user_msg m = {.request = request, .size = sizeof(m.state), .state = {index, num}};

	return vhost_user_set(c, &m, NULL, 0);
}

static int take_reply(struct vhost_user_conn *c, struct vhost_user_msg *m, uint32_t size, int *fd, uint64_t by)
{
	int rc = receive(c, m->request, by);

	if (rc)
		return rc;
	if (size && c->in.msg.size != size) {
		rc = broken(c, -EPROTO);
	} else {
		*m = c->in.msg;
		if (fd && c->in.nfds) {
			*fd = c->in.fd[0];
			c->in.fd[0] = -1;
		}
	}
	vhost_user_reader_clear(&c->in);
	return rc;
}

int vhost_user_get(struct vhost_user_conn *c, struct vhost_user_msg *m, uint32_t size, int *fd)
{
	const uint64_t by = deadline(c);
	int rc;

	if (fd)
		*fd = -1;
	rc = send_msg(c, m, false, NULL, 0, by);
	return rc ? rc : take_reply(c, m, size, fd, by);
}

int vhost_user_get_u64(struct vhost_user_conn *c, uint32_t request, uint64_t *value)
{
	struct vhost_user_msg m = {.request = request};
	int rc = vhost_user_get(c, &m, sizeof(m.u64), NULL);

	if (!rc)
		*value = m.u64;
	return rc;
}

int vhost_user_barrier(struct vhost_user_conn *c)
{
	uint64_t features;

	return vhost_user_get_u64(c, VHOST_USER_GET_FEATURES, &features);
}

/* --- the handshake --- */

int vhost_user_conn_greet(struct vhost_user_conn *c, int fd)
{
	struct vhost_user_msg m = {.request = VHOST_USER_GET_FEATURES};
	int rc;

	vhost_user_conn_close(c);
	c->fd = fd;
	c->broken = 0;
	c->features = c->protocol = 0;
	c->config_changed = false;
	vhost_user_conn_begin(c);
	rc = send_msg(c, &m, false, NULL, 0, deadline(c));
	if (rc)
		vhost_user_conn_close(c);
	return rc;
}

int vhost_user_conn_greeted(struct vhost_user_conn *c)
{
	int rc = c->broken ? c->broken : vhost_user_read(c->fd, &c->in);

	return rc < 0 ? broken(c, rc) : rc;
}

static int make_channel(struct vhost_user_conn *c)
{
	struct vhost_user_msg m = {.request = VHOST_USER_SET_BACKEND_REQ_FD};
	int sv[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv))
		return broken(c, -errno);
	c->channel = sv[0];
	rc = vhost_user_set(c, &m, &sv[1], 1);
	close(sv[1]);
	return rc;
}

int vhost_user_conn_negotiate(struct vhost_user_conn *c, const struct vhost_user_wish *wish)
{
	struct vhost_user_msg m = {.request = VHOST_USER_GET_FEATURES};
	uint64_t v;
	int rc;

	vhost_user_conn_begin(c);
	c->asked = m.request;
	rc = c->broken ? c->broken : take_reply(c, &m, sizeof(m.u64), NULL, deadline(c));
	if (rc)
		return rc;
	c->features = m.u64;
	c->queues = 0;
	c->mem_slots = VHOST_USER_MAX_FDS;
	if (vhost_user_has_protocol(c)) {
		rc = vhost_user_get_u64(c, VHOST_USER_GET_PROTOCOL_FEATURES, &v);
		if (rc)
			return rc;
		v &= wish->protocol;
		/* Without acknowledgements nobody can say whether one region of several was taken. */
		if (!(v & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)))
			v &= ~BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
		rc = vhost_user_set_u64(c, VHOST_USER_SET_PROTOCOL_FEATURES, v);
		if (rc)
			return rc;
		c->protocol = v;
	}
	m = (struct vhost_user_msg){.request = VHOST_USER_SET_OWNER};
	rc = vhost_user_set(c, &m, NULL, 0);
	if (!rc && vhost_user_has(c, VHOST_USER_PROTOCOL_F_MQ)) {
		rc = vhost_user_get_u64(c, VHOST_USER_GET_QUEUE_NUM, &v);
		if (!rc)
			c->queues = v > 256 ? 256 : (unsigned)v * (wish->pairs ? 2 : 1);
	}
	if (!rc && vhost_user_has(c, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
		rc = vhost_user_get_u64(c, VHOST_USER_GET_MAX_MEM_SLOTS, &c->mem_slots);
	if (!rc && vhost_user_has(c, VHOST_USER_PROTOCOL_F_BACKEND_REQ))
		rc = make_channel(c);
	return rc;
}

/* --- configuration space --- */

int vhost_user_get_config(struct vhost_user_conn *c, size_t off, void *buf, size_t len)
{
	struct vhost_user_msg m = {.request = VHOST_USER_GET_CONFIG,
				   .size = VHOST_USER_CONFIG_HDR + (uint32_t)len,
				   .config = {.offset = (uint32_t)off, .size = (uint32_t)len}};
	const uint32_t size = m.size;
	int rc = vhost_user_get(c, &m, 0, NULL);

	if (rc)
		return rc;
	if (!m.size) /* its way to refuse */
		return -EREMOTEIO;
	if (m.size != size || m.config.offset != off || m.config.size != len)
		return broken(c, -EPROTO);
	memcpy(buf, m.config.region, len);
	return 0;
}

int vhost_user_set_config(struct vhost_user_conn *c, size_t off, const void *buf, size_t len)
{
	struct vhost_user_msg m = {.request = VHOST_USER_SET_CONFIG,
				   .size = VHOST_USER_CONFIG_HDR + (uint32_t)len,
				   .config = {.offset = (uint32_t)off, .size = (uint32_t)len}};

	memcpy(m.config.region, buf, len);
	return vhost_user_set(c, &m, NULL, 0);
}

/* --- the back end's own requests --- */

static void trace_backend(const struct vhost_user_conn *c, const struct vhost_user_msg *m, unsigned nfds)
{
	char line[96];

	if (!trace_wanted())
		return;
	snprintf(line, sizeof(line), "< BACKEND_%s%s size=%u fds=%u",
		 m->request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG ? "CONFIG_CHANGE_MSG" : "?",
		 m->flags & VHOST_USER_NEED_REPLY ? " need_reply" : "", m->size, nfds);
	trace_call(c->name ? c->name : "?", "vhost-user", line, 0);
}

int vhost_user_channel_serve(struct vhost_user_conn *c)
{
	struct vhost_user_msg *m = &c->channel_in.msg;
	bool known;
	int rc = vhost_user_read(c->channel, &c->channel_in);

	if (rc == -ECONNRESET) {
		c->channel_ended = true;
		return 0;
	}
	if (rc <= 0)
		return rc ? broken(c, rc) : 0;
	if ((m->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION || (m->flags & VHOST_USER_REPLY)) {
		vhost_user_reader_clear(&c->channel_in);
		return broken(c, -EPROTO);
	}
	trace_backend(c, m, c->channel_in.nfds);
	known = m->request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG &&
		vhost_user_has(c, VHOST_USER_PROTOCOL_F_CONFIG);
	c->config_changed |= known;
	vhost_user_reader_clear(&c->channel_in); /* with what descriptors came: nothing here wants any */
	if (m->flags & VHOST_USER_NEED_REPLY) {
		m->flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
		m->size = sizeof(m->u64);
		m->u64 = !known;
		/* Waits for nobody: one who reads no answers has no use for them. */
		rc = vhost_user_send(c->channel, m, NULL, 0, 0);
	}
	return rc < 0 ? broken(c, rc == -ETIMEDOUT ? -EPROTO : rc) : 0;
}
