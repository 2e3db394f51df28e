#include "vmm/platform.h"

#include <stdbool.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/layout_x86.h"

#define SLEEP_ENABLE         (1u << 5) /* ACPI 6.5, table 4.16 */
#define SLEEP_TYPE(v)        (((v) >> 2) & 7u)
#define KEYBOARD_RESET       0xfeu /* 8042: pulse output line 0 */
#define PVPANIC_PANICKED     1u    /* Linux: include/uapi/misc/pvpanic.h */
#define PVPANIC_CRASH_LOADED 2u

static void read_zero(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	(void)r;
	(void)off;
	memset(data, 0, len);
}

static void read_pvpanic(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	read_zero(r, off, data, len);
	*(uint8_t *)data = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED; /* what may be written */
}

static void write_sleep(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct platform *p = container_of(r, struct platform, sleep);
	uint8_t v = *(const uint8_t *)data;

	(void)len;
	if (off == 0 && (v & SLEEP_ENABLE) && SLEEP_TYPE(v) == LAYOUT_SLEEP_TYPE_S5)
		p->event(p->opaque, PLATFORM_POWER_OFF, 0);
}

static void write_keyboard(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct platform *p = container_of(r, struct platform, keyboard);

	(void)off;
	(void)len;
	if (*(const uint8_t *)data == KEYBOARD_RESET)
		p->event(p->opaque, PLATFORM_RESET, 0);
}

static void write_pvpanic(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct platform *p = container_of(r, struct platform, pvpanic);
	uint8_t v = *(const uint8_t *)data;

	(void)off;
	(void)len;
	if (v & PVPANIC_PANICKED)
		p->event(p->opaque, PLATFORM_PANIC, v);
	else if (v & PVPANIC_CRASH_LOADED)
		p->event(p->opaque, PLATFORM_CRASH_LOADED, v);
}

static void write_debug_exit(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	struct platform *p = container_of(r, struct platform, debug_exit);

	(void)len;
	if (off == 0)
		p->event(p->opaque, PLATFORM_EXIT, *(const uint8_t *)data);
}

int platform_init(struct platform *p, struct bus *pio, void (*event)(void *, enum platform_event, uint8_t),
		  void *opaque)
{
	static const struct bus_ops sleep_ops = {.read = read_zero, .write = write_sleep};
	static const struct bus_ops keyboard_ops = {.read = read_zero, .write = write_keyboard};
	static const struct bus_ops pvpanic_ops = {.read = read_pvpanic, .write = write_pvpanic};
	static const struct bus_ops debug_exit_ops = {.read = read_zero, .write = write_debug_exit};
	int rc;

	*p = (struct platform){
		/* sleep status follows the control register */
		.sleep = {.name = "sleep", .base = LAYOUT_SLEEP_CONTROL, .size = 2, .ops = &sleep_ops},
		.keyboard = {.name = "8042", .base = 0x64, .size = 1, .ops = &keyboard_ops},
		.pvpanic = {.name = "pvpanic", .base = LAYOUT_PVPANIC, .size = 1, .ops = &pvpanic_ops},
		.debug_exit = {.name = "debug-exit",
			       .base = LAYOUT_DEBUG_EXIT,
			       .size = 4,
			       .ops = &debug_exit_ops},
		.event = event,
		.opaque = opaque,
	};
	rc = bus_map(pio, &p->sleep);
	rc = rc ? rc : bus_map(pio, &p->keyboard);
	rc = rc ? rc : bus_map(pio, &p->pvpanic);
	return rc ? rc : bus_map(pio, &p->debug_exit);
}
