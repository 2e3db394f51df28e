/* The serial port's shadow page: polled writes that need no exit. */
#include <criterion/criterion.h>
#include <errno.h>

#include "lib/cleanup.h"
#include "tests/unit/serial_rig.h"

TestSuite(serial_shadow, .init = setup, .fini = teardown, .timeout = 30);

/* --- the shadow page --- */

static struct {
	struct shadow shadow;
	uint8_t page[4096];
	bool on;
	unsigned nset, non, twice;
	int answer;
} fake;

static int fake_set(struct shadow *sh, bool on)
{
	(void)sh;
	fake.nset++;
	fake.non += on;
	fake.twice += on && fake.on;
	if (on && fake.answer)
		return fake.answer;
	fake.on = on;
	return 0;
}

static void with_shadow(int answer)
{
	memset(&fake, 0, sizeof(fake));
	fake.shadow = (struct shadow){.page = fake.page, .set = fake_set};
	fake.answer = answer;
	s.shadow = &fake.shadow;
}

static void polled_writes(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		mout(UART_TX, 'p');
		min(UART_LSR);
	}
}

static void enter(void)
{
	with_shadow(0);
	polled_writes(POLLS_SHADOW << s.shadow_count); /* each time it takes twice as many */
	cr_assert(fake.on);
	cr_assert(s.shadowed);
}

Test(serial_shadow, shadow_after_polled_writes)
{
	with_shadow(0);
	polled_writes(POLLS_SHADOW - 1);
	cr_expect_eq(fake.nset, 0);
	polled_writes(1);
	cr_expect(fake.on);
	cr_expect_eq(s.shadow_count, 1);
}

Test(serial_shadow, shadow_not_for_ports)
{
	with_shadow(0);
	for (unsigned i = 0; i < 1000; i++) {
		out(UART_TX, 'p');
		in(UART_LSR);
	}
	cr_expect_eq(fake.nset, 0);
}

Test(serial_shadow, shadow_not_with_interrupts_on)
{
	with_shadow(0);
	out(UART_IER, UART_IER_RDI);
	polled_writes(1000);
	cr_expect_eq(fake.nset, 0);
}

Test(serial_shadow, shadow_not_in_loopback)
{
	with_shadow(0);
	out(UART_MCR, UART_MCR_LOOP);
	polled_writes(1000);
	cr_expect_eq(fake.nset, 0);
}

Test(serial_shadow, shadow_not_for_idle_polls)
{
	with_shadow(0);
	for (unsigned i = 0; i < 1000; i++)
		min(UART_LSR);
	cr_expect_eq(fake.nset, 0);
}

Test(serial_shadow, shadow_wants_the_writes_in_a_row)
{
	with_shadow(0);
	for (unsigned i = 0; i < 10; i++) {
		polled_writes(POLLS_SHADOW - 1);
		min(UART_LSR); /* a second look: somebody who waits for something */
	}
	cr_expect_eq(fake.nset, 0);
}

/* With DLAB set the first two registers are the divisor: the page would not say so. */
Test(serial_shadow, shadow_not_while_the_divisor_shows)
{
	with_shadow(0);
	polled_writes(POLLS_SHADOW - 1);
	mout(UART_TX, 'p');
	mout(UART_LCR, UART_LCR_DLAB);
	min(UART_LSR);
	cr_expect(!fake.on || fake.page[UART_DLL] == s.dll);
}

Test(serial_shadow, shadow_page_shows_the_registers)
{
	mout(UART_LCR, UART_LCR_WLEN8);
	mout(UART_MCR, UART_MCR_DTR | UART_MCR_RTS);
	mout(UART_SCR, 0x42);
	mout(UART_FCR, UART_FCR_ENABLE_FIFO);
	enter();
	for (unsigned reg = 1; reg < 8; reg++)
		cr_expect_eq(fake.page[reg], in(reg), "register %u: %#x", reg, fake.page[reg]);
	cr_expect_eq(fake.page[UART_RX], 0);
	cr_expect_eq(fake.page[UART_LSR], UART_LSR_THRE | UART_LSR_TEMT);
	for (unsigned off = 8; off < 4096; off++)
		cr_assert_eq(fake.page[off], 0xff);
}

