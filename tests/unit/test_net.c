/* The network device: features, frames in both directions, buffers a driver should not give. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fake/net_rig.h"

#define BIT(n) (1ull << (n))
#define HDR    ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define MRG    BIT(VIRTIO_NET_F_MRG_RXBUF)
#define TSO    (BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4))

enum { RX, TX };

static struct net_rig r;

static void setup(void)
{
	net_rig_init(&r);
}

static void teardown(void)
{
	net_rig_fini(&r);
}

TestSuite(net, .init = setup, .fini = teardown, .timeout = 60);

static void start(uint64_t features)
{
	net_rig_make(&r);
	net_rig_start(&r, features);
}

static const struct net_counters *counters(void)
{
	return net_counters(r.dev, 0);
}

/* len bytes with header; the frame's bytes count up from `seed`. */
static uint8_t *frame_of(size_t len, uint8_t seed)
{
	uint8_t *f = calloc(1, len);

	for (size_t i = HDR; i < len; i++)
		f[i] = (uint8_t)(seed + i);
	if (len > HDR)
		f[HDR] &= 0xfe;
	return f;
}

static void give(size_t len, uint8_t seed)
{
	uint8_t *f = frame_of(len, seed);

	fake_port_give(&r.port[0], f, len);
	free(f);
}

static int transmit(const struct driver_buf *b, unsigned n)
{
	int id = driver_ring_add(&r.ring[TX], b, n);

	cr_assert_geq(id, 0);
	return id;
}

static void transmit_frame(size_t len, uint8_t seed)
{
	uint8_t *f = frame_of(len, seed);
	struct driver_buf b = {.addr = net_rig_buffer(&r, f, len), .len = (uint32_t)len};

	transmit(&b, 1);
	free(f);
}

static void expect_sent(size_t len, uint8_t seed)
{
	struct fake_frame *got = fake_port_take(&r.port[0]);
	uint8_t *want = frame_of(len, seed);

	cr_assert(got);
	cr_assert_eq(got->len, len);
	cr_assert_eq(memcmp(got->data, want, len), 0);
	free(got);
	free(want);
}

/* All that came back on queue q: their lengths.  Returns how many. */
static unsigned collect(unsigned q, uint32_t *len, unsigned max)
{
	unsigned n = 0;

	while (n < max && driver_ring_collect(&r.ring[q], NULL, &len[n]) == 1)
		n++;
	return n;
}

/* --- features --- */

Test(net, offers_what_its_port_can_pass)
{
	uint64_t f;

	net_rig_make(&r);
	f = net_rig_offered(&r);
	cr_assert_eq(f & FAKE_PORT_FEATURES, FAKE_PORT_FEATURES);
	cr_assert(f & BIT(VIRTIO_NET_F_MAC));
	cr_assert(f & BIT(VIRTIO_NET_F_STATUS));
	cr_assert(f & MRG);
	cr_assert(f & BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	cr_assert_not(f & BIT(VIRTIO_NET_F_MQ));
	cr_assert_not(f & BIT(VIRTIO_NET_F_MTU));
	cr_assert_not(f & (BIT(VIRTIO_NET_F_RSS) | BIT(VIRTIO_NET_F_HASH_REPORT)));
}

Test(net, offers_no_offloads_over_a_port_without)
{
	r.port[0].features = 0;
	net_rig_make(&r);
	cr_assert_not(net_rig_offered(&r) & (FAKE_PORT_FEATURES | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)));
}

Test(net, offers_what_all_its_ports_can_pass)
{
	r.config.npairs = 2;
	r.port[1].features &= ~BIT(VIRTIO_NET_F_HOST_USO);
	net_rig_make(&r);
	cr_assert_not(net_rig_offered(&r) & BIT(VIRTIO_NET_F_HOST_USO));
	cr_assert(net_rig_offered(&r) & BIT(VIRTIO_NET_F_MQ));
}

Test(net, hides_what_needs_a_hidden_feature)
{
	r.config.npairs = 2;
	r.config.hidden = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_CTRL_VQ);
	net_rig_make(&r);
	cr_assert_not(net_rig_offered(&r) &
		      (FAKE_PORT_FEATURES | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_RX) |
		       BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |
		       BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA)));
	cr_assert_eq(r.dev->nqueues, 4);
}

