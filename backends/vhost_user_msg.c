/* #syscalls[vcpu,data]: sendmsg recvmsg poll */
#include "backends/vhost_user_msg.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/clock.h"

static const char *const names[VHOST_USER_NREQUESTS] = {
	[VHOST_USER_GET_FEATURES] = "GET_FEATURES",
	[VHOST_USER_SET_FEATURES] = "SET_FEATURES",
	[VHOST_USER_SET_OWNER] = "SET_OWNER",
	[VHOST_USER_SET_MEM_TABLE] = "SET_MEM_TABLE",
	[VHOST_USER_SET_VRING_NUM] = "SET_VRING_NUM",
	[VHOST_USER_SET_VRING_ADDR] = "SET_VRING_ADDR",
	[VHOST_USER_SET_VRING_BASE] = "SET_VRING_BASE",
	[VHOST_USER_GET_VRING_BASE] = "GET_VRING_BASE",
	[VHOST_USER_SET_VRING_KICK] = "SET_VRING_KICK",
	[VHOST_USER_SET_VRING_CALL] = "SET_VRING_CALL",
	[VHOST_USER_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
	[VHOST_USER_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
	[VHOST_USER_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
	[VHOST_USER_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
	[VHOST_USER_NET_SET_MTU] = "NET_SET_MTU",
	[VHOST_USER_SET_BACKEND_REQ_FD] = "SET_BACKEND_REQ_FD",
	[VHOST_USER_GET_CONFIG] = "GET_CONFIG",
	[VHOST_USER_SET_CONFIG] = "SET_CONFIG",
	[VHOST_USER_GET_INFLIGHT_FD] = "GET_INFLIGHT_FD",
	[VHOST_USER_SET_INFLIGHT_FD] = "SET_INFLIGHT_FD",
	[VHOST_USER_RESET_DEVICE] = "RESET_DEVICE",
	[VHOST_USER_GET_MAX_MEM_SLOTS] = "GET_MAX_MEM_SLOTS",
	[VHOST_USER_ADD_MEM_REG] = "ADD_MEM_REG",
	[VHOST_USER_REM_MEM_REG] = "REM_MEM_REG",
	[VHOST_USER_SET_STATUS] = "SET_STATUS",
	[VHOST_USER_GET_STATUS] = "GET_STATUS",
};

const char *vhost_user_request_name(uint32_t request)
{
	return request < VHOST_USER_NREQUESTS && names[request] ? names[request] : "?";
}

static size_t payload_text(const struct vhost_user_msg *m, char *buf, size_t len)
{
	int n;

	switch (m->request) {
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
		if (m->flags & VHOST_USER_REPLY) /* an acknowledgement */
			break;
		/* fall through */
	case VHOST_USER_GET_VRING_BASE:
		if (m->size != sizeof(m->state))
			break;
		n = snprintf(buf, len, " queue=%u num=%#x", m->state.index, m->state.num);
		return (size_t)n;
	case VHOST_USER_SET_VRING_ADDR:
		if (m->size != sizeof(m->addr))
			break;
		n = snprintf(buf, len, " queue=%u desc=%#llx avail=%#llx used=%#llx", m->addr.index,
			     m->addr.desc_user_addr, m->addr.avail_user_addr, m->addr.used_user_addr);
		return (size_t)n;
	case VHOST_USER_SET_MEM_TABLE:
		if (m->size < 8 || m->size == sizeof(m->u64))
			break;
		n = snprintf(buf, len, " nregions=%u", m->memory.nregions);
		return (size_t)n;
	case VHOST_USER_ADD_MEM_REG:
	case VHOST_USER_REM_MEM_REG:
		if (m->size != sizeof(m->mem_reg))
			break;
		n = snprintf(buf, len, " gpa=%#llx size=%#llx",
			     (unsigned long long)m->mem_reg.region.guest_phys_addr,
			     (unsigned long long)m->mem_reg.region.memory_size);
		return (size_t)n;
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		if (m->size < VHOST_USER_CONFIG_HDR)
			break;
		n = snprintf(buf, len, " offset=%u size=%u", m->config.offset, m->config.size);
		return (size_t)n;
	case VHOST_USER_GET_INFLIGHT_FD:
	case VHOST_USER_SET_INFLIGHT_FD:
		if (m->size <= sizeof(m->u64))
			break;
		n = snprintf(buf, len, " mmap_size=%#llx num_queues=%u queue_size=%u",
			     (unsigned long long)m->inflight.mmap_size, m->inflight.num_queues,
			     m->inflight.queue_size);
		return (size_t)n;
	}
	if (m->size != sizeof(m->u64)) {
		n = m->size ? snprintf(buf, len, " size=%u", m->size) : 0;
		return (size_t)n;
	}
	n = snprintf(buf, len, " %#llx", (unsigned long long)m->u64);
	return (size_t)n;
}

char *vhost_user_msg_text(const struct vhost_user_msg *m, unsigned nfds, char *buf, size_t len)
{
	size_t at = (size_t)snprintf(buf, len, "%s%s", vhost_user_request_name(m->request),
				     m->flags & VHOST_USER_REPLY        ? " reply"
				     : m->flags & VHOST_USER_NEED_REPLY ? " need_reply"
									: "");

	if (at < len)
		at += payload_text(m, buf + at, len - at);
	if (at < len && nfds)
		snprintf(buf + at, len - at, " fds=%u", nfds);
	return buf;
}

/* --- sending --- */

/* 0, or -ETIMEDOUT. */
static int wait_for(int sock, short events, uint64_t deadline)
{
	struct pollfd p = {.fd = sock, .events = events};
	const uint64_t now = clock_ns(CLOCK_MONOTONIC);

	if (now >= deadline)
		return -ETIMEDOUT;
	return poll(&p, 1, (int)((deadline - now) / 1000000 + 1)) < 0 && errno != EINTR ? -errno : 0;
}

int vhost_user_send(int sock, const struct vhost_user_msg *m, const int *fds, unsigned nfds, uint64_t deadline)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))] = {0};
	const size_t total = VHOST_USER_HDR_LEN + m->size;
	size_t done = 0;

	while (done < total) {
		const size_t hdr = done < VHOST_USER_HDR_LEN ? VHOST_USER_HDR_LEN - done : 0;
		const size_t body = done > VHOST_USER_HDR_LEN ? done - VHOST_USER_HDR_LEN : 0;
		struct iovec iov[] = {
			{(char *)(uintptr_t)m + done, hdr},
			{(char *)(uintptr_t)&m->u64 + body, m->size - body},
		};
		struct msghdr h = {.msg_iov = hdr ? iov : iov + 1, .msg_iovlen = hdr ? 2 : 1};
		ssize_t n;
		int rc;

		if (nfds && !done) {
			struct cmsghdr *c = (struct cmsghdr *)(void *)control;

			h.msg_control = control;
			h.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
			*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(nfds * sizeof(int)),
					      .cmsg_level = SOL_SOCKET,
					      .cmsg_type = SCM_RIGHTS};
			memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
		}
		n = sendmsg(sock, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			done += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		rc = wait_for(sock, POLLOUT, deadline);
		if (rc)
			return rc;
	}
	return 0;
}

