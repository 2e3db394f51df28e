/* The bare guest of "ringlet compare": one workload over one device, told in the words of compare/guest.h.
 *	what=pps          frames of 60 bytes, as many as the ring takes
 *	what=rr           one at a time, to whoever sends it back or answers it (an ARP request)
 *	what=randread     4 KiB of a disk, 32 on the way; randwrite likewise
 *	what=seq          128 KiB each, one behind the other, 8 on the way
 *	what=qd1          4 KiB reads, one at a time
 * for ms=N after warm=N, with hold=N of nothing in between.  probe=1: only what the device offers.
 *
 * It waits as an operating system does: interrupts are off while there is work, and while there is none the
 * processor halts.  wait=poll: it never sleeps and wants no interrupts. */
#include <linux/virtio_net.h>

#include "compare/bare/histogram.h"
#include "lib/virtio_internal.h"
#include "tests/bare/blk.h"

#define HDR       sizeof(struct virtio_net_hdr_v1)
#define ROOM      2048u
#define FRAME     60u
#define BURST     64u
#define DISK_RING 128u
#define SMALL     4096u
#define LARGE     131072u
#define TYPE_ARP  0x0806u
#define TYPE_OURS 0x88b5u /* IEEE 802, local experiments */
#define TICK      0x38
#define TICK_MS   100
#define LOST_MS   300 /* a request without an answer for that long has none */
#define DRAIN_MS  2000

static const uint8_t our_ip[] = {10, 0, 2, 15}, their_ip[] = {10, 0, 2, 2}; /* of compare/host.h */

struct work {
	const char *name;
	uint32_t device;
	unsigned window;
	uint32_t piece;
	uint32_t type;   /* of a disk's requests */
	bool sequential; /* else anywhere */
	bool answered;   /* a frame comes back */
};

static const struct work works[] = {
	{"pps", VIRTIO_ID_NET, 0, FRAME, 0, false, false},
	{"rr", VIRTIO_ID_NET, 1, FRAME, 0, false, true},
	{"randread", VIRTIO_ID_BLOCK, 32, SMALL, VIRTIO_BLK_T_IN, false, false},
	{"randwrite", VIRTIO_ID_BLOCK, 32, SMALL, VIRTIO_BLK_T_OUT, false, false},
	{"seq", VIRTIO_ID_BLOCK, 8, LARGE, VIRTIO_BLK_T_IN, true, false},
	{"qd1", VIRTIO_ID_BLOCK, 1, SMALL, VIRTIO_BLK_T_IN, false, false},
};

static const struct work *work;
static struct vdev dev;
static struct vq *rx, *tx; /* of a disk: tx only */
static struct seg frame;
static struct blk_req *idle_req[32];
static unsigned nidle, away;
static uint64_t pieces, next_piece, done, khz;
static struct histogram times;

static _Noreturn void failed(const char *why)
{
	print("compare: failed %s %s\n", work ? work->name : "-", why);
	bare_failures++;
	finish();
}

/* --- time, and waiting for it to pass --- */

static void on_tick(struct frame *f)
{
	(void)f;
	eoi();
}

static uint64_t halt0(uint64_t arg)
{
	__asm__ volatile("sti; hlt; cli" ::: "memory");
	return arg;
}

/* Whatever is awaited may be lost: no sleep is longer than a tick. */
static void ticks_begin(void)
{
	khz = tsc_khz(); /* takes the timer */
	lapic_on();
	on_vector(TICK, on_tick);
	lapic_write(LAPIC_TDCR, 0xb);
	lapic_write(LAPIC_TIMER, TICK | 1 << 17);
	lapic_write(LAPIC_TICR, TICK_MS * 1000000); /* KVM's runs at 1 GHz */
}

static void hold(void)
{
	const uint64_t end = rdtsc() + option("hold", 300) * khz;

	while (rdtsc() < end)
		ring0(halt0, 0);
}

/* --- waiting for a queue --- */

/* Is the nth used that is not taken yet?  Of chains of one descriptor. */
static bool used_ahead(const struct vq *vq, unsigned n)
{
	unsigned slot = vq->next_used + n - 1;
	bool wrap = vq->used_wrap, avail, used;
	uint16_t flags;

	if (!vq->packed)
		return (uint16_t)(__atomic_load_n(&vq->used->idx, __ATOMIC_ACQUIRE) - vq->next_used) >= n;
	if (slot >= vq->size) {
		slot -= vq->size;
		wrap = !wrap;
	}
	flags = __atomic_load_n(&vq->pdesc[slot].flags, __ATOMIC_ACQUIRE);
	avail = flags >> VRING_PACKED_DESC_F_AVAIL & 1;
	used = flags >> VRING_PACKED_DESC_F_USED & 1;
	return avail == used && used == wrap;
}

