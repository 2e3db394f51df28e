#include "tests/fake/vhost_user_frontend.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"

#define SECOND    UINT64_C(1000000000)
#define LOW_SIZE  DRIVER_MEM_LOW_END
#define HIGH_SIZE (DRIVER_MEM_HIGH_END - DRIVER_MEM_HIGH_START)

static void die(const char *what)
{
	fprintf(stderr, "fake front end: %s: %s\n", what, strerror(errno));
	abort();
}

static void region(struct frontend *f, gpa_t gpa, uint64_t size, uint64_t offset)
{
	struct mem_region *r = &f->m.mem.region[f->m.mem.nregions++];

	*r = (struct mem_region){.gpa = gpa, .size = size, .fd = f->mem_fd, .fd_offset = offset};
	r->hva = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, f->mem_fd, (off_t)offset);
	if (r->hva == MAP_FAILED)
		die("mmap");
	f->m.mem.size += size;
}

void frontend_adopt(struct frontend *f, int sock)
{
	*f = (struct frontend){.sock = sock};
	f->mem_fd = memfd_create("front end", MFD_CLOEXEC);
	if (f->mem_fd < 0 || ftruncate(f->mem_fd, LOW_SIZE + HIGH_SIZE))
		die("memory");
	f->m.next = 4096;
	f->m.mem.fd = f->mem_fd;
	f->m.mem.page_size = 4096;
	region(f, 0, LOW_SIZE, 0);
	region(f, DRIVER_MEM_HIGH_START, HIGH_SIZE, LOW_SIZE);
	for (unsigned i = 0; i < FRONTEND_QUEUES; i++) {
		struct frontend_queue *q = &f->q[i];

		q->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		q->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (q->kick < 0 || q->call < 0 || q->err < 0)
			die("eventfd");
	}
}

void frontend_connect(struct frontend *f, const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + SECOND;
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	while (connect(sock, (struct sockaddr *)&a, sizeof(a))) {
		if (clock_ns(CLOCK_MONOTONIC) > end)
			die("connect");
		usleep(1000);
	}
	if (fcntl(sock, F_SETFL, O_NONBLOCK))
		die("O_NONBLOCK");
	frontend_adopt(f, sock);
}

void frontend_close(struct frontend *f)
{
	close(f->sock);
	for (unsigned i = 0; i < FRONTEND_QUEUES; i++) {
		close(f->q[i].kick);
		close(f->q[i].call);
		close(f->q[i].err);
		if (f->q[i].made)
			driver_ring_fini(&f->q[i].ring);
	}
	for (unsigned i = 0; i < f->m.mem.nregions; i++)
		munmap(f->m.mem.region[i].hva, f->m.mem.region[i].size);
	close(f->mem_fd);
}

/* --- messages --- */

void frontend_send(struct frontend *f, uint32_t request, struct vhost_user_msg *m, const int *fds,
		   unsigned nfds)
{
	m->request = request;
	m->flags = VHOST_USER_VERSION | (m->flags & VHOST_USER_NEED_REPLY);
	/* Nobody there any more: the answer will say so. */
	vhost_user_send(f->sock, m, fds, nfds, clock_ns(CLOCK_MONOTONIC) + SECOND);
}

int frontend_reply(struct frontend *f, struct vhost_user_msg *m, int *fd)
{
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + 5 * SECOND;
	struct vhost_user_reader r = {0};
	struct pollfd p = {.fd = f->sock, .events = POLLIN};
	int rc;

	while (!(rc = vhost_user_read(f->sock, &r))) {
		if (clock_ns(CLOCK_MONOTONIC) > end)
			return -ETIMEDOUT;
		poll(&p, 1, 100);
	}
	if (rc < 0)
		return rc == -EPIPE ? -ECONNRESET : rc;
	if (r.msg.request != m->request || (r.msg.flags & 7) != (VHOST_USER_VERSION | VHOST_USER_REPLY))
		rc = -EPROTO;
	*m = r.msg;
	if (fd && r.nfds) {
		*fd = r.fd[0];
		r.fd[0] = -1;
	}
	vhost_user_reader_clear(&r);
	return rc < 0 ? rc : 0;
}

int frontend_ask(struct frontend *f, uint32_t request, struct vhost_user_msg *m, int *fd)
{
	frontend_send(f, request, m, NULL, 0);
	return frontend_reply(f, m, fd);
}

int frontend_get(struct frontend *f, uint32_t request, uint64_t *value)
{
	struct vhost_user_msg m = {0};
	int rc = frontend_ask(f, request, &m, NULL);

	if (!rc && m.size != sizeof(m.u64))
		rc = -EPROTO;
	*value = rc ? 0 : m.u64;
	return rc;
}

int64_t frontend_set(struct frontend *f, uint32_t request, struct vhost_user_msg *m, const int *fds,
		     unsigned nfds)
{
	const bool ack = f->protocol >> VHOST_USER_PROTOCOL_F_REPLY_ACK & 1;
	uint64_t features;
	int rc;

	if (ack)
		m->flags |= VHOST_USER_NEED_REPLY;
	frontend_send(f, request, m, fds, nfds);
	if (!ack)
		return frontend_get(f, VHOST_USER_GET_FEATURES, &features);
	rc = frontend_reply(f, m, NULL);
	return rc ? rc : (int64_t)m->u64;
}

int64_t frontend_set_u64(struct frontend *f, uint32_t request, uint64_t value)
{
	struct vhost_user_msg m = {.size = sizeof(m.u64), .u64 = value};

	return frontend_set(f, request, &m, NULL, 0);
}

