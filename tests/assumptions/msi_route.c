/* A GSI above the IOAPIC's pins can be routed to an MSI message and an irqfd on it delivers; the message
 * can be changed while the irqfd stays. */
#include "assume.h"

#define GSI 24

static void route(const struct vm *vm, uint32_t vector)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} routes = {
		.head = {.nr = 1},
		.entry = {.gsi = GSI,
			  .type = KVM_IRQ_ROUTING_MSI,
			  .u.msi = {.address_lo = 0xfee00000, .data = vector}},
	};

	VM_IOCTL(vm->fd, KVM_SET_GSI_ROUTING, &routes);
}

int main(void)
{
	int fd = new_eventfd();
	struct vm vm;

	vm_init(&vm, true);
	lapic_enable(&vm);
	route(&vm, 0x55);
	irqfd(&vm, fd, GSI, 0);
	for (unsigned i = 0; i < 100; i++) {
		uint8_t vector = i < 50 ? 0x55 : 0x66;

		if (i == 50)
			route(&vm, 0x66);
		fd_signal(fd);
		if (!lapic_take(&vm, vector, 1000))
			fail("signal %u did not arrive as vector 0x%x", i, vector);
	}
	holds();
}
