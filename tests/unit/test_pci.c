/* Configuration space by ports and by ECAM, and the reset port inside. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "lib/cleanup.h"
#include "tests/fake/fake_vmevent.h"
#include "vmm/layout_x86.h"
#include "vmm/pci.h"

#define ENABLE 0x80000000u
#define SLOT   5u

static struct bus pio, mmio;
static struct pci pci;
static struct pci_device device;
static unsigned nresets, nwrites;

static struct {
	unsigned off;
	uint32_t value;
	unsigned len;
} last;

static void on_reset(void *opaque)
{
	cr_assert_eq(opaque, &pci);
	nresets++;
}

static void on_write(struct pci_device *d, unsigned off, unsigned len)
{
	cr_assert_eq(d, &device);
	cr_expect(len == 1 || len == 2 || len == 4, "length %u", len);
	cr_expect_eq(off % len, 0, "offset %#x, length %u", off, len);
	cr_assert_leq(off + len, sizeof(d->config));
	nwrites++;
	last.off = off;
	last.value = 0;
	memcpy(&last.value, d->config + off, len);
	last.len = len;
}

static void setup(void)
{
	bus_init(&pio);
	bus_init(&mmio);
	cr_assert_eq(pci_init(&pci, &pio, &mmio, on_reset, &pci), 0);
	for (size_t i = 0; i < sizeof(device.config); i++)
		device.config[i] = (uint8_t)(i * 7 ^ i >> 8);
	memset(device.writable, 0xff, sizeof(device.writable));
	device.config_written = on_write;
	cr_assert_eq(pci_add(&pci, &device, SLOT), 0);
}

static void teardown(void)
{
	pci_remove(&device);
	pci_fini(&pci);
	bus_fini(&pio);
	bus_fini(&mmio);
}

TestSuite(pci, .init = setup, .fini = teardown);

static uint32_t in(uint64_t port, unsigned len)
{
	uint32_t v = 0;

	cr_assert(bus_read(&pio, port, &v, len));
	return v;
}

static void out(uint64_t port, uint32_t v, unsigned len)
{
	cr_assert(bus_write(&pio, port, &v, len));
}

static uint32_t address(unsigned bus, unsigned dev, unsigned fn, unsigned reg)
{
	return ENABLE | bus << 16 | dev << 11 | fn << 8 | reg;
}

static uint32_t expected(unsigned off, unsigned len)
{
	uint32_t v = 0;

	memcpy(&v, device.config + off, len);
	return v;
}

static uint32_t ones(unsigned len)
{
	return len == 4 ? 0xffffffff : (1u << len * 8) - 1;
}

/* --- type 1 --- */

Test(pci, address_register_takes_dwords_only)
{
	out(0xcf8, address(0, SLOT, 0, 0x10), 4);
	cr_expect_eq(in(0xcf8, 4), address(0, SLOT, 0, 0x10));
	out(0xcf8, 0, 1);
	out(0xcf8, 0, 2);
	out(0xcfa, 0, 2);
	out(0xcfb, 0, 1);
	cr_expect_eq(in(0xcf8, 4), address(0, SLOT, 0, 0x10));
}

Test(pci, data_at_every_width_and_offset)
{
	for (unsigned reg = 0; reg < 256; reg += 4) {
		out(0xcf8, address(0, SLOT, 0, reg), 4);
		for (unsigned len = 1; len <= 4; len *= 2)
			for (unsigned off = 0; off + len <= 4; off++)
				cr_assert_eq(in(0xcfc + off, len), expected(reg + off, len), "%#x+%u/%u", reg,
					     off, len);
	}
}

Test(pci, low_bits_of_the_address_do_not_count)
{
	out(0xcf8, address(0, SLOT, 0, 0x13), 4);
	cr_expect_eq(in(0xcfc, 4), expected(0x10, 4));
}

Test(pci, data_written)
{
	out(0xcf8, address(0, SLOT, 0, 0x40), 4);
	out(0xcfc, 0x12345678, 4);
	cr_expect_eq(last.off, 0x40);
	cr_expect_eq(last.value, 0x12345678);
	cr_expect_eq(last.len, 4);
	out(0xcfe, 0xabcd, 2);
	cr_expect_eq(last.off, 0x42);
	cr_expect_eq(last.value, 0xabcd);
	out(0xcff, 0xef, 1);
	cr_expect_eq(last.off, 0x43);
	cr_expect_eq(last.value, 0xef);
	cr_expect_eq(nwrites, 3);
}

/* pci.h promises devices naturally aligned pieces; a guest promises nothing. */
Test(pci, crooked_ports_reach_devices_straight)
{
	out(0xcf8, address(0, SLOT, 0, 0x40), 4);
	out(0xcfd, 0xbbaa, 2);
}

Test(pci, disabled_is_all_ones)
{
	out(0xcf8, address(0, SLOT, 0, 0) & ~ENABLE, 4);
	for (unsigned len = 1; len <= 4; len *= 2)
		cr_expect_eq(in(0xcfc, len), ones(len));
	out(0xcfc, 0, 4);
	cr_expect_eq(nwrites, 0);
}

