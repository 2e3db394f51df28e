/* A vhost-user server and a front end that says what it should. */
#include "tests/unit/test_server_rig.h"

TestSuite(server_messages, .init = init, .fini = fini, .timeout = 60);

/* --- what it should say --- */

Test(server_messages, says_what_it_offers)
{
	uint64_t v;

	begin(P(MQ) | P(CONFIGURE_MEM_SLOTS));
	cr_assert_eq(t.f.offered, OFFERED | BIT(VHOST_USER_F_PROTOCOL_FEATURES));
	cr_assert_eq(frontend_get(&t.f, VHOST_USER_GET_PROTOCOL_FEATURES, &v), 0);
	cr_assert_eq(v, P(MQ) | P(REPLY_ACK) | P(BACKEND_REQ) | P(RESET_DEVICE) | P(CONFIGURE_MEM_SLOTS) |
				P(STATUS) | P(CONFIG) | P(INFLIGHT_SHMFD) | P(NET_MTU));
	cr_assert_eq(frontend_get(&t.f, VHOST_USER_GET_QUEUE_NUM, &v), 0);
	cr_assert_eq(v, QUEUES);
	cr_assert_eq(frontend_get(&t.f, VHOST_USER_GET_MAX_MEM_SLOTS, &v), 0);
	cr_assert_eq(v, 8);
	cr_assert_eq(t.features, BIT(VIRTIO_F_VERSION_1));
	frontend_close(&t.f);
}

Test(server_messages, config_is_read_and_written_within_its_bounds)
{
	struct vhost_user_msg m = {.size = 12 + 4, .config = {.offset = 2, .size = 4}};
	uint8_t two[] = {0xaa, 0xbb};

	begin(P(CONFIG) | P(REPLY_ACK));
	cr_assert_eq(frontend_ask(&t.f, VHOST_USER_GET_CONFIG, &m, NULL), 0);
	cr_assert_eq(m.size, 16);
	cr_assert_eq(memcmp(m.config.region, (uint8_t[]){3, 4, 5, 6}, 4), 0);
	m = (struct vhost_user_msg){.size = 12 + 2, .config = {.offset = 58, .size = 2}};
	memcpy(m.config.region, two, 2);
	cr_assert_eq(frontend_set(&t.f, VHOST_USER_SET_CONFIG, &m, NULL, 0), 0);
	cr_assert_eq(memcmp(t.config + 58, two, 2), 0);
	m = (struct vhost_user_msg){.size = 12 + 2, .config = {.offset = 59, .size = 2}};
	cr_assert_gt(frontend_set(&t.f, VHOST_USER_SET_CONFIG, &m, NULL, 0), 0);
	m = (struct vhost_user_msg){.size = 12 + 2, .config = {.offset = UINT32_MAX, .size = 2}};
	cr_assert_gt(frontend_set(&t.f, VHOST_USER_SET_CONFIG, &m, NULL, 0), 0);
	/* More than there is: the rest is zeroes. */
	m = (struct vhost_user_msg){.size = 12 + 4, .config = {.offset = 58, .size = 4}};
	cr_assert_eq(frontend_ask(&t.f, VHOST_USER_GET_CONFIG, &m, NULL), 0);
	cr_assert_eq(memcmp(m.config.region, (uint8_t[]){0xaa, 0xbb, 0, 0}, 4), 0);
	m = (struct vhost_user_msg){.size = 12 + 4, .config = {.offset = 61, .size = 4}};
	cr_assert_eq(frontend_ask(&t.f, VHOST_USER_GET_CONFIG, &m, NULL), 0);
	cr_assert_eq(m.size, 0);
	m = (struct vhost_user_msg){.size = 12 + 1, .config = {.offset = BAD_SLOT, .size = 1}};
	cr_assert_eq(frontend_ask(&t.f, VHOST_USER_GET_CONFIG, &m, NULL), 0);
	cr_assert_eq(m.size, 0);
	cr_assert_eq(frontend_set_u64(&t.f, VHOST_USER_SET_STATUS, 1), -ECONNRESET, "was not negotiated");
	frontend_close(&t.f);
}

