/* Code fetched from where nothing lives is more than KVM can emulate: the VMM says so and ends.  In
 * ring 0, since in ring 3 it would be the guest's exception. */
#include "lib/bare.h"

static uint64_t jump(uint64_t where)
{
	__asm__ volatile("mov $0x5ca1ab1e0ddba11, %%rax; jmp *%0" ::"r"(where) : "rax");
	return 0;
}

int main(void)
{
	print("going\n");
	ring0(jump, 0xd0000000);
	FAIL("the VM lives on");
	return 0;
}
