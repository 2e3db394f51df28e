/* #syscalls[data]: sendmmsg recvmmsg sendmsg recvmsg sendto recvfrom epoll_ctl */
#include "backends/user_net.h"

#include <errno.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/slirp_process.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/evloop.h"

#define GRACE_MS  100 /* for a helper that closed its socket to end by itself */
#define MAX_FRAME (64u << 10)
#define TX_FRAMES 64
#define TX_IOVS   IOV_MAX
#define RX_FRAMES 32
#define RX_SIZE   4096 /* frames that may be larger go to the guest's buffers directly, one a system call */
#define MAX_STALE 65536

#define OFFERED (UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM)
#define OFFLOADS                                                                                               \
	(UINT64_C(1) << VIRTIO_NET_F_CSUM | UINT64_C(1) << VIRTIO_NET_F_GUEST_TSO4 |                           \
	 UINT64_C(1) << VIRTIO_NET_F_GUEST_TSO6 | UINT64_C(1) << VIRTIO_NET_F_GUEST_ECN |                      \
	 UINT64_C(1) << VIRTIO_NET_F_GUEST_UFO | UINT64_C(1) << VIRTIO_NET_F_HOST_TSO4 |                       \
	 UINT64_C(1) << VIRTIO_NET_F_HOST_TSO6 | UINT64_C(1) << VIRTIO_NET_F_HOST_ECN |                        \
	 UINT64_C(1) << VIRTIO_NET_F_HOST_UFO | UINT64_C(1) << VIRTIO_NET_F_GUEST_USO4 |                       \
	 UINT64_C(1) << VIRTIO_NET_F_GUEST_USO6 | UINT64_C(1) << VIRTIO_NET_F_HOST_USO)

struct user_net {
	struct net_port port;
	struct slirp_process process;
	struct ev_watch sock;
	struct ev_watch again; /* eventfd: frames wait here and not in the socket, or it broke */
	struct evloop *loop;   /* while attached */
	bool enabled, broken, gone;
	unsigned hdr_len;
	bool guest_csum;
	struct user_net_stats stats;

	unsigned ntx, ntx_iov;
	struct mmsghdr tx[TX_FRAMES];
	struct iovec tx_iov[TX_IOVS];

	unsigned char (*rx_buf)[RX_SIZE]; /* NULL: direct */
	unsigned rx_next, nrx;
	struct mmsghdr rx[RX_FRAMES];
	struct iovec rx_iov[IOV_MAX];
};

static struct user_net *user_net(struct net_port *p)
{
	return container_of(p, struct user_net, port);
}

static void lost(struct user_net *u)
{
	char how[SLIRP_PROCESS_HOW];

	if (u->gone)
		return;
	u->gone = true;
	evloop_del(u->loop, &u->sock);
	evloop_del(u->loop, &u->again);
	slirp_process_end(&u->process, GRACE_MS, how);
	u->sock.fd = -1;
	log_error("the process of the user-mode network %s: the guest is cut off", how);
	if (u->port.gone)
		u->port.gone(u->port.opaque, -EPIPE);
}

static void poke(struct user_net *u)
{
	const uint64_t one = 1;

	if (write(u->again.fd, &one, sizeof(one)) < 0) /* EAGAIN: it is awake enough */
		return;
}

/* --- frames from the guest --- */

static int tx_commit(struct user_net *u)
{
	unsigned done = 0;
	int r = 0;

	while (done < u->ntx && !u->broken) {
		int n = sendmmsg(u->sock.fd, u->tx + done, u->ntx - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		u->stats.syscalls++;
		if (n > 0) {
			done += (unsigned)n;
			u->stats.tx_frames += (unsigned)n;
		} else if (errno == EAGAIN || errno == ENOBUFS) {
			u->stats.tx_dropped += u->ntx - done;
			break;
		} else if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) {
			u->broken = true;
			poke(u);
		} else if (errno != EINTR) { /* this one's own fault: too large, or its memory failed */
			u->stats.tx_dropped++;
			done++;
		}
	}
	if (u->broken)
		r = -EPIPE;
	u->ntx = 0;
	u->ntx_iov = 0;
	return r;
}

