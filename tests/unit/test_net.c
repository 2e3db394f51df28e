/* The network device: its features, its link, its life. */
#include <criterion/criterion.h>
#include <errno.h>
#include <unistd.h>

#include "tests/unit/net_device_rig.h"

TestSuite(net, .init = setup, .fini = teardown, .timeout = 60);

/* --- features --- */

Test(net, offers_what_its_port_can_pass)
{
	uint64_t f;

	net_rig_make(&r);
	f = net_rig_offered(&r);
	cr_assert_eq(f & FAKE_PORT_FEATURES, FAKE_PORT_FEATURES);
	cr_assert(f & BIT(VIRTIO_NET_F_MAC));
	cr_assert(f & BIT(VIRTIO_NET_F_STATUS));
	cr_assert(f & MRG);
	cr_assert(f & BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	cr_assert_not(f & BIT(VIRTIO_NET_F_MQ));
	cr_assert_not(f & BIT(VIRTIO_NET_F_MTU));
	cr_assert_not(f & (BIT(VIRTIO_NET_F_RSS) | BIT(VIRTIO_NET_F_HASH_REPORT)));
}

Test(net, offers_no_offloads_over_a_port_without)
{
	r.port[0].features = 0;
	net_rig_make(&r);
	cr_assert_not(net_rig_offered(&r) & (FAKE_PORT_FEATURES | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)));
}

Test(net, offers_what_all_its_ports_can_pass)
{
	r.config.npairs = 2;
	r.port[1].features &= ~BIT(VIRTIO_NET_F_HOST_USO);
	net_rig_make(&r);
	cr_assert_not(net_rig_offered(&r) & BIT(VIRTIO_NET_F_HOST_USO));
	cr_assert(net_rig_offered(&r) & BIT(VIRTIO_NET_F_MQ));
}

Test(net, hides_what_needs_a_hidden_feature)
{
	r.config.npairs = 2;
	r.config.hidden = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_CTRL_VQ);
	net_rig_make(&r);
	cr_assert_not(net_rig_offered(&r) &
		      (FAKE_PORT_FEATURES | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_RX) |
		       BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |
		       BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA)));
	cr_assert_eq(r.dev->nqueues, 4);
}

Test(net, refuses_features_without_what_they_need)
{
	static const uint64_t bad[] = {
		BIT(VIRTIO_NET_F_HOST_TSO4),
		BIT(VIRTIO_NET_F_HOST_TSO6),
		BIT(VIRTIO_NET_F_HOST_USO),
		BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_ECN),
		BIT(VIRTIO_NET_F_GUEST_TSO4),
		BIT(VIRTIO_NET_F_GUEST_TSO6),
		BIT(VIRTIO_NET_F_GUEST_USO4),
		BIT(VIRTIO_NET_F_GUEST_USO6),
		BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_ECN),
		BIT(VIRTIO_NET_F_CTRL_RX),
		BIT(VIRTIO_NET_F_CTRL_VLAN),
		BIT(VIRTIO_NET_F_GUEST_ANNOUNCE),
		BIT(VIRTIO_NET_F_MQ),
		BIT(VIRTIO_NET_F_CTRL_MAC_ADDR),
	};

	r.config.npairs = 2;
	net_rig_make(&r);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(net_rig_negotiate(&r, bad[i]), "%#llx", (unsigned long long)bad[i]);
	cr_assert(net_rig_negotiate(&r, TSO | BIT(VIRTIO_NET_F_GUEST_ECN)));
	cr_assert(net_rig_negotiate(&r, net_rig_offered(&r) & ~BIT(VIRTIO_F_RING_PACKED)));
}

Test(net, tells_the_port_what_was_accepted_and_takes_it_back_on_reset)
{
	net_rig_make(&r);
	cr_assert_eq(r.port[0].accepted, 0);
	cr_assert(net_rig_negotiate(&r, TSO | MRG));
	cr_assert_eq(r.port[0].accepted, TSO);
	cr_assert_eq(r.port[0].hdr_len, HDR);
	net_rig_reset(&r);
	cr_assert_eq(r.port[0].accepted, 0);
}

