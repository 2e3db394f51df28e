/* The back end's side of each message. */
/* #syscalls[server]: sendmsg */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "servers/server_handlers.h"
#include "servers/server_inflight.h"

#define REPLY_NS UINT64_C(1000000000) /* how long a front end may leave its socket full */

#define BIT(n) SERVER_BIT(n)

int server_reply(struct vhost_user_server *s, const struct vhost_user_msg *request, struct vhost_user_msg *m,
		 const int *fd)
{
	m->request = request->request;
	m->flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
	return vhost_user_send(s->fd, m, fd, fd ? 1 : 0, clock_ns(CLOCK_MONOTONIC) + REPLY_NS);
}

int server_reply_u64(struct vhost_user_server *s, const struct vhost_user_msg *request, uint64_t value)
{
	struct vhost_user_msg m = {.size = sizeof(m.u64), .u64 = value};
	int rc = server_reply(s, request, &m, NULL);

	return rc ? rc : SERVER_REPLIED;
}

/* --- features --- */

static uint64_t protocol_features(const struct vhost_user_server *s)
{
	uint64_t f = BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
		     BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |
		     BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT(VHOST_USER_PROTOCOL_F_STATUS);

	if (s->core.c.config_len)
		f |= BIT(VHOST_USER_PROTOCOL_F_CONFIG);
	if (s->core.c.inflight)
		f |= BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
	if (s->core.c.mtu)
		f |= BIT(VHOST_USER_PROTOCOL_F_NET_MTU);
	return f;
}

static uint64_t offered(const struct vhost_user_server *s)
{
	return s->core.c.features | BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

static int get_features(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)fd;
	return server_reply_u64(s, m, offered(s));
}

static int set_features(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	const uint64_t features = m->u64 & ~BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	const bool by_enable = features != m->u64;
	int rc;

	(void)fd;
	if (m->u64 & ~offered(s))
		return -EINVAL;
	if (features == s->core.features && by_enable == s->core.by_enable)
		return 0;
	server_queues_stop(&s->core);
	rc = s->core.c.ops->set_features ? s->core.c.ops->set_features(s->core.c.dev, features) : 0;
	if (rc)
		return rc;
	s->core.features = features;
	s->core.by_enable = by_enable;
	server_queues_start(&s->core);
	return 0;
}

static int get_protocol_features(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)fd;
	return server_reply_u64(s, m, protocol_features(s));
}

static int set_protocol_features(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)fd;
	if (m->u64 & ~protocol_features(s))
		return -EINVAL;
	s->protocol = m->u64;
	return 0;
}

static int get_queue_num(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)fd;
	return server_reply_u64(s, m, s->core.c.queue_num ? s->core.c.queue_num : s->core.c.max_queues);
}

static int accept_quietly(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)s;
	(void)m;
	(void)fd;
	return 0;
}

/* --- the device --- */

static int reset_device(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)m;
	(void)fd;
	server_queues_reset(&s->core, false);
	s->core.status = 0;
	return 0;
}

static int set_status(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	if (m->u64 > UINT8_MAX)
		return -EINVAL;
	s->core.has_status = true;
	s->core.status = (uint8_t)m->u64;
	if (!s->core.status)
		return reset_device(s, m, fd);
	return server_queues_start(&s->core);
}

static int get_status(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)fd;
	return server_reply_u64(s, m, s->core.status);
}

static bool in_config(const struct vhost_user_server *s, const struct vhost_user_msg *m)
{
	return m->size == VHOST_USER_CONFIG_HDR + m->config.size && m->config.size <= s->core.c.config_len &&
	       m->config.offset <= s->core.c.config_len - m->config.size;
}

/* A size of 0 says no. */
static int get_config(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct vhost_user_msg answer = *m;
	int rc;

	(void)fd;
	/* Some ask for more than there is, and want to see how much that is. */
	if (m->size != VHOST_USER_CONFIG_HDR + m->config.size || m->config.size > VHOST_USER_MAX_CONFIG ||
	    m->config.offset > s->core.c.config_len) {
		answer.size = 0;
	} else {
		const uint32_t there = s->core.c.config_len - m->config.offset;
		const uint32_t n = m->config.size < there ? m->config.size : there;

		memset(answer.config.region, 0, m->config.size);
		if (n && s->core.c.ops->config_read(s->core.c.dev, m->config.offset, answer.config.region, n))
			answer.size = 0;
	}
	rc = server_reply(s, m, &answer, NULL);
	return rc ? rc : SERVER_REPLIED;
}

