/* virtio over PCI: configuration space, the register file, doorbells and interrupts, over a core that only
 * takes notes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio_pci/internal.h"
#include "devices/virtio_pci/virtio_pci.h"
#include "lib/cleanup.h"
#include "tests/fake/fake_core.h"
#include "tests/fake/fake_vmevent.h"
#include "vmm/layout_x86.h"

#define SLOT     6u
#define LINE     (LAYOUT_GSI_PCI_INTX + SLOT % 4)
#define ELSE     (LAYOUT_PCI_MMIO32 + 0x1000000)
#define NVECTORS (FAKE_QUEUES + 1)
#define DECODE   (PCI_COMMAND_MEMORY | PCI_COMMAND_IO | PCI_COMMAND_MASTER)
#define READY    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define RUNNING  (READY | VIRTIO_CONFIG_S_DRIVER_OK)

static struct bus pio, mmio;
static struct pci pci;
static struct fake_vmevent vm;
static struct evloop *loop;
static struct virtio_pci_config config;
static uint64_t bar; /* where the memory BAR is */

/* --- a driver --- */

static uint64_t ecam(unsigned off)
{
	return LAYOUT_ECAM + (SLOT << 15 | off);
}

static uint32_t cfg_get(unsigned off, unsigned len)
{
	uint32_t v = 0;

	cr_assert(bus_read(&mmio, ecam(off), &v, len));
	return v;
}

static void cfg_put(unsigned off, uint32_t v, unsigned len)
{
	cr_assert(bus_write(&mmio, ecam(off), &v, len));
}

/* The nth capability of a kind (cfg_type for virtio's own, else 0), or 0. */
static unsigned find_cap(uint8_t id, uint8_t type, unsigned nth)
{
	unsigned at = cfg_get(PCI_CAPABILITY_LIST, 1);

	for (unsigned steps = 0; at && steps < 48; steps++) {
		if (cfg_get(at, 1) == id && (!type || cfg_get(at + VIRTIO_PCI_CAP_CFG_TYPE, 1) == type) &&
		    !nth--)
			return at;
		at = cfg_get(at + 1, 1);
	}
	return 0;
}

static unsigned vcap(uint8_t type)
{
	unsigned at = find_cap(PCI_CAP_ID_VNDR, type, 0);

	cr_assert(at, "no capability of type %u", type);
	return at;
}

static uint64_t region(uint8_t type)
{
	return bar + cfg_get(vcap(type) + VIRTIO_PCI_CAP_OFFSET, 4);
}

static uint32_t get(unsigned off, unsigned len)
{
	uint32_t v = ~0u;

	cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + off, &v, len));
	return len == 4 ? v : v & ((1u << len * 8) - 1);
}

static void put(unsigned off, uint32_t v, unsigned len)
{
	cr_assert(bus_write(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + off, &v, len));
}

static uint8_t isr(void)
{
	uint8_t v;

	cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_ISR_CFG), &v, 1));
	return v;
}

