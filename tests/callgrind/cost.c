/* What a chain, a disk request and a frame cost the device in instructions of this process, with a disk
 * and a port that do nothing.  One case a run, for callgrind to count what happens inside the function
 * that the case names; tests/instructions.sh does that.
 *
 *	cost list                        # name, what a unit is, the function to count in
 *	cost CASE [BURSTS]               # prints how many units */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "devices/blk/blk_queue.h"
#include "devices/blk/disk.h"
#include "devices/net/net_device.h"
#include "devices/virtio/virtqueue.h"
#include "tests/fake/driver_ring.h"
#include "tests/fake/net_rig.h"

#define SIZE   256
#define BIT(n) (UINT64_C(1) << (n))

/* Bursts of one before the others, so that a device has found out that it polls in vain: how long a poll
 * takes is not a matter of instructions. */
#define WARM_UP 1100

#define SPLIT    BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define NO_EVENT BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define PACKED   SPLIT | BIT(VIRTIO_F_RING_PACKED)

struct cost {
	const char *name, *unit, *function;
	unsigned (*run)(const struct cost *c, unsigned bursts);
	uint64_t features;
	unsigned burst, pieces;
	bool indirect;
};

static uint64_t ring_of(const struct cost *c)
{
	return c->features | BIT(VIRTIO_F_VERSION_1);
}

static uint16_t position(const struct cost *c)
{
	return c->features & BIT(VIRTIO_F_RING_PACKED) ? 0x8000 : 0;
}

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "cost: %s\n", what);
	exit(1);
}

static void add(struct driver_ring *r, const struct cost *c, gpa_t table, const struct driver_buf *buf)
{
	int rc = c->indirect ? driver_ring_add_indirect(r, table, buf, c->pieces)
			     : driver_ring_add(r, buf, c->pieces);

	must(rc >= 0, "the ring is full");
}

static unsigned collect(struct driver_ring *r)
{
	unsigned n = 0;

	while (driver_ring_collect(r, NULL, NULL) > 0)
		n++;
	return n;
}

/* --- a ring alone --- */

/* The whole of a device's part: look, take, give back, show, ask. */
__attribute__((noinline)) void device_burst(struct virtqueue *vq);
void device_burst(struct virtqueue *vq)
{
	struct iovec iov[8];
	struct vq_chain c = {.iov = iov, .iov_max = 8};

	vq_busy(vq);
	while (vq_pop(vq, &c) > 0)
		vq_push(vq, c.head, (uint32_t)c.in_len);
	vq_wait(vq);
}

static struct virtqueue *queue_new(const struct cost *c, struct driver_mem *m, struct driver_ring *r)
{
	static struct queue_stats stats;
	struct datapath_queue q = {.kick_fd = -1, .call_fd = -1, .stats = &stats};
	struct virtqueue *vq = NULL;

	driver_mem_init(m);
	driver_ring_init(r, m, SIZE, ring_of(c), position(c));
	driver_ring_queue(r, &q);
	must(!vq_new(&vq, &q, &m->mem, ring_of(c)), "no queue");
	return vq;
}

static unsigned run_ring(const struct cost *c, unsigned bursts)
{
	struct driver_mem m;
	struct driver_ring r;
	struct virtqueue *vq = queue_new(c, &m, &r);
	gpa_t tables = driver_mem_alloc(&m, 16ul * 4 * c->burst, 16), at = driver_mem_alloc(&m, 8192, 4096);
	const struct driver_buf buf[] = {{at, 12, false}, {at + 4096, 1514, true}};
	unsigned n = 0;

	for (unsigned left = WARM_UP + bursts; left--;) {
		for (unsigned i = 0; i < (left < bursts ? c->burst : 1); i++)
			add(&r, c, tables + 64 * i, buf);
		driver_ring_kick(&r);
		device_burst(vq);
		n += collect(&r);
	}
	return n;
}

/* --- a block device's queue --- */

struct disk_lane {
	struct disk_client client;
	struct disk_req *first, **last;
};

static struct disk_lane *null_lane(struct disk *d, struct evloop *loop, unsigned nreqs,
				   const struct disk_client *client)
{
	static struct disk_lane l;

	(void)d, (void)loop, (void)nreqs;
	l.client = *client;
	l.last = &l.first;
	return &l;
}

