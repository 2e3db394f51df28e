/* A vhost-user back end that behaves: what it is asked and told, and who walks the rings when. */
#include "tests/fake/datapath_conformance.h"
#include "tests/unit/vhost_user_rig.h"

TestSuite(vhost_user, .init = rig_init, .fini = rig_fini, .timeout = 60);

/* --- what is offered --- */

static struct datapath_offer offered(void)
{
	struct datapath_offer o = {0};

	cr_assert_eq(rig.dp->ops->offer(rig.dp, &o), 0);
	return o;
}

Test(vhost_user, bit_30_and_the_iommu_reach_no_driver)
{
	rig.peer_config.features |= BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(26) | BIT(VIRTIO_NET_F_CSUM);
	rig_make();
	cr_expect_eq(offered().features, PACKED | BIT(VIRTIO_NET_F_CSUM));
}

Test(vhost_user, net_is_silent_on_what_the_control_queue_does)
{
	struct datapath_offer o;

	rig_make();
	o = offered();
	cr_expect_not(o.opinion &
		      (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_STATUS)));
	cr_expect(o.opinion & BIT(VIRTIO_NET_F_MRG_RXBUF));
	cr_expect(o.drains && o.keeps_fds);
}

Test(vhost_user, offloads_cannot_be_switched_while_rings_run)
{
	rig.peer_config.features |= BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	rig_make();
	cr_expect_not(offered().features & BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	cr_expect(offered().opinion & BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
}

Test(vhost_user, another_device_has_an_opinion_on_all_its_bits)
{
	rig.config.device_type = VIRTIO_ID_BLOCK;
	rig.peer_config.features |= BIT(5) | BIT(60);
	rig_make();
	cr_expect_eq(offered().features & ~SPLIT, BIT(VIRTIO_F_RING_PACKED) | BIT(5) | BIT(60));
	cr_expect_eq(offered().opinion & 0xffffff, 0xffffffu);
	cr_expect_not(offered().drains);
}

Test(vhost_user, tracked_queues_are_not_reset_alone)
{
	rig.config.device_type = VIRTIO_ID_BLOCK;
	rig.peer_config.features |= BIT(VIRTIO_F_RING_RESET);
	rig.peer_config.protocol = P(INFLIGHT_SHMFD);
	rig_make();
	cr_expect_not(offered().features & BIT(VIRTIO_F_RING_RESET));
}

Test(vhost_user, net_counts_pairs)
{
	rig.peer_config.queues = 3;
	rig.config.nqueues = 6;
	rig_make();
	cr_expect_eq(offered().max_queues, 6);
}

Test(vhost_user, without_a_number_it_has_as_many_queues_as_the_back_end)
{
	rig.peer_config.queues = 5;
	rig.config.device_type = VIRTIO_ID_FS;
	rig.config.nqueues = 0;
	rig_make();
	cr_expect_eq(offered().max_queues, 5);
}

Test(vhost_user, without_a_number_and_without_mq_it_has_one_queue)
{
	rig.peer_config.protocol = 0;
	rig.config.device_type = VIRTIO_ID_RNG;
	rig.config.nqueues = 0;
	rig_make();
	cr_expect_eq(offered().max_queues, 1);
}

Test(vhost_user, too_few_queues_are_refused_with_a_sentence)
{
	rig.config.nqueues = 4;
	rig.peer_config.protocol = 0;
	rig_peer();
	cr_expect_eq(rig_try_new(), -EINVAL);
	cr_expect(strstr(rig.e.text, "has 2 queues, not 4"), "%s", rig.e.text);
}

Test(vhost_user, more_regions_than_it_takes_are_refused_with_a_sentence)
{
	rig.config.mem = &rig.m.mem;
	rig_rings();
	rig.peer_config.protocol = P_ALL;
	rig.peer_config.mem_slots = 1;
	rig_peer();
	cr_expect_eq(rig_try_new(), -ENOSPC);
	cr_expect(strstr(rig.e.text, "takes 1 regions of memory, and there are 2"), "%s", rig.e.text);
}

Test(vhost_user, memory_that_cannot_be_shared_is_refused_with_a_sentence)
{
	rig.config.mem = &rig.m.mem;
	rig_peer();
	cr_expect_eq(rig_try_new(), -EINVAL);
	cr_expect(strstr(rig.e.text, "share=off"), "%s", rig.e.text);
}

Test(vhost_user, only_what_both_know_is_agreed_on)
{
	rig.peer_config.protocol = P_ALL | BIT(1) | BIT(8) | BIT(14) | BIT(40);
	rig_make();
	/* net: no configuration space there, nothing to track, and no MTU was given */
	cr_expect_eq(peer_value(rig.peer, VHOST_USER_SET_PROTOCOL_FEATURES),
		     P_ALL & ~(P(CONFIG) | P(INFLIGHT_SHMFD) | P(NET_MTU)));
}

/* --- what it is told --- */

Test(vhost_user, nothing_is_probed)
{
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_expect_eq(peer_connections(rig.peer), 1);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_SET_OWNER), 1);
}

