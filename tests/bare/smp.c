/* Every CPU of --cpus is in the MADT, starts with INIT, SIPI, SIPI, and knows its APIC id. */
#include "lib/bare.h"

static struct {
	volatile unsigned done;
	uint32_t leaf1, leafb, xapic, x2apic;
} seen[BARE_MAX_CPUS];

static uint32_t max_leaf;

void ap_main(uint64_t cpu)
{
	uint32_t lo, hi;

	seen[cpu].leaf1 = cpuid(1, 0).ebx >> 24;
	seen[cpu].leafb = max_leaf >= 0xb ? cpuid(0xb, 0).edx : seen[cpu].leaf1;
	seen[cpu].xapic = lapic_read(LAPIC_ID) >> 24;
	seen[cpu].x2apic = seen[cpu].xapic;
	if (cpuid(1, 0).ecx & 1u << 21) {
		__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(0x1b));
		__asm__ volatile("wrmsr" ::"a"(lo | 0x400), "d"(hi), "c"(0x1b));
		__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(0x802));
		seen[cpu].x2apic = lo;
	}
	__asm__ volatile("" ::: "memory");
	seen[cpu].done = 1;
}

static unsigned madt_cpus(uint32_t *ids)
{
	const struct acpi_header *madt = acpi_table("APIC");
	unsigned n = 0, ioapics = 0;
	const uint8_t *p, *end;

	REQUIRE(madt != NULL);
	p = (const uint8_t *)madt;
	end = p + madt->length;
	CHECK_EQ(*(const uint32_t *)(p + 36), LAYOUT_LAPIC);
	for (p += 44; p < end; p += p[1]) {
		REQUIRE(p[1] >= 2 && p + p[1] <= end);
		if (p[0] == 0 && (p[4] & 1) && n < BARE_MAX_CPUS)
			ids[n++] = p[3];
		if (p[0] == 9 && (p[8] & 1) && n < BARE_MAX_CPUS)
			ids[n++] = *(const uint32_t *)(p + 4);
		if (p[0] == 1) {
			ioapics++;
			CHECK_EQ(*(const uint32_t *)(p + 4), LAYOUT_IOAPIC);
			CHECK_EQ(*(const uint32_t *)(p + 8), 0);
		}
	}
	CHECK_EQ(ioapics, 1);
	return n;
}

int main(void)
{
	uint32_t ids[BARE_MAX_CPUS], boot = cpuid(1, 0).ebx >> 24;
	unsigned n = madt_cpus(ids), boots = 0, nth = 1;

	max_leaf = cpuid(0, 0).eax;
	CHECK_EQ(n, option("cpus", 1));
	CHECK_EQ(lapic_read(LAPIC_ID) >> 24, boot);
	CHECK_EQ(((ioapic_read(1) >> 16) & 0xff) + 1, LAYOUT_IOAPIC_PINS);
	lapic_on();
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < i; k++)
			CHECK(ids[i] != ids[k]);
		if (ids[i] == boot) {
			boots++;
			continue;
		}
		cpu_start(ids[i], nth);
		if (!wait_for(&seen[nth].done, 1, 5000)) {
			FAIL("the CPU with APIC id %u does not come", ids[i]);
			continue;
		}
		CHECK_EQ(seen[nth].leaf1, ids[i]);
		CHECK_EQ(seen[nth].leafb, ids[i]);
		CHECK_EQ(seen[nth].xapic, ids[i]);
		CHECK_EQ(seen[nth].x2apic, ids[i]);
		nth++;
	}
	CHECK_EQ(boots, 1);
	CHECK_EQ(nth, n);
	print("# %u CPUs\n", nth);
	return 0;
}
