/* A network device whose other end sends back what it gets: frames of all lengths, numbered, each compared with
 * what was sent and none twice.  what=echo is such an other end.
 *
 * Options: count=N (a pair, then it ends; 0: until it is told), pairs=N, window=N (frames on the way, a pair),
 * room=N (of a receive buffer), mrg=0, tso=1, swap=1 (addresses come back changed over; 2: the other one's is
 * new), lossy=1 (frames may be lost), heal=1 (NEEDS_RESET is answered with a reset), disk=1 (a disk is read
 * meanwhile), max=N (longest frame), slow=N (at most N a ms).
 *
 * Typed: p prints where it is, r resets the device and sets it up again, b the machine, h stops sending, g goes
 * on, 1..3 that many pairs, s prints the link, q ends. */
#include <linux/virtio_net.h>

#include "guest.h"
#include "tests/bare/blk.h"

#define HDR       sizeof(struct virtio_net_hdr_v1)
#define BODY      30u /* Ethernet header, mark, pair, length, number */
#define MIN       60u
#define ROOM      2048u
#define MAX_PAIRS 3u
#define SEEN      (1u << 20) /* numbers remembered, a pair */
#define MARK      0x706c6e52u
#define TYPE      0xb588u /* as it is in memory: IEEE 802, local experiments */
#define LOST_MS   30u

static struct pair {
	struct vq *rx, *tx;
	uint8_t *free[256]; /* of frames to send */
	unsigned nfree, away;
	uint64_t sent, got, lost, late;
	uint64_t moved; /* when something last came */
	uint8_t *seen;  /* a bit for each of the last numbers */
} pairs[MAX_PAIRS];

static struct vdev net, disk;
static struct vq *ctrl, *disk_vq;
static struct blk_req *reading;
static uint64_t disk_reads;
static unsigned npairs, active, window, room, resets, missed, longest, pace;
static uint8_t mac[6];
static bool lossy, heal, swap, holding;
static uint64_t heap;

static void copy(uint8_t *to, const uint8_t *from, uint32_t n)
{
	while (n--)
		*to++ = *from++;
}

static bool equal(const uint8_t *a, const uint8_t *b, unsigned n)
{
	while (n--)
		if (*a++ != *b++)
			return false;
	return true;
}

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static uint32_t length_of(uint64_t n)
{
	uint64_t x = (n + 1) * 0xd1342543de82ef95ul >> 40;

	return n % 8 ? MIN + (uint32_t)(x % 80) : MIN + (uint32_t)(x % (longest - MIN + 1));
}

static uint8_t *seen_byte(struct pair *p, uint64_t n)
{
	return &p->seen[n % SEEN / 8];
}

static void print_state(const char *word)
{
	uint64_t sent = 0, got = 0, lost = 0, late = 0;

	for (unsigned i = 0; i < npairs; i++) {
		sent += pairs[i].sent;
		got += pairs[i].got;
		lost += pairs[i].lost;
		late += pairs[i].late;
	}
	print("%s sent %lu got %lu lost %lu late %lu resets %u missed %u disk %lu status %u .\n", word, sent,
	      got, lost, late, resets, missed, disk_reads, vdev_status(&net));
}

/* --- setting up --- */

static void give_buffer(struct vq *rx, void *buf)
{
	REQUIRE(vq_add(rx, &(struct seg){(uint64_t)buf, room, true}, 1, buf));
}

static void set_pairs(unsigned n)
{
	static volatile uint8_t cmd[2], ack;
	static volatile uint16_t value;
	const struct seg seg[] = {{(uint64_t)cmd, 2, false},
				  {(uint64_t)&value, 2, false},
				  {(uint64_t)&ack, 1, true}};

	REQUIRE(ctrl);
	cmd[0] = VIRTIO_NET_CTRL_MQ;
	cmd[1] = VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
	value = (uint16_t)n;
	ack = 0xee;
	vq_do(ctrl, seg, 3);
	CHECK_EQ(ack, VIRTIO_NET_OK);
	active = n;
	for (unsigned i = 0; i < npairs; i++)
		pairs[i].moved = now_ms();
}