Test(vhost_user, features_carry_bit_30_and_only_what_it_offered)
{
	rig.accepted = SPLIT | BIT(VIRTIO_NET_F_MAC);
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_expect_eq(peer_value(rig.peer, VHOST_USER_SET_FEATURES), SPLIT | PROTOCOL);
}

Test(vhost_user, memory_is_told_once_a_connection)
{
	rig_make();
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(rig_start(), 0);
		rig_stop();
	}
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_SET_MEM_TABLE), 1);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_SET_FEATURES), 3);
}

Test(vhost_user, memory_that_changed_is_told_again)
{
	rig.peer_config.protocol = P_ALL;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	rig_stop();
	rig.m.mem.nregions = 1;
	cr_assert_eq(rig_start(), 0);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_REM_MEM_REG), 2);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_ADD_MEM_REG), 3);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_SET_MEM_TABLE), 0);
	cr_expect(rig_traffic(0, 3));
	rig_stop();
}

Test(vhost_user, a_packed_position_is_told_for_both_halves)
{
	rig.accepted = PACKED;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_expect_eq(peer_queue_value(rig.peer, VHOST_USER_SET_VRING_BASE, 1), 0x80008000u);
	cr_expect(rig_traffic(1, 5));
	rig_stop();
	cr_expect_eq(rig.side[1].q.next, rig.side[1].ring.avail_pos);
	cr_assert_eq(rig_start(), 0);
	cr_expect_eq(peer_queue_value(rig.peer, VHOST_USER_SET_VRING_BASE, 1),
		     rig.side[1].ring.avail_pos * 0x10001u);
	rig_stop();
}

Test(vhost_user, the_mtu_is_told_if_the_driver_took_it)
{
	rig.config.mtu = 9000;
	rig.peer_config.features |= BIT(VIRTIO_NET_F_MTU);
	rig.peer_config.protocol = P_ALL;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_NET_SET_MTU), 0);
	rig_stop();
	rig.accepted |= BIT(VIRTIO_NET_F_MTU);
	cr_assert_eq(rig_start(), 0);
	cr_expect_eq(peer_value(rig.peer, VHOST_USER_NET_SET_MTU), 9000);
	rig_stop();
}

Test(vhost_user, the_status_goes_up_and_comes_down)
{
	rig.peer_config.protocol = P(STATUS) | P(REPLY_ACK);
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_expect_eq(peer_value(rig.peer, VHOST_USER_SET_STATUS), 15);
	rig_stop();
	cr_expect_eq(peer_value(rig.peer, VHOST_USER_SET_STATUS), 0);
}

Test(vhost_user, the_device_is_reset_when_its_last_queue_has_stopped)
{
	rig.peer_config.protocol = P(RESET_DEVICE) | P(REPLY_ACK);
	rig_make();
	cr_assert_eq(rig_start(), 0);
	rig_transit(false, 1, 1);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_RESET_DEVICE), 0);
	rig_transit(false, 0, 1);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_RESET_DEVICE), 1);
}

Test(vhost_user, without_bit_30_rings_start_enabled)
{
	rig.peer_config.features = SPLIT;
	rig.config.wait_ms = 0;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 3) && rig_traffic(1, 3));
	rig_stop();
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_GET_PROTOCOL_FEATURES), 0);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_SET_VRING_ENABLE), 0);
}

