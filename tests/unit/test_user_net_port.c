/* The port of the user-mode network: headers and buffers, who waits for whom, the helper's end. */
#include <criterion/criterion.h>
#include <linux/virtio_net.h>
#include <signal.h>
#include <time.h>

#include "tests/unit/user_net_rig.h"

TestSuite(user_net_port, .init = setup, .fini = teardown_once, .timeout = 60);

/* --- the port: headers, buffers, bursts --- */

WholeTest(user_net_port, header_is_zero)
{
	uint8_t f[42];

	plug_in_default();
	manual = true;
	send_frame(f, make_arp(f, 1, HOST_IP));
	cr_assert(turn(10000));
	cr_assert_gt(recv_frame(&queue[0]), 0);
	cr_expect_arr_eq(last_header, ((uint8_t[HDR]){0}), HDR);
}

WholeTest(user_net_port, checksums_are_vouched_for_when_the_driver_asks)
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

WholeTest(user_net_port, offloads_that_were_not_offered_are_refused)
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

WholeTest(user_net_port, frame_in_pieces_of_one_byte_each_way)
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

WholeTest(user_net_port, frame_that_does_not_fit_is_gone_and_the_next_one_comes)
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
WholeTest(user_net_port, runts_and_giants_go_nowhere)
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

WholeTest(user_net_port, bad_buffer_costs_its_frame_only)
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

WholeTest(user_net_port, burst_is_one_system_call)
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

WholeTest(user_net_port, burst_larger_than_the_queue_leaves_whole)
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

WholeTest(user_net_port, large_frames_with_a_large_mtu)
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

WholeTest(user_net_port, receiving_is_disabled_after_attach)
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

WholeTest(user_net_port, checksum_offload_is_turned_off_while_attached)
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

WholeTest(user_net_port, nothing_is_readable_while_disabled)
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
WholeTest(user_net_port, frames_taken_but_not_delivered_are_told_again)
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

WholeTest(user_net_port, helper_that_does_not_keep_up_costs_frames_and_nothing_else)
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
WholeTest(user_net_port, helper_waits_for_a_guest_that_does_not_read)
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

WholeTest(user_net_port, frames_for_the_driver_before_are_dropped_at_attach)
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

WholeTest(user_net_port, attaches_a_thousand_times)
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

WholeTest(user_net_port, killed_helper_is_told_once_and_reaped)
{
	plug_in_default();
	resolve_gateway();
	kill(user_net_helper(port), SIGKILL);
	check_gone();
}

WholeTest(user_net_port, killed_helper_is_told_while_receiving_is_disabled)
{
	plug_in_default();
	port->ops->recv_enable(port, false);
	kill(user_net_helper(port), SIGKILL);
	check_gone();
}

WholeTest(user_net_port, helper_that_ended_before_attach_is_told_after)
{
	plug_in_default();
	port->ops->detach(port);
	kill(user_net_helper(port), SIGKILL);
	wait_state('Z');
	attach();
	check_gone();
}

WholeTest(user_net_port, helper_that_ended_is_seen_by_a_send)
{
	uint8_t f[42];

	plug_in_default();
	kill(user_net_helper(port), SIGKILL);
	wait_state('Z');
	queue_frame(f, make_arp(f, 1, HOST_IP));
	cr_expect_eq(port->ops->commit(port), -EPIPE);
	check_gone();
}

WholeTest(user_net_port, destroy_ends_a_helper_that_hangs)
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

WholeTest(user_net_port, configuration_that_makes_no_sense_is_refused)
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
