/* virtio-mmio: its page of registers, doorbells and its one interrupt, over a core that only takes notes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio_mmio/virtio_mmio.h"
#include "lib/cleanup.h"
#include "tests/fake/fake_core.h"
#include "tests/fake/fake_vmevent.h"
#include "tests/unit/teardown.h"

#define INDEX       3u
#define BASE        (LAYOUT_VIRTIO_MMIO + INDEX * 0x1000)
#define GSI         (LAYOUT_GSI_VIRTIO_MMIO + INDEX)
#define QUEUE_RESET 0x0c0
#define RUNNING                                                                                                \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                  \
	 VIRTIO_CONFIG_S_DRIVER_OK)

static struct bus mmio;
static struct fake_vmevent vm;
static struct evloop *loop;
static struct virtio_mmio_config config;

static void make(void)
{
	struct err e = {0};

	cr_assert(fake_virtio_mmio_new(&config, &e), "%s", e.text);
}

static void setup_unmade(void)
{
	bus_init(&mmio);
	fake_vmevent_init(&vm);
	loop = evloop_new();
	fake_core_init(VIRTIO_ID_NET, loop);
	config = (struct virtio_mmio_config){.dev = &core.dev,
					     .mmio = &mmio,
					     .index = INDEX,
					     .vmevent = &vm.event};
}

static void setup(void)
{
	setup_unmade();
	make();
}

static void teardown(void)
{
	fake_core_fini();
	cr_expect_eq(mmio.nranges, 0);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
	cr_expect_eq(vm.misuse, 0);
	fake_vmevent_fini(&vm);
	evloop_free(loop);
	bus_fini(&mmio);
}

TestSuite(virtio_mmio, .init = setup, .fini = teardown_once);
TestSuite(virtio_mmio_modes, .init = setup_unmade, .fini = teardown_once);

static uint32_t get(unsigned off)
{
	uint32_t v = ~0u;

	cr_assert(bus_read(&mmio, BASE + off, &v, 4));
	return v;
}

static void put(unsigned off, uint32_t v)
{
	cr_assert(bus_write(&mmio, BASE + off, &v, 4));
}

static void enable_queue(unsigned q)
{
	put(VIRTIO_MMIO_QUEUE_SEL, q);
	put(VIRTIO_MMIO_QUEUE_READY, 1);
}

static void run(void)
{
	put(VIRTIO_MMIO_STATUS, RUNNING & ~VIRTIO_CONFIG_S_DRIVER_OK);
	put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(FAKE_FEATURES >> 32));
	enable_queue(0);
	enable_queue(1);
	put(VIRTIO_MMIO_STATUS, RUNNING);
}

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void quit(struct ev_timer *t)
{
	(void)t;
	evloop_quit(loop, 0);
}

/* Lets the loop see what there is. */
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

/* --- registers --- */

WholeTest(virtio_mmio, magic_value)
{
	cr_expect_eq(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
}

WholeTest(virtio_mmio, version)
{
	cr_expect_eq(get(VIRTIO_MMIO_VERSION), 2);
}

WholeTest(virtio_mmio, device_and_vendor)
{
	cr_expect_eq(get(VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_NET);
	cr_expect_neq(get(VIRTIO_MMIO_VENDOR_ID), 0);
}

WholeTest(virtio_mmio, features)
{
	for (unsigned sel = 0; sel < 4; sel++) {
		put(VIRTIO_MMIO_DEVICE_FEATURES_SEL, sel);
		cr_expect_eq(get(VIRTIO_MMIO_DEVICE_FEATURES),
			     sel < 2 ? (uint32_t)(FAKE_FEATURES >> 32 * sel) : 0);
	}
	put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put(VIRTIO_MMIO_DRIVER_FEATURES, 0x123);
	cr_expect_eq(core.dev.accepted, 0x12300000000);
}

WholeTest(virtio_mmio, queue_registers)
{
	put(VIRTIO_MMIO_QUEUE_SEL, 2);
	cr_expect_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), FAKE_QUEUE_MAX);
	put(VIRTIO_MMIO_QUEUE_NUM, 64);
	put(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x11111111);
	put(VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x1);
	put(VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x22222222);
	put(VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0x2);
	put(VIRTIO_MMIO_QUEUE_USED_HIGH, 0x3);
	put(VIRTIO_MMIO_QUEUE_USED_LOW, 0x33333333);
	cr_expect_eq(core.dev.queue[2].size, 64);
	cr_expect_eq(core.dev.queue[2].desc, 0x111111111);
	cr_expect_eq(core.dev.queue[2].avail, 0x222222222);
	cr_expect_eq(core.dev.queue[2].used, 0x333333333);
	cr_expect_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
	put(VIRTIO_MMIO_QUEUE_READY, 1);
	cr_expect_eq(get(VIRTIO_MMIO_QUEUE_READY), 1);
	put(VIRTIO_MMIO_QUEUE_READY, 0);
	cr_expect_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
}

