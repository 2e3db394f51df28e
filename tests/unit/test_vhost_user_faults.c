/* A vhost-user back end that answers every message in every wrong way there is: the device may stop, nothing
 * else, no descriptor stays open, and when the back end behaves again so does the device. */
#include "tests/unit/vhost_user_rig.h"

TestSuite(vhost_user_faults, .init = rig_init, .fini = rig_fini, .timeout = 120);

#define BLK BIT(0)
#define NET BIT(1)

static const struct {
	uint32_t request;
	unsigned types;
	bool unacknowledged; /* there is never an answer */
} messages[] = {
	{VHOST_USER_GET_FEATURES, BLK, false},
	{VHOST_USER_SET_FEATURES, BLK, false},
	{VHOST_USER_SET_OWNER, BLK, false},
	{VHOST_USER_SET_MEM_TABLE, NET, false},
	{VHOST_USER_SET_VRING_NUM, BLK, false},
	{VHOST_USER_SET_VRING_ADDR, BLK, false},
	{VHOST_USER_SET_VRING_BASE, BLK, false},
	{VHOST_USER_GET_VRING_BASE, BLK | NET, false},
	{VHOST_USER_SET_VRING_KICK, BLK, false},
	{VHOST_USER_SET_VRING_CALL, BLK, false},
	{VHOST_USER_GET_PROTOCOL_FEATURES, BLK, false},
	{VHOST_USER_SET_PROTOCOL_FEATURES, BLK, true},
	{VHOST_USER_GET_QUEUE_NUM, BLK, false},
	{VHOST_USER_SET_VRING_ENABLE, NET, false},
	{VHOST_USER_NET_SET_MTU, NET, false},
	{VHOST_USER_SET_BACKEND_REQ_FD, BLK, false},
	{VHOST_USER_GET_CONFIG, BLK, false},
	{VHOST_USER_SET_CONFIG, BLK, false},
	{VHOST_USER_GET_INFLIGHT_FD, BLK, false},
	{VHOST_USER_SET_INFLIGHT_FD, BLK, false},
	{VHOST_USER_RESET_DEVICE, BLK, false},
	{VHOST_USER_GET_MAX_MEM_SLOTS, BLK, false},
	{VHOST_USER_ADD_MEM_REG, BLK, false},
	{VHOST_USER_REM_MEM_REG, BLK, false},
	{VHOST_USER_SET_STATUS, BLK, false},
	{VHOST_USER_GET_STATUS, BLK, false},
};

#define NMESSAGES (sizeof(messages) / sizeof(messages[0]))

static void prepare(unsigned type, unsigned reply_ms)
{
	rig.config.device_type = type == NET ? VIRTIO_ID_NET : VIRTIO_ID_BLOCK;
	rig.config.mtu = 1400;
	rig.config.reply_ms = reply_ms;
	rig.config.reconnect_ms = RECONNECT_MS;
	rig.accepted = SPLIT | (type == NET ? BIT(VIRTIO_NET_F_MTU) : 0);
	rig.peer_config.features = PROTOCOL | PACKED | BIT(VIRTIO_NET_F_MTU);
	rig.peer_config.protocol = type == NET ? P_ALL & ~P(CONFIGURE_MEM_SLOTS) : P_ALL;
	rig.peer_config.config_len = 60;
	rig.m.next = 128 * 1024; /* rings of rounds before are not needed any more */
	rig.m.mem.nregions = 2;
	rig_rings();
	rig_peer();
}

/* A device's life, with every message in it.  True: nothing went wrong. */
static bool life(void)
{
	const uint8_t v = 1;
	bool fine = true;

	if (rig_start())
		return false;
	fine &= rig_traffic(0, 2) && rig_traffic(1, 2);
	if (rig.config.device_type == VIRTIO_ID_BLOCK)
		fine &= !rig.dp->ops->config_write(rig.dp, 32, &v, 1);
	rig_stop();
	rig.m.mem.nregions = 1;
	if (rig_start())
		fine = false;
	else
		rig_stop();
	rig.m.mem.nregions = 2;
	return fine && rig_info().connected && peer_connections(rig.peer) == 1;
}

/* The back end behaves from here on: so must the device, after some tries at most. */
static bool recovers(void)
{
	const uint64_t until = rig_now_ms() + 5000;

	peer_script(rig.peer, 0, PEER_OBEYS, 0);
	while (rig_now_ms() < until) {
		rig.m.next = 128 * 1024;
		rig_rings();
		if (!rig_start()) {
			bool fine = rig_traffic(0, 2) && rig_traffic(1, 2);

			rig_stop();
			if (fine)
				return true;
		}
		usleep(1000);
	}
	return false;
}

