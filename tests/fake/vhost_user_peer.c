#include "tests/fake/vhost_user_peer.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/vhost_user_msg.h"
#include "devices/virtio/virtqueue.h"

#define QUEUES   64
#define PIECES   64
#define INFLIGHT 4096 /* bytes a queue */

struct ring {
	struct datapath_queue q;
	struct queue_stats stats;
	struct virtqueue *vq;
	bool enabled;
	uint16_t held[1024];
	unsigned nheld;
};

struct vhost_user_peer {
	struct vhost_user_peer_config c;
	uint8_t config[VHOST_USER_MAX_CONFIG];
	pthread_t thread;
	pthread_mutex_t lock; /* all of it; not held while the thread waits */
	int wake, listen_fd, fd, channel, inflight;
	bool quit, frozen, lies;
	uint32_t script_request, lie;
	enum peer_fault fault;
	unsigned skip;
	struct vhost_user_reader in;
	uint64_t features, protocol, status;
	struct guest_mem mem;
	uint64_t user[VHOST_USER_MAX_FDS];
	struct ring ring[QUEUES];
	unsigned count[VHOST_USER_NREQUESTS], connections;
	uint64_t value[VHOST_USER_NREQUESTS];
	uint32_t state[VHOST_USER_NREQUESTS][QUEUES];
	uint64_t chains;
};

static void die(const char *what)
{
	fprintf(stderr, "fake vhost-user back end: %s: %s\n", what, strerror(errno));
	abort();
}

/* --- rings --- */

static void walk(struct vhost_user_peer *p, struct ring *r)
{
	struct iovec iov[PIECES];
	struct vq_chain c = {.iov = iov, .iov_max = PIECES};

	if (!r->vq || !r->enabled)
		return;
	do {
		vq_busy(r->vq);
		while (vq_pop(r->vq, &c) == 1) {
			if (p->c.hold) {
				r->held[r->nheld++] = c.head;
				continue;
			}
			vq_push(r->vq, c.head, (uint32_t)c.in_len);
			p->chains++;
		}
	} while (vq_wait(r->vq));
}

static void kicked(struct vhost_user_peer *p, struct ring *r)
{
	uint64_t n;

	if (read(r->q.kick_fd, &n, sizeof(n)) != sizeof(n))
		return;
	if (!r->vq && vq_new(&r->vq, &r->q, &p->mem, p->features))
		r->vq = NULL;
	walk(p, r);
}

static uint32_t ring_base(const struct vhost_user_peer *p, const struct ring *r)
{
	uint32_t pos = r->vq ? vq_position(r->vq) : r->q.next;

	if (!(p->features >> VIRTIO_F_RING_PACKED & 1))
		return (uint16_t)(pos + r->nheld);
	return p->c.high_half ? pos << 16 | pos : pos;
}

static void ring_stop(struct ring *r)
{
	vq_free(r->vq);
	r->vq = NULL;
	r->nheld = 0;
	if (r->q.kick_fd >= 0)
		close(r->q.kick_fd);
	if (r->q.call_fd >= 0)
		close(r->q.call_fd);
	r->q.kick_fd = r->q.call_fd = -1;
}

/* --- memory --- */

static void unmap(struct vhost_user_peer *p)
{
	for (unsigned i = 0; i < p->mem.nregions; i++)
		munmap(p->mem.region[i].hva, p->mem.region[i].size);
	p->mem.nregions = 0;
}

static bool map(struct vhost_user_peer *p, const struct vhost_user_mem_region *m, int fd)
{
	struct mem_region *r = &p->mem.region[p->mem.nregions];

	if (p->mem.nregions == GUEST_MEM_MAX_REGIONS)
		return false;
	*r = (struct mem_region){.gpa = m->guest_phys_addr, .size = m->memory_size, .fd = -1};
	r->hva = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)m->mmap_offset);
	if (r->hva == MAP_FAILED)
		return false;
	p->user[p->mem.nregions++] = m->userspace_addr;
	return true;
}

