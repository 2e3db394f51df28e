/* The network device: frames from the guest, and buffers a driver should not give. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/if_ether.h>

#include "tests/unit/net_device_rig.h"

TestSuite(net_tx, .init = setup, .fini = teardown, .timeout = 60);

/* --- transmit --- */

Test(net_tx, sends_a_frame_as_it_is)
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

Test(net_tx, sends_and_receives_on_every_kind_of_ring)
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

Test(net_tx, sends_a_header_in_pieces_of_one_byte)
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

Test(net_tx, sends_a_frame_to_be_segmented_whole)
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

Test(net_tx, drops_what_is_no_frame_and_goes_on)
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

Test(net_tx, drops_a_frame_with_buffers_to_write_to)
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

Test(net_tx, loses_only_the_frame_that_the_port_refuses)
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

Test(net_tx, gives_frames_back_after_they_left_their_buffers)
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

Test(net_tx, sends_a_burst_with_one_commit_and_one_interrupt)
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

Test(net_tx, gives_frames_back_in_the_midst_of_a_burst_over_a_port_that_copies)
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

Test(net_tx, an_answer_to_a_frame_needs_no_kick)
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

Test(net_tx, lets_others_run_during_a_long_burst)
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

Test(net_tx, takes_no_more_than_a_queue_of_frames_in_one_go)
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

Test(net_tx, needs_a_reset_after_a_frame_outside_of_ram)
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
