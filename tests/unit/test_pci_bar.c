/* Base address registers: sizing, decode, moves that are made and moves that are not. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdatomic.h>
#include <string.h>

#include "lib/cleanup.h"
#include "tests/unit/teardown.h"
#include "vmm/layout_x86.h"
#include "vmm/pci.h"
#include "vmm/pci_bar.h"

#define SLOT     3u
#define MEM_SIZE 0x4000u
#define IO_SIZE  0x40u
#define ELSE     (LAYOUT_PCI_MMIO32 + 0x1000000)
#define MEM64    0x4000000000ull

struct card {
	struct pci_device pci;
	struct pci_bar mem, io;
	unsigned reads, writes, moves;
	uint64_t moved_to;
	int refuse;
};

static struct bus pio, mmio;
static struct pci pci;
static struct card card, other;

static void bar_read(struct pci_bar *b, uint64_t off, void *data, unsigned len)
{
	struct card *c = container_of(b->dev, struct card, pci);

	cr_assert_leq(off + len, b->size);
	memset(data, b->io ? 0x10 : 0x64, len);
	c->reads++;
}

static void bar_write(struct pci_bar *b, uint64_t off, const void *data, unsigned len)
{
	(void)data;
	cr_assert_leq(off + len, b->size);
	container_of(b->dev, struct card, pci)->writes++;
}

static int bar_move(struct pci_bar *b, uint64_t to)
{
	struct card *c = container_of(b->dev, struct card, pci);

	if (c->refuse && to != PCI_BAR_NOWHERE)
		return c->refuse;
	c->moves++;
	c->moved_to = to;
	return 0;
}

static void add_card(struct card *c, unsigned slot)
{
	static const struct pci_bar_ops ops = {.read = bar_read, .write = bar_write, .move = bar_move};

	c->pci.name = "card";
	cr_assert_eq(pci_add(&pci, &c->pci, slot), 0);
	c->mem = (struct pci_bar){.name = "mem", .size = MEM_SIZE, .ops = &ops};
	c->io = (struct pci_bar){.name = "io", .size = IO_SIZE, .io = true, .ops = &ops};
	cr_assert_eq(pci_bar_add(&c->pci, 0, &c->mem), 0);
	cr_assert_eq(pci_bar_add(&c->pci, 2, &c->io), 0);
}

static void setup(void)
{
	bus_init(&pio);
	bus_init(&mmio);
	cr_assert_eq(pci_init(&pci, &pio, &mmio, NULL, NULL), 0);
	pci.mem64 = (struct pci_window){.base = MEM64, .size = 0x1000000000};
	add_card(&card, SLOT);
	add_card(&other, SLOT + 1);
}

static void teardown(void)
{
	pci_remove(&card.pci);
	pci_remove(&other.pci);
	cr_expect_eq(mmio.nranges, 1, "only ECAM is left");
	cr_expect_eq(pio.nranges, 2);
	pci_fini(&pci);
	bus_fini(&pio);
	bus_fini(&mmio);
}

TestSuite(pci_bar, .init = setup, .fini = teardown_once);

static void config_out(unsigned slot, unsigned off, uint32_t v, unsigned len)
{
	cr_assert(bus_write(&mmio, LAYOUT_ECAM + (slot << 15 | off), &v, len));
}

static uint32_t config_in(unsigned slot, unsigned off)
{
	uint32_t v = 0;

	cr_assert(bus_read(&mmio, LAYOUT_ECAM + (slot << 15 | off), &v, 4));
	return v;
}

static void decode(unsigned slot, uint16_t bits)
{
	config_out(slot, PCI_COMMAND, bits, 2);
}

static bool answers(uint64_t addr)
{
	uint32_t v = 0;

	return bus_read(&mmio, addr, &v, 4) && v == 0x64646464;
}

static bool answers_io(uint64_t port)
{
	uint32_t v = 0;

	return bus_read(&pio, port, &v, 1) && v == 0x10;
}

static uint64_t mem_register(void)
{
	return (config_in(SLOT, PCI_BASE_ADDRESS_0) & ~0xfull) | (uint64_t)config_in(SLOT, PCI_BASE_ADDRESS_1)
									 << 32;
}

static void mem_set(uint64_t addr)
{
	config_out(SLOT, PCI_BASE_ADDRESS_0, (uint32_t)addr, 4);
	config_out(SLOT, PCI_BASE_ADDRESS_1, (uint32_t)(addr >> 32), 4);
}

WholeTest(pci_bar, sizes)
{
	for (unsigned bits = 0; bits < 2; bits++) { /* with decode off and on */
		uint64_t was = mem_register();

		decode(SLOT, bits ? PCI_COMMAND_MEMORY | PCI_COMMAND_IO : 0);
		config_out(SLOT, PCI_BASE_ADDRESS_0, ~0u, 4);
		config_out(SLOT, PCI_BASE_ADDRESS_1, ~0u, 4);
		config_out(SLOT, PCI_BASE_ADDRESS_2, ~0u, 4);
		cr_expect_eq(config_in(SLOT, PCI_BASE_ADDRESS_0),
			     ~(MEM_SIZE - 1) | PCI_BASE_ADDRESS_MEM_TYPE_64);
		cr_expect_eq(config_in(SLOT, PCI_BASE_ADDRESS_1), ~0u);
		cr_expect_eq(config_in(SLOT, PCI_BASE_ADDRESS_2), ~(IO_SIZE - 1) | PCI_BASE_ADDRESS_SPACE_IO);
		for (unsigned i = 3; i < 6; i++) {
			config_out(SLOT, PCI_BASE_ADDRESS_0 + 4 * i, ~0u, 4);
			cr_expect_eq(config_in(SLOT, PCI_BASE_ADDRESS_0 + 4 * i), 0);
		}
		mem_set(was);
		config_out(SLOT, PCI_BASE_ADDRESS_2, (uint32_t)card.io.home, 4);
		cr_expect_eq(mem_register(), was);
	}
	cr_expect_eq(card.mem.addr, card.mem.home);
	cr_expect(answers(card.mem.home));
}

