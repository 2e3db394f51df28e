/* A network device changes its datapath: there and back, what moves with it, a hundred times. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/unit/net_move_rig.h"
#include "tests/unit/open_fds.h"
#include "vmm/loop_thread.h"

TestSuite(net_move, .init = setup, .fini = teardown_once, .timeout = 20);

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

WholeTest(net_move, another_takes_over_the_same_ports_and_gives_them_back)
{
	there_and_back(0, false);
	cr_expect_eq(r.port[0].attaches, 2);
}

WholeTest(net_move, a_window_of_popped_buffers_is_handed_over)
{
	there_and_back(MRG | CTRL, false);
	/* The window had 4096 bytes of buffers and one frame had gone before it. */
	cr_expect_eq(remote.started[0].next, 1);
}

WholeTest(net_move, packed_rings_move_too)
{
	r.ring_features = BIT(VIRTIO_F_RING_PACKED);
	there_and_back(MRG, false);
	for (unsigned i = 0; i < 10; i++)
		expect_traffic(0, i);
}

WholeTest(net_move, another_takes_over_other_ports)
{
	there_and_back(0, true);
	cr_expect_eq(destroys[0], 1);
	cr_expect_eq(r.port[0].detaches, 1);
	cr_expect_eq(other[0].attaches, 1);
}

WholeTest(net_move, this_process_goes_on_over_other_ports)
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

WholeTest(net_move, one_remote_hands_over_to_another)
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

WholeTest(net_move, the_same_remote_goes_on_over_other_ports)
{
	r.config.remote = &remote.dp;
	start(1, 0);
	cr_assert_eq(move_over(&remote, other), 0, "%s", e.text);
	cr_expect_eq(remote.destroyed, 0);
	expect_traffic(0, 1);
	expect_no_buffer_lost(0);
}

/* Its pieces are in buffers that go back as they were. */
WholeTest(net_move, a_frame_that_waits_for_buffers_costs_none)
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

WholeTest(net_move, pairs_that_take_part_do_so_over_the_new_ports)
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

WholeTest(net_move, offloads_that_the_driver_turned_off_stay_off)
{
	uint8_t off[10] = {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET};

	start(1, CTRL | OFFLOADS | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	cr_assert_eq(net_rig_command(&r, 2, off, sizeof(off)), VIRTIO_NET_OK);
	cr_assert_eq(move_over(&remote, other), 0, "%s", e.text);
	cr_expect_eq(other[0].accepted, BIT(VIRTIO_NET_F_CSUM));
}

WholeTest(net_move, filters_hold_afterwards)
{
	r.config.remote = &remote.dp;
	start(1, CTRL | RX_MODE);
	cr_assert_eq(command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	cr_expect_not(comes_in(0, 1)); /* for 00:00:00:00:00:00 */
	cr_expect_eq(net_counters(r.dev, 0)->rx_filtered, 1);
}

WholeTest(net_move, a_link_that_was_put_down_stays_down)
{
	start(1, STATUS);
	net_set_link(r.dev, false);
	cr_assert_eq(move_over(NULL, other), 0, "%s", e.text);
	cr_expect_eq(net_rig_status(&r), 0);
	cr_expect_not(comes_in(0, 1));
}

WholeTest(net_move, the_driver_is_asked_to_announce_itself)
{
	start(1, CTRL | STATUS | ANNOUNCE);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	cr_expect_eq(r.transport.config_irqs, 1);
	cr_expect_eq(command(2, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK), VIRTIO_NET_OK);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
}

WholeTest(net_move, a_driver_that_cannot_announce_is_not_disturbed)
{
	start(1, CTRL | STATUS);
	cr_assert_eq(move(&remote), 0, "%s", e.text);
	cr_expect_eq(net_rig_status(&r), VIRTIO_NET_S_LINK_UP);
	cr_expect_eq(r.transport.config_irqs, 0);
}

WholeTest(net_move, a_link_whose_port_had_gone_comes_up_over_a_good_one)
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

WholeTest(net_move, over_the_same_port_a_link_that_had_gone_stays_down)
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

WholeTest(net_move, the_end_of_the_one_before_is_not_the_devices)
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

WholeTest(net_move, the_one_before_is_heard_again_when_the_new_does_not_start)
{
	r.config.remote = &remote.dp;
	start(1, 0);
	second.start_err = -EIO;
	cr_assert_eq(move(&second), -EIO);
	expect_traffic(0, 1);
	remote.dp.events->failed(remote.dp.opaque, -EPIPE);
	cr_expect(needs_reset());
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

WholeTest(net_move, a_hundred_moves_under_load_lose_no_frame_and_no_buffer)
{
	a_hundred_moves();
}

/* ... and it has to be waited for. */
WholeTest(net_move, a_hundred_moves_to_one_that_keeps_copies_of_eventfds)
{
	remote.offer.keeps_fds = true;
	remote.offer.drains = false;
	a_hundred_moves();
}
