/* A server whose device gives every chain back as it comes, and a front end for it. */
#ifndef TEST_SERVER_RIG_H
#define TEST_SERVER_RIG_H
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "servers/vhost_user_server.h"
#include "tests/fake/vhost_user_frontend.h"
#include "vmm/loop_thread.h"

#define P(f)     (1ull << VHOST_USER_PROTOCOL_F_##f)
#define BIT(n)   (1ull << (n))
#define OFFERED  (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_RING_PACKED))
#define CONFIG   60
#define QUEUES   4
#define BAD_SLOT 8 /* of config: reading it fails */

/* A device that gives every chain back as it comes. */
static struct {
	struct loop_thread loop;
	struct vhost_user_server *server;
	struct frontend f;
	char path[64];
	uint8_t config[CONFIG];
	uint64_t features;
	_Atomic unsigned starts, stops, kicks, running, connected;
	_Atomic int refuse;
} t;

static inline int set_features(void *dev, uint64_t features)
{
	(void)dev;
	t.features = features;
	return 0;
}

static inline int config_read(void *dev, uint32_t off, void *buf, uint32_t len)
{
	(void)dev;
	if (off == BAD_SLOT && len == 1)
		return -EIO;
	memcpy(buf, t.config + off, len);
	return 0;
}

static inline int config_write(void *dev, uint32_t off, const void *buf, uint32_t len)
{
	(void)dev;
	memcpy(t.config + off, buf, len);
	return 0;
}

static struct evloop *loop(void *dev, unsigned queue)
{
	(void)dev;
	(void)queue;
	return t.loop.loop;
}

static inline int queue_start(void *dev, struct server_queue *q)
{
	(void)dev;
	(void)q;
	if (t.refuse)
		return t.refuse;
	t.starts++;
	t.running++;
	return 0;
}

static inline void queue_stop(void *dev, struct server_queue *q)
{
	(void)dev;
	cr_assert_eq(vq_inflight(q->vq), 0);
	t.stops++;
	t.running--;
}

static inline void queue_kick(void *dev, struct server_queue *q)
{
	struct iovec iov[16];
	int rc;

	(void)dev;
	t.kicks++;
	do {
		struct vq_chain c = {.iov = iov, .iov_max = 16};

		while ((rc = server_queue_pop(q, &c)) > 0) {
			if (c.nin)
				memset(c.iov[c.nout].iov_base, 0x5a, c.iov[c.nout].iov_len);
			server_queue_push(q, c.head, (uint32_t)c.in_len);
			c = (struct vq_chain){.iov = iov, .iov_max = 16};
		}
	} while (vq_wait(q->vq));
	server_queue_broken(q);
}

static inline void connected(void *dev, bool on)
{
	(void)dev;
	if (on)
		t.connected++;
}

static const struct server_device_ops rig_ops = {
	.name = "test",
	.set_features = set_features,
	.config_read = config_read,
	.config_write = config_write,
	.loop = loop,
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.queue_kick = queue_kick,
	.connected = connected,
};

static inline void serve(bool connects)
{
	const struct server_config c = {
		.path = t.path,
		.connects = connects,
		.retry_ms = 10,
		.ops = &rig_ops,
		.features = OFFERED,
		.config_len = CONFIG,
		.max_queues = QUEUES,
		.max_queue_size = 1024,
		.inflight = true,
		.mtu = true,
	};
	struct err e = {0};

	cr_assert_eq(vhost_user_server_new(&t.server, &c, &e), 0, "%s", e.text);
}

static inline void init(void)
{
	snprintf(t.path, sizeof(t.path), "/tmp/test-server-%d.sock", getpid());
	for (unsigned i = 0; i < CONFIG; i++)
		t.config[i] = (uint8_t)(i + 1);
	cr_assert_eq(loop_thread_start(&t.loop, "queues", -1, NULL), 0);
	serve(false);
}

static inline void fini(void)
{
	vhost_user_server_free(t.server);
	loop_thread_stop(&t.loop);
	cr_assert_eq(access(t.path, F_OK), -1, "the socket stays");
}

static inline void begin(uint64_t protocol)
{
	frontend_connect(&t.f, t.path);
	cr_assert_eq(frontend_greet(&t.f, BIT(VIRTIO_F_VERSION_1), protocol), 0);
}

static inline void begin_and_start(uint64_t features, uint64_t protocol)
{
	const uint16_t pos = (uint16_t)((features >> VIRTIO_F_RING_PACKED & 1) << 15);

	frontend_connect(&t.f, t.path);
	cr_assert_eq(frontend_greet(&t.f, features, protocol), 0);
	cr_assert_eq(frontend_share(&t.f), 0);
	cr_assert_eq(frontend_start(&t.f, 0, 64, pos), 0);
}

static inline bool traffic(unsigned queue, unsigned n)
{
	struct driver_buf b = {.addr = driver_mem_alloc(&t.f.m, 64, 8), .len = 64, .write = true};

	for (unsigned i = 0; i < n; i++) {
		uint16_t id;
		uint32_t len = 0;
		char *p = driver_mem_ptr(&t.f.m, b.addr, 64);

		*p = 0;
		if (driver_ring_add(&t.f.q[queue].ring, &b, 1) < 0)
			return false;
		frontend_kick(&t.f, queue);
		if (frontend_collect(&t.f, queue, &id, &len, 5000) != 1 || len != 64 || *p != 0x5a)
			return false;
	}
	return true;
}

static inline unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* The server is alive and serves whoever comes next. */
static inline void next_one_is_served(void)
{
	frontend_close(&t.f);
	begin_and_start(BIT(VIRTIO_F_VERSION_1), P(REPLY_ACK));
	cr_assert(traffic(0, 3));
	frontend_close(&t.f);
}
#endif