Test(net, refuses_features_its_port_cannot_set)
{
	net_rig_make(&r);
	r.port[0].set_features_err = -EIO;
	cr_assert_not(net_rig_negotiate(&r, TSO));
}

Test(net, shows_address_link_pairs_and_mtu)
{
	static const uint8_t want[] = {2, 0, 0, 0, 0, 0x11, VIRTIO_NET_S_LINK_UP, 0, 3, 0, 0x28, 0x23, 0, 0};
	uint8_t got[sizeof(want)];

	r.config.npairs = 3;
	r.config.mtu = 9000;
	net_rig_make(&r);
	cr_assert(net_rig_offered(&r) & BIT(VIRTIO_NET_F_MTU));
	virtio_config_read(r.dev, 0, got, sizeof(got));
	cr_assert_eq(memcmp(got, want, sizeof(want)), 0);
}

Test(net, makes_up_an_address_of_its_own)
{
	uint8_t mac[6];

	memset(r.config.mac, 0, 6);
	net_rig_make(&r);
	virtio_config_read(r.dev, 0, mac, 6);
	cr_assert_eq(mac[0], 2);
	cr_assert(mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

Test(net, explains_a_configuration_it_cannot_have)
{
	struct net_config good, c;
	struct evloop *loops[1] = {r.loop};
	struct net_port *ports[1] = {&r.port[0].port};
	struct err e = {0};

	r.config.loops = loops;
	r.config.ports = ports;
	good = r.config;
	c = good;
	c.mac[0] = 1;
	cr_assert_null(net_new(&c, &e));
	cr_assert(strstr(e.text, "mac="));
	c = good;
	c.queue_size = 100;
	cr_assert_null(net_new(&c, &e));
	cr_assert(strstr(e.text, "queue-size="));
	c = good;
	c.npairs = 32;
	cr_assert_null(net_new(&c, &e));
	cr_assert(strstr(e.text, "queues="));
	c = good;
	c.mtu = 67;
	cr_assert_null(net_new(&c, &e));
	cr_assert(strstr(e.text, "mtu="));
	r.port[0].set_features_err = -EIO;
	cr_assert_null(net_new(&good, &e));
	cr_assert_not(r.port[0].destroyed);
	r.config.loops = NULL;
}

/* --- link --- */

Test(net, link_down_is_told_and_drops_frames_both_ways)
{
	uint32_t len;

	start(BIT(VIRTIO_NET_F_STATUS));
	net_rig_give_buffers(&r, RX, 4, 1000);
	net_set_link(r.dev, false);
	net_set_link(r.dev, false);
	cr_assert_eq(r.transport.config_irqs, 1);
	cr_assert_eq(net_rig_status(&r), 0);
	give(HDR + 100, 1);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, &len, 1), 0);
	cr_assert_eq(fake_port_waiting(&r.port[0]), 0);
	cr_assert_eq(collect(TX, &len, 1), 1);
	cr_assert_null(fake_port_take(&r.port[0]));
	net_set_link(r.dev, true);
	cr_assert_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
	give(HDR + 100, 1);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, &len, 1), 1);
}