static void null_submit(struct disk_lane *l, struct disk_req *r)
{
	r->next = NULL;
	*l->last = r;
	l->last = &r->next;
}

static void null_commit(struct disk_lane *l)
{
	struct disk_req *r = l->first;

	if (!r)
		return;
	l->first = NULL;
	l->last = &l->first;
	while (r) {
		struct disk_req *next = r->next;

		r->done(r, 0);
		r = next;
	}
	l->client.batch(l->client.opaque);
}

static const struct disk_ops null_disk = {.lane = null_lane, .submit = null_submit, .commit = null_commit};

static unsigned run_blk(const struct cost *c, unsigned bursts)
{
	static struct disk disk = {.ops = &null_disk, .size = 1 << 20, .block_size = 512};
	static struct blk b = {.disk = &disk, .writeback = true, .dev.name = "blk"};
	struct virtio_blk_outhdr hdr = {.type = htole32(VIRTIO_BLK_T_IN)};
	struct driver_mem m;
	struct driver_ring r;
	struct virtqueue *vq = queue_new(c, &m, &r);
	gpa_t tables = driver_mem_alloc(&m, 64ul * c->burst, 16), at = driver_mem_alloc(&m, 12288, 4096);
	const struct driver_buf buf[] = {{at, 16, false}, {at + 4096, 4096, true}, {at + 8192, 1, true}};
	unsigned n = 0;

	memcpy(driver_mem_ptr(&m, at, 16), &hdr, sizeof(hdr));
	b.dev.queue[0].kick_fd = eventfd(0, EFD_NONBLOCK);
	must(!blk_queue_run(&b, vq), "no block device");
	for (unsigned left = WARM_UP + bursts; left--;) {
		for (unsigned i = 0; i < (left < bursts ? c->burst : 1); i++)
			add(&r, c, tables + 64 * i, buf);
		driver_ring_kick(&r);
		blk_queue_kick(&b, vq);
		n += collect(&r);
	}
	must(!*(uint8_t *)driver_mem_ptr(&m, at + 8192, 1), "a request failed");
	return n;
}

/* --- a network device's queue pair --- */

static unsigned incoming; /* frames the port has */

static int null_attach(struct net_port *p, struct evloop *loop)
{
	(void)p, (void)loop;
	return 0;
}

static void null_detach(struct net_port *p)
{
	(void)p;
}

static ssize_t null_send(struct net_port *p, const struct iovec *iov, int n)
{
	(void)p, (void)n;
	return (ssize_t)iov[0].iov_len;
}

static ssize_t null_recv(struct net_port *p, const struct iovec *iov, int n)
{
	(void)p, (void)n;
	if (!incoming)
		return -EAGAIN;
	incoming--;
	memset(iov[0].iov_base, 0, NET_HDR_LEN);
	return NET_HDR_LEN + 60;
}

static void null_enable(struct net_port *p, bool on)
{
	(void)p, (void)on;
}

static struct net_port_ops null_port; /* the rest as the fake port has it */

static void net_make(struct net_rig *r, const struct cost *c)
{
	net_rig_init(r);
	null_port = *r->port[0].port.ops;
	null_port.attach = null_attach;
	null_port.detach = null_detach;
	null_port.send = null_send;
	null_port.commit = NULL;
	null_port.recv = null_recv;
	null_port.recv_enable = null_enable;
	r->port[0].port.ops = &null_port;
	r->config.queue_size = r->ring_size = SIZE;
	r->ring_features = c->features;
	net_rig_make(r);
	net_rig_start(r, BIT(VIRTIO_NET_F_MRG_RXBUF));
}

