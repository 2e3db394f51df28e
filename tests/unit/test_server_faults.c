/* ... and one that ends, or says what it should not. */
#include "tests/unit/test_server_rig.h"

#define ALL     (~0ull)
#define SET_ERR 14

TestSuite(server_faults, .init = init, .fini = fini, .timeout = 60);

/* --- it ends --- */

Test(server_faults, descriptors_stay_as_many_as_they_were)
{
	unsigned before = 0;

	for (unsigned i = 0; i < 20; i++) {
		begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
		cr_assert(traffic(0, 1));
		frontend_close(&t.f);
		while (t.running)
			usleep(100);
		usleep(2000);
		if (i == 1)
			before = count_fds();
	}
	cr_assert_eq(count_fds(), before);
	cr_assert_eq(t.starts, t.stops);
}

Test(server_faults, a_second_front_end_waits_for_the_first)
{
	struct frontend second;

	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	frontend_connect(&second, t.path);
	cr_assert(traffic(0, 3));
	frontend_close(&t.f);
	cr_assert_eq(frontend_greet(&second, BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK)), 0);
	frontend_close(&second);
}

Test(server_faults, memory_that_is_cut_off_ends_the_connection_only)
{
	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	cr_assert(traffic(0, 3));
	cr_assert_eq(ftruncate(t.f.mem_fd, 0), 0);
	eventfd_write(t.f.q[0].kick, 1);
	cr_assert(frontend_closed(&t.f));
	cr_assert_eq(t.running, 0);
	next_one_is_served();
}

Test(server_faults, a_broken_ring_is_told_by_the_err_descriptor)
{
	struct pollfd p = {.fd = -1, .events = POLLIN};

	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	driver_ring_offer(&t.f.q[0].ring, 999);
	frontend_kick(&t.f, 0);
	p.fd = t.f.q[0].err;
	cr_assert_eq(poll(&p, 1, 5000), 1);
	cr_assert_eq(frontend_stop(&t.f, 0), 0);
	next_one_is_served();
}

/* --- what it should not --- */

struct lie {
	const char *name;
	uint32_t request, size, flags;
	unsigned nfds;
	uint64_t word, word2;
};

/* Each ends the connection: nothing of it is to be believed. */
Test(server_faults, what_is_no_message_ends_the_connection)
{
	static const struct lie lies[] = {
		{"unknown", 99, 8, 1, 0, 0, 0},
		{"request 0", 0, 8, 1, 0, 0, 0},
		{"of another version", VHOST_USER_GET_FEATURES, 0, 2, 0, 0, 0},
		{"a reply", VHOST_USER_GET_FEATURES, 8, 5, 0, 0, 0},
		{"short", VHOST_USER_SET_FEATURES, 7, 1, 0, 0, 0},
		{"long", VHOST_USER_SET_FEATURES, 9, 1, 0, 0, 0},
		{"a get with something in it", VHOST_USER_GET_FEATURES, 8, 1, 0, 0, 0},
		{"a descriptor too many", VHOST_USER_SET_FEATURES, 8, 1, 1, 0, 0},
		{"many descriptors", VHOST_USER_SET_VRING_KICK, 8, 1, 8, 0, 0},
		{"no descriptor", VHOST_USER_SET_VRING_KICK, 8, 1, 0, 0, 0},
		{"a descriptor in spite of NOFD", VHOST_USER_SET_VRING_CALL, 8, 1, 1, 0x100, 0},
		{"not negotiated", VHOST_USER_GET_CONFIG, 20, 1, 0, 0, 0},
		{"table: no descriptors", VHOST_USER_SET_MEM_TABLE, 8 + 64, 1, 0, 2, 0},
		{"table: too many regions", VHOST_USER_SET_MEM_TABLE, 8 + 64, 1, 8, 9, 0},
		{"table: fewer than it says", VHOST_USER_SET_MEM_TABLE, 8 + 32, 1, 2, 2, 0},
		{"table: 4294967295 regions", VHOST_USER_SET_MEM_TABLE, 8, 1, 1, UINT32_MAX, 0},
		{"too large", VHOST_USER_SET_FEATURES, 4096, 1, 0, 0, 0},
	};
	unsigned before = 0;

	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		const struct lie *l = &lies[i];
		struct vhost_user_msg m = {.size = l->size, .flags = l->flags};
		int fd[8];
		char big[12 + 4096] = {0};

		frontend_connect(&t.f, t.path);
		for (unsigned k = 0; k < 8; k++)
			fd[k] = t.f.q[0].kick;
		m.request = l->request;
		m.u64 = l->word;
		if (l->size > VHOST_USER_MAX_PAYLOAD) {
			memcpy(big, &m, 12);
			cr_assert_eq(send(t.f.sock, big, sizeof(big), MSG_NOSIGNAL), (ssize_t)sizeof(big));
		} else {
			cr_assert_eq(vhost_user_send(t.f.sock, &m, fd, l->nfds, UINT64_MAX), 0);
		}
		cr_assert(frontend_closed(&t.f), "%s", l->name);
		frontend_close(&t.f);
		if (i == 2)
			before = count_fds();
	}
	cr_assert_eq(count_fds(), before);
	next_one_is_served();
}