static void setup(void)
{
	uint64_t wanted = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS);
	unsigned max_pairs;

	alloc_release(heap);
	if (option("mrg", 1))
		wanted |= BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (npairs > 1)
		wanted |= BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_VQ);
	if (option("tso", 0))
		wanted |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4);
	patient_reset(&net);
	vdev_begin(&net, wanted);
	if (option("mrg", 1) && option("room", 0))
		CHECK(vdev_has(&net, VIRTIO_NET_F_MRG_RXBUF));
	if (option("tso", 0))
		CHECK(vdev_has(&net, VIRTIO_NET_F_HOST_TSO4));
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)vdev_config(&net, i, 1);
	for (unsigned i = 0; i < npairs; i++) {
		struct pair *p = &pairs[i];
		unsigned n;

		p->rx = vq_new(&net, 2 * i, 0);
		p->tx = vq_new(&net, 2 * i + 1, 0);
		n = p->rx->size < 256 ? p->rx->size : 256;
		while (n--)
			give_buffer(p->rx, alloc(room, 64));
		n = p->tx->size < 256 ? p->tx->size : 256;
		for (p->nfree = 0; p->nfree < n; p->nfree++)
			p->free[p->nfree] = alloc(ROOM, 64);
		p->lost += p->away;
		p->away = 0;
		p->moved = now_ms();
	}
	ctrl = NULL;
	if (npairs > 1) {
		CHECK(vdev_has(&net, VIRTIO_NET_F_MQ));
		max_pairs = (unsigned)vdev_config(&net, 8, 2);
		CHECK(max_pairs >= npairs);
		ctrl = vq_new(&net, 2 * max_pairs, 16);
	}
	active = 1;
	vdev_driver_ok(&net);
	for (unsigned i = 0; i < npairs; i++)
		vq_kick(pairs[i].rx);
	if (npairs > 1)
		set_pairs(npairs);
}

static void setup_disk(void)
{
	vdev_open(&disk, VIRTIO_ID_BLOCK, 0);
	disk.irq = VDEV_POLL;
	vdev_begin(&disk, 0);
	disk_vq = vq_new(&disk, 0, 16);
	vdev_driver_ok(&disk);
	reading = blk_req_new(4096);
	reading->len = 4096;
}

static void read_disk(void)
{
	static bool away;
	uint32_t used;

	if (away && !vq_get(disk_vq, &used))
		return;
	if (away) {
		CHECK_EQ(reading->status, 0);
		disk_reads++;
	}
	REQUIRE(blk_submit(disk_vq, reading, VIRTIO_BLK_T_IN, disk_reads % 16 * 8));
	vq_kick(disk_vq);
	away = true;
}

/* --- frames --- */

static bool send(struct pair *p, unsigned index)
{
	const uint32_t len = length_of(p->sent);
	const uint16_t type = TYPE, length = (uint16_t)len, pair = (uint16_t)index;
	const uint32_t mark = MARK;
	struct seg seg[2];
	uint8_t *buf, *frame;

	if (!p->nfree)
		return false;
	buf = p->free[p->nfree - 1];
	frame = buf + HDR;
	for (unsigned i = 0; i < HDR; i++)
		buf[i] = 0;
	copy(frame, everybody, 6);
	copy(frame + 6, mac, 6);
	copy(frame + 12, (const uint8_t *)&type, 2);
	copy(frame + 14, (const uint8_t *)&mark, 4);
	copy(frame + 18, (const uint8_t *)&pair, 2);
	copy(frame + 20, (const uint8_t *)&length, 2);
	copy(frame + 22, (const uint8_t *)&p->sent, 8);
	pattern_put(frame, p->sent, BODY, len);
	if (p->sent & 1) {
		seg[0] = (struct seg){(uint64_t)buf, HDR, false};
		seg[1] = (struct seg){(uint64_t)frame, len, false};
	} else {
		seg[0] = (struct seg){(uint64_t)buf, HDR + len, false};
	}
	if (!vq_add(p->tx, seg, p->sent & 1 ? 2 : 1, buf))
		return false;
	p->nfree--;
	if (!(p->sent % (SEEN / 2))) /* the half that is used next is forgotten */
		for (uint64_t i = 0; i < SEEN / 2; i += 8)
			*seen_byte(p, p->sent + i) = 0;
	p->sent++;
	if (!p->away++)
		p->moved = now_ms();
	return true;
}