Test(server_messages, a_change_of_config_is_told_by_the_channel)
{
	struct vhost_user_msg m = {0};
	struct vhost_user_reader r = {0};
	struct pollfd p = {.events = POLLIN};
	int pair[2];

	begin(P(CONFIG) | P(REPLY_ACK) | P(BACKEND_REQ));
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(frontend_set(&t.f, VHOST_USER_SET_BACKEND_REQ_FD, &m, &pair[1], 1), 0);
	close(pair[1]);
	vhost_user_server_config_changed(t.server);
	p.fd = pair[0];
	cr_assert_eq(poll(&p, 1, 5000), 1);
	cr_assert_eq(vhost_user_read(pair[0], &r), 1);
	cr_assert_eq(r.msg.request, (uint32_t)VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	frontend_close(&t.f);
	p.events = 0;
	cr_assert_eq(poll(&p, 1, 5000), 1, "the channel is closed with the connection");
	close(pair[0]);
}

Test(server_messages, status_decides_when_queues_run)
{
	uint64_t v;

	begin(P(REPLY_ACK) | P(STATUS));
	cr_assert_eq(frontend_set_u64(&t.f, VHOST_USER_SET_STATUS, 0), 0);
	cr_assert_eq(frontend_share(&t.f), 0);
	cr_assert_eq(frontend_set_u64(&t.f, VHOST_USER_SET_STATUS, 11), 0);
	cr_assert_eq(frontend_start(&t.f, 0, 64, 0), 0);
	cr_assert_eq(t.running, 0, "before DRIVER_OK");
	cr_assert_eq(frontend_set_u64(&t.f, VHOST_USER_SET_STATUS, 15), 0);
	cr_assert_eq(t.running, 1);
	cr_assert_eq(frontend_get(&t.f, VHOST_USER_GET_STATUS, &v), 0);
	cr_assert_eq(v, 15);
	cr_assert(traffic(0, 3));
	cr_assert_eq(frontend_set_u64(&t.f, VHOST_USER_SET_STATUS, 0), 0);
	cr_assert_eq(t.running, 0);
	cr_assert_eq(frontend_set_u64(&t.f, VHOST_USER_SET_STATUS, 15), 0);
	cr_assert_eq(t.running, 0, "its ring is forgotten");
	frontend_close(&t.f);
}

Test(server_messages, reset_device_stops_and_forgets)
{
	struct vhost_user_msg m = {0};

	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK) | P(RESET_DEVICE));
	cr_assert(traffic(0, 3));
	cr_assert_eq(frontend_set(&t.f, VHOST_USER_RESET_DEVICE, &m, NULL, 0), 0);
	cr_assert_eq(t.running, 0);
	cr_assert_eq(frontend_set_state(&t.f, VHOST_USER_SET_VRING_ENABLE, 0, 1), 0);
	cr_assert_eq(t.running, 0);
	cr_assert_eq(frontend_start(&t.f, 0, 64, 0), 0);
	cr_assert(traffic(0, 3));
	frontend_close(&t.f);
}

Test(server_messages, without_protocol_features_rings_are_enabled)
{
	uint64_t features;
	struct frontend *f = &t.f;

	frontend_connect(f, t.path);
	cr_assert_eq(frontend_get(f, VHOST_USER_GET_FEATURES, &features), 0);
	f->features = BIT(VIRTIO_F_VERSION_1);
	cr_assert_eq(frontend_set_u64(f, VHOST_USER_SET_FEATURES, f->features), 0);
	cr_assert_eq(frontend_share(f), 0);
	cr_assert_eq(frontend_start(f, 0, 64, 0), 0);
	cr_assert(traffic(0, 5));
	frontend_close(f);
}

/* --- rings --- */

static void goes_on_where_it_stopped(uint64_t features)
{
	const bool packed = features >> VIRTIO_F_RING_PACKED & 1;

	begin_and_start(features, P(REPLY_ACK));
	for (unsigned round = 1; round < 40; round++) {
		uint32_t at;

		cr_assert(traffic(0, 7));
		at = packed ? (uint32_t)t.f.q[0].ring.used_pos * 0x10001 : round * 7;
		cr_assert_eq(frontend_stop(&t.f, 0), at);
		cr_assert_eq(t.running, 0);
		cr_assert_eq(frontend_resume(&t.f, 0), 0);
	}
	frontend_close(&t.f);
}

Test(server_messages, a_split_queue_goes_on_where_it_stopped)
{
	goes_on_where_it_stopped(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX));
}

Test(server_messages, a_packed_queue_goes_on_where_it_stopped)
{
	goes_on_where_it_stopped(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED));
}

Test(server_messages, a_disabled_queue_stands_still_and_goes_on)
{
	struct driver_buf b = {.len = 64, .write = true};

	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	cr_assert(traffic(0, 3));
	cr_assert_eq(frontend_set_state(&t.f, VHOST_USER_SET_VRING_ENABLE, 0, 0), 0);
	cr_assert_eq(t.running, 0);
	b.addr = driver_mem_alloc(&t.f.m, 64, 8);
	cr_assert_geq(driver_ring_add(&t.f.q[0].ring, &b, 1), 0);
	frontend_kick(&t.f, 0);
	cr_assert_eq(frontend_collect(&t.f, 0, NULL, NULL, 20), 0);
	cr_assert_eq(frontend_set_state(&t.f, VHOST_USER_SET_VRING_ENABLE, 0, 1), 0);
	cr_assert_eq(frontend_collect(&t.f, 0, NULL, NULL, 5000), 1);
	cr_assert(traffic(0, 3));
	frontend_close(&t.f);
}