WholeTest(pci_bar, addresses_are_given_and_apart)
{
	cr_expect_eq(mem_register(), card.mem.home);
	cr_expect_geq(card.mem.home, LAYOUT_PCI_MMIO32);
	cr_expect_eq(card.mem.home % MEM_SIZE, 0);
	cr_expect_neq(card.mem.home, other.mem.home);
	cr_expect_geq(card.io.home, 0x1000);
	cr_expect_neq(card.io.home, other.io.home);
}

WholeTest(pci_bar, nothing_is_mapped_before_decode)
{
	cr_expect(!answers(card.mem.home));
	cr_expect(!answers_io(card.io.home));
}

WholeTest(pci_bar, decode_bits_map_and_unmap)
{
	decode(SLOT, PCI_COMMAND_MEMORY);
	cr_expect(answers(card.mem.home));
	cr_expect(answers(card.mem.home + MEM_SIZE - 4));
	cr_expect(!answers_io(card.io.home));
	decode(SLOT, PCI_COMMAND_IO);
	cr_expect(!answers(card.mem.home));
	cr_expect(answers_io(card.io.home));
	decode(SLOT, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
	cr_expect(answers(card.mem.home));
	decode(SLOT, 0);
	cr_expect(!answers(card.mem.home));
	cr_expect(!answers_io(card.io.home));
}

WholeTest(pci_bar, decode_on_twice)
{
	decode(SLOT, PCI_COMMAND_MEMORY);
	decode(SLOT, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cr_expect(answers(card.mem.home));
	cr_expect_eq(card.moves, 1);
}

WholeTest(pci_bar, moved_while_off)
{
	mem_set(ELSE);
	decode(SLOT, PCI_COMMAND_MEMORY);
	cr_expect(answers(ELSE));
	cr_expect_eq(card.moved_to, ELSE);
}

WholeTest(pci_bar, moved_while_on)
{
	uint64_t home = card.mem.home;

	decode(SLOT, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	mem_set(ELSE);
	cr_expect(answers(ELSE));
	cr_expect(!answers(home));
	cr_expect_eq(card.moved_to, ELSE);
	config_out(SLOT, PCI_BASE_ADDRESS_2, 0x8000, 4);
	cr_expect(answers_io(0x8000));
}

WholeTest(pci_bar, moved_above_4_gib_in_two_halves)
{
	decode(SLOT, PCI_COMMAND_MEMORY);
	mem_set(MEM64 + MEM_SIZE);
	cr_expect(answers(MEM64 + MEM_SIZE));
	cr_expect_eq(mem_register(), MEM64 + MEM_SIZE);
	mem_set(ELSE);
	cr_expect(answers(ELSE));
}

WholeTest(pci_bar, moved_a_byte_at_a_time)
{
	decode(SLOT, PCI_COMMAND_MEMORY);
	for (unsigned i = 0; i < 4; i++)
		config_out(SLOT, PCI_BASE_ADDRESS_0 + i, (uint32_t)ELSE >> 8 * i, 1);
	cr_expect(answers(ELSE));
}

/* RAM, the ECAM, the interrupt controllers, past what a CPU can address, across a window's end. */
static const uint64_t bad[] = {
	0,
	0x100000,
	LAYOUT_PCI_MMIO32 - MEM_SIZE,
	LAYOUT_PCI_MMIO32 + LAYOUT_PCI_MMIO32_SIZE,
	LAYOUT_ECAM,
	LAYOUT_IOAPIC & ~(MEM_SIZE - 1ull),
	LAYOUT_LAPIC,
	0xffffc000,
	0x100000000,
	MEM64 - MEM_SIZE,
	MEM64 + 0x1000000000,
	~0ull << 14,
};

WholeTest(pci_bar, a_bad_move_leaves_it_where_it_was)
{
	uint64_t home = card.mem.home;

	decode(SLOT, PCI_COMMAND_MEMORY);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		config_out(SLOT, PCI_BASE_ADDRESS_1, (uint32_t)(bad[i] >> 32), 4);
		config_out(SLOT, PCI_BASE_ADDRESS_0, (uint32_t)bad[i], 4);
		cr_expect(!answers(bad[i]), "case %zu", i);
		cr_expect(card.mem.addr == PCI_BAR_NOWHERE || answers(card.mem.addr), "case %zu", i);
		mem_set(home);
		cr_expect(answers(home), "case %zu", i);
	}
}

WholeTest(pci_bar, onto_another_bar)
{
	uint64_t home = card.mem.home;

	decode(SLOT, PCI_COMMAND_MEMORY);
	decode(SLOT + 1, PCI_COMMAND_MEMORY);
	config_out(SLOT, PCI_BASE_ADDRESS_0, (uint32_t)other.mem.home, 4);
	other.reads = card.reads = 0;
	cr_expect(answers(other.mem.home));
	cr_expect_eq(other.reads, 1);
	cr_expect(answers(home));
	cr_expect_eq(card.reads, 1);
	cr_expect_eq(card.moves, 1);
}

WholeTest(pci_bar, ports_of_others_stay_theirs)
{
	static const uint32_t ports[] = {0, 0x20, 0x3f8 & ~0x3fu, 0xcc0, 0xfc0, 0x10000, 0xffffffc0};
	uint64_t home = card.io.home;

	decode(SLOT, PCI_COMMAND_IO);
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		config_out(SLOT, PCI_BASE_ADDRESS_2, ports[i], 4);
		cr_expect(!answers_io(ports[i]), "%#x", ports[i]);
		cr_expect(answers_io(home));
	}
	config_out(SLOT, PCI_BASE_ADDRESS_2, 0xffc0, 4);
	cr_expect(answers_io(0xffc0));
}

WholeTest(pci_bar, decode_over_a_bad_address_restores_the_last_good_one)
{
	uint64_t home = card.mem.home;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		decode(SLOT, 0);
		mem_set(bad[i]);
		cr_expect_eq(mem_register(), bad[i]);
		decode(SLOT, PCI_COMMAND_MEMORY);
		cr_expect(answers(home), "case %zu", i);
		cr_expect_eq(mem_register(), home, "case %zu", i);
	}
}

