/* The serial port as drivers see it.  The probe is what Linux's drivers/tty/serial/8250/8250_port.c does,
 * register access by register access. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/serial.h"

#define POLLS_SHADOW 32 /* polled writes after which the shadow page is entered */
#define IIR_ID       0x0f

static struct serial s;
static char sent[70000];
static size_t nsent;
static unsigned rooms;

static void on_send(void *opaque, const void *data, size_t len)
{
	(void)opaque;
	cr_assert_leq(nsent + len, sizeof(sent));
	memcpy(sent + nsent, data, len);
	nsent += len;
}

static void on_room(void *opaque)
{
	(void)opaque;
	rooms++;
}

static void setup(void)
{
	cr_assert_eq(serial_init(&s, 0x3f8, 0xfe000000), 0);
	s.send = on_send;
	s.room = on_room;
	nsent = 0;
	rooms = 0;
}

static void teardown(void)
{
	serial_fini(&s);
}

TestSuite(serial, .init = setup, .fini = teardown, .timeout = 30);

static uint8_t in(unsigned reg)
{
	uint8_t v = 0xaa;

	s.pio.ops->read(&s.pio, reg, &v, 1);
	return v;
}

static void out(unsigned reg, unsigned v)
{
	uint8_t byte = (uint8_t)v;

	s.pio.ops->write(&s.pio, reg, &byte, 1);
}

static uint8_t min(unsigned reg)
{
	uint8_t v = 0xaa;

	s.mmio.ops->read(&s.mmio, reg, &v, 1);
	return v;
}

static void mout(unsigned reg, unsigned v)
{
	uint8_t byte = (uint8_t)v;

	s.mmio.ops->write(&s.mmio, reg, &byte, 1);
}

/* How often the interrupt line rose since last asked. */
static unsigned edges(void)
{
	uint64_t n;

	return read(s.irq_fd, &n, sizeof(n)) == sizeof(n) ? (unsigned)n : 0;
}

/* All that can be read now. */
static size_t drain(char *buf, size_t size)
{
	size_t n = 0;

	while (n < size && (in(UART_LSR)&UART_LSR_DR))
		buf[n++] = (char)in(UART_RX);
	return n;
}

/* --- Linux's probe, autoconfig() --- */

Test(serial, probe_ier)
{
	uint8_t ier = in(UART_IER), low, high;

	out(UART_IER, 0);
	low = in(UART_IER)&0x0f;
	out(UART_IER, 0x0f);
	high = in(UART_IER)&0x0f;
	out(UART_IER, ier);
	cr_expect_eq(low, 0);
	cr_expect_eq(high, 0x0f);
}

Test(serial, probe_ier_has_no_more_bits)
{
	out(UART_IER, 0xff);
	cr_expect_eq(in(UART_IER), 0x0f); /* bit 6 would make it an XScale port */
}

