/* The serial port receives: its FIFO, its interrupts, break, loop-back, and input from another thread. */
#include <criterion/criterion.h>
#include <poll.h>

#include "tests/unit/serial_rig.h"

TestSuite(serial_rx, .init = setup, .fini = teardown, .timeout = 30);

/* --- receiving --- */

static void open_rx(void)
{
	out(UART_IER, UART_IER_RDI);
	edges();
}

Test(serial_rx, received_bytes_interrupt)
{
	open_rx();
	cr_expect_eq(serial_receive(&s, "ab", 2), 2);
	cr_expect_eq(edges(), 1);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_RDI);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, UART_LSR_DR);
	cr_expect_eq(in(UART_RX), 'a');
	cr_expect(s.line, "a byte is left");
	cr_expect_eq(in(UART_RX), 'b');
	cr_expect(!s.line);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_NO_INT);
}

Test(serial_rx, every_byte_value_gets_through)
{
	uint8_t all[256];

	for (unsigned i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	open_rx();
	cr_expect_eq(serial_receive(&s, all, sizeof(all)), sizeof(all));
	for (unsigned i = 0; i < 256; i++) {
		cr_assert(in(UART_LSR)&UART_LSR_DR);
		cr_expect_eq(in(UART_RX), i);
	}
}

Test(serial_rx, nothing_there_reads_as_zero)
{
	open_rx();
	cr_expect_eq(in(UART_RX), 0);
	cr_expect_eq(s.rx_len, 0);
}

Test(serial_rx, input_is_held_until_interrupts_are_on)
{
	char got[8];

	serial_receive(&s, "early", 5);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
	cr_expect_eq(in(UART_RX), 0); /* a driver reads noise away */
	out(UART_IER, UART_IER_RDI);
	cr_expect_eq(edges(), 1);
	cr_expect_eq(drain(got, sizeof(got)), 5);
	cr_expect_arr_eq(got, "early", 5);
}

Test(serial_rx, input_is_held_until_lsr_is_polled)
{
	unsigned polls = 0;

	serial_receive(&s, "hi", 2);
	while (!(in(UART_LSR)&UART_LSR_DR) && polls < 1000)
		polls++;
	cr_expect_gt(polls, 1, "one look is what every write begins with");
	cr_expect_lt(polls, 64);
	cr_expect_eq(in(UART_RX), 'h');
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, UART_LSR_DR, "a poller that reads is still one");
	cr_expect_eq(in(UART_RX), 'i');
}

Test(serial_rx, polled_writes_do_not_open_the_input)
{
	serial_receive(&s, "x", 1);
	for (unsigned i = 0; i < 1000; i++) {
		cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
		out(UART_TX, 'k');
	}
}

/* serial8250_clear_fifos(), and what startup reads away after it */
Test(serial_rx, startup_does_not_lose_piped_input)
{
	char got[64];

	serial_receive(&s, "uname -a\nexit\n", 14);
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	out(UART_FCR, 0);
	in(UART_LSR);
	in(UART_RX);
	in(UART_IIR);
	in(UART_MSR);
	out(UART_IER, UART_IER_RLSI | UART_IER_RDI);
	cr_expect_eq(drain(got, sizeof(got)), 14);
	cr_expect_arr_eq(got, "uname -a\nexit\n", 14);
}

/* serial8250_do_set_termios() writes IER first and then turns the FIFO, which startup left off, on. */
Test(serial_rx, termios_after_ier_does_not_lose_piped_input)
{
	char got[64];

	serial_receive(&s, "uname -a\nexit\n", 14);
	out(UART_FCR, 0);
	out(UART_IER, UART_IER_RLSI | UART_IER_RDI);
	out(UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(UART_DLL, 1);
	out(UART_DLM, 0);
	out(UART_LCR, UART_LCR_WLEN8);
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_R_TRIG_10);
	out(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	cr_expect_eq(drain(got, sizeof(got)), 14);
}

/* A shell that starts a program opens and closes the tty; a script piped in is all of one stream. */
Test(serial_rx, reopening_does_not_lose_piped_input)
{
	char got[64];

	open_rx();
	serial_receive(&s, "abcdef", 6);
	cr_expect_eq(in(UART_RX), 'a');
	out(UART_IER, 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	out(UART_FCR, 0);
	in(UART_RX);
	out(UART_IER, UART_IER_RDI);
	cr_expect_eq(drain(got, sizeof(got)), 5);
	cr_expect_arr_eq(got, "bcdef", 5);
}

Test(serial_rx, back_pressure)
{
	static char big[SERIAL_RX_MAX + 100];
	size_t taken;

	memset(big, 'x', sizeof(big));
	taken = serial_receive(&s, big, sizeof(big));
	cr_expect_eq(taken, SERIAL_RX_MAX);
	cr_expect_eq(serial_receive(&s, "y", 1), 0);
	cr_expect_eq(rooms, 0);
	open_rx();
	for (size_t i = 0; i < SERIAL_RX_MAX / 2; i++)
		in(UART_RX);
	cr_expect_eq(rooms, 0);
	in(UART_RX);
	cr_expect_eq(rooms, 1);
	for (size_t i = 0; i < 10; i++)
		in(UART_RX);
	cr_expect_eq(rooms, 1, "told once");
}

Test(serial_rx, exactly_full_is_not_refused)
{
	static char big[SERIAL_RX_MAX];

	cr_expect_eq(serial_receive(&s, big, sizeof(big)), sizeof(big));
	open_rx();
	for (size_t i = 0; i < sizeof(big); i++)
		in(UART_RX);
	cr_expect_eq(rooms, 0);
}

Test(serial_rx, a_long_stream_through_back_pressure)
{
	static char in_bytes[60000];
	size_t off = 0, got = 0;

	for (size_t i = 0; i < sizeof(in_bytes); i++)
		in_bytes[i] = (char)(i * 31 >> 3);
	open_rx();
	while (got < sizeof(in_bytes)) {
		off += serial_receive(&s, in_bytes + off, sizeof(in_bytes) - off);
		for (unsigned i = 0; i < 1000 && (in(UART_LSR)&UART_LSR_DR); i++)
			cr_assert_eq((char)in(UART_RX), in_bytes[got++]);
	}
	cr_expect_eq(off, sizeof(in_bytes));
}

/* Whatever empties the buffer must say that there is room, or stdin waits for ever. */
Test(serial_rx, room_is_told_of_however_the_input_went)
{
	static char big[SERIAL_RX_MAX + 1];

	open_rx();
	serial_receive(&s, big, sizeof(big));
	for (unsigned i = 0; i < 2 * SERIAL_RX_MAX / 16; i++)
		out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	while (in(UART_LSR)&UART_LSR_DR)
		in(UART_RX);
	cr_expect_eq(rooms, 1);
}

/* --- break --- */

Test(serial_rx, break_is_told_once_with_a_zero)
{
	out(UART_IER, UART_IER_RLSI | UART_IER_RDI);
	edges();
	serial_break(&s);
	cr_expect_eq(edges(), 1);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_RLSI);
	cr_expect_eq(in(UART_LSR) & (UART_LSR_BI | UART_LSR_DR), UART_LSR_BI | UART_LSR_DR);
	cr_expect_eq(in(UART_LSR) & (UART_LSR_BI | UART_LSR_DR), UART_LSR_DR);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_RDI);
	cr_expect_eq(in(UART_RX), 0);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
}

