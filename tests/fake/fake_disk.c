#include "tests/fake/fake_disk.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "lib/cleanup.h"

#define NO_STATUS 0xee

/* --- the disk --- */

struct disk_lane {
	struct fake_disk *f;
	struct disk_client client;
	struct disk_req *first; /* the newest */
	unsigned n, nreqs;
	bool running;
};

static struct fake_disk *fake_of(struct disk *d)
{
	return container_of(d, struct fake_disk, disk);
}

static void move(struct fake_disk *f, const struct disk_req *r, bool in)
{
	uint64_t at = r->offset, sum = 0;

	for (int i = 0; i < r->iovcnt; i++) {
		sum += r->iov[i].iov_len;
		f->mistakes += !r->iov[i].iov_len; /* which would make a list of a single buffer */
	}
	if (sum != r->len) {
		f->mistakes++;
		return;
	}
	for (int i = 0; i < r->iovcnt; i++) {
		if (in)
			memcpy(r->iov[i].iov_base, f->data + at, r->iov[i].iov_len);
		else
			memcpy(f->data + at, r->iov[i].iov_base, r->iov[i].iov_len);
		at += r->iov[i].iov_len;
	}
}

static int perform(struct fake_disk *f, const struct disk_req *r)
{
	if (f->fail[r->op] && f->nlog > f->fail_from)
		return f->fail[r->op];
	switch (r->op) {
	case DISK_READ:
		move(f, r, true);
		break;
	case DISK_WRITE:
		move(f, r, false);
		break;
	case DISK_FLUSH:
		break;
	case DISK_DISCARD:
		memset(f->data + r->offset, 0xdd, r->len);
		break;
	case DISK_ZERO:
	case DISK_ZERO_UNMAP:
		memset(f->data + r->offset, 0, r->len);
		break;
	}
	return 0;
}

static struct disk_lane *fake_lane(struct disk *d, struct evloop *loop, unsigned nreqs,
				   const struct disk_client *client)
{
	struct fake_disk *f = fake_of(d);
	struct disk_lane *l;

	(void)loop;
	if (f->fail_lane) {
		errno = f->fail_lane;
		return NULL;
	}
	l = calloc(1, sizeof(*l));
	assert(l);
	*l = (struct disk_lane){.f = f, .client = *client, .nreqs = nreqs};
	for (unsigned i = 0; i < BLK_MAX_QUEUES; i++)
		if (!f->lane[i]) {
			f->lane[i] = l;
			break;
		}
	f->lanes++;
	return l;
}

static void fake_lane_free(struct disk_lane *l)
{
	l->f->mistakes += l->n != 0;
	for (unsigned i = 0; i < BLK_MAX_QUEUES; i++)
		if (l->f->lane[i] == l)
			l->f->lane[i] = NULL;
	l->f->lanes--;
	free(l);
}

static void fake_submit(struct disk_lane *l, struct disk_req *r)
{
	struct fake_disk *f = l->f;

	if (f->nlog < FAKE_DISK_LOG)
		f->log[f->nlog] = (struct fake_disk_note){r->op, r->durable, r->offset, r->len};
	f->nlog++;
	f->mistakes += r->offset > f->room || r->len > f->room - r->offset;
	f->mistakes += r->offset % f->disk.block_size || r->len % f->disk.block_size;
	f->mistakes += ++l->n > l->nreqs;
	f->held++;
	r->next = l->first;
	l->first = r;
}

static void run(struct disk_lane *l, unsigned n)
{
	bool any = false;

	if (l->running)
		return;
	l->running = true;
	for (struct disk_req *r; n-- && (r = l->first); any = true) {
		l->first = r->next;
		l->n--;
		l->f->held--;
		r->done(r, perform(l->f, r));
	}
	l->running = false;
	if (any)
		l->client.batch(l->client.opaque);
}

static void fake_commit(struct disk_lane *l)
{
	if (!l->f->hold)
		run(l, UINT32_MAX);
}

static void fake_drain(struct disk_lane *l)
{
	run(l, UINT32_MAX);
}

static int fake_lock(struct disk *d, bool on)
{
	(void)d;
	(void)on;
	return 0;
}

static int fake_refresh(struct disk *d)
{
	(void)d;
	return 0;
}

static void fake_destroy(struct disk *d)
{
	fake_of(d)->destroyed++;
}

