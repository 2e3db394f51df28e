/* Live change of the network device: frames cross whoever serves its data queues, and none of the driver's
 * buffers is lost on the way from one to the other. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/virtio_move.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/net_rig.h"
#include "vmm/loop_thread.h"

#define BIT(n)    (1ull << (n))
#define HDR       ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define LEN       (HDR + 60)
#define CTRL      BIT(VIRTIO_NET_F_CTRL_VQ)
#define MQ        BIT(VIRTIO_NET_F_MQ)
#define MRG       BIT(VIRTIO_NET_F_MRG_RXBUF)
#define STATUS    BIT(VIRTIO_NET_F_STATUS)
#define ANNOUNCE  BIT(VIRTIO_NET_F_GUEST_ANNOUNCE)
#define RX_MODE   BIT(VIRTIO_NET_F_CTRL_RX)
#define OFFLOADS  (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4))
#define SET_PAIRS VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET
#define BUFFERS   20u /* receive buffers a pair */

static struct net_rig r;
static struct fake_port other[RIG_MAX_PAIRS], *ports; /* ports: those of now */
static struct fake_datapath remote, second;
static struct net_port_ops ops; /* of all ports: the fake's, looked at */
static unsigned destroys[2 * RIG_MAX_PAIRS];
static uint64_t used_buffers[RIG_MAX_PAIRS]; /* by id: a frame has come in it */
static struct virtio_moved moved;
static struct err e;

static void count_destroy(struct net_port *p)
{
	const struct fake_port *f = container_of(p, struct fake_port, port);

	if (f >= other && f < other + RIG_MAX_PAIRS)
		destroys[RIG_MAX_PAIRS + (f - other)]++;
	else
		destroys[f - r.port]++;
}

static void setup(void)
{
	log_set_level(LOG_ERROR);
	net_rig_init(&r);
	ports = r.port;
	ops = *r.port[0].port.ops;
	ops.destroy = count_destroy;
	for (unsigned i = 0; i < RIG_MAX_PAIRS; i++) {
		fake_port_init(&other[i]);
		r.port[i].port.ops = other[i].port.ops = &ops;
	}
	fake_datapath_init(&remote);
	fake_datapath_init(&second);
	remote.kicked = second.kicked = r.loop;
	remote.serve = second.serve = net_rig_walk;
	remote.opaque = second.opaque = r.port;
	remote.offer.drains = second.offer.drains = true;
}

