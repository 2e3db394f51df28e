/* The user-mode network as a guest finds it: frames made by hand, through the port, to the real helper. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backends/slirp_helper.h"
#include "backends/user_net.h"
#include "lib/cleanup.h"
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

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static uint32_t sum16(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += get16(p + i);
	if (n & 1)
		sum += (uint32_t)p[n - 1] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)~sum;
}

static void queue_frame(const uint8_t *frame, size_t len)
{
	static const uint8_t header[HDR];
	struct iovec iov[2] = {{(void *)(uintptr_t)header, HDR}, {(void *)(uintptr_t)frame, len}};

	cr_assert_eq(port->ops->send(port, iov, 2), (ssize_t)(HDR + len));
}

static void send_frame(const uint8_t *frame, size_t len)
{
	queue_frame(frame, len);
	cr_assert_eq(port->ops->commit(port), 0);
}

static size_t ether(uint8_t *f, uint16_t type)
{
	memcpy(f, host_mac, 6);
	memcpy(f + 6, guest_mac, 6);
	put16(f + 12, type);
	return 14;
}

static size_t make_arp(uint8_t *f, uint16_t op, uint32_t target)
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
static bool housekeeping(const uint8_t *f, size_t len)
{
	uint8_t answer[42];

	if (len >= 42 && get16(f + 12) == ETH_P_ARP && get16(f + 20) == 1 && get32(f + 38) == GUEST_IP) {
		memcpy(host_mac, f + 6, 6);
		send_frame(answer, make_arp(answer, 2, get32(f + 28)));
		return true;
	}
	return false;
}

static ssize_t recv_frame(struct frame *f)
{
	struct iovec iov[2] = {{last_header, HDR}, {f->buf, sizeof(f->buf)}};
	ssize_t n;

	memset(last_header, 0xaa, HDR);
	n = port->ops->recv(port, iov, 2);
	if (n > 0)
		f->len = (size_t)n - HDR;
	return n;
}

static void on_readable(void *opaque)
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

static void on_gone(void *opaque, int err)
{
	(void)opaque;
	ngone++;
	gone_err = err;
	evloop_quit(loop, 0);
}

static void on_time(struct ev_timer *t)
{
	(void)t;
	evloop_quit(loop, 1);
}

/* Until something happens; false: nothing did for that long. */
static bool turn(unsigned ms)
{
	int status;

	ev_timer_arm(&timer, ms);
	status = evloop_run(loop);
	ev_timer_arm(&timer, 0);
	return !status;
}

/* The next frame that match() accepts; the others are dropped.  10 s. */
static const struct frame *expect(bool (*match)(const uint8_t *f, size_t len))
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

static struct user_net_config config(void)
{
	struct user_net_config cfg;

	user_net_config_init(&cfg);
	return cfg;
}

static void attach(void)
{
	cr_assert_eq(port->ops->attach(port, loop), 0);
	port->ops->recv_enable(port, true);
}

static void plug_in(const struct user_net_config *cfg)
{
	struct err e = {0};

	port = user_net_new(cfg, &e);
	cr_assert(port, "%s", e.text);
	port->readable = on_readable;
	port->gone = on_gone;
	cr_assert_eq(port->ops->set_features(port, 0, HDR), 0);
	attach();
}

static void plug_in_default(void)
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

TestSuite(user_net, .init = setup, .fini = teardown, .timeout = 60);

/* Until the helper has done all it was given ('S') or is dead ('Z'): what is sent to it makes it runnable. */
static void wait_state(char state)
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

/* --- ARP, ICMP, DHCP --- */

static bool is_arp_reply(const uint8_t *f, size_t len)
{
	return len >= 42 && get16(f + 12) == ETH_P_ARP && get16(f + 20) == 2;
}

static void resolve_gateway(void)
{
	const struct frame *f;
	uint8_t request[42];

	send_frame(request, make_arp(request, 1, HOST_IP));
	f = expect(is_arp_reply);
	cr_assert_eq(get32(f->buf + 28), HOST_IP);
	memcpy(host_mac, f->buf + 22, 6);
}

Test(user_net, gateway_answers_arp)
{
	plug_in_default();
	resolve_gateway();
	cr_expect_arr_eq(host_mac, ((uint8_t[]){0x52, 0x55, 10, 0, 2, 2}), 6);
}

/* IPv4 header for `len` bytes of payload that are in place already. */
static size_t ipv4(uint8_t *f, uint8_t protocol, uint32_t src, uint32_t dst, size_t len)
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

static uint32_t pseudo(uint32_t src, uint32_t dst, uint8_t protocol, size_t len)
{
	return (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff) + protocol + (uint32_t)len;
}

/* Of a frame that came: everything in it adds up. */
static void check_ipv4(const struct frame *f)
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

static bool is_icmp(const uint8_t *f, size_t len)
{
	return len >= 42 && get16(f + 12) == ETH_P_IP && f[23] == IPPROTO_ICMP;
}

Test(user_net, gateway_answers_ping)
{
	uint8_t f[14 + 20 + 8 + 56] = {0};
	const struct frame *r;

	plug_in_default();
	resolve_gateway();
	f[34] = ICMP_ECHO;
	put32(f + 38, 0x12340001);
	memset(f + 42, 0x5a, 56);
	put16(f + 36, fold(sum16(f + 34, 64, 0)));
	send_frame(f, ipv4(f, IPPROTO_ICMP, GUEST_IP, HOST_IP, 64));
	r = expect(is_icmp);
	check_ipv4(r);
	cr_expect_eq(r->buf[34], ICMP_ECHOREPLY);
	cr_expect_arr_eq(r->buf + 38, f + 38, 60);
}

static void send_udp(uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, const void *data, size_t len)
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

static bool is_udp(const uint8_t *f, size_t len)
{
	return len >= 42 && get16(f + 12) == ETH_P_IP && f[23] == IPPROTO_UDP;
}

