/* virtio over PCI: doorbells, and interrupts by pin and by message. */
#include <criterion/criterion.h>
#include <errno.h>

#include "lib/cleanup.h"
#include "tests/unit/virtio_pci_rig.h"

TestSuite(virtio_pci_irq, .init = setup, .fini = teardown_once, .timeout = 20);
TestSuite(virtio_pci_irq_modes, .init = setup_unmade, .fini = teardown_once, .timeout = 20);

/* --- doorbells --- */

WholeTest(virtio_pci_irq, a_doorbell_per_queue)
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

WholeTest(virtio_pci_irq, doorbells_that_came_as_exits)
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

WholeTest(virtio_pci_irq, doorbells_follow_the_bar)
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

WholeTest(virtio_pci_irq, doorbells_stay_with_a_bar_that_cannot_move)
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

WholeTest(virtio_pci_irq, doorbells_follow_decode)
{
	run();
	cfg_put(PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	cr_expect_eq(core.bound, 3);
	cfg_put(PCI_COMMAND, DECODE, 2);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
	cr_expect(fake_vmevent_ring(&vm, false, doorbell(1), 2, 1));
}

WholeTest(virtio_pci_irq, bound_while_decode_is_off)
{
	run();
	cfg_put(PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	fake_unbind(0);
	fake_bind(0);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	cfg_put(PCI_COMMAND, DECODE, 2);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
}

WholeTest(virtio_pci_irq, binding_is_all_or_nothing)
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

WholeTest(virtio_pci_irq_modes, notify_by_exits)
{
	config.notify_exit = true;
	config.doorbell_pio = true;
	make();
	run();
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	cfg_put(PCI_BASE_ADDRESS_0, (uint32_t)ELSE, 4);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
}

WholeTest(virtio_pci_irq_modes, doorbells_in_ports)
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

WholeTest(virtio_pci_irq, intx_for_a_queue)
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

WholeTest(virtio_pci_irq, intx_for_the_configuration)
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

WholeTest(virtio_pci_irq, isr_is_taken_by_its_own_byte_only)
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

WholeTest(virtio_pci_irq, intx_disabled)
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

WholeTest(virtio_pci_irq, vectors_read_back)
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

WholeTest(virtio_pci_irq, vectors_outside_the_table_read_back_as_none)
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

WholeTest(virtio_pci_irq, vectors_without_a_route_read_back_as_none)
{
	vm.msis_left = 1;
	queue_vector(0, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
	queue_vector(1, 2);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
	queue_vector(1, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
}

WholeTest(virtio_pci_irq, msix_for_a_queue)
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

WholeTest(virtio_pci_irq, msix_for_the_configuration)
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

WholeTest(virtio_pci_irq, no_vector_no_interrupt)
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

WholeTest(virtio_pci_irq, masked_vectors_keep_what_comes)
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

WholeTest(virtio_pci_irq, queues_share_a_vector)
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

WholeTest(virtio_pci_irq, a_vector_changed_while_running)
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

WholeTest(virtio_pci_irq, msix_switched_on_and_off_while_running)
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

WholeTest(virtio_pci_irq_modes, interrupts_by_calls)
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
