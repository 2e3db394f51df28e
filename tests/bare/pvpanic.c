/* pvpanic: what a kernel writes when it panics. */
#include "lib/bare.h"

int main(void)
{
	CHECK(inb(LAYOUT_PVPANIC) & 1);
	print("going\n");
	if (bare_failures == 0)
		outb(LAYOUT_PVPANIC, 1);
	FAIL("the VM lives on");
	return 0;
}
