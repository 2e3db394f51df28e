/* A vhost-user datapath on a loop's thread, a driver with shared memory, and the scripted back end. */
#ifndef VHOST_USER_RIG_H
#define VHOST_USER_RIG_H
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "backends/vhost_user.h"
#include "backends/vhost_user_msg.h"
#include "lib/log.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/vhost_user_peer.h"
#include "vmm/loop_thread.h"

#define BIT(n)   (1ull << (n))
#define PROTOCOL BIT(VHOST_USER_F_PROTOCOL_FEATURES)
#define SPLIT    (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX))
#define PACKED   (SPLIT | BIT(VIRTIO_F_RING_PACKED))
#define P(bit)   BIT(VHOST_USER_PROTOCOL_F_##bit)
#define P_ALL                                                                                                  \
	(P(MQ) | P(REPLY_ACK) | P(NET_MTU) | P(BACKEND_REQ) | P(CONFIG) | P(INFLIGHT_SHMFD) |                  \
	 P(RESET_DEVICE) | P(CONFIGURE_MEM_SLOTS) | P(STATUS))
#define SIDES        4
#define RING_SIZE    64
#define REPLY_MS     2000 /* where it must not run out */
#define SHORT_MS     150  /* where it must */
#define RECONNECT_MS 5

struct rig_side {
	struct driver_ring ring;
	struct datapath_queue q;
	struct queue_stats stats;
	unsigned added, collected;
};

static struct rig {
	struct loop_thread t;
	struct driver_mem m;
	int memfd[2];
	char path[64];
	struct vhost_user_peer_config peer_config;
	struct vhost_user_config config;
	struct vhost_user_peer *peer;
	struct datapath *dp;
	struct datapath_events events;
	struct err e;
	uint64_t accepted;
	unsigned nqueues;
	gpa_t buf;
	struct rig_side side[SIDES];
	_Atomic unsigned failed, config_changed, let_go;
	_Atomic int failed_err;
} rig;

/* Memory that others can map, in the place of what is there. */
static void share(const struct guest_mem *mem, int *memfd)
{
	struct guest_mem *m = (struct guest_mem *)(uintptr_t)mem;

	for (unsigned i = 0; i < m->nregions; i++) {
		struct mem_region *r = &m->region[i];
		int fd = memfd_create("guest", MFD_CLOEXEC);

		cr_assert(fd >= 0);
		cr_assert_eq(ftruncate(fd, (off_t)(r->size + 8192)), 0);
		cr_assert_eq(pwrite(fd, r->hva, r->size, 8192), (ssize_t)r->size);
		cr_assert_eq(mmap(r->hva, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 8192),
			     r->hva);
		r->fd = memfd[i] = fd;
		r->fd_offset = 8192;
	}
}

static void on_failed(void *opaque, int err)
{
	(void)opaque;
	rig.failed_err = err;
	rig.failed++;
}

static void on_config_changed(void *opaque)
{
	(void)opaque;
	rig.config_changed++;
}

static void on_let_go(void *opaque)
{
	(void)opaque;
	rig.let_go++;
}

static inline uint64_t rig_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* A condition that another thread brings about. */
#define eventually(c)                                                                                          \
	({                                                                                                     \
		const uint64_t until_ = rig_now_ms() + 5000;                                                   \
		while (!(c) && rig_now_ms() < until_)                                                          \
			usleep(200);                                                                           \
		(bool)(c);                                                                                     \
	})

static inline unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* A back end that offers everything; tests take away. */
static void rig_init(void)
{
	const char *tmp = getenv("TMPDIR");

	memset(&rig, 0, sizeof(rig));
	log_set_level(LOG_ERROR);
	cr_assert_eq(loop_thread_start(&rig.t, "vu", -1, &rig.e), 0, "%s", rig.e.text);
	driver_mem_init(&rig.m);
	rig.buf = driver_mem_alloc(&rig.m, 64 * 1024, 16);
	snprintf(rig.path, sizeof(rig.path), "%s/vu-%d.sock", tmp ? tmp : "/tmp", getpid());
	rig.events = (struct datapath_events){on_config_changed, on_failed, on_let_go};
	rig.peer_config = (struct vhost_user_peer_config){
		.path = rig.path,
		.features = PROTOCOL | PACKED,
		.protocol = P(MQ) | P(REPLY_ACK),
		.queues = SIDES,
	};
	rig.config = (struct vhost_user_config){
		.name = "vu0",
		.path = rig.path,
		.wait_ms = 2000,
		.reply_ms = REPLY_MS,
		.device_type = VIRTIO_ID_NET,
		.nqueues = 2,
		.loop = rig.t.loop,
	};
	rig.nqueues = 2;
	rig.accepted = SPLIT;
}