/* One whose thread has not run yet is silent too, so a deadline can pass before what was scripted comes. */
static bool behaves(void)
{
	peer_script(rig.peer, 0, PEER_OBEYS, 0);
	for (unsigned i = 0; !rig.dp && i < 20; i++)
		rig_try_new();
	return rig.dp && recovers();
}

static bool one_round(unsigned m, unsigned type, enum peer_fault fault, bool harmless)
{
	__attribute__((unused)) const char *name = vhost_user_request_name(messages[m].request);
	const uint64_t before = rig_now_ms();
	bool fine, sent;

	prepare(type, fault == PEER_SILENT ? SHORT_MS : REPLY_MS);
	peer_script(rig.peer, messages[m].request, fault, 0);
	fine = !rig_try_new();
	if (fine)
		fine = life();
	else
		cr_expect(strstr(rig.e.text, rig.path), "%s: %s", name, rig.e.text);
	cr_expect_eq(fine, harmless, "%s fault %d: %s", name, fault, harmless ? "harm" : "not noticed");
	sent = peer_count(rig.peer, messages[m].request);
	cr_expect(sent || fault == PEER_SILENT, "%s was never sent", name);
	cr_expect(behaves(), "%s fault %d: the device does not recover: %s", name, fault, rig.e.text);
	cr_expect_lt(rig_now_ms() - before, 10000, "%s fault %d", name, fault);
	rig_destroy();
	peer_free(rig.peer);
	rig.peer = NULL;
	return sent;
}

static void rounds(unsigned m, enum peer_fault fault, bool harmless)
{
	for (unsigned type = BLK; type <= NET; type <<= 1)
		for (unsigned i = 0; (messages[m].types & type) && i < 5; i++)
			if (one_round(m, type, fault, harmless))
				break;
}

static void every_message(enum peer_fault fault, bool harmless)
{
	unsigned before;

	prepare(BLK, REPLY_MS); /* what is made once is there */
	peer_free(rig.peer);
	rig.peer = NULL;
	before = open_fds();
	for (unsigned m = 0; m < NMESSAGES; m++)
		if (fault != PEER_SILENT || !messages[m].unacknowledged)
			rounds(m, fault, harmless || (messages[m].unacknowledged && fault != PEER_CLOSES));
	cr_expect_eq(open_fds(), before);
}

Test(vhost_user_faults, none)
{
	every_message(PEER_OBEYS, true);
}

Test(vhost_user_faults, answers_byte_by_byte_are_put_together)
{
	every_message(PEER_DRIPS, true);
}

Test(vhost_user_faults, descriptors_nobody_asked_for_are_closed)
{
	every_message(PEER_FDS, true);
}

Test(vhost_user_faults, closes)
{
	every_message(PEER_CLOSES, false);
}

Test(vhost_user_faults, is_silent)
{
	every_message(PEER_SILENT, false);
}

Test(vhost_user_faults, answers_with_too_little)
{
	every_message(PEER_SHORT, false);
}

Test(vhost_user_faults, answers_with_too_much)
{
	every_message(PEER_LONG, false);
}

Test(vhost_user_faults, announces_4_gib)
{
	every_message(PEER_HUGE, false);
}

Test(vhost_user_faults, answers_another_request)
{
	every_message(PEER_WRONG_ID, false);
}

Test(vhost_user_faults, answers_with_a_request)
{
	every_message(PEER_NO_REPLY, false);
}

Test(vhost_user_faults, speaks_another_version)
{
	every_message(PEER_WRONG_VERSION, false);
}

Test(vhost_user_faults, sends_more_descriptors_than_there_may_be)
{
	every_message(PEER_MANY_FDS, false);
}

/* A refusal is an answer: SET_PROTOCOL_FEATURES apart, which it can refuse only by closing; and at stop there
 * is nothing that a refusal could change. */
Test(vhost_user_faults, refuses)
{
	for (unsigned m = 0; m < NMESSAGES; m++)
		rounds(m, PEER_REFUSES, messages[m].request == VHOST_USER_RESET_DEVICE);
}

Test(vhost_user_faults, one_that_refuses_a_queue_lets_go_of_all)
{
	rig_make();
	peer_script(rig.peer, VHOST_USER_SET_VRING_ADDR, PEER_REFUSES, 1);
	cr_expect_eq(rig_start(), -EREMOTEIO);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_GET_VRING_BASE), 2);
	rig_add(0);
	eventfd_write(rig.side[0].q.kick_fd, 1);
	usleep(2000);
	cr_expect_eq(rig_collect(0), 0);
	cr_expect_eq(rig_start(), 0);
	cr_expect(rig_all_back(0));
	cr_expect_eq(peer_connections(rig.peer), 1);
	rig_stop();
}