static uint64_t doorbell(unsigned q)
{
	unsigned mult = cfg_get(vcap(VIRTIO_PCI_CAP_NOTIFY_CFG) + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);

	put(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
	return region(VIRTIO_PCI_CAP_NOTIFY_CFG) + get(VIRTIO_PCI_COMMON_Q_NOFF, 2) * mult;
}

static void queue_vector(unsigned q, uint16_t v)
{
	put(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
	put(VIRTIO_PCI_COMMON_Q_MSIX, v, 2);
}

static void run(void)
{
	put(VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	put(VIRTIO_PCI_COMMON_GF, (uint32_t)(FAKE_FEATURES >> 32), 4);
	put(VIRTIO_PCI_COMMON_STATUS, READY, 1);
	for (unsigned q = 0; q < 2; q++) {
		put(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
		put(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	}
	put(VIRTIO_PCI_COMMON_STATUS, RUNNING, 1);
}

static void msix(uint16_t flags)
{
	cfg_put(find_cap(PCI_CAP_ID_MSIX, 0, 0) + PCI_MSIX_FLAGS, flags, 2);
}

static uint64_t vector_entry(unsigned v)
{
	return bar + (cfg_get(find_cap(PCI_CAP_ID_MSIX, 0, 0) + PCI_MSIX_TABLE, 4) & ~7u) + v * 16;
}

static void vector(unsigned v, uint32_t data, uint32_t masked)
{
	const uint32_t entry[4] = {0xfee00000, 0, data, masked};

	for (unsigned i = 0; i < 4; i++)
		cr_assert(bus_write(&mmio, vector_entry(v) + 4 * i, &entry[i], 4));
}

static uint64_t pba(void)
{
	uint64_t v = ~0ull;

	cr_assert(bus_read(&mmio, bar + (cfg_get(find_cap(PCI_CAP_ID_MSIX, 0, 0) + PCI_MSIX_PBA, 4) & ~7u), &v,
			   8));
	return v;
}

static void msix_all(void)
{
	msix(PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < NVECTORS; i++)
		vector(i, 0x40 + i, 0);
}

/* --- the rest of the machine --- */

static void make(void)
{
	struct err e = {0};

	cr_assert(fake_virtio_pci_new(&config, &e), "%s", e.text);
	cr_assert_eq(fake_virtio_pci_slot(core.dev.transport), SLOT);
	bar = cfg_get(PCI_BASE_ADDRESS_0, 4) & ~0xfu;
	cfg_put(PCI_COMMAND, DECODE, 2);
}

static void setup_unmade(void)
{
	bus_init(&pio);
	bus_init(&mmio);
	cr_assert_eq(pci_init(&pci, &pio, &mmio, NULL, NULL), 0);
	fake_vmevent_init(&vm);
	loop = evloop_new();
	fake_core_init(VIRTIO_ID_BLOCK, loop);
	config = (struct virtio_pci_config){.dev = &core.dev, .pci = &pci, .slot = SLOT, .vmevent = &vm.event};
}

static void setup(void)
{
	setup_unmade();
	make();
}

static void teardown(void)
{
	fake_core_fini();
	cr_expect_eq(mmio.nranges, 1, "the ECAM");
	cr_expect_eq(pio.nranges, 2);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
	cr_expect_eq(fake_vmevent_msis(&vm), 0);
	for (unsigned i = 0; i < FAKE_GSIS; i++)
		cr_expect(!vm.level[i]);
	cr_expect_eq(vm.misuse, 0);
	fake_vmevent_fini(&vm);
	pci_fini(&pci);
	evloop_free(loop);
	bus_fini(&mmio);
	bus_fini(&pio);
}

TestSuite(virtio_pci, .init = setup, .fini = teardown, .timeout = 20);
TestSuite(virtio_pci_modes, .init = setup_unmade, .fini = teardown, .timeout = 20);

static void quit(struct ev_timer *t)
{
	(void)t;
	evloop_quit(loop, 0);
}

static void turn(void)
{
	struct ev_timer t;

	cr_assert_eq(ev_timer_init(&t, loop, quit), 0);
	ev_timer_arm(&t, 5);
	evloop_run(loop);
	ev_timer_fini(&t);
}

static void call(unsigned q)
{
	const uint64_t one = 1;

	cr_assert_eq(write(core.dev.queue[q].call_fd, &one, 8), 8);
}

static void config_change(void)
{
	core.dev.transport->ops->config_irq(core.dev.transport);
}

static bool kicked(unsigned q)
{
	uint64_t n;

	return read(core.dev.queue[q].kick_fd, &n, 8) == 8;
}

/* How often fd's interrupt reached the guest as the message with this data. */
static unsigned got(uint32_t data)
{
	unsigned n = 0;

	fake_vmevent_pump(&vm);
	for (unsigned i = FAKE_FIRST_MSI; i < FAKE_GSIS; i++)
		if (vm.msi_set[i] && vm.msi[i].data == data) {
			n += vm.injected[i];
			vm.injected[i] = 0;
		}
	return n;
}

/* --- configuration space --- */

Test(virtio_pci, ids)
{
	cr_expect_eq(cfg_get(PCI_VENDOR_ID, 2), 0x1af4);
	cr_expect_eq(cfg_get(PCI_DEVICE_ID, 2), 0x1040 + VIRTIO_ID_BLOCK);
	cr_expect_geq(cfg_get(PCI_REVISION_ID, 1), 1);
	cr_expect_eq(cfg_get(PCI_SUBSYSTEM_VENDOR_ID, 2), 0x1af4);
	cr_expect_geq(cfg_get(PCI_SUBSYSTEM_ID, 2), 0x40);
	cr_expect_eq(cfg_get(PCI_CLASS_DEVICE, 2), 0x0100);
	cr_expect_eq(cfg_get(PCI_HEADER_TYPE, 1), 0);
}

Test(virtio_pci_modes, classes)
{
	static const struct {
		uint32_t id;
		uint16_t class;
	} expected[] = {{VIRTIO_ID_NET, 0x0200},     {VIRTIO_ID_SCSI, 0x0100}, {VIRTIO_ID_FS, 0x0180},
			{VIRTIO_ID_CONSOLE, 0x0780}, {VIRTIO_ID_RNG, 0x00ff},  {VIRTIO_ID_GPU, 0x0380}};

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		core.ops.id = expected[i].id;
		make();
		cr_expect_eq(cfg_get(PCI_CLASS_DEVICE, 2), expected[i].class);
		cr_expect_eq(cfg_get(PCI_DEVICE_ID, 2), 0x1040 + expected[i].id);
		core.dev.transport->ops->destroy(core.dev.transport);
		core.dev.transport = NULL;
	}
}

Test(virtio_pci, every_structure_has_its_capability)
{
	static const uint8_t types[] = {VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG,
					VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_PCI_CAP_DEVICE_CFG,
					VIRTIO_PCI_CAP_PCI_CFG};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		unsigned at = vcap(types[i]), len = cfg_get(at + VIRTIO_PCI_CAP_LEN, 1);
		uint32_t off = cfg_get(at + VIRTIO_PCI_CAP_OFFSET, 4);
		uint32_t size = cfg_get(at + VIRTIO_PCI_CAP_LENGTH, 4);
		unsigned extra =
			types[i] == VIRTIO_PCI_CAP_NOTIFY_CFG || types[i] == VIRTIO_PCI_CAP_PCI_CFG ? 4 : 0;

		cr_expect_eq(len, sizeof(struct virtio_pci_cap) + extra);
		cr_expect_eq(at % 4, 0);
		if (types[i] == VIRTIO_PCI_CAP_PCI_CFG)
			continue;
		cr_expect_eq(off % 4, 0);
		cr_expect_gt(size, 0);
		cr_expect_leq(off + size, 0x8000);
	}
	cr_expect_eq(cfg_get(vcap(VIRTIO_PCI_CAP_DEVICE_CFG) + VIRTIO_PCI_CAP_LENGTH, 4), FAKE_CONFIG_LEN);
	cr_expect_eq(find_cap(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_SHARED_MEMORY_CFG, 0), 0);
}

Test(virtio_pci, notify_capability)
{
	unsigned at = vcap(VIRTIO_PCI_CAP_NOTIFY_CFG);
	uint32_t mult = cfg_get(at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);

	cr_expect_eq(mult, 4);
	cr_expect_eq(cfg_get(at + VIRTIO_PCI_CAP_OFFSET, 4) % 4, 0);
	cr_expect_geq(cfg_get(at + VIRTIO_PCI_CAP_LENGTH, 4), (VIRTIO_MAX_QUEUES - 1) * mult + 4);
	for (unsigned q = 0; q < FAKE_QUEUES; q++)
		cr_expect_eq(doorbell(q), region(VIRTIO_PCI_CAP_NOTIFY_CFG) + 4 * q);
}

Test(virtio_pci, msix_table_size)
{
	unsigned at = find_cap(PCI_CAP_ID_MSIX, 0, 0);

	cr_assert(at);
	cr_expect_eq(cfg_get(at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE, NVECTORS - 1);
	cr_expect_geq(NVECTORS, 2);
}

Test(virtio_pci, configuration_space_survives_all_writes)
{
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off + len <= 4096; off++) {
			uint64_t ones = ~0ull;

			cr_assert(bus_write(&mmio, ecam(off), &ones, len));
			cr_assert_eq(cfg_get(PCI_VENDOR_ID, 4), 0x10421af4);
			cr_assert_eq(cfg_get(PCI_CLASS_REVISION, 4), 0x01000001);
			cr_assert_eq(cfg_get(PCI_HEADER_TYPE, 1), 0);
			cr_assert_eq(cfg_get(0x100, 4), 0);
		}
	cr_assert_eq(cfg_get(PCI_CAPABILITY_LIST, 1), 0x40);
	vcap(VIRTIO_PCI_CAP_PCI_CFG);
}

/* --- common configuration --- */

Test(virtio_pci, device_features)
{
	for (uint32_t sel = 0; sel < 5; sel++) {
		put(VIRTIO_PCI_COMMON_DFSELECT, sel == 4 ? 0xffffffff : sel, 4);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_DF, 4), sel < 2 ? (uint32_t)(FAKE_FEATURES >> 32 * sel) : 0);
		put(VIRTIO_PCI_COMMON_DF, 0xffffffff, 4);
	}
}

Test(virtio_pci, driver_features)
{
	for (uint32_t sel = 0; sel < 3; sel++) {
		put(VIRTIO_PCI_COMMON_GFSELECT, sel, 4);
		put(VIRTIO_PCI_COMMON_GF, 0x100 + sel, 4);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_GFSELECT, 4), sel);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_GF, 4), sel < 2 ? 0x100 + sel : 0);
	}
	cr_expect_eq(core.dev.accepted, 0x10100000100);
}

