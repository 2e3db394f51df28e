/* virtio over PCI: the register file, and the life of a device. */
#include <criterion/criterion.h>
#include <string.h>

#include "devices/virtio_pci/internal.h"
#include "lib/cleanup.h"
#include "tests/unit/virtio_pci_rig.h"

TestSuite(virtio_pci, .init = setup, .fini = teardown_once, .timeout = 20);
TestSuite(virtio_pci_modes, .init = setup_unmade, .fini = teardown_once, .timeout = 20);

/* --- common configuration --- */

WholeTest(virtio_pci, device_features)
{
	for (uint32_t sel = 0; sel < 5; sel++) {
		put(VIRTIO_PCI_COMMON_DFSELECT, sel == 4 ? 0xffffffff : sel, 4);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_DF, 4), sel < 2 ? (uint32_t)(FAKE_FEATURES >> 32 * sel) : 0);
		put(VIRTIO_PCI_COMMON_DF, 0xffffffff, 4);
	}
}

WholeTest(virtio_pci, driver_features)
{
	for (uint32_t sel = 0; sel < 3; sel++) {
		put(VIRTIO_PCI_COMMON_GFSELECT, sel, 4);
		put(VIRTIO_PCI_COMMON_GF, 0x100 + sel, 4);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_GFSELECT, 4), sel);
		cr_expect_eq(get(VIRTIO_PCI_COMMON_GF, 4), sel < 2 ? 0x100 + sel : 0);
	}
	cr_expect_eq(core.dev.accepted, 0x10100000100);
}

WholeTest(virtio_pci, config_generation)
{
	core.dev.config_generation = 0x1fe;
	cr_expect_eq(get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 0xfe);
	core.dev.config_generation++;
	cr_expect_eq(get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 0xff);
}

WholeTest(virtio_pci, queue_fields)
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

WholeTest(virtio_pci, addresses_in_halves_and_whole)
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

WholeTest(virtio_pci, queues_that_do_not_exist)
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
WholeTest(virtio_pci, common_configuration_read_at_every_width_and_offset)
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

WholeTest(virtio_pci, writes_of_another_width_change_nothing)
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

WholeTest(virtio_pci, read_only_fields)
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
WholeTest(virtio_pci, the_whole_bar_at_every_width_and_offset)
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

WholeTest(virtio_pci, device_configuration_at_every_width_and_offset)
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

WholeTest(virtio_pci, status_and_reset)
{
	put(VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	cr_expect_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	cr_expect_eq(core.resets, 1);
}

WholeTest(virtio_pci, reset_leaves_nothing_behind)
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

WholeTest(virtio_pci, queue_reset)
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

WholeTest(virtio_pci, queue_reset_takes_the_feature_and_a_one)
{
	run();
	put(VIRTIO_PCI_COMMON_Q_RESET, 0, 2);
	put(VIRTIO_PCI_COMMON_Q_RESET, 2, 2);
	core.dev.accepted = 0;
	put(VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
	cr_expect_eq(core.queue_resets[0] + core.queue_resets[1], 0);
}

WholeTest(virtio_pci, no_driver_ok_without_bus_master)
{
	cfg_put(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	run();
	cr_expect_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), READY);
	cr_expect_eq(core.bound, 0);
	cfg_put(PCI_COMMAND, DECODE, 2);
	put(VIRTIO_PCI_COMMON_STATUS, RUNNING, 1);
	cr_expect_eq(core.bound, 3);
}

WholeTest(virtio_pci, bus_master_taken_away_resets)
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
WholeTest(virtio_pci, moves_and_resets_of_several_threads)
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

WholeTest(virtio_pci, queue_size_shows_zero_or_a_power_of_two)
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

WholeTest(virtio_pci, isr_is_set_before_the_configuration_interrupt_is_sent)
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
WholeTest(virtio_pci_modes, notify_capabilities_are_large_enough)
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
