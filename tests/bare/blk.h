/* Requests of virtio-blk, for the guests that make some. */
#ifndef TESTS_BARE_BLK_H
#define TESTS_BARE_BLK_H
#include <linux/virtio_blk.h>

#include "lib/virtio.h"

#define SECTOR 512

struct blk_req {
	struct virtio_blk_outhdr hdr;
	volatile uint8_t status;
	uint64_t tag; /* the guest's own */
	uint32_t len;
	uint8_t *data;
};

static inline struct blk_req *blk_req_new(uint32_t room)
{
	struct blk_req *r = alloc(sizeof(*r), 64);

	r->data = alloc(room, 4096);
	return r;
}

/* r->data is of r->len bytes.  False: no room. */
static inline bool blk_submit(struct vq *vq, struct blk_req *r, uint32_t type, uint64_t sector)
{
	const struct seg seg[] = {
		{(uint64_t)&r->hdr, sizeof(r->hdr), false},
		{(uint64_t)r->data, r->len, type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID},
		{(uint64_t)&r->status, 1, true},
	};
	const struct seg bare[] = {seg[0], seg[2]};

	r->hdr.type = type;
	r->hdr.ioprio = 0;
	r->hdr.sector = sector;
	r->status = 0xee;
	return r->len ? vq_add(vq, seg, 3, r) : vq_add(vq, bare, 2, r);
}

/* There and back; the status. */
static inline uint8_t blk_do(struct vq *vq, struct blk_req *r, uint32_t type, uint64_t sector, uint32_t len)
{
	uint32_t used;

	r->len = len;
	REQUIRE(blk_submit(vq, r, type, sector));
	vq_kick(vq);
	if (!vq_wait(vq))
		finish();
	CHECK(vq_get(vq, &used) == r);
	if (type == VIRTIO_BLK_T_OUT)
		CHECK_EQ(used, 1);
	else if (type == VIRTIO_BLK_T_IN && !r->status)
		CHECK_EQ(used, len + 1);
	return r->status;
}

static inline void put_decimal(char *p, uint64_t v, unsigned width)
{
	while (width--) {
		p[width] = (char)('0' + v % 10);
		v /= 10;
	}
}

static inline void put_text(char *p, const char *s)
{
	while (*s)
		*p++ = *s++;
}

/* What sector n holds: text, so that the host can make the same with awk. */
static inline void blk_pattern(uint8_t *at, uint64_t sector, uint64_t seed)
{
	char line[32];

	put_text(line, "sector NNNNNNNNNN line LL SSSSS\n");
	put_decimal(line + 7, sector, 10);
	put_decimal(line + 26, seed, 5);
	for (unsigned i = 0; i < SECTOR / sizeof(line); i++) {
		put_decimal(line + 23, i, 2);
		for (unsigned k = 0; k < sizeof(line); k++)
			at[i * sizeof(line) + k] = (uint8_t)line[k];
	}
}

static inline bool blk_is_pattern(const uint8_t *at, uint64_t sector, uint64_t seed)
{
	uint8_t want[SECTOR];

	blk_pattern(want, sector, seed);
	for (unsigned i = 0; i < SECTOR; i++)
		if (at[i] != want[i])
			return false;
	return true;
}
#endif
