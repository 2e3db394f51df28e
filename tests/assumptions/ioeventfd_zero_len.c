/* A zero-length ioeventfd fires for a write of any width, on MMIO and on ports: the doorbell of a PCI
 * device. */
#include "ioeventfd.h"

static struct vm vm;

static void expect(const char *what, bool user, int fd, unsigned want_left, uint64_t want_fired)
{
	unsigned left;
	uint64_t fired;

	begin(&vm, user, 1);
	left = run_counting(&vm, what);
	fired = fd_count(fd);
	if (left != want_left || fired != want_fired)
		fail("%s: fired %llu of %llu times, exits by width 8421: %04u, expected %04u", what,
		     (unsigned long long)fired, (unsigned long long)want_fired, left, want_left);
}

int main(void)
{
	int mmio = new_eventfd(), port = new_eventfd();

	vm_init(&vm, false);
	if (vm_cap(&vm, KVM_CAP_IOEVENTFD_ANY_LENGTH) <= 0)
		skip("no KVM_CAP_IOEVENTFD_ANY_LENGTH");

	VM_LOAD(&vm, mmio64);
	expect("MMIO before it is registered", true, mmio, 1111, 0);
	ioeventfd(&vm, mmio, MMIO, 0, 0, 0);
	ioeventfd(&vm, port, PORT, 0, KVM_IOEVENTFD_FLAG_PIO, 0);
	expect("MMIO from ring 3", true, mmio, 0, 4);
	VM_LOAD(&vm, mmio16);
	expect("MMIO from real mode", false, mmio, 0, 4);
	VM_LOAD(&vm, pio64);
	expect("port", true, port, 0, 4);

	ioeventfd(&vm, mmio, MMIO, 0, KVM_IOEVENTFD_FLAG_DEASSIGN, 0);
	ioeventfd(&vm, port, PORT, 0, KVM_IOEVENTFD_FLAG_DEASSIGN | KVM_IOEVENTFD_FLAG_PIO, 0);
	expect("port after it is taken away", true, port, 211, 0);
	VM_LOAD(&vm, mmio64);
	expect("MMIO after it is taken away", true, mmio, 1111, 0);
	holds();
}