Test(pci, other_buses_functions_and_slots_are_all_ones)
{
	static const unsigned bdf[][3] = {{1, SLOT, 0},     {255, SLOT, 0}, {0, SLOT, 1}, {0, SLOT, 7},
					  {0, SLOT + 1, 0}, {0, 31, 0},     {0, 0, 1}};

	for (size_t i = 0; i < ARRAY_SIZE(bdf); i++) {
		out(0xcf8, address(bdf[i][0], bdf[i][1], bdf[i][2], 0), 4);
		for (unsigned len = 1; len <= 4; len *= 2)
			cr_expect_eq(in(0xcfc, len), ones(len), "case %zu", i);
		out(0xcfc, 0, 4);
	}
	cr_expect_eq(nwrites, 0);
}

Test(pci, host_bridge)
{
	out(0xcf8, address(0, 0, 0, 0), 4);
	cr_expect_neq(in(0xcfc, 2), 0xffff);
	out(0xcf8, address(0, 0, 0, PCI_CLASS_REVISION), 4);
	cr_expect_eq(in(0xcfc, 4) >> 16, 0x0600);
	out(0xcf8, address(0, 0, 0, PCI_COMMAND), 4);
	out(0xcfc, 0xffffffff, 4);
	cr_expect_eq(in(0xcfc, 4), 0, "nothing in it is writable");
}

/* --- the reset port --- */

Test(pci, reset_on_bit_2_only)
{
	for (unsigned v = 0; v < 256; v++) {
		nresets = 0;
		out(0xcf9, v, 1);
		cr_expect_eq(nresets, v >> 2 & 1, "value %#x", v);
	}
}

Test(pci, reset_by_byte_access_only)
{
	out(0xcf8, 0xffffffff, 4);
	out(0xcf8, 0xffff, 2);
	out(0xcf9, 0xffff, 2);
	out(0xcf8, 0xff, 1);
	out(0xcfa, 0xff, 1);
	out(0xcfb, 0xff, 1);
	cr_expect_eq(nresets, 0);
}

Test(pci, reset_port_keeps_the_address)
{
	out(0xcf8, address(0, SLOT, 0, 0x10), 4);
	out(0xcf9, 0x02, 1);
	cr_expect_eq(in(0xcf8, 4), address(0, SLOT, 0, 0x10));
}

/* --- ECAM --- */

static uint64_t ecam(unsigned dev, unsigned fn, unsigned off)
{
	return LAYOUT_ECAM + (dev << 15 | fn << 12 | off);
}

Test(pci, ecam_at_every_width_and_offset)
{
	for (unsigned off = 0; off < 4096; off++)
		for (unsigned len = 1; len <= 4; len *= 2) {
			uint32_t v = 0;

			cr_assert(bus_read(&mmio, ecam(SLOT, 0, off), &v, len));
			cr_assert_eq(v, off + len <= 4096 ? expected(off, len) : ones(len), "%#x/%u", off, len);
		}
}

Test(pci, ecam_of_eight_bytes)
{
	uint64_t v = 0, want;

	memcpy(&want, device.config + 0x100, 8);
	cr_assert(bus_read(&mmio, ecam(SLOT, 0, 0x100), &v, 8));
	cr_expect(v == want || v == UINT64_MAX);
	cr_assert(bus_write(&mmio, ecam(SLOT, 0, 0x100), &v, 8)); /* must only do no harm */
}

Test(pci, ecam_written)
{
	const uint32_t v = 0x12345678;

	cr_assert(bus_write(&mmio, ecam(SLOT, 0, 0xffc), &v, 4));
	cr_expect_eq(last.off, 0xffc);
	cr_expect_eq(last.value, v);
	cr_assert(bus_write(&mmio, ecam(SLOT, 0, 0x102), &v, 2));
	cr_expect_eq(last.off, 0x102);
	cr_expect_eq(last.value, 0x5678);
	cr_assert(bus_write(&mmio, ecam(SLOT, 0, 0xfff), &v, 1));
	cr_expect_eq(last.value, 0x78);
}

Test(pci, ecam_written_crookedly)
{
	const uint64_t v = 0x1122334455667788;

	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off < 8; off++)
			cr_assert(bus_write(&mmio, ecam(SLOT, 0, 0x100 + off), &v, len));
	for (unsigned off = 0xff8; off < 0x1000; off++)
		cr_assert(bus_write(&mmio, ecam(SLOT, 0, off), &v, 8));
}

Test(pci, ecam_of_nobody)
{
	uint32_t v = 0;

	cr_assert(bus_read(&mmio, ecam(SLOT, 1, 0), &v, 4));
	cr_expect_eq(v, 0xffffffff);
	v = 0;
	cr_assert(bus_read(&mmio, ecam(31, 7, 0xffc), &v, 4));
	cr_expect_eq(v, 0xffffffff);
	cr_expect(!bus_read(&mmio, LAYOUT_ECAM + LAYOUT_ECAM_SIZE, &v, 4));
	cr_expect(!bus_read(&mmio, LAYOUT_ECAM + LAYOUT_ECAM_SIZE - 2, &v, 4));
}

/* --- functions --- */

