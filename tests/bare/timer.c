/* The clocks and timers a kernel wants: LAPIC timer in its three modes, PIT, kvmclock, TSC frequency. */
#include "lib/bare.h"

#define VECTOR       0x40
#define PIC_VECTOR   0x50
#define TSC_DEADLINE 0x6e0
#define KVM_CLOCK    0x4b564d01

static volatile unsigned ticks, pit_ticks;

static void on_timer(struct frame *f)
{
	(void)f;
	ticks++;
	eoi();
}

static void on_pit(struct frame *f)
{
	if (f->vector == PIC_VECTOR)
		outb(0x20, 0x20);
	else
		eoi();
	pit_ticks++;
}

static bool near(uint64_t a, uint64_t b)
{
	return a > b ? a - b <= b / 20 : b - a <= b / 20;
}

static void lapic_timer(void)
{
	uint64_t start;

	lapic_on();
	on_vector(VECTOR, on_timer);
	lapic_write(LAPIC_TDCR, 0xb);
	lapic_write(LAPIC_TIMER, VECTOR);
	start = rdtsc();
	lapic_write(LAPIC_TICR, 5000000); /* 5 ms at 1 GHz */
	REQUIRE(wait_for(&ticks, 1, 1000));
	CHECK(rdtsc() - start >= tsc_khz() * 4);
	CHECK(!wait_for(&ticks, 2, 20));

	ticks = 0;
	lapic_write(LAPIC_TIMER, VECTOR | 1 << 17);
	lapic_write(LAPIC_TICR, 2000000);
	CHECK(wait_for(&ticks, 5, 1000));
	lapic_write(LAPIC_TICR, 0);

	if (!(cpuid(1, 0).ecx & 1u << 24)) {
		print("# no TSC deadline\n");
		return;
	}
	wait_for(&ticks, ~0u, 5);
	ticks = 0;
	lapic_write(LAPIC_TIMER, VECTOR | 2 << 17);
	start = rdtsc();
	wrmsr(TSC_DEADLINE, start + tsc_khz() * 5);
	CHECK(wait_for(&ticks, 1, 1000));
	CHECK(rdtsc() - start >= tsc_khz() * 5);
	CHECK(!wait_for(&ticks, 2, 20));
	CHECK_EQ(rdmsr(TSC_DEADLINE), 0);
	lapic_write(LAPIC_TIMER, 1 << 16);
}

static uint16_t pit_count(void)
{
	uint16_t lo;

	outb(0x43, 0x00);
	lo = inb(0x40);
	return (uint16_t)(lo | inb(0x40) << 8);
}

static void pit(void)
{
	const uint16_t reload = 1193182 / 500; /* 2 ms */
	const struct acpi_header *madt = acpi_table("APIC");
	unsigned pin = 0;
	uint16_t a, b;

	/* As firmware would: until it has vectors, the PIC is quiet. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	outb(0x43, 0x34);
	outb(0x40, (uint8_t)reload);
	outb(0x40, reload >> 8);
	delay_us(300);
	a = pit_count();
	delay_us(300);
	b = pit_count();
	if (a == 0xffff && b == 0xffff) {
		print("# no PIT\n");
		return;
	}
	CHECK(a != b);

	for (const uint8_t *p = (const uint8_t *)madt + 44; p < (const uint8_t *)madt + madt->length && p[1];
	     p += p[1])
		if (p[0] == 2 && p[3] == 0)
			pin = p[4];
	on_vector(VECTOR + 1, on_pit);
	ioapic_pin(pin, VECTOR + 1, false, false);
	if (wait_for(&pit_ticks, 3, 200))
		print("# PIT through the IOAPIC, pin %u\n", pin);
	ioapic_pin(pin, VECTOR + 1, false, true);
	if (pit_ticks >= 3)
		return;

	/* 8259s in their usual order, all masked but IRQ 0, into LINT0 */
	static const uint8_t words[][2] = {{0x20, 0x11},       {0xa0, 0x11},
					   {0x21, PIC_VECTOR}, {0xa1, PIC_VECTOR + 8},
					   {0x21, 4},          {0xa1, 2},
					   {0x21, 1},          {0xa1, 1},
					   {0x21, 0xfe},       {0xa1, 0xff}};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		outb(words[i][0], words[i][1]);
	pit_ticks = 0;
	on_vector(PIC_VECTOR, on_pit);
	lapic_write(LAPIC_LINT0, 0x700);
	CHECK(wait_for(&pit_ticks, 3, 200));
	outb(0x21, 0xff);
	print("# PIT through the PIC\n");
}

static struct {
	volatile uint32_t version;
	uint32_t pad;
	uint64_t tsc, ns;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
} clock_page __attribute__((aligned(64)));

static uint64_t clock_ns(void)
{
	uint32_t version;
	uint64_t ns;

	do {
		uint64_t delta;

		version = clock_page.version;
		__asm__ volatile("" ::: "memory");
		delta = rdtsc() - clock_page.tsc;
		delta = clock_page.shift < 0 ? delta >> -clock_page.shift : delta << clock_page.shift;
		ns = clock_page.ns + (uint64_t)(((unsigned __int128)delta * clock_page.mul) >> 32);
		__asm__ volatile("" ::: "memory");
	} while ((version & 1) || version != clock_page.version);
	return ns;
}

static void kvm_clock(void)
{
	struct cpuid c = cpuid(0x40000000, 0);
	uint64_t a, b, tsc;
	bool agree = false;

	if (c.ebx != 0x4b4d564b || !(cpuid(0x40000001, 0).eax & 1 << 3)) {
		print("# no kvmclock\n");
		return;
	}
	wrmsr(KVM_CLOCK, (uint64_t)&clock_page | 1);
	CHECK(clock_page.version != 0 && clock_page.mul != 0);
	a = clock_ns();
	for (unsigned i = 0; i < 1000; i++) {
		b = clock_ns();
		CHECK(b >= a);
		a = b;
	}
	/* As much time as the TSC says; the host may take the CPU away between two readings, but not
	 * each time. */
	for (unsigned i = 0; i < 5 && !agree; i++) {
		a = clock_ns();
		tsc = rdtsc();
		delay_us(10000);
		b = clock_ns();
		tsc = rdtsc() - tsc;
		agree = near((b - a) / 1000, tsc * 1000 / tsc_khz());
	}
	CHECK(agree);
	wrmsr(KVM_CLOCK, 0);
}

static void frequencies(void)
{
	uint64_t measured = tsc_khz();
	bool told = false;

	if (cpuid(0x40000000, 0).eax >= 0x40000010) {
		struct cpuid c = cpuid(0x40000010, 0);

		told = true;
		print("# leaf 0x40000010: TSC %u kHz, APIC %u kHz\n", c.eax, c.ebx);
		CHECK(near(c.eax, measured));
		CHECK(c.ebx == 0 || c.ebx == 1000000);
	}
	if (cpuid(0, 0).eax >= 0x15) {
		struct cpuid c = cpuid(0x15, 0);

		if (c.eax && c.ebx && c.ecx) {
			told = true;
			print("# leaf 0x15: TSC %lu kHz\n", (uint64_t)c.ecx * c.ebx / c.eax / 1000);
			CHECK(near((uint64_t)c.ecx * c.ebx / c.eax / 1000, measured));
		}
	}
	print("# measured: %lu kHz%s\n", measured, told ? "" : ", told nowhere");
}

int main(void)
{
	frequencies();
	lapic_timer();
	pit();
	kvm_clock();
	return 0;
}
