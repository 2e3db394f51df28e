/* What libslirp asks for; it looks into /etc/resolv.conf again and again. */
/* #syscalls[slirp]: socket:0==AF_INET socket:0==AF_INET6 socket:0==AF_UNIX bind connect listen accept accept4
 * shutdown #syscalls[slirp]: sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg setsockopt getsockopt
 * getsockname getpeername #syscalls[slirp]: openat:2!O_ACCMODE lseek prctl:0==PR_SET_NAME rt_sigaction
 * #syscalls[slirp]: fcntl:1==F_GETFL fcntl:1==F_SETFL fcntl:1==F_GETFD fcntl:1==F_SETFD
 * #ioctls[slirp]: FIONREAD FIONBIO */
#include "backends/slirp_helper.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "backends/ip_reassembly.h"
#include "backends/slirp_config.h"
#include "lib/cleanup.h"
#include "lib/confine.h"
#include "lib/err.h"
#include "lib/log.h"

#define NOBODY     65534
#define MAX_FILES  4096        /* a connection each */
#define FRAME_SIZE (64u << 10) /* the largest there is: 14 bytes and an MTU of 65521 */
#define IN_FRAMES  32
#define IN_ROUNDS  4 /* bursts before the host's sockets have their turn */
#define OUT_FRAMES 64
#define OUT_SIZE   (128u << 10)
#define OUT_DIRECT 4096 /* larger frames are not worth a copy */

struct timer {
	SlirpTimerId id;
	void *cb_opaque;
	int64_t expire_ms; /* INT64_MAX: not armed */
	struct timer *next;
};

/* Theory of operation: one thread, one poll loop.  What libslirp sends is gathered and leaves in one
 * system call at the end of a turn.  When the port does not take it, the loop waits there, so that
 * libslirp reads nothing more from the host either, and TCP slows its peers down. */
struct helper {
	Slirp *slirp;
	bool ended; /* the port is gone */
	struct timer *timers;

	struct pollfd *pollfds;
	size_t npollfds, pollfds_size;

	struct mmsghdr in[IN_FRAMES];
	struct iovec in_iov[IN_FRAMES];
	unsigned char in_buf[IN_FRAMES][FRAME_SIZE];
	struct ip_reassembly reassembly;

	unsigned nout;
	size_t out_len;
	struct mmsghdr out[OUT_FRAMES];
	struct iovec out_iov[OUT_FRAMES];
	unsigned char out_buf[OUT_SIZE];
};

bool slirp_helper_wanted(int argc, char *argv[])
{
	return argc >= 1 && argv[0] && !strcmp(argv[0], SLIRP_HELPER_NAME);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* --- to the guest --- */

/* Its end wakes us as well; the next send sees it. */
static void wait_for_room(void)
{
	struct pollfd p = {.fd = SLIRP_HELPER_FD, .events = POLLOUT};

	poll(&p, 1, -1);
}

static void send_all(struct helper *h, struct mmsghdr *msg, unsigned n)
{
	while (n && !h->ended) {
		int sent = sendmmsg(SLIRP_HELPER_FD, msg, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent > 0) {
			msg += sent;
			n -= (unsigned)sent;
		} else if (errno == EAGAIN || errno == ENOBUFS) {
			wait_for_room();
		} else if (errno == EMSGSIZE) {
			msg++;
			n--;
		} else if (errno != EINTR) {
			h->ended = true;
		}
	}
}

static void flush(struct helper *h)
{
	send_all(h, h->out, h->nout);
	h->nout = 0;
	h->out_len = 0;
}

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	struct helper *h = opaque;

	if (h->nout == OUT_FRAMES || len > OUT_SIZE - h->out_len || len > OUT_DIRECT)
		flush(h);
	if (len > OUT_DIRECT) {
		struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
		struct mmsghdr msg = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};

		send_all(h, &msg, 1);
		return (ssize_t)len;
	}
	h->out_iov[h->nout] = (struct iovec){.iov_base = h->out_buf + h->out_len, .iov_len = len};
	h->out[h->nout].msg_hdr = (struct msghdr){.msg_iov = &h->out_iov[h->nout], .msg_iovlen = 1};
	memcpy(h->out_buf + h->out_len, buf, len);
	h->out_len += len;
	h->nout++;
	return (ssize_t)len;
}