/* The library does not count what fails in a teardown, but that it crashes. */
#define must(ok)                                                                                               \
	do {                                                                                                   \
		if (!(ok)) {                                                                                   \
			fprintf(stderr, "teardown: %s\n", #ok);                                                \
			abort();                                                                               \
		}                                                                                              \
	} while (0)

static void teardown(void)
{
	const struct datapath *last = r.dev ? r.dev->remote : NULL;

	net_rig_fini(&r);
	for (unsigned i = 0; i < RIG_MAX_PAIRS; i++) {
		must(destroys[ports == r.port ? i : RIG_MAX_PAIRS + i] == (i < r.config.npairs));
		fake_port_fini(&other[i]);
	}
	must((remote.mistakes + second.mistakes + r.transport.mistakes) == 0);
	must((remote.running | second.running) == 0);
	must(last != &remote.dp || remote.destroyed == 1);
	must(last != &second.dp || second.destroyed == 1);
}

TestSuite(net_move, .init = setup, .fini = teardown, .timeout = 20);

static void start(unsigned npairs, uint64_t features)
{
	r.config.npairs = npairs;
	net_rig_make(&r);
	net_rig_start(&r, features);
	for (unsigned i = 0; i < (features & MQ ? npairs : 1); i++)
		net_rig_give_buffers(&r, 2 * i, BUFFERS, 200);
	net_rig_settle(&r);
}

/* to NULL: this process; over NULL: the ports there are. */
static int move_over(struct fake_datapath *to, struct fake_port *over)
{
	struct net_port *list[RIG_MAX_PAIRS];
	int rc;

	for (unsigned i = 0; over && i < RIG_MAX_PAIRS; i++)
		list[i] = &over[i].port;
	if (to && over)
		to->opaque = over;
	rc = net_move(r.dev, over ? list : NULL, to ? &to->dp : NULL, &(struct virtio_move_how){.drain_ms = 20},
		      &moved, &e);
	if (!rc && over)
		ports = over;
	net_rig_settle(&r);
	return rc;
}

static int move(struct fake_datapath *to)
{
	return move_over(to, NULL);
}

#define command(q, ...)                                                                                        \
	net_rig_command(&r, q, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void pattern(uint8_t *f, unsigned seed)
{
	memset(f, 0, LEN);
	for (unsigned i = HDR + 6; i < LEN; i++)
		f[i] = (uint8_t)(seed + i);
}

/* The next buffer that comes back on pair i: does it hold that frame? */
static bool collect(unsigned i, unsigned seed)
{
	struct driver_ring *ring = &r.ring[2 * i];
	uint8_t want[LEN];
	uint32_t len = 0;
	uint16_t id = 0;

	pattern(want, seed);
	if (driver_ring_collect(ring, &id, &len) != 1 || len != LEN)
		return false;
	used_buffers[i] |= BIT(id);
	return ring->packed ||
	       !memcmp((char *)driver_mem_ptr(&r.m, ring->desc[id].addr, LEN) + HDR, want + HDR, LEN - HDR);
}

static void give(unsigned i, unsigned seed)
{
	uint8_t f[LEN];

	pattern(f, seed);
	fake_port_give(&ports[i], f, LEN);
}

static bool comes_in(unsigned i, unsigned seed)
{
	give(i, seed);
	eventfd_write(r.dev->queue[2 * i].kick_fd, 1); /* the walker does not watch the port */
	net_rig_settle(&r);
	return collect(i, seed);
}

static bool goes_out(unsigned i, unsigned seed)
{
	struct driver_ring *ring = &r.ring[2 * i + 1];
	struct fake_frame *got;
	uint8_t f[LEN];
	bool same;

	pattern(f, seed);
	cr_assert_geq(driver_ring_add(ring, &(struct driver_buf){net_rig_buffer(&r, f, LEN), LEN, false}, 1),
		      0);
	net_rig_kick(&r, 2 * i + 1);
	net_rig_settle(&r);
	got = fake_port_take(&ports[i]);
	same = got && got->len == LEN && !memcmp(got->data + HDR, f + HDR, LEN - HDR);
	free(got);
	return same && !ports[i].sent.n && driver_ring_collect(ring, NULL, NULL) == 1;
}

#define expect_traffic(i, seed)                                                                                \
	do {                                                                                                   \
		cr_expect(comes_in(i, seed));                                                                  \
		cr_expect(goes_out(i, (seed) + 100));                                                          \
	} while (0)

/* Every receive buffer that has not come back yet does, with a frame, and no more than those. */
static void expect_no_buffer_lost(unsigned i)
{
	struct driver_ring *ring = &r.ring[2 * i];

	for (unsigned n = ring->size - ring->nfree; n; n--)
		cr_assert(comes_in(i, n), "%u left", n);
	cr_expect_eq(used_buffers[i], BIT(BUFFERS) - 1);
	cr_expect_not(comes_in(i, 0));
}

static bool needs_reset(void)
{
	return virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* --- there and back --- */

static void there_and_back(uint64_t features, bool other_ports)
{
	start(1, features);
	expect_traffic(0, 1);
	cr_assert_eq(move_over(&remote, other_ports ? other : NULL), 0, "%s", e.text);
	cr_expect_eq(remote.running, 3);
	expect_traffic(0, 2);
	cr_assert_eq(move_over(NULL, NULL), 0, "%s", e.text);
	cr_expect_eq(remote.destroyed, 1);
	expect_traffic(0, 3);
	if (!r.ring_features)
		expect_no_buffer_lost(0);
	cr_expect_not(needs_reset());
	cr_expect_gt(moved.stopped_ns, 0);
}

Test(net_move, another_takes_over_the_same_ports_and_gives_them_back)
{
	there_and_back(0, false);
	cr_expect_eq(r.port[0].attaches, 2);
}

Test(net_move, a_window_of_popped_buffers_is_handed_over)
{
	there_and_back(MRG | CTRL, false);
	/* The window had 4096 bytes of buffers and one frame had gone before it. */
	cr_expect_eq(remote.started[0].next, 1);
}

Test(net_move, packed_rings_move_too)
{
	r.ring_features = BIT(VIRTIO_F_RING_PACKED);
	there_and_back(MRG, false);
	for (unsigned i = 0; i < 10; i++)
		expect_traffic(0, i);
}

Test(net_move, another_takes_over_other_ports)
{
	there_and_back(0, true);
	cr_expect_eq(destroys[0], 1);
	cr_expect_eq(r.port[0].detaches, 1);
	cr_expect_eq(other[0].attaches, 1);
}

Test(net_move, this_process_goes_on_over_other_ports)
{
	start(1, MRG | CTRL | OFFLOADS);
	expect_traffic(0, 1);
	give(0, 7); /* waits in the old port when that goes */
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	cr_expect_eq(destroys[0], 1);
	cr_expect_eq(other[0].accepted, OFFLOADS);
	cr_expect_eq(other[0].hdr_len, HDR);
	expect_traffic(0, 2);
	expect_no_buffer_lost(0);
}

Test(net_move, one_remote_hands_over_to_another)
{
	r.config.remote = &remote.dp;
	start(1, CTRL | RX_MODE);
	expect_traffic(0, 1);
	cr_assert_eq(move(&second), 0, "%s", e.text);
	cr_expect_eq(remote.destroyed, 1);
	expect_traffic(0, 2);
	expect_no_buffer_lost(0);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
}

Test(net_move, the_same_remote_goes_on_over_other_ports)
{
	r.config.remote = &remote.dp;
	start(1, 0);
	cr_assert_eq(move_over(&remote, other), 0, "%s", e.text);
	cr_expect_eq(remote.destroyed, 0);
	expect_traffic(0, 1);
	expect_no_buffer_lost(0);
}

/* Its pieces are in buffers that go back as they were. */
Test(net_move, a_frame_that_waits_for_buffers_costs_none)
{
	uint8_t big[1000] = {0};

	r.config.npairs = 1;
	net_rig_make(&r);
	net_rig_start(&r, MRG);
	net_rig_give_buffers(&r, 0, 3, 200);
	net_rig_settle(&r);
	fake_port_give(&r.port[0], big, sizeof(big));
	net_rig_settle(&r);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
	cr_expect_eq(remote.started[0].next, 0);
	for (unsigned i = 0; i < 2; i++)
		cr_expect(comes_in(0, i));
	cr_assert_eq(move(NULL), 0, "%s", e.text);
	cr_expect(comes_in(0, 2));
	cr_expect_eq(used_buffers[0], 7);
}

/* --- what moves with the device --- */

Test(net_move, pairs_that_take_part_do_so_over_the_new_ports)
{
	start(3, CTRL | MQ);
	cr_assert_eq(command(6, SET_PAIRS, 2, 0), VIRTIO_NET_OK);
	cr_assert_eq(move_over(&remote, other), 0, "%s", e.text);
	cr_expect_eq(remote.running, 0x3f);
	cr_expect(other[1].active);
	cr_expect_not(other[2].active);
	for (unsigned i = 0; i < 2; i++)
		expect_traffic(i, i);
	cr_assert_eq(command(6, SET_PAIRS, 3, 0), VIRTIO_NET_OK);
	cr_expect(other[2].active);
	cr_assert_eq(move(NULL), 0, "%s", e.text);
	for (unsigned i = 0; i < 3; i++) {
		expect_traffic(i, 10 * i);
		expect_no_buffer_lost(i);
	}
}

Test(net_move, offloads_that_the_driver_turned_off_stay_off)
{
	uint8_t off[10] = {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET};

	start(1, CTRL | OFFLOADS | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	cr_assert_eq(net_rig_command(&r, 2, off, sizeof(off)), VIRTIO_NET_OK);
	cr_assert_eq(move_over(&remote, other), 0, "%s", e.text);
	cr_expect_eq(other[0].accepted, BIT(VIRTIO_NET_F_CSUM));
}

Test(net_move, filters_hold_afterwards)
{
	r.config.remote = &remote.dp;
	start(1, CTRL | RX_MODE);
	cr_assert_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	cr_expect_not(comes_in(0, 1)); /* for 00:00:00:00:00:00 */
	cr_expect_eq(net_counters(r.dev, 0)->rx_filtered, 1);
}

Test(net_move, a_link_that_was_put_down_stays_down)
{
	start(1, STATUS);
	net_set_link(r.dev, false);
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	cr_expect_eq(net_rig_status(&r), 0);
	cr_expect_not(comes_in(0, 1));
}

Test(net_move, the_driver_is_asked_to_announce_itself)
{
	start(1, CTRL | STATUS | ANNOUNCE);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	cr_expect_eq(r.transport.config_irqs, 1);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK), VIRTIO_NET_OK);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
}

Test(net_move, a_driver_that_cannot_announce_is_not_disturbed)
{
	start(1, CTRL | STATUS);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
	cr_expect_eq(r.transport.config_irqs, 0);
}

Test(net_move, a_link_whose_port_had_gone_comes_up_over_a_good_one)
{
	start(1, STATUS);
	fake_port_end(&r.port[0], -EPIPE);
	cr_assert_eq(net_rig_status(&r), 0);
	cr_assert_eq(r.transport.config_irqs, 1);
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
	cr_expect_eq(r.transport.config_irqs, 2);
	expect_traffic(0, 1);
	expect_no_buffer_lost(0);
}

Test(net_move, over_the_same_port_a_link_that_had_gone_stays_down)
{
	start(1, STATUS);
	fake_port_end(&r.port[0], -EPIPE);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
	cr_expect_eq(net_rig_status(&r), 0);
}

static void old_one_dies(struct fake_datapath *f)
{
	(void)f;
	remote.dp.events->failed(remote.dp.opaque, -EPIPE);
	remote.dp.events->config_changed(remote.dp.opaque);
}

Test(net_move, the_end_of_the_one_before_is_not_the_devices)
{
	r.config.remote = &remote.dp;
	start(1, 0);
	second.in_start = old_one_dies;
	cr_assert_eq(move(&second), 0, "%s", e.text);
	cr_expect_not(needs_reset());
	cr_expect_eq(r.transport.config_irqs, 0);
	second.dp.events->failed(second.dp.opaque, -EPIPE);
	cr_expect(needs_reset());
}

Test(net_move, the_one_before_is_heard_again_when_the_new_does_not_start)
{
	r.config.remote = &remote.dp;
	start(1, 0);
	second.start_err = -EIO;
	cr_assert_eq(move(&second), -EIO);
	expect_traffic(0, 1);
	remote.dp.events->failed(remote.dp.opaque, -EPIPE);
	cr_expect(needs_reset());
}

/* --- refusals: nothing changes --- */

/* Over the ports of before, by this process. */
static void expect_unmoved(void)
{
	cr_expect_null(r.dev->remote);
	cr_expect_eq(ports, r.port);
	for (unsigned i = 0; i < RIG_MAX_PAIRS; i++)
		cr_expect_eq(destroys[i] + destroys[RIG_MAX_PAIRS + i], 0);
	cr_expect_eq(remote.destroyed, 0);
	cr_expect_not(needs_reset());
	expect_traffic(0, 50);
	expect_no_buffer_lost(0);
}

Test(net_move, offloads_that_the_new_port_does_not_pass_are_named)
{
	start(1, OFFLOADS);
	other[0].features &= ~BIT(VIRTIO_NET_F_GUEST_TSO4);
	cr_assert_eq(move_over(&remote, other), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "uses GUEST_TSO4, which fake port does not pass"), "%s", e.text);
	cr_expect_eq(other[0].set_features_calls, 0);
	cr_expect_eq(r.port[0].detaches, 0);
	expect_unmoved();
}

Test(net_move, offloads_that_a_driver_did_not_take_need_not_pass)
{
	start(1, BIT(VIRTIO_NET_F_CSUM));
	other[0].features = BIT(VIRTIO_NET_F_CSUM);
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	expect_traffic(0, 1);
}

Test(net_move, a_driver_that_still_chooses_is_not_left_with_less_than_it_was_offered)
{
	r.config.npairs = 1;
	net_rig_make(&r);
	virtio_lock(r.dev);
	virtio_set_status(r.dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_unlock(r.dev);
	other[0].features &= ~BIT(VIRTIO_NET_F_HOST_USO);
	cr_assert_eq(move_over(NULL, other), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "was offered HOST_USO"), "%s", e.text);
	net_rig_reset(&r); /* nobody chooses */
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	cr_expect_not(net_rig_offered(&r) & BIT(VIRTIO_NET_F_HOST_USO));
}

Test(net_move, a_port_that_does_not_take_the_features_is_not_moved_to)
{
	start(1, OFFLOADS);
	other[0].set_features_err = -EIO;
	cr_assert_eq(move_over(&remote, other), -EIO);
	cr_expect(strstr(e.text, "nothing was changed"), "%s", e.text);
	cr_expect_eq(remote.starts, 0);
	expect_unmoved();
}

Test(net_move, a_pair_that_cannot_be_had_is_not_moved_to)
{
	start(3, CTRL | MQ);
	cr_assert_eq(command(6, SET_PAIRS, 3, 0), VIRTIO_NET_OK);
	other[2].set_active_err = -E2BIG;
	cr_assert_eq(move_over(NULL, other), -E2BIG);
	cr_expect_eq(other[0].attaches, 0);
	for (unsigned i = 1; i < 3; i++)
		expect_traffic(i, i);
	expect_unmoved();
}

Test(net_move, a_port_that_cannot_be_attached_is_not_moved_to)
{
	start(1, MRG);
	other[0].attach_err = -EBUSY;
	cr_assert_eq(move_over(NULL, other), -EBUSY);
	cr_expect_eq(r.port[0].attaches, 2);
	expect_unmoved();
}

Test(net_move, the_old_goes_on_when_the_new_does_not_start)
{
	start(1, MRG | CTRL | STATUS | ANNOUNCE);
	remote.start_err = -ENODEV;
	cr_assert_eq(move_over(&remote, other), -ENODEV);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
	expect_unmoved();
}

Test(net_move, a_link_that_had_gone_stays_down_when_the_new_does_not_start)
{
	start(1, STATUS);
	fake_port_end(&r.port[0], -EPIPE);
	remote.start_err = -ENODEV;
	cr_assert_eq(move_over(&remote, other), -ENODEV);
	cr_expect_eq(net_rig_status(&r), 0);
	cr_expect_eq(r.port[0].attaches, 1);
	cr_expect_not(goes_out(0, 1));
	cr_expect_eq(net_counters(r.dev, 0)->tx_link_down, 1);
	cr_expect_eq(r.transport.config_irqs, 1);
}

Test(net_move, a_rate_does_not_hold_elsewhere)
{
	r.config.tx.bytes_per_s = 1 << 30;
	start(1, 0);
	cr_assert_eq(move(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "rate="), "%s", e.text);
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	expect_traffic(0, 1);
}

static void serves_nothing(struct fake_datapath *f, struct virtqueue *vq)
{
	(void)f;
	(void)vq;
}

Test(net_move, frames_that_are_not_sent_in_time_keep_it_where_it_is)
{
	remote.serve = serves_nothing;
	remote.offer.drains = false;
	r.config.remote = &remote.dp;
	start(1, 0);
	cr_expect_not(goes_out(0, 1));
	cr_assert_eq(move(NULL), -ETIMEDOUT);
	cr_expect(strstr(e.text, "queue 1 within 20 ms"), "%s", e.text);
	cr_expect_eq(remote.stops, 0);
	remote.serve = net_rig_walk;
	fake_datapath_serve(&remote);
	cr_assert_eq(move(NULL), 0, "%s", e.text);
	cr_expect_eq(ports[0].sent.n, 1);
	expect_no_buffer_lost(0);
}

/* --- how many queues --- */

Test(net_move, the_control_queue_is_not_counted)
{
	remote.offer.max_queues = 6;
	start(3, CTRL | MQ);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
}

Test(net_move, a_driver_that_leaves_the_control_queue_alone_moves_too)
{
	remote.offer.max_queues = 2;
	start(1, 0);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
	expect_traffic(0, 1);
	net_rig_start(&r, CTRL | RX_MODE);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
}

Test(net_move, what_the_next_driver_may_use_counts)
{
	remote.offer.max_queues = 5;
	start(3, CTRL | RX_MODE);
	cr_expect_eq(move(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "at most 5"), "%s", e.text);
	net_rig_start(&r, 0);
	cr_expect_eq(move(&remote), -EOPNOTSUPP);
	net_rig_reset(&r);
	cr_expect_eq(move(&remote), -EOPNOTSUPP);
}

/* --- without a driver, or before it is ready --- */

Test(net_move, a_device_that_no_driver_has_found_yet_moves)
{
	net_rig_make(&r);
	cr_assert_eq(move_over(&remote, other), 0, "%s", e.text);
	net_rig_start(&r, CTRL | OFFLOADS);
	cr_expect_eq(remote.running, 3);
	cr_expect_eq(other[0].accepted, OFFLOADS);
	net_rig_give_buffers(&r, 0, 1, 200);
	expect_traffic(0, 1);
}

Test(net_move, a_device_whose_driver_has_not_finished_moves)
{
	net_rig_make(&r);
	cr_assert(net_rig_negotiate(&r, CTRL | OFFLOADS));
	for (unsigned q = 0; q < 2; q++)
		net_rig_queue(&r, q, 64);
	cr_assert_eq(move_over(&remote, other), 0, "%s", e.text);
	cr_expect_eq(other[0].accepted, OFFLOADS);
	net_rig_driver_ok(&r);
	cr_expect_eq(remote.running, 3);
	net_rig_give_buffers(&r, 0, 1, 200);
	expect_traffic(0, 1);
}

Test(net_move, resets_after_a_move_reach_the_new)
{
	start(2, CTRL | MQ);
	command(4, SET_PAIRS, 2, 0);
	cr_assert_eq(move_over(&remote, other), 0, "%s", e.text);
	net_rig_reset(&r);
	cr_expect_eq(remote.running, 0);
	cr_expect_not(other[1].active);
	net_rig_start(&r, CTRL | RX_MODE);
	cr_expect_eq(remote.running, 3);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
}

/* --- a hundred moves --- */

#define PAIRS 2u
#define SIZE  64u

static struct loop_thread device_loop, io[PAIRS], far_loop;
static pthread_mutex_t vcpus = PTHREAD_MUTEX_INITIALIZER; /* held: the vCPUs are paused */
static _Atomic bool pausing, ending;
static struct ev_watch poke; /* far_loop: frames wait in the ports */
static gpa_t tx_buffer[PAIRS][SIZE];
static unsigned received[PAIRS], transmitted[PAIRS], sent[PAIRS];
static _Atomic unsigned given[PAIRS], wrong, came, went;

static void numbered(uint8_t *f, unsigned pair, unsigned n)
{
	pattern(f, n * 3 + pair);
	memcpy(f + HDR + 14, &n, sizeof(n));
}

static bool is_numbered(const uint8_t *got, unsigned pair, unsigned n)
{
	uint8_t want[LEN];

	numbered(want, pair, n);
	return !memcmp(got + HDR, want + HDR, LEN - HDR);
}

static void on_poke(struct ev_watch *w, uint32_t events)
{
	eventfd_t n;

	(void)events;
	eventfd_read(w->fd, &n);
	fake_datapath_serve(&remote);
}

static void *host(void *unused)
{
	uint8_t f[LEN];

	for (unsigned n = 0; !ending; n++)
		for (unsigned i = 0; i < PAIRS; i++) {
			while (fake_port_waiting(&r.port[i]) > 40 && !ending)
				sched_yield();
			numbered(f, i, n);
			fake_port_give(&r.port[i], f, LEN);
			given[i]++;
			eventfd_write(poke.fd, 1);
		}
	return unused;
}

static void drive(unsigned i, bool transmit)
{
	struct driver_ring *rx = &r.ring[2 * i], *tx = &r.ring[2 * i + 1];
	uint32_t len;
	uint16_t id;

	while (driver_ring_collect(rx, &id, &len) == 1) {
		struct driver_buf b = {rx->desc[id].addr, 200, true};

		wrong += len != LEN || !is_numbered(driver_mem_ptr(&r.m, b.addr, LEN), i, received[i]);
		received[i]++;
		came++;
		driver_ring_add(rx, &b, 1);
	}
	while (driver_ring_collect(tx, NULL, NULL) == 1)
		went++;
	for (unsigned n = 0; transmit && tx->nfree && n < 8; n++) {
		struct driver_buf b = {tx_buffer[i][transmitted[i] % SIZE], LEN, false};

		numbered(driver_mem_ptr(&r.m, b.addr, LEN), i, transmitted[i]++);
		driver_ring_add(tx, &b, 1);
	}
	net_rig_kick(&r, 2 * i);
	net_rig_kick(&r, 2 * i + 1);
}

static void *vcpu(void *unused)
{
	while (!ending) {
		if (!pausing) {
			pthread_mutex_lock(&vcpus);
			for (unsigned i = 0; i < PAIRS; i++)
				drive(i, true);
			pthread_mutex_unlock(&vcpus);
		}
		sched_yield();
	}
	return unused;
}

static void take_sent(void)
{
	for (unsigned i = 0; i < PAIRS; i++)
		for (struct fake_frame *f; (f = fake_port_take(&r.port[i])); free(f))
			wrong += f->len != LEN || !is_numbered(f->data, i, sent[i]++);
}

static void threads_start(void)
{
	struct evloop *loops[PAIRS];

	cr_assert_eq(loop_thread_start(&device_loop, "device", -1, &e), 0);
	cr_assert_eq(loop_thread_start(&far_loop, "far", -1, &e), 0);
	for (unsigned i = 0; i < PAIRS; i++) {
		cr_assert_eq(loop_thread_start(&io[i], "io", -1, &e), 0);
		loops[i] = io[i].loop;
		for (unsigned n = 0; n < SIZE; n++)
			tx_buffer[i][n] = net_rig_buffer(&r, NULL, LEN);
	}
	poke = (struct ev_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_poke};
	cr_assert_eq(evloop_add(far_loop.loop, &poke, EPOLLIN), 0);
	remote.kicked = far_loop.loop;
	r.config.npairs = PAIRS;
	r.config.loop = device_loop.loop;
	r.config.loops = loops;
	net_rig_make(&r);
	r.config.loops = NULL;
	net_rig_start(&r, CTRL | MQ | MRG | STATUS | ANNOUNCE);
	for (unsigned i = 0; i < PAIRS; i++)
		net_rig_give_buffers(&r, 2 * i, 60, 200);
}

static void threads_stop(void)
{
	virtio_fini(r.dev);
	r.dev->ops->destroy(r.dev);
	r.dev = NULL;
	loop_thread_stop(&device_loop);
	loop_thread_stop(&far_loop);
	for (unsigned i = 0; i < PAIRS; i++)
		loop_thread_stop(&io[i]);
	close(poke.fd);
}

static void set_two_pairs(void)
{
	gpa_t at = net_rig_buffer(&r, (const uint8_t[]){SET_PAIRS, 2, 0}, 4);

	driver_ring_add(&r.ring[4], (struct driver_buf[]){{at, 4, false}, {at, 1, true}}, 2);
	net_rig_kick(&r, 4);
	while (driver_ring_collect(&r.ring[4], NULL, NULL) != 1)
		sched_yield();
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	cr_assert(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void a_hundred_moves(void)
{
	pthread_t t[2];
	unsigned fds;

	threads_start();
	fds = open_fds();
	set_two_pairs();
	cr_assert_eq(pthread_create(&t[0], NULL, host, NULL), 0);
	cr_assert_eq(pthread_create(&t[1], NULL, vcpu, NULL), 0);
	for (unsigned n = 0; n < 100; n++) {
		pausing = true;
		pthread_mutex_lock(&vcpus);
		pausing = false;
		cr_assert_eq(net_move(r.dev, NULL, n % 2 ? NULL : &remote.dp,
				      &(struct virtio_move_how){.drain_ms = 5000}, &moved, &e),
			     0, "%s", e.text);
		pthread_mutex_unlock(&vcpus);
		for (const unsigned in = came, out = went; came - in < 10 || went - out < 10;)
			sched_yield();
		take_sent();
	}
	ending = true;
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	for (bool all = false; !all;) {
		all = true;
		take_sent();
		for (unsigned i = 0; i < PAIRS; i++) {
			drive(i, false);
			all &= received[i] == given[i] && sent[i] == transmitted[i];
		}
		sched_yield();
	}
	cr_expect_eq(wrong, 0);
	cr_expect_eq(open_fds(), fds);
	cr_expect_not(needs_reset());
	for (unsigned i = 0; i < PAIRS; i++) {
		cr_expect_eq(net_counters(r.dev, i)->tx_refused, 0);
		cr_expect_eq(net_counters(r.dev, i)->rx_too_long, 0);
		cr_expect_eq(r.ring[2 * i].size - r.ring[2 * i].nfree, 60);
	}
	cr_expect_eq(remote.destroyed, 50);
	threads_stop();
}

Test(net_move, a_hundred_moves_under_load_lose_no_frame_and_no_buffer)
{
	a_hundred_moves();
}

/* ... and it has to be waited for. */
Test(net_move, a_hundred_moves_to_one_that_keeps_copies_of_eventfds)
{
	remote.offer.keeps_fds = true;
	remote.offer.drains = false;
	a_hundred_moves();
}
