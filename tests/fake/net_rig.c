#include "tests/fake/net_rig.h"

#include <linux/virtio_ids.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/net/frame.h"
#include "devices/virtio/virtqueue.h"
#include "lib/cleanup.h"
#include "tests/fake/fake_datapath.h"

#define V1  (1ull << VIRTIO_F_VERSION_1)
#define ACK (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)

static void on_stop(struct ev_watch *w, uint32_t events)
{
	struct net_rig *r = container_of(w, struct net_rig, stop);

	(void)events;
	evloop_quit(r->loop, 0);
}

void net_rig_init(struct net_rig *r)
{
	memset(r, 0, sizeof(*r));
	driver_mem_init(&r->m);
	r->loop = evloop_new();
	r->stop = (struct ev_watch){.fd = eventfd(1, EFD_CLOEXEC), .fn = on_stop};
	if (!r->loop || evloop_add(r->loop, &r->stop, EPOLLIN))
		abort();
	for (unsigned i = 0; i < RIG_MAX_PAIRS; i++)
		fake_port_init(&r->port[i]);
	r->config = (struct net_config){
		.name = "net0",
		.mem = &r->m.mem,
		.npairs = 1,
		.loop = r->loop,
		.mac = {0x02, 0, 0, 0, 0, 0x11},
		.queue_size = 64,
	};
	r->ring_size = 64;
}

void net_rig_make(struct net_rig *r)
{
	struct evloop *loops[RIG_MAX_PAIRS] = {r->loop, r->loop, r->loop};
	struct net_port *ports[RIG_MAX_PAIRS] = {&r->port[0].port, &r->port[1].port, &r->port[2].port};
	struct err e = {0};

	if (!r->config.loops)
		r->config.loops = loops;
	r->config.ports = ports;
	r->dev = net_new(&r->config, &e);
	if (!r->dev) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	if (r->config.loops == loops)
		r->config.loops = NULL;
	fake_transport_init(&r->transport, r->dev);
}

static void drop_rings(struct net_rig *r)
{
	for (unsigned q = 0; q < RIG_QUEUES; q++)
		if (r->up[q])
			driver_ring_fini(&r->ring[q]);
	memset(r->up, 0, sizeof(r->up));
}

void net_rig_fini(struct net_rig *r)
{
	if (r->dev) {
		virtio_fini(r->dev);
		r->dev->ops->destroy(r->dev);
	}
	drop_rings(r);
	for (unsigned i = 0; i < RIG_MAX_PAIRS; i++)
		fake_port_fini(&r->port[i]);
	close(r->stop.fd);
	evloop_free(r->loop);
	driver_mem_fini(&r->m);
}

uint64_t net_rig_offered(const struct net_rig *r)
{
	return virtio_features(r->dev, 0) | (uint64_t)virtio_features(r->dev, 1) << 32;
}

static void set_status(struct net_rig *r, unsigned status)
{
	virtio_lock(r->dev);
	virtio_set_status(r->dev, (uint8_t)status);
	virtio_unlock(r->dev);
}

void net_rig_reset(struct net_rig *r)
{
	set_status(r, 0);
	drop_rings(r);
}