Test(virtio_pci, config_generation)
{
	core.dev.config_generation = 0x1fe;
	cr_expect_eq(get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 0xfe);
	core.dev.config_generation++;
	cr_expect_eq(get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 0xff);
}

Test(virtio_pci, queue_fields)
{
	cr_expect_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), FAKE_QUEUES);
	put(VIRTIO_PCI_COMMON_Q_SELECT, 3, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), FAKE_QUEUE_MAX);
	put(VIRTIO_PCI_COMMON_Q_SIZE, 128, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 128);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_NOFF, 2), 3);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_NDATA, 2), 0);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	put(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	put(VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1, "a driver cannot take it back");
}

Test(virtio_pci, addresses_in_halves_and_whole)
{
	static const unsigned off[] = {VIRTIO_PCI_COMMON_Q_DESCLO, VIRTIO_PCI_COMMON_Q_AVAILLO,
				       VIRTIO_PCI_COMMON_Q_USEDLO};
	const struct virtio_queue *vq = &core.dev.queue[1];
	const gpa_t *addr[] = {&vq->desc, &vq->avail, &vq->used};

	put(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	for (size_t i = 0; i < ARRAY_SIZE(off); i++) {
		uint64_t whole = 0x123456789abcdef0 + i, back;

		put(off[i] + 4, 0xaabbccdd, 4);
		cr_expect_eq(*addr[i], 0xaabbccdd00000000);
		put(off[i], 0x11223344, 4);
		cr_expect_eq(*addr[i], 0xaabbccdd11223344);
		cr_expect_eq(get(off[i] + 4, 4), 0xaabbccdd);
		cr_assert(bus_write(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + off[i], &whole, 8));
		cr_expect_eq(*addr[i], whole);
		cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + off[i], &back, 8));
		cr_expect_eq(back, whole);
	}
}

Test(virtio_pci, queues_that_do_not_exist)
{
	static const uint16_t sel[] = {FAKE_QUEUES, 63, 64, 65, 0x7fff, 0xffff};

	for (size_t i = 0; i < ARRAY_SIZE(sel); i++) {
		put(VIRTIO_PCI_COMMON_Q_SELECT, sel[i], 2);
		for (unsigned off = VIRTIO_PCI_COMMON_Q_SIZE; off < 64; off += 2)
			put(off, 1, 2);
		for (unsigned off = VIRTIO_PCI_COMMON_Q_DESCLO; off < 64; off += 4)
			put(off, 1, 4);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_SELECT, 2), sel[i]);
		for (unsigned off = VIRTIO_PCI_COMMON_Q_SIZE; off < 64; off += 2)
			cr_expect_eq(get(off, 2), off == VIRTIO_PCI_COMMON_Q_MSIX ? 0xffff : 0, "%u", off);
	}
	for (unsigned q = 0; q < FAKE_QUEUES; q++)
		cr_expect_eq(core.dev.queue[q].size, FAKE_QUEUE_MAX);
}