Test(net, a_port_that_ends_takes_the_link_down_for_good)
{
	uint32_t len;

	start(BIT(VIRTIO_NET_F_STATUS));
	net_rig_give_buffers(&r, RX, 4, 1000);
	net_rig_settle(&r);
	fake_port_end(&r.port[0], -EBADFD);
	cr_assert_eq(net_rig_status(&r), 0);
	cr_assert_eq(r.transport.config_irqs, 1);
	cr_assert_not(r.port[0].enabled);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_settle(&r);
	cr_assert_eq(collect(TX, &len, 1), 1);
	net_set_link(r.dev, true);
	cr_assert_eq(net_rig_status(&r), 0);
	r.port[0].set_features_err = -EBADFD;
	net_rig_start(&r, 0);
	cr_assert_eq(r.port[0].attaches, 1);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_settle(&r);
	cr_assert_eq(collect(TX, &len, 1), 1);
	cr_assert_not(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

Test(net, a_port_that_fails_to_read_takes_the_link_down)
{
	start(BIT(VIRTIO_NET_F_STATUS));
	net_rig_give_buffers(&r, RX, 4, 1000);
	net_rig_settle(&r);
	r.port[0].recv_err = -EIO;
	give(HDR + 100, 1);
	net_rig_settle(&r);
	cr_assert_eq(net_rig_status(&r), 0);
	cr_assert_not(r.port[0].enabled);
}

Test(net, a_port_that_cannot_be_attached_fails_the_device)
{
	net_rig_make(&r);
	r.port[0].attach_err = -EIO;
	net_rig_start(&r, 0);
	cr_assert(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	r.port[0].attach_err = 0;
	net_rig_start(&r, 0);
	cr_assert_not(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* --- life --- */

Test(net, one_queue_can_be_reset_alone)
{
	uint32_t len[4];

	net_rig_make(&r);
	r.ring_features = BIT(VIRTIO_F_RING_RESET);
	net_rig_start(&r, MRG);
	net_rig_give_buffers(&r, RX, 8, 300);
	give(HDR + 500, 1);
	net_rig_settle(&r);
	virtio_lock(r.dev);
	virtio_queue_reset(r.dev, RX);
	virtio_unlock(r.dev);
	cr_assert_eq(r.port[0].detaches, 0);
	cr_assert_not(r.port[0].enabled);
	transmit_frame(HDR + 60, 1);
	net_rig_kick(&r, TX);
	net_rig_turn(&r);
	expect_sent(HDR + 60, 1);
	driver_ring_fini(&r.ring[RX]);
	net_rig_queue(&r, RX, 64);
	net_rig_give_buffers(&r, RX, 8, 300);
	give(HDR + 500, 2);
	net_rig_settle(&r);
	cr_assert_eq(collect(RX, len, 4), 2);
	cr_assert_eq(r.port[0].attaches, 1);
}

Test(net, starts_and_stops_a_hundred_times_with_buffers_out)
{
	int fd, first;

	net_rig_make(&r);
	first = dup(0);
	close(first);
	for (unsigned i = 0; i < 100; i++) {
		uint32_t len[4];

		net_rig_start(&r, i % 2 ? MRG : 0);
		net_rig_give_buffers(&r, RX, 8, 400);
		give(HDR + 200, 1);
		net_rig_settle(&r);
		cr_assert_eq(collect(RX, len, 4), 1);
	}
	net_rig_reset(&r);
	fd = dup(0);
	cr_assert_eq(fd, first); /* no descriptor stays behind */
	close(fd);
	cr_assert_eq(r.port[0].attaches, 100);
	cr_assert_eq(r.port[0].detaches, 100);
}

Test(net, ignores_queues_that_mean_nothing_with_these_features)
{
	r.config.npairs = 3;
	net_rig_make(&r);
	net_rig_negotiate(&r, 0);
	for (unsigned q = 0; q < 7; q++)
		net_rig_queue(&r, q, 64);
	net_rig_driver_ok(&r);
	net_rig_give_buffers(&r, 4, 8, 400);
	net_rig_settle(&r);
	cr_assert_eq(r.port[0].attaches, 1);
	cr_assert_eq(r.port[1].attaches, 0);
	cr_assert_eq(r.port[2].attaches, 0);
	cr_assert_not(virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

Test(net, destroys_its_ports_with_itself)
{
	start(0);
	virtio_fini(r.dev);
	r.dev->ops->destroy(r.dev);
	r.dev = NULL;
	cr_assert(r.port[0].destroyed);
}
