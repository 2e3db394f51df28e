/* A vhost-user back end that ends and comes back, in every state the device can be in meanwhile. */
#include "tests/unit/vhost_user_rig.h"

static void init(void)
{
	rig_init();
	rig.config.reconnect_ms = RECONNECT_MS;
}

TestSuite(vhost_user_return, .init = init, .fini = rig_fini, .timeout = 60);

/* As by kill -9, and a new one in its place. */
static void kill_peer(void)
{
	peer_free(rig.peer);
	rig.peer = NULL;
}

static bool gone(void)
{
	return eventually(!rig_info().connected);
}

static bool back(void)
{
	return eventually(rig_info().connected);
}

static void make(uint32_t device_type, uint64_t accepted, uint64_t protocol)
{
	rig.config.device_type = device_type;
	rig.accepted = accepted;
	rig.peer_config.protocol = protocol;
	rig.peer_config.config_len = 60;
	rig_make();
}

/* --- while it runs --- */

Test(vhost_user_return, net_goes_on_from_the_used_index)
{
	make(VIRTIO_ID_NET, SPLIT, P(MQ) | P(REPLY_ACK));
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5) && rig_traffic(1, 5));
	kill_peer();
	cr_assert(gone());
	rig_add(0);
	rig_peer();
	cr_assert(back());
	cr_expect(rig_all_back(0), "also what was added while it was away");
	cr_expect_eq(peer_queue_value(rig.peer, VHOST_USER_SET_VRING_BASE, 0), 5);
	cr_expect(rig_traffic(0, 5) && rig_traffic(1, 5));
	rig_stop();
	cr_expect_eq(rig.side[0].q.next, 11);
	cr_expect_eq(rig.failed, 0);
	cr_expect_eq(rig_info().returns, 1);
}

Test(vhost_user_return, frames_that_it_had_taken_are_sent_again)
{
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	peer_hold(rig.peer, true);
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	kill_peer();
	rig_peer();
	cr_expect(rig_all_back(0));
	cr_expect_eq(rig.failed, 0);
	rig_stop();
}

Test(vhost_user_return, pairs_are_as_they_were_switched)
{
	struct net_port *p;

	rig.nqueues = rig.config.nqueues = 4;
	make(VIRTIO_ID_NET, SPLIT, P(MQ) | P(REPLY_ACK));
	p = vhost_user_port(rig.dp, 1);
	cr_assert_eq(rig_start(), 0);
	kill_peer();
	cr_assert(gone());
	cr_expect_eq(p->ops->set_active(p, true), 0);
	rig_peer();
	cr_assert(back());
	cr_expect(rig_traffic(2, 3) && rig_traffic(0, 3));
	rig_stop();
	p->ops->destroy(p);
}

Test(vhost_user_return, a_packed_position_is_lost_with_it)
{
	make(VIRTIO_ID_NET, PACKED, P(REPLY_ACK));
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5));
	peer_cut(rig.peer);
	cr_assert(eventually(rig.failed == 1));
	cr_assert(back());
	usleep(2000);
	cr_expect_eq(rig_info().serving, 0, "nothing starts of itself");
	rig_stop();
	cr_expect(rig.side[0].q.lost);
	rig_rings();
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 5));
	rig_stop();
}

Test(vhost_user_return, idle_blk_goes_on_without_tracking)
{
	make(VIRTIO_ID_BLOCK, SPLIT, P(REPLY_ACK));
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5));
	peer_cut(rig.peer);
	cr_assert(eventually(rig_info().returns == 1));
	cr_expect(rig_traffic(0, 5));
	rig_stop();
	cr_expect_eq(rig.failed, 0);
	cr_expect_not(rig.side[0].q.lost);
}

Test(vhost_user_return, busy_blk_without_tracking_needs_a_reset)
{
	make(VIRTIO_ID_BLOCK, SPLIT, P(REPLY_ACK));
	peer_hold(rig.peer, true);
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	peer_cut(rig.peer);
	cr_assert(eventually(rig.failed == 1));
	cr_expect_eq(rig.failed_err, -EIO);
	cr_assert(back());
	cr_expect_eq(rig_info().serving, 0);
	rig_stop();
	cr_expect(rig.side[0].q.lost);
	peer_hold(rig.peer, false);
	rig_rings();
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 5));
	rig_stop();
}