Test(serial, probe_loopback_modem_status)
{
	uint8_t mcr = in(UART_MCR);

	out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	cr_expect_eq(in(UART_MSR)&0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(UART_MCR, mcr);
}

Test(serial, loopback_wires_each_modem_line)
{
	static const uint8_t wires[][2] = {
		{UART_MCR_DTR, UART_MSR_DSR},
		{UART_MCR_RTS, UART_MSR_CTS},
		{UART_MCR_OUT1, UART_MSR_RI},
		{UART_MCR_OUT2, UART_MSR_DCD},
	};

	for (size_t i = 0; i < ARRAY_SIZE(wires); i++) {
		out(UART_MCR, UART_MCR_LOOP | wires[i][0]);
		cr_expect_eq(in(UART_MSR)&0xf0, wires[i][1], "line %zu", i);
	}
}

Test(serial, probe_efr_is_not_there)
{
	out(UART_LCR, UART_LCR_CONF_MODE_B);
	out(UART_EFR, 0);
	out(UART_LCR, 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_LCR, UART_LCR_CONF_MODE_A);
	cr_expect_neq(in(UART_EFR), 0); /* zero would lead to a 16650 */
	out(UART_LCR, UART_LCR_CONF_MODE_B);
	cr_expect_neq(in(UART_EFR), 0);
}

Test(serial, probe_fifo_is_a_16550a)
{
	out(UART_FCR, 0);
	cr_expect_eq(in(UART_IIR)&0xc0, 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	cr_expect_eq(in(UART_IIR)&0xc0, 0xc0);
}

Test(serial, probe_is_no_16750)
{
	uint8_t plain, dlab;

	out(UART_LCR, 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	plain = in(UART_IIR) >> 5;
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_LCR, UART_LCR_CONF_MODE_A);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	dlab = in(UART_IIR) >> 5;
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_LCR, 0);
	cr_expect_eq(plain, 6);
	cr_expect_eq(dlab, 6);
}

Test(serial, probe_is_no_national_semiconductor)
{
	uint8_t mcr, before, after;

	out(UART_LCR, 0);
	mcr = in(UART_MCR);
	out(UART_LCR, 0xe0);
	before = in(0x02);
	out(UART_LCR, 0);
	out(UART_MCR, mcr ^ UART_MCR_LOOP);
	out(UART_LCR, 0xe0);
	after = in(0x02);
	out(UART_LCR, 0);
	out(UART_MCR, mcr);
	cr_expect(((before ^ mcr) & UART_MCR_LOOP) || !((after ^ mcr) & UART_MCR_LOOP));
}

Test(serial, probe_fifo_size)
{
	unsigned n;

	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	for (unsigned i = 0; i < 256; i++)
		out(UART_TX, i);
	for (n = 0; (in(UART_LSR)&UART_LSR_DR) && n < 256; n++)
		cr_expect_eq(in(UART_RX), n);
	cr_expect_eq(n, 16);
	cr_expect_eq(nsent, 0, "loop-back must not reach the line");
}

Test(serial, probe_scratch)
{
	out(UART_SCR, 0x5a);
	cr_expect_eq(in(UART_SCR), 0x5a);
	out(UART_SCR, 0xa5);
	cr_expect_eq(in(UART_SCR), 0xa5);
}

/* serial8250_do_startup(): a port whose THRE interrupt does not come back is polled by a timer. */
Test(serial, startup_thre_test)
{
	uint8_t first, second;

	out(UART_IER, UART_IER_THRI);
	first = in(UART_IIR);
	out(UART_IER, 0);
	out(UART_IER, UART_IER_THRI);
	second = in(UART_IIR);
	out(UART_IER, 0);
	cr_expect(!(first & UART_IIR_NO_INT));
	cr_expect(!(second & UART_IIR_NO_INT));
}

Test(serial, startup_transmitter_test)
{
	out(UART_IER, UART_IER_THRI);
	cr_expect(in(UART_LSR)&UART_LSR_TEMT);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_THRI);
	out(UART_IER, 0);
}

Test(serial, startup_line_is_alive)
{
	cr_expect_neq(in(UART_LSR), 0xff);
	cr_expect_eq(in(UART_MSR)&0xf0, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_NO_INT);
}

/* --- sending --- */

Test(serial, what_is_written_is_sent_in_order)
{
	for (const char *p = "ttyS0"; *p; p++)
		out(UART_TX, (unsigned char)*p);
	cr_expect_eq(nsent, 5);
	cr_expect_arr_eq(sent, "ttyS0", 5);
}

Test(serial, transmitter_is_always_empty)
{
	for (unsigned i = 0; i < 100; i++) {
		out(UART_TX, i);
		cr_expect_eq(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	}
}

Test(serial, thre_interrupt_when_enabled)
{
	cr_expect_eq(edges(), 0);
	out(UART_IER, UART_IER_THRI);
	cr_expect_eq(edges(), 1);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_THRI);
}

Test(serial, thre_is_cleared_by_reading_iir)
{
	out(UART_IER, UART_IER_THRI);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_THRI);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_NO_INT);
	cr_expect(!s.line);
}

Test(serial, thre_is_not_cleared_by_reading_a_higher_cause)
{
	out(UART_IER, UART_IER_THRI | UART_IER_RDI);
	serial_receive(&s, "x", 1);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_RDI);
	cr_expect_eq(in(UART_RX), 'x');
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_THRI);
}

