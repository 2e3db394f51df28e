/* What the specification demands of a network device, where no other test of it says so: docs/conformance.md.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/tap.h"
#include "lib/cleanup.h"
#include "tests/fake/net_rig.h"

#define BIT(n) (1ull << (n))
#define HDR    ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define CTRL   (BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX))
#define ALL_GUEST                                                                                              \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |          \
	 BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6))

/* Not in the headers of every kernel: header flags and types of features that are not ours. */
#define F_RSC_INFO        4
#define F_UDP_TUNNEL_CSUM 8
#define GSO_TUNNEL_IPV4   0x20
#define GSO_TUNNEL_IPV6   0x40

enum { RX, TX, CVQ };

static struct net_rig r;
static const uint8_t own[6] = {2, 0, 0, 0, 0, 0x11}, other[6] = {2, 0, 0, 0, 0, 2};

static void setup(void)
{
	net_rig_init(&r);
}

static void teardown(void)
{
	net_rig_fini(&r);
}

TestSuite(net_conformance, .init = setup, .fini = teardown, .timeout = 60);

static void start(uint64_t features)
{
	net_rig_make(&r);
	net_rig_start(&r, features);
}

static uint64_t received(unsigned pair)
{
	return net_counters(r.dev, pair)->rx_frames;
}

/* Has the driver got a frame with this header, to this address, on pair? */
static bool arrives_on(unsigned pair, const struct virtio_net_hdr_v1 *hdr, const uint8_t mac[6], uint16_t vid)
{
	const uint64_t before = received(pair);
	uint8_t frame[HDR + 60] = {0};

	memcpy(frame, hdr, HDR);
	memcpy(frame + HDR, mac, 6);
	if (vid) {
		frame[HDR + 12] = ETH_P_8021Q >> 8;
		frame[HDR + 14] = (uint8_t)(vid >> 8);
		frame[HDR + 15] = (uint8_t)vid;
	}
	fake_port_give(&r.port[pair], frame, sizeof(frame));
	net_rig_settle(&r);
	return received(pair) != before;
}

static bool arrives(const struct virtio_net_hdr_v1 *hdr)
{
	return arrives_on(0, hdr, own, 0);
}

static bool arrives_to(const uint8_t mac[6], uint16_t vid)
{
	return arrives_on(0, &(struct virtio_net_hdr_v1){0}, mac, vid);
}

static int command(unsigned cvq, const void *data, size_t len)
{
	return net_rig_command(&r, cvq, data, len);
}

#define COMMAND(cvq, ...) command(cvq, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* --- features --- */

static const struct {
	unsigned bit;
	uint64_t any_of;
} needs[] = {
	{VIRTIO_NET_F_GUEST_TSO4, BIT(VIRTIO_NET_F_GUEST_CSUM)},
	{VIRTIO_NET_F_GUEST_TSO6, BIT(VIRTIO_NET_F_GUEST_CSUM)},
	{VIRTIO_NET_F_GUEST_ECN, BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6)},
	{VIRTIO_NET_F_GUEST_USO4, BIT(VIRTIO_NET_F_GUEST_CSUM)},
	{VIRTIO_NET_F_GUEST_USO6, BIT(VIRTIO_NET_F_GUEST_CSUM)},
	{VIRTIO_NET_F_HOST_TSO4, BIT(VIRTIO_NET_F_CSUM)},
	{VIRTIO_NET_F_HOST_TSO6, BIT(VIRTIO_NET_F_CSUM)},
	{VIRTIO_NET_F_HOST_ECN, BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6)},
	{VIRTIO_NET_F_HOST_USO, BIT(VIRTIO_NET_F_CSUM)},
	{VIRTIO_NET_F_CTRL_RX, BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_CTRL_RX_EXTRA, BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_CTRL_VLAN, BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_GUEST_ANNOUNCE, BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_MQ, BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_CTRL_MAC_ADDR, BIT(VIRTIO_NET_F_CTRL_VQ)},
	{VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, BIT(VIRTIO_NET_F_CTRL_VQ)},
};