Test(pci, only_writable_bits_change)
{
	uint32_t before = expected(0x40, 4);

	pci_put32(device.writable + 0x40, 0x00ff0f01);
	out(0xcf8, address(0, SLOT, 0, 0x40), 4);
	for (unsigned len = 1; len <= 4; len *= 2)
		for (unsigned off = 0; off + len <= 4; off += len) {
			out(0xcfc + off, ~0u, len);
			out(0xcfc + off, 0, len);
			out(0xcfc + off, before >> off * 8, len);
			cr_expect_eq(in(0xcfc, 4), before, "off %u len %u", off, len);
		}
	out(0xcfc, ~before, 4);
	cr_expect_eq(in(0xcfc, 4), before ^ 0x00ff0f01);
}

Test(pci, slots)
{
	static struct pci_device other;

	cr_expect_eq(pci_add(&pci, &other, 32), -EINVAL);
	cr_expect_eq(pci_add(&pci, &other, SLOT), -EBUSY);
	cr_expect_eq(pci_free_slot(&pci), 1, "0 is the host bridge");
	for (int i; (i = pci_free_slot(&pci)) >= 0;)
		pci.device[i] = &other;
	cr_expect_eq(pci_free_slot(&pci), -ENOSPC);
	pci_remove(&other); /* never added */
}

Test(pci, a_removed_function_is_gone)
{
	pci_remove(&device);
	out(0xcf8, address(0, SLOT, 0, 0), 4);
	cr_expect_eq(in(0xcfc, 4), 0xffffffff);
}

Test(pci, capabilities_are_listed_in_order)
{
	static struct pci_device d;
	int a = pci_add_capability(&d, 9, 5), b = pci_add_capability(&d, 17, 12);

	cr_expect_eq(a, 0x40);
	cr_expect_eq(b, 0x48, "aligned to four bytes");
	cr_expect_eq(d.config[PCI_CAPABILITY_LIST], a);
	cr_expect(d.config[PCI_STATUS] & PCI_STATUS_CAP_LIST);
	cr_expect_eq(d.config[a], 9);
	cr_expect_eq(d.config[a + 1], b);
	cr_expect_eq(d.config[b], 17);
	cr_expect_eq(d.config[b + 1], 0);
	cr_expect_eq(pci_add_capability(&d, 9, 256 - 0x54 + 1), -ENOSPC);
	cr_expect_eq(pci_add_capability(&d, 9, 256 - 0x54), 0x54);
}

/* --- INTx --- */

static struct fake_vmevent vm;
static struct pci_device nic[3]; /* slots 1 and 9 share a line */

static void add_nics(void)
{
	static const unsigned slot[] = {1, 2, 9};

	fake_vmevent_init(&vm);
	for (size_t i = 0; i < ARRAY_SIZE(nic); i++) {
		nic[i].vmevent = &vm.event;
		cr_assert_eq(pci_add(&pci, &nic[i], slot[i]), 0);
	}
}

static void command(unsigned slot, uint16_t v)
{
	out(0xcf8, address(0, slot, 0, PCI_COMMAND), 4);
	out(0xcfc, v, 2);
}

static bool status_bit(unsigned slot, unsigned len)
{
	out(0xcf8, address(0, slot, 0, PCI_COMMAND), 4);
	return len == 4 ? in(0xcfc, 4) >> 16 & PCI_STATUS_INTERRUPT : in(0xcfe, len) & PCI_STATUS_INTERRUPT;
}

Test(pci, interrupt_lines_are_as_the_DSDT_says)
{
	for (unsigned slot = 0; slot < 32; slot++)
		cr_expect_eq(pci_intx_gsi(slot), LAYOUT_GSI_PCI_INTX + slot % 4);
	add_nics();
	cr_expect_eq(nic[1].config[PCI_INTERRUPT_PIN], 1);
	cr_expect_eq(device.config[PCI_INTERRUPT_PIN], expected(PCI_INTERRUPT_PIN, 1),
		     "without vmevent: no pin");
}

Test(pci, a_shared_line_stays_up_until_the_last_lets_go)
{
	add_nics();
	pci_intx(&nic[0], true);
	pci_intx(&nic[2], true);
	pci_intx(&nic[0], false);
	cr_expect(vm.level[17]);
	cr_expect_eq(vm.injected[17], 1);
	cr_expect_eq(vm.lines, 1, "a call each time would cost one");
	pci_intx(&nic[2], false);
	cr_expect(!vm.level[17]);
	cr_expect(!vm.level[18]);
}

Test(pci, interrupt_status_shows_whether_disabled_or_not)
{
	add_nics();
	pci_intx(&nic[1], true);
	for (unsigned len = 1; len <= 4; len *= 2)
		cr_expect(status_bit(2, len));
	cr_expect(!status_bit(1, 2));
	command(2, PCI_COMMAND_INTX_DISABLE);
	cr_expect(!vm.level[18]);
	cr_expect(status_bit(2, 2));
	command(2, 0);
	cr_expect(vm.level[18], "it was pending all the time");
	pci_remove(&nic[1]);
	cr_expect(!vm.level[18]);
}
