/* The user-mode network as a guest finds it: frames made by hand, through the port, to the real helper. */
#ifndef TESTS_UNIT_USER_NET_RIG_H
#define TESTS_UNIT_USER_NET_RIG_H
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/slirp_helper.h"
#include "backends/user_net.h"
#include "lib/cleanup.h"
#include "tests/unit/teardown.h"
#include "vmm/evloop.h"

#define HDR       12
#define GUEST_IP  0x0a00020fu
#define HOST_IP   0x0a000202u
#define DNS_IP    0x0a000203u
#define MAX_FRAME 65536

/* The helper is this program again. */
__attribute__((constructor)) static void be_the_helper(int argc, char *argv[])
{
	if (slirp_helper_wanted(argc, argv))
		exit(slirp_helper_main(argc, argv));
}

static const uint8_t guest_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
static const uint8_t guest_ip6[16] = {0xfe, 0xc0, [15] = 0x15};
static uint8_t host_mac[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}; /* until ARP told */

static struct net_port *port;
static struct evloop *loop;
static struct ev_timer timer;
static unsigned ngone, nreadable;
static int gone_err;
static bool manual; /* the test calls recv itself */

/* --- the guest's side of the port --- */

struct frame {
	size_t len;
	uint8_t buf[MAX_FRAME];
};
static struct frame queue[512];
static unsigned qhead, qtail;
static uint8_t last_header[HDR];

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static inline void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static inline uint32_t sum16(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += get16(p + i);
	if (n & 1)
		sum += (uint32_t)p[n - 1] << 8;
	return sum;
}

static inline uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)~sum;
}

static inline void queue_frame(const uint8_t *frame, size_t len)
{
	static const uint8_t header[HDR];
	struct iovec iov[2] = {{(void *)(uintptr_t)header, HDR}, {(void *)(uintptr_t)frame, len}};

	cr_assert_eq(port->ops->send(port, iov, 2), (ssize_t)(HDR + len));
}

static inline void send_frame(const uint8_t *frame, size_t len)
{
	queue_frame(frame, len);
	cr_assert_eq(port->ops->commit(port), 0);
}

static inline size_t ether(uint8_t *f, uint16_t type)
{
	memcpy(f, host_mac, 6);
	memcpy(f + 6, guest_mac, 6);
	put16(f + 12, type);
	return 14;
}

static inline size_t make_arp(uint8_t *f, uint16_t op, uint32_t target)
{
	memset(f, 0, 42);
	ether(f, ETH_P_ARP);
	if (op == 1)
		memset(f, 0xff, 6);
	put16(f + 14, 1);
	put16(f + 16, ETH_P_IP);
	f[18] = 6;
	f[19] = 4;
	put16(f + 20, op);
	memcpy(f + 22, guest_mac, 6);
	put32(f + 28, GUEST_IP);
	put32(f + 38, target);
	return 42;
}

/* Frames that a guest's kernel would answer by itself. */
static inline bool housekeeping(const uint8_t *f, size_t len)
{
	uint8_t answer[42];

	if (len >= 42 && get16(f + 12) == ETH_P_ARP && get16(f + 20) == 1 && get32(f + 38) == GUEST_IP) {
		memcpy(host_mac, f + 6, 6);
		send_frame(answer, make_arp(answer, 2, get32(f + 28)));
		return true;
	}
	return false;
}

static inline ssize_t recv_frame(struct frame *f)
{
	struct iovec iov[2] = {{last_header, HDR}, {f->buf, sizeof(f->buf)}};
	ssize_t n;

	memset(last_header, 0xaa, HDR);
	n = port->ops->recv(port, iov, 2);
	if (n > 0)
		f->len = (size_t)n - HDR;
	return n;
}

static inline void on_readable(void *opaque)
{
	(void)opaque;
	nreadable++;
	if (manual) {
		evloop_quit(loop, 0);
		return;
	}
	while ((qtail + 1) % ARRAY_SIZE(queue) != qhead && recv_frame(&queue[qtail]) > 0)
		if (!housekeeping(queue[qtail].buf, queue[qtail].len))
			qtail = (qtail + 1) % ARRAY_SIZE(queue);
	evloop_quit(loop, 0);
}

static inline void on_gone(void *opaque, int err)
{
	(void)opaque;
	ngone++;
	gone_err = err;
	evloop_quit(loop, 0);
}

static inline void on_time(struct ev_timer *t)
{
	(void)t;
	evloop_quit(loop, 1);
}

/* Until something happens; false: nothing did for that long. */
static inline bool turn(unsigned ms)
{
	int status;

	ev_timer_arm(&timer, ms);
	status = evloop_run(loop);
	ev_timer_arm(&timer, 0);
	return !status;
}

/* The next frame that match() accepts; the others are dropped.  10 s. */
static inline const struct frame *expect(bool (*match)(const uint8_t *f, size_t len))
{
	for (;;) {
		while (qhead != qtail) {
			struct frame *f = &queue[qhead];

			qhead = (qhead + 1) % ARRAY_SIZE(queue);
			if (match(f->buf, f->len))
				return f;
		}
		cr_assert(turn(10000), "nothing came");
		cr_assert_eq(ngone, 0, "the helper has ended");
	}
}

static inline struct user_net_config config(void)
{
	struct user_net_config cfg;

	user_net_config_init(&cfg);
	return cfg;
}

static inline void attach(void)
{
	cr_assert_eq(port->ops->attach(port, loop), 0);
	port->ops->recv_enable(port, true);
}

