/* A guest that sleeps for ever: only the VMM's timeout or a signal ends it. */
#include "lib/bare.h"

static uint64_t halt(uint64_t unused)
{
	while (unused == 0)
		__asm__ volatile("cli; hlt");
	return 0;
}

int main(void)
{
	print("ready\n");
	ring0(halt, 0);
	return 0;
}
