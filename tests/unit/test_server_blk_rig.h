/* A front end of the disk server, and requests as a driver makes them. */
#ifndef TEST_SERVER_BLK_RIG_H
#define TEST_SERVER_BLK_RIG_H
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/blk/disk.h"
#include "servers/blk_server.h"
#include "tests/fake/vhost_user_frontend.h"

#define P(f)    (1ull << VHOST_USER_PROTOCOL_F_##f)
#define BIT(n)  (1ull << (n))
#define V1      BIT(VIRTIO_F_VERSION_1)
#define PACKED  BIT(VIRTIO_F_RING_PACKED)
#define EVENT   BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIR   BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define FLUSH   BIT(VIRTIO_BLK_F_FLUSH)
#define RANGES  (BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES))
#define NOTHING 0xee /* a status that nobody wrote */

static struct {
	char path[64];
	struct blk_server *server;
	struct frontend f;
	gpa_t table; /* of indirect descriptors */
} rig;

struct req {
	gpa_t hdr, data, status;
	uint32_t len;
};

static inline void serve_disk(struct blk_server_config c)
{
	struct err e = {0};

	snprintf(rig.path, sizeof(rig.path), "/tmp/test-server-blk-%d.sock", getpid());
	c.path = rig.path;
	cr_assert_eq(blk_server_new(&rig.server, &c, &e), 0, "%s", e.text);
}

static inline uint16_t first_position(uint64_t features)
{
	return (uint16_t)(features & PACKED ? 0x8000 : 0);
}

/* features: device bits and ring bits that are offered, all. */
static inline void come(uint64_t features, uint64_t protocol, unsigned nqueues, uint16_t size)
{
	frontend_connect(&rig.f, rig.path);
	cr_assert_eq(frontend_greet(&rig.f, V1 | features, P(REPLY_ACK) | P(MQ) | protocol), 0);
	cr_assert_eq(rig.f.features & ~BIT(VHOST_USER_F_PROTOCOL_FEATURES), V1 | features, "all was offered");
	cr_assert_eq(frontend_share(&rig.f), 0);
	for (unsigned i = 0; i < nqueues; i++)
		cr_assert_eq(frontend_start(&rig.f, i, size, first_position(features)), 0);
	rig.table = driver_mem_alloc(&rig.f.m, 16 * 64, 16);
}

static inline struct req req_new(uint32_t room)
{
	return (struct req){
		.hdr = driver_mem_alloc(&rig.f.m, 16, 16),
		.data = driver_mem_alloc(&rig.f.m, room ? room : 1, 512),
		.status = driver_mem_alloc(&rig.f.m, 1, 1),
		.len = room,
	};
}

static inline void *data_of(const struct req *r)
{
	return driver_mem_ptr(&rig.f.m, r->data, r->len ? r->len : 1);
}

static inline uint8_t status_of(const struct req *r)
{
	return *(volatile uint8_t *)driver_mem_ptr(&rig.f.m, r->status, 1);
}

static inline void put_header(const struct req *r, uint32_t type, uint64_t sector)
{
	*(struct virtio_blk_outhdr *)driver_mem_ptr(&rig.f.m, r->hdr, 16) =
		(struct virtio_blk_outhdr){.type = type, .sector = sector};
	*(uint8_t *)driver_mem_ptr(&rig.f.m, r->status, 1) = NOTHING;
}

/* Not kicked.  Its id, or -ENOSPC. */
static inline int add(unsigned queue, const struct req *r, uint32_t type, uint64_t sector)
{
	const bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	const struct driver_buf b[] = {{r->hdr, 16, false}, {r->data, r->len, in}, {r->status, 1, true}};
	const struct driver_buf bare[] = {b[0], b[2]};

	put_header(r, type, sector);
	return driver_ring_add(&rig.f.q[queue].ring, r->len ? b : bare, r->len ? 3 : 2);
}

static inline uint8_t chain(unsigned queue, const struct driver_buf *b, unsigned n, const struct req *r,
			    uint32_t *used)
{
	uint16_t id;
	uint32_t len;
	int want = rig.f.features & INDIR ? driver_ring_add_indirect(&rig.f.q[queue].ring, rig.table, b, n)
					  : driver_ring_add(&rig.f.q[queue].ring, b, n);

	cr_assert_geq(want, 0);
	frontend_kick(&rig.f, queue);
	if (frontend_collect(&rig.f, queue, &id, used ? used : &len, 5000) != 1)
		return NOTHING;
	cr_assert_eq(id, want);
	return status_of(r);
}

/* There and back, the only one in flight; the status. */
static inline uint8_t request(unsigned queue, const struct req *r, uint32_t type, uint64_t sector,
			      uint32_t *used)
{
	const bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	const struct driver_buf b[] = {{r->hdr, 16, false}, {r->data, r->len, in}, {r->status, 1, true}};
	const struct driver_buf bare[] = {b[0], b[2]};

	put_header(r, type, sector);
	return chain(queue, r->len ? b : bare, r->len ? 3 : 2, r, used);
}

static inline void fill(void *at, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		((uint8_t *)at)[i] = (uint8_t)(seed >> 24);
	}
}

static inline bool holds(const void *at, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		if (((const uint8_t *)at)[i] != (uint8_t)(seed >> 24))
			return false;
	}
	return true;
}

static inline bool is_zero(const uint8_t *at, size_t len)
{
	return !*at && !memcmp(at, at + 1, len - 1);
}
#endif