static int user_net_commit(struct net_port *p)
{
	return tx_commit(user_net(p));
}

static size_t iov_total(const struct iovec *iov, int n)
{
	size_t total = 0;

	for (int i = 0; i < n; i++)
		if (__builtin_add_overflow(total, iov[i].iov_len, &total))
			return SIZE_MAX;
	return total;
}

/* What follows the first `skip` bytes of src, in at most max pieces.  The number of pieces, or
 * -EMSGSIZE. */
static int iov_after(struct iovec *dst, unsigned max, const struct iovec *src, int n, size_t skip)
{
	unsigned out = 0;

	for (int i = 0; i < n; i++) {
		if (src[i].iov_len <= skip) {
			skip -= src[i].iov_len;
			continue;
		}
		if (out == max)
			return -EMSGSIZE;
		dst[out].iov_base = (char *)src[i].iov_base + skip;
		dst[out].iov_len = src[i].iov_len - skip;
		out++;
		skip = 0;
	}
	return (int)out;
}

static ssize_t user_net_send(struct net_port *p, const struct iovec *iov, int n)
{
	struct user_net *u = user_net(p);
	size_t total = iov_total(iov, n);
	int pieces, r = 0;

	if (u->broken)
		return -EPIPE;
	if (total < u->hdr_len + ETH_HLEN || total - u->hdr_len > MAX_FRAME) {
		u->stats.tx_dropped++;
		return total > SSIZE_MAX ? -EMSGSIZE : (ssize_t)total;
	}
	if (u->ntx == TX_FRAMES)
		r = tx_commit(u);
	pieces = iov_after(u->tx_iov + u->ntx_iov, TX_IOVS - u->ntx_iov, iov, n, u->hdr_len);
	if (!r && pieces < 0 && u->ntx) {
		r = tx_commit(u);
		pieces = iov_after(u->tx_iov, TX_IOVS, iov, n, u->hdr_len);
	}
	if (r || pieces < 0)
		return r ? r : pieces;
	u->tx[u->ntx++].msg_hdr =
		(struct msghdr){.msg_iov = u->tx_iov + u->ntx_iov, .msg_iovlen = (size_t)pieces};
	u->ntx_iov += (unsigned)pieces;
	return (ssize_t)total;
}

/* --- frames to the guest --- */

static void iov_write(const struct iovec *iov, int n, size_t at, const void *data, size_t len)
{
	const char *src = data;

	for (int i = 0; i < n && len; i++) {
		size_t part;

		if (iov[i].iov_len <= at) {
			at -= iov[i].iov_len;
			continue;
		}
		part = iov[i].iov_len - at < len ? iov[i].iov_len - at : len;
		memcpy((char *)iov[i].iov_base + at, src, part);
		src += part;
		len -= part;
		at = 0;
	}
}

static void write_header(const struct user_net *u, const struct iovec *iov, int n)
{
	static const unsigned char zero[64];
	/* libslirp made the checksums, and memory is all they have been through. */
	const uint8_t flags = u->guest_csum ? VIRTIO_NET_HDR_F_DATA_VALID : 0;

	iov_write(iov, n, 0, zero, u->hdr_len);
	iov_write(iov, n, offsetof(struct virtio_net_hdr_v1, flags), &flags, sizeof(flags));
}

/* errno of a receive, or 0 for one that found the other end closed. */
static int rx_failed(struct user_net *u, int error)
{
	if (error == EAGAIN || error == EINTR)
		return -EAGAIN;
	u->broken = true;
	poke(u);
	return -EPIPE;
}

static int rx_fill(struct user_net *u)
{
	int n = recvmmsg(u->sock.fd, u->rx, RX_FRAMES, MSG_DONTWAIT, NULL);

	u->stats.syscalls++;
	if (n <= 0)
		return rx_failed(u, errno);
	u->rx_next = 0;
	u->nrx = (unsigned)n;
	return 0;
}

