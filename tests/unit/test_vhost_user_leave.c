/* A vhost-user back end that is hung up on while it may have the rings in its hands. */
#include "tests/unit/vhost_user_rig.h"

#define LEAVE_MS 400 /* a machine with much to do answers within */

static void init(void)
{
	rig_init();
	rig.config.reply_ms = LEAVE_MS;
	rig.config.reconnect_ms = RECONNECT_MS;
}

TestSuite(vhost_user_leave, .init = init, .fini = rig_fini, .timeout = 60);

static bool lingers(void)
{
	return rig.dp->ops->lingers(rig.dp);
}

/* Stopped without an answer. */
static void leave_frozen(void)
{
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 3));
	peer_freeze(rig.peer, true);
	rig_stop();
}

Test(vhost_user_leave, one_that_answers_does_not_linger)
{
	rig_make();
	cr_assert_eq(rig_start(), 0);
	rig_stop();
	cr_expect_not(lingers());
	cr_expect_eq(rig.let_go, 0);
}

Test(vhost_user_leave, a_frozen_one_lingers_until_it_closes)
{
	leave_frozen();
	cr_expect(lingers());
	usleep(1000 * 2 * LEAVE_MS);
	cr_expect(lingers());
	peer_freeze(rig.peer, false);
	cr_expect(eventually(rig.let_go == 1));
	cr_expect_not(lingers());
	cr_expect(eventually(rig_info().connected));
	cr_expect_eq(peer_connections(rig.peer), 2, "nobody knocked meanwhile");
	rig_rings();
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 3));
	rig_stop();
	cr_expect_eq(rig.let_go, 1);
}

Test(vhost_user_leave, a_frozen_one_that_is_killed_lingers_no_more)
{
	leave_frozen();
	cr_expect(lingers());
	peer_free(rig.peer);
	rig.peer = NULL;
	cr_expect(eventually(rig.let_go == 1));
	cr_expect_not(lingers());
}

Test(vhost_user_leave, one_that_is_started_meanwhile_waits_for_it)
{
	leave_frozen();
	rig_rings();
	cr_assert_eq(rig_start(), 0, "it may come back");
	rig_add(0);
	usleep(20000);
	cr_expect_not(rig_info().connected);
	peer_freeze(rig.peer, false);
	cr_expect(rig_all_back(0));
	rig_stop();
}

Test(vhost_user_leave, one_that_never_got_a_queue_does_not_linger)
{
	rig_make();
	peer_script(rig.peer, VHOST_USER_SET_FEATURES, PEER_SILENT, 0);
	cr_expect_eq(rig_start(), -ETIMEDOUT);
	cr_expect_not(lingers());
}

Test(vhost_user_leave, one_that_fails_to_start_lingers)
{
	rig_make();
	peer_script(rig.peer, VHOST_USER_SET_VRING_ENABLE, PEER_SILENT, 0);
	peer_freeze(rig.peer, false);
	cr_expect_eq(rig_start(), -ETIMEDOUT);
	cr_expect(eventually(!lingers()), "it reads the end of the connection");
	cr_expect(eventually(rig_info().connected));
}

Test(vhost_user_leave, one_with_requests_in_flight_is_waited_for)
{
	rig.config.reply_ms = REPLY_MS;
	rig.config.device_type = VIRTIO_ID_BLOCK;
	rig_make();
	peer_hold(rig.peer, true);
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	rig_stop();
	cr_expect_not(lingers(), "it closed in time");
	cr_expect(rig_info().connected);
	cr_expect_eq(peer_connections(rig.peer), 2);
}

Test(vhost_user_leave, it_can_be_destroyed_while_one_lingers)
{
	unsigned before;

	rig_make();
	cr_assert_eq(rig_start(), 0);
	peer_freeze(rig.peer, true);
	rig_stop();
	cr_assert(lingers());
	before = open_fds();
	rig_destroy();
	cr_expect_eq(open_fds(), before - 4, "the connection and three timers");
	peer_freeze(rig.peer, false);
}

static bool drains(void)
{
	struct datapath_offer offer;

	cr_assert_eq(rig.dp->ops->offer(rig.dp, &offer), 0);
	return offer.drains;
}

/* A live change: what waits can be given to somebody else, what was taken cannot. */
Test(vhost_user_leave, one_that_died_idle_holds_nothing)
{
	rig.config.device_type = VIRTIO_ID_BLOCK;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 3));
	cr_expect_not(drains());
	peer_free(rig.peer);
	rig.peer = NULL;
	cr_assert(eventually(!rig_info().connected));
	rig_add(0);
	cr_expect(drains());
	rig_stop();
	cr_expect_not(rig.side[0].q.lost);
	cr_expect_eq(rig.side[0].q.next, 3);
}

Test(vhost_user_leave, one_that_died_busy_may_hold_requests)
{
	rig.config.device_type = VIRTIO_ID_BLOCK;
	rig_make();
	peer_hold(rig.peer, true);
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	peer_free(rig.peer);
	rig.peer = NULL;
	cr_assert(eventually(!rig_info().connected));
	cr_expect_not(drains());
	rig_stop();
}
