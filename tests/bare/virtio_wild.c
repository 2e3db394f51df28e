/* Registers used as no driver does: every width at every offset, queue fields while the queue runs, vectors and
 * queues that are not there, BARs moved anywhere.  A disk suffers, a source of random numbers beside it works
 * on, and a reset mends the disk. */
#include "blk.h"

#define DEPTH 16
#define LEN   4096u

static struct vdev disk, beside;
static struct vq *vq, *beside_vq;
static struct blk_req *req[DEPTH];
static uint8_t *bytes;

static void begin(void)
{
	static uint64_t mark;

	if (!mark)
		mark = alloc_mark();
	alloc_release(mark);
	vdev_begin(&disk, ~0ul);
	vq = vq_new(&disk, 0, 64);
	vdev_driver_ok(&disk);
}

static void beside_works(void)
{
	CHECK_EQ(vq_do(beside_vq, &(struct seg){(uint64_t)bytes, 64, true}, 1), 64);
}

static void start_io(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		req[i]->len = LEN;
		REQUIRE(blk_submit(vq, req[i], VIRTIO_BLK_T_IN, i * (LEN / SECTOR)));
	}
	vq_kick(vq);
}

static void finish_io(unsigned n)
{
	while (n--) {
		struct blk_req *r;
		uint32_t len;

		if (!vq_wait(vq))
			finish();
		r = vq_get(vq, &len);
		CHECK_EQ(r->status, 0);
		CHECK_EQ(len, LEN + 1);
		CHECK(blk_is_pattern(r->data, r->hdr.sector, 1));
	}
}

static void works(void)
{
	start_io(DEPTH);
	finish_io(DEPTH);
	beside_works();
}

/* --- every register --- */

static void wild_write(uint64_t at, unsigned width, uint64_t v)
{
	switch (width) {
	case 1:
		write8(at, (uint8_t)v);
		break;
	case 2:
		write16(at, (uint16_t)v);
		break;
	case 4:
		write32(at, (uint32_t)v);
		break;
	default:
		write64(at, v);
	}
}

static void wild_read(uint64_t at, unsigned width)
{
	switch (width) {
	case 1:
		read8(at);
		break;
	case 2:
		read16(at);
		break;
	case 4:
		read32(at);
		break;
	default:
		read64(at);
	}
}

/* What a page's first bytes are is in the first bytes; of the rest a few. */
static void every_register(uint64_t base, uint64_t size, bool writes)
{
	for (unsigned width = 1; width <= 8; width *= 2)
		for (uint64_t page = base; page < base + size; page += 4096)
			for (unsigned off = 0; off < 4096;
			     off = off < 0x60 || off > 0xff8 ? off + 1 : off + 61) {
				uint64_t at = page + off;

				if (writes)
					wild_write(at, width, off % 3 ? ~0ul : rnd());
				else
					wild_read(at, width);
			}
}

static void registers(void)
{
	uint64_t size = disk.mmio ? 4096 : 32768;

	begin();
	if (disk.irq != VDEV_POLL && !disk.mmio)
		vdev_msix_enable(&disk, false); /* its table holds anything now */
	every_register(disk.common, size, false);
	beside_works();
	for (unsigned i = 0; i < 2; i++) {
		every_register(disk.common, size, true);
		beside_works();
		vdev_reset(&disk);
	}
	begin();
	works();
}

/* Every byte of the configuration, in every width: only wce is the driver's. */
static void config_writes(void)
{
	const unsigned size = 60, wce = 32;
	uint8_t before[60];

	begin();
	for (unsigned i = 0; i < size; i++)
		before[i] = read8(disk.config + i);
	for (unsigned width = 1; width <= 8; width *= 2)
		for (unsigned off = 0; off < size + 8; off++)
			wild_write(disk.config + off, width, ~0ul);
	for (unsigned i = 0; i < size; i++)
		if (i != wce)
			CHECK_EQ(read8(disk.config + i), before[i]);
	works();
}

/* --- queue fields of a queue that runs --- */

static void window_access(unsigned off, unsigned len)
{
	pci_write(disk.slot, disk.window_cap + VIRTIO_PCI_CAP_BAR, 1, 0);
	pci_write(disk.slot, disk.window_cap + VIRTIO_PCI_CAP_OFFSET, 4, off);
	pci_write(disk.slot, disk.window_cap + VIRTIO_PCI_CAP_LENGTH, 4, len);
}