static ssize_t rx_buffered(struct user_net *u, const struct iovec *iov, int n)
{
	const struct mmsghdr *m;
	int r;

	if (u->rx_next == u->nrx) {
		r = rx_fill(u);
		if (r)
			return r;
	}
	m = &u->rx[u->rx_next];
	if (!m->msg_len)
		return rx_failed(u, 0);
	if ((m->msg_hdr.msg_flags & MSG_TRUNC) || iov_total(iov, n) < u->hdr_len + m->msg_len) {
		u->rx_next++;
		return -EMSGSIZE;
	}
	write_header(u, iov, n);
	iov_write(iov, n, u->hdr_len, u->rx_buf[u->rx_next], m->msg_len);
	u->rx_next++;
	return (ssize_t)(u->hdr_len + m->msg_len);
}

static ssize_t rx_direct(struct user_net *u, const struct iovec *iov, int n)
{
	struct msghdr msg = {.msg_iov = u->rx_iov};
	int pieces = iov_after(u->rx_iov, IOV_MAX, iov, n, u->hdr_len);
	ssize_t len;

	msg.msg_iovlen = pieces < 0 ? IOV_MAX : (size_t)pieces; /* a frame has not that many pages */
	len = recvmsg(u->sock.fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
	u->stats.syscalls++;
	if (len <= 0)
		return rx_failed(u, len ? errno : 0);
	if (msg.msg_flags & MSG_TRUNC)
		return -EMSGSIZE;
	write_header(u, iov, n);
	return (ssize_t)u->hdr_len + len;
}

static ssize_t user_net_recv(struct net_port *p, const struct iovec *iov, int n)
{
	struct user_net *u = user_net(p);
	ssize_t len;

	if (u->broken)
		return -EPIPE;
	len = u->rx_buf ? rx_buffered(u, iov, n) : rx_direct(u, iov, n);
	if (len > 0)
		u->stats.rx_frames++;
	else if (len == -EMSGSIZE)
		u->stats.rx_dropped++;
	return len;
}

/* Frames for whoever drove the device before. */
static void drop_stale(struct user_net *u)
{
	u->rx_next = u->nrx = 0;
	for (unsigned i = 0; i < MAX_STALE; i++)
		if (recv(u->sock.fd, NULL, 0, MSG_DONTWAIT | MSG_TRUNC) <= 0)
			break;
}

/* --- the loop --- */

static void serve(struct user_net *u)
{
	if (u->enabled && !u->broken)
		u->port.readable(u->port.opaque);
	if (u->enabled && u->rx_next < u->nrx)
		poke(u);
}

static void on_sock(struct ev_watch *w, uint32_t events)
{
	struct user_net *u = container_of(w, struct user_net, sock);

	if (u->broken || (events & (EPOLLHUP | EPOLLERR))) {
		u->broken = true;
		lost(u);
		return;
	}
	serve(u);
}

static void on_again(struct ev_watch *w, uint32_t events)
{
	struct user_net *u = container_of(w, struct user_net, again);
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) < 0) /* another wake-up took it */
		return;
	if (u->broken)
		lost(u);
	else if (u->rx_next < u->nrx)
		serve(u);
}

static uint64_t user_net_features(struct net_port *p)
{
	(void)p;
	return OFFERED;
}

static int user_net_set_features(struct net_port *p, uint64_t features, unsigned hdr_len)
{
	struct user_net *u = user_net(p);

	if ((features & OFFLOADS) || hdr_len > 64 || (hdr_len && hdr_len < sizeof(struct virtio_net_hdr)))
		return -EINVAL;
	u->hdr_len = hdr_len;
	u->guest_csum = hdr_len && (features & OFFERED);
	return 0;
}

static int user_net_attach(struct net_port *p, struct evloop *loop)
{
	struct user_net *u = user_net(p);
	int r;

	drop_stale(u);
	u->enabled = false;
	u->loop = loop;
	if (u->gone)
		return 0;
	r = evloop_add(loop, &u->sock, 0);
	if (!r) {
		r = evloop_add(loop, &u->again, EPOLLIN);
		if (r)
			evloop_del(loop, &u->sock);
	}
	if (r)
		u->loop = NULL;
	if (u->broken)
		poke(u);
	return r;
}

