/* An eventfd that is readable when it is attached as an irqfd injects at once: a masked MSI-X vector can
 * be an irqfd that is not attached, and the count of the eventfd its pending bit. */
#include "assume.h"

#define GSI    4
#define VECTOR 0x44

int main(void)
{
	struct vm vm;
	int fd = new_eventfd();

	vm_init(&vm, true);
	lapic_enable(&vm);
	ioapic_pin(&vm, GSI, VECTOR, false);

	irqfd(&vm, fd, GSI, 0);
	if (lapic_take(&vm, VECTOR, 50))
		fail("attaching an eventfd of count 0 injected");
	irqfd(&vm, fd, GSI, KVM_IRQFD_FLAG_DEASSIGN);

	/* KVM takes the count when it injects; what came while detached is for us to keep. */
	fd_signal(fd);
	if (lapic_take(&vm, VECTOR, 50))
		fail("a detached irqfd injected");
	irqfd(&vm, fd, GSI, 0);
	if (!lapic_take(&vm, VECTOR, 1000))
		fail("nothing injected within a second of attaching a readable eventfd");
	fd_signal(fd);
	if (!lapic_take(&vm, VECTOR, 1000))
		fail("the irqfd is dead after that");
	holds();
}
