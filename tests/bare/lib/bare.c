#include "lib/bare.h"

#include <stdarg.h>

#define COM1_LSR (LAYOUT_COM1 + 5)
#define LSR_THRE 0x20u

unsigned bare_failures;

/* --- output --- */

static void put(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		/* The FIFO takes 16 once it is empty. */
		if (i % 16 == 0)
			for (unsigned n = 0; n < 100000 && !(inb(COM1_LSR) & LSR_THRE); n++)
				;
		outb(LAYOUT_COM1, (uint8_t)s[i]);
	}
}

struct buffer {
	char text[256];
	size_t len;
};

static void add(struct buffer *b, char c)
{
	if (b->len < sizeof(b->text))
		b->text[b->len++] = c;
}

static void add_number(struct buffer *b, uint64_t v, unsigned base, unsigned width, char pad)
{
	char digits[24];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	for (unsigned i = n; i < width; i++)
		add(b, pad);
	while (n)
		add(b, digits[--n]);
}

static void format(struct buffer *b, const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		unsigned width = 0, longs = 0;
		char pad = ' ';
		uint64_t v;
		const char *s;

		if (*fmt != '%') {
			add(b, *fmt);
			continue;
		}
		fmt++;
		if (*fmt == '0')
			pad = *fmt++;
		while (*fmt >= '0' && *fmt <= '9')
			width = width * 10 + (unsigned)(*fmt++ - '0');
		while (*fmt == 'l') {
			longs++;
			fmt++;
		}
		switch (*fmt) {
		case 's':
			for (s = va_arg(ap, const char *); *s; s++)
				add(b, *s);
			break;
		case 'c':
			add(b, (char)va_arg(ap, int));
			break;
		case 'd':
		case 'u':
		case 'x':
			v = longs ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);
			if (*fmt == 'd' && (longs ? (int64_t)v : (int)v) < 0) {
				add(b, '-');
				v = longs ? -v : (unsigned)-(int)v;
			}
			add_number(b, v, *fmt == 'x' ? 16 : 10, width, pad);
			break;
		default:
			add(b, *fmt);
			break;
		}
	}
}

void print(const char *fmt, ...)
{
	struct buffer b = {.len = 0};
	va_list ap;

	va_start(ap, fmt);
	format(&b, fmt, ap);
	va_end(ap);
	put(b.text, b.len);
}

void bare_failed(const char *file, int line, const char *fmt, ...)
{
	struct buffer b = {.len = 0};
	va_list ap;

	/* A loop that fails says so a few times, not a few thousand. */
	if (++bare_failures > 8)
		return;
	va_start(ap, fmt);
	format(&b, fmt, ap);
	va_end(ap);
	print("not ok %s:%d: ", file, line);
	put(b.text, b.len);
	put("\n", 1);
}

void finish(void)
{
	outl(LAYOUT_DEBUG_EXIT, bare_failures ? 1 : 0);
	print("not ok: the VM lives on after a write to the debug exit port\n");
	for (;;)
		pause();
}

/* --- start --- */

extern uint8_t stubs[], ring0_gate[];
extern struct {
	uint16_t offset0, selector, flags, offset1;
	uint32_t offset2, reserved;
} idt[256];

static void (*handlers[256])(struct frame *frame);
static struct frame *gate_frame;

void bare_interrupt(struct frame *f);
void bare_start(void);

void bare_interrupt(struct frame *f)
{
	uint64_t cr2;

	if (f->vector == 6 && f->rip == (uint64_t)ring0_gate) {
		gate_frame = f;
		f->rax = ((uint64_t(*)(uint64_t))f->rdi)(f->rsi);
		f->rip += 2;
		return;
	}
	if (handlers[f->vector]) {
		handlers[f->vector](f);
		return;
	}
	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	bare_failed("exception", (int)f->vector,
		    "error 0x%lx rip 0x%lx cs 0x%lx rflags 0x%lx rsp 0x%lx cr2 0x%lx", f->error, f->rip, f->cs,
		    f->rflags, f->rsp, cr2);
	finish();
}

void on_vector(uint8_t vector, void (*fn)(struct frame *frame))
{
	handlers[vector] = fn;
}

void bare_start(void)
{
	for (unsigned i = 0; i < 256; i++) {
		uintptr_t stub = (uintptr_t)stubs + i * 16;

		idt[i].offset0 = (uint16_t)stub;
		idt[i].selector = 0x10;
		idt[i].flags = 0x8e00;
		idt[i].offset1 = (uint16_t)(stub >> 16);
	}
	main();
	finish();
}

/* --- command line --- */

static const char *find_option(const char *name)
{
	const char *p = (const char *)start_info->cmdline_paddr;

	for (; p && *p; p++) {
		size_t n = 0;

		while (name[n] && p[n] == name[n])
			n++;
		if (!name[n] && p[n] == '=' && (p == (const char *)start_info->cmdline_paddr || p[-1] == ' '))
			return p + n + 1;
	}
	return NULL;
}

uint64_t option(const char *name, uint64_t missing)
{
	const char *p = find_option(name);
	uint64_t v = 0;

	if (!p)
		return missing;
	while (*p >= '0' && *p <= '9')
		v = v * 10 + (uint64_t)(*p++ - '0');
	return v;
}

bool option_is(const char *name, const char *value)
{
	const char *p = find_option(name);

	while (p && *value && *p == *value) {
		p++;
		value++;
	}
	return p && !*value && (*p == ' ' || *p == '\0');
}

/* --- ACPI --- */

uint8_t sum_bytes(const void *p, size_t len)
{
	const uint8_t *b = p;
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *b++);
	return sum;
}

