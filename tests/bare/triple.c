/* A triple fault is a reset. */
#include "lib/bare.h"

static uint64_t fault(uint64_t unused)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = {0, 0};

	(void)unused;
	__asm__ volatile("lidt %0; ud2" ::"m"(none));
	return 0;
}

int main(void)
{
	print("going\n");
	ring0(fault, 0);
	FAIL("the VM lives on");
	return 0;
}
