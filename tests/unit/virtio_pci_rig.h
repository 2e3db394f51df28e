/* For the tests of virtio over PCI: a driver, and the rest of the machine over a core that only takes notes. */
#ifndef TESTS_UNIT_VIRTIO_PCI_RIG_H
#define TESTS_UNIT_VIRTIO_PCI_RIG_H
#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <unistd.h>

#include "devices/virtio_pci/virtio_pci.h"
#include "tests/fake/fake_core.h"
#include "tests/fake/fake_vmevent.h"
#include "tests/unit/teardown.h"
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

static inline uint64_t ecam(unsigned off)
{
	return LAYOUT_ECAM + (SLOT << 15 | off);
}

static inline uint32_t cfg_get(unsigned off, unsigned len)
{
	uint32_t v = 0;

	cr_assert(bus_read(&mmio, ecam(off), &v, len));
	return v;
}

static inline void cfg_put(unsigned off, uint32_t v, unsigned len)
{
	cr_assert(bus_write(&mmio, ecam(off), &v, len));
}

/* The nth capability of a kind (cfg_type for virtio's own, else 0), or 0. */
static inline unsigned find_cap(uint8_t id, uint8_t type, unsigned nth)
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

static inline unsigned vcap(uint8_t type)
{
	unsigned at = find_cap(PCI_CAP_ID_VNDR, type, 0);

	cr_assert(at, "no capability of type %u", type);
	return at;
}

static inline uint64_t region(uint8_t type)
{
	return bar + cfg_get(vcap(type) + VIRTIO_PCI_CAP_OFFSET, 4);
}

static inline uint32_t get(unsigned off, unsigned len)
{
	uint32_t v = ~0u;

	cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + off, &v, len));
	return len == 4 ? v : v & ((1u << len * 8) - 1);
}

static inline void put(unsigned off, uint32_t v, unsigned len)
{
	cr_assert(bus_write(&mmio, region(VIRTIO_PCI_CAP_COMMON_CFG) + off, &v, len));
}

static inline uint8_t isr(void)
{
	uint8_t v;

	cr_assert(bus_read(&mmio, region(VIRTIO_PCI_CAP_ISR_CFG), &v, 1));
	return v;
}

static inline uint64_t doorbell(unsigned q)
{
	unsigned mult = cfg_get(vcap(VIRTIO_PCI_CAP_NOTIFY_CFG) + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);

	put(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
	return region(VIRTIO_PCI_CAP_NOTIFY_CFG) + get(VIRTIO_PCI_COMMON_Q_NOFF, 2) * mult;
}

static inline void queue_vector(unsigned q, uint16_t v)
{
	put(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
	put(VIRTIO_PCI_COMMON_Q_MSIX, v, 2);
}

static inline void run(void)
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

static inline void msix(uint16_t flags)
{
	cfg_put(find_cap(PCI_CAP_ID_MSIX, 0, 0) + PCI_MSIX_FLAGS, flags, 2);
}

static inline uint64_t vector_entry(unsigned v)
{
	return bar + (cfg_get(find_cap(PCI_CAP_ID_MSIX, 0, 0) + PCI_MSIX_TABLE, 4) & ~7u) + v * 16;
}

static inline void vector(unsigned v, uint32_t data, uint32_t masked)
{
	const uint32_t entry[4] = {0xfee00000, 0, data, masked};

	for (unsigned i = 0; i < 4; i++)
		cr_assert(bus_write(&mmio, vector_entry(v) + 4 * i, &entry[i], 4));
}

static inline uint64_t pba(void)
{
	uint64_t v = ~0ull;

	cr_assert(bus_read(&mmio, bar + (cfg_get(find_cap(PCI_CAP_ID_MSIX, 0, 0) + PCI_MSIX_PBA, 4) & ~7u), &v,
			   8));
	return v;
}

static inline void msix_all(void)
{
	msix(PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < NVECTORS; i++)
		vector(i, 0x40 + i, 0);
}

/* --- the rest of the machine --- */

static inline void make(void)
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

static inline void quit(struct ev_timer *t)
{
	(void)t;
	evloop_quit(loop, 0);
}

static inline void turn(void)
{
	struct ev_timer t;

	cr_assert_eq(ev_timer_init(&t, loop, quit), 0);
	ev_timer_arm(&t, 5);
	evloop_run(loop);
	ev_timer_fini(&t);
}

static inline void call(unsigned q)
{
	const uint64_t one = 1;

	cr_assert_eq(write(core.dev.queue[q].call_fd, &one, 8), 8);
}

static inline void config_change(void)
{
	core.dev.transport->ops->config_irq(core.dev.transport);
}

static inline bool kicked(unsigned q)
{
	uint64_t n;

	return read(core.dev.queue[q].kick_fd, &n, 8) == 8;
}

/* How often fd's interrupt reached the guest as the message with this data. */
static inline unsigned got(uint32_t data)
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
#endif