static void check(const uint8_t *hdr, const uint8_t *frame, uint32_t len)
{
	uint16_t type, length, index;
	uint32_t mark, wrong;
	uint64_t n;
	struct pair *p;

	copy((uint8_t *)&type, frame + 12, 2);
	if (len < 14 || type != TYPE)
		return; /* somebody else's */
	copy((uint8_t *)&mark, frame + 14, 4);
	copy((uint8_t *)&index, frame + 18, 2);
	copy((uint8_t *)&length, frame + 20, 2);
	copy((uint8_t *)&n, frame + 22, 8);
	if (mark != MARK || index >= npairs) {
		FAIL("a frame of %u bytes is not ours: mark 0x%x, pair %u", len, mark, index);
		finish();
	}
	p = &pairs[index];
	if (n >= p->sent || p->sent - n > SEEN / 2) {
		FAIL("frame %lu comes back, %lu were sent", n, p->sent);
		finish();
	}
	if (*seen_byte(p, n) >> (n & 7) & 1) {
		FAIL("frame %lu of %lu comes back twice", n, p->sent);
		finish();
	}
	*seen_byte(p, n) = (uint8_t)(*seen_byte(p, n) | 1u << (n & 7));
	CHECK_EQ(length, length_of(n));
	wrong = pattern_check(frame, n, BODY, length);
	if (len != length || wrong != length) {
		FAIL("frame %lu of %u bytes comes back as %u, and differs at %u", n, length, len, wrong);
		finish();
	}
	if (!swap)
		CHECK(equal(frame, everybody, 6) && equal(frame + 6, mac, 6));
	else
		CHECK(equal(frame, mac, 6) &&
		      equal(frame + 6, option_is("swap", "1") ? everybody : frame + 6, 6));
	CHECK_EQ(hdr[1], VIRTIO_NET_HDR_GSO_NONE);
	p->got++;
	if (p->away)
		p->away--;
	else
		p->late++;
	p->moved = now_ms();
}

/* A whole frame into `in`, header and all; 0: there is none. */
static uint32_t receive(struct vq *rx, uint8_t *in, uint32_t size)
{
	uint32_t len, total = 0;
	unsigned left = 1;
	uint64_t end = 0;

	while (left) {
		uint8_t *buf = vq_get(rx, &len);

		if (!buf && !total)
			return 0;
		if (!buf) {
			if (!end)
				end = now_ms() + 1000;
			if (vdev_needs_reset(&net))
				return 0;
			if (now_ms() > end) {
				FAIL("%u buffers of a frame are missing", left);
				finish();
			}
			continue;
		}
		if (!total) {
			REQUIRE(len >= HDR + 14 && len <= room);
			if (vdev_has(&net, VIRTIO_NET_F_MRG_RXBUF))
				left = (unsigned)buf[10] | (unsigned)buf[11] << 8;
			REQUIRE(left && left <= 64);
		}
		REQUIRE(len <= room && total + len <= size);
		copy(in + total, buf, len);
		total += len;
		left--;
		give_buffer(rx, buf);
	}
	vq_kick(rx);
	return total;
}

static bool reap(struct pair *p)
{
	uint8_t *buf;
	uint32_t len;
	bool any = false;

	while ((buf = vq_get(p->tx, &len))) {
		p->free[p->nfree++] = buf;
		any = true;
	}
	return any;
}

static bool serve(struct pair *p, unsigned index, unsigned *budget)
{
	static uint8_t in[4096 + ROOM];
	bool any = false, kick = false;
	uint32_t len;

	for (unsigned i = 0; i < 64 && (len = receive(p->rx, in, sizeof(in))); i++, any = true)
		check(in, in + HDR, len - (uint32_t)HDR);
	any |= reap(p);
	while (!holding && index < active && p->away < window && *budget && send(p, index)) {
		kick = true;
		--*budget;
	}
	if (kick)
		vq_kick(p->tx);
	if (p->away && !any && now_ms() - p->moved > (lossy ? LOST_MS : WAIT_MS)) {
		if (!lossy) {
			FAIL("%u frames of pair %u have not come back (status 0x%x)", p->away, index,
			     vdev_status(&net));
			print_state("state");
			finish();
		}
		p->lost += p->away;
		p->away = 0;
		p->moved = now_ms();
	}
	return any || kick;
}