Test(net, refuses_features_without_what_they_need)
{
	static const uint64_t bad[] = {
		BIT(VIRTIO_NET_F_HOST_TSO4),
		BIT(VIRTIO_NET_F_HOST_TSO6),
		BIT(VIRTIO_NET_F_HOST_USO),
		BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_ECN),
		BIT(VIRTIO_NET_F_GUEST_TSO4),
		BIT(VIRTIO_NET_F_GUEST_TSO6),
		BIT(VIRTIO_NET_F_GUEST_USO4),
		BIT(VIRTIO_NET_F_GUEST_USO6),
		BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_ECN),
		BIT(VIRTIO_NET_F_CTRL_RX),
		BIT(VIRTIO_NET_F_CTRL_VLAN),
		BIT(VIRTIO_NET_F_GUEST_ANNOUNCE),
		BIT(VIRTIO_NET_F_MQ),
		BIT(VIRTIO_NET_F_CTRL_MAC_ADDR),
	};

	r.config.npairs = 2;
	net_rig_make(&r);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(net_rig_negotiate(&r, bad[i]), "%#llx", (unsigned long long)bad[i]);
	cr_assert(net_rig_negotiate(&r, TSO | BIT(VIRTIO_NET_F_GUEST_ECN)));
	cr_assert(net_rig_negotiate(&r, net_rig_offered(&r) & ~BIT(VIRTIO_F_RING_PACKED)));
}

Test(net, tells_the_port_what_was_accepted_and_takes_it_back_on_reset)
{
	net_rig_make(&r);
	cr_assert_eq(r.port[0].accepted, 0);
	cr_assert(net_rig_negotiate(&r, TSO | MRG));
	cr_assert_eq(r.port[0].accepted, TSO);
	cr_assert_eq(r.port[0].hdr_len, HDR);
	net_rig_reset(&r);
	cr_assert_eq(r.port[0].accepted, 0);
}

Test(net, refuses_features_its_port_cannot_set)
{
	net_rig_make(&r);
	r.port[0].set_features_err = -EIO;
	cr_assert_not(net_rig_negotiate(&r, TSO));
}

Test(net, shows_address_link_pairs_and_mtu)
{
	static const uint8_t want[] = {2, 0, 0, 0, 0, 0x11, VIRTIO_NET_S_LINK_UP, 0, 3, 0, 0x28, 0x23, 0, 0};
	uint8_t got[sizeof(want)];

	r.config.npairs = 3;
	r.config.mtu = 9000;
	net_rig_make(&r);
	cr_assert(net_rig_offered(&r) & BIT(VIRTIO_NET_F_MTU));
	virtio_config_read(r.dev, 0, got, sizeof(got));
	cr_assert_eq(memcmp(got, want, sizeof(want)), 0);
}

Test(net, makes_up_an_address_of_its_own)
{
	uint8_t mac[6];

	memset(r.config.mac, 0, 6);
	net_rig_make(&r);
	virtio_config_read(r.dev, 0, mac, 6);
	cr_assert_eq(mac[0], 2);
	cr_assert(mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

Test(net, explains_a_configuration_it_cannot_have)
{
	struct net_config good, c;
	struct evloop *loops[1] = {r.loop};
	struct net_port *ports[1] = {&r.port[0].port};
	struct err e = {0};

	r.config.loops = loops;
	r.config.ports = ports;
	good = r.config;
	c = good;
	c.mac[0] = 1;
	cr_assert_null(net_new(&c, &e));
	cr_assert(strstr(e.text, "mac="));
	c = good;
	c.queue_size = 100;
	cr_assert_null(net_new(&c, &e));
	cr_assert(strstr(e.text, "queue-size="));
	c = good;
	c.npairs = 32;
	cr_assert_null(net_new(&c, &e));
	cr_assert(strstr(e.text, "queues="));
	c = good;
	c.mtu = 67;
	cr_assert_null(net_new(&c, &e));
	cr_assert(strstr(e.text, "mtu="));
	r.port[0].set_features_err = -EIO;
	cr_assert_null(net_new(&good, &e));
	cr_assert_not(r.port[0].destroyed);
	r.config.loops = NULL;
}

/* --- transmit --- */

Test(net, sends_a_frame_as_it_is)
{
	uint32_t len;

	start(0);
	transmit_frame(HDR + 60, 7);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	expect_sent(HDR + 60, 7);
	cr_assert_eq(collect(TX, &len, 1), 1);
	cr_assert_eq(len, 0);
	cr_assert_eq(counters()->tx_frames, 1);
	cr_assert_eq(r.dev->queue[TX].stats.bytes, 60);
	cr_assert_eq(r.dev->queue[TX].stats.chains, 1);
}

Test(net, sends_and_receives_on_every_kind_of_ring)
{
	static const uint64_t kind[] = {
		0,
		BIT(VIRTIO_RING_F_EVENT_IDX),
		BIT(VIRTIO_F_RING_PACKED),
		BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_RING_F_EVENT_IDX),
		BIT(VIRTIO_F_IN_ORDER),
		BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER),
	};
	uint32_t len[64];

	net_rig_make(&r);
	for (unsigned k = 0; k < sizeof(kind) / sizeof(kind[0]); k++) {
		r.ring_features = kind[k];
		net_rig_start(&r, MRG);
		net_rig_give_buffers(&r, RX, 20, 500);
		for (unsigned i = 0; i < 40; i++) { /* more than the ring has, in all */
			transmit_frame(HDR + 60 + i, (uint8_t)i);
			net_rig_kick(&r, TX);
			give(HDR + 1400, (uint8_t)i);
			net_rig_settle(&r);
			expect_sent(HDR + 60 + i, (uint8_t)i);
			cr_assert_eq(collect(TX, len, 64), 1);
			cr_assert_eq(collect(RX, len, 64), 3, "kind %u frame %u", k, i);
			cr_assert_eq(len[0], 500);
			cr_assert_eq(len[1], 500);
			cr_assert_eq(len[2], HDR + 1400 - 1000);
			net_rig_give_buffers(&r, RX, 3, 500);
		}
	}
}

