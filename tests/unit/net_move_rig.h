/* For the tests of a network device that changes its datapath: ports here, and remotes. */
#ifndef TESTS_UNIT_NET_MOVE_RIG_H
#define TESTS_UNIT_NET_MOVE_RIG_H
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "devices/virtio/virtio_move.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/net_rig.h"
#include "tests/unit/teardown.h"

#define BIT(n)    (1ull << (n))
#define HDR       ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define LEN       (HDR + 60)
#define CTRL      BIT(VIRTIO_NET_F_CTRL_VQ)
#define MQ        BIT(VIRTIO_NET_F_MQ)
#define MRG       BIT(VIRTIO_NET_F_MRG_RXBUF)
#define STATUS    BIT(VIRTIO_NET_F_STATUS)
#define ANNOUNCE  BIT(VIRTIO_NET_F_GUEST_ANNOUNCE)
#define RX_MODE   BIT(VIRTIO_NET_F_CTRL_RX)
#define OFFLOADS  (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4))
#define SET_PAIRS VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET
#define BUFFERS   20u /* receive buffers a pair */

static struct net_rig r;
static struct fake_port other[RIG_MAX_PAIRS], *ports; /* ports: those of now */
static struct fake_datapath remote, second;
static struct net_port_ops ops; /* of all ports: the fake's, looked at */
static unsigned destroys[2 * RIG_MAX_PAIRS];
static uint64_t used_buffers[RIG_MAX_PAIRS]; /* by id: a frame has come in it */
static struct virtio_moved moved;
static struct err e;

static inline void count_destroy(struct net_port *p)
{
	const struct fake_port *f = container_of(p, struct fake_port, port);

	if (f >= other && f < other + RIG_MAX_PAIRS)
		destroys[RIG_MAX_PAIRS + (f - other)]++;
	else
		destroys[f - r.port]++;
}

static void setup(void)
{
	log_set_level(LOG_ERROR);
	net_rig_init(&r);
	ports = r.port;
	ops = *r.port[0].port.ops;
	ops.destroy = count_destroy;
	for (unsigned i = 0; i < RIG_MAX_PAIRS; i++) {
		fake_port_init(&other[i]);
		r.port[i].port.ops = other[i].port.ops = &ops;
	}
	fake_datapath_init(&remote);
	fake_datapath_init(&second);
	remote.kicked = second.kicked = r.loop;
	remote.serve = second.serve = net_rig_walk;
	remote.opaque = second.opaque = r.port;
	remote.offer.drains = second.offer.drains = true;
}

static void teardown(void)
{
	const struct datapath *last = r.dev ? r.dev->remote : NULL;

	net_rig_fini(&r);
	for (unsigned i = 0; i < RIG_MAX_PAIRS; i++) {
		cr_expect_eq(destroys[ports == r.port ? i : RIG_MAX_PAIRS + i], (i < r.config.npairs));
		fake_port_fini(&other[i]);
	}
	cr_expect_eq(remote.mistakes + second.mistakes + r.transport.mistakes, 0);
	cr_expect_eq(remote.running | second.running, 0);
	cr_expect(last != &remote.dp || remote.destroyed == 1);
	cr_expect(last != &second.dp || second.destroyed == 1);
}

static inline void start(unsigned npairs, uint64_t features)
{
	r.config.npairs = npairs;
	net_rig_make(&r);
	net_rig_start(&r, features);
	for (unsigned i = 0; i < (features & MQ ? npairs : 1); i++)
		net_rig_give_buffers(&r, 2 * i, BUFFERS, 200);
	net_rig_settle(&r);
}

/* to NULL: this process; over NULL: the ports there are. */
static inline int move_over(struct fake_datapath *to, struct fake_port *over)
{
	struct net_port *list[RIG_MAX_PAIRS];
	int rc;

	for (unsigned i = 0; over && i < RIG_MAX_PAIRS; i++)
		list[i] = &over[i].port;
	if (to && over)
		to->opaque = over;
	rc = net_move(r.dev, over ? list : NULL, to ? &to->dp : NULL, &(struct virtio_move_how){.drain_ms = 20},
		      &moved, &e);
	if (!rc && over)
		ports = over;
	net_rig_settle(&r);
	return rc;
}

static inline int move(struct fake_datapath *to)
{
	return move_over(to, NULL);
}

#define command(q, ...)                                                                                        \
	net_rig_command(&r, q, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static inline void pattern(uint8_t *f, unsigned seed)
{
	memset(f, 0, LEN);
	for (unsigned i = HDR + 6; i < LEN; i++)
		f[i] = (uint8_t)(seed + i);
}

/* The next buffer that comes back on pair i: does it hold that frame? */
static inline bool collect(unsigned i, unsigned seed)
{
	struct driver_ring *ring = &r.ring[2 * i];
	uint8_t want[LEN];
	uint32_t len = 0;
	uint16_t id = 0;

	pattern(want, seed);
	if (driver_ring_collect(ring, &id, &len) != 1 || len != LEN)
		return false;
	used_buffers[i] |= BIT(id);
	return ring->packed ||
	       !memcmp((char *)driver_mem_ptr(&r.m, ring->desc[id].addr, LEN) + HDR, want + HDR, LEN - HDR);
}

static inline void give(unsigned i, unsigned seed)
{
	uint8_t f[LEN];

	pattern(f, seed);
	fake_port_give(&ports[i], f, LEN);
}

static inline bool comes_in(unsigned i, unsigned seed)
{
	give(i, seed);
	eventfd_write(r.dev->queue[2 * i].kick_fd, 1); /* the walker does not watch the port */
	net_rig_settle(&r);
	return collect(i, seed);
}

static inline bool goes_out(unsigned i, unsigned seed)
{
	struct driver_ring *ring = &r.ring[2 * i + 1];
	struct fake_frame *got;
	uint8_t f[LEN];
	bool same;

	pattern(f, seed);
	cr_assert_geq(driver_ring_add(ring, &(struct driver_buf){net_rig_buffer(&r, f, LEN), LEN, false}, 1),
		      0);
	net_rig_kick(&r, 2 * i + 1);
	net_rig_settle(&r);
	got = fake_port_take(&ports[i]);
	same = got && got->len == LEN && !memcmp(got->data + HDR, f + HDR, LEN - HDR);
	free(got);
	return same && !ports[i].sent.n && driver_ring_collect(ring, NULL, NULL) == 1;
}

#define expect_traffic(i, seed)                                                                                \
	do {                                                                                                   \
		cr_expect(comes_in(i, seed));                                                                  \
		cr_expect(goes_out(i, (seed) + 100));                                                          \
	} while (0)

/* Every receive buffer that has not come back yet does, with a frame, and no more than those. */
static inline void expect_no_buffer_lost(unsigned i)
{
	struct driver_ring *ring = &r.ring[2 * i];

	for (unsigned n = ring->size - ring->nfree; n; n--)
		cr_assert(comes_in(i, n), "%u left", n);
	cr_expect_eq(used_buffers[i], BIT(BUFFERS) - 1);
	cr_expect_not(comes_in(i, 0));
}

static inline bool needs_reset(void)
{
	return virtio_status(r.dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}
#endif
