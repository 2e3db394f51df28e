/* Resets, at every step and with requests in flight: once the status reads 0 nothing is written any more, all
 * registers are as they were, and the device works.  queue=1: of one queue, while the other goes on. */
#include "blk.h"

#define DEPTH  16
#define LEN    (16u << 10)
#define CANARY 0x5a5a5a5a5a5a5a5aul

static struct vdev disk;
static uint64_t features;
static unsigned queue_max;

static void paint(void *p, size_t len)
{
	for (size_t i = 0; i < len / 8; i++)
		((volatile uint64_t *)p)[i] = CANARY;
}

static bool painted(const void *p, size_t len)
{
	for (size_t i = 0; i < len / 8; i++)
		if (((const volatile uint64_t *)p)[i] != CANARY)
			return false;
	return true;
}

/* What a driver sees of a device that was never touched */
static void as_new(void)
{
	CHECK_EQ(vdev_status(&disk), 0);
	CHECK_EQ(vdev_offered(&disk), features);
	CHECK_EQ(vdev_queue_max(&disk, 0), queue_max);
	CHECK(!vdev_queue_enabled(&disk, 0));
	if (disk.mmio)
		return;
	write32(disk.common + VIRTIO_PCI_COMMON_GFSELECT, 0);
	CHECK_EQ(read32(disk.common + VIRTIO_PCI_COMMON_GF), 0);
	CHECK_EQ(read16(disk.common + VIRTIO_PCI_COMMON_Q_MSIX), 0xffff);
	CHECK_EQ(read16(disk.common + VIRTIO_PCI_COMMON_MSIX), 0xffff);
	for (unsigned i = 0; i < 6; i++)
		CHECK_EQ(read32(disk.common + VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i), 0);
	CHECK_EQ(read8(disk.isr), 0);
}

/* The canary lies over the rings and the buffers as soon as they are the driver's again. */
static void silent(struct vq *vq, struct blk_req **req)
{
	size_t ring = vq->packed ? vq->size * 16 : 4 + vq->size * 8;
	void *used = vq->packed ? (void *)vq->pdesc : (void *)vq->used;

	ring &= ~7ul;
	paint(used, ring);
	for (unsigned i = 0; i < DEPTH; i++)
		paint(req[i]->data, LEN);
	delay_us(300);
	CHECK(painted(used, ring));
	for (unsigned i = 0; i < DEPTH; i++)
		CHECK(painted(req[i]->data, LEN));
}

static void submit_all(struct vq *vq, struct blk_req **req, unsigned round)
{
	for (unsigned i = 0; i < DEPTH; i++) {
		req[i]->len = LEN;
		REQUIRE(blk_submit(vq, req[i], VIRTIO_BLK_T_IN, (round + i) % 64 * (LEN / SECTOR)));
	}
	vq_kick(vq);
}

/* The initialisation up to some step, then 0. */
static void cut_short(unsigned step, unsigned round)
{
	uint64_t mark = alloc_mark();
	struct blk_req *req[DEPTH];
	struct vq *vq;

	switch (step) {
	case 0:
		vdev_set_status(&disk, 0);
		break;
	case 1:
		vdev_set_status(&disk, 1);
		break;
	case 2:
		vdev_set_status(&disk, 3);
		break;
	case 3:
		vdev_set_status(&disk, 3);
		vdev_accept(&disk, features & VDEV_RING_BITS & ~BIT(VIRTIO_F_RING_PACKED));
		break;
	case 4:
		vdev_begin(&disk, ~0ul);
		break;
	case 5:
		vdev_begin(&disk, ~0ul);
		vdev_queue_size(&disk, 0, 16);
		vdev_queue_addr(&disk, 0, VDEV_DESC, 0x400000);
		break;
	case 6:
		vdev_begin(&disk, ~0ul);
		vq_new(&disk, 0, 16);
		break;
	case 7:
		vdev_begin(&disk, ~0ul);
		vq_new(&disk, 0, 16);
		vdev_driver_ok(&disk);
		break;
	default:
		vdev_begin(&disk, ~0ul);
		vq = vq_new(&disk, 0, 64);
		for (unsigned i = 0; i < DEPTH; i++)
			req[i] = blk_req_new(LEN);
		vdev_driver_ok(&disk);
		submit_all(vq, req, round);
		delay_us(round % 8 * 20);
		vdev_reset(&disk);
		silent(vq, req);
	}
	vdev_reset(&disk);
	as_new();
	alloc_release(mark);
}

