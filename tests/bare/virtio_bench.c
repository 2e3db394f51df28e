/* How fast a device is for a driver that does nothing else: bench=blk|net|flush, depth=N, n=N requests, size=N
 * bytes, polled or by interrupt.  Numbers are told, not judged.  Runs under other hypervisors too. */
#include <linux/virtio_net.h>

#include "blk.h"

#define MAX_DEPTH 256

static struct vdev dev;
static struct vq *vq;
static struct blk_req *req[MAX_DEPTH];
static unsigned depth, nreq, size;
static uint64_t sectors;

static void tell(const char *what, uint64_t ticks)
{
	uint64_t us = ticks * 1000 / tsc_khz();

	print("bench %s %u bytes depth %u %s%s: %lu/s, %lu ns each, %u requests in %lu us, %u doorbells\n",
	      what, size, depth, dev.irq == VDEV_POLL ? "polled" : "irq", vq->packed ? " packed" : "",
	      us ? (uint64_t)nreq * 1000000 / us : 0, us * 1000 / nreq, nreq, us, vq->notified);
}

static void submit(struct blk_req *r, uint32_t type)
{
	r->len = type == VIRTIO_BLK_T_FLUSH ? 0 : size;
	REQUIRE(blk_submit(vq, r, type, r->len ? rnd() % (sectors / (size / SECTOR)) * (size / SECTOR) : 0));
}

static void bench_blk(uint32_t type, const char *what)
{
	unsigned sent = 0, got = 0;
	uint64_t start;

	vq = vq_new(&dev, 0, 256);
	vdev_driver_ok(&dev);
	sectors = vdev_config(&dev, 0, 8);
	for (unsigned i = 0; i < depth; i++)
		req[i] = blk_req_new(size);
	start = rdtsc();
	for (; sent < depth && sent < nreq; sent++)
		submit(req[sent], type);
	vq_kick(vq);
	while (got < nreq) {
		struct blk_req *r;
		uint32_t len;

		if (!vq_wait(vq))
			finish();
		while ((r = vq_get(vq, &len))) {
			CHECK_EQ(r->status, 0);
			got++;
			if (sent < nreq) {
				submit(r, type);
				sent++;
			}
		}
		vq_kick(vq);
	}
	tell(what, rdtsc() - start);
}

/* Frames that nobody wants, as many as the ring takes at a time */
static void bench_net(void)
{
	unsigned sent = 0, got = 0;
	uint8_t *frame;
	uint64_t start;

	vq_new(&dev, 0, 0);
	vq = vq_new(&dev, 1, 256);
	vdev_driver_ok(&dev);
	frame = alloc(12 + size, 64);
	for (unsigned i = 0; i < 12; i++)
		frame[12 + i] = i < 6 ? 0x33 : (uint8_t)vdev_config(&dev, i - 6, 1);
	frame[12 + 12] = 0x88;
	frame[12 + 13] = 0xb5; /* for experiments */
	start = rdtsc();
	while (got < nreq) {
		const struct seg seg = {(uint64_t)frame, 12 + size, false};
		uint32_t len;

		while (sent < nreq && sent - got < depth && vq_add(vq, &seg, 1, frame))
			sent++;
		vq_kick(vq);
		if (!vq_wait(vq))
			finish();
		while (vq_get(vq, &len))
			got++;
	}
	tell("net tx", rdtsc() - start);
}

int main(void)
{
	bool net = option_is("bench", "net");

	depth = (unsigned)option("depth", 1);
	nreq = (unsigned)option("n", 20000);
	size = (unsigned)option("size", net ? 64 : 4096);
	REQUIRE(depth && depth <= MAX_DEPTH && nreq && size >= 64);
	vdev_open(&dev, net ? VIRTIO_ID_NET : VIRTIO_ID_BLOCK, 0);
	vdev_begin(&dev, net ? BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MRG_RXBUF) : BIT(VIRTIO_BLK_F_FLUSH));
	if (net)
		bench_net();
	else if (option_is("bench", "flush"))
		bench_blk(VIRTIO_BLK_T_FLUSH, "blk flush");
	else if (option_is("bench", "write"))
		bench_blk(VIRTIO_BLK_T_OUT, "blk write");
	else
		bench_blk(VIRTIO_BLK_T_IN, "blk read");
	vdev_reset(&dev);
	return 0;
}
