/* The VDUSE wire: a device's file that is a socket, with the kernel's side played here. */
#include <linux/vduse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <sys/ioctl.h>

#include "servers/vduse_server.h"
#include "tests/unit/test_server_rig.h"

#define PLATFORM BIT(VIRTIO_F_ACCESS_PLATFORM)
#define V1       (BIT(VIRTIO_F_VERSION_1) | PLATFORM)
#define STARTED  0xf /* ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK */

/* The kernel's. */
static struct {
	struct server *server;
	int fd; /* the other end of the device's file */
	_Atomic uint64_t features;
	uint16_t max_size[QUEUES];
	struct vduse_vq_info vq[QUEUES];
	int kick[QUEUES]; /* -1: none */
	uint8_t perm[2];
	_Atomic unsigned interrupts[QUEUES], config_interrupts, files, refuse_interrupts;
	uint8_t config[CONFIG];
	uint32_t next_id;
} k;

static int get_file(struct vduse_iotlb_entry *e)
{
	for (unsigned i = 0; i < t.f.m.mem.nregions; i++) {
		const struct mem_region *r = &t.f.m.mem.region[i];
		const uint64_t last = r->gpa + r->size - 1;

		if (last < e->start || r->gpa > e->last)
			continue;
		*e = (struct vduse_iotlb_entry){.offset = r->fd_offset,
						.start = r->gpa,
						.last = last,
						.perm = k.perm[i]};
		k.files++;
		return dup(t.f.mem_fd);
	}
	errno = EINVAL;
	return -1;
}

static int set_kick(const struct vduse_vq_eventfd *e)
{
	if (k.kick[e->index] >= 0)
		close(k.kick[e->index]);
	k.kick[e->index] = e->fd >= 0 ? dup(e->fd) : -1;
	return 0;
}

static int interrupt(uint32_t queue)
{
	if (k.refuse_interrupts) {
		k.refuse_interrupts--;
		errno = EINVAL;
		return -1;
	}
	k.interrupts[queue]++;
	eventfd_write(t.f.q[queue].call, 1);
	return 0;
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	const struct vduse_config_data *c = arg;
	struct vduse_vq_config *q = arg;
	struct vduse_vq_info *i = arg;

	(void)fd;
	switch (request) {
	case VDUSE_VQ_SETUP:
		k.max_size[q->index] = q->max_size;
		return 0;
	case VDUSE_DEV_GET_FEATURES:
		*(uint64_t *)arg = k.features;
		return 0;
	case VDUSE_IOTLB_GET_FD:
		return get_file(arg);
	case VDUSE_VQ_GET_INFO:
		*i = k.vq[i->index];
		return 0;
	case VDUSE_VQ_SETUP_KICKFD:
		return set_kick(arg);
	case VDUSE_VQ_INJECT_IRQ:
		return interrupt(*(uint32_t *)arg);
	case VDUSE_DEV_SET_CONFIG:
		memcpy(k.config + c->offset, c->buffer, c->length);
		return 0;
	case VDUSE_DEV_INJECT_CONFIG_IRQ:
		k.config_interrupts++;
		return 0;
	}
	errno = ENOTTY;
	return -1;
}

/* --- what it asks for: true: the answer is yes --- */

static bool request(struct vduse_dev_request *q, struct vduse_dev_response *a)
{
	struct pollfd p = {.fd = k.fd, .events = POLLIN};

	q->request_id = ++k.next_id;
	cr_assert_eq(write(k.fd, q, sizeof(*q)), sizeof(*q));
	cr_assert_eq(poll(&p, 1, 5000), 1, "no answer");
	cr_assert_eq(read(k.fd, a, sizeof(*a)), sizeof(*a));
	cr_assert_eq(a->request_id, q->request_id);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(a->reserved[i], 0, "the kernel refuses that");
	return a->result == VDUSE_REQ_RESULT_OK;
}

static bool status(uint8_t value)
{
	struct vduse_dev_request q = {.type = VDUSE_SET_STATUS, .s.status = value};
	struct vduse_dev_response a;

	return request(&q, &a);
}

static bool memory_changed(void)
{
	struct vduse_dev_request q = {.type = VDUSE_UPDATE_IOTLB, .iova = {0, UINT64_MAX}};
	struct vduse_dev_response a;

	return request(&q, &a);
}