static inline void plug_in(const struct user_net_config *cfg)
{
	struct err e = {0};

	port = user_net_new(cfg, &e);
	cr_assert(port, "%s", e.text);
	port->readable = on_readable;
	port->gone = on_gone;
	cr_assert_eq(port->ops->set_features(port, 0, HDR), 0);
	attach();
}

static inline void plug_in_default(void)
{
	struct user_net_config cfg = config();

	plug_in(&cfg);
}

static void setup(void)
{
	loop = evloop_new();
	cr_assert(loop);
	cr_assert_eq(ev_timer_init(&timer, loop, on_time), 0);
}

static void teardown(void)
{
	if (port) {
		port->ops->detach(port);
		port->ops->destroy(port);
	}
	ev_timer_fini(&timer);
	evloop_free(loop);
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "no process is left");
}

/* Until the helper has done all it was given ('S') or is dead ('Z'): what is sent to it makes it runnable. */
static inline void wait_state(char state)
{
	char path[64], text[256], *p;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)user_net_helper(port));
	for (unsigned tries = 0; tries < 10000; tries++) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		cr_assert_geq(fd, 0);
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
		cr_assert_gt(n, 0);
		text[n] = '\0';
		p = strrchr(text, ')');
		if (p && p[2] == state)
			return;
		usleep(1000);
	}
	cr_assert(false, "it never came to %c", state);
}

static inline bool is_arp_reply(const uint8_t *f, size_t len)
{
	return len >= 42 && get16(f + 12) == ETH_P_ARP && get16(f + 20) == 2;
}

static inline void resolve_gateway(void)
{
	const struct frame *f;
	uint8_t request[42];

	send_frame(request, make_arp(request, 1, HOST_IP));
	f = expect(is_arp_reply);
	cr_assert_eq(get32(f->buf + 28), HOST_IP);
	memcpy(host_mac, f->buf + 22, 6);
}

/* IPv4 header for `len` bytes of payload that are in place already. */
static inline size_t ipv4(uint8_t *f, uint8_t protocol, uint32_t src, uint32_t dst, size_t len)
{
	static uint16_t id;
	uint8_t *ip = f + ether(f, ETH_P_IP);

	memset(ip, 0, 20);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned)(20 + len));
	put16(ip + 4, ++id);
	ip[8] = 64;
	ip[9] = protocol;
	put32(ip + 12, src);
	put32(ip + 16, dst);
	put16(ip + 10, fold(sum16(ip, 20, 0)));
	return 34 + len;
}

static inline uint32_t pseudo(uint32_t src, uint32_t dst, uint8_t protocol, size_t len)
{
	return (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff) + protocol + (uint32_t)len;
}

/* Of a frame that came: everything in it adds up. */
static inline void check_ipv4(const struct frame *f)
{
	const uint8_t *ip = f->buf + 14;
	size_t len = get16(ip + 2) - 20u;

	cr_assert_leq(get16(ip + 2) + 14u, f->len);
	cr_expect_eq(fold(sum16(ip, 20, 0)), 0, "IP checksum");
	if (ip[9] == IPPROTO_ICMP)
		cr_expect_eq(fold(sum16(ip + 20, len, 0)), 0, "ICMP checksum");
	else if (ip[9] == IPPROTO_TCP || get16(ip + 26))
		cr_expect_eq(fold(sum16(ip + 20, len, pseudo(get32(ip + 12), get32(ip + 16), ip[9], len))), 0,
			     "transport checksum");
}

static inline bool is_icmp(const uint8_t *f, size_t len)
{
	return len >= 42 && get16(f + 12) == ETH_P_IP && f[23] == IPPROTO_ICMP;
}

static inline void send_udp(uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, const void *data,
			    size_t len)
{
	static uint8_t f[MAX_FRAME];

	memcpy(f + 42, data, len);
	put16(f + 34, sport);
	put16(f + 36, dport);
	put16(f + 38, (unsigned)(8 + len));
	put16(f + 40, 0);
	put16(f + 40, fold(sum16(f + 34, 8 + len, pseudo(src, dst, IPPROTO_UDP, 8 + len))));
	send_frame(f, ipv4(f, IPPROTO_UDP, src, dst, 8 + len));
}

static inline bool is_udp(const uint8_t *f, size_t len)
{
	return len >= 42 && get16(f + 12) == ETH_P_IP && f[23] == IPPROTO_UDP;
}

static inline int host_socket(int type, uint32_t addr, uint16_t *bound)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(addr)};
	const struct timeval patience = {.tv_sec = 10};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	a.sin_port = htons(*bound);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, len), 0, "%s", strerror(errno));
	if (type == SOCK_STREAM)
		cr_assert_eq(listen(fd, 8), 0);
	getsockname(fd, (struct sockaddr *)&a, &len);
	*bound = ntohs(a.sin_port);
	return fd;
}

static inline uint16_t free_port(int type)
{
	uint16_t p = 0;

	close(host_socket(type, INADDR_LOOPBACK, &p));
	return p;
}

static inline void pattern(uint8_t *buf, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)(i * 7 + (i >> 8) + seed);
}

static inline void forward(struct user_net_config *cfg, const char *fmt, unsigned host_port)
{
	struct err e = {0};
	char text[64];

	snprintf(text, sizeof(text), "%.40s", fmt);
	snprintf(text, sizeof(text), strstr(fmt, "udp") ? "udp:127.0.0.1:%u-:7" : "tcp:127.0.0.1:%u-:7",
		 host_port);
	cr_assert_eq(user_net_parse_hostfwd(text, &cfg->fwd[cfg->nfwd++], &e), 0, "%s", e.text);
}

static inline struct sockaddr_in loopback(uint16_t to)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				    .sin_port = htons(to)};
}
#endif