Test(net_conformance, offers_what_it_serves_and_no_more)
{
	r.config.npairs = 2;
	r.config.mtu = 1500;
	net_rig_make(&r);
	cr_expect_eq(net_rig_offered(&r) & ~(BIT(50) - BIT(24)),
		     FAKE_PORT_FEATURES | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_MTU) |
			     BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_STATUS) |
			     CTRL | BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |
			     BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | BIT(VIRTIO_NET_F_MQ) |
			     BIT(VIRTIO_NET_F_CTRL_MAC_ADDR));
}

Test(net_conformance, never_offers_a_feature_without_what_it_needs)
{
	for (unsigned hidden = 0; hidden < 64; hidden++) {
		uint64_t offered;

		if (hidden == VIRTIO_F_VERSION_1)
			continue;
		net_rig_fini(&r);
		net_rig_init(&r);
		r.config.npairs = 2;
		r.config.hidden = BIT(hidden);
		net_rig_make(&r);
		offered = net_rig_offered(&r);
		cr_expect_not(offered & BIT(hidden));
		for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
			cr_expect(!(offered & BIT(needs[i].bit)) || (offered & needs[i].any_of),
				  "%u without %u", needs[i].bit, hidden);
	}
}

/* --- configuration --- */

static uint16_t mtu(void)
{
	uint16_t v;

	virtio_config_read(r.dev, offsetof(struct virtio_net_config, mtu), &v, sizeof(v));
	return v;
}

Test(net_conformance, the_mtu_never_changes)
{
	const uint16_t bad = 100;

	r.config.mtu = 1500;
	start(CTRL | BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR));
	cr_expect_eq(mtu(), 1500);
	virtio_config_write(r.dev, offsetof(struct virtio_net_config, mtu), &bad, sizeof(bad));
	cr_expect_eq(mtu(), 1500);
	cr_expect_eq(COMMAND(CVQ, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0, 9), 0);
	net_set_link(r.dev, false);
	cr_expect_eq(mtu(), 1500);
	net_rig_reset(&r);
	cr_expect_eq(mtu(), 1500);
}

Test(net_conformance, a_new_address_is_a_new_generation)
{
	uint8_t mac[6];
	uint32_t generation;

	start(CTRL | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR));
	virtio_config_read(r.dev, 0, mac, 6);
	generation = r.dev->config_generation;
	cr_expect_eq(COMMAND(CVQ, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0, 9), 0);
	virtio_config_read(r.dev, 5, mac, 1);
	cr_expect_eq(mac[0], 9);
	cr_expect_neq(r.dev->config_generation, generation);
}

/* --- transmit --- */

/* Sends it in pieces of `piece` bytes; it must leave as it is, and be in RAM as it was. */
static void sends_whole(const uint8_t *frame, size_t len, size_t piece)
{
	gpa_t at = net_rig_buffer(&r, frame, len);
	struct fake_frame *got;
	struct driver_buf b[40];
	unsigned n = 0;

	for (size_t off = 0; off < len; off += piece)
		b[n++] =
			(struct driver_buf){at + off, (uint32_t)(len - off < piece ? len - off : piece), false};
	cr_assert_geq(driver_ring_add(&r.ring[TX], b, n), 0);
	net_rig_kick(&r, TX);
	net_rig_settle(&r);
	got = fake_port_take(&r.port[0]);
	cr_assert(got);
	cr_assert_eq(got->len, len);
	cr_assert_eq(memcmp(got->data, frame, len), 0);
	cr_assert_eq(memcmp(driver_mem_ptr(&r.m, at, len), frame, len), 0, "buffers to read from");
	free(got);
	cr_assert_eq(driver_ring_collect(&r.ring[TX], NULL, NULL), 1);
}

Test(net_conformance, frames_up_to_the_mtu_leave_in_one_piece)
{
	static const uint16_t sizes[] = {68, 1280, 1500, 9000, 65535};

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t len = HDR + ETH_HLEN + sizes[i];
		uint8_t *frame = calloc(1, len);

		net_rig_fini(&r);
		net_rig_init(&r);
		r.config.mtu = sizes[i];
		start(BIT(VIRTIO_NET_F_MTU));
		cr_expect_eq(mtu(), sizes[i]);
		for (size_t k = HDR; k < len; k++)
			frame[k] = (uint8_t)(k * 7);
		sends_whole(frame, len, 2048);
		free(frame);
	}
}