bool net_rig_negotiate(struct net_rig *r, uint64_t features)
{
	features |= V1 | r->ring_features;
	net_rig_reset(r);
	set_status(r, ACK);
	virtio_lock(r->dev);
	virtio_set_features(r->dev, 0, (uint32_t)features);
	virtio_set_features(r->dev, 1, (uint32_t)(features >> 32));
	virtio_unlock(r->dev);
	set_status(r, ACK | VIRTIO_CONFIG_S_FEATURES_OK);
	return virtio_status(r->dev) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void set_addr(struct net_rig *r, unsigned q, enum virtio_queue_addr which, gpa_t gpa)
{
	virtio_queue_set_addr(r->dev, q, which, false, (uint32_t)gpa);
	virtio_queue_set_addr(r->dev, q, which, true, (uint32_t)(gpa >> 32));
}

void net_rig_queue(struct net_rig *r, unsigned q, uint16_t size)
{
	bool packed = r->ring_features & 1ull << VIRTIO_F_RING_PACKED;
	struct datapath_queue d = {0};

	driver_ring_init(&r->ring[q], &r->m, size, r->ring_features, packed ? 0x8000 : 0);
	r->up[q] = true;
	driver_ring_queue(&r->ring[q], &d);
	virtio_lock(r->dev);
	virtio_queue_set_size(r->dev, q, size);
	set_addr(r, q, VIRTIO_QUEUE_DESC, d.desc);
	set_addr(r, q, VIRTIO_QUEUE_AVAIL, d.avail);
	set_addr(r, q, VIRTIO_QUEUE_USED, d.used);
	virtio_queue_set_ready(r->dev, q, true);
	virtio_unlock(r->dev);
}

void net_rig_driver_ok(struct net_rig *r)
{
	set_status(r, ACK | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

void net_rig_start(struct net_rig *r, uint64_t features)
{
	const bool mq = features & 1ull << VIRTIO_NET_F_MQ;
	const unsigned n = mq ? 2 * r->config.npairs : 2;

	if (!net_rig_negotiate(r, features))
		abort();
	for (unsigned q = 0; q < n; q++)
		net_rig_queue(r, q, r->ring_size);
	if (features & 1ull << VIRTIO_NET_F_CTRL_VQ)
		net_rig_queue(r, n, 64);
	net_rig_driver_ok(r);
	net_rig_settle(r);
}

void net_rig_kick(struct net_rig *r, unsigned q)
{
	if (driver_ring_kick(&r->ring[q]))
		eventfd_write(r->dev->queue[q].kick_fd, 1);
}

void net_rig_turn(struct net_rig *r)
{
	evloop_run(r->loop); /* `stop` is always readable */
}

void net_rig_settle(struct net_rig *r)
{
	for (unsigned i = 0; i < 8; i++)
		net_rig_turn(r);
}

gpa_t net_rig_buffer(struct net_rig *r, const void *data, size_t len)
{
	gpa_t gpa = driver_mem_alloc(&r->m, len, 1);

	if (data)
		memcpy(driver_mem_ptr(&r->m, gpa, len), data, len);
	return gpa;
}

void net_rig_give_buffers(struct net_rig *r, unsigned q, unsigned n, uint32_t len)
{
	while (n--) {
		struct driver_buf b = {.addr = net_rig_buffer(r, NULL, len), .len = len, .write = true};

		if (driver_ring_add(&r->ring[q], &b, 1) < 0)
			abort();
	}
	net_rig_kick(r, q);
}

int net_rig_command(struct net_rig *r, unsigned q, const void *data, size_t len)
{
	struct driver_buf b[2] = {
		{.addr = net_rig_buffer(r, data, len), .len = (uint32_t)len},
		{.addr = net_rig_buffer(r, "\xee", 1), .len = 1, .write = true},
	};
	uint32_t written = 0;
	uint16_t id;

	if (driver_ring_add(&r->ring[q], b, 2) < 0)
		abort();
	net_rig_kick(r, q);
	net_rig_settle(r);
	if (driver_ring_collect(&r->ring[q], &id, &written) != 1 || written != 1)
		return -1;
	return *(uint8_t *)driver_mem_ptr(&r->m, b[1].addr, 1);
}

uint16_t net_rig_status(struct net_rig *r)
{
	uint8_t b[2];

	virtio_lock(r->dev);
	virtio_config_read(r->dev, 6, b, 2);
	virtio_unlock(r->dev);
	return (uint16_t)(b[0] | b[1] << 8);
}

/* --- a datapath over the same ports --- */

static struct fake_frame *shift_waiting(struct fake_port *p)
{
	struct fake_frame *frame;

	pthread_mutex_lock(&p->lock);
	frame = p->waiting.first;
	if (frame) {
		p->waiting.first = frame->next;
		if (!frame->next)
			p->waiting.tail = &p->waiting.first;
		p->waiting.n--;
	}
	pthread_mutex_unlock(&p->lock);
	return frame;
}

static void walk_rx(struct fake_port *p, struct virtqueue *vq)
{
	struct iovec iov[8];

	for (;;) {
		struct vq_chain c = {.iov = iov, .iov_max = ARRAY_SIZE(iov)};
		struct fake_frame *frame;

		if (!fake_port_waiting(p))
			return;
		if (vq_pop(vq, &c) != 1) {
			if (vq_wait(vq))
				continue;
			return;
		}
		frame = shift_waiting(p);
		if (!frame || frame->len > c.in_len)
			abort();
		frame_write(iov, c.nin, 0, frame->data, frame->len);
		vq_push(vq, c.head, (uint32_t)frame->len);
		vq_flush(vq);
		free(frame);
	}
}

static void walk_tx(struct fake_port *p, struct virtqueue *vq)
{
	struct iovec iov[8];

	for (;;) {
		struct vq_chain c = {.iov = iov, .iov_max = ARRAY_SIZE(iov)};
		struct fake_frame *frame;

		if (vq_pop(vq, &c) != 1) {
			if (vq_wait(vq))
				continue;
			return;
		}
		frame = malloc(sizeof(*frame) + c.out_len);
		if (!frame)
			abort();
		frame->next = NULL;
		frame->len = frame_read(iov, c.nout, 0, frame->data, c.out_len);
		pthread_mutex_lock(&p->lock);
		*p->sent.tail = frame;
		p->sent.tail = &frame->next;
		p->sent.n++;
		pthread_mutex_unlock(&p->lock);
		vq_push(vq, c.head, 0);
		vq_flush(vq);
	}
}

void net_rig_walk(struct fake_datapath *f, struct virtqueue *vq)
{
	struct fake_port *p = (struct fake_port *)f->opaque + vq_index(vq) / 2;

	if (vq_index(vq) % 2)
		walk_tx(p, vq);
	else
		walk_rx(p, vq);
}
