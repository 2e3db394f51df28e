/* What bare guests are written with.  main() runs in ring 3, with every port open to it and
 * interrupts off; see start.S. */
#ifndef TESTS_BARE_H
#define TESTS_BARE_H

#define BARE_MAPPED_GIB 8
#define BARE_MAX_CPUS   64
#define BARE_TRAMPOLINE 0x8000

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/layout_x86.h"

/* --- verdict --- */

extern unsigned bare_failures;

/* %s %c %d %u %x, with l, a width and 0 for padding; at most 256 bytes */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void bare_failed(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void finish(void);

#define CHECK(cond)                                                                                            \
	do {                                                                                                   \
		if (!(cond))                                                                                   \
			bare_failed(__FILE__, __LINE__, "%s", #cond);                                          \
	} while (0)
#define CHECK_EQ(got, want)                                                                                    \
	do {                                                                                                   \
		uint64_t got_ = (uint64_t)(got), want_ = (uint64_t)(want);                                     \
                                                                                                               \
		if (got_ != want_)                                                                             \
			bare_failed(__FILE__, __LINE__, "%s is 0x%lx, expected %s = 0x%lx", #got, got_, #want, \
				    want_);                                                                    \
	} while (0)
#define FAIL(...) bare_failed(__FILE__, __LINE__, __VA_ARGS__)
/* What the rest cannot do without */
#define REQUIRE(cond)                                                                                          \
	do {                                                                                                   \
		if (!(cond)) {                                                                                 \
			bare_failed(__FILE__, __LINE__, "%s", #cond);                                          \
			finish();                                                                              \
		}                                                                                              \
	} while (0)

int main(void); /* each test's own; returning is finish() */

/* --- the way the guest was started: Xen's hvm_start_info --- */

struct hvm_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	uint32_t memmap_entries, reserved;
};
#define HVM_START_MAGIC 0x336ec578u

struct hvm_memmap {
	uint64_t addr, size;
	uint32_t type, reserved;
};

extern struct hvm_start_info *start_info;
extern char bss_start[], image_end[];

/* "name=value" of the command line as a number, or missing */
uint64_t option(const char *name, uint64_t missing);
bool option_is(const char *name, const char *value);

/* --- ACPI --- */

struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision, creator_id, creator_revision;
} __attribute__((packed));

const struct acpi_header *acpi_table(const char *signature); /* NULL: there is none */
uint8_t sum_bytes(const void *p, size_t len);

/* --- CPU --- */

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}

#define BARE_IN(name, type, insn)                                                                              \
	static inline type name(uint16_t port)                                                                 \
	{                                                                                                      \
		type v;                                                                                        \
                                                                                                               \
		__asm__ volatile(insn " %1, %0" : "=a"(v) : "Nd"(port));                                       \
		return v;                                                                                      \
	}
BARE_IN(inb, uint8_t, "inb")
BARE_IN(inw, uint16_t, "inw")
BARE_IN(inl, uint32_t, "inl")

/* One plain mov each: a compiler may choose forms that emulators do not know. */
#define BARE_MMIO(bits, suffix, reg)                                                                           \
	static inline uint##bits##_t read##bits(uint64_t addr)                                                 \
	{                                                                                                      \
		uint##bits##_t v;                                                                              \
                                                                                                               \
		__asm__ volatile("mov" suffix " (%1), %0" : "=" reg(v) : "r"(addr) : "memory");                \
		return v;                                                                                      \
	}                                                                                                      \
	static inline void write##bits(uint64_t addr, uint##bits##_t v)                                        \
	{                                                                                                      \
		__asm__ volatile("mov" suffix " %0, (%1)" ::reg(v), "r"(addr) : "memory");                     \
	}
BARE_MMIO(8, "b", "q")
BARE_MMIO(16, "w", "r")
BARE_MMIO(32, "l", "r")
BARE_MMIO(64, "q", "r")

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid c;

	__asm__ volatile("cpuid" : "=a"(c.eax), "=b"(c.ebx), "=c"(c.ecx), "=d"(c.edx) : "a"(leaf), "c"(sub));
	return c;
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return (uint64_t)hi << 32 | lo;
}

static inline void pause(void)
{
	__asm__ volatile("pause" ::: "memory");
}

uint64_t ring0(uint64_t (*fn)(uint64_t), uint64_t arg); /* from ring 3 only */
void sti(void);
void cli(void);
uint64_t rdmsr(uint32_t msr);
void wrmsr(uint32_t msr, uint64_t value);

struct frame {
	uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};
/* Called in ring 0 with interrupts off; it ends the interrupt itself. */
void on_vector(uint8_t vector, void (*fn)(struct frame *frame));

/* Spins with interrupts on until *flag is at least `value`; false after about `ms` milliseconds, for
 * which the TSC's speed is measured once. */
bool wait_for(const volatile unsigned *flag, unsigned value, unsigned ms);
void delay_us(unsigned us);
uint64_t tsc_khz(void); /* against the local APIC's timer, which KVM runs at 1 GHz */

/* --- interrupt controllers --- */

#define LAPIC_ID    0x20u
#define LAPIC_EOI   0xb0u
#define LAPIC_SVR   0xf0u
#define LAPIC_ICR   0x300u
#define LAPIC_ICRH  0x310u
#define LAPIC_TIMER 0x320u
#define LAPIC_LINT0 0x350u
#define LAPIC_TICR  0x380u
#define LAPIC_TCCR  0x390u
#define LAPIC_TDCR  0x3e0u

static inline uint32_t lapic_read(uint32_t reg)
{
	return read32(LAYOUT_LAPIC + reg);
}
static inline void lapic_write(uint32_t reg, uint32_t v)
{
	write32(LAYOUT_LAPIC + reg, v);
}
static inline void eoi(void)
{
	lapic_write(LAPIC_EOI, 0);
}
void lapic_on(void);
void ioapic_write(uint8_t reg, uint32_t v);
uint32_t ioapic_read(uint8_t reg);
void ioapic_pin(unsigned pin, uint8_t vector, bool level, bool masked);

/* --- other CPUs --- */

void ap_main(uint64_t cpu); /* a test that starts CPUs has its own */
/* INIT, SIPI, SIPI; the CPU runs ap_main(cpu) in ring 0, cpu being any number of 1..63 */
void cpu_start(uint32_t apic_id, unsigned cpu);

#endif
#endif