/* The header is the port's business, with every bit that the driver has set in it. */
Test(net_conformance, unknown_flags_in_a_header_keep_no_frame_back)
{
	uint8_t frame[HDR + 60] = {0};

	start(BIT(VIRTIO_NET_F_CSUM));
	for (unsigned bit = 1; bit < 8; bit++) {
		frame[0] = (uint8_t)(1u << bit);
		sends_whole(frame, sizeof(frame), sizeof(frame));
	}
}

/* --- receive --- */

Test(net_conformance, headers_to_be_segmented_arrive_as_the_port_gave_them)
{
	static const uint8_t types[] = {VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
					VIRTIO_NET_HDR_GSO_UDP_L4,
					VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN};
	gpa_t at;

	start(ALL_GUEST);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		struct virtio_net_hdr_v1 got, hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						     .gso_type = types[i],
						     .hdr_len = 54,
						     .gso_size = 1448,
						     .csum_start = 34,
						     .csum_offset = 16};

		at = net_rig_buffer(&r, NULL, 200);
		driver_ring_add(&r.ring[RX], &(struct driver_buf){at, 200, true}, 1);
		net_rig_kick(&r, RX);
		cr_assert(arrives(&hdr));
		memcpy(&got, driver_mem_ptr(&r.m, at, HDR), HDR);
		hdr.num_buffers = 1;
		cr_expect_arr_eq(&got, &hdr, HDR);
		driver_ring_collect(&r.ring[RX], NULL, NULL);
	}
}

Test(net_conformance, without_guest_offloads_nothing_is_to_be_segmented)
{
	start(BIT(VIRTIO_NET_F_GUEST_CSUM));
	net_rig_give_buffers(&r, RX, 60, 200);
	cr_assert(arrives(&(struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM}));
	for (unsigned type = 1; type < 256; type++)
		if (type != VIRTIO_NET_HDR_GSO_ECN)
			cr_expect_not(arrives(&(struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
									  .gso_type = (uint8_t)type}),
				      "%#x", type);
}

/* Each bit lets its own kind through. */
Test(net_conformance, each_guest_offload_lets_its_own_type_through)
{
	static const struct {
		uint64_t features;
		uint8_t type;
	} own_type[] = {
		{BIT(VIRTIO_NET_F_GUEST_TSO4), VIRTIO_NET_HDR_GSO_TCPV4},
		{BIT(VIRTIO_NET_F_GUEST_TSO6), VIRTIO_NET_HDR_GSO_TCPV6},
		{BIT(VIRTIO_NET_F_GUEST_USO4), VIRTIO_NET_HDR_GSO_UDP_L4},
		{BIT(VIRTIO_NET_F_GUEST_USO6), VIRTIO_NET_HDR_GSO_UDP_L4},
	};

	net_rig_make(&r);
	for (unsigned i = 0; i < ARRAY_SIZE(own_type); i++) {
		net_rig_start(&r, BIT(VIRTIO_NET_F_GUEST_CSUM) | own_type[i].features);
		net_rig_give_buffers(&r, RX, 20, 200);
		for (uint8_t type = 1; type < 8; type++) {
			const struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
							      .gso_type = type};

			cr_expect_eq(arrives(&hdr), type == own_type[i].type, "%u %u", i, type);
		}
	}
}

Test(net_conformance, congestion_is_marked_for_a_driver_that_asked_only)
{
	const struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					      .gso_type = VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN};
	const uint64_t tso = BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4);

	start(tso);
	net_rig_give_buffers(&r, RX, 20, 200);
	cr_expect_not(arrives(&hdr));
	net_rig_start(&r, tso | BIT(VIRTIO_NET_F_GUEST_ECN));
	net_rig_give_buffers(&r, RX, 20, 200);
	cr_expect(arrives(&hdr));
}