WholeTest(virtio_mmio, a_queue_size_of_more_than_16_bits_is_not_cut)
{
	put(VIRTIO_MMIO_QUEUE_NUM, 0x10040);
	cr_expect_eq(core.dev.queue[0].size, FAKE_QUEUE_MAX);
}

WholeTest(virtio_mmio, queues_that_do_not_exist)
{
	static const uint32_t sel[] = {FAKE_QUEUES, 63, 64, 0xffff, 0x10000, 0xffffffff};

	for (size_t i = 0; i < ARRAY_SIZE(sel); i++) {
		put(VIRTIO_MMIO_QUEUE_SEL, sel[i]);
		cr_expect_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
		cr_expect_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
		for (unsigned off = 0x30; off < 0xd0; off += 4)
			if (off != VIRTIO_MMIO_QUEUE_SEL && off != VIRTIO_MMIO_STATUS &&
			    off != VIRTIO_MMIO_QUEUE_NOTIFY)
				put(off, 1);
		put(VIRTIO_MMIO_QUEUE_NOTIFY, sel[i]);
	}
	for (unsigned q = 0; q < FAKE_QUEUES; q++) {
		cr_expect_eq(core.notified[q], 0);
		cr_expect_eq(core.dev.queue[q].size, FAKE_QUEUE_MAX);
		cr_expect(!core.dev.queue[q].ready);
	}
}

WholeTest(virtio_mmio, config_generation)
{
	core.dev.config_generation = 0x12345;
	cr_expect_eq(get(VIRTIO_MMIO_CONFIG_GENERATION), 0x12345);
}

WholeTest(virtio_mmio, shared_memory_regions_are_none)
{
	put(VIRTIO_MMIO_SHM_SEL, 0);
	for (unsigned off = VIRTIO_MMIO_SHM_LEN_LOW; off <= VIRTIO_MMIO_SHM_BASE_HIGH; off += 4)
		cr_expect_eq(get(off), 0xffffffff);
}

WholeTest(virtio_mmio, config_space_at_every_width_and_offset)
{
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off < 64; off++) {
			uint8_t v[8], want[8];

			for (unsigned i = 0; i < len; i++)
				want[i] = off + i < FAKE_CONFIG_LEN ? (uint8_t)(0xa0 + off + i) : 0;
			memset(v, 0xee, sizeof(v));
			cr_assert(bus_read(&mmio, BASE + VIRTIO_MMIO_CONFIG + off, v, len));
			cr_assert_arr_eq(v, want, len, "%u/%u", off, len);
		}
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off < 64; off++) {
			uint8_t v[8];

			for (unsigned i = 0; i < len; i++)
				v[i] = (uint8_t)(off * 3 + len + i);
			cr_assert(bus_write(&mmio, BASE + VIRTIO_MMIO_CONFIG + off, v, len));
			for (unsigned i = 0; i < len && off + i < FAKE_CONFIG_LEN; i++)
				cr_assert_eq(core.config[off + i], v[i]);
		}
}

/* Every one but the config space: 32 bits, aligned, or nothing. */
WholeTest(virtio_mmio, registers_at_every_width_and_offset)
{
	for (unsigned running = 0; running < 2; running++) {
		if (running)
			run();
		for (unsigned len = 1; len <= 8; len++)
			for (unsigned off = 0; off < 0x100; off++) {
				unsigned writes = core.status_writes;
				uint8_t v[8], zero[8] = {0};

				if (len == 4 && off % 4 == 0)
					continue;
				memset(v, 0xee, sizeof(v));
				cr_assert(bus_read(&mmio, BASE + off, v, len));
				cr_assert_arr_eq(v, zero, len, "%#x/%u", off, len);
				memset(v, 0xff, sizeof(v));
				cr_assert(bus_write(&mmio, BASE + off, v, len));
				cr_assert_eq(core.status_writes, writes, "%#x/%u", off, len);
			}
	}
	cr_expect_eq(get(VIRTIO_MMIO_STATUS), RUNNING);
	for (unsigned q = 0; q < FAKE_QUEUES; q++)
		cr_expect_eq(core.notified[q], 0);
	cr_expect_eq(core.strays, 0);
}