/* Each is refused by its acknowledgement; without that, by the end of the connection. */
Test(server_faults, what_makes_no_sense_is_refused)
{
	const struct {
		const char *name;
		uint32_t request;
		uint64_t value;
	} lies[] = {
		{"features that were not offered", VHOST_USER_SET_FEATURES, BIT(VIRTIO_F_RING_RESET)},
		{"protocol features that were not", VHOST_USER_SET_PROTOCOL_FEATURES, BIT(60)},
		{"no entries", VHOST_USER_SET_VRING_NUM, 0},
		{"too many entries", VHOST_USER_SET_VRING_NUM, 2048ull << 32},
		{"a queue there is not", VHOST_USER_SET_VRING_NUM, QUEUES | 64ull << 32},
		{"a queue there is not", VHOST_USER_SET_VRING_BASE, UINT32_MAX},
		{"a queue there is not", VHOST_USER_SET_VRING_ENABLE, QUEUES | 1ull << 32},
		{"neither on nor off", VHOST_USER_SET_VRING_ENABLE, 2ull << 32},
		{"a queue there is not", VHOST_USER_SET_VRING_CALL, 0x1ff},
		{"a bit there is not", VHOST_USER_SET_VRING_CALL, 0x300},
		{"a status there is not", VHOST_USER_SET_STATUS, 256},
		{"an MTU there is not", VHOST_USER_NET_SET_MTU, 65536},
	};

	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		begin(ALL);
		cr_assert_gt(frontend_set_u64(&t.f, lies[i].request, lies[i].value), 0, "%s", lies[i].name);
		cr_assert_eq(frontend_set_u64(&t.f, VHOST_USER_SET_STATUS, 1), 0, "it goes on");
		frontend_close(&t.f);
		begin(ALL & ~P(REPLY_ACK));
		cr_assert_eq(frontend_set_u64(&t.f, lies[i].request, lies[i].value), -ECONNRESET, "%s",
			     lies[i].name);
		frontend_close(&t.f);
	}
	next_one_is_served();
}

Test(server_faults, a_queue_that_is_not_there_has_no_base)
{
	begin(P(REPLY_ACK));
	cr_assert_eq(frontend_stop(&t.f, QUEUES), -ECONNRESET);
	next_one_is_served();
}

Test(server_faults, a_ring_outside_the_memory_does_not_start)
{
	struct vhost_user_msg addr = {.size = sizeof(addr.addr)};

	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	addr.addr.desc_user_addr = 4096;
	addr.addr.avail_user_addr = UINT64_MAX - 8;
	addr.addr.used_user_addr = UINT64_MAX - 1;
	cr_assert_gt(frontend_set(&t.f, VHOST_USER_SET_VRING_ADDR, &addr, NULL, 0), 0);
	cr_assert_eq(t.running, 0);
	cr_assert_eq(frontend_resume(&t.f, 0), 0);
	cr_assert(traffic(0, 3));
	frontend_close(&t.f);
}

