/* Frames between two front ends through the net server: all of them, in order, byte for byte. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "servers/net_link.h"
#include "tests/fake/vhost_user_frontend.h"

#define P(f)    (1ull << VHOST_USER_PROTOCOL_F_##f)
#define BIT(n)  (1ull << (n))
#define V1      BIT(VIRTIO_F_VERSION_1)
#define HDR     12u
#define SIZE    64u /* entries of a ring */
#define SLOTS   32u
#define SLOT    4096u
#define TX      1
#define RX      0
#define BIG_LEN 30000u
#define BURST   48u /* frames */

static struct {
	char path[2][64];
	struct net_link *link;
	struct frontend f[2];
	gpa_t slot[2][SLOTS]; /* to receive into */
	gpa_t by_id[2][SIZE];
	uint32_t slot_len;
	gpa_t out, table;
	struct virtio_net_hdr_v1 hdr; /* of the last received */
	unsigned patience;
} t;

static void serve(bool poll, unsigned npairs, bool echo)
{
	struct net_link_config c = {.npairs = npairs,
				    .poll = poll,
				    .offloads = true,
				    .patience_ms = t.patience};
	struct err e = {0};

	for (unsigned i = 0; i < 2; i++) {
		snprintf(t.path[i], sizeof(t.path[i]), "/tmp/test-server-net-%d-%u", getpid(), i);
		c.path[i] = i && echo ? NULL : t.path[i];
	}
	cr_assert_eq(net_link_new(&t.link, &c, &e), 0, "%s", e.text);
}

static void come(unsigned who, uint64_t features, unsigned npairs)
{
	struct frontend *f = &t.f[who];
	const uint16_t pos = (uint16_t)((features >> VIRTIO_F_RING_PACKED & 1) << 15);

	frontend_connect(f, t.path[who]);
	cr_assert_eq(frontend_greet(f, V1 | features, P(REPLY_ACK) | P(MQ)), 0);
	cr_assert_eq(f->features & ~BIT(VHOST_USER_F_PROTOCOL_FEATURES), V1 | features, "all was offered");
	cr_assert_eq(frontend_share(f), 0);
	for (unsigned i = 0; i < 2 * npairs; i++)
		cr_assert_eq(frontend_start(f, i, SIZE, pos), 0);
	for (unsigned i = 0; i < SLOTS; i++)
		t.slot[who][i] = driver_mem_alloc(&f->m, SLOT, 64);
	t.out = driver_mem_alloc(&t.f[0].m, BURST * SLOT, 64);
	t.table = driver_mem_alloc(&t.f[0].m, 4096, 16);
}

static void fini(void)
{
	net_link_free(t.link);
}

TestSuite(server_net, .fini = fini, .timeout = 100);

/* --- frames --- */

static void fill(uint8_t *p, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		p[i] = (uint8_t)(seed >> 24);
	}
}

/* From 0: its header and len bytes, in pieces. */
static void send_as(unsigned queue, const struct virtio_net_hdr_v1 *h, uint32_t len, uint32_t seed,
		    unsigned pieces, bool indirect)
{
	struct frontend *f = &t.f[0];
	uint8_t *p = driver_mem_ptr(&f->m, t.out, HDR + len);
	struct driver_buf b[16];
	uint32_t at = 0;

	memcpy(p, h, HDR);
	fill(p + HDR, len, seed);
	for (unsigned i = 0; i < pieces; i++) {
		uint32_t n = i + 1 == pieces ? HDR + len - at : i ? (HDR + len) / pieces : 7;

		b[i] = (struct driver_buf){t.out + at, n, false};
		at += n;
	}
	if (indirect)
		cr_assert_geq(driver_ring_add_indirect(&f->q[queue].ring, t.table, b, pieces), 0);
	else
		cr_assert_geq(driver_ring_add(&f->q[queue].ring, b, pieces), 0);
	frontend_kick(f, queue);
}

static void send(uint32_t len, uint32_t seed, unsigned pieces)
{
	const struct virtio_net_hdr_v1 h = {0};

	send_as(TX, &h, len, seed, pieces, false);
}

static void offer(unsigned who, unsigned queue, unsigned slot)
{
	struct driver_buf b = {t.slot[who][slot], t.slot_len, true};
	int id = driver_ring_add(&t.f[who].q[queue].ring, &b, 1);

	cr_assert_geq(id, 0);
	t.by_id[who][id] = b.addr;
	frontend_kick(&t.f[who], queue);
}

static void offer_all(unsigned who, unsigned queue)
{
	for (unsigned i = 0; i < SLOTS; i++)
		offer(who, queue, i);
}