/* Whatever the width, a read shows the same bytes. */
Test(virtio_pci, common_configuration_read_at_every_width_and_offset)
{
	uint8_t whole[80], v[8];

	for (unsigned running = 0; running < 2; running++) {
		if (running)
			run();
		for (unsigned i = 0; i < sizeof(whole); i++)
			cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + i, &whole[i], 1));
		for (unsigned len = 1; len <= 8; len++)
			for (unsigned off = 0; off + len <= sizeof(whole); off++) {
				cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + off, v, len));
				cr_assert_arr_eq(v, whole + off, len, "%u/%u", off, len);
			}
	}
}

/* Where a field begins, and how long it is. */
static unsigned field_len(unsigned off)
{
	if (off == VIRTIO_PCI_COMMON_STATUS)
		return 1;
	if (off >= 16 && off < 32 && off % 2 == 0 && off != 20)
		return 2;
	if (off == 56 || off == 58)
		return 2;
	if ((off < 16 || (off >= 32 && off < 56)) && off % 4 == 0)
		return 4;
	return 0;
}

Test(virtio_pci, writes_of_another_width_change_nothing)
{
	uint8_t before[64], after[64], ones[8];

	memset(ones, 0xff, sizeof(ones));
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off < 64; off++) {
			bool whole = len == 8 && off >= 32 && off < 56 && off % 8 == 0;

			if (len == field_len(off) || whole)
				continue;
			for (unsigned i = 0; i < 64; i++)
				cr_assert(
					bus_read(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + i, &before[i], 1));
			cr_assert(bus_write(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + off, ones, len));
			for (unsigned i = 0; i < 64; i++)
				cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + i, &after[i], 1));
			cr_assert_arr_eq(before, after, 64, "%u/%u", off, len);
		}
	cr_expect_eq(core.status_writes, 0);
}

Test(virtio_pci, read_only_fields)
{
	static const unsigned off[] = {VIRTIO_PCI_COMMON_DF, VIRTIO_PCI_COMMON_NUMQ,
				       VIRTIO_PCI_COMMON_CFGGENERATION, VIRTIO_PCI_COMMON_Q_NOFF,
				       VIRTIO_PCI_COMMON_Q_NDATA};

	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		for (unsigned len = 1; len <= 4; len *= 2) {
			uint32_t was = get(off[i], len);

			put(off[i], ~was, len);
			cr_expect_eq(get(off[i], len), was);
		}
}

/* Every byte of the BAR, every width, four kinds of value, before the driver and while it runs. */
Test(virtio_pci, the_whole_bar_at_every_width_and_offset)
{
	for (unsigned running = 0; running < 2; running++)
		for (unsigned len = 1; len <= 8; len++)
			for (unsigned off = 0; off + len <= 0x8000; off += (off & 0xfff) == 0x600 ? 0x9f0 : 1) {
				uint64_t v = off % 3 ? ~0ull : off % 2;

				if (running && core.dev.status != RUNNING) {
					put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
					run();
				}
				cr_assert(bus_write(&mmio, bar + off, &v, len));
				cr_assert(bus_read(&mmio, bar + off, &v, len));
			}
	cr_expect_eq(cfg_get(PCI_VENDOR_ID, 2), 0x1af4);
}

Test(virtio_pci, device_configuration_at_every_width_and_offset)
{
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off < 64; off++) {
			uint8_t v[8], want[8];

			for (unsigned i = 0; i < len; i++)
				want[i] = off + i < FAKE_CONFIG_LEN ? core.config[off + i] : 0;
			memset(v, 0xee, sizeof(v));
			cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_DEVICE_CFG) + off, v, len));
			cr_assert_arr_eq(v, want, len, "%u/%u", off, len);
			for (unsigned i = 0; i < len; i++)
				v[i] = (uint8_t)(off * 5 + len + i);
			cr_assert(bus_write(&mmio, region(VIRTIO_PCI_CAP_DEVICE_CFG) + off, v, len));
			for (unsigned i = 0; i < len && off + i < FAKE_CONFIG_LEN; i++)
				cr_assert_eq(core.config[off + i], v[i]);
		}
}

/* --- life --- */

Test(virtio_pci, status_and_reset)
{
	put(VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	cr_expect_eq(core.resets, 1);
}

Test(virtio_pci, reset_leaves_nothing_behind)
{
	run();
	config_change();
	put(VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	put(VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	put(VIRTIO_PCI_COMMON_MSIX, 1, 2);
	for (unsigned q = 0; q < FAKE_QUEUES; q++)
		queue_vector(q, 2);
	put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_DFSELECT, 4), 0);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_GFSELECT, 4), 0);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_SELECT, 2), 0);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
	for (unsigned q = 0; q < FAKE_QUEUES; q++) {
		put(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	}
	cr_expect(!vm.level[LINE]);
	cr_expect_eq(isr(), 0);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
}