int64_t frontend_set_state(struct frontend *f, uint32_t request, unsigned queue, uint32_t num)
{
	struct vhost_user_msg m = {.size = sizeof(m.state), .state = {queue, num}};

	return frontend_set(f, request, &m, NULL, 0);
}

int64_t frontend_set_fd(struct frontend *f, uint32_t request, uint64_t value, int fd)
{
	struct vhost_user_msg m = {.size = sizeof(m.u64), .u64 = value};

	return frontend_set(f, request, &m, &fd, 1);
}

bool frontend_closed(struct frontend *f)
{
	struct vhost_user_msg m = {0};

	for (;;) {
		int rc = frontend_reply(f, &m, NULL);

		if (rc == -ECONNRESET)
			return true;
		if (rc == -ETIMEDOUT)
			return false;
	}
}

/* --- the usual order --- */

int64_t frontend_greet(struct frontend *f, uint64_t features, uint64_t protocol)
{
	uint64_t offered;
	struct vhost_user_msg m = {0};
	int64_t rc = frontend_get(f, VHOST_USER_GET_FEATURES, &f->offered);

	if (!rc)
		rc = frontend_set(f, VHOST_USER_SET_OWNER, &m, NULL, 0);
	if (!rc && f->offered >> VHOST_USER_F_PROTOCOL_FEATURES & 1) {
		features |= 1ull << VHOST_USER_F_PROTOCOL_FEATURES;
		rc = frontend_get(f, VHOST_USER_GET_PROTOCOL_FEATURES, &offered);
		if (!rc)
			rc = frontend_set_u64(f, VHOST_USER_SET_PROTOCOL_FEATURES, offered & protocol);
		f->protocol = offered & protocol;
	}
	f->features = features & f->offered;
	return rc ? rc : frontend_set_u64(f, VHOST_USER_SET_FEATURES, f->features);
}

struct vhost_user_mem_region frontend_region(const struct frontend *f, unsigned i)
{
	const struct mem_region *r = &f->m.mem.region[i];

	return (struct vhost_user_mem_region){
		.guest_phys_addr = r->gpa,
		.memory_size = r->size,
		.userspace_addr = (uintptr_t)r->hva,
		.mmap_offset = r->fd_offset,
	};
}

int64_t frontend_share(struct frontend *f)
{
	struct vhost_user_msg m = {.memory.nregions = f->m.mem.nregions};
	int fd[] = {f->mem_fd, f->mem_fd};

	for (unsigned i = 0; i < f->m.mem.nregions; i++)
		m.memory.region[i] = frontend_region(f, i);
	m.size = (uint32_t)(offsetof(struct vhost_user_memory, region) +
			    f->m.mem.nregions * sizeof(m.memory.region[0]));
	return frontend_set(f, VHOST_USER_SET_MEM_TABLE, &m, fd, f->m.mem.nregions);
}

static uint64_t user(const struct frontend *f, gpa_t gpa)
{
	return (uintptr_t)guest_mem_ptr(&f->m.mem, gpa, 1);
}

static int64_t describe(struct frontend *f, unsigned queue)
{
	struct frontend_queue *q = &f->q[queue];
	struct vhost_user_msg addr = {.size = sizeof(addr.addr),
				      .addr = {.index = queue,
					       .desc_user_addr = user(f, q->ring.desc_gpa),
					       .avail_user_addr = user(f, q->ring.avail_gpa),
					       .used_user_addr = user(f, q->ring.used_gpa)}};
	int64_t rc = frontend_set_state(f, VHOST_USER_SET_VRING_NUM, queue, q->ring.size);

	if (!rc)
		rc = frontend_set_state(f, VHOST_USER_SET_VRING_BASE, queue, q->ring.used_pos);
	if (!rc)
		rc = frontend_set(f, VHOST_USER_SET_VRING_ADDR, &addr, NULL, 0);
	if (!rc)
		rc = frontend_set_fd(f, 14 /* SET_VRING_ERR */, queue, q->err);
	if (!rc)
		rc = frontend_set_fd(f, VHOST_USER_SET_VRING_CALL, queue, q->call);
	if (!rc)
		rc = frontend_set_fd(f, VHOST_USER_SET_VRING_KICK, queue, q->kick);
	if (!rc && f->features >> VHOST_USER_F_PROTOCOL_FEATURES & 1)
		rc = frontend_set_state(f, VHOST_USER_SET_VRING_ENABLE, queue, 1);
	return rc;
}

int64_t frontend_start(struct frontend *f, unsigned queue, uint16_t size, uint16_t pos)
{
	struct frontend_queue *q = &f->q[queue];

	if (q->made)
		driver_ring_fini(&q->ring);
	driver_ring_init(&q->ring, &f->m, size, f->features, pos);
	q->made = true;
	return describe(f, queue);
}

int64_t frontend_resume(struct frontend *f, unsigned queue)
{
	return describe(f, queue);
}

int64_t frontend_stop(struct frontend *f, unsigned queue)
{
	struct vhost_user_msg m = {.size = sizeof(m.state), .state.index = queue};
	int rc = frontend_ask(f, VHOST_USER_GET_VRING_BASE, &m, NULL);

	return rc ? rc : (int64_t)m.state.num;
}

/* --- traffic --- */

void frontend_kick(struct frontend *f, unsigned queue)
{
	if (driver_ring_kick(&f->q[queue].ring))
		eventfd_write(f->q[queue].kick, 1);
}

int frontend_collect(struct frontend *f, unsigned queue, uint16_t *id, uint32_t *len, unsigned ms)
{
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + ms * (SECOND / 1000);
	int rc;

	while (!(rc = driver_ring_collect(&f->q[queue].ring, id, len))) {
		if (clock_ns(CLOCK_MONOTONIC) > end)
			return 0;
		usleep(20);
	}
	return rc;
}