static void give_again(unsigned who, unsigned queue, gpa_t addr)
{
	struct driver_buf b = {addr, t.slot_len, true};
	int id = driver_ring_add(&t.f[who].q[queue].ring, &b, 1);

	cr_assert_geq(id, 0);
	t.by_id[who][id] = addr;
	frontend_kick(&t.f[who], queue);
}

/* The next frame; its length. */
static uint32_t receive(unsigned who, unsigned queue, uint8_t *frame, unsigned ms)
{
	uint32_t at = 0;

	for (unsigned n = 1, i = 0; i < n; i++) {
		uint16_t id;
		uint32_t len, skip = i ? 0 : HDR;
		uint8_t *p;
		gpa_t addr;

		if (frontend_collect(&t.f[who], queue, &id, &len, ms) != 1)
			return 0;
		addr = t.by_id[who][id];
		p = driver_mem_ptr(&t.f[who].m, addr, t.slot_len);
		cr_assert_leq(len, t.slot_len);
		if (!i) {
			memcpy(&t.hdr, p, HDR);
			n = t.hdr.num_buffers;
			cr_assert_gt(n, 0);
		}
		if (i + 1 < n)
			cr_assert_eq(len, t.slot_len, "filled before the next");
		memcpy(frame + at, p + skip, len - skip);
		at += len - skip;
		memset(p, 0xee, t.slot_len);
		give_again(who, queue, addr);
	}
	return at;
}

static void expect(unsigned who, uint32_t len, uint32_t seed)
{
	static uint8_t got[70000], want[70000];

	cr_assert_eq(receive(who, RX, got, 5000), len, "length");
	fill(want, len, seed);
	cr_assert_eq(memcmp(got, want, len), 0, "content of %u bytes", len);
}

static void sent_is_back(void)
{
	cr_assert_eq(frontend_collect(&t.f[0], TX, NULL, NULL, 5000), 1);
}

/* --- all kinds of rings --- */

#define PACKED BIT(VIRTIO_F_RING_PACKED)
#define ORDER  BIT(VIRTIO_F_IN_ORDER)
#define EVENT  BIT(VIRTIO_RING_F_EVENT_IDX)
#define IND    BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define MRG    BIT(VIRTIO_NET_F_MRG_RXBUF)

static void every_length(uint64_t features, bool poll)
{
	const bool mrg = features & MRG;
	const uint32_t longest = mrg ? BIG_LEN : SLOT - HDR;
	const struct virtio_net_hdr_v1 h = {0};
	uint32_t seed = 1, step = 1;

	serve(poll, 1, false);
	come(0, features, 1);
	come(1, features, 1);
	t.slot_len = SLOT;
	offer_all(1, RX);
	for (uint32_t len = 14; len <= longest; len += step, seed++) {
		step = len < 300 ? 1 : len < 2100 ? 97 : 1999;
		send_as(TX, &h, len, seed, len < 40 ? 1 : 1 + seed % 5, seed % 3 == 0);
		expect(1, len, seed);
		sent_is_back();
	}
	net_link_free(t.link);
	t.link = NULL;
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

static void every_length_in(uint64_t packed, bool poll)
{
	for (unsigned i = 0; i < 8; i++)
		every_length(packed | IND | (i & 1 ? ORDER : 0) | (i & 2 ? EVENT : 0) | (i & 4 ? MRG : 0),
			     poll);
}

Test(server_net, every_length_split)
{
	every_length_in(0, false);
}

Test(server_net, every_length_packed)
{
	every_length_in(PACKED, false);
}

Test(server_net, every_length_split_polled)
{
	every_length_in(0, true);
}

Test(server_net, every_length_packed_polled)
{
	every_length_in(PACKED, true);
}

/* About all lengths at which a copy is made in another way. */
static uint32_t length_of(uint32_t seed)
{
	static const uint32_t around[] = {116, 500, 756, 1012, 1500, 2036, 2300, SLOT - HDR - 16};

	return around[seed % 8] + seed / 8 % 33 - 16;
}

static void burst(uint64_t features, bool poll)
{
	uint32_t seed = 1, due = 1;

	serve(poll, 1, false);
	come(0, features, 1);
	come(1, features, 1);
	t.slot_len = SLOT;
	offer_all(1, RX);
	/* More than there are buffers for, twice round the ring and more. */
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < BURST; i++, seed++) {
			struct frontend *f = &t.f[0];
			struct driver_buf b = {t.out + i * SLOT, HDR + length_of(seed), false};
			uint8_t *p = driver_mem_ptr(&f->m, b.addr, b.len);

			memset(p, 0, HDR);
			fill(p + HDR, b.len - HDR, seed);
			cr_assert_geq(driver_ring_add(&f->q[TX].ring, &b, 1), 0);
		}
		frontend_kick(&t.f[0], TX);
		for (unsigned i = 0; i < BURST; i++, due++)
			expect(1, length_of(due), due);
		for (unsigned i = 0; i < BURST; i++)
			sent_is_back();
	}
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

