/* The control queue of the network device. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "tests/fake/net_rig.h"

#define BIT(n) (1ull << (n))
#define HDR    ((uint32_t)sizeof(struct virtio_net_hdr_v1))

#define CTRL BIT(VIRTIO_NET_F_CTRL_VQ)
#define ALL                                                                                                    \
	(CTRL | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |       \
	 BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE))
#define OFFLOADS                                                                                               \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_ECN) |           \
	 BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
#define MQ BIT(VIRTIO_NET_F_MQ)

static struct net_rig r;
static unsigned cvq = 2;

static void setup(void)
{
	net_rig_init(&r);
}

static void teardown(void)
{
	net_rig_fini(&r);
}

TestSuite(net_ctrl, .init = setup, .fini = teardown, .timeout = 60);

static void start(unsigned npairs, uint64_t features)
{
	r.config.npairs = npairs;
	net_rig_make(&r);
	net_rig_start(&r, features);
	cvq = features & MQ ? 2 * npairs : 2;
	for (unsigned i = 0; i < (features & MQ ? npairs : 1); i++)
		net_rig_give_buffers(&r, 2 * i, 60, 200);
	net_rig_settle(&r);
}

#define command(...)                                                                                           \
	net_rig_command(&r, cvq, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Does a frame to this address reach the driver on pair 0? */
static bool arrives(const uint8_t mac[6], uint16_t vid)
{
	const uint64_t before = net_counters(r.dev, 0)->rx_frames;
	uint8_t frame[HDR + 60];

	memset(frame, 0, sizeof(frame));
	memcpy(frame + HDR, mac, 6);
	if (vid) {
		frame[HDR + 12] = 0x81;
		frame[HDR + 14] = (uint8_t)(vid >> 8);
		frame[HDR + 15] = (uint8_t)vid;
	}
	fake_port_give(&r.port[0], frame, sizeof(frame));
	net_rig_settle(&r);
	return net_counters(r.dev, 0)->rx_frames != before;
}

static const uint8_t own[6] = {2, 0, 0, 0, 0, 0x11}, other[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t group[6] = {1, 0, 0x5e, 0, 0, 1}, broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

Test(net_ctrl, receive_modes_take_effect_before_the_answer)
{
	start(1, ALL);
	cr_assert(arrives(other, 0));
	cr_assert_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	cr_assert_not(arrives(other, 0));
	cr_assert_not(arrives(group, 0));
	cr_assert(arrives(own, 0));
	cr_assert_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, 1), VIRTIO_NET_OK);
	cr_assert(arrives(group, 0));
	cr_assert_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, 1), VIRTIO_NET_OK);
	cr_assert(arrives(other, 0));
	cr_assert_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOMULTI, 1), VIRTIO_NET_OK);
	cr_assert_not(arrives(group, 0));
	cr_assert_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOUNI, 1), VIRTIO_NET_OK);
	cr_assert_not(arrives(own, 0));
	cr_assert(arrives(broadcast, 0));
	cr_assert_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, 1), VIRTIO_NET_OK);
	cr_assert_not(arrives(broadcast, 0));
	net_rig_start(&r, ALL); /* a reset forgets */
	net_rig_give_buffers(&r, 0, 10, 200);
	cr_assert(arrives(other, 0));
}

Test(net_ctrl, tables_of_addresses)
{
	start(1, ALL);
	command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 1, 0, 0, 0, 2, 0, 0, 0, 0, 2,
			     1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1),
		     VIRTIO_NET_OK);
	cr_assert(arrives(other, 0));
	cr_assert(arrives(group, 0));
	/* The second table ends too early: nothing changes. */
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0,
			     0x5e, 0, 0),
		     VIRTIO_NET_ERR);
	cr_assert(arrives(other, 0));
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 0, 0, 0, 0, 0, 0, 0, 0),
		     VIRTIO_NET_OK);
	cr_assert_not(arrives(other, 0));
	cr_assert_not(arrives(group, 0));
}

Test(net_ctrl, a_table_too_long_to_keep_lets_its_kind_through)
{
	uint8_t data[2 + 4 + 65 * 6 + 4] = {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 65};

	start(1, ALL);
	command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	cr_assert_eq(net_rig_command(&r, cvq, data, sizeof(data)), VIRTIO_NET_OK);
	cr_assert(arrives(other, 0));
	cr_assert_not(arrives(group, 0));
}

Test(net_ctrl, a_table_that_claims_more_than_there_is_changes_nothing)
{
	start(1, ALL);
	command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 0xff, 0xff, 0xff, 0xff, 0, 0,
			     0, 0),
		     VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 0xab, 0xaa, 0xaa, 0x2a, 0, 0,
			     0, 0),
		     VIRTIO_NET_ERR); /* times 6 it is 2 in 32 bits */
	cr_assert_not(arrives(other, 0));
}