static const uint8_t *dhcp_option(const struct frame *f, uint8_t code)
{
	const uint8_t *p = f->buf + 42 + 240, *end = f->buf + f->len;

	while (p + 2 <= end && *p != 255) {
		if (*p == code)
			return p;
		p += *p ? 2 + p[1] : 1;
	}
	return NULL;
}

/* message: 1 DISCOVER, 3 REQUEST */
static const struct frame *dhcp(uint8_t message)
{
	uint8_t m[300] = {1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef};
	const struct frame *r;
	size_t n = 240;

	memcpy(m + 28, guest_mac, 6);
	put32(m + 236, 0x63825363);
	m[n++] = 53;
	m[n++] = 1;
	m[n++] = message;
	if (message == 3) {
		m[n++] = 50;
		m[n++] = 4;
		put32(m + n, GUEST_IP);
		n += 4;
	}
	m[n] = 255;
	send_udp(0, 68, 0xffffffff, 67, m, sizeof(m));
	r = expect(is_udp);
	check_ipv4(r);
	cr_assert_eq(get16(r->buf + 36), 68);
	cr_assert_eq(get32(r->buf + 42 + 4), 0xdeadbeef);
	return r;
}

static uint32_t option32(const struct frame *f, uint8_t code)
{
	const uint8_t *p = dhcp_option(f, code);

	cr_assert(p, "option %d", code);
	cr_assert_geq(p[1], 4);
	return get32(p + 2);
}

Test(user_net, dhcp_gives_addresses)
{
	struct user_net_config cfg = config();
	const struct frame *r;

	strcpy(cfg.hostname, "guest7");
	strcpy(cfg.domain, "example.org");
	strcpy(cfg.search[cfg.nsearch++], "lab.example.org");
	plug_in(&cfg);
	r = dhcp(1);
	cr_expect_eq(dhcp_option(r, 53)[2], 2, "OFFER");
	cr_expect_eq(get32(r->buf + 42 + 16), GUEST_IP);
	r = dhcp(3);
	cr_expect_eq(dhcp_option(r, 53)[2], 5, "ACK");
	cr_expect_eq(get32(r->buf + 42 + 16), GUEST_IP);
	cr_expect_eq(option32(r, 1), 0xffffff00);
	cr_expect_eq(option32(r, 3), HOST_IP);
	cr_expect_eq(option32(r, 6), DNS_IP);
	cr_assert(dhcp_option(r, 12) && dhcp_option(r, 15) && dhcp_option(r, 119));
	cr_expect_eq(memcmp(dhcp_option(r, 12) + 1, "\6guest7", 7), 0);
	cr_expect_eq(memcmp(dhcp_option(r, 15) + 1, "\13example.org", 12), 0);
	cr_expect_eq(memcmp(dhcp_option(r, 119) + 2, "\3lab\7example\3org", 16), 0);
}

Test(user_net, addresses_are_the_configured_ones)
{
	struct user_net_config cfg = config();
	const struct frame *r;

	inet_pton(AF_INET, "192.168.76.0", &cfg.net);
	inet_pton(AF_INET, "192.168.76.1", &cfg.host);
	inet_pton(AF_INET, "192.168.76.53", &cfg.dns);
	inet_pton(AF_INET, "192.168.76.9", &cfg.dhcp_start);
	plug_in(&cfg);
	r = dhcp(1);
	cr_expect_eq(get32(r->buf + 42 + 16), 0xc0a84c09);
	cr_expect_eq(option32(r, 3), 0xc0a84c01);
	cr_expect_eq(option32(r, 6), 0xc0a84c35);
}

/* --- TCP --- */

struct tcp {
	uint32_t peer;
	uint16_t sport, dport;
	uint32_t seq, ack;
};

#define FIN 1
#define SYN 2
#define RST 4
#define ACK 16

static bool is_tcp(const uint8_t *f, size_t len)
{
	return len >= 54 && get16(f + 12) == ETH_P_IP && f[23] == IPPROTO_TCP;
}

static void tcp_send(struct tcp *t, uint8_t flags, const void *data, size_t len)
{
	uint8_t f[1514];
	uint8_t *h = f + 34;

	memset(h, 0, 20);
	put16(h, t->sport);
	put16(h + 2, t->dport);
	put32(h + 4, t->seq);
	put32(h + 8, t->ack);
	h[12] = 5 << 4;
	h[13] = flags;
	put16(h + 14, 65000);
	memcpy(h + 20, data ? data : "", len);
	put16(h + 16, fold(sum16(h, 20 + len, pseudo(GUEST_IP, t->peer, IPPROTO_TCP, 20 + len))));
	send_frame(f, ipv4(f, IPPROTO_TCP, GUEST_IP, t->peer, 20 + len));
	t->seq += (uint32_t)len + ((flags & (SYN | FIN)) != 0);
}

/* The next segment of this connection; its payload. */
static const struct frame *tcp_recv(struct tcp *t, uint8_t *flags, const uint8_t **data, size_t *len)
{
	const struct frame *f;

	do {
		f = expect(is_tcp);
		check_ipv4(f);
	} while (get16(f->buf + 34) != t->dport || get16(f->buf + 36) != t->sport);
	*flags = f->buf[34 + 13];
	*data = f->buf + 34 + (f->buf[34 + 12] >> 4) * 4;
	*len = get16(f->buf + 16) - 20u - (f->buf[34 + 12] >> 4) * 4u;
	return f;
}

/* Reads what the peer sends, in order, until its FIN; acknowledges all. */
static size_t tcp_read_all(struct tcp *t, uint8_t *buf, size_t size)
{
	size_t total = 0, len;
	const uint8_t *data;
	uint8_t flags = 0;

	while (!(flags & FIN)) {
		const struct frame *f = tcp_recv(t, &flags, &data, &len);
		bool in_order = get32(f->buf + 38) == t->ack;

		cr_assert_not(flags & RST);
		if (!in_order) { /* a repetition */
			flags = 0;
			continue;
		}
		cr_assert_leq(total + len, size);
		memcpy(buf + total, data, len);
		total += len;
		t->ack += (uint32_t)len + (flags & FIN);
		if (len || (flags & FIN))
			tcp_send(t, ACK, NULL, 0);
	}
	return total;
}

