/* What a device's path carries, for bench/paths.py.
 *	what=tx     frames of `len` bytes, as many as the ring takes
 *	what=loop   frames of `len` bytes to whoever sends them back, `window` of them on the way
 *	what=read   random 4 KiB of a disk, `window` at a time
 * After mcycles=N (of the TSC, in millions) it tells how many that were.  Before and after it does nothing for
 * hold=N of them, so that counters can be read from outside.  A driver that polls; wait=irq: one that waits for
 * interrupts. */
#include <linux/virtio_net.h>

#include "tests/bare/blk.h"

#define HDR    sizeof(struct virtio_net_hdr_v1)
#define ROOM   2048u
#define RING   128u /* of a disk: QEMU's have no more */
#define BURST  64u
#define PIECE  4096u
#define WINDOW 128u
#define TYPE   0xb588u /* as it is in memory: IEEE 802, local experiments */
#define LOST   200u    /* Mcycles without a frame: those on the way are lost, as while a back end gets ready */

static struct vdev dev;
static struct vq *rx, *tx; /* of a disk: tx only */
static struct seg frame;
static unsigned window;
static uint64_t pieces, done, lost, took, gap; /* gap: the longest time without anything done */

static bool is_ours(const uint8_t *buf, uint32_t used)
{
	return used >= HDR + 14 && buf[HDR + 12] == (TYPE & 0xff) && buf[HDR + 13] == TYPE >> 8;
}

static void hold(void)
{
	const uint64_t end = rdtsc() + option("hold", 0) * 1000000;

	while (rdtsc() < end)
		pause();
}

/* Not for ever: what is awaited may be lost. */
static void wait(struct vq *vq)
{
	const unsigned seen = vq->irqs;

	if (dev.irq == VDEV_POLL || vq_more(vq))
		return;
	vq_want_irq(vq, true);
	if (!vq_more(vq))
		wait_for(&vq->irqs, seen + 1, 100);
}

static void make_frame(void)
{
	uint8_t *p;

	frame = (struct seg){(uint64_t)alloc(ROOM, ROOM), (uint32_t)option("len", 60) + (uint32_t)HDR, false};
	REQUIRE(frame.len <= ROOM);
	p = (uint8_t *)frame.addr + HDR;
	for (unsigned i = 0; i < 6; i++)
		p[i] = 0xff;
	p[6] = 2;
	p[12] = TYPE & 0xff;
	p[13] = TYPE >> 8;
}

/* --- one turn of the loop each: false where there was nothing to do --- */

static bool turn_out(void)
{
	bool any = false;
	uint32_t used;

	for (unsigned i = 0; i < BURST && vq_add(tx, &frame, 1, &frame); i++)
		any = true;
	if (any)
		vq_kick(tx);
	else
		wait(tx);
	while (vq_get(tx, &used))
		done++;
	return any;
}

static void give(void *buf)
{
	REQUIRE(vq_add(rx, &(struct seg){(uint64_t)buf, ROOM, true}, 1, buf));
}

static bool turn_round(void)
{
	static uint64_t last;
	static unsigned away;
	bool got = false, sent = false;
	const uint64_t now = rdtsc();
	uint32_t used;
	void *buf;

	if (now > last + LOST * 1000000) {
		lost += away;
		away = 0;
		last = now;
	}
	while (vq_get(tx, &used))
		;
	for (; away < window && vq_add(tx, &frame, 1, &frame); away++)
		sent = true;
	if (sent)
		vq_kick(tx);
	wait(rx);
	while ((buf = vq_get(rx, &used))) {
		if (is_ours(buf, used) && away) {
			away--;
			done++;
			last = now;
		}
		give(buf);
		got = true;
	}
	if (got)
		vq_kick(rx);
	return got || sent;
}

static void read_on(struct blk_req *r)
{
	REQUIRE(blk_submit(tx, r, VIRTIO_BLK_T_IN, rnd() % pieces * (PIECE / SECTOR)));
}

static bool turn_read(void)
{
	struct blk_req *r;
	bool any = false;
	uint32_t used;

	wait(tx);
	while ((r = vq_get(tx, &used))) {
		REQUIRE(!r->status && used == PIECE + 1);
		done++;
		read_on(r);
		any = true;
	}
	if (any)
		vq_kick(tx);
	return any;
}

/* --- the rest --- */

static void frames_begin(void)
{
	make_frame();
	if (option_is("what", "tx"))
		return;
	for (unsigned i = 0; i < rx->size; i++)
		give(alloc(ROOM, ROOM));
	vq_kick(rx);
	vq_want_irq(tx, false);
}

static void reads_begin(void)
{
	pieces = vdev_config(&dev, 0, 8) * SECTOR / PIECE;
	REQUIRE(pieces);
	for (unsigned i = 0; i < window; i++) {
		struct blk_req *r = blk_req_new(PIECE);

		r->len = PIECE;
		read_on(r);
	}
	vq_kick(tx);
}

static void run(bool (*turn)(void), uint64_t mcycles)
{
	const uint64_t begin = rdtsc(), end = begin + mcycles * 1000000;
	uint64_t now, last = begin, before = done;

	gap = 0;
	do {
		if (!turn())
			pause();
		now = rdtsc();
		if (done != before) {
			before = done;
			if (now - last > gap)
				gap = now - last;
			last = now;
		}
	} while (now < end);
	took = now - begin;
}

static unsigned kicks(void)
{
	return tx->notified + (rx ? rx->notified : 0);
}

static unsigned irqs(void)
{
	return tx->irqs + (rx ? rx->irqs : 0);
}

int main(void)
{
	const bool disk = option_is("what", "read");
	bool (*turn)(void) = disk ? turn_read : option_is("what", "tx") ? turn_out : turn_round;
	unsigned kicks_before, irqs_before;

	window = (unsigned)option("window", 32);
	REQUIRE(window && window <= WINDOW);
	vdev_open(&dev, disk ? VIRTIO_ID_BLOCK : VIRTIO_ID_NET, 0);
	vdev_begin(&dev, disk ? 0 : BIT(VIRTIO_NET_F_MRG_RXBUF));
	if (!disk)
		rx = vq_new(&dev, 0, 0);
	tx = vq_new(&dev, disk ? 0 : 1, disk ? RING : 0);
	vdev_driver_ok(&dev);
	(disk ? reads_begin : frames_begin)();
	print("begin features %lx\n", dev.features);
	run(turn, option("warm", 300)); /* a back end gets ready meanwhile, and loses frames */
	hold();
	lost = done = 0;
	kicks_before = kicks();
	irqs_before = irqs();
	run(turn, option("mcycles", 2000));
	kicks_before = kicks() - kicks_before;
	irqs_before = irqs() - irqs_before;
	hold();
	print("done %lu cycles %lu kicks %u irqs %u lost %lu gap %lu\n", done, took, kicks_before, irqs_before,
	      lost, gap);
	return 0;
}