/* An interrupt only once n more are used: so Linux's card waits for room. */
static void want_irq_after(struct vq *vq, unsigned n)
{
	unsigned slot = vq->next_used + n - 1;
	bool wrap = vq->used_wrap;

	if (!vq->packed) {
		vq->avail->ring[vq->size] = (uint16_t)slot;
	} else {
		if (slot >= vq->size) {
			slot -= vq->size;
			wrap = !wrap;
		}
		vq->driver_event->off_wrap = (uint16_t)(slot | (unsigned)wrap << 15);
		vq->driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Until n are used, or a tick has passed, or something else came. */
static void wait(struct vq *vq, unsigned n)
{
	if (used_ahead(vq, n))
		return;
	if (dev.irq == VDEV_POLL) {
		pause();
		return;
	}
	if (n > 1 && vq->event_idx)
		want_irq_after(vq, n);
	else
		vq_want_irq(vq, true);
	if (!used_ahead(vq, vq->event_idx ? n : 1))
		ring0(halt0, 0);
	vq_want_irq(vq, false);
}

/* --- turns: what there is to take is taken, and, unless stopping, more is given; work->window at most --- */

static void turn_out(bool stopping)
{
	bool any = false;
	uint32_t used;

	while (vq_get(tx, &used)) {
		done++;
		away--;
	}
	for (unsigned i = 0; !stopping && i < BURST && vq_add(tx, &frame, 1, &frame); i++) {
		away++;
		any = true;
	}
	if (any)
		vq_kick(tx);
	else if (away)
		wait(tx, stopping ? away : (away * 3 + 3) / 4);
}

static bool same(const uint8_t *a, const uint8_t *b, unsigned n)
{
	while (n && *a == *b) {
		a++;
		b++;
		n--;
	}
	return !n;
}

/* Our request come back, or the answer to it. */
static bool is_answer(const uint8_t *buf, uint32_t used)
{
	const uint8_t *arp = buf + HDR + 14;

	if (used < HDR + 42 || buf[HDR + 12] != TYPE_ARP >> 8 || buf[HDR + 13] != (TYPE_ARP & 0xff))
		return false;
	return (arp[7] == 1 && same(arp + 14, our_ip, 4)) || (arp[7] == 2 && same(arp + 24, our_ip, 4));
}

static void give(void *buf)
{
	REQUIRE(vq_add(rx, &(struct seg){(uint64_t)buf, ROOM, true}, 1, buf));
}

static void turn_round(bool stopping)
{
	static uint64_t sent;
	bool got = false;
	uint64_t now;
	uint32_t used;
	void *buf;

	while (vq_get(tx, &used))
		;
	if (!away && !stopping) {
		sent = rdtsc();
		if (vq_add(tx, &frame, 1, &frame))
			away = 1;
		vq_kick(tx);
	}
	if (away)
		wait(rx, 1);
	now = rdtsc();
	while ((buf = vq_get(rx, &used))) {
		if (away && is_answer(buf, used)) {
			away = 0;
			done++;
			histogram_add(&times, now - sent);
		}
		give(buf);
		got = true;
	}
	if (got)
		vq_kick(rx);
	else if (away && now - sent > LOST_MS * khz)
		away = 0;
}

static void disk_answer(struct blk_req *r, uint32_t used, uint64_t now)
{
	if (r->status)
		failed("the disk reports an error");
	if (used != 1 + (work->type == VIRTIO_BLK_T_IN ? work->piece : 0))
		failed("the disk says that it wrote another number of bytes than it was asked for");
	histogram_add(&times, now - r->tag);
	done++;
	away--;
	idle_req[nidle++] = r;
}

static void turn_disk(bool stopping)
{
	uint64_t now = rdtsc();
	bool any = false;
	struct blk_req *r;
	uint32_t used;

	while ((r = vq_get(tx, &used)))
		disk_answer(r, used, now);
	while (!stopping && nidle) {
		uint64_t piece = work->sequential ? next_piece++ : rnd();

		r = idle_req[--nidle];
		r->tag = rdtsc();
		REQUIRE(blk_submit(tx, r, work->type, piece % pieces * (work->piece / SECTOR)));
		away++;
		any = true;
	}
	if (any)
		vq_kick(tx);
	if (away)
		wait(tx, 1);
}

/* --- beginnings --- */

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void make_frame(void)
{
	uint8_t *p;

	frame = (struct seg){(uint64_t)alloc(ROOM, ROOM), FRAME + (uint32_t)HDR, false};
	p = (uint8_t *)frame.addr + HDR;
	for (unsigned i = 0; i < 6; i++) {
		p[i] = 0xff;
		p[6 + i] = vdev_has(&dev, VIRTIO_NET_F_MAC) ? (uint8_t)vdev_config(&dev, i, 1)
							    : (uint8_t)(i ? 0x10 + i : 2);
		p[22 + i] = p[6 + i];
	}
	put16(p + 12, work->answered ? TYPE_ARP : TYPE_OURS);
	put16(p + 14, 1);
	put16(p + 16, 0x0800);
	put16(p + 18, 0x0604);
	put16(p + 20, 1);
	for (unsigned i = 0; i < 4; i++) {
		p[28 + i] = our_ip[i];
		p[38 + i] = their_ip[i];
	}
}

static void net_begin(void)
{
	make_frame();
	vq_want_irq(rx, false);
	vq_want_irq(tx, false);
	if (!work->answered)
		return;
	for (unsigned i = 0; i < rx->size; i++)
		give(alloc(ROOM, ROOM));
	vq_kick(rx);
}

static void disk_begin(void)
{
	pieces = vdev_config(&dev, 0, 8) * SECTOR / work->piece;
	if (!pieces)
		failed("the disk is smaller than one request");
	while (nidle < work->window) {
		struct blk_req *r = blk_req_new(work->piece);

		r->len = work->piece;
		idle_req[nidle++] = r;
	}
	vq_want_irq(tx, false);
}

static void device_begin(void)
{
	const bool disk = work->device == VIRTIO_ID_BLOCK;

	/* On PCI, or else by itself. */
	if (!vdev_find(&dev, work->device, 0) && !vdev_find_mmio(&dev, work->device, 0))
		failed(disk ? "there is no disk" : "there is no card");
	if (option("probe", 0)) {
		print("compare: offered %lx\n", vdev_offered(&dev));
		finish();
	}
	dev.irq = option_is("wait", "poll") ? VDEV_POLL : dev.mmio ? VDEV_MMIO : VDEV_MSIX;
	vdev_begin(&dev, disk ? 0 : BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MAC));
	if (!disk)
		rx = vq_new(&dev, 0, 0);
	tx = vq_new(&dev, disk ? 0 : 1, disk ? DISK_RING : 0);
	vdev_driver_ok(&dev);
	print("compare: features %lx\n", dev.features);
	(disk ? disk_begin : net_begin)();
}

/* --- the measurement --- */

/* Returns what it took, in ticks of the TSC; nothing is on the way afterwards. */
static uint64_t run(uint64_t ms)
{
	void (*turn)(bool) = work->device == VIRTIO_ID_BLOCK ? turn_disk
			     : work->answered                ? turn_round
							     : turn_out;
	const uint64_t begin = rdtsc(), end = begin + ms * khz, drained = end + DRAIN_MS * khz;

	while (rdtsc() < end)
		turn(false);
	while (away) {
		turn(true);
		if (rdtsc() > drained)
			failed("requests have no answer");
	}
	return rdtsc() - begin;
}

static void tell_latency(void)
{
	static const unsigned points[] = HISTOGRAM_POINTS;

	print("compare: latency %s", work->name);
	for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
		uint64_t ns = histogram_percentile(&times, points[i]) * 1000000 / khz;

		print(" %lu.%03lu", ns / 1000, ns % 1000);
	}
	print("\n");
}

int main(void)
{
	uint64_t took, us;

	for (unsigned i = 0; i < ARRAY_SIZE(works); i++)
		if (option_is("what", works[i].name))
			work = &works[i];
	if (!work)
		failed("what= names no workload of this guest");
	device_begin();
	ticks_begin();
	run(option("warm", 300)); /* a back end gets ready meanwhile, and loses frames */
	hold();
	print("compare: begin %s\n", work->name);
	hold();
	histogram_clear(&times);
	done = 0;
	took = run(option("ms", 2000));
	us = took * 1000 / khz;
	if (!done)
		failed(work->answered ? "no frame came back" : "nothing was done");
	print("compare: end %s %lu %lu.%06lu %lu\n", work->name, done, us / 1000000, us % 1000000,
	      done * (work->sequential ? work->piece : 1) * 1000000 / us);
	hold();
	if (times.total)
		tell_latency();
	return 0;
}
