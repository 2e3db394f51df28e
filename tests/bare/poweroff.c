/* ACPI's S5 through the sleep control register: the VMM ends with 0. */
#include "lib/bare.h"

int main(void)
{
	/* Other sleep types, and the type without the enable bit, do nothing. */
	outb(LAYOUT_SLEEP_CONTROL, LAYOUT_SLEEP_TYPE_S5 << 2);
	outb(LAYOUT_SLEEP_CONTROL, 1 << 2 | 1 << 5);
	(void)inb(LAYOUT_SLEEP_STATUS);
	print("going\n");
	outb(LAYOUT_SLEEP_CONTROL, LAYOUT_SLEEP_TYPE_S5 << 2 | 1 << 5);
	FAIL("the VM lives on");
	return 0;
}
