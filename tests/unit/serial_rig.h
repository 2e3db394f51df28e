/* The serial port for its tests: what it sends is kept, and its registers are driven as by a guest. */
#ifndef TESTS_UNIT_SERIAL_RIG_H
#define TESTS_UNIT_SERIAL_RIG_H
#include <criterion/criterion.h>
#include <linux/serial_reg.h>
#include <string.h>
#include <unistd.h>

#include "vmm/serial.h"

#define POLLS_SHADOW 32 /* polled writes after which the shadow page is entered */
#define IIR_ID       0x0f

static struct serial s;
static char sent[70000];
static size_t nsent;
static unsigned rooms;

static inline void on_send(void *opaque, const void *data, size_t len)
{
	(void)opaque;
	cr_assert_leq(nsent + len, sizeof(sent));
	memcpy(sent + nsent, data, len);
	nsent += len;
}

static inline void on_room(void *opaque)
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

static inline uint8_t in(unsigned reg)
{
	uint8_t v = 0xaa;

	s.pio.ops->read(&s.pio, reg, &v, 1);
	return v;
}

static inline void out(unsigned reg, unsigned v)
{
	uint8_t byte = (uint8_t)v;

	s.pio.ops->write(&s.pio, reg, &byte, 1);
}

static inline uint8_t min(unsigned reg)
{
	uint8_t v = 0xaa;

	s.mmio.ops->read(&s.mmio, reg, &v, 1);
	return v;
}

static inline void mout(unsigned reg, unsigned v)
{
	uint8_t byte = (uint8_t)v;

	s.mmio.ops->write(&s.mmio, reg, &byte, 1);
}

/* How often the interrupt line rose since last asked. */
static inline unsigned edges(void)
{
	uint64_t n;

	return read(s.irq_fd, &n, sizeof(n)) == sizeof(n) ? (unsigned)n : 0;
}

/* All that can be read now. */
static inline size_t drain(char *buf, size_t size)
{
	size_t n = 0;

	while (n < size && (in(UART_LSR)&UART_LSR_DR))
		buf[n++] = (char)in(UART_RX);
	return n;
}
#endif