Test(net_ctrl, a_new_address_shows_in_the_configuration_until_reset)
{
	uint8_t mac[6];

	start(1, ALL);
	command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0, 2),
		     VIRTIO_NET_OK);
	virtio_config_read(r.dev, 0, mac, 6);
	cr_assert_eq(memcmp(mac, other, 6), 0);
	cr_assert(arrives(other, 0));
	cr_assert_not(arrives(own, 0));
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 1, 0, 0, 0, 0, 2),
		     VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0), VIRTIO_NET_ERR);
	net_rig_reset(&r);
	virtio_config_read(r.dev, 0, mac, 6);
	cr_assert_eq(memcmp(mac, own, 6), 0);
}

Test(net_ctrl, vlans)
{
	start(1, ALL);
	command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	cr_assert_not(arrives(own, 300));
	cr_assert_eq(command(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 300 & 0xff, 300 >> 8),
		     VIRTIO_NET_OK);
	cr_assert(arrives(own, 300));
	cr_assert_eq(command(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, 300 & 0xff, 300 >> 8),
		     VIRTIO_NET_OK);
	cr_assert_not(arrives(own, 300));
	cr_assert_eq(command(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 0, 0x10), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 1), VIRTIO_NET_ERR);
}

Test(net_ctrl, announce_is_asked_for_and_acknowledged)
{
	start(1, ALL);
	net_announce(r.dev);
	cr_assert_eq(r.transport.config_irqs, 1);
	cr_assert_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	cr_assert_eq(command(VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK), VIRTIO_NET_OK);
	cr_assert_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
	cr_assert_eq(command(VIRTIO_NET_CTRL_ANNOUNCE, 1), VIRTIO_NET_ERR);
	net_announce(r.dev);
	net_rig_start(&r, CTRL | BIT(VIRTIO_NET_F_STATUS));
	net_announce(r.dev);
	cr_assert_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
}

Test(net_ctrl, offloads_are_turned_off_and_on)
{
	uint8_t data[10] = {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET};

	start(1, CTRL | OFFLOADS | BIT(VIRTIO_NET_F_CSUM));
	cr_assert(r.port[0].accepted & BIT(VIRTIO_NET_F_GUEST_TSO4));
	cr_assert_eq(net_rig_command(&r, cvq, data, sizeof(data)), VIRTIO_NET_OK);
	cr_assert_eq(r.port[0].accepted, BIT(VIRTIO_NET_F_CSUM));
	data[2] = BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4);
	cr_assert_eq(net_rig_command(&r, cvq, data, sizeof(data)), VIRTIO_NET_OK);
	cr_assert_eq(r.port[0].accepted, BIT(VIRTIO_NET_F_CSUM) | data[2]);
	data[2] = (uint8_t)BIT(VIRTIO_NET_F_GUEST_TSO4); /* not without checksums */
	cr_assert_eq(net_rig_command(&r, cvq, data, sizeof(data)), VIRTIO_NET_ERR);
	data[3] = BIT(VIRTIO_NET_F_GUEST_TSO6) >> 8; /* never accepted */
	data[2] = BIT(VIRTIO_NET_F_GUEST_CSUM);
	cr_assert_eq(net_rig_command(&r, cvq, data, sizeof(data)), VIRTIO_NET_OK + 1);
	data[3] = 0;
	cr_assert_eq(net_rig_command(&r, cvq, data, 9), VIRTIO_NET_ERR);
	r.port[0].set_features_err = -EIO;
	cr_assert_eq(net_rig_command(&r, cvq, data, sizeof(data)), VIRTIO_NET_ERR);
}

Test(net_ctrl, commands_of_features_that_were_not_accepted_are_refused)
{
	start(2, CTRL);
	cr_assert_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOUNI, 1), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 0, 0, 0, 0, 0, 0, 0, 0),
		     VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0, 2),
		     VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 1, 0), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1, 0), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, 0, 0, 0, 0, 0, 0, 0, 0), VIRTIO_NET_ERR);
}

Test(net_ctrl, unknown_and_short_commands_are_refused)
{
	uint8_t data[3] = {0};

	start(3, ALL | MQ | OFFLOADS);
	for (unsigned class = 0; class < 256; class ++)
		for (unsigned cmd = 0; cmd < 256; cmd += class < 6 ? 1 : 85) {
			data[0] = (uint8_t) class;
			data[1] = (uint8_t)cmd;
			if (class == VIRTIO_NET_CTRL_ANNOUNCE && !cmd)
				continue;
			cr_assert_eq(net_rig_command(&r, cvq, data, 2), VIRTIO_NET_ERR, "%u %u", class, cmd);
			r.m.next -= 3; /* the buffers again */
		}
	cr_assert_eq(net_rig_command(&r, cvq, data, 1), VIRTIO_NET_ERR);
	cr_assert_eq(net_rig_command(&r, cvq, data, 0), VIRTIO_NET_ERR);
}