static struct vduse_vq_state state_of(unsigned queue)
{
	struct vduse_dev_request q = {.type = VDUSE_GET_VQ_STATE, .vq_state.index = queue};
	struct vduse_dev_response a;

	cr_assert(request(&q, &a));
	cr_assert_eq(a.vq_state.index, queue);
	return a.vq_state;
}

/* --- a driver --- */

static void make_queue(unsigned queue, uint16_t pos)
{
	struct datapath_queue dq = {0};

	driver_ring_init(&t.f.q[queue].ring, &t.f.m, 64, k.features, pos);
	t.f.q[queue].made = true;
	driver_ring_queue(&t.f.q[queue].ring, &dq);
	k.vq[queue] = (struct vduse_vq_info){
		.index = queue,
		.num = dq.size,
		.desc_addr = dq.desc,
		.driver_addr = dq.avail,
		.device_addr = dq.used,
		.ready = 1,
	};
	if (k.features & BIT(VIRTIO_F_RING_PACKED))
		k.vq[queue].packed.last_avail_counter = k.vq[queue].packed.last_used_counter = pos >> 15;
}

static bool start(uint64_t features)
{
	k.features = features;
	if (!status(0) || !status(3) || !status(0xb))
		return false;
	make_queue(0, (uint16_t)((features >> VIRTIO_F_RING_PACKED & 1) << 15));
	return status(STARTED);
}

/* As traffic(), whose kicks would go to the front end's own descriptor. */
static bool frames(unsigned n)
{
	struct driver_ring *r = &t.f.q[0].ring;
	struct driver_buf b = {.addr = driver_mem_alloc(&t.f.m, 64, 8), .len = 64, .write = true};

	for (unsigned i = 0; i < n; i++) {
		uint32_t len = 0;
		char *p = driver_mem_ptr(&t.f.m, b.addr, 64);

		*p = 0;
		if (driver_ring_add(r, &b, 1) < 0)
			return false;
		if (driver_ring_kick(r))
			eventfd_write(k.kick[0], 1);
		if (frontend_collect(&t.f, 0, NULL, &len, 5000) != 1 || len != 64 || *p != 0x5a)
			return false;
	}
	return true;
}

static void serve_vduse(void)
{
	const struct server_config c = {
		.vduse = "test",
		.device_id = VIRTIO_ID_BLOCK,
		.ops = &rig_ops,
		.features = OFFERED | BIT(VIRTIO_BLK_F_CONFIG_WCE),
		.config_len = CONFIG,
		.max_queues = QUEUES,
		.max_queue_size = 1024,
		.inflight = true,
	};
	struct err e = {0};
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	k.fd = fd[1];
	k.perm[0] = k.perm[1] = VDUSE_ACCESS_RW;
	for (unsigned i = 0; i < QUEUES; i++)
		k.kick[i] = -1;
	frontend_adopt(&t.f, dup(k.fd));
	cr_assert_eq(loop_thread_start(&t.loop, "queues", -1, NULL), 0);
	cr_assert_eq(vduse_server_on(&k.server, &c, fd[0], fake_ioctl, &e), 0, "%s", e.text);
}

static void end_vduse(void)
{
	server_free(k.server);
	loop_thread_stop(&t.loop);
	frontend_close(&t.f);
	close(k.fd);
}

TestSuite(server_vduse, .init = serve_vduse, .timeout = 60);

Test(server_vduse, says_its_queues_and_its_name)
{
	for (unsigned i = 0; i < QUEUES; i++)
		cr_assert_eq(k.max_size[i], 1024);
	cr_assert_str_eq(server_name(k.server), "vduse test");
	end_vduse();
}

Test(server_vduse, serves_split_rings)
{
	cr_assert(start(V1));
	cr_assert(frames(100));
	cr_assert_geq(k.interrupts[0], 100);
	cr_assert_eq(t.features, BIT(VIRTIO_F_VERSION_1), "the platform's bit is the wire's");
	end_vduse();
	cr_assert_eq(t.running, 0);
}

Test(server_vduse, serves_packed_rings_from_where_they_stand)
{
	cr_assert(start(V1 | BIT(VIRTIO_F_RING_PACKED)));
	cr_assert(frames(100));
	cr_assert_eq(state_of(0).packed.last_avail_idx, 100 - 64);
	cr_assert_eq(state_of(0).packed.last_avail_counter, 0, "once round");
	cr_assert_eq(state_of(0).packed.last_used_idx, 100 - 64);
	k.vq[0].packed = state_of(0).packed;
	cr_assert(status(0));
	cr_assert(status(0xb));
	cr_assert(status(STARTED));
	cr_assert(frames(100));
	end_vduse();
}

