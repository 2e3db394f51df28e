/* TCP through the user-mode network, and the ports of the host that lead to the guest. */
#include <criterion/criterion.h>

#include "tests/unit/user_net_rig.h"

TestSuite(user_net_tcp, .init = setup, .fini = teardown_once, .timeout = 60);

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

WholeTest(user_net_tcp, tcp_to_the_hosts_loopback)
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

WholeTest(user_net_tcp, tcp_to_a_closed_port_is_reset)
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

WholeTest(user_net_tcp, loopback_can_be_kept_from_the_guest)
{
	struct user_net_config cfg = config();

	cfg.no_loopback = true;
	check_unreachable(&cfg);
}

WholeTest(user_net_tcp, restricted_guest_reaches_nothing)
{
	struct user_net_config cfg = config();

	cfg.restricted = true;
	check_unreachable(&cfg);
}

/* --- forwarded ports --- */

WholeTest(user_net_tcp, forwarded_tcp_port)
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

WholeTest(user_net_tcp, forwarded_udp_port)
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

WholeTest(user_net_tcp, forwarded_ipv6_port_listens)
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

WholeTest(user_net_tcp, port_in_use_is_a_sentence)
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
