/* Reset through the register that the FADT names, or through the keyboard controller. */
#include "lib/bare.h"

int main(void)
{
	print("going\n");
	if (option_is("how", "keyboard")) {
		/* Linux waits for the input buffer to be empty first. */
		CHECK_EQ(inb(0x64) & 2, 0);
		outb(0x64, 0xfe);
	} else {
		outb(LAYOUT_RESET, 0x02); /* Linux: the kind first, then with the CPU bit */
		outb(LAYOUT_RESET, LAYOUT_RESET_VALUE);
	}
	FAIL("the VM lives on");
	return 0;
}