Test(net, sends_a_header_in_pieces_of_one_byte)
{
	struct driver_buf b[HDR + 2];
	uint8_t *f = frame_of(HDR + 60, 3);
	gpa_t at = net_rig_buffer(&r, f, HDR + 60);

	for (unsigned i = 0; i < HDR; i++)
		b[i] = (struct driver_buf){.addr = at + i, .len = 1};
	b[HDR] = (struct driver_buf){.addr = at + HDR, .len = 0};
	b[HDR + 1] = (struct driver_buf){.addr = at + HDR, .len = 60};
	start(0);
	transmit(b, HDR + 2);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	expect_sent(HDR + 60, 3);
	free(f);
}

Test(net, sends_a_frame_to_be_segmented_whole)
{
	struct driver_buf b[17];
	size_t len = HDR + 14 + 65535, left = len;
	uint8_t *f = frame_of(len, 9);
	gpa_t at = net_rig_buffer(&r, f, len);

	for (unsigned i = 0; i < 17; i++) {
		b[i] = (struct driver_buf){.addr = at, .len = (uint32_t)(left < 4096 ? left : 4096)};
		at += b[i].len;
		left -= b[i].len;
	}
	start(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4));
	transmit(b, 17);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	expect_sent(len, 9);
	free(f);
}

