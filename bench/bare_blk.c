/* Reads a disk as fast as it can for a while: random pieces of 4 KiB, `depth` of them at a time, by a driver
 * that polls (wait=irq: that sleeps, in ring 0's hlt).  Prints what that came to in cycles of the TSC. */
#include "tests/bare/blk.h"

#define PIECE     4096u
#define MAX_DEPTH 128u

int main(void)
{
	const uint64_t mcycles = option("mcycles", 2000);
	const unsigned depth = (unsigned)option("depth", 32);
	struct vdev disk;
	struct vq *vq;
	uint64_t pieces, begin, now, end, done = 0, kicks;

	REQUIRE(depth && depth <= MAX_DEPTH);
	vdev_open(&disk, VIRTIO_ID_BLOCK, 0);
	vdev_begin(&disk, 0);
	vq = vq_new(&disk, 0, 0);
	vdev_driver_ok(&disk);
	pieces = vdev_config(&disk, 0, 8) * SECTOR / PIECE;
	REQUIRE(pieces);
	for (unsigned i = 0; i < depth; i++) {
		struct blk_req *r = blk_req_new(PIECE);

		r->len = PIECE;
		REQUIRE(blk_submit(vq, r, VIRTIO_BLK_T_IN, rnd() % pieces * (PIECE / SECTOR)));
	}
	vq_kick(vq);
	kicks = vq->notified;
	begin = now = rdtsc();
	end = begin + mcycles * 1000000;
	do {
		struct blk_req *r;
		uint32_t used;
		bool any = false;

		if (disk.irq != VDEV_POLL && !vq_more(vq))
			REQUIRE(vq_wait(vq));
		while ((r = vq_get(vq, &used))) {
			REQUIRE(!r->status && used == PIECE + 1);
			done++;
			REQUIRE(blk_submit(vq, r, VIRTIO_BLK_T_IN, rnd() % pieces * (PIECE / SECTOR)));
			any = true;
		}
		if (any)
			vq_kick(vq);
		else
			pause();
		now = rdtsc();
	} while (now < end);
	print("done %lu cycles %lu kicks %lu\n", done, now - begin, vq->notified - kicks);
	return 0;
}