static const struct disk_ops fake_ops = {
	.name = "fake",
	.lane = fake_lane,
	.lane_free = fake_lane_free,
	.submit = fake_submit,
	.commit = fake_commit,
	.drain = fake_drain,
	.lock = fake_lock,
	.refresh = fake_refresh,
	.destroy = fake_destroy,
};

struct fake_disk *fake_disk_new(uint64_t size)
{
	struct fake_disk *f = calloc(1, sizeof(*f));

	assert(f);
	f->disk = (struct disk){
		.ops = &fake_ops,
		.size = size,
		.block_size = 512,
		.physical_block_size = 4096,
		.discard_granularity = 4096,
		.write_zeroes = true,
	};
	f->room = size;
	f->data = calloc(1, size);
	assert(f->data);
	return f;
}

void fake_disk_free(struct fake_disk *f)
{
	free(f->data);
	free(f);
}

void fake_disk_release(struct fake_disk *f, unsigned n)
{
	for (unsigned i = 0; i < BLK_MAX_QUEUES; i++)
		if (f->lane[i])
			run(f->lane[i], n);
}

unsigned fake_disk_count(const struct fake_disk *f, enum disk_op op)
{
	unsigned n = 0;

	for (unsigned i = 0; i < f->nlog && i < FAKE_DISK_LOG; i++)
		n += f->log[i].op == op;
	return n;
}

/* --- the rig --- */

void blk_rig_init(struct blk_rig *g, struct disk *disk)
{
	struct evloop *loops[BLK_MAX_QUEUES];
	struct blk_config c = {.name = "blk0", .loops = loops, .disk = disk};
	struct err e = {0};

	g->disk = disk;
	if (!g->nqueues)
		g->nqueues = 1;
	if (!g->queue_size)
		g->queue_size = 64;
	if (loop_thread_start(&g->io, "io", -1, &e))
		abort();
	driver_mem_init(&g->m);
	for (unsigned i = 0; i < g->nqueues; i++)
		loops[i] = g->io.loop;
	c.mem = &g->m.mem;
	c.nqueues = g->nqueues;
	c.queue_size = g->queue_size;
	c.serial = g->serial;
	c.hidden = g->hidden;
	g->dev = blk_new(&c, &e);
	if (!g->dev)
		abort();
	fake_transport_init(&g->ft, g->dev);
	g->started = false;
}

static uint64_t offered(struct virtio_device *dev)
{
	return virtio_features(dev, 0) | (uint64_t)virtio_features(dev, 1) << 32;
}

static void set_addr(struct virtio_device *dev, unsigned q, enum virtio_queue_addr which, gpa_t gpa)
{
	virtio_queue_set_addr(dev, q, which, false, (uint32_t)gpa);
	virtio_queue_set_addr(dev, q, which, true, (uint32_t)(gpa >> 32));
}

bool blk_rig_live(struct blk_rig *g, uint64_t features)
{
	struct virtio_device *dev = g->dev;
	uint64_t accept = (features | UINT64_C(1) << VIRTIO_F_VERSION_1) & offered(dev);
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	bool ok;

	virtio_lock(dev);
	virtio_set_status(dev, status);
	virtio_set_features(dev, 0, (uint32_t)accept);
	virtio_set_features(dev, 1, (uint32_t)(accept >> 32));
	virtio_set_status(dev, status |= VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned i = 0; i < g->nqueues; i++) {
		struct driver_ring *r = &g->ring[i];

		driver_ring_init(r, &g->m, g->queue_size, accept,
				 (uint16_t)(accept >> VIRTIO_F_RING_PACKED & 1 ? 0x8000 : 0));
		virtio_queue_set_size(dev, i, g->queue_size);
		set_addr(dev, i, VIRTIO_QUEUE_DESC, r->desc_gpa);
		set_addr(dev, i, VIRTIO_QUEUE_AVAIL, r->avail_gpa);
		set_addr(dev, i, VIRTIO_QUEUE_USED, r->used_gpa);
		virtio_queue_set_ready(dev, i, true);
	}
	g->started = true;
	virtio_set_status(dev, status |= VIRTIO_CONFIG_S_DRIVER_OK);
	ok = virtio_status(dev) == status;
	virtio_unlock(dev);
	return ok;
}