static void window_write(unsigned off, unsigned len, uint32_t v)
{
	window_access(off, len);
	pci_write(disk.slot, disk.window_cap + 16, 4, v);
}

static uint32_t window_read(unsigned off, unsigned len)
{
	window_access(off, len);
	return pci_read(disk.slot, disk.window_cap + 16, 4);
}

static void fields_of_running_queue(bool window)
{
	static const uint32_t value[] = {0, 1, 3, 17, 0xffff, 0x80000000, 0xffffffff, 0x4000000};
	unsigned off = window ? (unsigned)(disk.common - disk.bar) : 0;
	uint64_t base = disk.common;

	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(value); i++) {
		start_io(DEPTH);
		if (disk.mmio) {
			write32(base + VIRTIO_MMIO_QUEUE_SEL, 0);
			write32(base + VIRTIO_MMIO_QUEUE_NUM, value[i]);
			for (unsigned r = 0; r < 3; r++) {
				write32(base + VIRTIO_MMIO_QUEUE_DESC_LOW + 16 * r, value[i]);
				write32(base + VIRTIO_MMIO_QUEUE_DESC_HIGH + 16 * r, value[i]);
			}
		} else if (window) {
			window_write(off + VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
			window_write(off + VIRTIO_PCI_COMMON_Q_SIZE, 2, value[i]);
			window_write(off + VIRTIO_PCI_COMMON_Q_ENABLE, 2, value[i]);
			for (unsigned r = 0; r < 6; r++)
				window_write(off + VIRTIO_PCI_COMMON_Q_DESCLO + 4 * r, 4, value[i]);
			CHECK_EQ(window_read(off + VIRTIO_PCI_COMMON_Q_SIZE, 2) & 0xffff, 64);
			CHECK_EQ(window_read(off + VIRTIO_PCI_COMMON_STATUS, 1) & 0xff, 0xf);
		} else {
			write16(base + VIRTIO_PCI_COMMON_Q_SELECT, 0);
			write16(base + VIRTIO_PCI_COMMON_Q_SIZE, (uint16_t)value[i]);
			write16(base + VIRTIO_PCI_COMMON_Q_ENABLE, (uint16_t)value[i]);
			for (unsigned r = 0; r < 6; r++)
				write32(base + VIRTIO_PCI_COMMON_Q_DESCLO + 4 * r, value[i]);
		}
		if (!disk.mmio) {
			CHECK_EQ(read16(base + VIRTIO_PCI_COMMON_Q_SIZE), 64);
			CHECK_EQ(read16(base + VIRTIO_PCI_COMMON_Q_ENABLE), 1);
			CHECK_EQ(read32(base + VIRTIO_PCI_COMMON_Q_DESCLO), (uint64_t)vq->desc);
			CHECK_EQ(read32(base + VIRTIO_PCI_COMMON_Q_USEDHI), 0);
		}
		finish_io(DEPTH);
		works();
	}
	/* Features too are settled. */
	vdev_accept(&disk, 0);
	works();
}

static void window_bounds(void)
{
	static const uint32_t off[] = {0, 0x7ffc, 0x7ffe, 0x7fff, 0x8000, 0xfffffffc, 0xffffffff, 1, 2, 3};

	begin();
	for (unsigned bar = 0; bar < 256; bar += bar < 8 ? 1 : 31)
		for (unsigned i = 0; i < ARRAY_SIZE(off); i++)
			for (uint32_t len = 0; len < 10; len++) {
				window_access(off[i], len == 9 ? ~0u : len);
				pci_write(disk.slot, disk.window_cap + VIRTIO_PCI_CAP_BAR, 1, bar);
				(void)pci_read(disk.slot, disk.window_cap + 16, 4);
				(void)pci_read(disk.slot, disk.window_cap + 17, 1);
				if (off[i] >= 0x7ffc)
					pci_write(disk.slot, disk.window_cap + 16, 4, 0);
			}
	works();
}

/* --- what is not there --- */