static int host_socket(int type, uint32_t addr, uint16_t *bound)
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

static uint16_t free_port(int type)
{
	uint16_t p = 0;

	close(host_socket(type, INADDR_LOOPBACK, &p));
	return p;
}

static void pattern(uint8_t *buf, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)(i * 7 + (i >> 8) + seed);
}

static void read_exactly(int fd, uint8_t *buf, size_t n)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = read(fd, buf + got, n - got);

		cr_assert_gt(r, 0, "%s", r ? strerror(errno) : "early end");
		got += (size_t)r;
	}
}

/* From an established connection of the guest to the socket: data both ways, and both ends. */
static void converse(struct tcp *t, int fd)
{
	static uint8_t out[20000], in[20000];
	const uint8_t *data;
	uint8_t flags, end;
	size_t len;

	pattern(out, sizeof(out), 1);
	for (size_t at = 0; at < sizeof(out); at += 1000)
		tcp_send(t, ACK, out + at, 1000);
	read_exactly(fd, in, sizeof(in));
	cr_expect_arr_eq(in, out, sizeof(in), "guest to host");
	pattern(out, sizeof(out), 2);
	cr_assert_eq(write(fd, out, sizeof(out)), sizeof(out));
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	cr_expect_eq(tcp_read_all(t, in, sizeof(in)), sizeof(in));
	cr_expect_arr_eq(in, out, sizeof(in), "host to guest");
	tcp_send(t, FIN | ACK, NULL, 0);
	cr_expect_eq(read(fd, &end, 1), 0, "the guest's end reaches the host");
	do
		tcp_recv(t, &flags, &data, &len);
	while (!(flags & RST) && len);
}

Test(user_net, tcp_to_the_hosts_loopback)
{
	struct tcp t = {.peer = HOST_IP, .sport = 40000, .seq = 1000};
	int lfd = host_socket(SOCK_STREAM, INADDR_LOOPBACK, &t.dport), fd;
	const struct frame *f;
	const uint8_t *data;
	uint8_t flags;
	size_t len;

	plug_in_default();
	resolve_gateway();
	tcp_send(&t, SYN, NULL, 0);
	f = tcp_recv(&t, &flags, &data, &len);
	cr_assert_eq(flags & (SYN | ACK | RST), SYN | ACK);
	t.ack = get32(f->buf + 38) + 1;
	tcp_send(&t, ACK, NULL, 0);
	fd = accept(lfd, NULL, NULL);
	cr_assert_geq(fd, 0);
	converse(&t, fd);
	close(fd);
	close(lfd);
}

Test(user_net, tcp_to_a_closed_port_is_reset)
{
	struct tcp t = {.peer = HOST_IP, .sport = 40000, .dport = free_port(SOCK_STREAM), .seq = 1000};
	const uint8_t *data;
	uint8_t flags;
	size_t len;

	plug_in_default();
	resolve_gateway();
	tcp_send(&t, SYN, NULL, 0);
	tcp_recv(&t, &flags, &data, &len);
	cr_expect(flags & RST);
}

static bool is_tcp_or_icmp(const uint8_t *f, size_t len)
{
	return is_tcp(f, len) || is_icmp(f, len);
}

static void check_unreachable(const struct user_net_config *cfg)
{
	struct tcp t = {.peer = HOST_IP, .sport = 40000, .seq = 1000};
	int lfd = host_socket(SOCK_STREAM, INADDR_LOOPBACK, &t.dport);
	const struct frame *f;

	plug_in(cfg);
	resolve_gateway();
	tcp_send(&t, SYN, NULL, 0);
	/* No answer, or one that refuses; and nobody at the listener's door. */
	while (turn(50))
		while (qhead != qtail) {
			f = &queue[qhead++];
			if (is_tcp_or_icmp(f->buf, f->len) && is_tcp(f->buf, f->len))
				cr_expect(f->buf[47] & RST);
		}
	fcntl(lfd, F_SETFL, O_NONBLOCK);
	cr_expect_eq(accept(lfd, NULL, NULL), -1);
	close(lfd);
}

Test(user_net, loopback_can_be_kept_from_the_guest)
{
	struct user_net_config cfg = config();

	cfg.no_loopback = true;
	check_unreachable(&cfg);
}

Test(user_net, restricted_guest_reaches_nothing)
{
	struct user_net_config cfg = config();

	cfg.restricted = true;
	check_unreachable(&cfg);
}

/* --- forwarded ports --- */

static void forward(struct user_net_config *cfg, const char *fmt, unsigned host_port)
{
	struct err e = {0};
	char text[64];

	snprintf(text, sizeof(text), "%.40s", fmt);
	snprintf(text, sizeof(text), strstr(fmt, "udp") ? "udp:127.0.0.1:%u-:7" : "tcp:127.0.0.1:%u-:7",
		 host_port);
	cr_assert_eq(user_net_parse_hostfwd(text, &cfg->fwd[cfg->nfwd++], &e), 0, "%s", e.text);
}

static struct sockaddr_in loopback(uint16_t to)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				    .sin_port = htons(to)};
}

