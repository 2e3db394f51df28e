/* Chains that no driver makes, on a queue: the disk's, or with victim=net queue=N of a network device.  Each
 * ends with NEEDS_RESET, or answered; the device beside it works all the time, and a reset mends the victim. */
#include <linux/virtio_net.h>

#include "blk.h"

#define SIZE 16u
#define RAM  (64ul << 20)
#define F_N  VRING_DESC_F_NEXT
#define F_W  VRING_DESC_F_WRITE
#define F_I  VRING_DESC_F_INDIRECT

enum outcome { BROKEN, ANSWERED };

struct raw {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct hostile {
	const char *name;
	enum outcome outcome;
	unsigned ndesc;
	struct raw desc[SIZE]; /* addresses: see real() */
	unsigned nheads;
	uint16_t head[4];
	uint16_t jump; /* avail->idx is that instead */
	unsigned ntable;
	struct raw table[4]; /* at TABLE */
	bool blk_only;
};

/* Addresses that main() puts others for */
#define BUF      0x1000ul /* pages of the guest's own */
#define DATA     0x5000ul
#define TABLE    0x2000ul
#define DOORBELL 0x3000ul
#define CONFIG   0x4000ul

#define HDR                                                                                                    \
	{                                                                                                      \
		BUF, 16, F_N, 1                                                                                \
	}
#define STATUS(n)                                                                                              \
	{                                                                                                      \
		BUF + 512 + 16, 1, F_W, n                                                                      \
	}
#define READ(a, l)  .ndesc = 3, .desc = {HDR, {a, l, F_W | F_N, 2}, STATUS(0)}, .nheads = 1
#define INDIR(a, l) .ndesc = 1, .desc = {{a, l, F_I, 0}}, .nheads = 1

static const struct hostile split[] = {
	{"a chain of one that is its own next", BROKEN, .ndesc = 1, .desc = {{BUF, 16, F_N, 0}}, .nheads = 1},
	{"a cycle of two", BROKEN, .ndesc = 2, .desc = {{BUF, 16, F_N, 1}, {BUF, 16, F_N, 0}}, .nheads = 1},
	{"a cycle of writable ones", BROKEN, .ndesc = 2,
	 .desc = {{BUF, 16, F_N | F_W, 1}, {BUF, 16, F_N | F_W, 0}}, .nheads = 1},
	{"a cycle of empty ones", BROKEN, .ndesc = 2, .desc = {{BUF, 0, F_N, 1}, {BUF, 0, F_N, 0}},
	 .nheads = 1},
	{"next is the size", BROKEN, .ndesc = 1, .desc = {{BUF, 16, F_N, SIZE}}, .nheads = 1},
	{"next is 65535", BROKEN, .ndesc = 1, .desc = {{BUF, 16, F_N, 0xffff}}, .nheads = 1},
	{"the head is the size", BROKEN, .nheads = 1, .head = {SIZE}},
	{"the head is 65535", BROKEN, .nheads = 1, .head = {0xffff}},
	{"idx jumps by size + 1", BROKEN, .jump = SIZE + 1},
	{"idx jumps by 32768", BROKEN, .jump = 0x8000},
	{"idx goes backwards", BROKEN, .jump = 0xffff},
	{"readable after writable", BROKEN, .ndesc = 2, .desc = {{BUF, 16, F_W | F_N, 1}, {BUF, 16, 0, 0}},
	 .nheads = 1},
	{"indirect and next", BROKEN, .ndesc = 2, .desc = {{TABLE, 16, F_I | F_N, 1}, STATUS(0)}, .nheads = 1,
	 .ntable = 1, .table = {{BUF, 16, 0, 0}}},
	{"an indirect table in an indirect table", BROKEN, INDIR(TABLE, 32), .ntable = 2,
	 .table = {{TABLE, 16, F_I, 0}, {BUF, 16, 0, 0}}},
	{"a loop in an indirect table", BROKEN, INDIR(TABLE, 32), .ntable = 2,
	 .table = {{BUF, 16, F_N, 1}, {BUF, 16, F_N, 0}}},
	{"next beyond an indirect table", BROKEN, INDIR(TABLE, 32), .ntable = 1, .table = {{BUF, 16, F_N, 2}}},
	{"the same head twice", BROKEN, .ndesc = 3, .desc = {HDR, {DATA, 512, F_W | F_N, 2}, STATUS(0)},
	 .nheads = 4, .blk_only = true},
};

/* Of those the packed ring has a likeness. */
static const struct hostile both[] = {
	{"a buffer outside RAM", BROKEN, READ(RAM, 512)},
	{"a buffer at 1 TiB", BROKEN, READ(1ul << 40, 512)},
	{"a buffer over the end of RAM", BROKEN, READ(RAM - 8, 512)},
	{"a buffer in the hole", BROKEN, READ(0xc8000000, 512)},
	{"a buffer over the local APIC", BROKEN, READ(LAYOUT_LAPIC, 512)},
	{"a buffer over the I/O APIC", BROKEN, READ(LAYOUT_IOAPIC, 512)},
	{"a buffer over ECAM", BROKEN, READ(LAYOUT_ECAM, 512)},
	{"a buffer over the device's doorbells", BROKEN, READ(DOORBELL, 512)},
	{"a buffer over the device's registers", BROKEN, READ(CONFIG, 512)},
	{"a buffer of 4 GiB - 1", BROKEN, READ(BUF, 0xffffffff)},
	{"a buffer that wraps", BROKEN, READ(~0ul - 10, 512)},
	{"a buffer at the very end", BROKEN, READ(~0ul, 1)},
	{"the header outside RAM", BROKEN, .ndesc = 2, .desc = {{RAM + 4096, 16, F_N, 1}, STATUS(0)},
	 .nheads = 1},
	{"an indirect table of no bytes", BROKEN, INDIR(TABLE, 0)},
	{"an indirect table of 17 bytes", BROKEN, INDIR(TABLE, 17)},
	{"an indirect table of 4 GiB", BROKEN, INDIR(TABLE, 0xfffffff0)},
	{"an indirect table outside RAM", BROKEN, INDIR(RAM, 16)},
	{"an indirect table over the end of RAM", BROKEN, INDIR(RAM - 16, 32)},
	{"an indirect table over the doorbells", BROKEN, INDIR(DOORBELL, 32)},
	{"an indirect table that wraps", BROKEN, INDIR(~0ul - 15, 32)},
	{"an indirect table after others", BROKEN, .ndesc = 2, .desc = {{BUF, 16, F_N, 1}, {TABLE, 17, F_I, 0}},
	 .nheads = 1},
	{"nothing to write the status into", BROKEN, .ndesc = 1, .desc = {{BUF, 16, 0, 0}}, .nheads = 1,
	 .blk_only = true},
	{"an empty buffer at nowhere", ANSWERED, .ndesc = 3,
	 .desc = {HDR, {~0ul, 0, F_W | F_N, 2}, {DATA, 513, F_W, 0}}, .nheads = 1, .blk_only = true},
	{"a header of 8 bytes", ANSWERED, .ndesc = 2, .desc = {{BUF, 8, F_N, 1}, STATUS(0)}, .nheads = 1,
	 .blk_only = true},
	{"a status and no header", ANSWERED, .ndesc = 1, .desc = {STATUS(0)}, .nheads = 1, .blk_only = true},
};

static const struct hostile packed[] = {
	{"indirect and next", BROKEN, .ndesc = 2, .desc = {{TABLE, 16, F_I | F_N, 0}, STATUS(1)}, .nheads = 1,
	 .ntable = 1, .table = {{BUF, 16, 0, 0}}},
	{"readable after writable", BROKEN, .ndesc = 2, .desc = {{BUF, 16, F_W | F_N, 0}, {BUF, 16, 0, 0}},
	 .nheads = 1},
	{"a chain that goes on where nothing is available", BROKEN, .ndesc = 1, .desc = {{BUF, 16, F_N, 0}},
	 .nheads = 1},
	{"a chain all round the ring", BROKEN, .ndesc = SIZE, .desc = {[0 ... SIZE - 1] = {BUF, 16, F_N, 0}},
	 .nheads = 1},
	{"the same id twice", BROKEN, .ndesc = 6,
	 .desc = {HDR, {DATA, 512, F_W | F_N, 1}, STATUS(1), HDR, {DATA, 512, F_W | F_N, 1}, STATUS(1)},
	 .nheads = 1, .blk_only = true},
};

static struct vdev victim, beside;
static struct vq *vq, *beside_vq;
static uint8_t *page, *beside_page;
static struct vring_desc *table;
static bool is_blk;
static unsigned queue, nrun;

static uint64_t real(uint64_t addr)
{
	switch (addr & ~0xffful) {
	case BUF:
		return (uint64_t)page + (addr - BUF);
	case DATA:
		return (uint64_t)page + 4096 + (addr - DATA);
	case TABLE:
		return (uint64_t)table;
	case DOORBELL:
		return victim.mmio ? victim.common + VIRTIO_MMIO_QUEUE_NOTIFY : victim.notify;
	case CONFIG:
		return victim.common;
	}
	return addr;
}

static void begin(void)
{
	static uint64_t mark;

	if (!mark)
		mark = alloc_mark();
	alloc_release(mark);
	vdev_begin(&victim, ~BIT(VIRTIO_NET_F_MQ));
	vq = vq_new(&victim, queue, SIZE);
	vdev_driver_ok(&victim);
}

static void lay_split(const struct hostile *h)
{
	for (unsigned i = 0; i < h->ndesc; i++)
		vq->desc[i] = (struct vring_desc){real(h->desc[i].addr), h->desc[i].len, h->desc[i].flags,
						  h->desc[i].next};
	for (unsigned i = 0; i < h->nheads; i++)
		vq->avail->ring[i] = h->head[i];
	__atomic_store_n(&vq->avail->idx, (uint16_t)(h->jump ? h->jump : h->nheads), __ATOMIC_SEQ_CST);
}

static void lay_packed(const struct hostile *h)
{
	for (unsigned i = h->ndesc; i--;) {
		vq->pdesc[i].addr = real(h->desc[i].addr);
		vq->pdesc[i].len = h->desc[i].len;
		vq->pdesc[i].id = 3;
		__atomic_store_n(&vq->pdesc[i].flags,
				 (uint16_t)(h->desc[i].flags | 1 << VRING_PACKED_DESC_F_AVAIL),
				 __ATOMIC_SEQ_CST);
	}
}

static void beside_works(const char *after)
{
	beside_page[0] = beside_page[1] = beside_page[2] = beside_page[3] = 0;
	if (vq_do(beside_vq, &(struct seg){(uint64_t)beside_page, 64, true}, 1) != 64)
		FAIL("%s: the device beside it gives no 64 bytes", after);
}

/* A request as it should be */
static void works(const char *after)
{
	struct virtio_blk_outhdr *hdr = (void *)page;
	const struct seg blk[] = {{(uint64_t)page, 16, false},
				  {(uint64_t)page + 4096, 512, true},
				  {(uint64_t)page + 512, 1, true}};
	const struct seg frame = {(uint64_t)page, 12 + 60, false};
	const struct seg ctrl[] = {{(uint64_t)page, 2, false},
				   {(uint64_t)page + 16, 1, false},
				   {(uint64_t)page + 512, 1, true}};
	uint32_t len = 1, want = 1;

	for (unsigned i = 0; i < 1024; i++)
		page[i] = 0;
	if (is_blk) {
		*hdr = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN};
		page[512] = 0xee;
		len = vq_do(vq, blk, 3);
		want = 513;
		CHECK_EQ(page[512], 0);
	} else if (queue == 1) {
		len = vq_do(vq, &frame, 1);
		want = 0;
	} else if (queue == 2) {
		page[0] = VIRTIO_NET_CTRL_RX;
		page[1] = VIRTIO_NET_CTRL_RX_PROMISC;
		page[512] = 0xee;
		len = vq_do(vq, ctrl, 3);
		CHECK_EQ(page[512], VIRTIO_NET_OK);
	}
	if (len != want)
		FAIL("%s, mended: used.len is %u, not %u", after, len, want);
	CHECK_EQ(vdev_status(&victim), 0xf);
}

