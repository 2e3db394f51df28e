/* The registers through which a guest ends. */
#include <criterion/criterion.h>

#include "lib/cleanup.h"
#include "vmm/layout_x86.h"
#include "vmm/platform.h"

static struct bus pio;
static struct platform platform;
static unsigned nevents;
static enum platform_event last;
static uint8_t last_value;

static void on_event(void *opaque, enum platform_event event, uint8_t value)
{
	cr_assert_eq(opaque, &platform);
	nevents++;
	last = event;
	last_value = value;
}

static void setup(void)
{
	bus_init(&pio);
	cr_assert_eq(platform_init(&platform, &pio, on_event, &platform), 0);
}

static void teardown(void)
{
	bus_fini(&pio);
}

TestSuite(platform, .init = setup, .fini = teardown);

static void out(uint64_t port, uint32_t v, unsigned len)
{
	cr_assert(bus_write(&pio, port, &v, len), "port %#lx", port);
}

static uint8_t in(uint64_t port)
{
	uint8_t v = 0xaa;

	cr_assert(bus_read(&pio, port, &v, 1), "port %#lx", port);
	return v;
}

Test(platform, sleep_wants_s5_and_the_enable_bit)
{
	for (unsigned v = 0; v < 256; v++) {
		bool off = (v & 0x20) && (v >> 2 & 7) == LAYOUT_SLEEP_TYPE_S5;

		nevents = 0;
		out(LAYOUT_SLEEP_CONTROL, v, 1);
		cr_expect_eq(nevents, off, "value %#x", v);
		cr_expect(!off || last == PLATFORM_POWER_OFF);
	}
}

Test(platform, sleep_status_is_not_the_control_register)
{
	out(LAYOUT_SLEEP_STATUS, 0x34, 1);
	cr_expect_eq(nevents, 0);
	cr_expect_eq(in(LAYOUT_SLEEP_STATUS), 0);
	cr_expect_eq(in(LAYOUT_SLEEP_CONTROL), 0);
}

Test(platform, debug_exit_tells_the_low_byte)
{
	for (unsigned v = 0; v < 256; v++) {
		out(LAYOUT_DEBUG_EXIT, v | 0xabcdef00, 4);
		cr_expect_eq(last, PLATFORM_EXIT);
		cr_expect_eq(last_value, v);
	}
	cr_expect_eq(nevents, 256);
}

Test(platform, debug_exit_of_any_width)
{
	for (unsigned len = 1; len <= 4; len *= 2)
		out(LAYOUT_DEBUG_EXIT, 42, len);
	cr_expect_eq(nevents, 3);
	cr_expect_eq(last_value, 42);
}

Test(platform, debug_exit_is_at_its_first_byte)
{
	for (unsigned off = 1; off < 4; off++)
		out(LAYOUT_DEBUG_EXIT + off, 1, 1);
	cr_expect_eq(nevents, 0);
}

Test(platform, pvpanic)
{
	cr_expect_eq(in(LAYOUT_PVPANIC), 3, "both events can be told");
	out(LAYOUT_PVPANIC, 1, 1);
	cr_expect_eq(last, PLATFORM_PANIC);
	out(LAYOUT_PVPANIC, 2, 1);
	cr_expect_eq(last, PLATFORM_CRASH_LOADED);
	out(LAYOUT_PVPANIC, 3, 1);
	cr_expect_eq(last, PLATFORM_PANIC);
	cr_expect_eq(nevents, 3);
	out(LAYOUT_PVPANIC, 0xfc, 1);
	cr_expect_eq(nevents, 3);
}

Test(platform, keyboard_resets_by_one_command_only)
{
	for (unsigned v = 0; v < 256; v++) {
		nevents = 0;
		out(0x64, v, 1);
		cr_expect_eq(nevents, v == 0xfe, "command %#x", v);
	}
	cr_expect_eq(in(0x64) & 3, 0, "nothing to read, and room to write");
}

Test(platform, reads_of_every_width)
{
	uint32_t v = 0xffffffff;

	cr_expect(bus_read(&pio, LAYOUT_DEBUG_EXIT, &v, 4));
	cr_expect_eq(v, 0);
	cr_expect_eq(nevents, 0);
}

Test(platform, ports_that_are_taken)
{
	struct platform second;

	cr_expect_lt(platform_init(&second, &pio, on_event, NULL), 0);
}