Test(virtio_pci, queue_reset)
{
	run();
	put(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	put(VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
	cr_expect_eq(core.queue_resets[1], 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 1);
	put(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
}

Test(virtio_pci, queue_reset_takes_the_feature_and_a_one)
{
	run();
	put(VIRTIO_PCI_COMMON_Q_RESET, 0, 2);
	put(VIRTIO_PCI_COMMON_Q_RESET, 2, 2);
	core.dev.accepted = 0;
	put(VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
	cr_expect_eq(core.queue_resets[0] + core.queue_resets[1], 0);
}

Test(virtio_pci, no_driver_ok_without_bus_master)
{
	cfg_put(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	run();
	cr_expect_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), READY);
	cr_expect_eq(core.bound, 0);
	cfg_put(PCI_COMMAND, DECODE, 2);
	put(VIRTIO_PCI_COMMON_STATUS, RUNNING, 1);
	cr_expect_eq(core.bound, 3);
}

Test(virtio_pci, bus_master_taken_away_resets)
{
	run();
	cfg_put(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	cr_expect_eq(core.resets, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	cfg_put(PCI_COMMAND, DECODE, 2);
	run();
	cfg_put(PCI_COMMAND, DECODE & ~PCI_COMMAND_IO, 2);
	cr_expect_eq(core.resets, 1);
}

/* --- doorbells --- */

Test(virtio_pci, a_doorbell_per_queue)
{
	run();
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
	for (unsigned len = 1; len <= 8; len *= 2) {
		cr_expect(fake_vmevent_ring(&vm, false, doorbell(1), len, 0xffff), "any width, any value");
		cr_expect(kicked(1));
		cr_expect(!kicked(0));
	}
	cr_expect(!fake_vmevent_ring(&vm, false, doorbell(2), 2, 2), "not enabled");
}

Test(virtio_pci, doorbells_that_came_as_exits)
{
	run();
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off < 0x800; off++) {
			unsigned before =
				core.notified[0] + core.notified[1] + core.notified[2] + core.notified[3];
			unsigned after, q = off / 4;
			uint64_t v = ~0ull;

			cr_assert(bus_write(&mmio, region(VIRTIO_PCI_CAP_NOTIFY_CFG) + off, &v, len));
			after = core.notified[0] + core.notified[1] + core.notified[2] + core.notified[3];
			cr_assert_eq(after - before, off % 4 == 0 && q < FAKE_QUEUES, "%u/%u", off, len);
		}
	cr_expect_eq(core.notified[3], 8);
}

Test(virtio_pci, doorbells_follow_the_bar)
{
	uint64_t old;

	run();
	old = doorbell(0);
	cfg_put(PCI_BASE_ADDRESS_0, (uint32_t)ELSE, 4);
	bar = ELSE;
	cr_expect(!fake_vmevent_ring(&vm, false, old, 2, 0));
	cr_expect(fake_vmevent_ring(&vm, false, doorbell(0), 2, 0));
	cr_expect(fake_vmevent_ring(&vm, false, doorbell(1), 2, 1));
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
}

Test(virtio_pci, doorbells_stay_with_a_bar_that_cannot_move)
{
	run();
	cfg_put(PCI_BASE_ADDRESS_0, 0x100000, 4);
	cr_expect(fake_vmevent_ring(&vm, false, doorbell(0), 2, 0));
	vm.doorbells_left = 1; /* the second one fails */
	cfg_put(PCI_BASE_ADDRESS_0, (uint32_t)ELSE, 4);
	cr_expect(fake_vmevent_ring(&vm, false, doorbell(0), 2, 0));
	cr_expect(fake_vmevent_ring(&vm, false, doorbell(1), 2, 1));
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), RUNNING, "the registers are still here");
}

Test(virtio_pci, doorbells_follow_decode)
{
	run();
	cfg_put(PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	cr_expect_eq(core.bound, 3);
	cfg_put(PCI_COMMAND, DECODE, 2);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
	cr_expect(fake_vmevent_ring(&vm, false, doorbell(1), 2, 1));
}

Test(virtio_pci, bound_while_decode_is_off)
{
	run();
	cfg_put(PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	fake_unbind(0);
	fake_bind(0);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	cfg_put(PCI_COMMAND, DECODE, 2);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
}

Test(virtio_pci, binding_is_all_or_nothing)
{
	msix_all();
	queue_vector(0, 1);
	vm.attaches_left = 0;
	run();
	cr_expect_eq(core.bind_rc, -ENOSPC);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 1, "queue 1 has no vector");
	put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	vm.doorbells_left = 0;
	run();
	cr_expect_eq(core.bound, 0);
}

Test(virtio_pci_modes, notify_by_exits)
{
	config.notify_exit = true;
	config.doorbell_pio = true;
	make();
	run();
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	cfg_put(PCI_BASE_ADDRESS_0, (uint32_t)ELSE, 4);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
}

Test(virtio_pci_modes, doorbells_in_ports)
{
	unsigned first, second;
	uint64_t port;
	uint16_t v = 1;

	config.doorbell_pio = true;
	make();
	first = find_cap(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_NOTIFY_CFG, 0);
	second = find_cap(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_NOTIFY_CFG, 1);
	cr_assert(first && second);
	cr_expect_eq(cfg_get(first + VIRTIO_PCI_CAP_BAR, 1), 2, "the better one first");
	cr_expect_eq(cfg_get(second + VIRTIO_PCI_CAP_BAR, 1), 0);
	run();
	cr_expect_eq(fake_vmevent_doorbells(&vm), 4);
	port = cfg_get(PCI_BASE_ADDRESS_2, 4) & ~3u;
	cr_expect(fake_vmevent_ring(&vm, true, port + 4, 2, 1));
	cr_expect(kicked(1));
	cr_expect(bus_write(&pio, port + 4, &v, 2));
	cr_expect_eq(core.notified[1], 1);
	cfg_put(PCI_BASE_ADDRESS_2, 0x9000, 4);
	cr_expect(!fake_vmevent_ring(&vm, true, port + 4, 2, 1));
	cr_expect(fake_vmevent_ring(&vm, true, 0x9004, 2, 1));
	cfg_put(PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
}

/* --- INTx --- */

Test(virtio_pci, intx_for_a_queue)
{
	run();
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
	call(0);
	turn();
	cr_expect(vm.level[LINE]);
	cr_expect(cfg_get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	cr_expect_eq(isr(), 1);
	cr_expect(!vm.level[LINE]);
	cr_expect(!(cfg_get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT));
	cr_expect_eq(isr(), 0);
}

Test(virtio_pci, intx_for_the_configuration)
{
	run();
	config_change();
	cr_expect(vm.level[LINE]);
	call(1);
	turn();
	cr_expect_eq(vm.injected[LINE], 1);
	cr_expect_eq(isr(), 1 | VIRTIO_PCI_ISR_CONFIG);
	cr_expect(!vm.level[LINE]);
}

Test(virtio_pci, isr_is_taken_by_its_own_byte_only)
{
	uint32_t v = 0;

	run();
	config_change();
	for (unsigned off = 1; off < 64; off++)
		for (unsigned len = 1; len <= 8; len++)
			cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_ISR_CFG) + off, (uint8_t[8]){0}, len));
	cr_expect(vm.level[LINE]);
	cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_ISR_CFG), &v, 4));
	cr_expect_eq(v, VIRTIO_PCI_ISR_CONFIG);
	cr_expect(!vm.level[LINE]);
}

