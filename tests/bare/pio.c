/* Ports: nothing there reads all ones in every width, byte registers live with wide accesses, string
 * instructions move every element, and PCI configuration space is there in every width. */
#include "pci.h"

#define SCRATCH (LAYOUT_COM1 + 7)

static void string_in(uint16_t port, void *to, unsigned n, unsigned width)
{
	switch (width) {
	case 1:
		__asm__ volatile("cld; rep insb" : "+D"(to), "+c"(n) : "d"(port) : "memory");
		break;
	case 2:
		__asm__ volatile("cld; rep insw" : "+D"(to), "+c"(n) : "d"(port) : "memory");
		break;
	default:
		__asm__ volatile("cld; rep insl" : "+D"(to), "+c"(n) : "d"(port) : "memory");
		break;
	}
}

static void string_out(uint16_t port, const void *from, unsigned n)
{
	__asm__ volatile("cld; rep outsb" : "+S"(from), "+c"(n) : "d"(port) : "memory");
}

static void nobody(void)
{
	static const uint16_t ports[] = {0x20c, 0x220, 0x2e8, 0x510, 0x1234, 0xe000, 0xfff8};
	uint32_t words[8] = {0};

	for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		outb(ports[i], 0x12);
		outw(ports[i], 0x1234);
		outl(ports[i], 0x12345678);
		if (inb(ports[i]) != 0xff || inw(ports[i]) != 0xffff || inl(ports[i]) != 0xffffffff)
			FAIL("port 0x%x reads 0x%02x 0x%04x 0x%08x", ports[i], inb(ports[i]), inw(ports[i]),
			     inl(ports[i]));
	}
	string_in(0x1234, words, 8, 4);
	for (unsigned i = 0; i < 8; i++)
		CHECK_EQ(words[i], 0xffffffff);
}

static void serial_port(void)
{
	uint8_t bytes[20];

	outb(SCRATCH, 0x5a);
	CHECK_EQ(inb(SCRATCH), 0x5a);
	string_in(SCRATCH, bytes, 20, 1);
	for (unsigned i = 0; i < 20; i++)
		CHECK_EQ(bytes[i], 0x5a);

	/* Wider than the register: the ports after it, one by one; past the device nobody answers. */
	CHECK_EQ(inw(LAYOUT_COM1 + 6), 0x5a << 8 | inb(LAYOUT_COM1 + 6));
	CHECK_EQ(inw(SCRATCH), 0xff5a);
	CHECK_EQ(inl(LAYOUT_COM1 + 4) >> 24, 0x5a);
	outw(LAYOUT_COM1 + 6, 0xa5ff);
	CHECK_EQ(inb(SCRATCH), 0xa5);

	string_out(LAYOUT_COM1, "string of 30 bytes over ports\n", 30);
}

static void pci_config(void)
{
	uint32_t id = config_read32(0, 0), class, words[3];
	uint16_t halves[3];
	uint8_t bytes[3];

	print("# host bridge %04x:%04x\n", id & 0xffff, id >> 16);
	CHECK(id != 0xffffffff && id != 0);
	CHECK_EQ(inl(LAYOUT_PCI_CONFIG), 1u << 31);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(inb((uint16_t)(CONFIG_DATA + i)), (id >> (8 * i)) & 0xff);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(inw((uint16_t)(CONFIG_DATA + i)), (id >> (8 * i)) & 0xffff);
	string_in(CONFIG_DATA, bytes, 3, 1);
	string_in(CONFIG_DATA, halves, 3, 2);
	string_in(CONFIG_DATA, words, 3, 4);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(bytes[i], id & 0xff);
		CHECK_EQ(halves[i], id & 0xffff);
		CHECK_EQ(words[i], id);
	}

	class = config_read32(0, 8);
	CHECK_EQ(class >> 16, 0x0600);
	CHECK_EQ(inw(CONFIG_DATA + 2), 0x0600);
	CHECK_EQ(inb(CONFIG_DATA + 3), 0x06);
	CHECK_EQ((config_read32(0, 12) >> 16) & 0x7f, 0); /* header type */

	/* Read-only registers */
	outl(LAYOUT_PCI_CONFIG, 1u << 31);
	outl(CONFIG_DATA, 0);
	outw(CONFIG_DATA + 2, 0);
	outb(CONFIG_DATA, 0);
	CHECK_EQ(config_read32(0, 0), id);

	/* Other buses and functions, and with the enable bit off, are empty. */
	outl(LAYOUT_PCI_CONFIG, 1u << 31 | 1 << 16);
	CHECK_EQ(inl(CONFIG_DATA), 0xffffffff);
	outl(LAYOUT_PCI_CONFIG, 1u << 31 | 7 << 8);
	CHECK_EQ(inl(CONFIG_DATA), 0xffffffff);
	CHECK_EQ(inw(CONFIG_DATA + 2), 0xffff);
	CHECK_EQ(inb(CONFIG_DATA + 3), 0xff);
	outl(LAYOUT_PCI_CONFIG, 0);
	CHECK_EQ(inl(CONFIG_DATA), 0xffffffff);
	/* Narrow accesses are not this register (and byte 1 is the reset register). */
	outb(LAYOUT_PCI_CONFIG, 0x40);
	outw(LAYOUT_PCI_CONFIG + 2, 0x8000);
	CHECK_EQ(inl(LAYOUT_PCI_CONFIG), 0);
}

int main(void)
{
	nobody();
	serial_port();
	pci_config();
	return 0;
}
