/* virtio over PCI: configuration space, the window in it, and where BARs lie. */
#include <criterion/criterion.h>
#include <errno.h>

#include "lib/cleanup.h"
#include "tests/unit/virtio_pci_rig.h"

TestSuite(virtio_pci_config, .init = setup, .fini = teardown_once, .timeout = 20);
TestSuite(virtio_pci_config_modes, .init = setup_unmade, .fini = teardown_once, .timeout = 20);

/* --- configuration space --- */

WholeTest(virtio_pci_config, ids)
{
	cr_expect_eq(cfg_get(PCI_VENDOR_ID, 2), 0x1af4);
	cr_expect_eq(cfg_get(PCI_DEVICE_ID, 2), 0x1040 + VIRTIO_ID_BLOCK);
	cr_expect_geq(cfg_get(PCI_REVISION_ID, 1), 1);
	cr_expect_eq(cfg_get(PCI_SUBSYSTEM_VENDOR_ID, 2), 0x1af4);
	cr_expect_geq(cfg_get(PCI_SUBSYSTEM_ID, 2), 0x40);
	cr_expect_eq(cfg_get(PCI_CLASS_DEVICE, 2), 0x0100);
	cr_expect_eq(cfg_get(PCI_HEADER_TYPE, 1), 0);
}

WholeTest(virtio_pci_config_modes, classes)
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

WholeTest(virtio_pci_config, every_structure_has_its_capability)
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

WholeTest(virtio_pci_config, notify_capability)
{
	unsigned at = vcap(VIRTIO_PCI_CAP_NOTIFY_CFG);
	uint32_t mult = cfg_get(at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);

	cr_expect_eq(mult, 4);
	cr_expect_eq(cfg_get(at + VIRTIO_PCI_CAP_OFFSET, 4) % 4, 0);
	cr_expect_geq(cfg_get(at + VIRTIO_PCI_CAP_LENGTH, 4), (VIRTIO_MAX_QUEUES - 1) * mult + 4);
	for (unsigned q = 0; q < FAKE_QUEUES; q++)
		cr_expect_eq(doorbell(q), region(VIRTIO_PCI_CAP_NOTIFY_CFG) + 4 * q);
}

WholeTest(virtio_pci_config, msix_table_size)
{
	unsigned at = find_cap(PCI_CAP_ID_MSIX, 0, 0);

	cr_assert(at);
	cr_expect_eq(cfg_get(at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE, NVECTORS - 1);
	cr_expect_geq(NVECTORS, 2);
}

WholeTest(virtio_pci_config, configuration_space_survives_all_writes)
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

WholeTest(virtio_pci_config, window_reads_and_writes)
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

WholeTest(virtio_pci_config, window_works_with_decode_off)
{
	cfg_put(PCI_COMMAND, 0, 2);
	window(0, VIRTIO_PCI_COMMON_STATUS, 1);
	cfg_put(window_data(), VIRTIO_CONFIG_S_ACKNOWLEDGE, 1);
	cr_expect_eq(core.dev.status, VIRTIO_CONFIG_S_ACKNOWLEDGE);
}

WholeTest(virtio_pci_config, window_obeys_the_bus_master_bit)
{
	run();
	cfg_put(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	window(0, VIRTIO_PCI_COMMON_STATUS, 1);
	cfg_put(window_data(), RUNNING, 1);
	cr_expect_eq(core.dev.status, READY);
}

WholeTest(virtio_pci_config, window_clears_isr_once)
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

WholeTest(virtio_pci_config, window_out_of_bounds_does_nothing)
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

WholeTest(virtio_pci_config_modes, slots)
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
