/* The few registers through which a guest ends, or says that it must: ACPI sleep control, the keyboard
 * controller's reset line, pvpanic, and the debug exit port.  (Port 0xcf9 lives inside PCI's.) */
#ifndef VMM_PLATFORM_H
#define VMM_PLATFORM_H
#include <stdint.h>

#include "vmm/bus.h"

enum platform_event {
	PLATFORM_POWER_OFF,
	PLATFORM_RESET,
	PLATFORM_PANIC,        /* the guest's kernel panicked (pvpanic) */
	PLATFORM_CRASH_LOADED, /* it did, and a crash kernel takes over */
	PLATFORM_EXIT          /* debug exit: value is the status */
};

struct platform {
	struct bus_range sleep, keyboard, pvpanic, debug_exit;
	void (*event)(void *opaque, enum platform_event event, uint8_t value); /* a vCPU's thread */
	void *opaque;
};

/* Maps all of them on the port bus.  0 or -errno. */
int platform_init(struct platform *p, struct bus *pio, void (*event)(void *, enum platform_event, uint8_t),
		  void *opaque);
#endif