/* An interrupt may be late, but must come. */
static void sleep(void)
{
	struct vq *rx = pairs[0].rx;
	unsigned seen = rx->irqs;

	if (net.irq == VDEV_POLL || !pairs[0].away) {
		pause();
		return;
	}
	vq_want_irq(rx, true);
	if (vq_more(rx) || wait_for(&rx->irqs, seen + 1, 50) || !vq_more(rx))
		return;
	if (!wait_for(&rx->irqs, seen + 1, 1000))
		missed++;
}

static bool obey(void)
{
	uint8_t c = typed();

	switch (c) {
	case 'p':
		print_state("state");
		break;
	case 'r':
		setup();
		resets++;
		print_state("reset");
		break;
	case 's':
		print("link %u config_irqs %u .\n", (unsigned)vdev_config(&net, 6, 2), net.config_irqs);
		break;
	case 'h':
		holding = true;
		break;
	case 'g':
		holding = false;
		break;
	case '1':
	case '2':
	case '3':
		set_pairs(c - '0');
		print("pairs %u .\n", active);
		break;
	case 'b':
		outb(LAYOUT_RESET, LAYOUT_RESET_VALUE);
		FAIL("the VM lives on");
		return false;
	case 'q':
		return false;
	}
	return true;
}

static bool done(uint64_t count)
{
	for (unsigned i = 0; i < npairs; i++)
		if (pairs[i].got < count)
			return false;
	return count;
}

static void talk(void)
{
	const uint64_t count = option("count", 0);
	uint64_t next = 0;
	unsigned budget = ~0u;

	do {
		bool any = false;

		for (unsigned i = 0; i < npairs; i++)
			any |= serve(&pairs[i], i, &budget);
		if (disk_vq)
			read_disk();
		if (!any)
			sleep();
		if (now_ms() < next)
			continue;
		next = now_ms() + 2;
		budget = pace ? 2 * pace : ~0u;
		if (!obey())
			break;
		if (vdev_needs_reset(&net)) {
			if (!heal) {
				FAIL("the device needs a reset");
				finish();
			}
			setup();
			resets++;
		}
	} while (!done(count));
	if (!lossy)
		CHECK_EQ(missed, 0);
	print_state("done");
}

static void echo(void)
{
	static uint8_t in[4096 + ROOM];
	struct pair *p = &pairs[0];
	uint64_t echoed = 0, next = 0;
	uint32_t len;

	for (;;) {
		reap(p);
		while (p->nfree && (len = receive(p->rx, in, sizeof(in)))) {
			uint8_t *buf = p->free[--p->nfree];

			if (in[HDR + 12] != (TYPE & 0xff) || in[HDR + 13] != TYPE >> 8) {
				p->nfree++;
				continue;
			}
			for (unsigned i = 0; i < HDR; i++)
				buf[i] = 0;
			copy(buf + HDR, in + HDR, len - (uint32_t)HDR);
			copy(buf + HDR, in + HDR + 6, 6);
			copy(buf + HDR + 6, mac, 6);
			REQUIRE(vq_add(p->tx, &(struct seg){(uint64_t)buf, len, false}, 1, buf));
			vq_kick(p->tx);
			echoed++;
		}
		if (now_ms() < next)
			continue;
		next = now_ms() + 2;
		if (typed() == 'q')
			break;
	}
	print("done echoed %lu\n", echoed);
}

int main(void)
{
	npairs = (unsigned)option("pairs", 1);
	window = (unsigned)option("window", 32);
	room = (unsigned)option("room", ROOM);
	longest = (unsigned)option("max", 1514);
	pace = (unsigned)option("slow", 0);
	lossy = option("lossy", 0);
	heal = option("heal", 0);
	swap = option("swap", 0);
	REQUIRE(npairs && npairs <= MAX_PAIRS && longest <= ROOM - HDR && room <= 4096);
	now_ms();
	for (unsigned i = 0; i < npairs; i++)
		pairs[i].seen = alloc(SEEN / 8, 64);
	if (option("disk", 0))
		setup_disk();
	vdev_open(&net, VIRTIO_ID_NET, 0);
	heap = alloc_mark();
	setup();
	print("ready features 0x%lx\n", net.features);
	if (option_is("what", "echo"))
		echo();
	else
		talk();
	CHECK_EQ(vdev_status(&net), 0xf);
	return 0;
}
