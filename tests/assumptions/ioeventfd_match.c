/* Several ioeventfds of length 4 at one address, told apart by the value: the QueueNotify register of
 * virtio-mmio.  Another value, or the same value in another width, leaves as an ordinary exit. */
#include "ioeventfd.h"

int main(void)
{
	int fds[3];
	struct vm vm;

	vm_init(&vm, false);
	for (unsigned i = 0; i < 3; i++) {
		fds[i] = new_eventfd();
		ioeventfd(&vm, fds[i], MMIO, 4, KVM_IOEVENTFD_FLAG_DATAMATCH, i);
	}
	for (unsigned user = 0; user < 2; user++) {
		if (user)
			VM_LOAD(&vm, mmio64);
		else
			VM_LOAD(&vm, mmio16);
		for (unsigned value = 0; value < 4; value++) {
			/* Of the four writes, those of 4 bytes fire: one in 64-bit code, two in 16-bit. */
			unsigned fours = user ? 1 : 2, others = user ? 1011 : 11, left;

			begin(&vm, user, value);
			left = run_counting(&vm, "write");
			if (left != (value < 3 ? others : others + fours * 100))
				fail("value %u: exits by width 8421: %04u", value, left);
			for (unsigned i = 0; i < 3; i++) {
				uint64_t fired = fd_count(fds[i]);

				if (fired != (i == value ? fours : 0))
					fail("value %u fired the eventfd of value %u %llu times", value, i,
					     (unsigned long long)fired);
			}
		}
	}
	holds();
}