Test(server_faults, a_call_descriptor_must_be_an_eventfd)
{
	int pipe_fd[2];

	cr_assert_eq(pipe2(pipe_fd, O_CLOEXEC), 0);
	begin(P(REPLY_ACK));
	cr_assert_gt(frontend_set_fd(&t.f, VHOST_USER_SET_VRING_CALL, 0, pipe_fd[1]), 0);
	cr_assert_gt(frontend_set_fd(&t.f, SET_ERR, 0, pipe_fd[1]), 0);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	next_one_is_served();
}

/* Its description is the front end's as much as ours. */
static void fill(int fd)
{
	cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
	while (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0))
		cr_assert_eq(eventfd_read(fd, &(eventfd_t){0}), 0);
	cr_assert_eq(eventfd_write(fd, UINT64_MAX - 1), 0);
}

Test(server_faults, a_call_descriptor_that_blocks_holds_up_nobody)
{
	struct driver_buf b;

	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	cr_assert_eq(frontend_start(&t.f, 1, 64, 0), 0);
	fill(t.f.q[0].call);
	b = (struct driver_buf){.addr = driver_mem_alloc(&t.f.m, 64, 8), .len = 64, .write = true};
	cr_assert_geq(driver_ring_add(&t.f.q[0].ring, &b, 1), 0);
	frontend_kick(&t.f, 0);
	cr_assert(traffic(1, 10), "the queue beside it");
	cr_assert_eq(driver_ring_collect(&t.f.q[0].ring, NULL, NULL), 1);
	cr_assert_geq(frontend_stop(&t.f, 0), 0);
	cr_assert_eq(frontend_resume(&t.f, 0), 0, "its first call does not block either");
	next_one_is_served();
}

Test(server_faults, an_err_descriptor_that_blocks_holds_up_nobody)
{
	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	cr_assert_eq(frontend_start(&t.f, 1, 64, 0), 0);
	fill(t.f.q[0].err);
	driver_ring_offer(&t.f.q[0].ring, 999);
	frontend_kick(&t.f, 0);
	cr_assert(traffic(1, 10), "the queue beside it");
	cr_assert_eq(frontend_stop(&t.f, 0), 0);
	next_one_is_served();
}

Test(server_faults, a_kick_descriptor_that_is_no_eventfd_is_refused_and_changes_nothing)
{
	int fd = memfd_create("kick", MFD_CLOEXEC);
	unsigned running;

	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	running = t.running;
	cr_assert_gt(frontend_set_fd(&t.f, VHOST_USER_SET_VRING_KICK, 0, fd), 0);
	close(fd);
	cr_assert_eq(t.running, running);
	cr_assert(traffic(0, 3));
	next_one_is_served();
}

Test(server_faults, a_device_that_refuses_a_queue)
{
	t.refuse = -EIO;
	frontend_connect(&t.f, t.path);
	cr_assert_eq(frontend_greet(&t.f, BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK)), 0);
	cr_assert_eq(frontend_share(&t.f), 0);
	cr_assert_eq(frontend_start(&t.f, 0, 64, 0), EIO);
	t.refuse = 0;
	next_one_is_served();
}

Test(server_faults, a_message_may_come_in_pieces_and_end_in_the_midst)
{
	struct vhost_user_msg m = {.request = VHOST_USER_GET_FEATURES, .flags = 1};
	struct vhost_user_msg half = {.request = VHOST_USER_SET_FEATURES, .flags = 1, .size = 8};

	frontend_connect(&t.f, t.path);
	for (unsigned i = 0; i < 12; i++) {
		cr_assert_eq(send(t.f.sock, (char *)&m + i, 1, 0), 1);
		usleep(500);
	}
	cr_assert_eq(frontend_reply(&t.f, &m, NULL), 0);
	cr_assert_eq(send(t.f.sock, &half, 14, 0), 14);
	next_one_is_served();
}

Test(server_faults, one_that_never_reads_is_sent_away)
{
	struct vhost_user_msg m = {.request = VHOST_USER_GET_FEATURES, .flags = 1};
	struct server_counts c;

	frontend_connect(&t.f, t.path);
	do {
		vhost_user_send(t.f.sock, &m, NULL, 0, 0);
		vhost_user_server_counts(t.server, &c);
		usleep(10);
	} while (c.messages < 100000 && !c.faults);
	cr_assert_eq(c.faults, 1);
	next_one_is_served();
}
