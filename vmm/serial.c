/* Theory of operation.
 *
 * The interrupt line is the 16550's: high while an enabled cause is pending.  Its rising edge writes
 * irq_fd, which an irqfd carries to the IOAPIC.
 *
 * Input waits outside until the driver can take it: a driver that starts up clears the FIFO and reads
 * RBR to be rid of noise, and a pipe's first bytes would be that noise.  "Can take it" means receive
 * interrupts are on, or LSR is being polled for nothing else.
 *
 * The shadow page: Linux's kernel log on a serial console is "wait for LSR.THRE, write THR" for every
 * byte, until user space opens the tty.  A transmitter that is always empty has nothing to tell, so
 * once that pattern is seen (on the MMIO side, with all interrupts off) LSR moves into a page the guest
 * reads by itself, and writes to THR queue up.  Any other write leaves the guest and ends it, but for
 * IER = 0: Linux turns interrupts off around each message, and a probe that turns them on reads back. */
#include "vmm/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"

#define SERIAL_BREAK         0x100u
#define LSR_POLLS_OPEN       16 /* so many reads of LSR alone: the driver polls for input */
#define CONSOLE_POLLS_SHADOW 32u
#define LSR_IDLE             (UART_LSR_THRE | UART_LSR_TEMT)
#define MSR_CONNECTED        (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

static bool looped(const struct serial *s)
{
	return s->mcr & UART_MCR_LOOP;
}

static bool rx_open(const struct serial *s)
{
	return (s->ier & UART_IER_RDI) || s->lsr_polls >= LSR_POLLS_OPEN;
}

static bool rx_ready(const struct serial *s)
{
	return looped(s) ? s->loop_len : s->rx_len && rx_open(s);
}

static uint8_t lsr(const struct serial *s)
{
	uint8_t v = LSR_IDLE;

	if (rx_ready(s)) {
		v |= UART_LSR_DR;
		if (!looped(s) && s->rx[s->rx_head] == SERIAL_BREAK)
			v |= UART_LSR_BI;
	}
	return v;
}