Test(user_net, forwarded_tcp_port)
{
	struct user_net_config cfg = config();
	uint16_t host_port = free_port(SOCK_STREAM);
	struct sockaddr_in to = loopback(host_port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct tcp t = {.seq = 77};
	const struct frame *f;

	forward(&cfg, "tcp", host_port);
	plug_in(&cfg);
	resolve_gateway();
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	f = expect(is_tcp);
	check_ipv4(f);
	cr_assert_eq(f->buf[47], SYN);
	cr_expect_eq(get32(f->buf + 26), HOST_IP);
	cr_expect_eq(get32(f->buf + 30), GUEST_IP);
	cr_expect_eq(get16(f->buf + 36), 7);
	t.peer = get32(f->buf + 26);
	t.dport = get16(f->buf + 34);
	t.sport = 7;
	t.ack = get32(f->buf + 38) + 1;
	tcp_send(&t, SYN | ACK, NULL, 0);
	converse(&t, fd);
	close(fd);
}

Test(user_net, forwarded_udp_port)
{
	struct user_net_config cfg = config();
	uint16_t host_port = free_port(SOCK_DGRAM), from = 0;
	struct sockaddr_in to = loopback(host_port);
	int fd = host_socket(SOCK_DGRAM, INADDR_LOOPBACK, &from);
	static uint8_t out[1400], in[1400];
	const struct frame *f;

	forward(&cfg, "udp", host_port);
	plug_in(&cfg);
	resolve_gateway();
	pattern(out, sizeof(out), 3);
	cr_assert_eq(sendto(fd, out, sizeof(out), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(out));
	f = expect(is_udp);
	check_ipv4(f);
	cr_expect_eq(get16(f->buf + 36), 7);
	cr_expect_eq(get16(f->buf + 38), 8 + sizeof(out));
	cr_expect_arr_eq(f->buf + 42, out, sizeof(out));
	pattern(out, sizeof(out), 4);
	send_udp(GUEST_IP, 7, get32(f->buf + 26), get16(f->buf + 34), out, sizeof(out));
	cr_assert_eq(recv(fd, in, sizeof(in), 0), sizeof(in));
	cr_expect_arr_eq(in, out, sizeof(in));
	close(fd);
}

Test(user_net, forwarded_ipv6_port_listens)
{
	struct user_net_config cfg = config();
	struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t len = sizeof(to);
	int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	struct err e = {0};
	char text[64];

	if (probe < 0 || bind(probe, (struct sockaddr *)&to, sizeof(to)))
		cr_skip_test("no IPv6 here");
	getsockname(probe, (struct sockaddr *)&to, &len);
	close(probe);
	snprintf(text, sizeof(text), "tcp:[::1]:%u-:80", ntohs(to.sin6_port));
	cr_assert_eq(user_net_parse_hostfwd(text, &cfg.fwd[cfg.nfwd++], &e), 0, "%s", e.text);
	plug_in(&cfg);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_expect_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0, "%s", strerror(errno));
	close(fd);
}

Test(user_net, port_in_use_is_a_sentence)
{
	struct user_net_config cfg = config();
	struct err e = {0};
	uint16_t taken = 0;
	int fd = host_socket(SOCK_STREAM, INADDR_LOOPBACK, &taken);

	forward(&cfg, "tcp", taken);
	cr_expect_null(user_net_new(&cfg, &e));
	cr_expect_eq(e.code, -EADDRINUSE);
	cr_expect(strstr(e.text, "user-mode network: cannot listen on TCP port 127.0.0.1:"), "%s", e.text);
	cr_expect_null(user_net_new(&cfg, NULL));
	close(fd);
}

/* --- fragments --- */

static void send_fragment(uint16_t to, const uint8_t *datagram, size_t at, size_t len, bool last)
{
	uint8_t f[1514];

	memcpy(f + 34, datagram + at, len);
	ipv4(f, IPPROTO_UDP, GUEST_IP, HOST_IP, len);
	put16(f + 18, to);
	put16(f + 20, (unsigned)(at / 8) | (last ? 0 : IP_MF));
	put16(f + 24, 0);
	put16(f + 24, fold(sum16(f + 14, 20, 0)));
	send_frame(f, 34 + len);
}

/* The last one first has ended the helper. */
Test(user_net, fragments_arrive_in_any_order)
{
	static const uint8_t order[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 3, 0, 1}, {3, 0, 2, 1}};
	uint16_t to = 0;
	int fd = host_socket(SOCK_DGRAM, INADDR_LOOPBACK, &to);
	static uint8_t out[8 + 5000], in[6000];

	plug_in_default();
	resolve_gateway();
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
		pattern(out, sizeof(out), i);
		put16(out, 5000);
		put16(out + 2, to);
		put16(out + 4, sizeof(out));
		put16(out + 6, 0);
		for (unsigned k = 0; k < 4; k++) {
			size_t at = order[i][k] * 1480u,
			       len = sizeof(out) - at < 1480 ? sizeof(out) - at : 1480;

			send_fragment((uint16_t)(i + 1), out, at, len, order[i][k] == 3);
		}
		cr_assert_eq(recv(fd, in, sizeof(in), 0), 5000);
		cr_expect_arr_eq(in, out + 8, 5000);
	}
	close(fd);
}

/* --- DNS: in a network and a mount namespace with a name server of ours --- */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void private_network(const char *resolv_conf)
{
	char path[] = "/tmp/ringlet-resolv-XXXXXX";
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd;

	if (unshare(CLONE_NEWNS | CLONE_NEWNET) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		cr_skip_test("needs namespaces");
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	fchmod(fd, 0644);
	close(fd);
	write_file(path, resolv_conf);
	if (mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL)) {
		unlink(path);
		cr_skip_test("cannot replace /etc/resolv.conf");
	}
	unlink(path);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
	close(fd);
}

Test(user_net, name_server_is_the_hosts)
{
	static const char query[] = "any query", reply[] = "any reply";
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	uint16_t dns_port = 53;
	const struct frame *f;
	char buf[64];
	int fd;

	private_network("# first\nnameserver 127.0.0.77\n");
	fd = host_socket(SOCK_DGRAM, INADDR_LOOPBACK + 76, &dns_port);
	plug_in_default();
	resolve_gateway();
	send_udp(GUEST_IP, 5000, DNS_IP, 53, query, sizeof(query));
	cr_assert_eq(recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len), sizeof(query));
	cr_expect_arr_eq(buf, query, sizeof(query));
	cr_assert_eq(sendto(fd, reply, sizeof(reply), 0, (struct sockaddr *)&from, len), sizeof(reply));
	f = expect(is_udp);
	check_ipv4(f);
	cr_expect_eq(get32(f->buf + 26), DNS_IP);
	cr_expect_eq(get16(f->buf + 34), 53);
	cr_expect_arr_eq(f->buf + 42, reply, sizeof(reply));
	close(fd);
}