static bool remove_region(struct vhost_user_peer *p, const struct vhost_user_mem_region *m)
{
	for (unsigned i = 0; i < p->mem.nregions; i++) {
		if (p->mem.region[i].gpa != m->guest_phys_addr || p->user[i] != m->userspace_addr)
			continue;
		munmap(p->mem.region[i].hva, p->mem.region[i].size);
		p->mem.nregions--;
		memmove(&p->mem.region[i], &p->mem.region[i + 1],
			(p->mem.nregions - i) * sizeof(p->mem.region[0]));
		memmove(&p->user[i], &p->user[i + 1], (p->mem.nregions - i) * sizeof(p->user[0]));
		return true;
	}
	return false;
}

static gpa_t gpa_of(const struct vhost_user_peer *p, uint64_t user)
{
	for (unsigned i = 0; i < p->mem.nregions; i++)
		if (user - p->user[i] < p->mem.region[i].size)
			return p->mem.region[i].gpa + (user - p->user[i]);
	return UINT64_MAX;
}

/* --- the connection --- */

static void disconnect(struct vhost_user_peer *p)
{
	if (p->fd < 0)
		return;
	vhost_user_reader_clear(&p->in);
	for (unsigned i = 0; i < QUEUES; i++)
		ring_stop(&p->ring[i]);
	unmap(p);
	close(p->fd);
	if (p->channel >= 0)
		close(p->channel);
	if (p->inflight >= 0)
		close(p->inflight);
	p->fd = p->channel = p->inflight = -1;
}

static void connected(struct vhost_user_peer *p, int fd)
{
	p->fd = fd;
	p->connections++;
	p->features = p->protocol = p->status = 0;
	for (unsigned i = 0; i < QUEUES; i++)
		p->ring[i] = (struct ring){.q = {.index = i, .kick_fd = -1, .call_fd = -1}};
}

