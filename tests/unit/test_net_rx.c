/* The network device: frames to the guest, and buffers a driver should not give. */
#include <criterion/criterion.h>
#include <linux/if_ether.h>

#include "tests/unit/net_device_rig.h"

TestSuite(net_rx, .init = setup, .fini = teardown, .timeout = 60);

/* --- receive --- */

static void expect_in(gpa_t at, size_t len, uint8_t seed, uint16_t num_buffers)
{
	const uint8_t *got = driver_mem_ptr(&r.m, at, len);
	uint8_t *want = frame_of(len, seed);

	cr_assert_eq(got[10] | got[11] << 8, num_buffers);
	cr_assert_eq(memcmp(got + HDR, want + HDR, len - HDR), 0);
	free(want);
}

Test(net_rx, receives_into_one_buffer)
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

Test(net_rx, spreads_a_frame_over_as_many_buffers_as_it_takes)
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

Test(net_rx, gives_the_rest_of_its_buffers_to_the_next_frames)
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

Test(net_rx, keeps_buffers_ready_for_as_long_as_it_runs)
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

Test(net_rx, receives_into_buffers_of_a_header_each)
{
	uint32_t len[64];

	start(MRG);
	net_rig_give_buffers(&r, RX, 60, HDR);
	give(HDR + 600, 1);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 64), 51);
	cr_assert_eq(len[50], HDR);
}

Test(net_rx, drops_a_frame_too_long_for_its_only_buffer)
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

Test(net_rx, leaves_frames_in_the_port_while_there_are_no_buffers)
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

Test(net_rx, keeps_a_long_frame_until_its_buffers_have_come)
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

Test(net_rx, can_be_reset_while_a_frame_waits_for_buffers)
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

Test(net_rx, gives_unfit_buffers_back_empty_and_goes_on)
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

Test(net_rx, an_unfit_buffer_behind_good_ones_does_not_hold_frames_up)
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

Test(net_rx, needs_a_reset_after_a_buffer_outside_of_ram)
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

Test(net_rx, interrupts_once_for_a_burst_of_frames)
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

Test(net_rx, says_nothing_of_checksums_to_a_driver_that_did_not_ask)
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

Test(net_rx, passes_checksum_flags_to_a_driver_that_asked)
{
	gpa_t at = net_rig_buffer(&r, NULL, 1000);

	start(BIT(VIRTIO_NET_F_GUEST_CSUM));
	driver_ring_add(&r.ring[RX], &(struct driver_buf){at, 1000, true}, 1);
	net_rig_kick(&r, RX);
	give_header(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, HDR + 100);
	net_rig_settle(&r);
	cr_assert_eq(*(uint8_t *)driver_mem_ptr(&r.m, at, 1), VIRTIO_NET_HDR_F_NEEDS_CSUM);
}

Test(net_rx, drops_frames_with_offloads_of_a_life_before)
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

Test(net_rx, keeps_frames_longer_than_the_mtu_from_a_driver_that_knows_it)
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

Test(net_rx, survives_a_port_that_gives_less_than_a_header)
{
	start(0);
	net_rig_give_buffers(&r, RX, 2, 1000);
	give(3, 0);
	give(HDR, 0);
	give(HDR + 60, 0);
	net_rig_settle(&r);
	cr_assert_eq(counters()->rx_frames, 2);
}