WholeTest(pci_bar, a_move_that_the_owner_refuses_is_undone)
{
	uint64_t home = card.mem.home;

	decode(SLOT, PCI_COMMAND_MEMORY);
	card.refuse = -ENOSPC;
	mem_set(ELSE);
	cr_expect(!answers(ELSE));
	cr_expect(answers(home));
	cr_expect_eq(card.moved_to, home);
	card.refuse = 0;
	mem_set(ELSE);
	cr_expect(answers(ELSE));
}

WholeTest(pci_bar, with_the_table_of_ranges_full)
{
	static struct bus_range filler[BUS_MAX_RANGES];
	uint64_t home = card.mem.home;

	decode(SLOT, PCI_COMMAND_MEMORY);
	for (unsigned i = 0; mmio.nranges < BUS_MAX_RANGES; i++) {
		filler[i] = (struct bus_range){.name = "filler", .base = 0x10 * i, .size = 0x10};
		cr_assert_eq(bus_map(&mmio, &filler[i]), 0);
	}
	mem_set(ELSE);
	cr_expect(answers(home));
	for (unsigned i = 0; filler[i].size; i++)
		bus_unmap(&mmio, &filler[i]);
}

WholeTest(pci_bar, registers_of_wrong_shape_are_refused)
{
	static struct card c;
	static const struct pci_bar_ops ops = {.read = bar_read, .write = bar_write};

	cr_assert_eq(pci_add(&pci, &c.pci, 9), 0);
	c.mem = (struct pci_bar){.size = 0x3000, .ops = &ops};
	cr_expect_eq(pci_bar_add(&c.pci, 0, &c.mem), -EINVAL);
	c.mem.size = 8;
	cr_expect_eq(pci_bar_add(&c.pci, 0, &c.mem), -EINVAL);
	c.mem.size = 0x1000;
	cr_expect_eq(pci_bar_add(&c.pci, 5, &c.mem), -EINVAL, "it needs two");
	cr_expect_eq(pci_bar_add(&c.pci, 4, &c.mem), 0);
	c.io = (struct pci_bar){.size = 512, .io = true, .ops = &ops};
	cr_expect_eq(pci_bar_add(&c.pci, 0, &c.io), -EINVAL);
	c.io.size = 4;
	cr_expect_eq(pci_bar_add(&c.pci, 5, &c.io), -EBUSY);
	c.mem.size = LAYOUT_PCI_MMIO32_SIZE;
	cr_expect_eq(pci_bar_add(&c.pci, 0, &c.mem), -ENOSPC, "the window is not empty any more");
	pci_remove(&c.pci);
}

