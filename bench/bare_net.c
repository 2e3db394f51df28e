/* Drives a network device: what=tx sends frames of `len` bytes as fast as it can for a while; what=echo sends
 * back what comes, until the time is over.  Prints what that came to in cycles of the TSC. */
#include <linux/virtio_net.h>

#include "lib/virtio.h"

#define BURST 64u
#define HDR   sizeof(struct virtio_net_hdr_v1)
#define ROOM  2048u

static struct vdev nic;
static struct vq *rx, *tx;

/* Of a type that no host listens to (IEEE 802, local experiments). */
static void frame_init(uint8_t *frame)
{
	for (unsigned i = 0; i < 6; i++)
		frame[i] = 0xff;
	frame[6] = 2;
	frame[12] = 0x88;
	frame[13] = 0xb5;
}

static void send(uint64_t end)
{
	const uint32_t len = (uint32_t)option("len", 60) + (uint32_t)HDR;
	struct seg seg = {(uint64_t)alloc(len, 4096), len, false};
	uint64_t begin = rdtsc(), done = 0, now;
	uint32_t used;

	frame_init((uint8_t *)seg.addr + HDR);
	do {
		bool any = false;

		for (unsigned i = 0; i < BURST && vq_add(tx, &seg, 1, &seg); i++)
			any = true;
		if (any)
			vq_kick(tx);
		while (vq_get(tx, &used))
			done++;
		if (!any)
			pause();
		now = rdtsc();
	} while (now < end);
	print("done %lu cycles %lu kicks %u\n", done, now - begin, tx->notified);
}

static void echo(uint64_t end)
{
	uint64_t begin = rdtsc(), done = 0;
	struct seg seg;
	uint32_t used;
	uint8_t *buf;

	for (unsigned i = 0; i < 32; i++) {
		seg = (struct seg){(uint64_t)alloc(ROOM, 2048), ROOM, true};
		REQUIRE(vq_add(rx, &seg, 1, (void *)seg.addr));
	}
	vq_kick(rx);
	print("ready\n");
	while (rdtsc() < end) {
		if (!(buf = vq_get(rx, &used))) {
			pause();
			continue;
		}
		if (used > HDR + 14 && buf[HDR + 12] == 0x88 && buf[HDR + 13] == 0xb5) {
			buf[HDR + 13] = 0xb6;
			for (unsigned i = 0; i < HDR; i++)
				buf[i] = 0;
			seg = (struct seg){(uint64_t)buf, used, false};
			REQUIRE(vq_add(tx, &seg, 1, buf));
			vq_kick(tx);
			while (!vq_get(tx, &used))
				pause();
			done++;
		}
		seg = (struct seg){(uint64_t)buf, ROOM, true};
		REQUIRE(vq_add(rx, &seg, 1, buf));
		vq_kick(rx);
	}
	print("done %lu cycles %lu kicks %u\n", done, rdtsc() - begin, tx->notified + rx->notified);
}

int main(void)
{
	const uint64_t mcycles = option("mcycles", 2000);

	vdev_open(&nic, VIRTIO_ID_NET, 0);
	vdev_begin(&nic, BIT(VIRTIO_NET_F_MRG_RXBUF));
	rx = vq_new(&nic, 0, 0);
	tx = vq_new(&nic, 1, 0);
	vdev_driver_ok(&nic);
	if (option_is("what", "echo"))
		echo(rdtsc() + mcycles * 1000000);
	else
		send(rdtsc() + mcycles * 1000000);
	return 0;
}