static int set_config(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)fd;
	if (!in_config(s, m) || !s->core.c.ops->config_write)
		return -EINVAL;
	return s->core.c.ops->config_write(s->core.c.dev, m->config.offset, m->config.region, m->config.size);
}

static int net_set_mtu(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	const uint16_t mtu = htole16((uint16_t)m->u64);

	(void)fd;
	if (m->u64 < 68 || m->u64 > 65535)
		return -EINVAL;
	return s->core.c.ops->config_write
		       ? s->core.c.ops->config_write(s->core.c.dev, offsetof(struct virtio_net_config, mtu),
						     &mtu, 2)
		       : 0;
}

static int set_backend_req_fd(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	(void)m;
	if (s->channel >= 0)
		close(s->channel);
	s->channel = steal_fd(fd);
	return 0;
}

static int get_inflight_fd(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	struct vhost_user_msg answer = {.size = sizeof(answer.inflight), .inflight = m->inflight};
	CLEANUP_FD int made = server_inflight_make(&answer.inflight);
	int rc;

	(void)fd;
	if (made < 0)
		return made;
	rc = server_reply(s, m, &answer, &made);
	return rc ? rc : SERVER_REPLIED;
}

static int set_inflight_fd(struct vhost_user_server *s, struct vhost_user_msg *m, int *fd)
{
	int rc;

	server_queues_stop(&s->core);
	server_inflight_unmap(s->core.inflight);
	s->core.inflight = NULL;
	rc = server_inflight_map(&s->core.inflight, &m->inflight, fd[0], s->core.memory.lost_fd);
	server_queues_start(&s->core);
	return rc;
}

/* --- which is which --- */

#define FDS_OF_RING  0xff /* one, unless NOFD is said */
#define FDS_OF_TABLE 0xfe /* one a region */
#define ANY_PROTOCOL 0xff

#define U64 sizeof(uint64_t)

static const struct entry {
	server_handler *fn;
	uint16_t min, max;     /* bytes of payload */
	uint8_t fds, protocol; /* a bit that must have been negotiated */
} table[VHOST_USER_NREQUESTS] = {
#define NEEDS(f)                             VHOST_USER_PROTOCOL_F_##f
#define M(name, fn, min, max, fds, protocol) [VHOST_USER_##name] = {fn, min, max, fds, protocol}
	M(GET_FEATURES, get_features, 0, 0, 0, ANY_PROTOCOL),
	M(SET_FEATURES, set_features, U64, U64, 0, ANY_PROTOCOL),
	M(SET_OWNER, accept_quietly, 0, 0, 0, ANY_PROTOCOL),
	[SERVER_RESET_OWNER] = {accept_quietly, 0, 0, 0, ANY_PROTOCOL},
	M(SET_MEM_TABLE, server_set_mem_table, 8, sizeof(struct vhost_user_memory), FDS_OF_TABLE, ANY_PROTOCOL),
	M(SET_VRING_NUM, server_set_vring_num, 8, 8, 0, ANY_PROTOCOL),
	M(SET_VRING_ADDR, server_set_vring_addr, sizeof(struct vhost_vring_addr),
	  sizeof(struct vhost_vring_addr), 0, ANY_PROTOCOL),
	M(SET_VRING_BASE, server_set_vring_base, 8, 8, 0, ANY_PROTOCOL),
	M(GET_VRING_BASE, server_get_vring_base, 8, 8, 0, ANY_PROTOCOL),
	M(SET_VRING_KICK, server_set_vring_kick, U64, U64, FDS_OF_RING, ANY_PROTOCOL),
	M(SET_VRING_CALL, server_set_vring_call, U64, U64, FDS_OF_RING, ANY_PROTOCOL),
	[SERVER_SET_VRING_ERR] = {server_set_vring_err, U64, U64, FDS_OF_RING, ANY_PROTOCOL},
	M(GET_PROTOCOL_FEATURES, get_protocol_features, 0, 0, 0, ANY_PROTOCOL),
	M(SET_PROTOCOL_FEATURES, set_protocol_features, U64, U64, 0, ANY_PROTOCOL),
	M(GET_QUEUE_NUM, get_queue_num, 0, 0, 0, NEEDS(MQ)),
	M(SET_VRING_ENABLE, server_set_vring_enable, 8, 8, 0, ANY_PROTOCOL),
	M(NET_SET_MTU, net_set_mtu, U64, U64, 0, NEEDS(NET_MTU)),
	M(SET_BACKEND_REQ_FD, set_backend_req_fd, 0, U64, 1, NEEDS(BACKEND_REQ)),
	M(GET_CONFIG, get_config, VHOST_USER_CONFIG_HDR, sizeof(struct vhost_user_config_space), 0,
	  NEEDS(CONFIG)),
	M(SET_CONFIG, set_config, VHOST_USER_CONFIG_HDR, sizeof(struct vhost_user_config_space), 0,
	  NEEDS(CONFIG)),
	M(GET_INFLIGHT_FD, get_inflight_fd, 20, sizeof(struct vhost_user_inflight_desc), 0,
	  NEEDS(INFLIGHT_SHMFD)),
	M(SET_INFLIGHT_FD, set_inflight_fd, 20, sizeof(struct vhost_user_inflight_desc), 1,
	  NEEDS(INFLIGHT_SHMFD)),
	M(RESET_DEVICE, reset_device, 0, 0, 0, NEEDS(RESET_DEVICE)),
	M(GET_MAX_MEM_SLOTS, server_get_max_mem_slots, 0, 0, 0, NEEDS(CONFIGURE_MEM_SLOTS)),
	M(ADD_MEM_REG, server_add_mem_reg, sizeof(struct vhost_user_mem_reg), sizeof(struct vhost_user_mem_reg),
	  1, NEEDS(CONFIGURE_MEM_SLOTS)),
	M(REM_MEM_REG, server_rem_mem_reg, sizeof(struct vhost_user_mem_reg), sizeof(struct vhost_user_mem_reg),
	  0, NEEDS(CONFIGURE_MEM_SLOTS)),
	M(SET_STATUS, set_status, U64, U64, 0, NEEDS(STATUS)),
	M(GET_STATUS, get_status, 0, 0, 0, NEEDS(STATUS)),
#undef M
#undef NEEDS
};