Test(serial_shadow, shadow_page_without_fifo)
{
	enter();
	cr_expect_eq(fake.page[UART_IIR], UART_IIR_NO_INT);
}

Test(serial_shadow, shadow_stays_for_thr_and_interrupts_off)
{
	enter();
	nsent = 0;
	mout(UART_TX, 'q');
	mout(UART_IER, 0);
	cr_expect(fake.on);
	cr_expect_eq(nsent, 1);
}

Test(serial_shadow, shadow_is_entered_only_once)
{
	enter();
	polled_writes(100); /* reads that were on their way out of the guest */
	cr_expect_eq(fake.twice, 0);
	cr_expect_eq(s.shadow_count, 1);
}

Test(serial_shadow, shadow_ends_with_any_other_write)
{
	static const unsigned regs[] = {UART_FCR, UART_LCR, UART_MCR, UART_LSR, UART_MSR, UART_SCR};

	for (size_t i = 0; i < ARRAY_SIZE(regs); i++) {
		out(UART_MCR, 0);
		enter();
		mout(regs[i], 0);
		cr_expect(!fake.on, "register %u", regs[i]);
		cr_expect(!s.shadowed);
	}
}

Test(serial_shadow, shadow_ends_with_interrupts_on)
{
	enter();
	mout(UART_IER, UART_IER_THRI);
	cr_expect(!fake.on);
	cr_expect_eq(min(UART_IER), UART_IER_THRI);
}

Test(serial_shadow, shadow_ends_with_a_write_to_the_other_window)
{
	enter();
	out(UART_LCR, UART_LCR_WLEN8);
	cr_expect(!fake.on);
}

Test(serial_shadow, shadow_ends_with_a_break)
{
	enter();
	serial_break(&s);
	cr_expect(!fake.on);
}

/* A monitor or kdb that prints its prompt byte by byte and then polls LSR for the answer never leaves
 * the guest while the page is on: somebody has to take it away when there is input. */
Test(serial_shadow, shadow_does_not_hide_input_from_a_poller)
{
	bool found = false;

	enter();
	serial_receive(&s, "y", 1);
	serial_quiet(&s);
	for (unsigned i = 0; !found && i < 1000; i++)
		found = ((fake.on ? fake.page[UART_LSR] : min(UART_LSR)) & UART_LSR_DR) != 0;
	cr_expect(found);
}

Test(serial_shadow, shadow_comes_again)
{
	enter();
	mout(UART_SCR, 0);
	cr_expect(!fake.on);
	polled_writes(2 * POLLS_SHADOW - 1);
	cr_expect(!fake.on, "it must be longer worth it than the first time");
	polled_writes(1);
	cr_expect(fake.on);
	cr_expect_eq(s.shadow_count, 2);
}

Test(serial_shadow, shadow_refused_is_never_tried_again)
{
	with_shadow(-ENOTSUP);
	polled_writes(POLLS_SHADOW);
	cr_expect_eq(fake.non, 1);
	cr_expect(!s.shadowed);
	polled_writes(1000);
	cr_expect_eq(fake.non, 1);
	mout(UART_SCR, 1);
	serial_break(&s);
	cr_expect_eq(s.shadow_count, 0);
}

Test(serial_shadow, shadow_ends_with_the_port)
{
	enter();
	serial_fini(&s);
	cr_expect(!fake.on);
	cr_assert_eq(serial_init(&s, 0x3f8, 0), 0); /* for teardown */
}

Test(serial_shadow, closes_its_eventfd)
{
	int before = dup(0), after;

	close(before);
	for (unsigned i = 0; i < 10; i++) {
		serial_fini(&s);
		cr_assert_eq(serial_init(&s, 0, 0), 0);
	}
	after = dup(0);
	close(after);
	cr_expect_eq(before, after);
}
