/* Random bytes: as many as asked for, never the same; and, with n=N, N doorbells of an
 * empty ring, which move=1 moves before. */
#include "lib/virtio.h"

#define LEN 4096u

static struct vdev rng;

static bool same(const uint8_t *a, const uint8_t *b)
{
	for (unsigned i = 0; i < LEN; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

static bool looks_random(const uint8_t *p)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < LEN * 8; i++)
		bits += p[i / 8] >> i % 8 & 1;
	return bits > LEN * 4 - 1000 && bits < LEN * 4 + 1000; /* 11 sigma */
}

int main(void)
{
	uint8_t *one, *two;
	struct vq *vq;

	vdev_open(&rng, VIRTIO_ID_RNG, 0);
	vdev_begin(&rng, ~0ul);
	vq = vq_new(&rng, 0, 0);
	vdev_driver_ok(&rng);
	one = alloc(LEN, 4096);
	two = alloc(LEN, 4096);
	CHECK_EQ(vq_do(vq, &(struct seg){(uint64_t)one, LEN, true}, 1), LEN);
	CHECK_EQ(vq_do(vq, &(struct seg){(uint64_t)two, LEN, true}, 1), LEN);
	CHECK(looks_random(one));
	CHECK(looks_random(two));
	CHECK(!same(one, two));
	for (unsigned i = 0; i < 100; i++) {
		uint8_t *p = alloc(16, 1);

		p[15] = 0x5a;
		CHECK_EQ(vq_do(vq, (struct seg[]){{(uint64_t)p, 1, true}, {(uint64_t)p + 1, 14, true}}, 2), 15);
		CHECK_EQ(p[15], 0x5a);
	}
	if (option("move", 0)) {
		vdev_bar_write(&rng, rng.bar + 0x1000000, true);
		vdev_bar_moved(&rng, rng.bar + 0x1000000);
	}
	for (uint64_t n = option("n", 0); n; n--)
		if (rng.mmio)
			write32(vq->doorbell, 0);
		else if (rng.notify_pio)
			outw((uint16_t)vq->doorbell, 0);
		else
			write16(vq->doorbell, 0);
	/* None of them has harmed it. */
	CHECK_EQ(vq_do(vq, &(struct seg){(uint64_t)two, LEN, true}, 1), LEN);
	CHECK(!same(one, two));
	return 0;
}