/* --- IPv6 --- */

static uint32_t pseudo6(const uint8_t *ip, size_t len)
{
	return sum16(ip + 8, 32, 0) + IPPROTO_ICMPV6 + (uint32_t)len;
}

static void send_icmp6(const uint8_t dst[16], const uint8_t src[16], uint8_t *f, size_t len)
{
	uint8_t *ip = f + 14;

	ether(f, ETH_P_IPV6);
	put16(f, 0x3333);
	memcpy(f + 2, dst + 12, 4);
	memset(ip, 0, 40);
	ip[0] = 0x60;
	put16(ip + 4, (unsigned)len);
	ip[6] = IPPROTO_ICMPV6;
	ip[7] = 255;
	memcpy(ip + 8, src, 16);
	memcpy(ip + 24, dst, 16);
	put16(ip + 42, 0);
	put16(ip + 42, fold(sum16(ip + 40, len, pseudo6(ip, len))));
	send_frame(f, 54 + len);
}

static bool is_ra(const uint8_t *f, size_t len)
{
	return len >= 70 && get16(f + 12) == ETH_P_IPV6 && f[20] == IPPROTO_ICMPV6 && f[54] == ND_ROUTER_ADVERT;
}

static bool is_na(const uint8_t *f, size_t len)
{
	return len >= 78 && get16(f + 12) == ETH_P_IPV6 && f[20] == IPPROTO_ICMPV6 &&
	       f[54] == ND_NEIGHBOR_ADVERT;
}

static void check_icmp6(const struct frame *f)
{
	size_t len = get16(f->buf + 18);

	cr_expect_eq(fold(sum16(f->buf + 54, len, pseudo6(f->buf + 14, len))), 0);
}

Test(user_net, router_advertises_the_prefix)
{
	static const uint8_t all_routers[16] = {0xff, 2, [15] = 2}, link_local[16] = {0xfe, 0x80, [15] = 9};
	uint8_t f[128] = {0};
	const struct frame *r;
	const uint8_t *option;

	plug_in_default();
	f[54] = ND_ROUTER_SOLICIT;
	send_icmp6(all_routers, link_local, f, 8);
	r = expect(is_ra);
	check_icmp6(r);
	for (option = r->buf + 70; option < r->buf + r->len && option[0] != ND_OPT_PREFIX_INFORMATION;)
		option += option[1] * 8;
	cr_assert_lt(option, r->buf + r->len);
	cr_expect_eq(option[2], 64);
	cr_expect_eq(get16(option + 16), 0xfec0);
	cr_expect_eq(get32(option + 18), 0);
}

Test(user_net, gateway_answers_neighbour_solicitation)
{
	static const uint8_t solicited[16] = {0xff, 2, [11] = 1, [12] = 0xff, [15] = 2};
	static const uint8_t gateway[16] = {0xfe, 0xc0, [15] = 2};
	uint8_t f[128] = {0};
	const struct frame *r;

	plug_in_default();
	f[54] = ND_NEIGHBOR_SOLICIT;
	memcpy(f + 62, gateway, 16);
	f[78] = ND_OPT_SOURCE_LINKADDR;
	f[79] = 1;
	memcpy(f + 80, guest_mac, 6);
	send_icmp6(solicited, guest_ip6, f, 32);
	r = expect(is_na);
	check_icmp6(r);
	cr_expect_arr_eq(r->buf + 62, gateway, 16);
}

/* --- the port: headers, buffers, bursts --- */

Test(user_net, header_is_zero)
{
	uint8_t f[42];

	plug_in_default();
	manual = true;
	send_frame(f, make_arp(f, 1, HOST_IP));
	cr_assert(turn(10000));
	cr_assert_gt(recv_frame(&queue[0]), 0);
	cr_expect_arr_eq(last_header, ((uint8_t[HDR]){0}), HDR);
}

Test(user_net, checksums_are_vouched_for_when_the_driver_asks)
{
	uint8_t f[42];
	struct frame *r = &queue[0];

	plug_in_default();
	port->ops->detach(port);
	cr_expect_eq(port->ops->features(port), UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM);
	cr_assert_eq(port->ops->set_features(port, UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM, HDR), 0);
	attach();
	manual = true;
	send_frame(f, make_arp(f, 1, HOST_IP));
	cr_assert(turn(10000));
	cr_assert_gt(recv_frame(r), 0);
	cr_expect_eq(last_header[0], VIRTIO_NET_HDR_F_DATA_VALID);
	last_header[0] = 0;
	cr_expect_arr_eq(last_header, (uint8_t[HDR]){0}, HDR);
}

Test(user_net, offloads_that_were_not_offered_are_refused)
{
	static const unsigned bits[] = {VIRTIO_NET_F_CSUM,      VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
					VIRTIO_NET_F_HOST_UFO,  VIRTIO_NET_F_HOST_USO,  VIRTIO_NET_F_GUEST_TSO4,
					VIRTIO_NET_F_GUEST_TSO6};

	plug_in_default();
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		cr_expect_eq(port->ops->set_features(port, UINT64_C(1) << bits[i], HDR), -EINVAL);
	cr_expect_eq(port->ops->set_features(port, 0, 9), -EINVAL);
	cr_expect_eq(port->ops->set_features(port, 0, 65), -EINVAL);
	cr_expect_eq(port->ops->set_features(port, 0, 10), 0);
	cr_expect_eq(port->ops->set_features(port, UINT64_C(1) << VIRTIO_NET_F_MAC, HDR), 0);
}