/* --- from the guest --- */

static void take_frame(struct helper *h, const uint8_t *frame, size_t len)
{
	frame = ip_reassembly_take(&h->reassembly, frame, &len, (uint64_t)now_ns() / 1000000 + 1);
	if (frame)
		slirp_input(h->slirp, frame, (int)len);
}

static void take_frames(struct helper *h)
{
	int n = IN_FRAMES;

	for (int round = 0; round < IN_ROUNDS && n == IN_FRAMES && !h->ended; round++) {
		n = recvmmsg(SLIRP_HELPER_FD, h->in, IN_FRAMES, MSG_DONTWAIT, NULL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			h->ended = true;
		for (int i = 0; i < n; i++) {
			if (!h->in[i].msg_len) { /* the end: the port sends no empty messages */
				h->ended = true;
				break;
			}
			if (!(h->in[i].msg_hdr.msg_flags & MSG_TRUNC))
				take_frame(h, h->in_buf[i], h->in[i].msg_len);
		}
	}
}

/* --- what libslirp asks for --- */

static void guest_error(const char *msg, void *opaque)
{
	(void)opaque;
	log_guest("user-mode network: %s", msg);
}

static int64_t clock_get_ns(void *opaque)
{
	(void)opaque;
	return now_ns();
}

static void *timer_new_opaque(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct helper *h = opaque;
	struct timer *t = calloc(1, sizeof(*t));

	if (!t)
		abort(); /* it has no way to say so, and goes on to use what it got */
	*t = (struct timer){.id = id, .cb_opaque = cb_opaque, .expire_ms = INT64_MAX, .next = h->timers};
	h->timers = t;
	return t;
}

static void timer_free(void *timer, void *opaque)
{
	struct helper *h = opaque;

	for (struct timer **p = &h->timers; *p; p = &(*p)->next) {
		if (*p == timer) {
			*p = (*p)->next;
			free(timer);
			return;
		}
	}
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	(void)opaque;
	((struct timer *)timer)->expire_ms = expire_ms;
}

static void run_timers(struct helper *h)
{
	int64_t now = now_ns() / 1000000;

	for (struct timer *t = h->timers, *next; t; t = next) {
		next = t->next;
		if (t->expire_ms > now)
			continue;
		t->expire_ms = INT64_MAX;
		slirp_handle_timer(h->slirp, t->id, t->cb_opaque);
	}
}

/* timeout, or less when a timer is due before; milliseconds. */
static uint32_t timers_due(const struct helper *h, uint32_t timeout)
{
	int64_t now = now_ns() / 1000000;

	for (const struct timer *t = h->timers; t; t = t->next) {
		int64_t left = t->expire_ms > now ? t->expire_ms - now : 0;

		if (left < timeout)
			timeout = (uint32_t)left;
	}
	return timeout;
}

/* Each turn asks for its descriptors anew, and nobody but this thread could be woken. */
static void ignore_fd(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

static void ignore_notify(void *opaque)
{
	(void)opaque;
}

static void ignore_completed(Slirp *slirp, void *opaque)
{
	(void)slirp;
	(void)opaque;
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_get_ns,
	.timer_new_opaque = timer_new_opaque,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = ignore_fd,
	.unregister_poll_fd = ignore_fd,
	.notify = ignore_notify,
	.init_completed = ignore_completed,
};

/* --- the loop --- */

static const struct {
	int slirp;
	short poll;
} poll_bits[] = {
	{SLIRP_POLL_IN, POLLIN},   {SLIRP_POLL_OUT, POLLOUT}, {SLIRP_POLL_PRI, POLLPRI},
	{SLIRP_POLL_ERR, POLLERR}, {SLIRP_POLL_HUP, POLLHUP},
};

static bool pollfds_grow(struct helper *h)
{
	size_t size = h->pollfds_size ? 2 * h->pollfds_size : 64;
	struct pollfd *p = realloc(h->pollfds, size * sizeof(*p));

	if (!p)
		return false;
	h->pollfds = p;
	h->pollfds_size = size;
	return true;
}

static int add_poll(int fd, int events, void *opaque)
{
	struct helper *h = opaque;
	struct pollfd p = {.fd = fd};

	if (h->npollfds == h->pollfds_size && !pollfds_grow(h))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(poll_bits); i++)
		if (events & poll_bits[i].slirp)
			p.events = (short)(p.events | poll_bits[i].poll);
	h->pollfds[h->npollfds] = p;
	return (int)h->npollfds++;
}

static int get_revents(int idx, void *opaque)
{
	struct helper *h = opaque;
	int events = 0;

	if (idx < 0 || (size_t)idx >= h->npollfds)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(poll_bits); i++)
		if (h->pollfds[idx].revents & poll_bits[i].poll)
			events |= poll_bits[i].slirp;
	return events;
}