/* The highest pending cause that is enabled. */
static uint8_t iir_cause(const struct serial *s)
{
	uint8_t status = lsr(s);

	if ((s->ier & UART_IER_RLSI) && (status & UART_LSR_BRK_ERROR_BITS))
		return UART_IIR_RLSI;
	if ((s->ier & UART_IER_RDI) && (status & UART_LSR_DR))
		return UART_IIR_RDI;
	if ((s->ier & UART_IER_THRI) && s->thr_interrupt)
		return UART_IIR_THRI;
	if ((s->ier & UART_IER_MSI) && (s->msr & UART_MSR_ANY_DELTA))
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

static void update_line(struct serial *s)
{
	const uint64_t one = 1;
	bool line = iir_cause(s) != UART_IIR_NO_INT;

	if (line && !s->line && write(s->irq_fd, &one, sizeof(one)) < 0)
		line = false; /* cannot happen: the counter is emptied by the irqfd */
	s->line = line;
}

static void shadow_leave(struct serial *s)
{
	s->console_polls = 0;
	if (!s->shadowed)
		return;
	s->shadow->set(s->shadow, false);
	s->shadowed = false;
}

static void shadow_enter(struct serial *s)
{
	uint8_t *r = s->shadow->page;

	memset(r, 0xff, 4096);
	r[UART_RX] = 0;
	r[UART_IER] = 0;
	r[UART_IIR] = UART_IIR_NO_INT | ((s->fcr & UART_FCR_ENABLE_FIFO) ? 0xc0 : 0);
	r[UART_LCR] = s->lcr;
	r[UART_MCR] = s->mcr;
	r[UART_LSR] = LSR_IDLE;
	r[UART_MSR] = s->msr;
	r[UART_SCR] = s->scr;
	s->shadowed = !s->shadow->set(s->shadow, true);
	if (s->shadowed)
		s->shadow_count++;
	else
		s->shadow = NULL; /* refused once is refused for good */
}

static void rx_push(struct serial *s, uint16_t c)
{
	s->rx[(s->rx_head + s->rx_len++) % SERIAL_RX_MAX] = c;
}

static void tell_room(struct serial *s)
{
	if (!s->rx_refused || s->rx_len >= SERIAL_RX_MAX / 2)
		return;
	s->rx_refused = false;
	if (s->room)
		s->room(s->opaque);
}

static uint8_t rx_pop(struct serial *s)
{
	uint16_t c;

	if (!rx_ready(s))
		return 0;
	if (looped(s)) {
		c = s->loop[0];
		memmove(s->loop, s->loop + 1, --s->loop_len);
		return (uint8_t)c;
	}
	c = s->rx[s->rx_head];
	s->rx_head = (s->rx_head + 1) % SERIAL_RX_MAX;
	s->rx_len--;
	s->rx_told &= s->rx_len > 0;
	tell_room(s);
	return (uint8_t)c;
}

static uint8_t msr(const struct serial *s)
{
	uint8_t v = 0;

	if (!looped(s))
		return s->msr;
	v |= (s->mcr & UART_MCR_RTS) ? UART_MSR_CTS : 0;
	v |= (s->mcr & UART_MCR_DTR) ? UART_MSR_DSR : 0;
	v |= (s->mcr & UART_MCR_OUT1) ? UART_MSR_RI : 0;
	v |= (s->mcr & UART_MCR_OUT2) ? UART_MSR_DCD : 0;
	return v;
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t cause = iir_cause(s);

	if (cause == UART_IIR_THRI) {
		s->thr_interrupt = false;
		update_line(s);
	}
	return cause | ((s->fcr & UART_FCR_ENABLE_FIFO) ? 0xc0 : 0);
}

static uint8_t read_lsr(struct serial *s, bool mmio)
{
	uint8_t v;

	s->lsr_polls++;
	if (s->wrote_thr && mmio && !s->ier && !looped(s) && s->shadow && !s->shadowed &&
	    !(s->lcr & UART_LCR_DLAB)) {
		/* A slot that goes costs the guest all its mappings: each time it must be longer worth it. */
		if (++s->console_polls >= CONSOLE_POLLS_SHADOW << (s->shadow_count < 10 ? s->shadow_count : 10))
			shadow_enter(s);
	} else {
		s->console_polls = 0;
	}
	s->wrote_thr = false;
	v = lsr(s);
	s->rx_told |= (v & UART_LSR_DR) && !looped(s);
	if (v & UART_LSR_BI) { /* the break is told of once; its byte, a zero, stays */
		s->rx[s->rx_head] = 0;
		update_line(s);
	}
	return v;
}

static uint8_t read_register(struct serial *s, unsigned reg, bool mmio)
{
	uint8_t v;

	if (reg != UART_LSR)
		s->lsr_polls = rx_open(s) && reg == UART_RX ? s->lsr_polls : 0;
	if ((s->lcr & UART_LCR_DLAB) && reg <= UART_DLM)
		return reg == UART_DLL ? s->dll : s->dlm;
	switch (reg) {
	case UART_RX:
		v = rx_pop(s);
		update_line(s);
		return v;
	case UART_IER:
		return s->ier;
	case UART_IIR:
		return read_iir(s);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return read_lsr(s, mmio);
	case UART_MSR:
		v = msr(s);
		s->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
		update_line(s);
		return v;
	default:
		return s->scr;
	}
}

static void write_thr(struct serial *s, uint8_t v)
{
	if (looped(s)) {
		if (s->loop_len < sizeof(s->loop))
			s->loop[s->loop_len++] = v;
	} else if (s->send) {
		s->send(s->opaque, &v, 1);
	}
	/* Full and empty again: the line falls and rises. */
	if (s->ier & UART_IER_THRI) {
		s->thr_interrupt = false;
		update_line(s);
		s->thr_interrupt = true;
	}
	s->wrote_thr = true;
	update_line(s);
}

static void write_ier(struct serial *s, uint8_t v)
{
	uint8_t risen = (uint8_t)(v & ~s->ier);

	if (v)
		shadow_leave(s);
	s->ier = v & 0x0f;
	if (risen & UART_IER_THRI)
		s->thr_interrupt = true;
	update_line(s);
}

static void write_fcr(struct serial *s, uint8_t v)
{
	if (looped(s) && (v & UART_FCR_CLEAR_RCVR))
		s->loop_len = 0;
	/* What the driver has not been told of is still on the line, not in the FIFO. */
	if (((v & UART_FCR_CLEAR_RCVR) || (v ^ s->fcr) & UART_FCR_ENABLE_FIFO) && s->rx_told) {
		unsigned n = s->rx_len < 16 ? s->rx_len : 16;

		s->rx_head = (s->rx_head + n) % SERIAL_RX_MAX;
		s->rx_len -= n;
		s->rx_told = false;
		tell_room(s);
	}
	s->fcr = v & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
	update_line(s);
}

static void write_mcr(struct serial *s, uint8_t v)
{
	s->mcr = v & 0x1f;
	if (!looped(s))
		s->loop_len = 0;
	update_line(s);
}

static void write_register(struct serial *s, unsigned reg, uint8_t v)
{
	s->lsr_polls = 0;
	if (s->shadowed && reg > UART_IER)
		shadow_leave(s);
	if ((s->lcr & UART_LCR_DLAB) && reg <= UART_DLM) {
		*(reg == UART_DLL ? &s->dll : &s->dlm) = v;
		return;
	}
	switch (reg) {
	case UART_TX:
		write_thr(s, v);
		break;
	case UART_IER:
		write_ier(s, v);
		break;
	case UART_FCR:
		write_fcr(s, v);
		break;
	case UART_LCR:
		s->lcr = v;
		break;
	case UART_MCR:
		write_mcr(s, v);
		break;
	case UART_SCR:
		s->scr = v;
		break;
	default: /* LSR and MSR: read only */
		break;
	}
}

static void access_read(struct serial *s, uint64_t off, void *data, unsigned len, bool mmio)
{
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++)
		((uint8_t *)data)[i] = off + i < 8 ? read_register(s, (unsigned)off + i, mmio) : 0xff;
	pthread_mutex_unlock(&s->lock);
}