/* Tunnels, coalescing and IPsec are not ours. */
Test(net_conformance, headers_of_features_that_are_not_offered_do_not_arrive)
{
	start(ALL_GUEST);
	net_rig_give_buffers(&r, RX, 60, 200);
	for (unsigned bit = 2; bit < 8; bit++)
		cr_expect_not(arrives(&(struct virtio_net_hdr_v1){.flags = (uint8_t)(1u << bit)}), "%u", bit);
	cr_expect_not(arrives(&(struct virtio_net_hdr_v1){.flags = F_RSC_INFO | F_UDP_TUNNEL_CSUM}));
	cr_expect_not(arrives(&(
		struct virtio_net_hdr_v1){.flags = 1, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4 | GSO_TUNNEL_IPV4}));
	cr_expect_not(arrives(&(
		struct virtio_net_hdr_v1){.flags = 1, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4 | GSO_TUNNEL_IPV6}));
	cr_expect(arrives(&(struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_DATA_VALID}));
}

Test(net_conformance, a_frame_uses_one_buffer_without_mergeable_buffers)
{
	uint8_t frame[HDR + 1000] = {0};
	uint32_t len;

	start(0);
	net_rig_give_buffers(&r, RX, 10, 600);
	fake_port_give(&r.port[0], frame, sizeof(frame));
	net_rig_settle(&r);
	cr_expect_eq(driver_ring_collect(&r.ring[RX], NULL, NULL), 0, "it is not spread over two");
	cr_expect(arrives_to(own, 0));
	cr_expect_eq(driver_ring_collect(&r.ring[RX], NULL, &len), 1);
	cr_expect_eq(len, HDR + 60);
}

/* --- what the driver filters --- */

Test(net_conformance, vlan_tagged_frames_arrive_without_vlan_filtering)
{
	start(CTRL);
	net_rig_give_buffers(&r, RX, 20, 200);
	cr_expect_eq(COMMAND(CVQ, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	cr_expect(arrives_to(own, 5));
	cr_expect(arrives_to(own, 4000));
	cr_expect_not(arrives_to(other, 5));
}

Test(net_conformance, address_tables_are_empty_after_a_reset)
{
	static const uint8_t off[] = {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0};

	start(CTRL);
	net_rig_give_buffers(&r, RX, 20, 200);
	cr_expect_eq(command(CVQ, off, sizeof(off)), VIRTIO_NET_OK);
	cr_expect_eq(COMMAND(CVQ, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 1, 0, 0, 0, 2, 0, 0, 0, 0,
			     2, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1),
		     VIRTIO_NET_OK);
	cr_expect(arrives_to(other, 0));
	net_rig_start(&r, CTRL);
	net_rig_give_buffers(&r, RX, 20, 200);
	cr_expect_eq(command(CVQ, off, sizeof(off)), VIRTIO_NET_OK);
	cr_expect_not(arrives_to(other, 0));
	cr_expect_not(arrives_to((const uint8_t[]){1, 0, 0x5e, 0, 0, 1}, 0));
}

/* --- multiqueue --- */

Test(net_conformance, frames_come_on_queues_of_active_pairs_only)
{
	const uint64_t features = CTRL | BIT(VIRTIO_NET_F_MQ);
	const struct virtio_net_hdr_v1 hdr = {0};

	r.config.npairs = 2;
	start(features);
	net_rig_give_buffers(&r, 0, 20, 200);
	net_rig_give_buffers(&r, 2, 20, 200);
	cr_expect(arrives_on(0, &hdr, own, 0), "receiveq1 after initialization");
	cr_expect_not(arrives_on(1, &hdr, own, 0));
	cr_expect_eq(COMMAND(4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0), VIRTIO_NET_OK);
	cr_expect(arrives_on(1, &hdr, own, 0));
	cr_expect_eq(COMMAND(4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1, 0), VIRTIO_NET_OK);
	cr_expect_not(arrives_on(1, &hdr, own, 0), "from the acknowledgement on");
	cr_expect_eq(COMMAND(4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0), VIRTIO_NET_OK);
	net_rig_start(&r, features);
	net_rig_give_buffers(&r, 0, 20, 200);
	net_rig_give_buffers(&r, 2, 20, 200);
	cr_expect(arrives_on(0, &hdr, own, 0), "receiveq1 after a reset");
	cr_expect_not(arrives_on(1, &hdr, own, 0));
}

Test(net_conformance, a_receive_queue_that_was_reset_gets_nothing)
{
	net_rig_make(&r);
	r.ring_features = BIT(VIRTIO_F_RING_RESET);
	net_rig_start(&r, 0);
	net_rig_give_buffers(&r, RX, 8, 300);
	cr_assert(arrives_to(own, 0));
	virtio_lock(r.dev);
	virtio_queue_reset(r.dev, RX);
	virtio_unlock(r.dev);
	cr_expect_not(arrives_to(own, 0));
	cr_expect_eq(r.ring[RX].used->idx, 1);
}

/* --- what the kernel does for us at the end of a tap --- */

static struct net_port *tap;
static int tap_peer = -1;

static void make_tap(void)
{
	struct sockaddr_ll sll = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5)};
	struct err e = {0};
	int fd;

	if (unshare(CLONE_NEWNET))
		cr_skip_test("unshare(CLONE_NEWNET): %s (needs root)", strerror(errno));
	fd = open("/dev/net/tun", O_RDWR);
	if (fd < 0)
		cr_skip_test("/dev/net/tun: %s", strerror(errno));
	close(fd);
	cr_assert_eq(tap_open(&tap, 1, &(struct tap_config){.ifname = "rl0"}, &e), 0, "%s", e.text);
	cr_assert_eq(tap->ops->set_features(tap, tap->ops->features(tap), HDR), 0);
	tap_peer = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(0x88b5));
	sll.sll_ifindex = (int)if_nametoindex("rl0");
	cr_assert_eq(bind(tap_peer, (struct sockaddr *)&sll, sizeof(sll)), 0);
}