Test(serial, thre_comes_again_after_each_byte)
{
	out(UART_IER, UART_IER_THRI);
	edges();
	for (unsigned i = 0; i < 50; i++) {
		cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_THRI);
		out(UART_TX, i);
		cr_expect_eq(edges(), 1, "byte %u", i);
	}
}

Test(serial, thre_comes_again_though_iir_was_not_read)
{
	out(UART_IER, UART_IER_THRI);
	edges();
	out(UART_TX, 'a');
	cr_expect_eq(edges(), 1); /* full: it falls; empty: it rises */
	out(UART_TX, 'b');
	cr_expect_eq(edges(), 1);
}

Test(serial, no_interrupt_that_is_not_enabled)
{
	out(UART_TX, 'a');
	serial_receive(&s, "x", 1);
	serial_break(&s);
	cr_expect_eq(edges(), 0);
	cr_expect_eq(in(UART_IIR)&IIR_ID, UART_IIR_NO_INT);
}

Test(serial, thre_off_and_on_interrupts_again)
{
	for (unsigned i = 0; i < 10; i++) {
		out(UART_IER, UART_IER_THRI);
		cr_expect_eq(edges(), 1);
		in(UART_IIR);
		out(UART_IER, 0);
	}
}

/* --- receiving --- */

static void open_rx(void)
{
	out(UART_IER, UART_IER_RDI);
	edges();
}

Test(serial, received_bytes_interrupt)
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

Test(serial, every_byte_value_gets_through)
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

Test(serial, nothing_there_reads_as_zero)
{
	open_rx();
	cr_expect_eq(in(UART_RX), 0);
	cr_expect_eq(s.rx_len, 0);
}

Test(serial, input_is_held_until_interrupts_are_on)
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

Test(serial, input_is_held_until_lsr_is_polled)
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

Test(serial, polled_writes_do_not_open_the_input)
{
	serial_receive(&s, "x", 1);
	for (unsigned i = 0; i < 1000; i++) {
		cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
		out(UART_TX, 'k');
	}
}

/* serial8250_clear_fifos(), and what startup reads away after it */
Test(serial, startup_does_not_lose_piped_input)
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
Test(serial, termios_after_ier_does_not_lose_piped_input)
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
Test(serial, reopening_does_not_lose_piped_input)
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

Test(serial, back_pressure)
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

Test(serial, exactly_full_is_not_refused)
{
	static char big[SERIAL_RX_MAX];

	cr_expect_eq(serial_receive(&s, big, sizeof(big)), sizeof(big));
	open_rx();
	for (size_t i = 0; i < sizeof(big); i++)
		in(UART_RX);
	cr_expect_eq(rooms, 0);
}

Test(serial, a_long_stream_through_back_pressure)
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
Test(serial, room_is_told_of_however_the_input_went)
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

Test(serial, break_is_told_once_with_a_zero)
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

Test(serial, break_keeps_its_place)
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

Test(serial, break_into_a_full_buffer)
{
	static char big[SERIAL_RX_MAX];

	serial_receive(&s, big, sizeof(big));
	serial_break(&s);
	cr_expect_leq(s.rx_len, SERIAL_RX_MAX);
}

/* --- loop-back --- */

Test(serial, loopback_returns_what_was_written)
{
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'l');
	cr_expect_eq(nsent, 0);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, UART_LSR_DR);
	cr_expect_eq(in(UART_RX), 'l');
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
}

Test(serial, loopback_interrupts)
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

Test(serial, loopback_does_not_mix_with_outside_input)
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

Test(serial, what_went_round_is_gone_after_loopback)
{
	open_rx();
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'l');
	out(UART_MCR, 0);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
	out(UART_MCR, UART_MCR_LOOP);
	cr_expect_eq(in(UART_LSR)&UART_LSR_DR, 0);
}

Test(serial, clearing_the_fifo_in_loopback_clears_the_loop)
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

/* --- other registers --- */

