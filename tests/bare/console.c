/* Output as a kernel's console does it: interrupts off, wait for the transmitter, one byte; or, with
 * poll=0, as fast as it goes.  Every byte arrives in order.  Line i of 64 bytes: 8 digits of i, then
 * letters from 'A' + i % 26 on. */
#include "lib/bare.h"

#define IER 1
#define LSR 5

static bool mmio, poll;

static uint8_t reg_read(unsigned reg)
{
	return mmio ? read8(LAYOUT_UART_MMIO + reg) : inb((uint16_t)(LAYOUT_COM1 + reg));
}

static void reg_write(unsigned reg, uint8_t v)
{
	if (mmio)
		write8(LAYOUT_UART_MMIO + reg, v);
	else
		outb((uint16_t)(LAYOUT_COM1 + reg), v);
}

static void wait_empty(void)
{
	while (poll && (reg_read(LSR) & 0x60) != 0x60)
		pause();
}

int main(void)
{
	unsigned lines = (unsigned)option("lines", 1024);

	mmio = option_is("via", "mmio");
	poll = option("poll", 1);
	for (unsigned i = 0; i < lines; i++) {
		uint8_t line[64];

		for (unsigned k = 0, v = i; k < 8; k++, v /= 10)
			line[7 - k] = (uint8_t)('0' + v % 10);
		for (unsigned k = 8; k < 63; k++)
			line[k] = (uint8_t)('A' + (i + k - 8) % 26);
		line[63] = '\n';
		if (poll)
			reg_write(IER, 0);
		for (unsigned k = 0; k < 64; k++) {
			wait_empty();
			reg_write(0, line[k]);
		}
		wait_empty();
		if (poll)
			reg_write(IER, 0);
	}
	return 0;
}
