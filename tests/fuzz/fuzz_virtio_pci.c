/* What a guest can do to a virtio PCI function: any sequence of accesses to its configuration space and
 * BARs, with interrupts of the device's own in between.  An operation is its kind, a length, an offset of
 * two bytes and a value of eight; the first byte of all chooses the modes. */
#include <assert.h>
#include <linux/pci_regs.h>
#include <linux/virtio_ids.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio_pci/virtio_pci.h"
#include "lib/log.h"
#include "tests/fake/fake_core.h"
#include "tests/fake/fake_vmevent.h"
#include "vmm/layout_x86.h"
#include "vmm/pci_bar.h"

#define SLOT 1u
#define OP   12

static struct bus pio, mmio;
static struct pci pci;
static struct fake_vmevent vm;

static void quit(struct ev_timer *t)
{
	evloop_quit(t->loop, 0);
}

static void turn(struct evloop *loop)
{
	struct ev_timer t;

	if (ev_timer_init(&t, loop, quit))
		return;
	ev_timer_arm(&t, 1);
	evloop_run(loop);
	ev_timer_fini(&t);
}

static void call(unsigned q)
{
	const uint64_t one = 1;

	if (write(core.dev.queue[q].call_fd, &one, 8) != 8)
		abort();
}

static void operate(const uint8_t *op, unsigned *turns)
{
	const struct pci_bar *mem = pci.device[SLOT]->bar[0], *io = pci.device[SLOT]->bar[2];
	unsigned len = 1 + op[1] % 8, off = (unsigned)(op[2] | op[3] << 8);
	uint64_t v;

	memcpy(&v, op + 4, sizeof(v));
	switch (op[0] % 8) {
	case 0:
		bus_write(&mmio, LAYOUT_ECAM + (SLOT << 15) + (off & 0xfff), &v, len);
		break;
	case 1:
		bus_read(&mmio, LAYOUT_ECAM + (SLOT << 15) + (off & 0xfff), &v, len);
		break;
	case 2:
	case 3:
		if (mem->addr != PCI_BAR_NOWHERE)
			bus_write(&mmio, mem->addr + off % mem->size, &v, len);
		break;
	case 4:
		if (mem->addr != PCI_BAR_NOWHERE)
			bus_read(&mmio, mem->addr + off % mem->size, &v, len);
		break;
	case 5:
		if (io && io->addr != PCI_BAR_NOWHERE) {
			bus_write(&pio, io->addr + off % io->size, &v, len);
			bus_read(&pio, io->addr + off % io->size, &v, len);
		}
		break;
	case 6:
		call(op[1] % FAKE_QUEUES);
		core.dev.transport->ops->config_irq(core.dev.transport);
		break;
	case 7:
		fake_vmevent_pump(&vm);
		if (*turns) { /* they take a millisecond */
			turn(core.dev.loop);
			--*turns;
		}
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_pci_config config = {.dev = &core.dev, .pci = &pci, .slot = SLOT, .vmevent = &vm.event};
	struct evloop *loop = evloop_new();
	uint8_t mode = size ? data[0] : 0;
	unsigned turns = 2;

	log_set_level(LOG_ERROR);
	bus_init(&pio);
	bus_init(&mmio);
	fake_vmevent_init(&vm);
	fake_core_init(VIRTIO_ID_NET, loop);
	config.notify_exit = mode & 1;
	config.irq_ioctl = mode & 2;
	config.doorbell_pio = mode & 4;
	if (mode & 8)
		vm.doorbells_left = mode >> 4;
	if (pci_init(&pci, &pio, &mmio, NULL, NULL) || !fake_virtio_pci_new(&config, NULL))
		abort();
	for (size_t i = 1; i + OP <= size && i < 1 + 400 * OP; i += OP)
		operate(data + i, &turns);
	fake_core_fini();
	assert(!vm.misuse);
	assert(!fake_vmevent_doorbells(&vm) && !fake_vmevent_irqfds(&vm) && !fake_vmevent_msis(&vm));
	assert(mmio.nranges == 1 && pio.nranges == 2);
	fake_vmevent_fini(&vm);
	pci_fini(&pci);
	evloop_free(loop);
	bus_fini(&mmio);
	bus_fini(&pio);
	return 0;
}
