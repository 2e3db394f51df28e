/* The 16550 as Linux's 8250 driver tries it, its interrupt, and input: not a byte lost while the guest
 * reads.  The other end waits for the line "ready", then sends COUNT bytes: 'A' + i % 23. */
#include "lib/bare.h"

#define VECTOR 0x44
#define COUNT  6000u

#define REG(n) ((uint16_t)(LAYOUT_COM1 + (n)))
#define RBR    REG(0)
#define THR    REG(0)
#define IER    REG(1)
#define IIR    REG(2)
#define FCR    REG(2)
#define LCR    REG(3)
#define MCR    REG(4)
#define LSR    REG(5)
#define MSR    REG(6)
#define SCR    REG(7)

static volatile unsigned interrupts, from_pic;

static void on_serial(struct frame *f)
{
	(void)f;
	interrupts++;
	eoi();
}

/* ACPI calls this machine hardware-reduced, so no kernel sets up the 8259s; whatever they pass on to
 * LINT0 has the vector that they start with, which is an exception's. */
static void on_pic(struct frame *f)
{
	(void)f;
	from_pic++;
	outb(0x21, 0xff);
}

/* drivers/tty/serial/8250/8250_port.c, autoconfig() and what follows it */
static void probe(void)
{
	uint8_t looped[5];

	outb(IER, 0);
	CHECK_EQ(inb(IER), 0);
	outb(IER, 0x0f);
	CHECK_EQ(inb(IER), 0x0f);
	outb(IER, 0);

	outb(SCR, 0x5a);
	CHECK_EQ(inb(SCR), 0x5a);
	outb(SCR, 0xa5);
	CHECK_EQ(inb(SCR), 0xa5);

	/* What is printed in the loop is lost, so the verdict comes after it. */
	outb(MCR, 0x10 | 0x0a); /* OUT2 and RTS: DCD and CTS */
	looped[0] = inb(MSR) & 0xf0;
	outb(MCR, 0x10 | 0x05); /* OUT1 and DTR: RI and DSR */
	looped[1] = inb(MSR) & 0xf0;
	outb(THR, 0x3c);
	looped[2] = inb(LSR) & 1;
	looped[3] = inb(RBR);
	looped[4] = inb(LSR) & 1;
	outb(MCR, 0x0b);
	CHECK_EQ(looped[0], 0x90);
	CHECK_EQ(looped[1], 0x60);
	CHECK_EQ(looped[2], 1);
	CHECK_EQ(looped[3], 0x3c);
	CHECK_EQ(looped[4], 0);
	/* Outside of the loop: a line that is connected */
	CHECK_EQ(inb(MSR) & 0xb0, 0xb0);

	outb(FCR, 0);
	CHECK_EQ(inb(IIR) & 0xc0, 0);
	outb(FCR, 1);
	CHECK_EQ(inb(IIR) & 0xc0, 0xc0); /* a 16550A */
	/* With DLAB on FCR and IIR stay what they are: not an EFR, so no 16650 or later. */
	outb(LCR, 0xbf);
	CHECK_EQ(inb(LCR), 0xbf);
	outb(LCR, 0x80);
	outb(REG(0), 0x0c);
	outb(REG(1), 0x01);
	CHECK_EQ(inb(REG(0)), 0x0c);
	CHECK_EQ(inb(REG(1)), 0x01);
	outb(REG(1), 0);
	outb(LCR, 0x03);
	CHECK_EQ(inb(IER), 0);
	CHECK_EQ(inb(LSR) & 0x60, 0x60);
}

static void transmit_interrupt(void)
{
	on_vector(VECTOR, on_serial);
	on_vector(LAYOUT_GSI_COM1, on_pic);
	lapic_on();
	ioapic_pin(LAYOUT_GSI_COM1, VECTOR, false, false);

	CHECK_EQ(inb(IIR) & 0x0f, 0x01);
	outb(IER, 0x02);
	CHECK(wait_for(&interrupts, 1, 1000));
	CHECK(!wait_for(&interrupts, 2, 20));
	CHECK_EQ(inb(IIR) & 0x0f, 0x02);
	CHECK_EQ(inb(IIR) & 0x0f, 0x01);
	/* Sent at once: empty again, one more */
	outb(THR, '#');
	CHECK(wait_for(&interrupts, 2, 1000));
	CHECK_EQ(inb(IIR) & 0x0f, 0x02);
	/* Off and on raises it again, which Linux tests as "THRE bug". */
	outb(IER, 0);
	CHECK_EQ(inb(IIR) & 0x0f, 0x01);
	outb(IER, 0x02);
	CHECK_EQ(inb(IIR) & 0x01, 0);
	CHECK(wait_for(&interrupts, 3, 1000));
	(void)inb(IIR);
	outb(IER, 0);
	outb(THR, '\n');
	CHECK(!wait_for(&interrupts, 4, 20));
}

static unsigned received;

static void take(void)
{
	uint8_t c = inb(RBR), want = (uint8_t)('A' + received % 23);

	if (c != want)
		FAIL("byte %u is 0x%02x, expected 0x%02x", received, c, want);
	received++;
}

static bool wait_ready(unsigned ms)
{
	uint64_t end = rdtsc() + tsc_khz() * ms;

	while (rdtsc() < end) {
		uint8_t lsr = inb(LSR);

		CHECK_EQ(lsr & 0x1e, 0); /* overrun, parity, framing, break */
		if (lsr & 1)
			return true;
	}
	return false;
}

static void receive(void)
{
	outb(FCR, 0x07); /* on, both cleared */
	print("ready\n");
	while (received < COUNT / 3) {
		if (!wait_ready(2000)) {
			FAIL("no byte %u while polling", received);
			return;
		}
		take();
	}

	/* More arrives than a FIFO holds while nobody looks. */
	delay_us(50000);
	interrupts = 0;
	outb(FCR, 0x81); /* trigger level 8 */
	outb(IER, 0x05);
	while (received < COUNT) {
		uint8_t iir;

		if (!wait_for(&interrupts, 1, 2000)) {
			FAIL("no interrupt for byte %u", received);
			break;
		}
		interrupts = 0;
		iir = inb(IIR) & 0x0f;
		/* Received data or character timeout; an edge may also find its data taken already. */
		CHECK(iir == 0x04 || iir == 0x0c || iir == 0x01);
		while (inb(LSR) & 1)
			take();
	}
	CHECK_EQ(received, COUNT);
	CHECK_EQ(inb(LSR) & 0x1f, 0);
	CHECK_EQ(inb(IIR) & 0x0f, 0x01);
	outb(IER, 0);
}

int main(void)
{
	probe();
	transmit_interrupt();
	receive();
	if (from_pic)
		FAIL("vector %u: IRQ 4 through a PIC that nobody has set up", LAYOUT_GSI_COM1);
	return 0;
}