Test(server_messages, a_running_queue_takes_other_descriptors)
{
	uint64_t n;
	struct frontend_queue *q = &t.f.q[0];

	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	cr_assert(traffic(0, 3));
	close(q->kick);
	q->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_eq(frontend_set_fd(&t.f, VHOST_USER_SET_VRING_KICK, 0, q->kick), 0);
	cr_assert(traffic(0, 3));
	close(q->call);
	q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_eq(frontend_set_fd(&t.f, VHOST_USER_SET_VRING_CALL, 0, q->call), 0);
	cr_assert_eq(eventfd_read(q->call, &n), 0, "what was missed meanwhile");
	cr_assert(traffic(0, 1));
	usleep(10000);
	cr_assert_eq(eventfd_read(q->call, &n), 0);
	frontend_close(&t.f);
}

Test(server_messages, without_a_kick_descriptor_it_looks_by_itself)
{
	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	cr_assert_eq(frontend_set_u64(&t.f, VHOST_USER_SET_VRING_KICK, 0x100), 0);
	close(t.f.q[0].kick);
	t.f.q[0].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); /* nobody's */
	cr_assert(traffic(0, 5));
	frontend_close(&t.f);
}

Test(server_messages, memory_comes_and_goes_by_slots)
{
	struct vhost_user_msg m = {.size = sizeof(m.mem_reg)};

	begin(P(REPLY_ACK) | P(CONFIGURE_MEM_SLOTS));
	for (unsigned i = 0; i < 2; i++) {
		m.mem_reg.region = frontend_region(&t.f, i);
		cr_assert_eq(frontend_set(&t.f, VHOST_USER_ADD_MEM_REG, &m, &t.f.mem_fd, 1), 0);
		m.size = sizeof(m.mem_reg);
	}
	cr_assert_eq(frontend_start(&t.f, 0, 64, 0), 0);
	cr_assert(traffic(0, 3));
	m.size = sizeof(m.mem_reg);
	m.mem_reg = (struct vhost_user_mem_reg){.region = frontend_region(&t.f, 0)};
	cr_assert_eq(frontend_set(&t.f, VHOST_USER_ADD_MEM_REG, &m, &t.f.mem_fd, 1), 0, "once more");
	m.size = sizeof(m.mem_reg);
	m.mem_reg = (struct vhost_user_mem_reg){.region = frontend_region(&t.f, 0)};
	m.mem_reg.region.userspace_addr += 4096;
	cr_assert_gt(frontend_set(&t.f, VHOST_USER_ADD_MEM_REG, &m, &t.f.mem_fd, 1), 0, "another is there");
	m.size = sizeof(m.mem_reg);
	m.mem_reg = (struct vhost_user_mem_reg){.region = frontend_region(&t.f, 0)};
	cr_assert_eq(frontend_set(&t.f, VHOST_USER_REM_MEM_REG, &m, NULL, 0), 0);
	cr_assert_eq(t.running, 1);
	cr_assert(traffic(0, 3));
	/* The ring's own goes, and comes back. */
	m.size = sizeof(m.mem_reg);
	m.mem_reg = (struct vhost_user_mem_reg){.region = frontend_region(&t.f, 0)};
	cr_assert_eq(frontend_set(&t.f, VHOST_USER_REM_MEM_REG, &m, NULL, 0), 0);
	cr_assert_eq(t.running, 0);
	m.size = sizeof(m.mem_reg);
	m.mem_reg = (struct vhost_user_mem_reg){.region = frontend_region(&t.f, 0)};
	cr_assert_gt(frontend_set(&t.f, VHOST_USER_REM_MEM_REG, &m, NULL, 0), 0, "it is gone");
	m.size = sizeof(m.mem_reg);
	m.mem_reg = (struct vhost_user_mem_reg){.region = frontend_region(&t.f, 0)};
	cr_assert_eq(frontend_set(&t.f, VHOST_USER_ADD_MEM_REG, &m, &t.f.mem_fd, 1), 0);
	cr_assert_eq(t.running, 1);
	cr_assert(traffic(0, 3));
	frontend_close(&t.f);
}

/* --- in flight --- */

