/* The serial port as drivers see it.  The probe is what Linux's drivers/tty/serial/8250/8250_port.c does,
 * register access by register access. */
#include <criterion/criterion.h>

#include "lib/cleanup.h"
#include "tests/unit/serial_rig.h"

TestSuite(serial, .init = setup, .fini = teardown, .timeout = 30);

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
