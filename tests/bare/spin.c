/* A guest that never leaves by itself: only the VMM's timeout or a signal ends it. */
#include "lib/bare.h"

int main(void)
{
	print("ready\n");
	for (;;)
		__asm__ volatile("");
}