Test(net, drops_what_is_no_frame_and_goes_on)
{
	static const uint32_t bad[] = {0, 1, HDR - 1, HDR, HDR + ETH_HLEN - 1, HDR + NET_FRAME_MAX + 1};
	gpa_t at = net_rig_buffer(&r, NULL, HDR + NET_FRAME_MAX + 1);
	unsigned n = 0;
	uint32_t len;

	start(0);
	for (unsigned round = 0; round < 3 * r.ring_size; round++) { /* none is lost on the way */
		transmit(&(struct driver_buf){.addr = at, .len = bad[round % 6]}, 1);
		net_rig_kick(&r, TX);
		net_rig_turn(&r);
		cr_assert_eq(collect(TX, &len, 1), 1);
		cr_assert_eq(len, 0);
		n++;
	}
	cr_assert_eq(counters()->tx_malformed, n);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	expect_sent(HDR + 60, 1);
	cr_assert_not(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

Test(net, drops_a_frame_with_buffers_to_write_to)
{
	gpa_t at = net_rig_buffer(&r, NULL, 200);
	uint32_t len;

	start(0);
	transmit((struct driver_buf[]){{at, 100, false}, {at + 100, 100, true}}, 2);
	transmit(&(struct driver_buf){at, 100, true}, 1);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	cr_assert_null(fake_port_take(&r.port[0]));
	cr_assert_eq(counters()->tx_malformed, 2);
	cr_assert_eq(collect(TX, &len, 1), 1);
	cr_assert_eq(len, 0);
}

Test(net, loses_only_the_frame_that_the_port_refuses)
{
	uint32_t len;

	start(0);
	r.port[0].send_err = -EINVAL;
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	cr_assert_eq(collect(TX, &len, 1), 1);
	cr_assert_eq(counters()->tx_refused, 1);
	r.port[0].send_err = 0;
	transmit_frame(HDR + 60, 2);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	expect_sent(HDR + 60, 2);
}

static unsigned back_at_commit;

static void look_at_used(struct fake_port *f)
{
	(void)f;
	back_at_commit = r.ring[TX].used->idx;
}

Test(net, gives_frames_back_after_they_left_their_buffers)
{
	start(0);
	r.port[0].in_commit = look_at_used;
	back_at_commit = 99;
	for (unsigned i = 0; i < 20; i++)
		transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	cr_assert_eq(back_at_commit, 0);
	cr_assert_eq(r.ring[TX].used->idx, 20);
}

Test(net, sends_a_burst_with_one_commit_and_one_interrupt)
{
	unsigned commits;

	start(0);
	commits = r.port[0].commits;
	for (unsigned i = 0; i < 30; i++)
		transmit_frame(HDR + 60, (uint8_t)i);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	for (unsigned i = 0; i < 30; i++)
		expect_sent(HDR + 60, (uint8_t)i);
	cr_assert_eq(r.port[0].commits - commits, 1);
	cr_assert_eq(r.dev->queue[TX].stats.calls, 1);
	cr_assert_eq(r.dev->queue[TX].stats.bursts, 1);
}

static unsigned sends, back_at_send[40];

static ssize_t look_and_drop(struct net_port *p, const struct iovec *iov, int n)
{
	(void)p;
	(void)iov;
	(void)n;
	back_at_send[sends++] = r.ring[TX].used->idx;
	return 1;
}

Test(net, gives_frames_back_in_the_midst_of_a_burst_over_a_port_that_copies)
{
	static struct net_port_ops ops;

	start(0);
	ops = *r.port[0].port.ops;
	ops.send = look_and_drop;
	ops.commit = NULL;
	r.port[0].port.ops = &ops;
	for (unsigned i = 0; i < 40; i++)
		transmit_frame(HDR + 60, (uint8_t)i);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	cr_assert_eq(sends, 40);
	cr_expect_eq(back_at_send[15], 0);
	cr_expect_eq(back_at_send[16], 16);
	cr_expect_eq(back_at_send[39], 32);
	cr_expect_eq(r.ring[TX].used->idx, 40);
	cr_expect_eq(r.dev->queue[TX].stats.calls, 1);
}

Test(net, an_answer_to_a_frame_needs_no_kick)
{
	start(0);
	net_rig_give_buffers(&r, RX, 4, 2048);
	net_rig_kick(&r, RX);
	net_rig_settle(&r);
	transmit_frame(HDR + 60, 7);
	cr_assert(driver_ring_kick(&r.ring[TX])); /* it wants a kick, and gets none */
	give(HDR + 60, 1);
	net_rig_turn(&r);
	cr_assert_eq(counters()->rx_frames, 1);
	expect_sent(HDR + 60, 7);
}

Test(net, lets_others_run_during_a_long_burst)
{
	unsigned first;

	start(0);
	for (unsigned i = 0; i < 20; i++)
		transmit_frame(HDR + 60000, (uint8_t)i);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	first = (unsigned)counters()->tx_frames;
	cr_assert_gt(first, 0);
	cr_assert_lt(first, 20);
	net_rig_settle(&r);
	cr_assert_eq(counters()->tx_frames, 20);
}

/* The driver makes each head available again at once. */
static void republish(struct fake_port *f)
{
	uint32_t len;

	(void)f;
	while (driver_ring_collect(&r.ring[TX], NULL, &len) == 1)
		;
	for (unsigned i = 0; i < 8; i++)
		transmit_frame(HDR + 60, 1);
	driver_ring_kick(&r.ring[TX]);
}

Test(net, takes_no_more_than_a_queue_of_frames_in_one_go)
{
	start(0);
	r.port[0].in_commit = republish;
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	cr_assert_gt(counters()->tx_frames, 8);
	cr_assert_leq(counters()->tx_frames, r.ring_size);
	r.port[0].in_commit = NULL;
}

Test(net, needs_a_reset_after_a_frame_outside_of_ram)
{
	start(0);
	transmit(&(struct driver_buf){.addr = 0xfee00000, .len = 100}, 1);
	net_rig_kick(&r, TX);
	net_rig_settle(&r);
	cr_assert(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	net_rig_start(&r, 0);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	expect_sent(HDR + 60, 1);
}

/* --- receive --- */

static void expect_in(gpa_t at, size_t len, uint8_t seed, uint16_t num_buffers)
{
	const uint8_t *got = driver_mem_ptr(&r.m, at, len);
	uint8_t *want = frame_of(len, seed);

	cr_assert_eq(got[10] | got[11] << 8, num_buffers);
	cr_assert_eq(memcmp(got + HDR, want + HDR, len - HDR), 0);
	free(want);
}

Test(net, receives_into_one_buffer)
{
	gpa_t at = net_rig_buffer(&r, NULL, 1600);
	uint32_t len[4];

	start(0);
	driver_ring_add(&r.ring[RX], &(struct driver_buf){at, 1600, true}, 1);
	net_rig_kick(&r, RX);
	net_rig_turn(&r);
	memset(driver_mem_ptr(&r.m, at, HDR), 0xff, HDR);
	give(HDR + 1000, 5);
	net_rig_turn(&r);
	cr_assert_eq(collect(RX, len, 4), 1);
	cr_assert_eq(len[0], HDR + 1000);
	expect_in(at, HDR + 1000, 5, 1);
	cr_assert_eq(counters()->rx_frames, 1);
	cr_assert_eq(r.dev->queue[RX].stats.bytes, 1000);
}

Test(net, spreads_a_frame_over_as_many_buffers_as_it_takes)
{
	gpa_t at = net_rig_buffer(&r, NULL, 64 * 1500);
	uint32_t len[64];
	size_t size = HDR + 14 + 65535;

	start(MRG | TSO);
	for (unsigned i = 0; i < 64; i++)
		driver_ring_add(&r.ring[RX], &(struct driver_buf){at + 1500 * i, 1500, true}, 1);
	net_rig_kick(&r, RX);
	net_rig_turn(&r);
	give(size, 77);
	net_rig_turn(&r);
	cr_assert_eq(collect(RX, len, 64), (size + 1499) / 1500);
	for (unsigned i = 0; i < size / 1500; i++)
		cr_assert_eq(len[i], 1500);
	cr_assert_eq(len[size / 1500], size % 1500);
	expect_in(at, size, 77, (uint16_t)((size + 1499) / 1500));
}

Test(net, gives_the_rest_of_its_buffers_to_the_next_frames)
{
	gpa_t at = net_rig_buffer(&r, NULL, 64 * 500);
	uint32_t len[64];

	start(MRG | TSO);
	for (unsigned i = 0; i < 64; i++)
		driver_ring_add(&r.ring[RX], &(struct driver_buf){at + 500 * i, 500, true}, 1);
	net_rig_kick(&r, RX);
	give(HDR + 5000, 1); /* 11 buffers: from now on it keeps many ready */
	give(HDR + 400, 2);
	give(HDR + 600, 3);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 64), 11 + 1 + 2);
	expect_in(at, HDR + 5000, 1, 11);
	expect_in(at + 11 * 500, HDR + 400, 2, 1);
	expect_in(at + 12 * 500, HDR + 600, 3, 2);
}

Test(net, keeps_buffers_ready_for_as_long_as_it_runs)
{
	gpa_t at = net_rig_buffer(&r, NULL, 64 * 3 * 100);
	uint32_t len[4];

	start(MRG);
	for (unsigned i = 0; i < 500; i++) { /* ten chains of three pieces are always out */
		for (unsigned k = i ? 0 : 10; i == 0 ? k-- : k < 1; k += i != 0) {
			gpa_t b = at + ((i ? i + 9 : 9 - k) % 64) * 300;

			driver_ring_add(&r.ring[RX],
					(struct driver_buf[]){{b, 100, true},
							      {b + 100, 100, true},
							      {b + 200, 100, true}},
					3);
		}
		net_rig_kick(&r, RX);
		give(HDR + 250, (uint8_t)i);
		net_rig_settle(&r);
		cr_assert_eq(collect(RX, len, 4), 1);
		expect_in(at + i % 64 * 300, HDR + 250, (uint8_t)i, 1);
	}
}

Test(net, receives_into_buffers_of_a_header_each)
{
	uint32_t len[64];

	start(MRG);
	net_rig_give_buffers(&r, RX, 60, HDR);
	give(HDR + 600, 1);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 64), 51);
	cr_assert_eq(len[50], HDR);
}

