/* The network device when somebody else serves its data queues: the control queue is served here, and the ports
 * are told what the driver wants. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/net_rig.h"
#include "tests/unit/teardown.h"
#include "vmm/loop_thread.h"

#define BIT(n)    (1ull << (n))
#define CTRL      BIT(VIRTIO_NET_F_CTRL_VQ)
#define MQ        BIT(VIRTIO_NET_F_MQ)
#define RX_MODE   BIT(VIRTIO_NET_F_CTRL_RX)
#define OFFLOADS  (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4))
#define SET_PAIRS VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET

static struct net_rig r;
static struct fake_datapath remote;
static struct net_port_ops ops; /* of all ports: the fake's, looked at */
static unsigned destroys[RIG_MAX_PAIRS];
static pthread_t told_on; /* who last told a port something */
static int (*fake_set_features)(struct net_port *p, uint64_t features, unsigned hdr_len);
static int (*fake_set_active)(struct net_port *p, bool on);

static int set_features(struct net_port *p, uint64_t features, unsigned hdr_len)
{
	told_on = pthread_self();
	return fake_set_features(p, features, hdr_len);
}

static int set_active(struct net_port *p, bool on)
{
	told_on = pthread_self();
	return fake_set_active(p, on);
}

static void destroy(struct net_port *p)
{
	destroys[container_of(p, struct fake_port, port) - r.port]++;
}

static void setup(void)
{
	log_set_level(LOG_ERROR);
	net_rig_init(&r);
	fake_datapath_init(&remote);
	remote.kicked = r.loop;
	r.config.remote = &remote.dp;
	ops = *r.port[0].port.ops;
	fake_set_features = ops.set_features;
	fake_set_active = ops.set_active;
	ops.set_features = set_features;
	ops.set_active = set_active;
	ops.destroy = destroy;
	for (unsigned i = 0; i < RIG_MAX_PAIRS; i++)
		r.port[i].port.ops = &ops;
}

static void teardown(void)
{
	const bool made = r.dev;

	net_rig_fini(&r);
	cr_expect_eq(remote.mistakes + r.transport.mistakes, 0);
	cr_expect_eq(remote.running, 0);
	for (unsigned i = 0; made && i < RIG_MAX_PAIRS; i++) {
		cr_expect_eq(destroys[i], (i < r.config.npairs));
		cr_expect_eq(r.port[i].attaches, 0);
	}
	cr_expect_eq(remote.destroyed, made);
}

TestSuite(net_remote, .init = setup, .fini = teardown_once, .timeout = 20);

static void start(unsigned npairs, uint64_t features)
{
	r.config.npairs = npairs;
	net_rig_make(&r);
	net_rig_start(&r, features);
}

#define command(q, ...)                                                                                        \
	net_rig_command(&r, q, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static struct virtio_device *cannot_be_made(struct err *e)
{
	struct evloop *loops[RIG_MAX_PAIRS] = {r.loop, r.loop, r.loop};
	struct net_port *ports[RIG_MAX_PAIRS] = {&r.port[0].port, &r.port[1].port, &r.port[2].port};

	r.config.loops = loops;
	r.config.ports = ports;
	return net_new(&r.config, e);
}

/* --- which queue is whose --- */

WholeTest(net_remote, one_pair_is_served_there_and_the_control_queue_here)
{
	start(1, CTRL | RX_MODE);
	cr_expect_eq(remote.running, 3);
	cr_expect_eq(remote.last_nqueues, 2);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
}

WholeTest(net_remote, with_multiqueue_the_control_queue_is_the_last)
{
	start(3, CTRL | MQ);
	cr_expect_eq(remote.running, 0x3f);
	cr_expect_eq(command(6, SET_PAIRS, 2, 0), VIRTIO_NET_OK);
}

WholeTest(net_remote, without_multiqueue_the_control_queue_is_the_third)
{
	start(3, CTRL | RX_MODE);
	cr_expect_eq(remote.running, 3);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
}

WholeTest(net_remote, a_driver_without_a_control_queue_has_all_of_its_queues_there)
{
	start(1, 0);
	cr_expect_eq(remote.running, 3);
}

WholeTest(net_remote, the_next_driver_may_have_another_control_queue)
{
	start(2, CTRL | MQ);
	cr_expect_eq(remote.running, 0xf);
	net_rig_start(&r, CTRL | RX_MODE);
	cr_expect_eq(remote.running, 3);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	net_rig_start(&r, CTRL | MQ);
	cr_expect_eq(remote.running, 0xf);
	cr_expect_eq(command(4, SET_PAIRS, 2, 0), VIRTIO_NET_OK);
}

WholeTest(net_remote, queues_that_mean_nothing_are_not_given_to_it)
{
	r.config.npairs = 3;
	net_rig_make(&r);
	cr_assert(net_rig_negotiate(&r, CTRL | RX_MODE));
	for (unsigned q = 0; q < 7; q++)
		net_rig_queue(&r, q, 16);
	net_rig_driver_ok(&r);
	cr_expect_eq(remote.running, 3);
	cr_assert(net_rig_negotiate(&r, 0));
	for (unsigned q = 0; q < 3; q++)
		net_rig_queue(&r, q, 16);
	net_rig_driver_ok(&r);
	cr_expect_eq(remote.running, 3);
}

WholeTest(net_remote, a_rate_is_refused)
{
	struct err e;

	r.config.tx.packets_per_s = 1000;
	cr_expect_null(cannot_be_made(&e));
	cr_expect(strstr(e.text, "rate= holds only"), "%s", e.text);
}

/* --- what is offered --- */

WholeTest(net_remote, offers_what_device_ports_and_datapath_all_can)
{
	remote.offer.opinion = UINT64_MAX;
	remote.offer.features = ~(BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_RING_F_INDIRECT_DESC));
	r.port[0].features &= ~BIT(VIRTIO_NET_F_HOST_USO);
	net_rig_make(&r);
	cr_expect_eq(net_rig_offered(&r) & (BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_HOST_USO) |
					    BIT(VIRTIO_RING_F_INDIRECT_DESC)),
		     0);
	cr_expect(net_rig_offered(&r) & BIT(VIRTIO_NET_F_GUEST_TSO4));
}