Test(virtio_pci, intx_disabled)
{
	run();
	cfg_put(PCI_COMMAND, DECODE | PCI_COMMAND_INTX_DISABLE, 2);
	config_change();
	cr_expect(!vm.level[LINE]);
	cr_expect(cfg_get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	cfg_put(PCI_COMMAND, DECODE, 2);
	cr_expect(vm.level[LINE]);
}

/* --- MSI-X --- */

Test(virtio_pci, vectors_read_back)
{
	cr_expect_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
	for (uint16_t v = 0; v < NVECTORS; v++) {
		put(VIRTIO_PCI_COMMON_MSIX, v, 2);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), v);
		for (unsigned q = 0; q < FAKE_QUEUES; q++) {
			queue_vector(q, v);
			cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), v);
		}
	}
	queue_vector(0, 0xffff);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
	put(VIRTIO_PCI_COMMON_MSIX, 0xffff, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
}

Test(virtio_pci, vectors_outside_the_table_read_back_as_none)
{
	static const uint16_t bad[] = {NVECTORS, NVECTORS + 1, 0x7ff, 0x800, 0xfffe};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put(VIRTIO_PCI_COMMON_MSIX, 1, 2);
		put(VIRTIO_PCI_COMMON_MSIX, bad[i], 2);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
		queue_vector(1, 1);
		queue_vector(1, bad[i]);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
	}
}