const struct acpi_header *acpi_table(const char *signature)
{
	const struct {
		char signature[8];
		uint8_t checksum;
		char oem_id[6];
		uint8_t revision;
		uint32_t rsdt, length;
		uint64_t xsdt;
	} __attribute__((packed)) *rsdp = (const void *)start_info->rsdp_paddr;
	const struct acpi_header *xsdt;

	if (!rsdp || rsdp->revision < 2)
		return NULL;
	xsdt = (const void *)rsdp->xsdt;
	for (size_t i = 0; i < (xsdt->length - sizeof(*xsdt)) / 8; i++) {
		uint64_t at;

		__builtin_memcpy(&at, (const char *)(xsdt + 1) + i * 8, 8);
		if (*(const uint32_t *)at == *(const uint32_t *)signature)
			return (const void *)at;
	}
	return NULL;
}

/* --- CPU --- */

static uint64_t interrupts0(uint64_t on)
{
	gate_frame->rflags = (gate_frame->rflags & ~0x200ul) | (on ? 0x200 : 0);
	return 0;
}

void sti(void)
{
	ring0(interrupts0, 1);
}

void cli(void)
{
	ring0(interrupts0, 0);
}

static uint64_t rdmsr0(uint64_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"((uint32_t)msr));
	return (uint64_t)hi << 32 | lo;
}

struct msr_value {
	uint32_t msr;
	uint64_t value;
};

static uint64_t wrmsr0(uint64_t arg)
{
	const struct msr_value *m = (const void *)arg;

	__asm__ volatile("wrmsr" ::"a"((uint32_t)m->value), "d"((uint32_t)(m->value >> 32)), "c"(m->msr)
			 : "memory");
	return 0;
}

uint64_t rdmsr(uint32_t msr)
{
	return ring0(rdmsr0, msr);
}

void wrmsr(uint32_t msr, uint64_t value)
{
	const struct msr_value m = {msr, value};

	ring0(wrmsr0, (uint64_t)&m);
}

/* Both clocks at one moment: the closest of a few tries, since the host may do other things between. */
static void two_clocks(uint32_t *left, uint64_t *tsc)
{
	uint64_t best = ~0ul;

	*left = 0;
	*tsc = 0;
	for (unsigned i = 0; i < 8; i++) {
		uint64_t before = rdtsc(), after;
		uint32_t v = lapic_read(LAPIC_TCCR);

		after = rdtsc();
		if (after - before >= best)
			continue;
		best = after - before;
		*left = v;
		*tsc = before + best / 2;
	}
}

uint64_t tsc_khz(void)
{
	static uint64_t khz;
	uint64_t tsc0, tsc1;
	uint32_t left0, left1;

	if (khz)
		return khz;
	lapic_on();
	lapic_write(LAPIC_TDCR, 0xb);
	lapic_write(LAPIC_TIMER, 0x10000);
	lapic_write(LAPIC_TICR, 0xffffffff);
	two_clocks(&left0, &tsc0);
	while (rdtsc() - tsc0 < 20000000)
		pause();
	two_clocks(&left1, &tsc1);
	khz = left0 > left1 ? (tsc1 - tsc0) * 1000000 / (left0 - left1) : 1;
	lapic_write(LAPIC_TICR, 0);
	return khz;
}

bool wait_for(const volatile unsigned *flag, unsigned value, unsigned ms)
{
	uint64_t end = rdtsc() + tsc_khz() * ms;

	sti();
	while (*flag < value && rdtsc() < end)
		pause();
	cli();
	return *flag >= value;
}

void delay_us(unsigned us)
{
	uint64_t end = rdtsc() + tsc_khz() * us / 1000;

	while (rdtsc() < end)
		pause();
}

/* --- interrupt controllers --- */

static void spurious(struct frame *f)
{
	(void)f;
}

void lapic_on(void)
{
	on_vector(0xff, spurious);
	lapic_write(LAPIC_SVR, 0x1ff);
}

void ioapic_write(uint8_t reg, uint32_t v)
{
	write32(LAYOUT_IOAPIC, reg);
	write32(LAYOUT_IOAPIC + 0x10, v);
}

uint32_t ioapic_read(uint8_t reg)
{
	write32(LAYOUT_IOAPIC, reg);
	return read32(LAYOUT_IOAPIC + 0x10);
}

void ioapic_pin(unsigned pin, uint8_t vector, bool level, bool masked)
{
	ioapic_write((uint8_t)(0x11 + pin * 2), lapic_read(LAPIC_ID) & 0xff000000);
	ioapic_write((uint8_t)(0x10 + pin * 2), vector | (level ? 1u << 15 : 0) | (masked ? 1u << 16 : 0));
}

/* --- other CPUs --- */

extern uint8_t trampoline[], trampoline_cpu[], trampoline_end[];

__attribute__((weak)) void ap_main(uint64_t cpu)
{
	(void)cpu;
}

static void send(uint32_t apic_id, uint32_t what)
{
	lapic_write(LAPIC_ICRH, apic_id << 24);
	lapic_write(LAPIC_ICR, what);
}

void cpu_start(uint32_t apic_id, unsigned cpu)
{
	uint8_t *low = (uint8_t *)BARE_TRAMPOLINE;

	for (uint8_t *p = trampoline; p < trampoline_end; p++)
		low[p - trampoline] = *p;
	*(volatile uint32_t *)(low + (trampoline_cpu - trampoline)) = cpu;
	send(apic_id, 0x4500);
	delay_us(10);
	send(apic_id, 0x4600 | BARE_TRAMPOLINE >> 12);
	delay_us(10);
	send(apic_id, 0x4600 | BARE_TRAMPOLINE >> 12);
}
