/* An irqfd without resampling is a pulse.  On an edge pin each pulse arrives; on a level pin a pulse
 * during service (before the end of interrupt) is gone for good.  So ACPI gets edge for such lines. */
#include "assume.h"

#define EDGE_GSI     4
#define LEVEL_GSI    10
#define EDGE_VECTOR  0x44
#define LEVEL_VECTOR 0x4a

int main(void)
{
	int edge = new_eventfd(), level = new_eventfd();
	struct vm vm;

	vm_init(&vm, true);
	lapic_enable(&vm);
	ioapic_pin(&vm, EDGE_GSI, EDGE_VECTOR, false);
	ioapic_pin(&vm, LEVEL_GSI, LEVEL_VECTOR, true);
	irqfd(&vm, edge, EDGE_GSI, 0);
	irqfd(&vm, level, LEVEL_GSI, 0);

	for (unsigned i = 0; i < 100; i++) {
		fd_signal(edge);
		if (!lapic_take(&vm, EDGE_VECTOR, 1000))
			fail("pulse %u on an edge pin did not arrive", i);
	}
	fd_signal(level);
	if (!lapic_take(&vm, LEVEL_VECTOR, 1000))
		fail("the first pulse on a level pin did not arrive");
	fd_signal(level);
	if (lapic_take(&vm, LEVEL_VECTOR, 100))
		ok("a level pin takes pulses during service here");
	holds();
}