static void access_write(struct serial *s, uint64_t off, const void *data, unsigned len)
{
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++)
		if (off + i < 8)
			write_register(s, (unsigned)off + i, ((const uint8_t *)data)[i]);
	pthread_mutex_unlock(&s->lock);
}

static void pio_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	access_read(container_of(r, struct serial, pio), off, data, len, false);
}

static void pio_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	access_write(container_of(r, struct serial, pio), off, data, len);
}

static void mmio_read(struct bus_range *r, uint64_t off, void *data, unsigned len)
{
	access_read(container_of(r, struct serial, mmio), off, data, len, true);
}

static void mmio_write(struct bus_range *r, uint64_t off, const void *data, unsigned len)
{
	access_write(container_of(r, struct serial, mmio), off, data, len);
}

int serial_init(struct serial *s, uint64_t port, uint64_t mmio)
{
	static const struct bus_ops pio_ops = {.read = pio_read, .write = pio_write};
	static const struct bus_ops mmio_ops = {.read = mmio_read, .write = mmio_write};

	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
	s->pio = (struct bus_range){.name = "serial", .base = port, .size = 8, .ops = &pio_ops};
	s->mmio = (struct bus_range){.name = "serial", .base = mmio, .size = 0x1000, .ops = &mmio_ops};
	s->msr = MSR_CONNECTED;
	s->mcr = UART_MCR_OUT2;
	s->dll = 12; /* 9600 baud */
	s->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->irq_fd < 0 ? -errno : 0;
}

void serial_fini(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	shadow_leave(s);
	pthread_mutex_unlock(&s->lock);
	if (s->irq_fd >= 0)
		close(s->irq_fd);
	pthread_mutex_destroy(&s->lock);
}

size_t serial_receive(struct serial *s, const void *data, size_t len)
{
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	while (n < len && s->rx_len < SERIAL_RX_MAX)
		rx_push(s, ((const uint8_t *)data)[n++]);
	s->rx_refused |= n < len;
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

void serial_quiet(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->rx_len)
		shadow_leave(s);
	pthread_mutex_unlock(&s->lock);
}

void serial_break(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	shadow_leave(s);
	if (s->rx_len < SERIAL_RX_MAX)
		rx_push(s, SERIAL_BREAK);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}