/* --- while others look --- */

static _Atomic bool over;

static void *look(void *arg)
{
	uint32_t v;

	while (!over) {
		bus_read(&mmio, *(uint64_t *)arg, &v, 4);
		bus_write(&mmio, ELSE, &v, 4);
	}
	return NULL;
}

static void *move(void *arg)
{
	uint64_t home = *(uint64_t *)arg;

	for (unsigned i = 0; i < 300; i++) {
		mem_set(i % 2 ? home : ELSE);
		if (i % 16 == 0)
			decode(SLOT, 0);
		decode(SLOT, PCI_COMMAND_MEMORY);
	}
	return NULL;
}

WholeTest(pci_bar, moves_of_several_threads)
{
	uint64_t home = card.mem.home;
	pthread_t t[3];

	decode(SLOT, PCI_COMMAND_MEMORY);
	cr_assert_eq(pthread_create(&t[0], NULL, look, &home), 0);
	cr_assert_eq(pthread_create(&t[1], NULL, move, &home), 0);
	cr_assert_eq(pthread_create(&t[2], NULL, move, &home), 0);
	pthread_join(t[1], NULL);
	pthread_join(t[2], NULL);
	over = true;
	pthread_join(t[0], NULL);
	mem_set(home);
	cr_expect(answers(home));
}