static void run(struct helper *h)
{
	while (!h->ended) {
		uint32_t timeout = UINT32_MAX;
		int n;

		h->npollfds = 0;
		if (add_poll(SLIRP_HELPER_FD, SLIRP_POLL_IN, h) < 0)
			return;
		slirp_pollfds_fill(h->slirp, &timeout, add_poll, h);
		timeout = timers_due(h, timeout);
		n = poll(h->pollfds, h->npollfds, timeout > INT32_MAX ? -1 : (int)timeout);
		slirp_pollfds_poll(h->slirp, n < 0, get_revents, h);
		if (n > 0 && h->pollfds[0].revents)
			take_frames(h);
		run_timers(h);
		flush(h);
	}
}

/* --- start --- */

static int add_forwards(struct helper *h, const struct user_net_config *cfg, struct err *e)
{
	for (unsigned i = 0; i < cfg->nfwd; i++) {
		const struct user_net_fwd *f = &cfg->fwd[i];
		bool six = f->host.sa.sa_family == AF_INET6;
		socklen_t len = six ? sizeof(f->host.in6) : sizeof(f->host.in);
		int flags = (f->udp ? SLIRP_HOSTFWD_UDP : 0) | (six ? SLIRP_HOSTFWD_V6ONLY : 0);
		char t[HOSTFWD_ADDR_LEN];

		if (slirp_add_hostxfwd(h->slirp, &f->host.sa, len, &f->guest.sa, len, flags) < 0)
			return err_set(e, -errno, "cannot listen on %s port %s of the host: %s",
				       f->udp ? "UDP" : "TCP", hostfwd_addr_text(&f->host, t, sizeof(t)),
				       strerror(errno));
	}
	return 0;
}

static int open_network(struct helper *h, const struct user_net_config *cfg, struct err *e)
{
	const char *search[USER_NET_MAX_SEARCH + 1] = {NULL};
	const SlirpConfig c = {
		.version = 4,
		.restricted = cfg->restricted,
		.in_enabled = cfg->ipv4,
		.vnetwork = cfg->net,
		.vnetmask = cfg->mask,
		.vhost = cfg->host,
		.in6_enabled = cfg->ipv6,
		.vprefix_addr6 = cfg->prefix6,
		.vprefix_len = (uint8_t)cfg->prefix6_len,
		.vhost6 = cfg->host6,
		.vhostname = cfg->hostname[0] ? cfg->hostname : NULL,
		.vdhcp_start = cfg->dhcp_start,
		.vnameserver = cfg->dns,
		.vnameserver6 = cfg->dns6,
		.vdnssearch = cfg->nsearch ? search : NULL,
		.vdomainname = cfg->domain[0] ? cfg->domain : NULL,
		.if_mtu = cfg->mtu,
		.if_mru = cfg->mtu,
		.disable_host_loopback = cfg->no_loopback,
		.enable_emu = false,
	};

	for (unsigned i = 0; i < cfg->nsearch; i++)
		search[i] = cfg->search[i];
	h->slirp = slirp_new(&c, &callbacks, h);
	if (!h->slirp)
		return err_set(e, -EINVAL, "libslirp refuses the network's configuration");
	return add_forwards(h, cfg, e);
}