Test(user_net, frame_in_pieces_of_one_byte_each_way)
{
	uint8_t out[HDR + 42] = {0}, in[HDR + 100];
	struct iovec iov[HDR + 100];

	plug_in_default();
	manual = true;
	make_arp(out + HDR, 1, HOST_IP);
	for (size_t i = 0; i < sizeof(out); i++)
		iov[i] = (struct iovec){out + i, 1};
	cr_assert_eq(port->ops->send(port, iov, sizeof(out)), sizeof(out));
	cr_assert_eq(port->ops->commit(port), 0);
	cr_assert(turn(10000));
	memset(in, 0xaa, sizeof(in));
	for (size_t i = 0; i < sizeof(in); i++)
		iov[i] = (struct iovec){in + i, 1};
	cr_assert_geq(port->ops->recv(port, iov, sizeof(in)), HDR + 42);
	cr_expect_arr_eq(in, (uint8_t[HDR]){0}, HDR);
	cr_expect(is_arp_reply(in + HDR, 42));
	cr_expect_eq(get32(in + HDR + 28), HOST_IP);
}

Test(user_net, frame_that_does_not_fit_is_gone_and_the_next_one_comes)
{
	uint8_t f[42], small[HDR + 41];
	struct iovec iov = {small, sizeof(small)};

	plug_in_default();
	manual = true;
	queue_frame(f, make_arp(f, 1, HOST_IP));
	send_frame(f, make_arp(f, 1, HOST_IP));
	cr_assert(turn(10000));
	cr_expect_eq(port->ops->recv(port, &iov, 1), -EMSGSIZE);
	while (recv_frame(&queue[0]) < 0)
		cr_assert(turn(10000));
	cr_expect(is_arp_reply(queue[0].buf, queue[0].len));
	cr_expect_eq(recv_frame(&queue[0]), -EAGAIN);
	cr_expect_eq(user_net_stats(port)->rx_dropped, 1);
	cr_expect_eq(user_net_stats(port)->rx_frames, 1);
}

/* A message of no bytes would look like the end of the socket. */
Test(user_net, runts_and_giants_go_nowhere)
{
	static uint8_t buf[HDR + 70000];
	struct iovec iov = {buf, 0};

	plug_in_default();
	for (size_t len = 0; len < HDR + 14; len++) {
		iov.iov_len = len;
		cr_expect_eq(port->ops->send(port, &iov, 1), (ssize_t)len);
	}
	cr_expect_eq(port->ops->send(port, NULL, 0), 0);
	iov.iov_len = sizeof(buf);
	cr_expect_eq(port->ops->send(port, &iov, 1), (ssize_t)sizeof(buf));
	cr_expect_eq(port->ops->commit(port), 0);
	cr_expect_eq(user_net_stats(port)->tx_frames, 0);
	resolve_gateway();
}

Test(user_net, bad_buffer_costs_its_frame_only)
{
	struct iovec iov[2] = {{(uint8_t[HDR]){0}, HDR}, {(void *)16, 60}};
	uint8_t f[42];

	plug_in_default();
	queue_frame(f, make_arp(f, 1, HOST_IP));
	cr_assert_eq(port->ops->send(port, iov, 2), HDR + 60);
	queue_frame(f, make_arp(f, 1, HOST_IP));
	cr_expect_eq(port->ops->commit(port), 0);
	cr_expect_eq(user_net_stats(port)->tx_frames, 2);
	cr_expect_eq(user_net_stats(port)->tx_dropped, 1);
	expect(is_arp_reply);
	expect(is_arp_reply);
}

Test(user_net, burst_is_one_system_call)
{
	uint8_t f[42];

	plug_in_default();
	make_arp(f, 1, HOST_IP);
	for (int i = 0; i < 64; i++)
		queue_frame(f, sizeof(f));
	cr_expect_eq(user_net_stats(port)->syscalls, 0);
	cr_expect_eq(port->ops->commit(port), 0);
	cr_expect_eq(user_net_stats(port)->syscalls, 1);
	cr_expect_eq(port->ops->commit(port), 0);
	cr_expect_eq(user_net_stats(port)->syscalls, 1);
	for (int i = 0; i < 64; i++)
		expect(is_arp_reply);
	for (int i = 0; i < 200; i++)
		queue_frame(f, sizeof(f));
	cr_expect_eq(port->ops->commit(port), 0);
	cr_expect_eq(user_net_stats(port)->tx_frames, 264);
	for (int i = 0; i < 200; i++)
		expect(is_arp_reply);
}

Test(user_net, burst_larger_than_the_queue_leaves_whole)
{
	uint8_t f[42], hdr[HDR] = {0};
	struct iovec iov[42];

	plug_in_default();
	make_arp(f, 1, HOST_IP);
	iov[0] = (struct iovec){hdr, HDR};
	for (int i = 0; i < 41; i++)
		iov[i + 1] = (struct iovec){f + i, i == 40 ? 2 : 1};
	for (int i = 0; i < 150; i++) /* 6150 pieces */
		cr_assert_eq(port->ops->send(port, iov, 42), HDR + 42);
	cr_expect_eq(port->ops->commit(port), 0);
	cr_expect_eq(user_net_stats(port)->tx_frames, 150);
	for (int i = 0; i < 150; i++)
		expect(is_arp_reply);
}