Test(server_messages, what_was_in_flight_is_done_again)
{
	struct vhost_user_msg m = {.size = sizeof(m.inflight), .inflight = {.num_queues = 2, .queue_size = 64}};
	struct driver_buf b[3];
	int fd = -1;
	uint8_t *map;

	begin(P(REPLY_ACK) | P(INFLIGHT_SHMFD));
	cr_assert_eq(frontend_ask(&t.f, VHOST_USER_GET_INFLIGHT_FD, &m, &fd), 0);
	cr_assert_geq(fd, 0);
	cr_assert_geq(m.inflight.mmap_size, 2 * (16 + 16 * 64));
	map = mmap(NULL, m.inflight.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_neq(map, MAP_FAILED);
	cr_assert_eq(frontend_share(&t.f), 0);
	m.size = sizeof(m.inflight);
	cr_assert_eq(frontend_set(&t.f, VHOST_USER_SET_INFLIGHT_FD, &m, &fd, 1), 0);
	cr_assert_eq(frontend_start(&t.f, 0, 64, 0), 0);
	cr_assert(traffic(0, 5));
	for (unsigned i = 0; i < 64; i++)
		cr_assert_eq(map[16 + 16 * i], 0, "nothing is in flight");
	cr_assert_eq(*(uint16_t *)(void *)(map + 14), 5, "used index");
	frontend_stop(&t.f, 0);
	/* As if one had died that had taken three and given back the second, out of order. */
	for (unsigned i = 0; i < 3; i++) {
		b[i] = (struct driver_buf){driver_mem_alloc(&t.f.m, 64, 8), 64, true};
		cr_assert_geq(driver_ring_add(&t.f.q[0].ring, &b[i], 1), 0);
	}
	driver_ring_kick(&t.f.q[0].ring);
	{
		struct driver_ring *r = &t.f.q[0].ring;
		uint16_t head[3];

		for (unsigned i = 0; i < 3; i++) {
			head[i] = r->avail->ring[(5 + i) % 64];
			map[16 + 16 * head[i]] = i != 1;
			*(uint64_t *)(void *)(map + 16 + 16 * head[i] + 8) =
				100 - i; /* the last was taken first */
		}
		r->used->ring[5 % 64] = (struct vring_used_elem){.id = head[1], .len = 64};
		__atomic_store_n(&r->used->idx, 6, __ATOMIC_RELEASE);
		*(uint16_t *)(void *)(map + 14) = 6;
		cr_assert_eq(frontend_resume(&t.f, 0), 0);
		for (unsigned i = 0; i < 3; i++) {
			uint16_t id;
			uint32_t len;

			cr_assert_eq(frontend_collect(&t.f, 0, &id, &len, 5000), 1);
			cr_assert_eq(id, head[i == 0 ? 1 : i == 1 ? 2 : 0]);
		}
	}
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(*(char *)driver_mem_ptr(&t.f.m, b[i].addr, 1), i == 1 ? 0 : 0x5a);
	cr_assert(traffic(0, 100));
	munmap(map, m.inflight.mmap_size);
	close(fd);
	frontend_close(&t.f);
}

Test(server_messages, an_inflight_buffer_that_is_none_is_refused)
{
	const struct vhost_user_inflight_desc lies[] = {
		{0, 0, 1, 64},           {4096, 0, 0, 64},       {4096, 0, 1, 0},
		{4096, 0, 1, 1024},      {4096, 4096, 1, 64},    {4096, 8, 1, 64},
		{UINT64_MAX, 64, 1, 64}, {1ull << 40, 0, 1, 64}, {4096, UINT64_MAX & ~63ull, 1, 64},
		{4096, 0, 65535, 64},
	};
	int fd = memfd_create("inflight", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, 4096), 0);
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct vhost_user_msg m = {.size = sizeof(m.inflight), .inflight = lies[i]};

		begin(P(REPLY_ACK) | P(INFLIGHT_SHMFD));
		cr_assert_gt(frontend_set(&t.f, VHOST_USER_SET_INFLIGHT_FD, &m, &fd, 1), 0, "%u", i);
		frontend_close(&t.f);
	}
	close(fd);
	next_one_is_served();
}

/* --- the other way round --- */

Test(server_messages, connects_and_comes_back)
{
	vhost_user_server_free(t.server);
	serve(true);
	for (unsigned i = 0; i < 3; i++) {
		int sock, l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct sockaddr_un a = {.sun_family = AF_UNIX};
		struct pollfd p = {.fd = l, .events = POLLIN};

		snprintf(a.sun_path, sizeof(a.sun_path), "%s", t.path);
		unlink(t.path);
		cr_assert_eq(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
		cr_assert_eq(listen(l, 1), 0);
		cr_assert_eq(poll(&p, 1, 5000), 1);
		sock = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		cr_assert_geq(sock, 0);
		close(l);
		frontend_adopt(&t.f, sock);
		cr_assert_eq(frontend_greet(&t.f, BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK)), 0);
		cr_assert_eq(frontend_share(&t.f), 0);
		cr_assert_eq(frontend_start(&t.f, 0, 64, 0), 0);
		cr_assert(traffic(0, 3));
		frontend_close(&t.f);
	}
	unlink(t.path);
}