static void absent(void)
{
	static const unsigned nobody[] = {1, 2, 63, 64, 255, 256, 0x7fff, 0x8000, 0xffff};

	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(nobody); i++) {
		unsigned q = nobody[i];

		CHECK_EQ(vdev_queue_max(&disk, q), 0);
		CHECK(!vdev_queue_enabled(&disk, q));
		vdev_queue_size(&disk, q, 16);
		vdev_queue_addr(&disk, q, VDEV_DESC, 0x1000);
		vdev_queue_enable(&disk, q);
		vdev_queue_reset(&disk, q);
		CHECK(!vdev_queue_enabled(&disk, q));
		if (disk.mmio) {
			write32(disk.common + VIRTIO_MMIO_QUEUE_NOTIFY, q);
			write32(disk.common + VIRTIO_MMIO_QUEUE_NOTIFY, q << 16);
			write16(disk.common + VIRTIO_MMIO_QUEUE_NOTIFY, (uint16_t)q);
			write8(disk.common + VIRTIO_MMIO_QUEUE_NOTIFY, (uint8_t)q);
			continue;
		}
		CHECK_EQ(read32(disk.common + VIRTIO_PCI_COMMON_Q_DESCLO), 0);
		CHECK_EQ(vdev_set_vector(&disk, q, 0), 0xffff);
		if (!disk.notify_pio && q < 1024)
			for (unsigned width = 1; width <= 8; width *= 2)
				wild_write(disk.notify + q * 4, width, q);
	}
	write32(disk.common, 0xffffffff); /* feature words beyond */
	works();
}

static void vectors(void)
{
	static const uint16_t wrong[] = {0x7ff, 0x800, 0x7fff, 0x8000, 0xfffe, 0xffff};

	begin();
	CHECK_EQ(vdev_set_vector(&disk, 0, (uint16_t)disk.nvectors), 0xffff);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		CHECK_EQ(vdev_set_vector(&disk, 0, wrong[i]), 0xffff);
		write16(disk.common + VIRTIO_PCI_COMMON_MSIX, wrong[i]);
		CHECK_EQ(read16(disk.common + VIRTIO_PCI_COMMON_MSIX), 0xffff);
	}
	/* The last one there is will do. */
	CHECK_EQ(vdev_set_vector(&disk, 0, (uint16_t)(disk.nvectors - 1)), disk.nvectors - 1);
	works();
}

/* An interrupt that comes while its vector is masked is pending, and comes when it is not; however often and
 * quickly that changes. */
static void mask_storm(void)
{
	unsigned rounds = (unsigned)option("storm", 300);

	begin();
	for (unsigned i = 0; i < rounds; i++) {
		unsigned seen, toggles = (unsigned)(rnd() % 12);
		uint32_t len;

		vdev_msix_mask(&disk, 1, true);
		/* What came before is taken now. */
		wait_for(&vq->irqs, ~0u, 0);
		seen = vq->irqs;
		vq_want_irq(vq, true);
		start_io(1);
		for (unsigned k = 0; k < toggles; k++) {
			vdev_msix_mask(&disk, 1, k & 1);
			if (rnd() & 1)
				delay_us((unsigned)(rnd() % 50));
		}
		vdev_msix_mask(&disk, 1, true);
		for (uint64_t end = rdtsc() + tsc_khz() * WAIT_MS; !vq_more(vq) && rdtsc() < end;)
			pause();
		CHECK(vq_more(vq));
		if (!toggles) { /* masked all the time */
			for (uint64_t end = rdtsc() + tsc_khz() * 500;
			     !(read8(disk.msix_pba) & 2) && rdtsc() < end;)
				pause();
			CHECK(read8(disk.msix_pba) & 2);
			CHECK_EQ(vq->irqs, seen);
		}
		vdev_msix_mask(&disk, 1, false);
		if (!wait_for(&vq->irqs, seen + 1, WAIT_MS)) {
			FAIL("round %u: an interrupt is lost (%u toggles)", i, toggles);
			finish();
		}
		CHECK(vq_get(vq, &len) == req[0]);
	}
	works();
}

/* --- BARs --- */

static uint64_t bar_get(void)
{
	return (pci_read(disk.slot, PCI_BASE_ADDRESS_0, 4) & ~0xful) |
	       (uint64_t)pci_read(disk.slot, PCI_BASE_ADDRESS_0 + 4, 4) << 32;
}