static void user_net_detach(struct net_port *p)
{
	struct user_net *u = user_net(p);

	if (u->loop && !u->gone) {
		evloop_del(u->loop, &u->sock);
		evloop_del(u->loop, &u->again);
	}
	u->loop = NULL;
	u->ntx = u->ntx_iov = 0;
}

static void user_net_recv_enable(struct net_port *p, bool on)
{
	struct user_net *u = user_net(p);

	if (u->enabled == on)
		return;
	u->enabled = on;
	if (!u->loop || u->gone)
		return;
	evloop_mod(u->loop, &u->sock, on ? EPOLLIN : 0);
	if (on && u->rx_next < u->nrx)
		poke(u);
}

static void user_net_destroy(struct net_port *p)
{
	struct user_net *u = user_net(p);

	user_net_detach(p);
	slirp_process_end(&u->process, 0, NULL);
	if (u->again.fd >= 0)
		close(u->again.fd);
	free(u->rx_buf);
	free(u);
}

static const struct net_port_ops ops = {
	.name = "user",
	.features = user_net_features,
	.set_features = user_net_set_features,
	.attach = user_net_attach,
	.detach = user_net_detach,
	.send = user_net_send,
	.commit = user_net_commit,
	.recv = user_net_recv,
	.recv_enable = user_net_recv_enable,
	.destroy = user_net_destroy,
};

/* --- start --- */

static int rx_init(struct user_net *u, unsigned mtu)
{
	if (mtu + ETH_HLEN > RX_SIZE)
		return 0;
	u->rx_buf = malloc(sizeof(*u->rx_buf) * RX_FRAMES);
	if (!u->rx_buf)
		return -ENOMEM;
	for (unsigned i = 0; i < RX_FRAMES; i++) {
		u->rx_iov[i] = (struct iovec){.iov_base = u->rx_buf[i], .iov_len = RX_SIZE};
		u->rx[i].msg_hdr = (struct msghdr){.msg_iov = &u->rx_iov[i], .msg_iovlen = 1};
	}
	return 0;
}

static int start(struct user_net *u, const struct user_net_config *cfg, int fd, struct err *e)
{
	int r = user_net_config_check(cfg, e);

	if (r)
		return r;
	if (rx_init(u, cfg->mtu))
		return err_set(e, -ENOMEM, "out of memory");
	u->again.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->again.fd < 0)
		return err_set(e, -errno, "eventfd: %s", strerror(errno));
	if (fd >= 0)
		u->process.fd = fd;
	else
		r = slirp_process_start(&u->process, cfg, e);
	u->sock.fd = u->process.fd;
	return r;
}

static struct net_port *make(const struct user_net_config *cfg, int fd, struct err *e)
{
	struct user_net *u = calloc(1, sizeof(*u));
	struct err unwanted;

	if (!e)
		e = &unwanted;
	if (!u) {
		err_set(e, -ENOMEM, "user-mode network: out of memory");
		return NULL;
	}
	u->port.ops = &ops;
	u->process.fd = -1;
	u->sock.fn = on_sock;
	u->again = (struct ev_watch){.fd = -1, .fn = on_again};
	u->hdr_len = sizeof(struct virtio_net_hdr_v1);
	if (start(u, cfg, fd, e)) {
		err_prefix(e, "user-mode network");
		if (fd >= 0)
			u->process.fd = -1; /* still the caller's */
		user_net_destroy(&u->port);
		return NULL;
	}
	return &u->port;
}

struct net_port *user_net_new(const struct user_net_config *cfg, struct err *e)
{
	return make(cfg, -1, e);
}

struct net_port *user_net_adopt(const struct user_net_config *cfg, int fd, struct err *e)
{
	return make(cfg, fd, e);
}

pid_t user_net_helper(const struct net_port *p)
{
	return container_of(p, const struct user_net, port)->process.pid;
}

const struct user_net_stats *user_net_stats(const struct net_port *p)
{
	return &container_of(p, const struct user_net, port)->stats;
}