WholeTest(virtio_mmio, every_register_written_with_anything)
{
	static const uint32_t values[] = {0, 1, 2, 0xff, 0xffff, 0x10000, 0x80000000, 0xffffffff};

	for (unsigned running = 0; running < 2; running++)
		for (size_t i = 0; i < ARRAY_SIZE(values); i++)
			for (unsigned off = 0; off < 0x1000; off += 4) {
				if (running && core.dev.status != RUNNING) {
					put(VIRTIO_MMIO_STATUS, 0);
					run();
				}
				put(off, values[i]);
				get(off);
			}
	put(VIRTIO_MMIO_STATUS, 0);
}

WholeTest(virtio_mmio, write_only_and_unknown_registers_read_zero)
{
	static const unsigned known[] = {0x00, 0x04, 0x08, 0x0c, 0x10, 0x34, 0xb0, 0xb4, 0xb8, 0xbc};

	for (unsigned off = 0; off < 0x100; off += 4) {
		bool skip = false;

		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			skip = skip || known[i] == off;
		if (!skip)
			cr_expect_eq(get(off), 0, "%#x", off);
	}
}

/* --- life --- */

WholeTest(virtio_mmio, status)
{
	put(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	cr_expect_eq(get(VIRTIO_MMIO_STATUS), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	put(VIRTIO_MMIO_STATUS, 0);
	cr_expect_eq(get(VIRTIO_MMIO_STATUS), 0);
	cr_expect_eq(core.resets, 1);
}

WholeTest(virtio_mmio, reset_leaves_nothing_behind)
{
	run();
	put(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put(VIRTIO_MMIO_QUEUE_SEL, 77);
	core.dev.transport->ops->config_irq(core.dev.transport);
	put(VIRTIO_MMIO_STATUS, 0);
	cr_expect_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	cr_expect_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)FAKE_FEATURES);
	cr_expect_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), FAKE_QUEUE_MAX, "queue 0 is selected");
	put(VIRTIO_MMIO_DRIVER_FEATURES, 5);
	cr_expect_eq(core.dev.accepted, 5);
	for (unsigned q = 0; q < FAKE_QUEUES; q++) {
		put(VIRTIO_MMIO_QUEUE_SEL, q);
		cr_expect_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
		cr_expect_eq(get(QUEUE_RESET), 0);
	}
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
}

WholeTest(virtio_mmio, queue_reset)
{
	run();
	put(VIRTIO_MMIO_QUEUE_SEL, 1);
	put(QUEUE_RESET, 1);
	cr_expect_eq(core.queue_resets[1], 1);
	cr_expect_eq(get(QUEUE_RESET), 0);
	cr_expect_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 1);
	put(VIRTIO_MMIO_QUEUE_READY, 1);
	cr_expect_eq(get(QUEUE_RESET), 0);
	cr_expect_eq(get(VIRTIO_MMIO_QUEUE_READY), 1);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
}

WholeTest(virtio_mmio, queue_reset_takes_the_feature_and_a_one)
{
	run();
	put(QUEUE_RESET, 0);
	put(QUEUE_RESET, 2);
	core.dev.accepted = 0;
	put(QUEUE_RESET, 1);
	cr_expect_eq(core.queue_resets[0] + core.queue_resets[1], 0);
}

/* --- interrupt status --- */