static void bars(void)
{
	const uint64_t home = disk.bar, ram = 0x2000000;
	const uint64_t free = 0xf0000000; /* nobody's, and not for BARs */
	const uint64_t bad[] = {ram,
				free,
				0,
				0x100000,
				beside.mmio ? home + 0x1000 : beside.bar,
				LAYOUT_LAPIC,
				LAYOUT_IOAPIC,
				LAYOUT_ECAM,
				LAYOUT_VIRTIO_MMIO,
				LAYOUT_PCI_MMIO32 + LAYOUT_PCI_MMIO32_SIZE,
				1ul << 40,
				1ul << 52,
				~0x7ffful};

	begin();
	*(volatile uint64_t *)ram = 0x1122334455667788;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		for (unsigned off = 0; off < 2; off++) {
			vdev_bar_write(&disk, bad[i], off);
			beside_works();
			CHECK_EQ(*(volatile uint64_t *)ram, 0x1122334455667788);
			CHECK_EQ(read32(free), 0xffffffff);
			(void)lapic_read(LAPIC_ID);
			vdev_bar_write(&disk, home, off);
			CHECK_EQ(bar_get(), home);
			if (vdev_status(&disk) != 0xf) {
				FAIL("after a BAR at 0x%lx: status 0x%x", bad[i], vdev_status(&disk));
				begin();
			}
			works();
		}
}

static void bar_moves_under_io(void)
{
	const uint64_t home = disk.bar;

	begin();
	for (unsigned i = 0; i < 50; i++) {
		uint64_t to = LAYOUT_PCI_MMIO32 + 0x1000000 + rnd() % 1000 * 0x8000;

		start_io(DEPTH / 2);
		vdev_bar_write(&disk, to, i & 1);
		CHECK_EQ(bar_get(), to);
		vdev_bar_moved(&disk, to);
		CHECK_EQ(vdev_status(&disk), 0xf);
		for (unsigned k = DEPTH / 2; k < DEPTH; k++) {
			req[k]->len = LEN;
			REQUIRE(blk_submit(vq, req[k], VIRTIO_BLK_T_IN, k * (LEN / SECTOR)));
		}
		vdev_notify(&disk, 0); /* at its new place */
		finish_io(DEPTH);
		CHECK_EQ(read32(home), i || to != home ? 0xffffffff : 0);
	}
	vdev_bar_write(&disk, home, true);
	vdev_bar_moved(&disk, home);
	works();
}

/* Without decoding nobody answers; without mastering nothing runs. */
static void command_register(void)
{
	uint32_t command = pci_read(disk.slot, PCI_COMMAND, 2);

	begin();
	pci_write(disk.slot, PCI_COMMAND, 2, command & ~(uint32_t)PCI_COMMAND_MEMORY);
	CHECK_EQ(read32(disk.common), 0xffffffff);
	pci_write(disk.slot, PCI_COMMAND, 2, command);
	works();
	start_io(DEPTH);
	pci_write(disk.slot, PCI_COMMAND, 2, command & ~(uint32_t)PCI_COMMAND_MASTER);
	beside_works();
	pci_write(disk.slot, PCI_COMMAND, 2, command);
	begin();
	works();
}

static void write_patterns(void)
{
	begin();
	for (unsigned i = 0; i < DEPTH; i++) {
		for (unsigned at = 0; at < LEN; at += SECTOR)
			blk_pattern(req[i]->data + at, i * (LEN / SECTOR) + at / SECTOR, 1);
		CHECK_EQ(blk_do(vq, req[i], VIRTIO_BLK_T_OUT, i * (LEN / SECTOR), LEN), 0);
	}
}

int main(void)
{
	vdev_open(&beside, VIRTIO_ID_RNG, 0);
	vdev_begin(&beside, ~0ul);
	beside_vq = vq_new(&beside, 0, 0);
	vdev_driver_ok(&beside);
	bytes = alloc(64, 64);
	vdev_open(&disk, VIRTIO_ID_BLOCK, 0);
	for (unsigned i = 0; i < DEPTH; i++)
		req[i] = blk_req_new(LEN);
	write_patterns();
	works();

	registers();
	config_writes();
	fields_of_running_queue(false);
	absent();
	if (!disk.mmio) {
		fields_of_running_queue(true);
		window_bounds();
		if (disk.irq == VDEV_MSIX)
			mask_storm();
		bars();
		bar_moves_under_io();
		command_register();
		if (disk.irq == VDEV_POLL)
			vectors();
	}
	vdev_reset(&disk);
	begin();
	works();
	return 0;
}