Test(vhost_user_return, busy_blk_with_tracking_goes_on_with_the_same_buffer)
{
	uint64_t mark = 0;

	make(VIRTIO_ID_BLOCK, SPLIT, P_ALL);
	peer_hold(rig.peer, true);
	cr_assert_eq(rig_start(), 0);
	cr_assert_eq(pwrite(peer_inflight_fd(rig.peer), "tracking", 8, 100), 8);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	kill_peer();
	cr_assert(gone());
	rig_peer();
	cr_assert(back());
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_GET_INFLIGHT_FD), 0);
	cr_assert_eq(peer_count(rig.peer, VHOST_USER_SET_INFLIGHT_FD), 1);
	cr_assert_eq(pread(peer_inflight_fd(rig.peer), &mark, 8, 100), 8);
	cr_expect_eq(memcmp(&mark, "tracking", 8), 0);
	cr_expect_eq(peer_queue_value(rig.peer, VHOST_USER_SET_VRING_BASE, 0), 0);
	cr_expect(rig_all_back(0));
	cr_expect_eq(rig.failed, 0);
	rig_stop();
}

Test(vhost_user_return, another_life_of_the_guest_has_another_buffer)
{
	uint64_t mark = 0;

	make(VIRTIO_ID_BLOCK, SPLIT, P_ALL);
	cr_assert_eq(rig_start(), 0);
	cr_assert_eq(pwrite(peer_inflight_fd(rig.peer), "tracking", 8, 100), 8);
	rig_stop();
	cr_assert_eq(rig_start(), 0);
	cr_assert_eq(pread(peer_inflight_fd(rig.peer), &mark, 8, 100), 8);
	cr_expect_eq(mark, 0);
	rig_stop();
}

/* What comes of a packed ring whose back end noted that position, in the layout of the specification. */
static void packed_tracking(uint16_t version, uint16_t used_idx)
{
	struct {
		uint64_t features;
		uint16_t version, desc_num, free_head, old_free_head, used_idx, old_used_idx;
		uint8_t used_wrap_counter, old_used_wrap_counter, padding[6];
	} region = {.version = version, .old_used_idx = used_idx, .old_used_wrap_counter = 1};

	make(VIRTIO_ID_BLOCK, PACKED, P_ALL);
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5) && rig_traffic(1, 5));
	cr_assert_eq(pwrite(peer_inflight_fd(rig.peer), &region, 24, 0), 24);
	cr_assert_eq(pwrite(peer_inflight_fd(rig.peer), &region, 24, 4096), 24);
	peer_cut(rig.peer);
	cr_assert(eventually(rig.failed || rig_info().returns == 1));
}

Test(vhost_user_return, a_packed_position_that_was_noted_is_gone_on_from)
{
	packed_tracking(1, 10);
	cr_expect_eq(rig.failed, 0);
	cr_expect_eq(peer_queue_value(rig.peer, VHOST_USER_SET_VRING_BASE, 1), 0x800a800au);
	cr_expect(rig_traffic(1, 5));
	rig_stop();
}

Test(vhost_user_return, a_buffer_nothing_was_noted_in_is_no_help)
{
	packed_tracking(0, 10);
	cr_expect(eventually(rig.failed == 1));
	rig_stop();
}

Test(vhost_user_return, a_noted_position_beyond_the_ring_is_not_used)
{
	packed_tracking(1, RING_SIZE);
	cr_expect(eventually(rig.failed == 1));
	rig_stop();
}

Test(vhost_user_return, a_buffer_that_was_cut_short_is_no_help)
{
	make(VIRTIO_ID_BLOCK, PACKED, P_ALL);
	cr_assert_eq(rig_start(), 0);
	cr_assert_eq(ftruncate(peer_inflight_fd(rig.peer), 0), 0);
	peer_cut(rig.peer);
	cr_expect(eventually(rig.failed == 1));
	rig_stop();
}

/* --- while it is away --- */

Test(vhost_user_return, queues_that_start_while_it_is_away_begin_when_it_is_back)
{
	uint64_t before;

	make(VIRTIO_ID_NET, PACKED, P(REPLY_ACK));
	kill_peer();
	cr_assert(gone());
	before = rig_now_ms();
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_expect_lt(rig_now_ms() - before, REPLY_MS / 2, "nobody waits");
	cr_expect_eq(rig_collect(0), 0);
	rig_peer();
	cr_expect(rig_all_back(0));
	rig_stop();
	cr_expect_eq(rig.failed, 0);
}

/* For a live change: who served before is still there to go on. */
Test(vhost_user_return, one_that_must_serve_fails_a_first_start_while_it_is_away)
{
	rig.config.must_serve = true;
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	kill_peer();
	cr_assert(gone());
	cr_expect_eq(rig_start(), -ENOTCONN);
	rig_peer();
	cr_assert(back());
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 5));
	rig_stop();
	kill_peer();
	cr_assert(gone());
	cr_expect_eq(rig_start(), 0, "it has served: it may come back");
	rig_stop();
}