static void put(struct vhost_user_peer *p, const void *bytes, size_t len, const int *fds, unsigned nfds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		struct cmsghdr *c = (struct cmsghdr *)(void *)control;

		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		*c = (struct cmsghdr){CMSG_LEN(nfds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	if (sendmsg(p->fd, &h, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		die("sendmsg");
}

/* -1: no answer came. */
static int64_t ask(int channel, const struct vhost_user_msg *m, const int *fds, unsigned nfds)
{
	struct vhost_user_reader in = {0};
	struct pollfd f = {.fd = channel, .events = POLLIN};
	int64_t answer = -1;

	if (!vhost_user_send(channel, m, fds, nfds, UINT64_MAX) && (m->flags & VHOST_USER_NEED_REPLY) &&
	    poll(&f, 1, 1000) == 1 && vhost_user_read(channel, &in) == 1)
		answer = (int64_t)in.msg.u64;
	vhost_user_reader_clear(&in);
	return answer;
}

static void reply(struct vhost_user_peer *p, struct vhost_user_msg *m, int fd, enum peer_fault fault)
{
	const struct vhost_user_msg change = {.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
					      .flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY};

	uint8_t bytes[VHOST_USER_HDR_LEN + VHOST_USER_MAX_PAYLOAD + 4] = {0};
	int fds[32];
	unsigned nfds = fd >= 0;
	size_t len;

	m->flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
	len = VHOST_USER_HDR_LEN + m->size;
	memcpy(bytes + VHOST_USER_HDR_LEN, &m->u64, m->size);
	for (unsigned i = 0; i < 32; i++)
		fds[i] = fd >= 0 ? fd : p->wake;
	switch (fault) {
	case PEER_SILENT:
		return;
	case PEER_SHORT:
		m->size -= 3;
		len -= 3;
		break;
	case PEER_LONG:
		m->size += 3;
		len += 3;
		break;
	case PEER_HUGE:
		m->size = UINT32_MAX;
		break;
	case PEER_WRONG_ID:
		m->request++;
		break;
	case PEER_NO_REPLY:
		m->flags &= ~VHOST_USER_REPLY;
		break;
	case PEER_WRONG_VERSION:
		m->flags ^= VHOST_USER_VERSION_MASK;
		break;
	case PEER_FDS:
		nfds += 3;
		break;
	case PEER_MANY_FDS:
		nfds = 32;
		break;
	case PEER_WRONG_QUEUE:
		bytes[VHOST_USER_HDR_LEN] ^= 1;
		break;
	case PEER_ZERO:
		memset(bytes + VHOST_USER_HDR_LEN, 0, m->size);
		break;
	case PEER_ASKS:
		if (ask(p->channel, &change, NULL, 0))
			return;
		break;
	default:
		break;
	}
	memcpy(bytes, m, VHOST_USER_HDR_LEN);
	if (fault != PEER_DRIPS && fault != PEER_CRAWLS) {
		put(p, bytes, len, fds, nfds);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		put(p, bytes + i, 1, fds, i ? 0 : nfds);
		usleep(fault == PEER_DRIPS ? 100 : 30000);
	}
}

/* --- messages --- */

static bool set_addr(struct vhost_user_peer *p, const struct vhost_vring_addr *a)
{
	struct datapath_queue *q = &p->ring[a->index].q;

	q->desc = gpa_of(p, a->desc_user_addr);
	q->avail = gpa_of(p, a->avail_user_addr);
	q->used = gpa_of(p, a->used_user_addr);
	return q->desc != UINT64_MAX && q->avail != UINT64_MAX && q->used != UINT64_MAX;
}

static bool set_mem_table(struct vhost_user_peer *p, const struct vhost_user_msg *m)
{
	unmap(p);
	if (p->in.nfds != m->memory.nregions)
		return false;
	for (unsigned i = 0; i < m->memory.nregions; i++)
		if (!map(p, &m->memory.region[i], p->in.fd[i]))
			return false;
	return true;
}

static int take_fd(struct vhost_user_peer *p)
{
	int fd = p->in.nfds ? p->in.fd[0] : -1;

	if (p->in.nfds)
		p->in.fd[0] = -1;
	return fd;
}

static bool swap_fd(struct vhost_user_peer *p, int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = take_fd(p);
	return *fd >= 0;
}

/* What the specification names in its answer goes into m.  1: that is the answer; 0: acknowledge; -1: refuse.
 */
static int obey(struct vhost_user_peer *p, struct vhost_user_msg *m, int *fd)
{
	const bool protocol = p->c.features >> VHOST_USER_F_PROTOCOL_FEATURES & 1;
	struct ring *r = &p->ring[m->state.index % QUEUES], *ur = &p->ring[m->u64 % QUEUES];

	switch (m->request) {
	case VHOST_USER_GET_FEATURES:
		m->u64 = p->c.features;
		break;
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		m->u64 = p->c.protocol;
		break;
	case VHOST_USER_GET_QUEUE_NUM:
		m->u64 = p->c.queues;
		break;
	case VHOST_USER_GET_MAX_MEM_SLOTS:
		m->u64 = p->c.mem_slots ? p->c.mem_slots : 8;
		break;
	case VHOST_USER_GET_STATUS:
		m->u64 = p->status;
		break;
	case VHOST_USER_GET_CONFIG:
		if (m->config.offset + m->config.size > p->c.config_len) {
			m->size = 0;
			return 1;
		}
		memcpy(m->config.region, p->config + m->config.offset, m->config.size);
		return 1;
	case VHOST_USER_GET_VRING_BASE:
		m->state.num = p->lies ? p->lie : ring_base(p, r);
		r->q.next = (uint16_t)m->state.num;
		ring_stop(r);
		return 1;
	case VHOST_USER_GET_INFLIGHT_FD:
		if (p->inflight >= 0)
			close(p->inflight);
		p->inflight = memfd_create("inflight", MFD_CLOEXEC);
		m->inflight.mmap_size = m->inflight.num_queues * (uint64_t)INFLIGHT;
		if (p->inflight < 0 || ftruncate(p->inflight, (off_t)m->inflight.mmap_size))
			die("memfd");
		m->inflight.mmap_offset = 0;
		*fd = p->inflight;
		return 1;
	case VHOST_USER_SET_FEATURES:
		p->features = m->u64;
		for (unsigned i = 0; i < QUEUES && !protocol; i++)
			p->ring[i].enabled = true;
		return m->u64 & ~p->c.features ? -1 : 0;
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		p->protocol = m->u64;
		return m->u64 & ~p->c.protocol ? -1 : 0;
	case VHOST_USER_SET_MEM_TABLE:
		return set_mem_table(p, m) ? 0 : -1;
	case VHOST_USER_ADD_MEM_REG:
		return p->in.nfds == 1 && map(p, &m->mem_reg.region, p->in.fd[0]) ? 0 : -1;
	case VHOST_USER_REM_MEM_REG:
		return remove_region(p, &m->mem_reg.region) ? 0 : -1;
	case VHOST_USER_SET_VRING_NUM:
		r->q.size = (uint16_t)m->state.num;
		return 0;
	case VHOST_USER_SET_VRING_BASE:
		r->q.next = (uint16_t)m->state.num;
		return 0;
	case VHOST_USER_SET_VRING_ADDR:
		return m->addr.index < QUEUES && set_addr(p, &m->addr) ? 0 : -1;
	case VHOST_USER_SET_VRING_KICK:
		ur->q.stats = &ur->stats;
		return swap_fd(p, &ur->q.kick_fd) ? 0 : -1;
	case VHOST_USER_SET_VRING_CALL:
		return swap_fd(p, &ur->q.call_fd) ? 0 : -1;
	case VHOST_USER_SET_VRING_ENABLE:
		r->enabled = m->state.num;
		walk(p, r);
		return 0;
	case VHOST_USER_SET_BACKEND_REQ_FD:
		return swap_fd(p, &p->channel) ? 0 : -1;
	case VHOST_USER_SET_INFLIGHT_FD:
		return swap_fd(p, &p->inflight) ? 0 : -1;
	case VHOST_USER_SET_CONFIG:
		if (m->config.offset + m->config.size > p->c.config_len)
			return -1;
		memcpy(p->config + m->config.offset, m->config.region, m->config.size);
		return 0;
	case VHOST_USER_SET_STATUS:
		p->status = m->u64;
		return 0;
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_NET_SET_MTU:
	case VHOST_USER_RESET_DEVICE:
		return 0;
	default:
		return -1;
	}
	m->size = sizeof(m->u64);
	return 1;
}

static void note(struct vhost_user_peer *p, const struct vhost_user_msg *m)
{
	if (m->request >= VHOST_USER_NREQUESTS)
		return;
	p->count[m->request]++;
	p->value[m->request] = m->u64;
	if (m->size == sizeof(m->state) && m->state.index < QUEUES)
		p->state[m->request][m->state.index] = m->state.num;
}

static enum peer_fault script(struct vhost_user_peer *p, uint32_t request)
{
	if (request != p->script_request || p->skip-- > 0)
		return PEER_OBEYS;
	p->script_request = 0;
	return p->fault;
}

static void handle(struct vhost_user_peer *p)
{
	struct vhost_user_msg m = p->in.msg;
	const bool need_reply = m.flags & VHOST_USER_NEED_REPLY;
	enum peer_fault fault = script(p, m.request);
	int fd = -1, rc;

	note(p, &m);
	if (fault == PEER_CLOSES) {
		disconnect(p);
		return;
	}
	rc = fault == PEER_REFUSES ? -1 : obey(p, &m, &fd);
	vhost_user_reader_clear(&p->in);
	if (rc > 0) {
		reply(p, &m, fd, fault);
		return;
	}
	if (need_reply) {
		m.u64 = rc < 0;
		m.size = sizeof(m.u64);
		reply(p, &m, -1, fault);
	} else if (rc < 0) {
		disconnect(p);
	}
}

static void readable(struct vhost_user_peer *p)
{
	int rc = vhost_user_read(p->fd, &p->in);

	if (rc < 0)
		disconnect(p);
	else if (rc > 0)
		handle(p);
}

/* --- the thread --- */

static int unix_socket(const char *path, struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "%s", path);
	return fd;
}

static void try_connect(struct vhost_user_peer *p)
{
	struct sockaddr_un a;
	int fd = unix_socket(p->c.path, &a);

	if (connect(fd, (struct sockaddr *)&a, sizeof(a)))
		close(fd);
	else
		connected(p, fd);
}

/* One round, with the lock but for the wait. */
static void round_trip(struct vhost_user_peer *p)
{
	struct pollfd f[2 + QUEUES] = {{.fd = p->wake, .events = POLLIN}};
	struct ring *of[2 + QUEUES];
	const unsigned connections = p->connections;
	unsigned n = 2;
	uint64_t v;

	f[1] = (struct pollfd){.fd = p->frozen ? -1 : p->fd >= 0 ? p->fd : p->listen_fd, .events = POLLIN};
	for (unsigned i = 0; i < QUEUES && p->fd >= 0; i++)
		if (p->ring[i].q.kick_fd >= 0) {
			of[n] = &p->ring[i];
			f[n++] = (struct pollfd){.fd = p->ring[i].q.kick_fd, .events = POLLIN};
		}
	pthread_mutex_unlock(&p->lock);
	poll(f, n, p->c.connects && f[1].fd < 0 ? 5 : -1);
	pthread_mutex_lock(&p->lock);
	if (f[0].revents && read(p->wake, &v, sizeof(v)) < 0 && errno != EAGAIN)
		die("read");
	if (p->quit || p->connections != connections)
		return;
	for (unsigned i = 2; i < n; i++)
		if (f[i].revents && of[i]->q.kick_fd == f[i].fd)
			kicked(p, of[i]);
	if (p->fd >= 0 && f[1].revents && f[1].fd == p->fd) {
		readable(p);
	} else if (p->fd < 0 && p->c.connects) {
		try_connect(p);
	} else if (p->fd < 0 && f[1].revents && f[1].fd == p->listen_fd) {
		int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			connected(p, fd);
	}
}

static void *run(void *arg)
{
	struct vhost_user_peer *p = arg;

	pthread_mutex_lock(&p->lock);
	while (!p->quit)
		round_trip(p);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct vhost_user_peer *peer_new(const struct vhost_user_peer_config *c)
{
	struct vhost_user_peer *p = calloc(1, sizeof(*p));
	struct sockaddr_un a;

	if (!p)
		die("calloc");
	p->c = *c;
	if (c->config)
		memcpy(p->config, c->config, c->config_len);
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->listen_fd = p->fd = p->channel = p->inflight = -1;
	if (!c->connects) {
		p->listen_fd = unix_socket(c->path, &a);
		unlink(c->path);
		if (bind(p->listen_fd, (struct sockaddr *)&a, sizeof(a)) || listen(p->listen_fd, 4))
			die("listen");
	}
	pthread_mutex_init(&p->lock, NULL);
	if (pthread_create(&p->thread, NULL, run, p))
		die("pthread_create");
	return p;
}

static void lock(struct vhost_user_peer *p)
{
	pthread_mutex_lock(&p->lock);
}

static void unlock(struct vhost_user_peer *p)
{
	pthread_mutex_unlock(&p->lock);
	eventfd_write(p->wake, 1);
}

void peer_free(struct vhost_user_peer *p)
{
	lock(p);
	p->quit = true;
	unlock(p);
	pthread_join(p->thread, NULL);
	disconnect(p);
	if (p->listen_fd >= 0) {
		close(p->listen_fd);
		unlink(p->c.path);
	}
	close(p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* --- what tests ask of it --- */

void peer_script(struct vhost_user_peer *p, uint32_t request, enum peer_fault fault, unsigned skip)
{
	lock(p);
	p->script_request = request;
	p->fault = fault;
	p->skip = skip;
	unlock(p);
}

void peer_hold(struct vhost_user_peer *p, bool on)
{
	lock(p);
	p->c.hold = on;
	for (unsigned i = 0; i < QUEUES && !on; i++) {
		struct ring *r = &p->ring[i];

		for (unsigned k = 0; k < r->nheld; k++)
			vq_push(r->vq, r->held[k], 0);
		p->chains += r->nheld;
		if (r->nheld)
			vq_flush(r->vq);
		r->nheld = 0;
	}
	unlock(p);
}

void peer_freeze(struct vhost_user_peer *p, bool on)
{
	lock(p);
	p->frozen = on;
	unlock(p);
}

void peer_cut(struct vhost_user_peer *p)
{
	lock(p);
	disconnect(p);
	unlock(p);
}

void peer_offer(struct vhost_user_peer *p, uint64_t features, uint64_t protocol)
{
	lock(p);
	p->c.features = features;
	p->c.protocol = protocol;
	unlock(p);
}

void peer_lie(struct vhost_user_peer *p, uint32_t base)
{
	lock(p);
	p->lies = true;
	p->lie = base;
	unlock(p);
}

void peer_say(struct vhost_user_peer *p, const void *bytes, size_t len)
{
	lock(p);
	put(p, bytes, len, NULL, 0);
	unlock(p);
}

int64_t peer_request(struct vhost_user_peer *p, uint32_t id, bool need_reply, unsigned nfds, uint32_t size)
{
	struct vhost_user_msg m = {.request = id,
				   .flags = VHOST_USER_VERSION | (need_reply ? VHOST_USER_NEED_REPLY : 0),
				   .size = size};
	int fds[VHOST_USER_MAX_FDS], channel;
	int64_t answer = -1;

	lock(p);
	channel = p->channel < 0 ? -1 : dup(p->channel);
	for (unsigned i = 0; i < nfds; i++)
		fds[i] = p->wake;
	unlock(p);
	if (channel < 0)
		return -2;
	if (size <= VHOST_USER_MAX_PAYLOAD)
		answer = ask(channel, &m, fds, nfds);
	else if (send(channel, &m, VHOST_USER_HDR_LEN, MSG_NOSIGNAL) < 0)
		answer = -1;
	close(channel);
	return answer;
}

void peer_set_config(struct vhost_user_peer *p, const void *config)
{
	lock(p);
	memcpy(p->config, config, p->c.config_len);
	unlock(p);
}

void peer_config_seen(struct vhost_user_peer *p, void *config)
{
	lock(p);
	memcpy(config, p->config, p->c.config_len);
	unlock(p);
}

unsigned peer_count(struct vhost_user_peer *p, uint32_t request)
{
	unsigned n;

	lock(p);
	n = p->count[request];
	unlock(p);
	return n;
}

uint64_t peer_value(struct vhost_user_peer *p, uint32_t request)
{
	uint64_t v;

	lock(p);
	v = p->value[request];
	unlock(p);
	return v;
}

uint64_t peer_queue_value(struct vhost_user_peer *p, uint32_t request, unsigned queue)
{
	uint64_t v;

	lock(p);
	v = p->state[request][queue];
	unlock(p);
	return v;
}

unsigned peer_connections(struct vhost_user_peer *p)
{
	unsigned n;

	lock(p);
	n = p->connections;
	unlock(p);
	return n;
}

unsigned peer_held(struct vhost_user_peer *p)
{
	unsigned n = 0;

	lock(p);
	for (unsigned i = 0; i < QUEUES; i++)
		n += p->ring[i].nheld;
	unlock(p);
	return n;
}

uint64_t peer_chains(struct vhost_user_peer *p)
{
	uint64_t n;

	lock(p);
	n = p->chains;
	unlock(p);
	return n;
}

int peer_inflight_fd(struct vhost_user_peer *p)
{
	int fd;

	lock(p);
	fd = p->inflight;
	unlock(p);
	return fd;
}
