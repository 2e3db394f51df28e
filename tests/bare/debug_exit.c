/* The low byte written to the debug exit port is the VMM's exit status. */
#include "lib/bare.h"

int main(void)
{
	outl(LAYOUT_DEBUG_EXIT, (uint32_t)option("status", 0));
	FAIL("the VM lives on");
	return 0;
}