/* --- confinement --- */

/* A user namespace without nobody, or one that may not change groups, keeps what it has: the
 * capabilities go all the same. */
static int become_nobody(struct err *e)
{
	if (geteuid())
		return 0;
	if (setgroups(0, NULL) && errno != EPERM)
		return err_set(e, -errno, "setgroups: %s", strerror(errno));
	if (setresgid(NOBODY, NOBODY, NOBODY) && errno != EINVAL && errno != EPERM)
		return err_set(e, -errno, "setresgid: %s", strerror(errno));
	if (setresuid(NOBODY, NOBODY, NOBODY) && errno != EINVAL && errno != EPERM)
		return err_set(e, -errno, "setresuid: %s", strerror(errno));
	return 0;
}

static int drop_capabilities(struct err *e)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	if (syscall(SYS_capset, &header, none))
		return err_set(e, -errno, "capset: %s", strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_set(e, -errno, "no_new_privs: %s", strerror(errno));
	return 0;
}

static int limit(int what, rlim_t most, const char *name, struct err *e)
{
	struct rlimit r;

	if (getrlimit((__rlimit_resource_t)what, &r))
		return err_set(e, -errno, "%s: %s", name, strerror(errno));
	if (r.rlim_max > most)
		r.rlim_max = most;
	r.rlim_cur = r.rlim_max;
	if (setrlimit((__rlimit_resource_t)what, &r))
		return err_set(e, -errno, "%s: %s", name, strerror(errno));
	return 0;
}

/* The parent may have ended before the request was made. */
static int end_with(pid_t parent, struct err *e)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		return err_set(e, -errno, "PR_SET_PDEATHSIG: %s", strerror(errno));
	return getppid() == parent ? 0 : err_set(e, -ESRCH, "started by a process that has ended");
}

/* Forwarded ports are bound by now; /etc/resolv.conf is read again and again. */
static int confine(pid_t parent, bool confined, struct err *e)
{
	int r;

	r = limit(RLIMIT_CORE, 0, "RLIMIT_CORE", e);
	if (!r)
		r = limit(RLIMIT_NOFILE, MAX_FILES, "RLIMIT_NOFILE", e);
	if (!r)
		r = become_nobody(e);
	if (!r)
		r = drop_capabilities(e);
	if (!r && parent) /* a change of user undoes it, so it comes late */
		r = end_with(parent, e);
	if (!r && confined)
		r = confine_begin(NULL, e);
	return r || !confined ? r : confine_thread(THREAD_SLIRP, e);
}

static void buffers_init(struct helper *h)
{
	for (unsigned i = 0; i < IN_FRAMES; i++) {
		h->in_iov[i] = (struct iovec){.iov_base = h->in_buf[i], .iov_len = FRAME_SIZE};
		h->in[i].msg_hdr = (struct msghdr){.msg_iov = &h->in_iov[i], .msg_iovlen = 1};
	}
}

int slirp_helper_main(int argc, char *argv[])
{
	static struct helper h;
	static struct slirp_hello hello;
	struct err e = {0};
	ssize_t n;

	(void)argc;
	(void)argv;
	close_range(SLIRP_HELPER_FD + 1, ~0u, 0);
	prctl(PR_SET_NAME, SLIRP_HELPER_NAME);
	signal(SIGPIPE, SIG_IGN);
	log_set_raw(isatty(STDERR_FILENO)); /* the terminal is another process's, and may be */
	n = recv(SLIRP_HELPER_FD, &hello, sizeof(hello), 0);
	if (n != sizeof(hello)) {
		log_error("%s is started by ringlet, and not by hand", SLIRP_HELPER_NAME);
		return 1;
	}
	buffers_init(&h);
	if (!open_network(&h, &hello.cfg, &e))
		confine(hello.parent, hello.confined, &e);
	if (send(SLIRP_HELPER_FD, &e, sizeof(e), MSG_NOSIGNAL) == sizeof(e) && !e.code)
		run(&h);
	if (h.slirp)
		slirp_cleanup(h.slirp);
	free(h.pollfds);
	return e.code ? 1 : 0;
}