Test(virtio_pci, vectors_without_a_route_read_back_as_none)
{
	vm.msis_left = 1;
	queue_vector(0, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
	queue_vector(1, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
	queue_vector(1, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
}

Test(virtio_pci, msix_for_a_queue)
{
	msix_all();
	queue_vector(0, 1);
	queue_vector(1, 2);
	run();
	cr_expect_eq(fake_vmevent_irqfds(&vm), 2);
	call(1);
	cr_expect_eq(got(0x42), 1);
	cr_expect_eq(got(0x41), 0);
	cr_expect_eq(isr(), 0);
	cr_expect(!vm.level[LINE]);
}

Test(virtio_pci, msix_for_the_configuration)
{
	msix_all();
	put(VIRTIO_PCI_COMMON_MSIX, 0, 2);
	run();
	config_change();
	cr_expect_eq(vm.sent, 1);
	cr_expect_eq(vm.last_sent.data, 0x40);
	cr_expect(!vm.level[LINE]);
	cr_expect_eq(isr(), VIRTIO_PCI_ISR_CONFIG);
}

Test(virtio_pci, no_vector_no_interrupt)
{
	msix_all();
	run();
	call(0);
	config_change();
	turn();
	fake_vmevent_pump(&vm);
	cr_expect_eq(vm.sent, 0);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
	cr_expect(!vm.level[LINE]);
}

Test(virtio_pci, masked_vectors_keep_what_comes)
{
	msix_all();
	queue_vector(0, 3);
	run();
	vector(3, 0x43, 1);
	call(0);
	cr_expect_eq(got(0x43), 0);
	cr_expect_eq(pba(), 1 << 3);
	vector(3, 0x43, 0);
	cr_expect_eq(got(0x43), 1);
	cr_expect_eq(pba(), 0);
}

Test(virtio_pci, queues_share_a_vector)
{
	msix_all();
	queue_vector(0, 4);
	queue_vector(1, 4);
	put(VIRTIO_PCI_COMMON_MSIX, 4, 2);
	run();
	cr_expect_eq(fake_vmevent_msis(&vm), 1);
	call(0);
	cr_expect_eq(got(0x44), 1);
	call(1);
	cr_expect_eq(got(0x44), 1);
	config_change();
	cr_expect_eq(vm.last_sent.data, 0x44);
}

Test(virtio_pci, a_vector_changed_while_running)
{
	msix_all();
	queue_vector(0, 1);
	run();
	queue_vector(0, 2);
	call(0);
	cr_expect_eq(got(0x41), 0);
	cr_expect_eq(got(0x42), 1);
	queue_vector(0, 0xffff);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
	call(0);
	queue_vector(0, 3);
	cr_expect_eq(got(0x43), 1, "what came meanwhile");
}

Test(virtio_pci, msix_switched_on_and_off_while_running)
{
	queue_vector(0, 1);
	queue_vector(1, 1);
	run();
	msix_all();
	call(0);
	cr_expect_eq(got(0x41), 1);
	msix(0);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
	call(0);
	turn();
	cr_expect(vm.level[LINE]);
	msix(PCI_MSIX_FLAGS_ENABLE);
	cr_expect(!vm.level[LINE]);
	call(1);
	cr_expect_eq(got(0x41), 1);
	turn();
	cr_expect(!vm.level[LINE], "the loop does not look any more");
}

Test(virtio_pci_modes, interrupts_by_calls)
{
	config.irq_ioctl = true;
	make();
	msix_all();
	queue_vector(0, 1);
	run();
	cr_expect_eq(fake_vmevent_irqfds(&vm) + fake_vmevent_msis(&vm), 0);
	call(0);
	turn();
	cr_expect_eq(vm.sent, 1);
	cr_expect_eq(vm.last_sent.data, 0x41);
	vector(1, 0x51, 1);
	call(0);
	turn();
	cr_expect_eq(vm.sent, 1);
	cr_expect_eq(pba(), 1 << 1);
	vector(1, 0x51, 0);
	cr_expect_eq(vm.sent, 2);
	cr_expect_eq(vm.last_sent.data, 0x51);
	msix(0);
	call(0);
	turn();
	cr_expect_eq(vm.sent, 2);
	cr_expect_eq(isr(), 1);
}

/* --- the window in configuration space --- */

static void window(uint8_t b, uint32_t off, uint32_t len)
{
	unsigned at = vcap(VIRTIO_PCI_CAP_PCI_CFG);

	cfg_put(at + VIRTIO_PCI_CAP_BAR, b, 1);
	cfg_put(at + VIRTIO_PCI_CAP_OFFSET, off, 4);
	cfg_put(at + VIRTIO_PCI_CAP_LENGTH, len, 4);
}

static unsigned window_data(void)
{
	return vcap(VIRTIO_PCI_CAP_PCI_CFG) + (unsigned)sizeof(struct virtio_pci_cap);
}

Test(virtio_pci, window_reads_and_writes)
{
	window(0, VIRTIO_PCI_COMMON_STATUS, 1);
	cfg_put(window_data(), VIRTIO_CONFIG_S_ACKNOWLEDGE, 4);
	cr_expect_eq(core.dev.status, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	cr_expect_eq(cfg_get(window_data(), 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	window(0, VIRTIO_PCI_COMMON_Q_SELECT, 2);
	cfg_put(window_data(), 3, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_SELECT, 2), 3);
	window(0, VIRTIO_PCI_COMMON_DF, 4);
	cr_expect_eq(cfg_get(window_data(), 4), (uint32_t)FAKE_FEATURES);
	window(0, cfg_get(vcap(VIRTIO_PCI_CAP_DEVICE_CFG) + VIRTIO_PCI_CAP_OFFSET, 4) + 2, 2);
	cr_expect_eq(cfg_get(window_data(), 2), 0xa3a2);
	window(0, cfg_get(vcap(VIRTIO_PCI_CAP_NOTIFY_CFG) + VIRTIO_PCI_CAP_OFFSET, 4) + 4, 2);
	cfg_put(window_data(), 1, 2);
	cr_expect_eq(core.notified[1], 1);
}

Test(virtio_pci, window_works_with_decode_off)
{
	cfg_put(PCI_COMMAND, 0, 2);
	window(0, VIRTIO_PCI_COMMON_STATUS, 1);
	cfg_put(window_data(), VIRTIO_CONFIG_S_ACKNOWLEDGE, 1);
	cr_expect_eq(core.dev.status, VIRTIO_CONFIG_S_ACKNOWLEDGE);
}

Test(virtio_pci, window_obeys_the_bus_master_bit)
{
	run();
	cfg_put(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	window(0, VIRTIO_PCI_COMMON_STATUS, 1);
	cfg_put(window_data(), RUNNING, 1);
	cr_expect_eq(core.dev.status, READY);
}

Test(virtio_pci, window_clears_isr_once)
{
	run();
	config_change();
	window(0, cfg_get(vcap(VIRTIO_PCI_CAP_ISR_CFG) + VIRTIO_PCI_CAP_OFFSET, 4), 1);
	cfg_get(vcap(VIRTIO_PCI_CAP_PCI_CFG), 4);
	cr_expect(vm.level[LINE], "only its data is a read");
	cr_expect_eq(cfg_get(window_data(), 1), VIRTIO_PCI_ISR_CONFIG);
	cr_expect(!vm.level[LINE]);
	cr_expect_eq(cfg_get(window_data(), 1), 0);
}

Test(virtio_pci, window_out_of_bounds_does_nothing)
{
	static const struct {
		uint8_t bar;
		uint32_t off, len;
	} bad[] = {
		{0, VIRTIO_PCI_COMMON_STATUS, 0},
		{0, VIRTIO_PCI_COMMON_STATUS, 3},
		{0, VIRTIO_PCI_COMMON_STATUS, 8},
		{0, VIRTIO_PCI_COMMON_STATUS, ~0u},
		{0, 0x15, 2},
		{0, 0x16, 4},
		{0, 0x3fff, 2},
		{0, 0x4000, 4},
		{0, 0x4000, 1},
		{0, 0x8000, 4},
		{0, 0xfffffffc, 4},
		{0, 0xffffffff, 1},
		{1, 0, 4},
		{2, 0, 4},
		{5, 0, 4},
		{6, 0, 4},
		{255, 0, 4},
	};
	uint32_t entry = 0x12345678;

	run();
	cr_assert(bus_write(&mmio, vector_entry(0) + 8, &entry, 4));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		window(bad[i].bar, bad[i].off, bad[i].len);
		cfg_put(window_data(), 0, 4);
		cfg_get(window_data(), 4);
		cr_expect_eq(core.resets, 0, "case %zu", i);
		cr_expect_eq(core.dev.status, RUNNING, "case %zu", i);
	}
	window(0, 0x4008, 4);
	cfg_put(window_data(), 0, 4);
	cr_assert(bus_read(&mmio, vector_entry(0) + 8, &entry, 4));
	cr_expect_eq(entry, 0x12345678, "MSI-X is not behind the window");
}

/* --- places --- */

Test(virtio_pci_modes, slots)
{
	struct err e = {0};

	config.slot = 32;
	cr_expect_null(fake_virtio_pci_new(&config, &e));
	cr_expect_eq(e.code, -EINVAL);
	pci.mem32.size = 0x4000;
	config.slot = 3;
	cr_expect_null(fake_virtio_pci_new(&config, &e));
	cr_expect_eq(e.code, -ENOSPC);
	cr_expect_null(pci.device[3]);
	pci.mem32.size = LAYOUT_PCI_MMIO32_SIZE;
	config.slot = 0;
	cr_assert(fake_virtio_pci_new(&config, &e));
	cr_expect_eq(fake_virtio_pci_slot(core.dev.transport), 1);
}

/* --- several threads --- */

static _Atomic bool over;

static void *loop_thread(void *arg)
{
	evloop_run(loop);
	return arg;
}

static void *mover(void *arg)
{
	uint32_t v[2] = {(uint32_t)ELSE, *(uint32_t *)arg};

	for (unsigned i = 0; i < 200; i++) {
		uint16_t flags = i % 3 ? PCI_MSIX_FLAGS_ENABLE : 0;

		cfg_put(PCI_BASE_ADDRESS_0, v[i % 2], 4);
		cfg_put(0x40 + PCI_MSIX_FLAGS, flags, 2);
	}
	over = true;
	return NULL;
}

static void *resetter(void *arg)
{
	uint64_t at[2] = {ELSE, *(uint32_t *)arg};
	static const uint8_t ready = READY, running = RUNNING, zero;
	static const uint16_t one = 1;

	for (unsigned i = 0; !over; i++) {
		uint64_t b = at[i % 2], v;

		bus_write(&mmio, b + VIRTIO_PCI_COMMON_STATUS, &ready, 1);
		bus_write(&mmio, b + VIRTIO_PCI_COMMON_Q_MSIX, &one, 2);
		bus_write(&mmio, b + VIRTIO_PCI_COMMON_Q_ENABLE, &one, 2);
		bus_write(&mmio, b + VIRTIO_PCI_COMMON_STATUS, &running, 1);
		config_change();
		call(0);
		bus_read(&mmio, b + 0x1000, &v, 1);
		bus_write(&mmio, b + VIRTIO_PCI_COMMON_STATUS, &zero, 1);
	}
	return NULL;
}

/* Nobody waits for anybody in a circle: BARs move, MSI-X toggles and the device resets at once. */
Test(virtio_pci, moves_and_resets_of_several_threads)
{
	uint32_t home = (uint32_t)bar;
	pthread_t l, t[2];

	cr_assert_eq(find_cap(PCI_CAP_ID_MSIX, 0, 0), 0x40);
	pthread_create(&l, NULL, loop_thread, NULL);
	pthread_create(&t[0], NULL, mover, &home);
	pthread_create(&t[1], NULL, resetter, &home);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	evloop_quit(loop, 0);
	pthread_join(l, NULL);
	cfg_put(PCI_BASE_ADDRESS_0, home, 4);
	put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
}

/* --- docs/conformance.md --- */

Test(virtio_pci, queue_size_shows_zero_or_a_power_of_two)
{
	for (unsigned size = 0; size < 0x10000; size += size < 300 ? 1 : 977) {
		put(VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
		cr_assert_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), size & (size - 1) ? 0 : size, "%u", size);
	}
	core.dev.accepted = 1ull << VIRTIO_F_RING_PACKED;
	put(VIRTIO_PCI_COMMON_Q_SIZE, 100, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 100, "a packed ring may have it");
	cr_expect_eq(core.dev.queue[0].size, 100);
}

static uint8_t isr_when_sent;

static int note_isr(struct vmevent *v, const struct msi_msg *msg)
{
	(void)v;
	(void)msg;
	/* Looked at from inside: a read of the register would take the locks of who sends. */
	isr_when_sent = container_of(core.dev.transport, struct virtio_pci, transport)->isr;
	return 0;
}

Test(virtio_pci, isr_is_set_before_the_configuration_interrupt_is_sent)
{
	const struct vmevent_ops *ops = vm.event.ops;
	struct vmevent_ops noting = *ops;

	msix_all();
	put(VIRTIO_PCI_COMMON_MSIX, 0, 2);
	run();
	noting.msi_send = note_isr;
	vm.event.ops = &noting;
	isr_when_sent = 0;
	config_change();
	vm.event.ops = ops;
	cr_expect_eq(isr_when_sent, VIRTIO_PCI_ISR_CONFIG);
}

/* Both notification structures hold every doorbell there can be. */
Test(virtio_pci_modes, notify_capabilities_are_large_enough)
{
	config.doorbell_pio = true;
	make();
	for (unsigned n = 0; n < 2; n++) {
		unsigned at = find_cap(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_NOTIFY_CFG, n);
		uint32_t mult = cfg_get(at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);

		cr_assert(at);
		cr_expect_eq(mult, 4);
		cr_expect_eq(cfg_get(at + VIRTIO_PCI_CAP_OFFSET, 4) % 4, 0);
		cr_expect_geq(cfg_get(at + VIRTIO_PCI_CAP_LENGTH, 4), (VIRTIO_MAX_QUEUES - 1) * mult + 4);
	}
}