Test(serial_rx, break_keeps_its_place)
{
	open_rx();
	serial_receive(&s, "a", 1);
	serial_break(&s);
	serial_receive(&s, "h", 1); /* SysRq h */
	cr_expect_eq(in(UART_LSR)&UART_LSR_BI, 0);
	cr_expect_eq(in(UART_RX), 'a');
	cr_expect_eq(in(UART_LSR)&UART_LSR_BI, UART_LSR_BI);
	cr_expect_eq(in(UART_RX), 0);
	cr_expect_eq(in(UART_LSR)&UART_LSR_BI, 0);
	cr_expect_eq(in(UART_RX), 'h');
}

Test(serial_rx, break_into_a_full_buffer)
{
	static char big[SERIAL_RX_MAX];

	serial_receive(&s, big, sizeof(big));
	serial_break(&s);
	cr_expect_leq(s.rx_len, SERIAL_RX_MAX);
}

/* --- loop-back --- */

Test(serial_rx, loopback_returns_what_was_written)
{
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'l');
	cr_expect_eq(nsent, 0);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, UART_LSR_DR);
	cr_expect_eq(in(UART_RX), 'l');
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
}

Test(serial_rx, loopback_interrupts)
{
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_IER, UART_IER_RDI);
	edges();
	out(UART_TX, 'l');
	cr_expect_eq(edges(), 1);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_RDI);
	in(UART_RX);
	cr_expect(!s.line);
}

Test(serial_rx, loopback_does_not_mix_with_outside_input)
{
	char got[8];

	open_rx();
	serial_receive(&s, "out", 3);
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'i');
	serial_receive(&s, "side", 4);
	cr_expect_eq(drain(got, sizeof(got)), 1);
	cr_expect_eq(got[0], 'i');
	out(UART_MCR, 0);
	cr_expect_eq(drain(got, sizeof(got)), 7);
	cr_expect_arr_eq(got, "outside", 7);
}

Test(serial_rx, what_went_round_is_gone_after_loopback)
{
	open_rx();
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'l');
	out(UART_MCR, 0);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
	out(UART_MCR, UART_MCR_LOOP);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
}

Test(serial_rx, clearing_the_fifo_in_loopback_clears_the_loop)
{
	char got[8];

	open_rx();
	serial_receive(&s, "keep", 4);
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'l');
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
	out(UART_MCR, 0);
	cr_expect_eq(drain(got, sizeof(got)), 4);
}

/* --- threads --- */

struct feed {
	size_t total;
	_Atomic bool done;
};

static void *feed_input(void *arg)
{
	struct feed *f = arg;

	for (size_t i = 0; i < f->total;) {
		char c = (char)i;

		i += serial_receive(&s, &c, 1);
	}
	f->done = true;
	return NULL;
}

Test(serial_rx, input_from_another_thread)
{
	struct feed f = {.total = 50000};
	pthread_t t;

	open_rx();
	cr_assert_eq(pthread_create(&t, NULL, feed_input, &f), 0);
	for (size_t i = 0; i < f.total;)
		if (in(UART_LSR)&UART_LSR_DR)
			cr_assert_eq((char)in(UART_RX), (char)i++);
	pthread_join(t, NULL);
}

/* An interrupt that the driver waits for must not get lost between two bytes. */
Test(serial_rx, no_interrupt_is_lost)
{
	struct feed f = {.total = 20000};
	pthread_t t;

	open_rx();
	cr_assert_eq(pthread_create(&t, NULL, feed_input, &f), 0);
	for (size_t i = 0; i < f.total;) {
		struct pollfd p = {.fd = s.irq_fd, .events = POLLIN};

		cr_assert_eq(poll(&p, 1, 5000), 1, "no interrupt after byte %zu", i);
		edges();
		while (!(in(UART_IIR)&UART_IIR_NO_INT))
			cr_assert_eq((char)in(UART_RX), (char)i++);
	}
	pthread_join(t, NULL);
}
