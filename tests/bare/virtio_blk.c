/* A disk: what is written is read back, in pieces of many sizes, several at a time, over one queue or more;
 * and what a driver may ask for besides.  The image afterwards is what blk_pattern() says, but for the sectors
 * from `zeroed` on. */
#include "blk.h"

#define ROOM      (128u << 10)
#define MAX_DEPTH 32

static struct vdev disk;
static struct vq *queue[VDEV_MAX_QUEUES];
static struct blk_req *req[MAX_DEPTH];
static uint64_t sectors;

/* Pieces that lie in the image in an order of no use, each sector in one of them. */
static uint64_t piece_at(uint64_t i, uint64_t npieces)
{
	return i * 7919 % npieces;
}

static void done(struct vq *vq, uint32_t type, unsigned *inflight, struct blk_req **idle, unsigned *nidle)
{
	struct blk_req *r;
	uint32_t used;

	while ((r = vq_get(vq, &used))) {
		CHECK_EQ(r->status, 0);
		CHECK_EQ(used, type == VIRTIO_BLK_T_IN ? r->len + 1 : 1);
		if (type == VIRTIO_BLK_T_IN)
			for (uint32_t at = 0; at < r->len; at += SECTOR)
				if (!blk_is_pattern(r->data + at, r->tag + at / SECTOR, 1))
					FAIL("sector %lu was not read as written", r->tag + at / SECTOR);
		idle[(*nidle)++] = r;
		--*inflight;
	}
}

/* All of the disk in pieces of `len` bytes. */
static void sweep(uint32_t type, uint32_t len, unsigned depth, unsigned nqueues)
{
	struct blk_req *idle[MAX_DEPTH];
	uint64_t npieces = (sectors * SECTOR + len - 1) / len;
	unsigned nidle = depth, inflight[VDEV_MAX_QUEUES] = {0}, busy = 0;

	for (unsigned i = 0; i < depth; i++)
		idle[i] = req[i];
	for (uint64_t i = 0; i < npieces || busy;) {
		unsigned q = (unsigned)(i % nqueues);

		while (i < npieces && nidle) {
			struct blk_req *r = idle[--nidle];
			uint64_t sector = piece_at(i, npieces) * (len / SECTOR);
			uint64_t left = (sectors - sector) * SECTOR;

			q = (unsigned)(i % nqueues);
			r->tag = sector;
			r->len = left < len ? (uint32_t)left : len;
			if (type == VIRTIO_BLK_T_OUT)
				for (uint32_t at = 0; at < r->len; at += SECTOR)
					blk_pattern(r->data + at, sector + at / SECTOR, 1);
			if (!blk_submit(queue[q], r, type, sector)) {
				idle[nidle++] = r;
				break;
			}
			inflight[q]++;
			i++;
		}
		busy = 0;
		for (q = 0; q < nqueues; q++) {
			vq_kick(queue[q]);
			if (inflight[q] && !vq_wait(queue[q]))
				finish();
			done(queue[q], type, &inflight[q], idle, &nidle);
			busy += inflight[q];
		}
	}
}

/* Data in a few odd pieces */
static void scattered(struct vq *vq)
{
	struct blk_req *r = req[0];
	const uint32_t cut[] = {1, 511, 100, 924, 512};
	struct seg seg[8] = {{(uint64_t)&r->hdr, 10, false}, {(uint64_t)&r->hdr + 10, 6, false}};
	uint32_t at = 0, n = 2;

	for (unsigned i = 0; i < ARRAY_SIZE(cut); i++, at += cut[i - 1])
		seg[n++] = (struct seg){(uint64_t)r->data + at, cut[i], true};
	seg[n++] = (struct seg){(uint64_t)&r->status, 1, true};
	r->hdr = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = 40};
	r->status = 0xee;
	CHECK_EQ(vq_do(vq, seg, n), 2049);
	CHECK_EQ(r->status, 0);
	for (unsigned i = 0; i < 4; i++)
		CHECK(blk_is_pattern(r->data + i * SECTOR, 40 + i, 1));
}

static void serial(struct vq *vq)
{
	struct blk_req *r = req[0];
	const char *want = "bare-0123";

	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_GET_ID, 0, 20), 0);
	for (unsigned i = 0; i < 20; i++) {
		CHECK_EQ(r->data[i], *want);
		want += *want != 0;
	}
}