Test(serial, divisor_latch)
{
	out(UART_LCR, UART_LCR_DLAB);
	out(UART_DLL, 0x34);
	out(UART_DLM, 0x12);
	cr_expect_eq(in(UART_DLL), 0x34);
	cr_expect_eq(in(UART_DLM), 0x12);
	out(UART_LCR, UART_LCR_WLEN8);
	cr_expect_eq(in(UART_LCR), UART_LCR_WLEN8);
	cr_expect_eq(nsent, 0, "DLL is not THR");
	cr_expect_eq(in(UART_IER), 0, "DLM is not IER");
	out(UART_LCR, UART_LCR_DLAB);
	cr_expect_eq(in(UART_DLL), 0x34);
	cr_expect_eq(in(UART_DLM), 0x12);
}

Test(serial, read_only_registers)
{
	uint8_t lsr = in(UART_LSR), msr = in(UART_MSR);

	out(UART_LSR, 0);
	out(UART_MSR, 0);
	cr_expect_eq(in(UART_LSR), lsr);
	cr_expect_eq(in(UART_MSR), msr);
}

Test(serial, mcr_has_five_bits)
{
	out(UART_MCR, 0xff);
	cr_expect_eq(in(UART_MCR), 0x1f);
}

Test(serial, both_windows_show_the_same_registers)
{
	mout(UART_SCR, 0x77);
	cr_expect_eq(in(UART_SCR), 0x77);
	out(UART_LCR, UART_LCR_WLEN8);
	cr_expect_eq(min(UART_LCR), UART_LCR_WLEN8);
	mout(UART_TX, 'm');
	cr_expect_eq(nsent, 1);
}

Test(serial, behind_the_registers_is_nothing)
{
	for (unsigned off = 8; off < 4096; off++) {
		mout(off, 0);
		cr_assert_eq(min(off), 0xff, "offset %u", off);
	}
}

Test(serial, every_width_at_every_offset)
{
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned off = 0; off + len <= 4096; off += off < 32 ? 1 : 61) {
			uint8_t data[8] = {0};

			s.mmio.ops->read(&s.mmio, off, data, len);
			for (unsigned i = 0; i < len; i++)
				cr_assert(off + i < 8 || data[i] == 0xff);
			memset(data, 0, sizeof(data));
			s.mmio.ops->write(&s.mmio, off, data, len);
			if (off + len <= s.pio.size) {
				s.pio.ops->read(&s.pio, off, data, len);
				s.pio.ops->write(&s.pio, off, data, len);
			}
		}
	out(UART_LCR, 0);
	cr_expect_eq(in(UART_LSR)&UART_LSR_THRE, UART_LSR_THRE);
}

Test(serial, wide_accesses_are_registers_in_a_row)
{
	const uint32_t v = 0x03000041; /* THR 'A', IER 0, FCR 0, LCR 3 */
	uint32_t back;

	s.pio.ops->write(&s.pio, 0, &v, 4);
	cr_expect_eq(nsent, 1);
	cr_expect_eq(sent[0], 'A');
	cr_expect_eq(in(UART_LCR), 3);
	out(UART_SCR, 0x99);
	s.pio.ops->read(&s.pio, 4, &back, 4);
	cr_expect_eq(back >> 24, 0x99);
	cr_expect_eq(back >> 8 & 0xff, UART_LSR_THRE | UART_LSR_TEMT);
}

Test(serial, random_accesses_do_no_harm)
{
	srandom(1);
	for (unsigned i = 0; i < 200000; i++) {
		unsigned reg = (unsigned)random() & 7, v = (unsigned)random() & 0xff;

		nsent = 0;
		switch (random() % 5) {
		case 0:
			out(reg, v);
			break;
		case 1:
			mout(reg, v);
			break;
		case 2:
			serial_receive(&s, sent, v);
			break;
		case 3:
			if (v < 4)
				serial_break(&s);
			break;
		default:
			in(reg);
			break;
		}
		cr_assert_leq(s.rx_len, SERIAL_RX_MAX);
		cr_assert_lt(s.rx_head, SERIAL_RX_MAX);
		cr_assert_leq(s.loop_len, 16);
	}
}

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

Test(serial, shadow_after_polled_writes)
{
	with_shadow(0);
	polled_writes(POLLS_SHADOW - 1);
	cr_expect_eq(fake.nset, 0);
	polled_writes(1);
	cr_expect(fake.on);
	cr_expect_eq(s.shadow_count, 1);
}