Test(net_ctrl, a_command_in_pieces_of_one_byte)
{
	struct driver_buf b[6];
	gpa_t at = net_rig_buffer(&r, (const uint8_t[]){VIRTIO_NET_CTRL_RX, 0, 0, 0xee, 0xee}, 5);
	uint32_t len;

	start(1, ALL);
	for (unsigned i = 0; i < 3; i++)
		b[i] = (struct driver_buf){at + i, 1, false};
	b[3] = (struct driver_buf){at, 0, true};
	b[4] = (struct driver_buf){at + 3, 1, true};
	b[5] = (struct driver_buf){at + 4, 1, true};
	driver_ring_add(&r.ring[2], b, 6);
	net_rig_kick(&r, 2);
	net_rig_settle(&r);
	cr_assert_eq(driver_ring_collect(&r.ring[2], NULL, &len), 1);
	cr_assert_eq(len, 1);
	cr_assert_eq(*(uint8_t *)driver_mem_ptr(&r.m, at + 3, 1), VIRTIO_NET_OK);
	cr_assert_eq(*(uint8_t *)driver_mem_ptr(&r.m, at + 4, 1), 0xee);
	cr_assert_not(arrives(other, 0));
}

Test(net_ctrl, a_command_without_room_for_its_status_is_not_carried_out)
{
	gpa_t at = net_rig_buffer(&r, (const uint8_t[]){VIRTIO_NET_CTRL_RX, 0, 0}, 3);
	uint32_t len;

	start(1, ALL);
	for (unsigned i = 0; i < 200; i++) { /* more than the queue holds */
		driver_ring_add(&r.ring[2], &(struct driver_buf){at, 3, false}, 1);
		net_rig_kick(&r, 2);
		net_rig_turn(&r);
		cr_assert_eq(driver_ring_collect(&r.ring[2], NULL, &len), 1);
		cr_assert_eq(len, 0);
	}
	cr_assert(arrives(other, 0));
}

Test(net_ctrl, a_chain_in_a_circle_breaks_the_queue_and_not_the_machine)
{
	struct driver_ring *ring = &r.ring[2];

	start(1, ALL);
	driver_ring_add(ring, &(struct driver_buf){net_rig_buffer(&r, NULL, 8), 8, false}, 1);
	ring->desc[0].flags |= VRING_DESC_F_NEXT;
	ring->desc[0].next = 0;
	net_rig_kick(&r, 2);
	net_rig_settle(&r);
	cr_assert(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* --- multiqueue --- */

Test(net_ctrl, pairs_live_when_the_driver_asks)
{
	start(3, ALL | MQ);
	cr_assert(r.port[0].enabled);
	cr_assert_not(r.port[1].active);
	cr_assert_not(r.port[1].enabled);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 3, 0), VIRTIO_NET_OK);
	cr_assert(r.port[1].active && r.port[1].enabled);
	cr_assert(r.port[2].active && r.port[2].enabled);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0), VIRTIO_NET_OK);
	cr_assert(r.port[1].active && r.port[1].enabled);
	cr_assert_not(r.port[2].active);
	cr_assert_not(r.port[2].enabled);
	net_rig_reset(&r);
	cr_assert_not(r.port[1].active);
}

Test(net_ctrl, numbers_of_pairs_that_cannot_be_are_refused)
{
	start(3, ALL | MQ);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0), VIRTIO_NET_OK);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 0, 0), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 4, 0), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 3, 0x80), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 3), VIRTIO_NET_ERR);
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, 3, 0), VIRTIO_NET_ERR);
	cr_assert(r.port[1].active);
	cr_assert_not(r.port[2].active);
}

Test(net_ctrl, pairs_that_cannot_be_had_leave_those_that_were)
{
	start(3, ALL | MQ);
	r.port[2].set_active_err = -E2BIG;
	cr_assert_eq(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 3, 0), VIRTIO_NET_ERR);
	cr_assert_not(r.port[1].active);
	cr_assert_not(r.port[1].enabled);
}