Test(server_vduse, says_where_a_queue_stands)
{
	cr_assert_eq(state_of(1).split.avail_index, 0);
	cr_assert(start(V1));
	cr_assert(frames(7));
	cr_assert_eq(state_of(0).split.avail_index, 7);
	cr_assert(frames(1), "it goes on");
	end_vduse();
}

Test(server_vduse, a_queue_that_is_none_has_no_state)
{
	struct vduse_dev_request q = {.type = VDUSE_GET_VQ_STATE, .vq_state.index = QUEUES};
	struct vduse_dev_response a;

	cr_assert_not(request(&q, &a));
	q = (struct vduse_dev_request){.type = 77};
	cr_assert_not(request(&q, &a), "an unknown request");
	cr_assert(start(V1), "and it goes on");
	end_vduse();
}

static bool is_mapped(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned n = 0;
	char line[512];

	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "memfd:") != NULL;
	fclose(maps);
	return n > t.f.m.mem.nregions; /* those are this front end's own */
}

Test(server_vduse, after_a_reset_nobody_keeps_the_memory)
{
	cr_assert_not(is_mapped());
	cr_assert(start(V1));
	cr_assert(is_mapped());
	cr_assert(status(0));
	cr_assert_not(is_mapped());
	end_vduse();
}

Test(server_vduse, a_reset_stops_the_queues_and_gives_kicks_back)
{
	cr_assert(start(V1));
	cr_assert_geq(k.kick[0], 0);
	cr_assert_eq(k.kick[1], -1, "that one is not ready");
	cr_assert_eq(t.running, 1);
	cr_assert(status(0));
	cr_assert_eq(t.running, 0);
	cr_assert_eq(k.kick[0], -1);
	cr_assert(start(V1));
	cr_assert(frames(3));
	end_vduse();
}

Test(server_vduse, features_that_were_not_offered_are_refused)
{
	k.features = V1 | BIT(VIRTIO_F_IN_ORDER);
	cr_assert_not(status(0xb));
	k.features = V1 | BIT(VIRTIO_BLK_F_CONFIG_WCE);
	cr_assert_not(status(0xb), "a configuration space cannot be written here");
	k.features = BIT(VIRTIO_F_VERSION_1);
	cr_assert_not(status(0xb), "addresses are the bus's, or nothing is right");
	k.features = PLATFORM;
	cr_assert_not(status(0xb));
	cr_assert(start(V1));
	end_vduse();
}

Test(server_vduse, a_ring_that_is_not_in_memory_is_refused)
{
	k.features = V1;
	cr_assert(status(0xb));
	make_queue(0, 0);
	k.vq[0].device_addr = DRIVER_MEM_LOW_END;
	cr_assert_not(status(STARTED));
	cr_assert_eq(t.running, 0);
	cr_assert_eq(k.kick[0], -1);
	cr_assert(start(V1));
	end_vduse();
}

Test(server_vduse, a_ring_of_the_wrong_size_is_refused)
{
	k.features = V1;
	cr_assert(status(0xb));
	make_queue(0, 0);
	k.vq[0].num = 2048;
	cr_assert_not(status(STARTED));
	k.vq[0].num = 0;
	cr_assert(status(0));
	cr_assert(status(0xb));
	cr_assert_not(status(STARTED));
	cr_assert(start(V1));
	end_vduse();
}

Test(server_vduse, a_device_that_refuses_does_not_start)
{
	t.refuse = -EIO;
	cr_assert_not(start(V1));
	t.refuse = 0;
	cr_assert(start(V1));
	cr_assert(frames(2));
	end_vduse();
}