Test(vhost_user_return, queues_that_start_and_stop_while_it_is_away_keep_their_position)
{
	make(VIRTIO_ID_NET, PACKED, P(REPLY_ACK));
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5));
	rig_stop();
	kill_peer();
	cr_assert(gone());
	cr_assert_eq(rig_start(), 0);
	rig_stop();
	cr_expect_not(rig.side[0].q.lost);
	cr_expect_eq(rig.side[0].q.next, rig.side[0].ring.avail_pos);
	rig_peer();
	cr_assert(back());
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 5));
	rig_stop();
}

Test(vhost_user_return, a_guest_resets_and_comes_up_again_while_it_is_away)
{
	make(VIRTIO_ID_BLOCK, SPLIT, P_ALL);
	peer_hold(rig.peer, true);
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	kill_peer();
	cr_assert(gone());
	rig_stop();
	cr_expect(rig.side[0].q.lost);
	rig_rings();
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	rig_peer();
	cr_expect(rig_all_back(0));
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_GET_INFLIGHT_FD), 1,
		     "the buffer of the old life is not shown");
	rig_stop();
}

Test(vhost_user_return, it_goes_away_in_the_midst_of_a_start)
{
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	peer_script(rig.peer, VHOST_USER_SET_VRING_ADDR, PEER_CLOSES, 1);
	cr_assert_eq(rig_start(), 0, "as if it had gone a moment later");
	cr_assert(eventually(rig_info().returns == 1));
	cr_expect(rig_traffic(0, 3) && rig_traffic(1, 3));
	rig_stop();
}

Test(vhost_user_return, it_goes_away_in_the_midst_of_a_stop)
{
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(1, 5));
	peer_script(rig.peer, VHOST_USER_GET_VRING_BASE, PEER_CLOSES, 1);
	rig_stop();
	cr_expect_eq(rig.side[1].q.next, 5);
	cr_assert(back());
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(1, 5));
	rig_stop();
	cr_expect_eq(rig.failed, 0);
}

Test(vhost_user_return, it_goes_away_in_the_midst_of_a_return)
{
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5));
	peer_script(rig.peer, VHOST_USER_SET_MEM_TABLE, PEER_CLOSES, 0);
	peer_cut(rig.peer);
	cr_assert(eventually(rig_info().returns == 1));
	cr_expect_eq(peer_connections(rig.peer), 3);
	cr_expect(rig_traffic(0, 5));
	rig_stop();
}

Test(vhost_user_return, a_change_of_its_configuration_meanwhile_is_passed_on)
{
	uint8_t changed[60] = {42}, got = 0;

	make(VIRTIO_ID_BLOCK, SPLIT, P_ALL);
	peer_cut(rig.peer);
	cr_assert(eventually(rig_info().returns == 1));
	cr_expect_eq(rig.config_changed, 0, "there was none");
	peer_set_config(rig.peer, changed);
	peer_cut(rig.peer);
	cr_assert(eventually(rig.config_changed == 1));
	cr_assert_eq(rig.dp->ops->config_read(rig.dp, 0, &got, 1), 0);
	cr_expect_eq(got, 42);
}

Test(vhost_user_return, one_that_takes_the_connection_and_is_silent_is_tried_again)
{
	rig.config.reply_ms = SHORT_MS;
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	peer_script(rig.peer, VHOST_USER_GET_FEATURES, PEER_SILENT, 0);
	peer_cut(rig.peer);
	cr_assert(eventually(peer_connections(rig.peer) >= 2));
	cr_expect_eq(rig_start(), 0);
	rig_stop();
	cr_assert(back(), "and nobody waits for it");
	cr_expect_geq(peer_connections(rig.peer), 3);
}

/* --- what comes back is not what went --- */

Test(vhost_user_return, one_that_lacks_what_the_driver_took_is_not_used)
{
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5));
	peer_offer(rig.peer, PROTOCOL | BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	peer_cut(rig.peer);
	cr_assert(eventually(peer_connections(rig.peer) >= 3));
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_SET_MEM_TABLE), 1);
	peer_offer(rig.peer, PROTOCOL | SPLIT, P(REPLY_ACK));
	cr_assert(eventually(rig_info().returns == 1));
	cr_expect(rig_traffic(0, 5));
	rig_stop();
}