static void ranges(struct vq *vq)
{
	struct blk_req *r = req[0];
	struct virtio_blk_discard_write_zeroes *d = (void *)r->data;
	uint64_t zeroed = option("zeroed", 0);

	if (!zeroed)
		return;
	CHECK(vdev_has(&disk, VIRTIO_BLK_F_WRITE_ZEROES));
	d[0] = (struct virtio_blk_discard_write_zeroes){.sector = zeroed, .num_sectors = 100};
	d[1] = (struct virtio_blk_discard_write_zeroes){.sector = zeroed + 100, .num_sectors = 156, .flags = 1};
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_WRITE_ZEROES, 0, 2 * sizeof(*d)), 0);
	for (unsigned i = 0; i < ROOM; i++)
		r->data[i] = 0xaa;
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_IN, zeroed - 1, 258 * SECTOR > ROOM ? ROOM : 258 * SECTOR), 0);
	CHECK(blk_is_pattern(r->data, zeroed - 1, 1));
	for (unsigned i = SECTOR; i < ROOM; i++)
		if (r->data[i]) {
			FAIL("byte %u after write-zeroes is 0x%x", i, r->data[i]);
			break;
		}
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_IN, zeroed + 256, SECTOR), 0);
	CHECK(blk_is_pattern(r->data, zeroed + 256, 1));
	if (vdev_has(&disk, VIRTIO_BLK_F_DISCARD)) { /* of what is zero already */
		d[0] = (struct virtio_blk_discard_write_zeroes){.sector = zeroed, .num_sectors = 128};
		CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_DISCARD, 0, sizeof(*d)), 0);
		d[0].flags = 1; /* unmap is not for discard */
		CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_DISCARD, 0, sizeof(*d)), VIRTIO_BLK_S_UNSUPP);
	}
	d[0] = (struct virtio_blk_discard_write_zeroes){.sector = sectors, .num_sectors = 1};
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(*d)), VIRTIO_BLK_S_IOERR);
	d[0].sector = ~0ul;
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(*d)), VIRTIO_BLK_S_IOERR);
	d[0] = (struct virtio_blk_discard_write_zeroes){.sector = 1ul << 55, .num_sectors = ~0u};
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(*d)), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(*d) - 1), VIRTIO_BLK_S_IOERR);
}

/* Refused, and nothing else happens. */
static void refused(struct vq *vq)
{
	static const uint64_t beyond[] = {1ul << 55, 1ul << 63, ~0ul, ~0ul >> 9};
	struct blk_req *r = req[0];

	for (unsigned i = 0; i < ARRAY_SIZE(beyond); i++) {
		CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_IN, beyond[i], SECTOR), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_OUT, beyond[i], SECTOR), VIRTIO_BLK_S_IOERR);
	}
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_IN, sectors, SECTOR), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_OUT, sectors - 1, 2 * SECTOR), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_OUT, 0, SECTOR - 1), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_IN, 0, 100), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_SCSI_CMD, 0, SECTOR), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(blk_do(vq, r, 0x7fffffff, 0, SECTOR), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_IN, 0, SECTOR), 0);
}

static void read_only(struct vq *vq)
{
	struct blk_req *r = req[0];

	CHECK(vdev_has(&disk, VIRTIO_BLK_F_RO));
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_OUT, 0, SECTOR), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_FLUSH, 0, 0), 0);
	sweep(VIRTIO_BLK_T_IN, 4096, 4, 1);
}

int main(void)
{
	static const uint32_t size[] = {4096, 65536, 3 * 512};
	unsigned depth = (unsigned)option("depth", 8), nqueues = (unsigned)option("queues", 1);

	REQUIRE(depth <= MAX_DEPTH && nqueues <= VDEV_MAX_QUEUES);
	vdev_open(&disk, VIRTIO_ID_BLOCK, 0);
	vdev_begin(&disk, ~0ul);
	for (unsigned q = 0; q < nqueues; q++)
		queue[q] = vq_new(&disk, q, (unsigned)option("size", 0));
	vdev_driver_ok(&disk);
	if (nqueues > 1) {
		CHECK(vdev_has(&disk, VIRTIO_BLK_F_MQ));
		CHECK_EQ(vdev_config(&disk, 34, 2), nqueues);
	}
	for (unsigned i = 0; i < depth; i++)
		req[i] = blk_req_new(ROOM);
	sectors = vdev_config(&disk, 0, 8);
	CHECK_EQ(sectors, option("sectors", 0));

	if (option("ro", 0)) {
		read_only(queue[0]);
		return 0;
	}
	CHECK(vdev_has(&disk, VIRTIO_BLK_F_FLUSH));
	for (unsigned i = 0; i < (option("quick", 0) ? 1 : ARRAY_SIZE(size)); i++) {
		sweep(VIRTIO_BLK_T_OUT, size[i], depth, nqueues);
		CHECK_EQ(blk_do(queue[0], req[0], VIRTIO_BLK_T_FLUSH, 0, 0), 0);
		sweep(VIRTIO_BLK_T_IN, size[(i + 1) % ARRAY_SIZE(size)], depth, nqueues);
	}
	scattered(queue[0]);
	serial(queue[0]);
	refused(queue[0]);
	ranges(queue[0]);
	CHECK_EQ(vdev_status(&disk), 0xf);
	print("# %u kicks of queue 0\n", queue[0]->notified);
	return 0;
}