Test(server_net, bursts_split)
{
	burst(MRG, false);
}

Test(server_net, bursts_split_in_order)
{
	burst(MRG | ORDER | EVENT, false);
}

Test(server_net, bursts_packed)
{
	burst(PACKED | EVENT, false);
}

Test(server_net, bursts_packed_in_order)
{
	burst(PACKED | ORDER | MRG, false);
}

Test(server_net, bursts_polled)
{
	burst(PACKED | MRG, true);
}

Test(server_net, from_one_kind_of_ring_to_another)
{
	serve(false, 1, false);
	come(0, PACKED | ORDER, 1);
	come(1, EVENT | MRG, 1);
	t.slot_len = 100;
	offer_all(1, RX);
	for (uint32_t i = 0; i < 300; i++) {
		send(1500, i, 1);
		expect(1, 1500, i);
		sent_is_back();
	}
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

Test(server_net, echoes)
{
	serve(false, 1, true);
	come(0, MRG, 1);
	t.slot_len = SLOT;
	offer_all(0, RX);
	for (uint32_t i = 0; i < 200; i++) {
		send(60 + i, i, 1 + i % 3);
		expect(0, 60 + i, i);
		sent_is_back();
	}
	frontend_close(&t.f[0]);
}

/* --- what the receiver does not have --- */

static void waits_for_buffers(bool poll)
{
	t.patience = 60000;
	serve(poll, 1, false);
	come(0, MRG, 1);
	come(1, MRG, 1);
	t.slot_len = SLOT;
	send(100, 1, 1);
	cr_assert_eq(frontend_collect(&t.f[0], TX, NULL, NULL, 50), 0);
	offer(1, RX, 0);
	expect(1, 100, 1);
	sent_is_back();
	/* Half of the buffers that it takes. */
	send(SLOT + 1000, 2, 1);
	cr_assert_eq(frontend_collect(&t.f[0], TX, NULL, NULL, 50), 0);
	offer(1, RX, 1);
	expect(1, SLOT + 1000, 2);
	sent_is_back();
	cr_assert_eq(t.link->lane[0][0].counts.dropped, 0);
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

Test(server_net, waits_for_buffers)
{
	waits_for_buffers(false);
}

Test(server_net, waits_for_buffers_polled)
{
	waits_for_buffers(true);
}

static void loses_patience(bool poll)
{
	t.patience = 30;
	serve(poll, 1, false);
	come(0, MRG, 1);
	come(1, MRG, 1);
	t.slot_len = SLOT;
	for (unsigned i = 0; i < 10; i++) {
		send(60000, i, 1);
		sent_is_back();
	}
	cr_assert_eq(t.link->lane[0][0].counts.dropped, 10);
	offer_all(1, RX);
	send(100, 4, 1);
	expect(1, 100, 4);
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

Test(server_net, loses_patience)
{
	loses_patience(false);
}

Test(server_net, loses_patience_polled)
{
	loses_patience(true);
}

/* Blocked most of the time, but never for long. */
static void waits_for_a_slow_receiver(bool poll)
{
	t.patience = 400;
	serve(poll, 1, false);
	come(0, MRG, 1);
	come(1, MRG, 1);
	t.slot_len = SLOT;
	for (unsigned i = 0; i < 40; i++)
		send(14, 1, 1);
	for (unsigned i = 0; i < 32; i++) {
		usleep(20000);
		offer(1, RX, i);
		sent_is_back();
	}
	cr_assert_eq(t.link->lane[0][0].counts.dropped, 0);
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

Test(server_net, waits_for_a_slow_receiver)
{
	waits_for_a_slow_receiver(false);
}

Test(server_net, waits_for_a_slow_receiver_polled)
{
	waits_for_a_slow_receiver(true);
}

Test(server_net, nobody_there_takes_what_is_sent)
{
	serve(false, 1, false);
	come(0, MRG, 1);
	for (unsigned i = 0; i < 200; i++) {
		send(100, i, 1);
		sent_is_back();
	}
	cr_assert_eq(t.link->lane[0][0].counts.dropped, 200);
	frontend_close(&t.f[0]);
}

Test(server_net, too_long_for_the_buffers_is_lost_alone)
{
	serve(false, 1, false);
	come(0, 0, 1);
	come(1, 0, 1);
	t.slot_len = 1526;
	offer_all(1, RX);
	for (unsigned i = 0; i < 100; i++) {
		send(1600, i, 1);
		send(1514, i, 1);
		expect(1, 1514, i);
		sent_is_back();
		sent_is_back();
	}
	cr_assert_eq(t.link->lane[0][0].counts.refused, 100);
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

Test(server_net, a_receiver_that_comes_and_goes_under_load)
{
	serve(false, 1, false);
	come(0, MRG, 1);
	t.slot_len = SLOT;
	for (unsigned round = 0; round < 10; round++) {
		uint64_t before;

		come(1, round % 2 ? PACKED | MRG : MRG, 1);
		offer_all(1, RX);
		for (uint32_t i = 0; i < 50; i++) {
			send(200 + i, i, 1);
			expect(1, 200 + i, i);
			sent_is_back();
		}
		cr_assert_geq(frontend_stop(&t.f[1], RX), 0);
		before = t.link->lane[0][0].counts.dropped;
		send(100, 1, 1);
		sent_is_back();
		cr_assert_eq(t.link->lane[0][0].counts.dropped, before + 1);
		cr_assert_eq(frontend_resume(&t.f[1], RX), 0);
		send(100, 2, 1);
		expect(1, 100, 2);
		sent_is_back();
		frontend_close(&t.f[1]);
		while (t.link->end[1]->target[0])
			usleep(100);
	}
	frontend_close(&t.f[0]);
}

Test(server_net, a_receiver_whose_memory_goes_does_not_hurt_the_sender)
{
	serve(false, 1, false);
	come(0, MRG, 1);
	come(1, MRG, 1);
	t.slot_len = SLOT;
	offer_all(1, RX);
	cr_assert_eq(ftruncate(t.f[1].mem_fd, 0), 0);
	for (unsigned i = 0; i < 100; i++) {
		send(1000, i, 1);
		sent_is_back();
	}
	cr_assert(frontend_closed(&t.f[1]));
	frontend_close(&t.f[1]);
	come(1, MRG, 1);
	offer_all(1, RX);
	send(1000, 7, 1);
	expect(1, 1000, 7);
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

Test(server_net, more_pairs_on_one_side_than_on_the_other)
{
	const struct virtio_net_hdr_v1 h = {0};

	serve(false, 2, false);
	come(0, MRG, 2);
	come(1, MRG, 1);
	t.slot_len = SLOT;
	offer_all(1, RX);
	for (uint32_t i = 0; i < 500; i++) {
		const unsigned tx = i % 2 ? 1 : 3;

		send_as(tx, &h, 300, i, 1, false);
		expect(1, 300, i);
		cr_assert_eq(frontend_collect(&t.f[0], tx, NULL, NULL, 5000), 1);
	}
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

Test(server_net, a_receiver_whose_call_descriptor_blocks_does_not_hold_up_the_sender)
{
	serve(false, 1, false);
	come(0, MRG, 1);
	come(1, MRG, 1);
	t.slot_len = SLOT;
	offer_all(1, RX);
	cr_assert_eq(fcntl(t.f[1].q[RX].call, F_SETFL, 0), 0);
	cr_assert_eq(eventfd_read(t.f[1].q[RX].call, &(eventfd_t){0}), 0);
	cr_assert_eq(eventfd_write(t.f[1].q[RX].call, UINT64_MAX - 1), 0);
	for (unsigned i = 0; i < 10; i++) {
		send(100, i, 1);
		sent_is_back();
	}
	for (unsigned i = 0; i < 10; i++)
		expect(1, 100, i);
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

/* --- half finished frames --- */

Test(server_net, checksums_are_left_to_a_receiver_who_can_and_made_for_one_who_cannot)
{
	const uint64_t can = BIT(VIRTIO_NET_F_GUEST_CSUM);
	struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
	static uint8_t got[2000], want[2000];
	uint32_t sum = 0;

	serve(false, 1, false);
	come(0, MRG | BIT(VIRTIO_NET_F_CSUM), 1);
	come(1, MRG | can, 1);
	t.slot_len = SLOT;
	offer_all(1, RX);
	send_as(TX, &h, 201, 5, 3, false);
	expect(1, 201, 5);
	cr_assert_eq(t.hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	cr_assert_eq(t.hdr.csum_start, 34);
	cr_assert_eq(t.hdr.csum_offset, 6);
	frontend_close(&t.f[1]);
	while (t.link->end[1]->target[0])
		usleep(100);
	come(1, MRG, 1);
	offer_all(1, RX);
	sent_is_back();
	send_as(TX, &h, 201, 5, 3, false);
	cr_assert_eq(receive(1, RX, got, 5000), 201);
	cr_assert_eq(t.hdr.flags, 0);
	/* With the field as it came in it, the sum of all comes out. */
	fill(want, 201, 5);
	for (unsigned i = 34; i < 201; i++)
		sum += i % 2 ? want[i] : (uint32_t)want[i] << 8;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
	cr_assert_eq(got[40] << 8 | got[41], (int)sum);
	got[40] = want[40];
	got[41] = want[41];
	cr_assert_eq(memcmp(got, want, 201), 0);
	/* Nonsense in the header is refused. */
	sent_is_back();
	h.csum_start = 65535;
	send_as(TX, &h, 201, 5, 3, false);
	sent_is_back();
	cr_assert_eq(t.link->lane[0][0].counts.refused, 1);
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

Test(server_net, segments_go_to_a_receiver_who_takes_them)
{
	const struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					    .gso_size = 1448,
					    .hdr_len = 66,
					    .csum_start = 34,
					    .csum_offset = 16,
					    .num_buffers = 77};
	const uint64_t sends = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4);
	const uint64_t takes = BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4);
	uint64_t before;

	serve(false, 1, false);
	come(0, MRG | sends, 1);
	come(1, MRG | takes, 1);
	t.slot_len = SLOT;
	offer_all(1, RX);
	send_as(TX, &h, BIG_LEN, 1, 4, false);
	expect(1, BIG_LEN, 1);
	sent_is_back();
	cr_assert_eq(t.hdr.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	cr_assert_eq(t.hdr.gso_size, 1448);
	cr_assert_eq(t.hdr.num_buffers, (HDR + BIG_LEN + SLOT - 1) / SLOT);
	frontend_close(&t.f[1]);
	while (t.link->end[1]->target[0])
		usleep(100);
	come(1, MRG, 1);
	offer_all(1, RX);
	before = t.link->lane[0][0].counts.dropped;
	for (unsigned i = 0; i < 3; i++) {
		send_as(TX, &h, BIG_LEN, 1, 4, false);
		sent_is_back();
	}
	cr_assert_eq(t.link->lane[0][0].counts.dropped, before + 3);
	cr_assert_eq(t.link->lane[0][0].counts.refused, 0);
	send_as(TX, &h, BIG_LEN, 1, 1, false);
	sent_is_back();
	cr_assert_eq(t.link->lane[0][0].counts.dropped, before + 4, "in one piece");
	send(100, 2, 1);
	expect(1, 100, 2);
	sent_is_back();
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}

/* --- drivers that misbehave --- */

Test(server_net, nonsense_in_one_ring_leaves_the_other_front_end_alone)
{
	struct driver_buf b = {0, 14, false};

	serve(false, 1, false);
	come(0, MRG, 1);
	come(1, MRG, 1);
	t.slot_len = SLOT;
	offer_all(1, RX);
	b.addr = t.out;
	/* Too short; and a buffer to write to where frames are sent. */
	cr_assert_geq(driver_ring_add(&t.f[0].q[TX].ring, &b, 1), 0);
	b.write = true;
	b.len = 1000;
	cr_assert_geq(driver_ring_add(&t.f[0].q[TX].ring, &b, 1), 0);
	frontend_kick(&t.f[0], TX);
	sent_is_back();
	sent_is_back();
	cr_assert_eq(t.link->lane[0][0].counts.refused, 2);
	send(500, 3, 1);
	expect(1, 500, 3);
	sent_is_back();
	/* An address that is none. */
	b = (struct driver_buf){DRIVER_MEM_LOW_END, 1000, false};
	cr_assert_geq(driver_ring_add(&t.f[0].q[TX].ring, &b, 1), 0);
	frontend_kick(&t.f[0], TX);
	cr_assert_eq(frontend_collect(&t.f[0], TX, NULL, NULL, 50), 0);
	frontend_close(&t.f[0]);
	/* A receive buffer that cannot be written to. */
	come(0, MRG, 1);
	b = (struct driver_buf){t.slot[1][0], 1000, false};
	cr_assert_geq(frontend_stop(&t.f[1], RX), 0);
	cr_assert_eq(frontend_start(&t.f[1], RX, SIZE, 0), 0);
	cr_assert_geq(driver_ring_add(&t.f[1].q[RX].ring, &b, 1), 0);
	frontend_kick(&t.f[1], RX);
	send(500, 4, 1);
	sent_is_back();
	for (unsigned i = 0; i < 2; i++)
		frontend_close(&t.f[i]);
}