Test(net, drops_a_frame_too_long_for_its_only_buffer)
{
	uint32_t len[4];

	start(0);
	net_rig_give_buffers(&r, RX, 2, 1000);
	give(HDR + 1400, 1);
	give(HDR + 100, 2);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 4), 1);
	cr_assert_eq(len[0], HDR + 100);
	cr_assert_eq(counters()->rx_too_long, 1);
}

Test(net, leaves_frames_in_the_port_while_there_are_no_buffers)
{
	uint32_t len[4];
	unsigned recvs;

	start(0);
	give(HDR + 100, 1);
	net_rig_settle(&r);
	cr_assert_not(r.port[0].enabled);
	recvs = r.port[0].recvs;
	net_rig_settle(&r);
	cr_assert_eq(r.port[0].recvs, recvs);
	cr_assert_eq(fake_port_waiting(&r.port[0]), 1);
	net_rig_give_buffers(&r, RX, 2, 1000);
	net_rig_turn(&r);
	cr_assert_eq(collect(RX, len, 4), 1);
	cr_assert(r.port[0].enabled);
}

Test(net, keeps_a_long_frame_until_its_buffers_have_come)
{
	gpa_t at = net_rig_buffer(&r, NULL, 8 * 1000);
	uint32_t len[8];

	start(MRG);
	driver_ring_add(&r.ring[RX], &(struct driver_buf){at, 1000, true}, 1);
	net_rig_kick(&r, RX);
	give(HDR + 3500, 6);
	give(HDR + 100, 7);
	net_rig_settle(&r);
	cr_assert_not(r.port[0].enabled);
	cr_assert_eq(collect(RX, len, 8), 0);
	driver_ring_add(&r.ring[RX], &(struct driver_buf){at + 1000, 1000, true}, 1);
	net_rig_kick(&r, RX);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 8), 0);
	for (unsigned i = 2; i < 5; i++)
		driver_ring_add(&r.ring[RX], &(struct driver_buf){at + 1000 * i, 1000, true}, 1);
	net_rig_kick(&r, RX);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 8), 5);
	expect_in(at, HDR + 3500, 6, 4);
	expect_in(at + 4000, HDR + 100, 7, 1);
}

