/* What a guest can do to a page of virtio-mmio registers.  An operation is its kind, a length, an offset of
 * two bytes and a value of eight; the first byte of all chooses the modes. */
#include <assert.h>
#include <linux/virtio_ids.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio_mmio/virtio_mmio.h"
#include "lib/log.h"
#include "tests/fake/fake_core.h"
#include "tests/fake/fake_vmevent.h"

#define OP 12

static struct bus mmio;
static struct fake_vmevent vm;

static void operate(const uint8_t *op)
{
	unsigned len = 1 + op[1] % 8, off = (unsigned)(op[2] | op[3] << 8) % VIRTIO_MMIO_STRIDE;
	const uint64_t one = 1;
	uint64_t v;

	memcpy(&v, op + 4, sizeof(v));
	switch (op[0] % 4) {
	case 0:
		bus_write(&mmio, virtio_mmio_addr(0) + off, &v, len);
		break;
	case 1: /* where registers are */
		bus_write(&mmio, virtio_mmio_addr(0) + (off & 0xfc), &v, 4);
		break;
	case 2:
		bus_read(&mmio, virtio_mmio_addr(0) + off, &v, len);
		break;
	case 3:
		core.dev.transport->ops->config_irq(core.dev.transport);
		if (write(core.dev.queue[op[1] % FAKE_QUEUES].call_fd, &one, 8) != 8)
			abort();
		fake_vmevent_pump(&vm);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_mmio_config config = {.dev = &core.dev, .mmio = &mmio, .vmevent = &vm.event};
	struct evloop *loop = evloop_new();
	uint8_t mode = size ? data[0] : 0;

	log_set_level(LOG_ERROR);
	bus_init(&mmio);
	fake_vmevent_init(&vm);
	fake_core_init(VIRTIO_ID_NET, loop);
	config.notify_exit = mode & 1;
	config.irq_ioctl = mode & 2;
	if (mode & 4)
		vm.doorbells_left = mode >> 4;
	if (mode & 8)
		vm.attaches_left = mode >> 4;
	if (!fake_virtio_mmio_new(&config, NULL))
		abort();
	for (size_t i = 1; i + OP <= size && i < 1 + 400 * OP; i += OP)
		operate(data + i);
	fake_core_fini();
	assert(!vm.misuse);
	assert(!fake_vmevent_doorbells(&vm) && !fake_vmevent_irqfds(&vm));
	assert(!mmio.nranges);
	fake_vmevent_fini(&vm);
	evloop_free(loop);
	bus_fini(&mmio);
	return 0;
}