static void attack(const struct hostile *h)
{
	unsigned seen;

	if (h->blk_only && !is_blk)
		return;
	nrun++;
	begin();
	for (unsigned i = 0; i < 8192; i++)
		page[i] = 0;
	for (unsigned i = 0; i < h->ntable; i++)
		table[i] = (struct vring_desc){real(h->table[i].addr), h->table[i].len, h->table[i].flags,
					       h->table[i].next};
	seen = victim.config_irqs;
	if (vq->packed)
		lay_packed(h);
	else
		lay_split(h);
	vdev_notify(&victim, queue);
	beside_works(h->name);
	if (h->outcome == BROKEN) {
		if (!vdev_wait_needs_reset(&victim))
			FAIL("%s: the device does not say that it needs a reset", h->name);
		else if (victim.irq != VDEV_POLL && !wait_for(&victim.config_irqs, seen + 1, 2000))
			FAIL("%s: no interrupt tells of it", h->name);
		/* It stands still. */
		vdev_notify(&victim, queue);
		vdev_set_status(&victim, 0x0f);
		CHECK(vdev_needs_reset(&victim));
	} else {
		uint64_t end = rdtsc() + tsc_khz() * WAIT_MS;

		while (!vq_more(vq) && rdtsc() < end)
			pause();
		if (!vq_more(vq) || vdev_needs_reset(&victim))
			FAIL("%s: status 0x%x, %s", h->name, vdev_status(&victim),
			     vq_more(vq) ? "answered" : "not answered");
	}
	begin();
	works(h->name);
	beside_works(h->name);
}

