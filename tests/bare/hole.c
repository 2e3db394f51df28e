/* Where nothing lives reads give all ones and writes go nowhere, whatever their width and alignment. */
#include "lib/bare.h"

static void check(uint64_t addr)
{
	for (unsigned off = 0; off < 8; off += 3) {
		uint64_t a = addr + off;

		write8(a, 0x12);
		write16(a, 0x1234);
		write32(a, 0x12345678);
		write64(a, 0x123456789abcdef0);
		if (read8(a) != 0xff || read16(a) != 0xffff || read32(a) != 0xffffffff || read64(a) != ~0ul)
			FAIL("0x%lx reads 0x%02x 0x%04x 0x%08x 0x%016lx", a, read8(a), read16(a), read32(a),
			     read64(a));
	}
}

int main(void)
{
	static const uint64_t empty[] = {
		LAYOUT_PCI_MMIO32,
		0xd0000ffc, /* and across a page */
		LAYOUT_ECAM + LAYOUT_ECAM_SIZE,
		0xf0000000,
		LAYOUT_VIRTIO_MMIO + 0x800000,
		LAYOUT_UART_MMIO + LAYOUT_UART_MMIO_SIZE,
		LAYOUT_LAPIC + 0x100000,
		0xffff0000, /* where a PC has its firmware */
		0x1f0000000,
	};
	const struct hvm_memmap *map = (const void *)start_info->memmap_paddr;
	uint64_t top = 0;

	for (unsigned i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
		check(empty[i]);

	for (unsigned i = 0; i < start_info->memmap_entries; i++)
		if (map[i].type == 1 && map[i].addr < LAYOUT_HOLE_START)
			top = map[i].addr + map[i].size;
	REQUIRE(top > 0 && top < LAYOUT_HOLE_START);
	check(top);
	check(top + 0x100000);

	/* The last bytes of RAM and the first of nothing in one access */
	write32(top - 4, 0x11223344);
	CHECK_EQ(read64(top - 4), 0xffffffff11223344);
	write64(top - 4, 0xaaaaaaaa55667788);
	CHECK_EQ(read64(top - 4), 0xffffffff55667788);
	CHECK_EQ(read16(top - 1), 0xff55);
	return 0;
}