WholeTest(net_remote, data_queues_are_no_longer_than_it_serves_and_the_control_queue_stays)
{
	remote.offer.max_queue_size = 48;
	net_rig_make(&r);
	cr_expect_eq(r.dev->queue[0].max_size, 32);
	cr_expect_eq(r.dev->queue[1].max_size, 32);
	cr_expect_eq(r.dev->queue[2].max_size, 64);
}

WholeTest(net_remote, the_control_queue_does_not_count_among_those_it_serves)
{
	struct err e;

	remote.offer.max_queues = 4;
	r.config.npairs = 2;
	net_rig_make(&r);
	cr_expect(net_rig_offered(&r) & CTRL);
	remote.offer.max_queues = 3;
	cr_expect_null(cannot_be_made(&e));
	cr_expect(strstr(e.text, "at most 3 queues"), "%s", e.text);
	cr_expect_eq(destroys[0] + destroys[1] + remote.destroyed, 0, "they are the caller's");
}

WholeTest(net_remote, one_that_does_not_answer_is_refused)
{
	struct err e;

	remote.offer_err = -ECONNRESET;
	cr_expect_null(cannot_be_made(&e));
	cr_expect(strstr(e.text, "does not answer"), "%s", e.text);
	cr_expect_eq(destroys[0] + remote.destroyed, 0, "they are the caller's");
}

/* --- what the ports are told --- */

WholeTest(net_remote, ports_are_told_what_the_driver_accepted)
{
	start(2, CTRL | MQ | OFFLOADS);
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(r.port[i].accepted, OFFLOADS);
		cr_expect_eq(r.port[i].hdr_len, 12);
	}
}

WholeTest(net_remote, ports_are_told_which_pairs_take_part)
{
	start(3, CTRL | MQ);
	cr_expect_not(r.port[1].active || r.port[2].active);
	cr_expect_eq(command(6, SET_PAIRS, 3, 0), VIRTIO_NET_OK);
	cr_expect(r.port[1].active && r.port[2].active);
	cr_expect_eq(command(6, SET_PAIRS, 2, 0), VIRTIO_NET_OK);
	cr_expect(r.port[1].active && !r.port[2].active);
}

WholeTest(net_remote, pairs_that_cannot_be_had_are_refused)
{
	start(3, CTRL | MQ);
	r.port[2].set_active_err = -EIO;
	cr_expect_eq(command(6, SET_PAIRS, 3, 0), VIRTIO_NET_ERR);
	cr_expect_not(r.port[1].active);
}

