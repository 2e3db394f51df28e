/* The serial port's registers in memory are those of its ports, in every width, also while the guest
 * reads them from a page of its own (which starts after enough polled output). */
#include "lib/bare.h"

#define PORT(reg) ((uint16_t)(LAYOUT_COM1 + (reg)))
#define MMIO(reg) (LAYOUT_UART_MMIO + (reg))
#define IER       1
#define LCR       3
#define MCR       4
#define LSR       5
#define MSR       6
#define SCR       7

static uint64_t by_bytes(unsigned reg, unsigned len)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)(reg + i < 8 ? inb(PORT(reg + i)) : 0xff) << (8 * i);
	return v;
}

static void same(const char *when)
{
	unsigned before = bare_failures;

	for (unsigned reg = IER; reg < 8; reg++) {
		CHECK_EQ(read8(MMIO(reg)), inb(PORT(reg)));
		CHECK_EQ(read16(MMIO(reg)), by_bytes(reg, 2));
		CHECK_EQ(read32(MMIO(reg)), by_bytes(reg, 4));
		CHECK_EQ(read64(MMIO(reg)), by_bytes(reg, 8));
	}
	CHECK_EQ(read8(MMIO(8)), 0xff);
	CHECK_EQ(read64(MMIO(0xff8)), ~0ul);
	if (bare_failures != before)
		print("# %s\n", when);
}

static void poll_out(const char *s)
{
	for (; *s; s++) {
		while ((read8(MMIO(LSR)) & 0x60) != 0x60)
			;
		write8(MMIO(0), (uint8_t)*s);
	}
}

static void polled(void)
{
	for (unsigned i = 0; i < 4; i++)
		poll_out("what a kernel log looks like to the port\n");
	while ((read8(MMIO(LSR)) & 0x60) != 0x60)
		;
}

int main(void)
{
	write8(MMIO(IER), 0);
	same("at first");
	write8(MMIO(SCR), 0x12);
	CHECK_EQ(inb(PORT(SCR)), 0x12);
	outb(PORT(SCR), 0x34);
	CHECK_EQ(read8(MMIO(SCR)), 0x34);
	write16(MMIO(MSR), 0x56ff);
	CHECK_EQ(read8(MMIO(SCR)), 0x56);
	write32(MMIO(MCR), 0x78ffff0b);
	CHECK_EQ(read8(MMIO(MCR)), 0x0b);
	CHECK_EQ(read8(MMIO(SCR)), 0x78);

	polled();
	same("after polled output");

	/* From there each way to change a register must show both ways. */
	polled();
	write8(MMIO(SCR), 0x9a);
	CHECK_EQ(read8(MMIO(SCR)), 0x9a);
	CHECK_EQ(inb(PORT(SCR)), 0x9a);
	polled();
	outb(PORT(SCR), 0xbc);
	CHECK_EQ(read8(MMIO(SCR)), 0xbc);
	polled();
	write8(MMIO(LCR), 0x83);
	write8(MMIO(0), 0x01);
	write8(MMIO(1), 0x00);
	CHECK_EQ(read8(MMIO(LCR)), 0x83);
	CHECK_EQ(read16(MMIO(0)), 0x0001);
	write8(MMIO(LCR), 0x03);
	CHECK_EQ(inb(PORT(IER)), 0);
	polled();
	outb(PORT(LCR), 0x83);
	outb(PORT(0), 0x0c);
	CHECK_EQ(read8(MMIO(0)), 0x0c);
	outb(PORT(LCR), 0x03);
	polled();
	write8(MMIO(IER), 0x08);
	CHECK_EQ(read8(MMIO(IER)), 0x08);
	CHECK_EQ(inb(PORT(IER)), 0x08);
	write8(MMIO(IER), 0);
	CHECK_EQ(read8(MMIO(IER)), 0);
	polled();
	outb(PORT(IER), 0x08);
	CHECK_EQ(read8(MMIO(IER)), 0x08);
	outb(PORT(IER), 0);
	polled();
	outb(PORT(MCR), 0x1a); /* loop-back */
	CHECK_EQ(read8(MMIO(MCR)), 0x1a);
	CHECK_EQ(read8(MMIO(MSR)) & 0xf0, 0x90);
	outb(PORT(MCR), 0x0b);
	polled();
	same("at the end");
	return 0;
}