Test(user_net, large_frames_with_a_large_mtu)
{
	struct user_net_config cfg = config();
	uint16_t host_port = free_port(SOCK_DGRAM), from = 0;
	struct sockaddr_in to = loopback(host_port);
	int fd = host_socket(SOCK_DGRAM, INADDR_LOOPBACK, &from);
	static uint8_t out[60000], in[60000];
	const struct frame *f;

	cfg.mtu = 65521;
	forward(&cfg, "udp", host_port);
	plug_in(&cfg);
	resolve_gateway();
	pattern(out, sizeof(out), 5);
	cr_assert_eq(sendto(fd, out, sizeof(out), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(out));
	f = expect(is_udp);
	check_ipv4(f);
	cr_expect_eq(f->len, 42 + sizeof(out));
	cr_expect_arr_eq(f->buf + 42, out, sizeof(out));
	send_udp(GUEST_IP, 7, get32(f->buf + 26), get16(f->buf + 34), out, sizeof(out));
	cr_assert_eq(recv(fd, in, sizeof(in), 0), sizeof(in));
	cr_expect_arr_eq(in, out, sizeof(in));
	manual = true;
	cr_assert_eq(sendto(fd, out, 9000, 0, (struct sockaddr *)&to, sizeof(to)), 9000);
	cr_assert(turn(10000));
	cr_expect_eq(port->ops->recv(port, &(struct iovec){in, 5000}, 1), -EMSGSIZE);
	cr_expect_eq(port->ops->recv(port, &(struct iovec){in, 5000}, 1), -EAGAIN);
	close(fd);
}

/* --- the port: who waits for whom --- */

Test(user_net, receiving_is_disabled_after_attach)
{
	uint8_t f[42];

	plug_in_default();
	port->ops->detach(port);
	cr_assert_eq(port->ops->attach(port, loop), 0);
	send_frame(f, make_arp(f, 1, HOST_IP));
	wait_state('S');
	cr_expect_not(turn(20));
	cr_expect_eq(nreadable, 0);
	port->ops->recv_enable(port, true);
	expect(is_arp_reply);
}

Test(user_net, checksum_offload_is_turned_off_while_attached)
{
	uint8_t f[42];

	plug_in_default();
	manual = true;
	cr_assert_eq(port->ops->set_features(port, UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM, HDR), 0);
	cr_assert_eq(port->ops->set_features(port, 0, HDR), 0);
	send_frame(f, make_arp(f, 1, HOST_IP));
	cr_assert(turn(10000));
	cr_assert_gt(recv_frame(&queue[0]), 0);
	cr_expect_eq(last_header[0], 0);
}

Test(user_net, nothing_is_readable_while_disabled)
{
	clock_t before;
	uint8_t f[42];

	plug_in_default();
	port->ops->recv_enable(port, false);
	send_frame(f, make_arp(f, 1, HOST_IP));
	wait_state('S');
	before = clock();
	cr_expect_not(turn(100));
	cr_expect_eq(nreadable, 0);
	cr_expect_lt(clock() - before, CLOCKS_PER_SEC / 100, "nobody spins meanwhile");
	port->ops->recv_enable(port, true);
	expect(is_arp_reply);
}

/* A receive took several frames out of the socket; the socket does not tell of them again. */
Test(user_net, frames_taken_but_not_delivered_are_told_again)
{
	uint8_t f[42];
	unsigned got = 0;

	plug_in_default();
	manual = true;
	for (int i = 0; i < 8; i++)
		queue_frame(f, make_arp(f, 1, HOST_IP));
	cr_assert_eq(port->ops->commit(port), 0);
	wait_state('S'); /* all the answers are here */
	cr_assert(turn(10000));
	cr_assert_gt(recv_frame(&queue[0]), 0);
	got++;
	port->ops->recv_enable(port, false);
	cr_expect_not(turn(20));
	port->ops->recv_enable(port, true);
	while (got < 8) { /* one a call, as a guest with one buffer takes them */
		cr_assert(turn(10000));
		if (recv_frame(&queue[0]) > 0)
			got++;
	}
	cr_expect_eq(recv_frame(&queue[0]), -EAGAIN);
}

Test(user_net, helper_that_does_not_keep_up_costs_frames_and_nothing_else)
{
	static uint8_t f[1514];
	unsigned sent = 0;

	plug_in_default();
	kill(user_net_helper(port), SIGSTOP);
	ether(f, 0x1234);
	while (!user_net_stats(port)->tx_dropped && sent++ < 100000)
		send_frame(f, sizeof(f));
	cr_expect_geq(user_net_stats(port)->tx_frames, 64, "a queue worth the name");
	cr_expect_geq(user_net_stats(port)->tx_dropped, 1);
	kill(user_net_helper(port), SIGCONT);
	wait_state('S');
	resolve_gateway();
}

/* Every request that was not dropped on its way there is answered, however late the answers are read. */
Test(user_net, helper_waits_for_a_guest_that_does_not_read)
{
	const struct user_net_stats *s;
	unsigned idle = 0;
	uint8_t f[42];

	plug_in_default();
	s = user_net_stats(port);
	make_arp(f, 1, HOST_IP);
	while (idle < 10) {
		uint64_t dropped = s->tx_dropped;

		for (int i = 0; i < 64; i++)
			queue_frame(f, sizeof(f));
		cr_assert_eq(port->ops->commit(port), 0);
		if (s->tx_dropped == dropped) {
			idle = 0;
		} else {
			idle++;
			usleep(2000);
		}
	}
	cr_expect_geq(s->tx_frames, 1000);
	for (uint64_t i = 0; i < s->tx_frames; i++)
		expect(is_arp_reply);
	cr_expect_not(turn(20), "and no more than that");
}

Test(user_net, frames_for_the_driver_before_are_dropped_at_attach)
{
	uint8_t f[42];

	plug_in_default();
	for (int i = 0; i < 8; i++)
		queue_frame(f, make_arp(f, 1, HOST_IP));
	cr_assert_eq(port->ops->commit(port), 0);
	wait_state('S');
	manual = true;
	cr_assert(turn(10000));
	cr_assert_gt(recv_frame(&queue[0]), 0);  /* the others wait in the port */
	send_frame(f, make_arp(f, 1, HOST_IP));  /* ... and this one in the socket */
	queue_frame(f, make_arp(f, 1, HOST_IP)); /* ... and this one has not left */
	wait_state('S');
	port->ops->detach(port);
	attach();
	cr_expect_eq(port->ops->commit(port), 0);
	manual = false;
	while (turn(30))
		;
	cr_expect_eq(qhead, qtail);
	resolve_gateway();
}

Test(user_net, attaches_a_thousand_times)
{
	plug_in_default();
	for (int i = 0; i < 1000; i++) {
		port->ops->detach(port);
		attach();
	}
	resolve_gateway();
}

/* --- the helper's end --- */

static void check_gone(void)
{
	uint8_t f[HDR + 42] = {0};
	struct iovec iov = {f, sizeof(f)};
	int fds[2];

	cr_assert(turn(10000));
	cr_expect_eq(ngone, 1);
	cr_expect_eq(gone_err, -EPIPE);
	cr_expect_not(turn(20), "told once");
	cr_expect_eq(user_net_helper(port), 0);
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "reaped");
	cr_expect_eq(port->ops->send(port, &iov, 1), -EPIPE);
	cr_expect_eq(port->ops->recv(port, &iov, 1), -EPIPE);
	port->ops->recv_enable(port, false);
	port->ops->recv_enable(port, true);
	port->ops->detach(port);
	/* Who gets the number of the helper's socket now keeps what is in it. */
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	cr_assert_eq(write(fds[0], "x", 1) + write(fds[1], "x", 1), 2);
	cr_expect_eq(port->ops->attach(port, loop), 0, "a reset of the device is still possible");
	cr_expect_eq(recv(fds[0], f, 1, MSG_DONTWAIT) + recv(fds[1], f, 1, MSG_DONTWAIT), 2);
	close(fds[0]);
	close(fds[1]);
	cr_expect_not(turn(20));
	cr_expect_eq(ngone, 1);
}