/* A queue whose areas are nowhere, or wrong: enabling it is refused. */
static void bad_areas(void)
{
	const uint64_t good = (uint64_t)page;
	const struct {
		uint64_t desc, driver, device;
		unsigned size;
	} bad[] = {
		{RAM, good, good, SIZE},
		{good, RAM, good, SIZE},
		{good, good, RAM, SIZE},
		{RAM - 16, good, good, SIZE},
		{good, RAM - 2, good, SIZE},
		{good, good, RAM - 4, SIZE},
		{good + 1, good, good, SIZE},
		{good, good + 1, good, SIZE},
		{good, good, good + 1, SIZE},
		{~0xful, good, good, SIZE},
		{good, ~3ul, good, SIZE},
		{good, good, ~3ul, SIZE},
		{good, good, good, 0},
		{good, good, good, 1025},
		{good, good, good, 0xffff},
		{LAYOUT_LAPIC, good, good, SIZE},
		{good, victim.common, good, SIZE},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		if (vq->packed && bad[i].device == RAM - 4) /* holds all that a packed ring has there */
			continue;
		vdev_begin(&victim, ~BIT(VIRTIO_NET_F_MQ));
		vdev_queue_size(&victim, queue, bad[i].size);
		vdev_queue_addr(&victim, queue, VDEV_DESC, bad[i].desc);
		vdev_queue_addr(&victim, queue, VDEV_DRIVER, bad[i].driver);
		vdev_queue_addr(&victim, queue, VDEV_DEVICE, bad[i].device);
		vdev_queue_enable(&victim, queue);
		if (vdev_queue_enabled(&victim, queue) && !vdev_needs_reset(&victim))
			FAIL("areas %u are taken", i);
		vdev_set_status(&victim, 0xf);
		if (!vdev_needs_reset(&victim))
			FAIL("areas %u do not break the device", i);
		vdev_notify(&victim, queue);
		beside_works("bad areas");
		begin();
		works("bad areas");
	}
}

int main(void)
{
	uint32_t id = option_is("victim", "net") ? VIRTIO_ID_NET : VIRTIO_ID_BLOCK;

	is_blk = id == VIRTIO_ID_BLOCK;
	queue = (unsigned)option("queue", 0);
	vdev_open(&beside, VIRTIO_ID_RNG, 0);
	vdev_begin(&beside, ~0ul);
	beside_vq = vq_new(&beside, 0, 0);
	vdev_driver_ok(&beside);
	beside_page = alloc(4096, 4096);
	page = alloc(3 * 4096, 4096);
	table = alloc(4096, 4096);
	vdev_open(&victim, id, 0);

	begin();
	works("at first");
	if (vq->packed) {
		for (unsigned i = 0; i < ARRAY_SIZE(packed); i++)
			attack(&packed[i]);
	} else {
		for (unsigned i = 0; i < ARRAY_SIZE(split); i++)
			attack(&split[i]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(both); i++)
		attack(&both[i]);
	bad_areas();
	print("# %u hostile chains\n", nrun);
	return 0;
}
