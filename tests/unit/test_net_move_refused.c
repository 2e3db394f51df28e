/* A network device does not change its datapath: what is refused, and that nothing changes then. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/net_move_rig.h"

TestSuite(net_move_refused, .init = setup, .fini = teardown_once, .timeout = 20);

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

WholeTest(net_move_refused, offloads_that_the_new_port_does_not_pass_are_named)
{
	start(1, OFFLOADS);
	other[0].features &= ~BIT(VIRTIO_NET_F_GUEST_TSO4);
	cr_assert_eq(move_over(&remote, other), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "uses GUEST_TSO4, which fake port does not pass"), "%s", e.text);
	cr_expect_eq(other[0].set_features_calls, 0);
	cr_expect_eq(r.port[0].detaches, 0);
	expect_unmoved();
}

WholeTest(net_move_refused, offloads_that_a_driver_did_not_take_need_not_pass)
{
	start(1, BIT(VIRTIO_NET_F_CSUM));
	other[0].features = BIT(VIRTIO_NET_F_CSUM);
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	expect_traffic(0, 1);
}

WholeTest(net_move_refused, a_driver_that_still_chooses_is_not_left_with_less_than_it_was_offered)
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

WholeTest(net_move_refused, a_port_that_does_not_take_the_features_is_not_moved_to)
{
	start(1, OFFLOADS);
	other[0].set_features_err = -EIO;
	cr_assert_eq(move_over(&remote, other), -EIO);
	cr_expect(strstr(e.text, "nothing was changed"), "%s", e.text);
	cr_expect_eq(remote.starts, 0);
	expect_unmoved();
}

WholeTest(net_move_refused, a_pair_that_cannot_be_had_is_not_moved_to)
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

WholeTest(net_move_refused, a_port_that_cannot_be_attached_is_not_moved_to)
{
	start(1, MRG);
	other[0].attach_err = -EBUSY;
	cr_assert_eq(move_over(NULL, other), -EBUSY);
	cr_expect_eq(r.port[0].attaches, 2);
	expect_unmoved();
}

WholeTest(net_move_refused, the_old_goes_on_when_the_new_does_not_start)
{
	start(1, MRG | CTRL | STATUS | ANNOUNCE);
	remote.start_err = -ENODEV;
	cr_assert_eq(move_over(&remote, other), -ENODEV);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
	expect_unmoved();
}

WholeTest(net_move_refused, a_link_that_had_gone_stays_down_when_the_new_does_not_start)
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

WholeTest(net_move_refused, a_rate_does_not_hold_elsewhere)
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

WholeTest(net_move_refused, frames_that_are_not_sent_in_time_keep_it_where_it_is)
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

WholeTest(net_move_refused, the_control_queue_is_not_counted)
{
	remote.offer.max_queues = 6;
	start(3, CTRL | MQ);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
}

WholeTest(net_move_refused, a_driver_that_leaves_the_control_queue_alone_moves_too)
{
	remote.offer.max_queues = 2;
	start(1, 0);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
	expect_traffic(0, 1);
	net_rig_start(&r, CTRL | RX_MODE);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
}

WholeTest(net_move_refused, what_the_next_driver_may_use_counts)
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

WholeTest(net_move_refused, a_device_that_no_driver_has_found_yet_moves)
{
	net_rig_make(&r);
	cr_assert_eq(move_over(&remote, other), 0, "%s", e.text);
	net_rig_start(&r, CTRL | OFFLOADS);
	cr_expect_eq(remote.running, 3);
	cr_expect_eq(other[0].accepted, OFFLOADS);
	net_rig_give_buffers(&r, 0, 1, 200);
	expect_traffic(0, 1);
}

WholeTest(net_move_refused, a_device_whose_driver_has_not_finished_moves)
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

WholeTest(net_move_refused, resets_after_a_move_reach_the_new)
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