Test(vhost_user, without_acknowledgements_a_start_still_waits_until_it_is_done)
{
	rig.peer_config.protocol = P(MQ);
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_GET_FEATURES), 2);
	cr_expect(rig_traffic(0, 3));
	rig_stop();
}

/* --- pairs --- */

static struct net_port *port_of(unsigned pair)
{
	struct net_port *p = vhost_user_port(rig.dp, pair);

	cr_assert(p);
	return p;
}

Test(vhost_user, a_second_pair_runs_when_it_is_switched_on)
{
	struct net_port *p;

	rig.nqueues = rig.config.nqueues = 4;
	rig_make();
	p = port_of(1);
	cr_assert_eq(p->ops->set_active(p, false), 0);
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 3) && rig_traffic(1, 3));
	rig_add(2);
	usleep(2000);
	cr_expect_eq(rig_collect(2), 0);
	cr_assert_eq(p->ops->set_active(p, true), 0);
	cr_expect(rig_all_back(2) && rig_traffic(3, 3));
	cr_assert_eq(p->ops->set_active(p, false), 0);
	cr_expect_eq(peer_queue_value(rig.peer, VHOST_USER_SET_VRING_ENABLE, 3), 0);
	rig_stop();
	p->ops->destroy(p);
}

Test(vhost_user, a_pair_switched_on_while_stopped_starts_enabled)
{
	struct net_port *p;

	rig.nqueues = rig.config.nqueues = 4;
	rig_make();
	p = port_of(1);
	cr_assert_eq(p->ops->set_active(p, true), 0);
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(3, 3));
	rig_stop();
	p->ops->destroy(p);
}

Test(vhost_user, a_port_may_outlive_its_datapath)
{
	struct net_port *p;

	rig_make();
	p = port_of(0);
	rig_destroy();
	p->ops->destroy(p);
}

/* --- stopping --- */

Test(vhost_user, one_that_took_requests_and_kept_them_is_disconnected_at_stop)
{
	rig.config.device_type = VIRTIO_ID_BLOCK;
	rig.peer_config.hold = true;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	rig_stop();
	cr_expect(rig.side[0].q.lost);
	cr_expect_not(rig.side[1].q.lost);
	cr_expect_eq(peer_connections(rig.peer), 2, "and a new handshake shows that they ended");
	cr_expect(rig_info().connected);
	cr_expect_eq(rig.failed, 0);
	peer_hold(rig.peer, false);
	rig_rings();
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 3));
	rig_stop();
}

Test(vhost_user, what_it_has_not_taken_costs_no_connection)
{
	struct rig_side *s = &rig.side[0];
	const struct driver_buf buf = {rig.buf, 16, true};

	rig.config.device_type = VIRTIO_ID_CONSOLE;
	rig.peer_config.protocol |= P(CONFIG);
	rig.peer_config.config_len = 12;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 3));
	cr_assert_geq(driver_ring_add(&s->ring, &buf, 1), 0);
	driver_ring_kick(&s->ring); /* in the ring, and nobody is told */
	rig_stop();
	cr_expect_eq(peer_connections(rig.peer), 1);
	cr_expect_not(rig.side[0].q.lost);
}

Test(vhost_user, held_frames_are_no_reason_to_disconnect)
{
	rig.peer_config.hold = true;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	rig_add(0);
	cr_assert(eventually(peer_held(rig.peer) == 1));
	rig_stop();
	cr_expect_eq(peer_connections(rig.peer), 1);
	cr_expect_eq(rig.side[0].q.next, 0, "the frame is sent again");
	peer_hold(rig.peer, false);
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_all_back(0));
	rig_stop();
}

static void packed_lie(uint32_t base)
{
	rig.accepted = PACKED;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	peer_lie(rig.peer, base);
	rig_stop();
	cr_expect(rig.side[0].q.lost);
	cr_expect_not(rig_info().connected);
}

Test(vhost_user, a_packed_position_beyond_the_ring_ends_the_connection)
{
	packed_lie(RING_SIZE);
}

Test(vhost_user, so_does_a_used_one)
{
	packed_lie((0x8000u | RING_SIZE) << 16 | 0x8000);
}