WholeTest(virtio_mmio, interrupt_status_from_driver_ok_to_reset)
{
	put(VIRTIO_MMIO_STATUS, RUNNING & ~VIRTIO_CONFIG_S_DRIVER_OK);
	cr_expect_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	run();
	cr_expect_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	put(VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
	cr_expect_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	put(VIRTIO_MMIO_STATUS, 0);
	cr_expect_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

WholeTest(virtio_mmio, configuration_change_until_acknowledged)
{
	run();
	core.dev.transport->ops->config_irq(core.dev.transport);
	cr_expect_eq(vm.injected[GSI], 1);
	cr_expect(!vm.level[GSI], "an edge");
	cr_expect_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
	put(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	cr_expect(get(VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	put(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	cr_expect_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
}

/* --- doorbells and interrupts --- */

WholeTest(virtio_mmio, a_doorbell_per_queue_by_value)
{
	run();
	cr_expect_eq(fake_vmevent_doorbells(&vm), 2);
	cr_expect(fake_vmevent_ring(&vm, false, BASE + VIRTIO_MMIO_QUEUE_NOTIFY, 4, 1));
	cr_expect(!readable(core.dev.queue[0].kick_fd));
	cr_expect(readable(core.dev.queue[1].kick_fd));
	cr_expect(!fake_vmevent_ring(&vm, false, BASE + VIRTIO_MMIO_QUEUE_NOTIFY, 4, 2), "not enabled");
	cr_expect(!fake_vmevent_ring(&vm, false, BASE + VIRTIO_MMIO_QUEUE_NOTIFY, 2, 1));
}

WholeTest(virtio_mmio, queues_share_the_interrupt)
{
	run();
	cr_expect_eq(fake_vmevent_gsi_of(&vm, core.dev.queue[0].call_fd), GSI);
	cr_expect_eq(fake_vmevent_gsi_of(&vm, core.dev.queue[1].call_fd), GSI);
	call(1);
	cr_expect_eq(fake_vmevent_pump(&vm), 1);
	cr_expect_eq(vm.injected[GSI], 1);
}

WholeTest(virtio_mmio, a_queue_that_stops_takes_its_own_along)
{
	run();
	put(VIRTIO_MMIO_QUEUE_SEL, 0);
	put(VIRTIO_MMIO_QUEUE_READY, 0);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 1);
	cr_expect_eq(fake_vmevent_gsi_of(&vm, core.dev.queue[0].call_fd), -1);
	cr_expect_eq(fake_vmevent_gsi_of(&vm, core.dev.queue[1].call_fd), GSI);
}

WholeTest(virtio_mmio, binding_is_all_or_nothing)
{
	vm.attaches_left = 0;
	run();
	cr_expect_eq(core.bind_rc, -ENOSPC);
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	put(VIRTIO_MMIO_STATUS, 0);
	vm.attaches_left = -1;
	vm.doorbells_left = 0;
	run();
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
}

WholeTest(virtio_mmio_modes, notify_by_exits)
{
	config.notify_exit = true;
	make();
	run();
	cr_expect_eq(fake_vmevent_doorbells(&vm), 0);
	put(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	cr_expect_eq(core.notified[1], 1);
	cr_expect_eq(core.notified[0], 0);
}

WholeTest(virtio_mmio_modes, interrupts_by_calls)
{
	config.irq_ioctl = true;
	make();
	run();
	cr_expect_eq(fake_vmevent_irqfds(&vm), 0);
	call(0);
	turn();
	cr_expect_eq(vm.injected[GSI], 1);
	cr_expect(!vm.level[GSI]);
	put(VIRTIO_MMIO_STATUS, 0);
	call(0);
	turn();
	cr_expect_eq(vm.injected[GSI], 1, "nobody looks any more");
}

WholeTest(virtio_mmio_modes, places)
{
	static struct bus_range squatter = {.name = "squatter", .base = LAYOUT_VIRTIO_MMIO, .size = 4};
	struct err e = {0};

	cr_expect_eq(virtio_mmio_gsi(VIRTIO_MMIO_MAX - 1), LAYOUT_GSI_PCI_INTX - 1);
	config.index = VIRTIO_MMIO_MAX;
	cr_expect_null(fake_virtio_mmio_new(&config, &e));
	cr_expect_eq(e.code, -ENOSPC);
	cr_assert_eq(bus_map(&mmio, &squatter), 0);
	config.index = 0;
	cr_expect_null(fake_virtio_mmio_new(&config, &e));
	cr_expect_eq(e.code, -EEXIST);
	bus_unmap(&mmio, &squatter);
	config.index = VIRTIO_MMIO_MAX - 1;
	make();
}
