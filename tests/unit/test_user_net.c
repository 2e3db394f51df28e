/* What the user-mode network answers: ARP, ICMP, DHCP, DNS, fragments, IPv6. */
#include <criterion/criterion.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tests/unit/user_net_rig.h"

TestSuite(user_net, .init = setup, .fini = teardown_once, .timeout = 60);

/* --- ARP, ICMP, DHCP --- */

WholeTest(user_net, gateway_answers_arp)
{
	plug_in_default();
	resolve_gateway();
	cr_expect_arr_eq(host_mac, ((uint8_t[]){0x52, 0x55, 10, 0, 2, 2}), 6);
}

WholeTest(user_net, gateway_answers_ping)
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

WholeTest(user_net, dhcp_gives_addresses)
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

WholeTest(user_net, addresses_are_the_configured_ones)
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
WholeTest(user_net, fragments_arrive_in_any_order)
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

WholeTest(user_net, name_server_is_the_hosts)
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

WholeTest(user_net, router_advertises_the_prefix)
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

WholeTest(user_net, gateway_answers_neighbour_solicitation)
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