void blk_rig_reset(struct blk_rig *g)
{
	virtio_lock(g->dev);
	virtio_set_status(g->dev, 0);
	virtio_unlock(g->dev);
	for (unsigned i = 0; g->started && i < g->nqueues; i++)
		driver_ring_fini(&g->ring[i]);
	g->started = false;
}

void blk_rig_fini(struct blk_rig *g)
{
	virtio_fini(g->dev);
	loop_thread_stop(&g->io);
	g->dev->ops->destroy(g->dev);
	for (unsigned i = 0; g->started && i < g->nqueues; i++)
		driver_ring_fini(&g->ring[i]);
	driver_mem_fini(&g->m);
}

void blk_rig_config(struct blk_rig *g, struct virtio_blk_config *c)
{
	memset(c, 0, sizeof(*c));
	virtio_lock(g->dev);
	for (unsigned i = 0; i < sizeof(*c); i++)
		virtio_config_read(g->dev, i, (char *)c + i, 1);
	virtio_unlock(g->dev);
}

void blk_rig_call(struct blk_rig *g, void (*fn)(void *arg), void *arg)
{
	evloop_call(g->io.loop, fn, arg);
}

static void kick(struct blk_rig *g, unsigned q)
{
	if (driver_ring_kick(&g->ring[q]))
		eventfd_write(g->ft.queue[q].kick_fd, 1);
}

uint16_t blk_rig_add(struct blk_rig *g, unsigned q, const struct driver_buf *buf, unsigned n)
{
	int id = driver_ring_add(&g->ring[q], buf, n);

	if (id < 0)
		abort();
	kick(g, q);
	return (uint16_t)id;
}

bool blk_rig_broken(const struct blk_rig *g)
{
	return g->dev->status & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool blk_rig_wait(struct blk_rig *g, unsigned q, uint16_t *id, uint32_t *len)
{
	uint64_t end = now_ms() + 10000;

	do {
		bool broken = blk_rig_broken(g);
		int rc = driver_ring_collect(&g->ring[q], id, len);

		if (rc == 1)
			return true;
		if (rc < 0 || broken)
			return false;
		sched_yield();
	} while (now_ms() < end);
	return false;
}

void blk_rig_send(struct blk_rig *g, unsigned q, struct blk_rig_req *r)
{
	struct virtio_blk_outhdr hdr = {.type = htole32(r->type), .sector = htole64(r->sector)};
	bool in = r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_GET_ID;
	struct driver_buf buf[3];
	unsigned n = 0;

	r->hdr = driver_mem_alloc(&g->m, sizeof(hdr), 16);
	r->status = driver_mem_alloc(&g->m, 1, 1);
	memcpy(driver_mem_ptr(&g->m, r->hdr, sizeof(hdr)), &hdr, sizeof(hdr));
	*(uint8_t *)driver_mem_ptr(&g->m, r->status, 1) = NO_STATUS;
	buf[n++] = (struct driver_buf){r->hdr, sizeof(hdr), false};
	if (r->len) {
		r->buf = driver_mem_alloc(&g->m, r->len, 512);
		memcpy(driver_mem_ptr(&g->m, r->buf, r->len), r->data, r->len);
		buf[n++] = (struct driver_buf){r->buf, r->len, in};
	}
	buf[n++] = (struct driver_buf){r->status, 1, true};
	r->id = blk_rig_add(g, q, buf, n);
}

static uint8_t finish(struct blk_rig *g, struct blk_rig_req *r)
{
	if (r->len && (r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_GET_ID))
		memcpy(r->data, driver_mem_ptr(&g->m, r->buf, r->len), r->len);
	return *(uint8_t *)driver_mem_ptr(&g->m, r->status, 1);
}

uint8_t blk_rig_result(struct blk_rig *g, unsigned q, struct blk_rig_req *r)
{
	uint16_t id;

	if (!blk_rig_wait(g, q, &id, &r->used_len) || id != r->id)
		return NO_STATUS;
	return finish(g, r);
}

uint8_t blk_rig_do(struct blk_rig *g, uint32_t type, uint64_t sector, void *data, uint32_t len)
{
	struct blk_rig_req r = {.type = type, .sector = sector, .data = data, .len = len};

	blk_rig_send(g, 0, &r);
	return blk_rig_result(g, 0, &r);
}