Test(user_net, killed_helper_is_told_once_and_reaped)
{
	plug_in_default();
	resolve_gateway();
	kill(user_net_helper(port), SIGKILL);
	check_gone();
}

Test(user_net, killed_helper_is_told_while_receiving_is_disabled)
{
	plug_in_default();
	port->ops->recv_enable(port, false);
	kill(user_net_helper(port), SIGKILL);
	check_gone();
}

Test(user_net, helper_that_ended_before_attach_is_told_after)
{
	plug_in_default();
	port->ops->detach(port);
	kill(user_net_helper(port), SIGKILL);
	wait_state('Z');
	attach();
	check_gone();
}

Test(user_net, helper_that_ended_is_seen_by_a_send)
{
	uint8_t f[42];

	plug_in_default();
	kill(user_net_helper(port), SIGKILL);
	wait_state('Z');
	queue_frame(f, make_arp(f, 1, HOST_IP));
	cr_expect_eq(port->ops->commit(port), -EPIPE);
	check_gone();
}

Test(user_net, destroy_ends_a_helper_that_hangs)
{
	pid_t pid;

	plug_in_default();
	pid = user_net_helper(port);
	kill(pid, SIGSTOP);
	port->ops->detach(port);
	port->ops->destroy(port);
	port = NULL;
	cr_expect_eq(kill(pid, 0), -1);
	cr_expect_eq(errno, ESRCH);
}

/* --- configuration --- */

Test(user_net, configuration_that_makes_no_sense_is_refused)
{
	struct user_net_config cfg;
	struct err e;

#define REFUSED(change, word)                                                                                  \
	do {                                                                                                   \
		user_net_config_init(&cfg);                                                                    \
		cr_expect_eq(user_net_config_check(&cfg, &e), 0);                                              \
		change;                                                                                        \
		e.code = 0;                                                                                    \
		cr_expect_eq(user_net_config_check(&cfg, &e), -EINVAL, #change);                               \
		cr_expect(e.code == -EINVAL && strstr(e.text, word), "%s: %s", #change, e.text);               \
	} while (0)

	REFUSED(cfg.mtu = 67, "MTU of 67");
	REFUSED(cfg.mtu = 65522, "MTU of 65522");
	REFUSED(cfg.mtu = 1279, "IPv6");
	REFUSED(cfg.ipv4 = cfg.ipv6 = false, "neither");
	REFUSED(inet_pton(AF_INET, "255.0.255.0", &cfg.mask), "255.0.255.0");
	REFUSED(inet_pton(AF_INET, "255.255.255.254", &cfg.mask), "mask");
	REFUSED(cfg.mask.s_addr = 0, "0.0.0.0");
	REFUSED(inet_pton(AF_INET, "10.0.2.1", &cfg.net), "10.0.2.1");
	REFUSED(inet_pton(AF_INET, "10.0.3.2", &cfg.host), "gateway 10.0.3.2");
	REFUSED(inet_pton(AF_INET, "10.0.2.255", &cfg.dns), "name server 10.0.2.255");
	REFUSED(inet_pton(AF_INET, "10.0.2.0", &cfg.dhcp_start), "DHCP address 10.0.2.0");
	REFUSED(cfg.dns = cfg.host, "differ");
	REFUSED(cfg.prefix6_len = 0, "0 bits");
	REFUSED(cfg.prefix6_len = 127, "127 bits");
	REFUSED(inet_pton(AF_INET6, "fec1::2", &cfg.host6), "outside");
	REFUSED(cfg.dns6 = cfg.host6, "differ");
	REFUSED(cfg.nfwd = USER_NET_MAX_FWDS + 1, "64");
	REFUSED(cfg.nsearch = USER_NET_MAX_SEARCH + 1, "8");
	REFUSED((cfg.ipv6 = false, user_net_parse_hostfwd("tcp:[::1]:80-:80", &cfg.fwd[cfg.nfwd++], NULL)),
		"[::1]:80");
	user_net_config_init(&cfg);
	cfg.mtu = 9;
	cr_expect_null(user_net_new(&cfg, &e));
	cr_expect(strstr(e.text, "user-mode network: an MTU of 9"), "%s", e.text);
}