Test(vhost_user_faults, takes_no_features)
{
	rig.peer_config.protocol = P(STATUS) | P(REPLY_ACK);
	rig_make();
	peer_script(rig.peer, VHOST_USER_GET_STATUS, PEER_ZERO, 0);
	cr_expect_eq(rig_start(), -EREMOTEIO);
	cr_expect_eq(rig_start(), 0);
	rig_stop();
}

Test(vhost_user_faults, answers_for_another_queue)
{
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 3));
	peer_script(rig.peer, VHOST_USER_GET_VRING_BASE, PEER_WRONG_QUEUE, 0);
	rig_stop();
	cr_expect_eq(rig.side[0].q.next, 3);
	cr_expect_not(rig_info().connected);
}

Test(vhost_user_faults, asks_before_it_answers)
{
	rig.config.device_type = VIRTIO_ID_BLOCK;
	rig.peer_config.protocol = P_ALL;
	rig.peer_config.config_len = 60;
	rig_make();
	peer_script(rig.peer, VHOST_USER_SET_FEATURES, PEER_ASKS, 0);
	cr_expect_eq(rig_start(), 0);
	cr_expect(eventually(rig.config_changed == 1));
	rig_stop();
}

/* --- what it says unasked --- */

Test(vhost_user_faults, a_word_that_nobody_asked_for_ends_the_connection)
{
	rig_make();
	cr_assert_eq(rig_start(), 0);
	peer_say(rig.peer, "hello", 5);
	cr_expect(eventually(rig.failed == 1));
	cr_expect_not(rig_info().connected);
	rig_stop();
}

Test(vhost_user_faults, two_answers_to_one_request_end_the_connection)
{
	struct vhost_user_msg m = {.request = VHOST_USER_GET_VRING_BASE,
				   .flags = VHOST_USER_VERSION | VHOST_USER_REPLY,
				   .size = 8};
	uint8_t twice[2 * VHOST_USER_HDR_LEN + 16];

	rig_make();
	memcpy(twice, &m, VHOST_USER_HDR_LEN);
	memcpy(twice + VHOST_USER_HDR_LEN, &m.u64, 8);
	memcpy(twice + VHOST_USER_HDR_LEN + 8, twice, VHOST_USER_HDR_LEN + 8);
	peer_say(rig.peer, twice, sizeof(twice));
	cr_expect(eventually(!rig_info().connected));
}

/* --- time --- */

Test(vhost_user_faults, bytes_that_come_too_slowly_run_into_the_deadline)
{
	rig.config.reply_ms = SHORT_MS;
	rig_make();
	peer_script(rig.peer, VHOST_USER_SET_FEATURES, PEER_CRAWLS, 0);
	cr_expect_eq(rig_start(), -ETIMEDOUT);
}

Test(vhost_user_faults, a_frozen_back_end_fails_the_start_in_time)
{
	uint64_t before;

	rig.config.reply_ms = SHORT_MS;
	rig_make();
	peer_freeze(rig.peer, true);
	before = rig_now_ms();
	cr_expect_eq(rig_start(), -ETIMEDOUT);
	cr_expect_lt(rig_now_ms() - before, 1000);
	peer_freeze(rig.peer, false);
}

Test(vhost_user_faults, a_frozen_back_end_does_not_keep_a_stop_waiting_for_ever)
{
	uint64_t before;

	rig.config.reply_ms = SHORT_MS;
	rig.config.reconnect_ms = RECONNECT_MS;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	peer_freeze(rig.peer, true);
	before = rig_now_ms();
	rig_stop();
	cr_expect_lt(rig_now_ms() - before, 1000);
	before = rig_now_ms();
	cr_expect_eq(rig_start(), 0, "it may come back");
	rig_stop();
	cr_expect_lt(rig_now_ms() - before, SHORT_MS, "and nobody waits for it meanwhile");
	peer_freeze(rig.peer, false);
	cr_expect(recovers());
}

/* --- many times --- */

Test(vhost_user_faults, no_descriptor_is_left_after_many_lives_and_deaths)
{
	unsigned before;

	prepare(BLK, REPLY_MS);
	cr_assert_eq(rig_try_new(), 0);
	cr_assert(recovers());
	before = open_fds();
	for (unsigned i = 0; i < 50; i++) {
		rig.m.next = 128 * 1024;
		rig_rings();
		cr_expect_eq(rig_start(), 0);
		peer_cut(rig.peer);
		rig_stop();
		cr_expect(eventually(rig_info().connected));
	}
	cr_assert(recovers());
	cr_expect_eq(open_fds(), before);
}