Test(net, can_be_reset_while_a_frame_waits_for_buffers)
{
	uint32_t len[8];

	start(MRG);
	net_rig_give_buffers(&r, RX, 1, 1000);
	give(HDR + 3500, 6);
	net_rig_settle(&r);
	net_rig_start(&r, MRG);
	net_rig_give_buffers(&r, RX, 4, 1000);
	give(HDR + 100, 1);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 8), 1);
	cr_assert_eq(len[0], HDR + 100);
}

Test(net, gives_unfit_buffers_back_empty_and_goes_on)
{
	uint32_t len[4];

	start(MRG);
	for (unsigned round = 0; round < 3 * r.ring_size; round++) {
		gpa_t at = net_rig_buffer(&r, NULL, 64);

		if (round % 2)
			driver_ring_add(&r.ring[RX], &(struct driver_buf){at, HDR - 1, true}, 1);
		else
			driver_ring_add(&r.ring[RX], (struct driver_buf[]){{at, 1, false}, {at, 64, true}}, 2);
		net_rig_kick(&r, RX);
		net_rig_turn(&r);
		cr_assert_eq(collect(RX, len, 4), 1);
		cr_assert_eq(len[0], 0);
	}
	net_rig_give_buffers(&r, RX, 1, 1000);
	give(HDR + 100, 1);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 4), 1);
	cr_assert_eq(len[0], HDR + 100);
}

Test(net, an_unfit_buffer_behind_good_ones_does_not_hold_frames_up)
{
	uint32_t len[8];

	start(MRG);
	net_rig_give_buffers(&r, RX, 1, 500);
	net_rig_give_buffers(&r, RX, 1, 5);
	net_rig_give_buffers(&r, RX, 2, 500);
	give(HDR + 800, 1); /* does not fit before the unfit one */
	give(HDR + 100, 2);
	give(HDR + 800, 3);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 8), 4);
	cr_assert_eq(len[0], HDR + 100);
	cr_assert_eq(len[1], 0);
	cr_assert_eq(len[2], 500);
	cr_assert_eq(len[3], HDR + 300);
	cr_assert_eq(counters()->rx_too_long, 1);
}