/* --- receiving --- */

void vhost_user_reader_clear(struct vhost_user_reader *r)
{
	for (unsigned i = 0; i < r->nfds; i++)
		if (r->fd[i] >= 0)
			close(r->fd[i]);
	r->nfds = 0;
	r->have = 0;
}

/* Every descriptor that came is in r->fd[] or closed. */
static void take_fds(struct vhost_user_reader *r, struct msghdr *h)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (r->nfds < VHOST_USER_MAX_FDS)
				r->fd[r->nfds++] = fd;
			else
				close(fd);
		}
	}
}

int vhost_user_read(int sock, struct vhost_user_reader *r)
{
	for (;;) {
		_Alignas(struct cmsghdr) char control[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
		struct msghdr h = {.msg_control = control, .msg_controllen = sizeof(control), .msg_iovlen = 1};
		struct iovec iov;
		ssize_t n;

		if (r->have < VHOST_USER_HDR_LEN) {
			iov = (struct iovec){(char *)&r->msg + r->have, VHOST_USER_HDR_LEN - r->have};
		} else {
			const size_t body = r->have - VHOST_USER_HDR_LEN;

			if (r->msg.size > VHOST_USER_MAX_PAYLOAD)
				break;
			if (body == r->msg.size)
				return 1;
			iov = (struct iovec){(char *)&r->msg.u64 + body, r->msg.size - body};
		}
		h.msg_iov = &iov;
		n = recvmsg(sock, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return -errno;
		take_fds(r, &h);
		if (n == 0) {
			vhost_user_reader_clear(r);
			return -ECONNRESET;
		}
		if (h.msg_flags & MSG_CTRUNC)
			break;
		r->have += (size_t)n;
	}
	vhost_user_reader_clear(r);
	return -EPROTO;
}