Test(serial, shadow_not_for_ports)
{
	with_shadow(0);
	for (unsigned i = 0; i < 1000; i++) {
		out(UART_TX, 'p');
		in(UART_LSR);
	}
	cr_expect_eq(fake.nset, 0);
}

Test(serial, shadow_not_with_interrupts_on)
{
	with_shadow(0);
	out(UART_IER, UART_IER_RDI);
	polled_writes(1000);
	cr_expect_eq(fake.nset, 0);
}

Test(serial, shadow_not_in_loopback)
{
	with_shadow(0);
	out(UART_MCR, UART_MCR_LOOP);
	polled_writes(1000);
	cr_expect_eq(fake.nset, 0);
}

Test(serial, shadow_not_for_idle_polls)
{
	with_shadow(0);
	for (unsigned i = 0; i < 1000; i++)
		min(UART_LSR);
	cr_expect_eq(fake.nset, 0);
}

Test(serial, shadow_wants_the_writes_in_a_row)
{
	with_shadow(0);
	for (unsigned i = 0; i < 10; i++) {
		polled_writes(POLLS_SHADOW - 1);
		min(UART_LSR); /* a second look: somebody who waits for something */
	}
	cr_expect_eq(fake.nset, 0);
}

/* With DLAB set the first two registers are the divisor: the page would not say so. */
Test(serial, shadow_not_while_the_divisor_shows)
{
	with_shadow(0);
	polled_writes(POLLS_SHADOW - 1);
	mout(UART_TX, 'p');
	mout(UART_LCR, UART_LCR_DLAB);
	min(UART_LSR);
	cr_expect(!fake.on || fake.page[UART_DLL] == s.dll);
}

Test(serial, shadow_page_shows_the_registers)
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

Test(serial, shadow_page_without_fifo)
{
	enter();
	cr_expect_eq(fake.page[UART_IIR], UART_IIR_NO_INT);
}

Test(serial, shadow_stays_for_thr_and_interrupts_off)
{
	enter();
	nsent = 0;
	mout(UART_TX, 'q');
	mout(UART_IER, 0);
	cr_expect(fake.on);
	cr_expect_eq(nsent, 1);
}

Test(serial, shadow_is_entered_only_once)
{
	enter();
	polled_writes(100); /* reads that were on their way out of the guest */
	cr_expect_eq(fake.twice, 0);
	cr_expect_eq(s.shadow_count, 1);
}

Test(serial, shadow_ends_with_any_other_write)
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

Test(serial, shadow_ends_with_interrupts_on)
{
	enter();
	mout(UART_IER, UART_IER_THRI);
	cr_expect(!fake.on);
	cr_expect_eq(min(UART_IER), UART_IER_THRI);
}

Test(serial, shadow_ends_with_a_write_to_the_other_window)
{
	enter();
	out(UART_LCR, UART_LCR_WLEN8);
	cr_expect(!fake.on);
}

Test(serial, shadow_ends_with_a_break)
{
	enter();
	serial_break(&s);
	cr_expect(!fake.on);
}

/* A monitor or kdb that prints its prompt byte by byte and then polls LSR for the answer never leaves
 * the guest while the page is on: somebody has to take it away when there is input. */
Test(serial, shadow_does_not_hide_input_from_a_poller)
{
	bool found = false;

	enter();
	serial_receive(&s, "y", 1);
	serial_quiet(&s);
	for (unsigned i = 0; !found && i < 1000; i++)
		found = ((fake.on ? fake.page[UART_LSR] : min(UART_LSR)) & UART_LSR_DR) != 0;
	cr_expect(found);
}

Test(serial, shadow_comes_again)
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

Test(serial, shadow_refused_is_never_tried_again)
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

Test(serial, shadow_ends_with_the_port)
{
	enter();
	serial_fini(&s);
	cr_expect(!fake.on);
	cr_assert_eq(serial_init(&s, 0x3f8, 0), 0); /* for teardown */
}

Test(serial, closes_its_eventfd)
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

Test(serial, input_from_another_thread)
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
Test(serial, no_interrupt_is_lost)
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