Test(server_vduse, memory_that_changes_stops_the_rings_meanwhile)
{
	const unsigned nregions = t.f.m.mem.nregions;
	unsigned files;

	cr_assert(memory_changed());
	cr_assert_eq(k.files, 0, "nobody wants it yet");
	cr_assert(start(V1));
	files = k.files;
	cr_assert_eq(files, 2);
	cr_assert(frames(2));
	cr_assert(memory_changed());
	cr_assert_eq(k.files, files + 2);
	cr_assert_eq(t.running, 1);
	cr_assert(frames(2));
	t.f.m.mem.nregions = 0;
	cr_assert(memory_changed());
	cr_assert_eq(t.running, 0, "its ring is nowhere");
	t.f.m.mem.nregions = nregions;
	cr_assert(memory_changed());
	cr_assert_eq(t.running, 1);
	cr_assert(frames(2));
	end_vduse();
}

Test(server_vduse, memory_that_may_not_be_written_is_left_out)
{
	k.perm[0] = VDUSE_ACCESS_RO;
	cr_assert_not(start(V1), "the rings are in it");
	k.perm[0] = VDUSE_ACCESS_RW;
	k.perm[1] = VDUSE_ACCESS_RO;
	cr_assert(start(V1));
	cr_assert(frames(2));
	end_vduse();
}

Test(server_vduse, an_interrupt_that_comes_too_early_comes_again)
{
	const uint64_t soon = 5000;

	k.refuse_interrupts = 3;
	cr_assert(start(V1));
	for (uint64_t i = 0; i < soon && !k.interrupts[0]; i++)
		usleep(1000);
	cr_assert_eq(k.refuse_interrupts, 0);
	cr_assert_geq(k.interrupts[0], 1);
	end_vduse();
}

Test(server_vduse, a_front_end_that_was_killed_is_missed)
{
	cr_assert(start(V1));
	usleep(20000);
	cr_assert_eq(t.running, 1);
	k.features = 0;
	for (unsigned i = 0; i < 5000 && t.running; i++)
		usleep(1000);
	cr_assert_eq(t.running, 0);
	cr_assert(start(V1));
	cr_assert(frames(2));
	end_vduse();
}

Test(server_vduse, a_new_configuration_is_told)
{
	cr_assert(start(V1));
	t.config[5] = 0xee;
	server_config_changed(k.server);
	for (unsigned i = 0; i < 5000 && !k.config_interrupts; i++)
		usleep(1000);
	cr_assert_eq(k.config_interrupts, 1);
	cr_assert_eq(memcmp(k.config, t.config, CONFIG), 0);
	end_vduse();
}

Test(server_vduse, a_broken_ring_stands_still_until_the_reset)
{
	struct driver_ring *r;
	unsigned before;

	cr_assert(start(V1));
	r = &t.f.q[0].ring;
	driver_ring_offer(r, 64);
	driver_ring_kick(r);
	before = t.kicks;
	eventfd_write(k.kick[0], 1);
	while (t.kicks == before)
		usleep(1000);
	eventfd_write(k.kick[0], 1);
	usleep(20000);
	cr_assert_eq(t.kicks, before + 1, "nobody looks at it any more");
	cr_assert_eq(t.running, 1);
	cr_assert(status(0));
	cr_assert(start(V1));
	cr_assert(frames(2));
	end_vduse();
}

Test(server_vduse, a_file_that_is_cut_off_costs_nobody_his_life)
{
	cr_assert(start(V1));
	cr_assert(frames(1));
	cr_assert_eq(ftruncate(t.f.mem_fd, 4096), 0);
	eventfd_write(k.kick[0], 1);
	for (unsigned i = 0; i < 5000 && t.running; i++)
		usleep(1000);
	cr_assert_eq(t.running, 0);
	cr_assert(status(0), "and it answers");
	end_vduse();
}

Test(server_vduse, the_kernel_that_hangs_up_is_not_asked_for_ever)
{
	cr_assert(start(V1));
	shutdown(k.fd, SHUT_RDWR);
	for (unsigned i = 0; i < 5000 && t.running; i++)
		usleep(1000);
	cr_assert_eq(t.running, 0);
	end_vduse();
}

Test(server_vduse, names_are_checked_before_anything_is_made)
{
	const char *const bad[] = {"", "a/b", "a b", ".", "..", "control"};
	struct server_config c = {.ops = &rig_ops, .max_queues = 1, .device_id = VIRTIO_ID_BLOCK};
	struct server *s;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = {0};

		c.vduse = bad[i];
		cr_assert_eq(server_new(&s, &c, &e), -EINVAL, "%s", bad[i]);
		cr_assert(strstr(e.text, "cannot be the name"), "%s", e.text);
	}
	end_vduse();
}
