/* A second CPU changes descriptors, request headers and the avail index all the time while the device reads
 * them: it may break, and answer what it likes, but nothing is written outside of what some descriptor named,
 * the device beside it works on, and a reset mends it. */
#include "blk.h"

#define SIZE  16u
#define GUARD 0x5a5a5a5a5a5a5a5aul
#define AREA  (64u << 10)

static struct vdev disk, beside;
static struct vq *vq, *beside_vq;
static uint8_t *bytes, *area, *guard;
static struct vring_desc *table;
static volatile unsigned go, stopped;
static volatile struct vring_desc *volatile victim_desc;
static volatile struct vring_avail *volatile victim_avail;
static volatile struct virtio_blk_outhdr *volatile victim_hdr;

/* In ring 0, on CPU 1: the slow one where that is emulated */
void ap_main(uint64_t cpu)
{
	static const uint32_t len[] = {16, 1, 512, 0, 0xffffffff, 4096, 513, 0x80000000};
	static const uint16_t flags[] = {VRING_DESC_F_NEXT, 0, VRING_DESC_F_WRITE,
					 VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, VRING_DESC_F_INDIRECT};
	uint64_t i = 0;

	(void)cpu;
	for (;;) {
		volatile struct vring_desc *d = victim_desc;

		if (!go) {
			stopped = 1;
			pause();
			continue;
		}
		stopped = 0;
		i++;
		d[1].len = len[i % ARRAY_SIZE(len)];
		d[1].flags = flags[i % ARRAY_SIZE(flags)];
		d[1].addr = i & 1 ? (uint64_t)area : i & 2 ? 64ul << 20 : LAYOUT_LAPIC;
		d[0].next = (uint16_t)(i & 15 ? 1 : i);
		victim_hdr->sector = i & 1 ? 0 : ~0ul;
		victim_hdr->type = i & 7 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_GET_ID;
		table[1].len = len[(i + 3) % ARRAY_SIZE(len)];
		table[1].next = (uint16_t)i;
		if (!(i & 255))
			victim_avail->idx = (uint16_t)i;
		/* Most of the time it is well-formed. */
		d[1].addr = (uint64_t)area;
		d[1].len = 512;
		d[1].flags = VRING_DESC_F_WRITE | VRING_DESC_F_NEXT;
		d[0].next = 1;
		table[1].len = 512;
		table[1].next = 2;
		victim_hdr->sector = 0;
		victim_hdr->type = VIRTIO_BLK_T_IN;
	}
}

static void stop(void)
{
	uint64_t end = rdtsc() + tsc_khz() * WAIT_MS;

	go = 0;
	while (!stopped)
		if (rdtsc() > end) {
			FAIL("CPU 1 does not stop");
			finish();
		}
}

static void begin(void)
{
	static uint64_t mark;

	if (!mark)
		mark = alloc_mark();
	alloc_release(mark);
	vdev_begin(&disk, BIT(VIRTIO_BLK_F_FLUSH));
	vq = vq_new(&disk, 0, SIZE);
	vdev_driver_ok(&disk);
}

static void lay(struct vring_desc *d)
{
	d[0] = (struct vring_desc){(uint64_t)bytes, 16, VRING_DESC_F_NEXT, 1};
	d[1] = (struct vring_desc){(uint64_t)area, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2};
	d[2] = (struct vring_desc){(uint64_t)area + 4096, 1, VRING_DESC_F_WRITE, 0};
}

/* Heads 0 (a chain) and 8 (an indirect one) in turn, as fast as they come back, until it breaks. */
static unsigned race(unsigned rounds)
{
	unsigned done = 0;

	lay(vq->desc);
	lay(table);
	vq->desc[8] = (struct vring_desc){(uint64_t)table, 48, VRING_DESC_F_INDIRECT, 0};
	victim_desc = vq->desc;
	victim_avail = vq->avail;
	victim_hdr = (void *)bytes;
	stopped = 0;
	go = 1;
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t end = rdtsc() + tsc_khz();

		vq->avail->ring[i % SIZE] = vdev_has(&disk, VIRTIO_RING_F_INDIRECT_DESC) && i & 1 ? 8 : 0;
		__atomic_store_n(&vq->avail->idx, (uint16_t)(i + 1), __ATOMIC_SEQ_CST);
		vdev_notify(&disk, 0);
		while (__atomic_load_n(&vq->used->idx, __ATOMIC_ACQUIRE) != (uint16_t)(i + 1) && rdtsc() < end)
			;
		if (vdev_needs_reset(&disk))
			break;
		done++;
	}
	stop();
	return done;
}

int main(void)
{
	struct blk_req *req;
	unsigned broken = 0, answered = 0;

	vdev_open(&beside, VIRTIO_ID_RNG, 0);
	vdev_begin(&beside, ~0ul);
	beside_vq = vq_new(&beside, 0, 0);
	vdev_driver_ok(&beside);
	vdev_open(&disk, VIRTIO_ID_BLOCK, 0);
	bytes = alloc(4096, 4096);
	table = alloc(4096, 4096);
	area = alloc(AREA, 4096);
	guard = alloc(AREA, 4096);
	req = blk_req_new(4096);
	victim_desc = alloc(4096, 4096);
	victim_avail = alloc(4096, 4096);
	victim_hdr = alloc(64, 64);
	for (unsigned i = 0; i < AREA / 8; i++)
		((volatile uint64_t *)guard)[i] = GUARD;
	lapic_on();
	cpu_start(1, 1);
	for (uint64_t end = rdtsc() + tsc_khz() * WAIT_MS; !stopped;)
		if (rdtsc() > end) {
			FAIL("CPU 1 does not start");
			finish();
		}
	for (unsigned i = 0; i < option("rounds", 30); i++) {
		begin();
		answered += race(400);
		broken += vdev_needs_reset(&disk);
		CHECK_EQ(vq_do(beside_vq, &(struct seg){(uint64_t)req->data, 64, true}, 1), 64);
		begin();
		CHECK_EQ(blk_do(vq, req, VIRTIO_BLK_T_IN, 0, 512), 0);
		CHECK_EQ(vdev_status(&disk), 0xf);
	}
	for (unsigned i = 0; i < AREA / 8; i++)
		CHECK_EQ(((volatile uint64_t *)guard)[i], GUARD);
	print("# %u answered, %u times broken\n", answered, broken);
	return 0;
}