static inline void rig_destroy(void)
{
	if (rig.dp)
		rig.dp->ops->destroy(rig.dp);
	rig.dp = NULL;
}

static void rig_fini(void)
{
	rig_destroy();
	if (rig.peer)
		peer_free(rig.peer);
	loop_thread_stop(&rig.t);
	for (unsigned i = 0; i < SIDES; i++)
		if (rig.side[i].ring.slot) {
			close(rig.side[i].q.kick_fd);
			close(rig.side[i].q.call_fd);
			driver_ring_fini(&rig.side[i].ring);
		}
	driver_mem_fini(&rig.m);
}

static void rig_peer(void)
{
	rig.peer = peer_new(&rig.peer_config);
}

static inline int rig_try_new(void)
{
	int rc = vhost_user_new(&rig.dp, &rig.config, &rig.e);

	if (rc) {
		rig.dp = NULL;
		return rc;
	}
	rig.dp->events = &rig.events;
	return 0;
}

/* The rings as a driver that has just come has them. */
static void rig_rings(void)
{
	const uint16_t pos = (uint16_t)(rig.accepted & BIT(VIRTIO_F_RING_PACKED) ? 0x8000 : 0);

	for (unsigned i = 0; i < rig.nqueues; i++) {
		struct rig_side *s = &rig.side[i];
		const int kick = s->ring.slot ? s->q.kick_fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		const int call = s->ring.slot ? s->q.call_fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		if (s->ring.slot)
			driver_ring_fini(&s->ring);
		driver_ring_init(&s->ring, &rig.m, RING_SIZE, rig.accepted, pos);
		driver_ring_queue(&s->ring, &s->q);
		s->q.index = i;
		s->q.stats = &s->stats;
		s->q.kick_fd = kick;
		s->q.call_fd = call;
		s->q.lost = false;
		s->added = s->collected = 0;
	}
	if (!rig.memfd[0])
		share(&rig.m.mem, rig.memfd);
}

/* Peer, datapath and rings. */
static inline void rig_make(void)
{
	rig_peer();
	cr_assert_eq(rig_try_new(), 0, "%s", rig.e.text);
	rig_rings();
}

struct rig_step {
	struct datapath_setup setup;
	bool start;
	int rc;
};

static void rig_step(void *arg)
{
	struct rig_step *x = arg;

	if (x->start)
		x->rc = rig.dp->ops->start(rig.dp, &x->setup);
	else
		rig.dp->ops->stop(rig.dp, &x->setup);
}

static inline int rig_transit(bool start, unsigned first, unsigned n)
{
	struct datapath_queue q[SIDES];
	struct rig_step x = {
		.setup = {.mem = &rig.m.mem, .features = rig.accepted, .nqueues = n, .queue = q},
		.start = start,
	};

	for (unsigned i = 0; i < n; i++)
		q[i] = rig.side[first + i].q;
	evloop_call(rig.t.loop, rig_step, &x);
	for (unsigned i = 0; i < n; i++) {
		if (!start)
			rig.side[first + i].q = q[i];
		else if (!x.rc) {
			eventfd_write(q[i].kick_fd, 1);
			eventfd_write(q[i].call_fd, 1);
		}
	}
	return x.rc;
}

static inline int rig_start(void)
{
	return rig_transit(true, 0, rig.nqueues);
}

static inline void rig_stop(void)
{
	rig_transit(false, 0, rig.nqueues);
}

/* One chain more in queue i, kicked. */
static inline void rig_add(unsigned i)
{
	struct rig_side *s = &rig.side[i];
	const gpa_t at = rig.buf + 32 * i;
	const struct driver_buf buf[] = {{at, 16, false}, {at + 16, 16, true}};

	cr_assert(driver_ring_add(&s->ring, buf, 2) >= 0);
	s->added++;
	if (driver_ring_kick(&s->ring))
		eventfd_write(s->q.kick_fd, 1);
}

static inline unsigned rig_collect(unsigned i)
{
	struct rig_side *s = &rig.side[i];
	int rc;

	while ((rc = driver_ring_collect(&s->ring, NULL, NULL)) > 0)
		s->collected++;
	cr_assert_eq(rc, 0, "nonsense in the used ring");
	return s->collected;
}

#define rig_all_back(i) eventually(rig_collect(i) == rig.side[i].added)

static inline bool rig_traffic(unsigned i, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		rig_add(i);
	return rig_all_back(i);
}

static inline struct vhost_user_info rig_info(void)
{
	struct vhost_user_info info;

	vhost_user_info(rig.dp, &info);
	return info;
}
#endif