Test(net, needs_a_reset_after_a_buffer_outside_of_ram)
{
	start(MRG);
	net_rig_give_buffers(&r, RX, 1, 500);
	driver_ring_add(&r.ring[RX], &(struct driver_buf){0xfee00000, 500, true}, 1);
	net_rig_kick(&r, RX);
	give(HDR + 800, 1);
	net_rig_settle(&r);
	cr_assert(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	cr_assert_not(r.port[0].enabled);
}

Test(net, interrupts_once_for_a_burst_of_frames)
{
	uint64_t calls;

	start(0);
	net_rig_give_buffers(&r, RX, 40, 200);
	net_rig_settle(&r);
	calls = r.dev->queue[RX].stats.calls;
	for (unsigned i = 0; i < 30; i++)
		give(HDR + 100, 1);
	net_rig_turn(&r);
	cr_assert_eq(counters()->rx_frames, 30);
	cr_assert_eq(r.dev->queue[RX].stats.calls - calls, 1);
}

static void give_header(uint8_t flags, uint8_t gso_type, size_t len)
{
	uint8_t *f = frame_of(len, 0);

	f[0] = flags;
	f[1] = gso_type;
	fake_port_give(&r.port[0], f, len);
	free(f);
}

Test(net, says_nothing_of_checksums_to_a_driver_that_did_not_ask)
{
	gpa_t at = net_rig_buffer(&r, NULL, 1000);

	start(0);
	driver_ring_add(&r.ring[RX], &(struct driver_buf){at, 1000, true}, 1);
	net_rig_kick(&r, RX);
	give_header(VIRTIO_NET_HDR_F_DATA_VALID, 0, HDR + 100);
	net_rig_settle(&r);
	cr_assert_eq(counters()->rx_frames, 1);
	cr_assert_eq(*(uint8_t *)driver_mem_ptr(&r.m, at, 1), 0);
}

Test(net, passes_checksum_flags_to_a_driver_that_asked)
{
	gpa_t at = net_rig_buffer(&r, NULL, 1000);

	start(BIT(VIRTIO_NET_F_GUEST_CSUM));
	driver_ring_add(&r.ring[RX], &(struct driver_buf){at, 1000, true}, 1);
	net_rig_kick(&r, RX);
	give_header(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, HDR + 100);
	net_rig_settle(&r);
	cr_assert_eq(*(uint8_t *)driver_mem_ptr(&r.m, at, 1), VIRTIO_NET_HDR_F_NEEDS_CSUM);
}

Test(net, drops_frames_with_offloads_of_a_life_before)
{
	start(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN));
	net_rig_give_buffers(&r, RX, 8, 1000);
	give_header(1, VIRTIO_NET_HDR_GSO_TCPV4, HDR + 100);
	give_header(1, VIRTIO_NET_HDR_GSO_UDP, HDR + 100);
	give_header(1, VIRTIO_NET_HDR_GSO_UDP_L4, HDR + 100);
	net_rig_settle(&r);
	cr_assert_eq(counters()->rx_frames, 0);
	give_header(1, VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN, HDR + 100);
	net_rig_settle(&r);
	cr_assert_eq(counters()->rx_frames, 1);
	cr_assert_eq(counters()->rx_filtered, 3);
	net_rig_start(&r, 0);
	net_rig_give_buffers(&r, RX, 8, 1000);
	give_header(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, HDR + 100);
	net_rig_settle(&r);
	cr_assert_eq(counters()->rx_frames, 1);
}

Test(net, keeps_frames_longer_than_the_mtu_from_a_driver_that_knows_it)
{
	uint8_t tagged[HDR + 1518] = {0};

	tagged[HDR + 12] = ETH_P_8021Q >> 8;
	r.config.mtu = 1500;
	start(BIT(VIRTIO_NET_F_MTU) | TSO | BIT(VIRTIO_NET_F_GUEST_ECN));
	net_rig_give_buffers(&r, RX, 8, 4000);
	give(HDR + 1515, 0);
	give_header(1, VIRTIO_NET_HDR_GSO_ECN, HDR + 1515);
	net_rig_settle(&r);
	cr_assert_eq(counters()->rx_too_long, 2);
	give(HDR + 1514, 0);
	fake_port_give(&r.port[0], tagged, sizeof(tagged));
	give_header(1, VIRTIO_NET_HDR_GSO_TCPV4, HDR + 3000);
	net_rig_settle(&r);
	cr_assert_eq(counters()->rx_frames, 3);
	cr_assert_eq(counters()->rx_too_long, 2);
}

Test(net, survives_a_port_that_gives_less_than_a_header)
{
	start(0);
	net_rig_give_buffers(&r, RX, 2, 1000);
	give(3, 0);
	give(HDR, 0);
	give(HDR + 60, 0);
	net_rig_settle(&r);
	cr_assert_eq(counters()->rx_frames, 2);
}

/* --- link --- */

Test(net, link_down_is_told_and_drops_frames_both_ways)
{
	uint32_t len;

	start(BIT(VIRTIO_NET_F_STATUS));
	net_rig_give_buffers(&r, RX, 4, 1000);
	net_set_link(r.dev, false);
	net_set_link(r.dev, false);
	cr_assert_eq(r.transport.config_irqs, 1);
	cr_assert_eq(net_rig_status(&r), 0);
	give(HDR + 100, 1);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, &len, 1), 0);
	cr_assert_eq(fake_port_waiting(&r.port[0]), 0);
	cr_assert_eq(collect(TX, &len, 1), 1);
	cr_assert_null(fake_port_take(&r.port[0]));
	net_set_link(r.dev, true);
	cr_assert_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
	give(HDR + 100, 1);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, &len, 1), 1);
}