Test(net_ctrl, frames_of_each_pair_come_on_its_own_queue)
{
	uint8_t frame[HDR + 60] = {0};

	start(3, ALL | MQ);
	command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 3, 0);
	for (unsigned i = 0; i < 3; i++) {
		gpa_t at = net_rig_buffer(&r, frame, sizeof(frame));

		fake_port_give(&r.port[i], frame, sizeof(frame));
		driver_ring_add(&r.ring[2 * i + 1], &(struct driver_buf){at, sizeof(frame), false}, 1);
		net_rig_kick(&r, 2 * i + 1);
		net_rig_settle(&r);
		cr_assert_eq(driver_ring_collect(&r.ring[2 * i], NULL, NULL), 1);
		cr_assert_eq(net_counters(r.dev, i)->tx_frames, 1);
		cr_assert_eq(r.port[i].sent.n, 1);
	}
}

Test(net_ctrl, filters_hold_on_every_pair)
{
	uint8_t frame[HDR + 60] = {[HDR] = 2, [HDR + 5] = 9};

	start(2, ALL | MQ);
	command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0);
	command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	fake_port_give(&r.port[1], frame, sizeof(frame));
	net_rig_settle(&r);
	cr_assert_eq(net_counters(r.dev, 1)->rx_filtered, 1);
}

Test(net_ctrl, the_control_queue_is_the_third_without_multiqueue)
{
	start(3, ALL);
	cr_assert_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	cr_assert_eq(r.port[1].attaches, 0);
}

/* --- threads --- */

static void *run_loop(void *loop)
{
	evloop_run(loop);
	return NULL;
}

static void note_thread(void *thread)
{
	*(pthread_t *)thread = pthread_self();
}

struct worker {
	struct evloop *loop;
	pthread_t thread;
};

/* A loop that does not run yet would have calls made here. */
static void worker_start(struct worker *w)
{
	pthread_t thread = pthread_self();

	w->loop = evloop_new();
	cr_assert(w->loop);
	cr_assert_eq(pthread_create(&w->thread, NULL, run_loop, w->loop), 0);
	while (pthread_equal(thread, pthread_self()))
		evloop_call(w->loop, note_thread, &thread);
}

static void worker_stop(struct worker *w)
{
	evloop_quit(w->loop, 0);
	pthread_join(w->thread, NULL);
	evloop_free(w->loop);
}

static int command_while_running(const uint8_t *data, size_t len)
{
	struct driver_buf b[2] = {
		{.addr = net_rig_buffer(&r, data, len), .len = (uint32_t)len},
		{.addr = net_rig_buffer(&r, "\xee", 1), .len = 1, .write = true},
	};
	uint32_t written;

	driver_ring_add(&r.ring[cvq], b, 2);
	net_rig_kick(&r, cvq);
	while (driver_ring_collect(&r.ring[cvq], NULL, &written) != 1)
		sched_yield();
	return *(uint8_t *)driver_mem_ptr(&r.m, b[1].addr, 1);
}

/* Filters and pairs change while other threads receive; then it is reset under load, some times over. */
Test(net_ctrl, works_on_threads_of_their_own)
{
	struct worker main_loop, pair[2];
	struct evloop *loops[2];
	uint8_t frame[HDR + 60] = {0};

	worker_start(&main_loop);
	for (unsigned i = 0; i < 2; i++) {
		worker_start(&pair[i]);
		loops[i] = pair[i].loop;
	}
	r.config.npairs = 2;
	r.config.loop = main_loop.loop;
	r.config.loops = loops;
	net_rig_make(&r);
	for (unsigned round = 0; round < 5; round++) {
		cvq = round % 2 ? 2 : 4;
		net_rig_start(&r, round % 2 ? ALL : ALL | MQ);
		cr_assert_eq(r.dev->queue[cvq].loop, main_loop.loop);
		for (unsigned i = 0; i < (round % 2 ? 1 : 2); i++)
			net_rig_give_buffers(&r, 2 * i, 60, 200);
		for (unsigned i = 0; i < 20; i++) {
			uint8_t pairs[] = {VIRTIO_NET_CTRL_MQ, 0, (uint8_t)(1 + i % 2), 0};
			uint8_t vlan[] = {VIRTIO_NET_CTRL_VLAN, 0, (uint8_t)i, 0};
			uint8_t promisc[] = {VIRTIO_NET_CTRL_RX, 0, (uint8_t)(i % 2)};

			fake_port_give(&r.port[0], frame, sizeof(frame));
			fake_port_give(&r.port[1], frame, sizeof(frame));
			cr_assert_eq(command_while_running(pairs, 4), round % 2);
			cr_assert_eq(command_while_running(vlan, 4), VIRTIO_NET_OK);
			cr_assert_eq(command_while_running(promisc, 3), VIRTIO_NET_OK);
			net_set_link(r.dev, i % 3);
		}
		net_set_link(r.dev, true);
	}
	virtio_fini(r.dev);
	r.dev->ops->destroy(r.dev);
	r.dev = NULL;
	worker_stop(&main_loop);
	worker_stop(&pair[0]);
	worker_stop(&pair[1]);
}