/* The driver never takes the device's frames slower than they come: each burst is one turn of the loop. */
static unsigned run_tx(const struct cost *c, unsigned bursts)
{
	struct net_rig r;
	struct driver_buf buf[2] = {{.len = NET_HDR_LEN + 60}};
	unsigned n = 0;

	net_make(&r, c);
	buf[0].addr = net_rig_buffer(&r, NULL, 2048);
	if (c->pieces == 2) {
		buf[0].len = NET_HDR_LEN;
		buf[1] = (struct driver_buf){.addr = net_rig_buffer(&r, NULL, 2048), .len = 60};
	}
	for (unsigned left = WARM_UP + bursts; left--;) {
		for (unsigned i = 0; i < (left < bursts ? c->burst : 1); i++)
			add(&r.ring[1], c, 0, buf);
		net_rig_kick(&r, 1);
		net_rig_turn(&r);
		n += collect(&r.ring[1]);
	}
	return n;
}

static unsigned run_rx(const struct cost *c, unsigned bursts)
{
	struct net_rig r;
	struct driver_buf buf = {.len = 1526, .write = true};
	unsigned n = 0;

	net_make(&r, c);
	buf.addr = net_rig_buffer(&r, NULL, 2048);
	for (unsigned i = 0; i < SIZE; i++)
		add(&r.ring[0], c, 0, &buf);
	net_rig_kick(&r, 0);
	net_rig_turn(&r);
	for (unsigned left = WARM_UP + bursts; left--;) {
		unsigned back;

		incoming = left < bursts ? c->burst : 1;
		r.port[0].port.readable(r.port[0].port.opaque);
		back = collect(&r.ring[0]);
		n += back;
		while (back--)
			add(&r.ring[0], c, 0, &buf);
		driver_ring_kick(&r.ring[0]);
	}
	return n;
}

static const struct cost costs[] = {
	{"ring-split", "chain", "device_burst", run_ring, SPLIT, 32, 2, false},
	{"ring-split-noevent", "chain", "device_burst", run_ring, NO_EVENT, 32, 2, false},
	{"ring-split-inorder", "chain", "device_burst", run_ring, SPLIT | BIT(VIRTIO_F_IN_ORDER), 32, 2, false},
	{"ring-split-indirect", "chain", "device_burst", run_ring, SPLIT, 32, 2, true},
	{"ring-split-alone", "chain", "device_burst", run_ring, SPLIT, 1, 2, false},
	{"ring-packed", "chain", "device_burst", run_ring, PACKED, 32, 2, false},
	{"ring-packed-indirect", "chain", "device_burst", run_ring, PACKED, 32, 2, true},
	{"ring-packed-alone", "chain", "device_burst", run_ring, PACKED, 1, 2, false},
	{"blk-split", "request", "blk_queue_kick", run_blk, SPLIT, 32, 3, false},
	{"blk-split-indirect", "request", "blk_queue_kick", run_blk, SPLIT, 32, 3, true},
	{"blk-split-alone", "request", "blk_queue_kick", run_blk, SPLIT, 1, 3, true},
	{"blk-packed-indirect", "request", "blk_queue_kick", run_blk, PACKED, 32, 3, true},
	{"net-tx-split", "frame", "net_tx_kick", run_tx, SPLIT, 32, 1, false},
	{"net-tx-split-2", "frame", "net_tx_kick", run_tx, SPLIT, 32, 2, false},
	{"net-tx-split-alone", "frame", "net_tx_kick", run_tx, SPLIT, 1, 1, false},
	{"net-tx-packed", "frame", "net_tx_kick", run_tx, PACKED, 32, 1, false},
	{"net-rx-split", "frame", "net_rx_drain", run_rx, SPLIT, 32, 1, false},
	{"net-rx-split-alone", "frame", "net_rx_drain", run_rx, SPLIT, 1, 1, false},
	{"net-rx-packed", "frame", "net_rx_drain", run_rx, PACKED, 32, 1, false},
};

int main(int argc, char **argv)
{
	unsigned bursts = argc > 2 ? (unsigned)atoi(argv[2]) : 100;

	for (unsigned i = 0; i < sizeof(costs) / sizeof(costs[0]); i++) {
		const struct cost *c = &costs[i];

		if (argc > 1 && !strcmp(argv[1], "list"))
			printf("%s %s %s\n", c->name, c->unit, c->function);
		else if (argc > 1 && !strcmp(argv[1], c->name)) {
			unsigned n = c->run(c, bursts);

			must(n == WARM_UP + bursts * c->burst, "not all came back");
			printf("%u\n", n);
		}
	}
	return 0;
}