Test(net, a_port_that_ends_takes_the_link_down_for_good)
{
	uint32_t len;

	start(BIT(VIRTIO_NET_F_STATUS));
	net_rig_give_buffers(&r, RX, 4, 1000);
	net_rig_settle(&r);
	fake_port_end(&r.port[0], -EBADFD);
	cr_assert_eq(net_rig_status(&r), 0);
	cr_assert_eq(r.transport.config_irqs, 1);
	cr_assert_not(r.port[0].enabled);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_settle(&r);
	cr_assert_eq(collect(TX, &len, 1), 1);
	net_set_link(r.dev, true);
	cr_assert_eq(net_rig_status(&r), 0);
	r.port[0].set_features_err = -EBADFD;
	net_rig_start(&r, 0);
	cr_assert_eq(r.port[0].attaches, 1);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_settle(&r);
	cr_assert_eq(collect(TX, &len, 1), 1);
	cr_assert_not(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

Test(net, a_port_that_fails_to_read_takes_the_link_down)
{
	start(BIT(VIRTIO_NET_F_STATUS));
	net_rig_give_buffers(&r, RX, 4, 1000);
	net_rig_settle(&r);
	r.port[0].recv_err = -EIO;
	give(HDR + 100, 1);
	net_rig_settle(&r);
	cr_assert_eq(net_rig_status(&r), 0);
	cr_assert_not(r.port[0].enabled);
}

Test(net, a_port_that_cannot_be_attached_fails_the_device)
{
	net_rig_make(&r);
	r.port[0].attach_err = -EIO;
	net_rig_start(&r, 0);
	cr_assert(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	r.port[0].attach_err = 0;
	net_rig_start(&r, 0);
	cr_assert_not(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* --- life --- */

Test(net, one_queue_can_be_reset_alone)
{
	uint32_t len[4];

	net_rig_make(&r);
	r.ring_features = BIT(VIRTIO_F_RING_RESET);
	net_rig_start(&r, MRG);
	net_rig_give_buffers(&r, RX, 8, 300);
	give(HDR + 500, 1);
	net_rig_settle(&r);
	virtio_lock(r.dev);
	virtio_queue_reset(r.dev, RX);
	virtio_unlock(r.dev);
	cr_assert_eq(r.port[0].detaches, 0);
	cr_assert_not(r.port[0].enabled);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	expect_sent(HDR + 60, 1);
	driver_ring_fini(&r.ring[RX]);
	net_rig_queue(&r, RX, 64);
	net_rig_give_buffers(&r, RX, 8, 300);
	give(HDR + 500, 2);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 4), 2);
	cr_assert_eq(r.port[0].attaches, 1);
}

Test(net, starts_and_stops_a_hundred_times_with_buffers_out)
{
	int fd, first;

	net_rig_make(&r);
	first = dup(0);
	close(first);
	for (unsigned i = 0; i < 100; i++) {
		uint32_t len[4];

		net_rig_start(&r, i % 2 ? MRG : 0);
		net_rig_give_buffers(&r, RX, 8, 400);
		give(HDR + 200, 1);
		net_rig_settle(&r);
		cr_assert_eq(collect(RX, len, 4), 1);
	}
	net_rig_reset(&r);
	fd = dup(0);
	cr_assert_eq(fd, first); /* no descriptor stays behind */
	close(fd);
	cr_assert_eq(r.port[0].attaches, 100);
	cr_assert_eq(r.port[0].detaches, 100);
}

Test(net, ignores_queues_that_mean_nothing_with_these_features)
{
	r.config.npairs = 3;
	net_rig_make(&r);
	net_rig_negotiate(&r, 0);
	for (unsigned q = 0; q < 7; q++)
		net_rig_queue(&r, q, 64);
	net_rig_driver_ok(&r);
	net_rig_give_buffers(&r, 4, 8, 400);
	net_rig_settle(&r);
	cr_assert_eq(r.port[0].attaches, 1);
	cr_assert_eq(r.port[1].attaches, 0);
	cr_assert_eq(r.port[2].attaches, 0);
	cr_assert_not(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

Test(net, destroys_its_ports_with_itself)
{
	start(0);
	virtio_fini(r.dev);
	r.dev->ops->destroy(r.dev);
	r.dev = NULL;
	cr_assert(r.port[0].destroyed);
}