Test(vhost_user_return, one_that_lacks_what_a_later_driver_takes_fails_its_start)
{
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	peer_offer(rig.peer, PROTOCOL | BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	peer_cut(rig.peer);
	cr_assert(eventually(rig_info().returns == 1));
	cr_expect_eq(rig_start(), -EOPNOTSUPP);
}

Test(vhost_user_return, one_without_a_configuration_space_is_not_used)
{
	make(VIRTIO_ID_BLOCK, SPLIT, P(REPLY_ACK) | P(CONFIG));
	peer_offer(rig.peer, PROTOCOL | SPLIT, P(REPLY_ACK));
	peer_cut(rig.peer);
	cr_assert(eventually(peer_connections(rig.peer) >= 3));
	cr_expect_eq(rig_info().returns, 0);
}

Test(vhost_user_return, one_without_tracking_does_not_get_what_was_tracked)
{
	make(VIRTIO_ID_BLOCK, SPLIT, P(REPLY_ACK) | P(INFLIGHT_SHMFD));
	cr_assert_eq(rig_start(), 0);
	peer_offer(rig.peer, PROTOCOL | SPLIT, P(REPLY_ACK));
	peer_cut(rig.peer);
	cr_assert(eventually(peer_connections(rig.peer) >= 3));
	cr_expect_eq(rig_info().returns, 0);
	rig_stop();
	cr_expect(back(), "a new life needs no old notes");
}

/* --- never again --- */

Test(vhost_user_return, without_reconnect_its_end_is_the_devices)
{
	rig.config.reconnect_ms = 0;
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5));
	peer_cut(rig.peer);
	cr_assert(eventually(rig.failed == 1));
	cr_expect_eq(rig.failed_err, -ENOTCONN);
	rig_stop();
	cr_expect_eq(rig.side[0].q.next, 5);
	cr_expect_not(rig.side[0].q.lost);
	cr_expect_eq(rig_start(), -ENOTCONN);
	cr_expect_eq(peer_connections(rig.peer), 1);
}

Test(vhost_user_return, without_reconnect_one_that_is_disconnected_is_reached_again)
{
	rig.config.reconnect_ms = 0;
	make(VIRTIO_ID_BLOCK, SPLIT, P(REPLY_ACK));
	peer_hold(rig.peer, true);
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	rig_stop();
	cr_expect(rig_info().connected);
	cr_expect_eq(peer_connections(rig.peer), 2);
}

/* --- the other way round --- */

Test(vhost_user_return, a_client_comes_back_to_our_socket)
{
	rig.config.server = rig.peer_config.connects = true;
	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK));
	cr_assert_eq(rig_start(), 0);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(rig_traffic(0, 5));
		kill_peer();
		rig_peer();
		cr_assert(eventually(rig_info().returns == i + 1));
	}
	cr_expect(rig_traffic(0, 5));
	rig_stop();
}

Test(vhost_user_return, a_client_that_kept_requests_comes_back_after_a_stop)
{
	rig.config.server = rig.peer_config.connects = true;
	make(VIRTIO_ID_BLOCK, SPLIT, P(REPLY_ACK));
	peer_hold(rig.peer, true);
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	rig_stop();
	cr_expect(rig_info().connected);
	peer_hold(rig.peer, false);
	rig_rings();
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 5));
	rig_stop();
}

/* --- many times --- */

Test(vhost_user_return, a_hundred_returns_lose_no_chain)
{
	unsigned before;

	make(VIRTIO_ID_NET, SPLIT, P(REPLY_ACK) | P(BACKEND_REQ) | P(CONFIGURE_MEM_SLOTS));
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5));
	before = open_fds();
	for (unsigned i = 0; i < 100; i++) {
		rig_add(0);
		peer_cut(rig.peer);
		rig_add(0);
		rig_add(1);
		cr_assert(eventually(rig_info().returns == i + 1));
		cr_assert(rig_all_back(0) && rig_all_back(1));
	}
	cr_expect_eq(open_fds(), before);
	rig_stop();
	cr_expect_eq(rig.side[0].q.next, 205);
	cr_expect_eq(rig.failed, 0);
}

Test(vhost_user_return, a_pair_is_switched_while_it_comes_and_goes)
{
	struct net_port *p;

	rig.nqueues = rig.config.nqueues = 4;
	make(VIRTIO_ID_NET, SPLIT, P(MQ) | P(REPLY_ACK) | P(BACKEND_REQ));
	p = vhost_user_port(rig.dp, 1);
	cr_assert_eq(rig_start(), 0);
	for (unsigned i = 0; i < 200; i++) {
		if (i % 8 == 0)
			peer_cut(rig.peer);
		p->ops->set_active(p, i & 1);
	}
	cr_assert(back());
	cr_expect(rig_traffic(2, 3) && rig_traffic(0, 3));
	rig_stop();
	p->ops->destroy(p);
}