static void works(void)
{
	uint64_t mark = alloc_mark();
	struct blk_req *req[DEPTH];
	struct vq *vq;

	vdev_begin(&disk, ~0ul);
	vq = vq_new(&disk, 0, 64);
	vdev_driver_ok(&disk);
	for (unsigned i = 0; i < DEPTH; i++)
		req[i] = blk_req_new(LEN);
	submit_all(vq, req, 0);
	for (unsigned i = 0; i < DEPTH; i++) {
		struct blk_req *r;
		uint32_t len;

		if (!vq_wait(vq))
			finish();
		r = vq_get(vq, &len);
		CHECK_EQ(len, LEN + 1);
		CHECK_EQ(r->status, 0);
		CHECK(blk_is_pattern(r->data, r->hdr.sector, 1));
	}
	vdev_reset(&disk);
	alloc_release(mark);
}

static void queue_resets(unsigned rounds)
{
	struct blk_req *req[DEPTH], *other;
	struct vq *vq, *steady;

	vdev_begin(&disk, ~0ul);
	CHECK(vdev_has(&disk, VIRTIO_F_RING_RESET));
	vq = vq_new(&disk, 0, 64);
	steady = vq_new(&disk, 1, 64);
	vdev_driver_ok(&disk);
	for (unsigned i = 0; i < DEPTH; i++)
		req[i] = blk_req_new(LEN);
	other = blk_req_new(LEN);
	for (unsigned round = 0; round < rounds; round++) {
		submit_all(vq, req, round);
		other->len = LEN;
		REQUIRE(blk_submit(steady, other, VIRTIO_BLK_T_IN, 32));
		vq_kick(steady);
		delay_us(round % 8 * 20);
		vdev_queue_reset(&disk, 0);
		CHECK(!vdev_queue_enabled(&disk, 0));
		CHECK_EQ(vdev_queue_max(&disk, 0), queue_max);
		silent(vq, req);
		vdev_notify(&disk, 0); /* heard by nobody */
		if (vq_wait(steady)) {
			uint32_t len;

			CHECK(vq_get(steady, &len) == other);
			CHECK_EQ(other->status, 0);
			CHECK(blk_is_pattern(other->data, 32, 1));
		}
		vq_clear(vq);
		vq_program(vq);
		CHECK_EQ(blk_do(vq, req[0], VIRTIO_BLK_T_IN, round % 64 * 32, LEN), 0);
		CHECK(blk_is_pattern(req[0]->data, round % 64 * 32, 1));
		CHECK_EQ(vdev_status(&disk), 0xf);
	}
}

static void write_patterns(void)
{
	uint64_t mark = alloc_mark();
	struct blk_req *r = blk_req_new(LEN);
	struct vq *vq;

	vdev_begin(&disk, ~0ul);
	vq = vq_new(&disk, 0, 0);
	vdev_driver_ok(&disk);
	for (unsigned sector = 0; sector < 80 * (LEN / SECTOR); sector += LEN / SECTOR) {
		for (unsigned i = 0; i < LEN / SECTOR; i++)
			blk_pattern(r->data + i * SECTOR, sector + i, 1);
		CHECK_EQ(blk_do(vq, r, VIRTIO_BLK_T_OUT, sector, LEN), 0);
	}
	vdev_reset(&disk);
	alloc_release(mark);
}

int main(void)
{
	unsigned rounds = (unsigned)option("rounds", 25);

	vdev_open(&disk, VIRTIO_ID_BLOCK, 0);
	vdev_reset(&disk);
	features = vdev_offered(&disk);
	queue_max = vdev_queue_max(&disk, 0);
	as_new();
	write_patterns();
	if (option("queue", 0)) {
		queue_resets(rounds);
		vdev_reset(&disk);
	} else {
		for (unsigned round = 0; round < rounds; round++)
			for (unsigned step = 0; step < 12; step++)
				cut_short(step, round * 4 + step);
	}
	works();
	as_new();
	return 0;
}