static void drop_tap(void)
{
	if (!tap)
		return;
	tap->ops->destroy(tap);
	close(tap_peer);
}

TestSuite(net_conformance_tap, .init = make_tap, .fini = drop_tap, .timeout = 60);

/* Does a frame with this header come out of the tap, and as it was? */
static bool passes(const struct virtio_net_hdr_v1 *hdr)
{
	uint8_t frame[HDR + 200], got[300];
	struct iovec iov = {frame, sizeof(frame)};
	struct pollfd p = {.fd = tap_peer, .events = POLLIN};

	memset(frame, 0x5a, sizeof(frame));
	memcpy(frame, hdr, HDR);
	memcpy(frame + HDR, "\xff\xff\xff\xff\xff\xff\2\0\0\0\0\1\x88\xb5", 14);
	if (tap->ops->send(tap, &iov, 1) < 0)
		return false;
	poll(&p, 1, 1000);
	return recv(tap_peer, got, sizeof(got), 0) == 200 && !memcmp(got, frame + HDR, 200);
}

Test(net_conformance_tap, flags_that_it_does_not_know_mean_nothing)
{
	cr_expect(passes(&(struct virtio_net_hdr_v1){0}));
	for (unsigned bit = 1; bit < 8; bit++)
		cr_expect(passes(&(struct virtio_net_hdr_v1){.flags = (uint8_t)(1u << bit)}), "%u", bit);
}

Test(net_conformance_tap, checksum_fields_mean_nothing_without_their_flag)
{
	cr_expect(passes(&(struct virtio_net_hdr_v1){.csum_start = 60000, .csum_offset = 60000}));
	cr_expect(passes(&(struct virtio_net_hdr_v1){.csum_start = 14, .csum_offset = 2}));
}

Test(net_conformance_tap, header_length_is_a_hint)
{
	/* From 1 to 13, and beyond the frame, the kernel loses it: docs/conformance.md. */
	for (uint16_t len = 13; len <= 200; len++)
		cr_assert(passes(&(struct virtio_net_hdr_v1){.hdr_len = len > 13 ? len : 0}), "%u", len);
}

Test(net_conformance_tap, tunnels_are_refused)
{
	cr_expect_not(passes(&(struct virtio_net_hdr_v1){.flags = 1,
							 .gso_type = GSO_TUNNEL_IPV4 | GSO_TUNNEL_IPV6,
							 .gso_size = 100}));
	cr_expect_not(passes(&(struct virtio_net_hdr_v1){.flags = 1,
							 .gso_type = VIRTIO_NET_HDR_GSO_TCPV4 |
								     GSO_TUNNEL_IPV4 | GSO_TUNNEL_IPV6,
							 .gso_size = 100}));
	cr_expect_not(passes(&(struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_DATA_VALID,
							 .gso_type = GSO_TUNNEL_IPV4,
							 .gso_size = 100}));
}