WholeTest(net_remote, ports_are_told_of_offloads_turned_off)
{
	uint8_t off[10] = {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET};

	start(1, CTRL | OFFLOADS | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	cr_expect_eq(net_rig_command(&r, 2, off, sizeof(off)), VIRTIO_NET_OK);
	cr_expect_eq(r.port[0].accepted, BIT(VIRTIO_NET_F_CSUM));
}

WholeTest(net_remote, a_reset_stops_it_and_takes_all_back)
{
	start(2, CTRL | MQ | OFFLOADS);
	command(4, SET_PAIRS, 2, 0);
	net_rig_reset(&r);
	cr_expect_eq(remote.running, 0);
	cr_expect_eq(remote.stops, 1);
	cr_expect_eq(r.port[0].accepted | r.port[1].accepted, 0);
	cr_expect_not(r.port[1].active);
	net_rig_start(&r, CTRL | MQ);
	cr_expect_eq(remote.running, 0xf);
	cr_expect_eq(remote.started[0].next, 0);
}

WholeTest(net_remote, one_queue_is_reset_and_enabled_while_the_others_run)
{
	r.ring_features = BIT(VIRTIO_F_RING_RESET);
	start(2, CTRL | MQ);
	virtio_lock(r.dev);
	virtio_queue_reset(r.dev, 1);
	virtio_unlock(r.dev);
	cr_expect_eq(remote.running, 0xd);
	driver_ring_fini(&r.ring[1]);
	net_rig_queue(&r, 1, 16);
	cr_expect_eq(remote.running, 0xf);
	cr_expect_eq(remote.last_nqueues, 1);
	cr_expect_eq(remote.started[1].size, 16);
	cr_expect_eq(command(4, SET_PAIRS, 2, 0), VIRTIO_NET_OK);
}

WholeTest(net_remote, the_control_queue_is_reset_without_it)
{
	r.ring_features = BIT(VIRTIO_F_RING_RESET);
	start(1, CTRL | RX_MODE);
	virtio_lock(r.dev);
	virtio_queue_reset(r.dev, 2);
	virtio_unlock(r.dev);
	driver_ring_fini(&r.ring[2]);
	net_rig_queue(&r, 2, 64);
	cr_expect_eq(remote.starts, 1);
	cr_expect_eq(remote.stops, 0);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
}

/* --- trouble --- */

WholeTest(net_remote, needs_a_reset_when_it_does_not_start)
{
	remote.start_err = -EIO;
	start(1, CTRL);
	cr_expect(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	remote.start_err = 0;
	net_rig_start(&r, CTRL);
	cr_expect_eq(remote.running, 3);
}

WholeTest(net_remote, needs_a_reset_when_it_fails)
{
	start(1, CTRL);
	remote.dp.events->failed(remote.dp.opaque, -EPIPE);
	cr_expect(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	cr_expect_eq(r.transport.config_irqs, 1);
	net_rig_start(&r, CTRL);
	cr_expect_eq(remote.running, 3);
}

WholeTest(net_remote, the_link_goes_down_and_up)
{
	start(1, CTRL | BIT(VIRTIO_NET_F_STATUS));
	net_set_link(r.dev, false);
	cr_expect_eq(net_rig_status(&r), 0);
	net_set_link(r.dev, true);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
	cr_expect_eq(r.transport.config_irqs, 2);
}

/* --- threads --- */

static void note_thread(void *thread)
{
	*(pthread_t *)thread = pthread_self();
}

/* The pairs' own loops have nothing to do: only the device's may wait for a peer. */
WholeTest(net_remote, ports_are_told_on_the_loop_of_the_device)
{
	struct loop_thread main_loop, pairs;
	struct evloop *loops[2];
	pthread_t device;
	struct err e;
	struct driver_buf b[2];

	cr_assert_eq(loop_thread_start(&main_loop, "main", -1, &e), 0);
	cr_assert_eq(loop_thread_start(&pairs, "pairs", -1, &e), 0);
	evloop_call(main_loop.loop, note_thread, &device);
	loops[0] = loops[1] = pairs.loop;
	r.config.loop = remote.kicked = main_loop.loop;
	r.config.loops = loops;
	start(2, CTRL | MQ);
	cr_expect(pthread_equal(remote.thread, device));

	b[0] = (struct driver_buf){net_rig_buffer(&r, (const uint8_t[]){SET_PAIRS, 2, 0}, 4), 4, false};
	b[1] = (struct driver_buf){net_rig_buffer(&r, "\xee", 1), 1, true};
	driver_ring_add(&r.ring[4], b, 2);
	net_rig_kick(&r, 4);
	while (driver_ring_collect(&r.ring[4], NULL, NULL) != 1)
		sched_yield();
	cr_expect_eq(*(uint8_t *)driver_mem_ptr(&r.m, b[1].addr, 1), VIRTIO_NET_OK);
	cr_expect(pthread_equal(told_on, device));
	cr_expect(r.port[1].active);

	net_rig_reset(&r);
	cr_expect(pthread_equal(remote.thread, device));
	loop_thread_stop(&main_loop);
	loop_thread_stop(&pairs);
	remote.kicked = NULL;
	r.config.loops = NULL;
}