Test(vhost_user, so_does_an_available_one)
{
	packed_lie(0x8000u << 16 | 0x8000 | RING_SIZE);
}

Test(vhost_user, a_split_position_that_is_a_lie_is_not_believed)
{
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_assert(rig_traffic(0, 5));
	peer_lie(rig.peer, 0xdeadbeef);
	rig_stop();
	cr_expect_eq(rig.side[0].q.next, 5);
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 5));
	rig_stop();
}

/* --- configuration space --- */

static const uint8_t capacity[60] = {0, 1, 2, 3, 4, 5, 6, 7, [59] = 9};

static void make_blk(void)
{
	rig.config.device_type = VIRTIO_ID_BLOCK;
	rig.peer_config.protocol = P_ALL;
	rig.peer_config.config = capacity;
	rig.peer_config.config_len = sizeof(capacity);
	rig_make();
}

Test(vhost_user, its_configuration_space_is_read)
{
	uint8_t got[60] = {0};

	make_blk();
	cr_expect_eq(offered().config_len, 60);
	cr_assert_eq(rig.dp->ops->config_read(rig.dp, 0, got, sizeof(got)), 0);
	cr_expect_eq(memcmp(got, capacity, sizeof(got)), 0);
	cr_expect_eq(rig.dp->ops->config_read(rig.dp, 59, got, 2), -EINVAL);
	cr_expect_eq(rig.dp->ops->config_read(rig.dp, SIZE_MAX, got, 2), -EINVAL);
	cr_expect_eq(peer_count(rig.peer, VHOST_USER_GET_CONFIG), 1, "reads do not wait for it");
}

Test(vhost_user, its_configuration_space_is_written)
{
	uint8_t got[60], v = 77;

	make_blk();
	cr_assert_eq(rig.dp->ops->config_write(rig.dp, 32, &v, 1), 0);
	peer_config_seen(rig.peer, got);
	cr_expect_eq(got[32], 77);
	cr_assert_eq(rig.dp->ops->config_read(rig.dp, 32, got, 1), 0);
	cr_expect_eq(got[0], 77);
	cr_expect_eq(rig.dp->ops->config_write(rig.dp, 60, &v, 1), -EINVAL);
}

Test(vhost_user, a_change_that_it_announces_is_passed_on)
{
	uint8_t changed[60] = {42}, got[60] = {0};

	make_blk();
	peer_set_config(rig.peer, changed);
	cr_expect_eq(peer_request(rig.peer, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, true, 0, 0), 0);
	cr_assert(eventually(rig.config_changed == 1));
	cr_assert_eq(rig.dp->ops->config_read(rig.dp, 0, got, sizeof(got)), 0);
	cr_expect_eq(got[0], 42);
}

Test(vhost_user, a_change_is_passed_on_without_an_answer_too)
{
	make_blk();
	cr_expect_eq(peer_request(rig.peer, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, false, 0, 0), -1);
	cr_assert(eventually(rig.config_changed == 1));
}

Test(vhost_user, requests_nobody_knows_are_answered_with_an_error)
{
	make_blk();
	cr_expect_gt(peer_request(rig.peer, 3, true, 1, 24), 0);
	cr_expect_gt(peer_request(rig.peer, 99, true, 0, 0), 0);
	cr_expect(rig_info().connected);
}

Test(vhost_user, descriptors_that_come_by_the_channel_are_closed)
{
	unsigned before;

	make_blk();
	before = open_fds();
	for (unsigned i = 0; i < 20; i++)
		cr_expect_eq(peer_request(rig.peer, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, true, 8, 0), 0);
	cr_expect_eq(open_fds(), before);
}

Test(vhost_user, nonsense_on_the_channel_ends_the_connection)
{
	make_blk();
	peer_request(rig.peer, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, false, 0, 1u << 20);
	cr_expect(eventually(!rig_info().connected));
}

/* --- getting there --- */

static void *later(void *arg)
{
	(void)arg;
	usleep(30000);
	rig_peer();
	return NULL;
}

Test(vhost_user, a_back_end_that_starts_later_is_waited_for)
{
	pthread_t t;

	pthread_create(&t, NULL, later, NULL);
	cr_expect_eq(rig_try_new(), 0, "%s", rig.e.text);
	pthread_join(t, NULL);
}