static unsigned fds_due(const struct entry *e, const struct vhost_user_msg *m)
{
	switch (e->fds) {
	case FDS_OF_RING:
		return m->u64 & SERVER_VRING_NOFD ? 0 : 1;
	case FDS_OF_TABLE:
		return m->memory.nregions;
	}
	return e->fds;
}

static const char *malformed(const struct vhost_user_server *s, const struct entry *e,
			     const struct vhost_user_reader *r)
{
	const struct vhost_user_msg *m = &r->msg;

	if ((m->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION)
		return "it is of another version";
	if (m->flags & VHOST_USER_REPLY)
		return "it is a reply, and nothing was asked";
	if (!e || !e->fn)
		return "we do not know it";
	if (e->protocol != ANY_PROTOCOL && !(s->protocol >> e->protocol & 1))
		return "it was not negotiated";
	if (m->size < e->min || m->size > e->max)
		return "its size is wrong";
	if (e->fds == FDS_OF_TABLE && (m->memory.nregions > VHOST_USER_MAX_FDS ||
				       m->size < offsetof(struct vhost_user_memory, region) +
							 m->memory.nregions * sizeof(m->memory.region[0])))
		return "its size is wrong";
	/* Others send the region's descriptor with the one and without it. */
	if (r->nfds != fds_due(e, m) && !(m->request == VHOST_USER_REM_MEM_REG && r->nfds == 1))
		return "the number of its descriptors is wrong";
	return NULL;
}

int server_message(struct vhost_user_server *s, const char **why)
{
	struct vhost_user_msg *m = &s->reader.msg;
	const struct entry *e = m->request < VHOST_USER_NREQUESTS ? &table[m->request] : NULL;
	const bool ack = m->flags & VHOST_USER_NEED_REPLY && server_has(s, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	char text[160];
	int rc;

	log_debug("%s: %s: %s", s->core.c.ops->name, s->core.name,
		  vhost_user_msg_text(m, s->reader.nfds, text, sizeof(text)));
	*why = malformed(s, e, &s->reader);
	if (*why)
		return -EPROTO;
	rc = e->fn(s, m, s->reader.fd);
	if (rc == SERVER_REPLIED)
		return 0;
	if (ack) {
		int sent = server_reply_u64(s, m, rc ? (uint64_t)-rc : 0);

		return sent < 0 ? sent : 0;
	}
	if (rc && rc != -EPIPE && rc != -ECONNRESET)
		*why = strerror(-rc);
	return rc;
}
