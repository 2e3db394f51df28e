/* ECAM shows the same PCI bus as the ports do. */
#include "pci.h"

int main(void)
{
	uint32_t id = config_read32(0, 0);
	unsigned absent = 0;

	CHECK_EQ(read32(ecam(0, 0)), id);
	for (unsigned off = 0; off < 0x40; off += 4) {
		uint32_t v = config_read32(0, off);

		CHECK_EQ(read32(ecam(0, off)), v);
		CHECK_EQ(read16(ecam(0, off)), v & 0xffff);
		CHECK_EQ(read16(ecam(0, off + 2)), v >> 16);
		for (unsigned i = 0; i < 4; i++)
			CHECK_EQ(read8(ecam(0, off + i)), (v >> (8 * i)) & 0xff);
	}
	CHECK_EQ(read16(ecam(0, 10)), 0x0600);
	CHECK_EQ(read32(ecam(0, 0x100)), 0); /* no extended capability */
	CHECK_EQ(read32(ecam(0, 0xffc)), 0);
	/* 8 bytes and what is not aligned: anything, but the VM lives */
	(void)read64(ecam(0, 0));
	(void)read32(ecam(0, 1));
	(void)read16(ecam(0, 3));

	for (unsigned device = 0; device < 32; device++) {
		uint32_t v = config_read32(device, 0);

		CHECK_EQ(read32(ecam(device, 0)), v);
		if (v != 0xffffffff)
			continue;
		absent++;
		write32(ecam(device, 4), 0);
		CHECK_EQ(read8(ecam(device, 0)), 0xff);
		CHECK_EQ(read16(ecam(device, 2)), 0xffff);
		CHECK_EQ(read32(ecam(device, 0xffc)), 0xffffffff);
	}
	CHECK(absent > 0);
	CHECK_EQ(read32(LAYOUT_ECAM + (1 << 12)), 0xffffffff); /* function 1 */
	return 0;
}