Test(vhost_user, one_that_never_comes_is_said_with_what_to_do)
{
	rig.config.wait_ms = 0;
	cr_expect_eq(rig_try_new(), -ENOENT);
	cr_expect(strstr(rig.e.text, "there is no socket at path=") && strstr(rig.e.text, "wait=SECONDS"));
}

Test(vhost_user, a_server_takes_who_connects)
{
	rig.config.server = rig.peer_config.connects = true;
	rig_make();
	cr_assert_eq(rig_start(), 0);
	cr_expect(rig_traffic(0, 3));
	rig_stop();
	rig_destroy();
	cr_expect_neq(access(rig.path, F_OK), 0, "its socket goes with it");
}

Test(vhost_user, a_server_nobody_connects_to_gives_up)
{
	rig.config.server = true;
	rig.config.wait_ms = 20;
	cr_expect_eq(rig_try_new(), -EAGAIN);
	cr_expect(strstr(rig.e.text, "no back end has connected"), "%s", rig.e.text);
	cr_expect_neq(access(rig.path, F_OK), 0);
}

Test(vhost_user, a_server_takes_no_socket_from_who_listens)
{
	rig_peer();
	rig.config.server = true;
	cr_expect_eq(rig_try_new(), -EADDRINUSE);
	cr_expect_eq(access(rig.path, F_OK), 0);
}

Test(vhost_user, a_socket_left_over_is_replaced)
{
	char other[80];

	snprintf(other, sizeof(other), "%s-old", rig.path);
	rig_peer();
	cr_assert_eq(link(rig.path, other), 0); /* outlives its maker */
	peer_free(rig.peer);
	rig.peer = NULL;
	cr_assert_eq(rename(other, rig.path), 0);
	rig.config.server = true;
	rig.config.wait_ms = 0;
	cr_expect_eq(rig_try_new(), -EAGAIN, "%s", rig.e.text);
}

/* --- conformance --- */

static void make_shared(void *opaque, const struct guest_mem *mem)
{
	(void)opaque;
	share(mem, rig.memfd);
}

static void conforms(uint32_t device_type, uint64_t features, uint64_t protocol, unsigned nqueues)
{
	struct datapath_conformance c = {
		.loop = rig.t.loop,
		.features = features,
		.nqueues = nqueues,
		.size = RING_SIZE,
		.rounds = 100,
		.memory = make_shared,
	};
	const char *fault;

	rig.config.device_type = device_type;
	rig.config.nqueues = nqueues;
	rig.peer_config.protocol = protocol;
	rig.peer_config.config_len = 60;
	rig_peer();
	cr_assert_eq(rig_try_new(), 0, "%s", rig.e.text);
	if (device_type == VIRTIO_ID_NET && nqueues > 2) {
		struct net_port *p = port_of(1);

		p->ops->set_active(p, true);
		p->ops->destroy(p);
	}
	c.dp = rig.dp;
	fault = datapath_conforms(&c);
	cr_expect_null(fault, "%s", fault);
	cr_expect_eq(peer_connections(rig.peer), 1);
	cr_expect_eq(rig.failed, 0);
}

Test(vhost_user, net_conforms_split)
{
	conforms(VIRTIO_ID_NET, SPLIT, P(MQ) | P(REPLY_ACK), 4);
}

Test(vhost_user, net_conforms_packed)
{
	conforms(VIRTIO_ID_NET, PACKED, P_ALL, 2);
}

Test(vhost_user, net_conforms_without_protocol_features)
{
	rig.peer_config.features = SPLIT;
	conforms(VIRTIO_ID_NET, SPLIT, 0, 2);
}

Test(vhost_user, blk_conforms_split)
{
	conforms(VIRTIO_ID_BLOCK, SPLIT, P_ALL, 2);
}

Test(vhost_user, blk_conforms_packed)
{
	rig.peer_config.high_half = true;
	conforms(VIRTIO_ID_BLOCK, PACKED, P_ALL, 3);
}

Test(vhost_user, blk_conforms_with_nothing_but_the_core_of_the_protocol)
{
	conforms(VIRTIO_ID_BLOCK, SPLIT, 0, 2);
}
