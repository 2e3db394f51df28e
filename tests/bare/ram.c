/* RAM is where hvm_start_info says, all of it works, and the ACPI tables are sound. */
#include "lib/bare.h"

static uint8_t zeros[256 << 10];
static uint64_t usable;

static bool in_image(uint64_t addr)
{
	return addr + 8 > 0x100000 && addr < (uint64_t)image_end;
}

/* One word in each MiB, at another page of it each time.  Below 1 MiB lies what the VMM gave us. */
static uint64_t sample(const struct hvm_memmap *m, uint64_t i)
{
	uint64_t addr = m->addr + (i << 20) + (i % 256 << 12);

	if (m->addr < 0x100000)
		addr = 0x60000 + (i << 12);
	while (in_image(addr))
		addr += 0x1000;
	return addr;
}

static uint64_t samples(const struct hvm_memmap *m)
{
	return m->addr < 0x100000 ? 1 : m->size >> 20;
}

static void check_map(const struct hvm_memmap *map, unsigned n)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < n; i++) {
		print("# 0x%010lx 0x%010lx type %u\n", map[i].addr, map[i].size, map[i].type);
		CHECK(map[i].size > 0);
		CHECK(map[i].addr >= end);
		CHECK(map[i].addr + map[i].size > map[i].addr);
		end = map[i].addr + map[i].size;
		if (map[i].type != 1)
			continue;
		CHECK(end <= LAYOUT_HOLE_START || map[i].addr >= LAYOUT_HOLE_END);
		CHECK(end <= LAYOUT_EBDA || map[i].addr >= LAYOUT_HIGH_RAM);
		usable += map[i].size;
	}
	CHECK(end <= (uint64_t)BARE_MAPPED_GIB << 30);
}

static void check_samples(const struct hvm_memmap *map, unsigned n)
{
	uint64_t checked = 0;

	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < n; i++) {
			if (map[i].type != 1)
				continue;
			for (uint64_t k = 0; k < samples(&map[i]); k++) {
				uint64_t addr = sample(&map[i], k);

				if (pass == 0) {
					CHECK_EQ(read64(addr), 0);
					write64(addr, ~addr);
				} else if (read64(addr) != ~addr) {
					FAIL("0x%lx holds 0x%lx", addr, read64(addr));
				}
				checked += pass;
			}
			/* The last bytes too */
			if (map[i].addr >= LAYOUT_HIGH_RAM) {
				uint64_t addr = map[i].addr + map[i].size - 8;

				write64(addr, addr);
				CHECK_EQ(read64(addr), addr);
			}
		}
	}
	print("# %lu samples\n", checked);
}

static void check_acpi(void)
{
	static const char *const wanted[] = {"FACP", "APIC", "MCFG"};
	const uint8_t *rsdp = (const uint8_t *)start_info->rsdp_paddr;
	const struct acpi_header *xsdt;
	uint64_t at;

	REQUIRE(rsdp != NULL);
	CHECK_EQ(*(const uint64_t *)rsdp, 0x2052545020445352); /* "RSD PTR " */
	CHECK_EQ(sum_bytes(rsdp, 20), 0);
	CHECK_EQ(rsdp[15], 2);
	CHECK_EQ(*(const uint32_t *)(rsdp + 20), 36);
	CHECK_EQ(sum_bytes(rsdp, 36), 0);
	CHECK(start_info->rsdp_paddr >= LAYOUT_ACPI && start_info->rsdp_paddr < LAYOUT_ACPI + LAYOUT_ACPI_SIZE);
	/* Where a kernel looks that was told nothing */
	CHECK_EQ(start_info->rsdp_paddr % 16, 0);

	xsdt = *(const struct acpi_header *const *)(rsdp + 24);
	CHECK_EQ(*(const uint32_t *)xsdt->signature, *(const uint32_t *)"XSDT");
	CHECK_EQ(sum_bytes(xsdt, xsdt->length), 0);
	for (uint32_t off = sizeof(*xsdt); off + 8 <= xsdt->length; off += 8) {
		const struct acpi_header *table;

		__builtin_memcpy(&at, (const char *)xsdt + off, 8);
		table = (const void *)at;
		CHECK(at >= LAYOUT_ACPI && at + table->length <= LAYOUT_ACPI + LAYOUT_ACPI_SIZE);
		if (sum_bytes(table, table->length) != 0)
			FAIL("the checksum of %c%c%c%c is wrong", table->signature[0], table->signature[1],
			     table->signature[2], table->signature[3]);
	}
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!acpi_table(wanted[i]))
			FAIL("no %s", wanted[i]);

	const uint8_t *fadt = (const uint8_t *)acpi_table("FACP");

	REQUIRE(fadt != NULL);
	__builtin_memcpy(&at, fadt + 140, 8);
	CHECK(at != 0);
	if (at) {
		const struct acpi_header *dsdt = (const void *)at;

		CHECK_EQ(*(const uint32_t *)dsdt->signature, *(const uint32_t *)"DSDT");
		CHECK_EQ(sum_bytes(dsdt, dsdt->length), 0);
	}
	/* Flags: hardware-reduced, reset register; the register, its value; sleep control and status */
	CHECK_EQ(*(const uint32_t *)(fadt + 112) & (1u << 20 | 1u << 10), 1u << 20 | 1u << 10);
	CHECK_EQ(fadt[116], 1);
	__builtin_memcpy(&at, fadt + 120, 8);
	CHECK_EQ(at, LAYOUT_RESET);
	CHECK_EQ(fadt[128], LAYOUT_RESET_VALUE);
	CHECK_EQ(fadt[244], 1);
	__builtin_memcpy(&at, fadt + 248, 8);
	CHECK_EQ(at, LAYOUT_SLEEP_CONTROL);
	CHECK_EQ(fadt[256], 1);
	__builtin_memcpy(&at, fadt + 260, 8);
	CHECK_EQ(at, LAYOUT_SLEEP_STATUS);

	const uint8_t *mcfg = (const uint8_t *)acpi_table("MCFG");

	REQUIRE(mcfg != NULL);
	__builtin_memcpy(&at, mcfg + 44, 8);
	CHECK_EQ(at, LAYOUT_ECAM);
	CHECK_EQ(mcfg[54], 0);
	CHECK_EQ(mcfg[55], LAYOUT_ECAM_BUSES - 1);
}

int main(void)
{
	const struct hvm_memmap *map;
	uint64_t mib = option("mem", 64);

	CHECK_EQ(start_info->magic, HVM_START_MAGIC);
	CHECK(start_info->version >= 1);
	REQUIRE(start_info->memmap_entries > 0 && start_info->memmap_entries < 32);
	CHECK_EQ((uint64_t)start_info, LAYOUT_PVH_START_INFO);
	map = (const void *)start_info->memmap_paddr;

	for (unsigned i = 0; i < sizeof(zeros); i += 8)
		if (read64((uint64_t)zeros + i) != 0)
			FAIL("BSS + %u is not zero", i);

	check_map(map, start_info->memmap_entries);
	print("# %lu of %lu KiB usable\n", usable >> 10, mib << 10);
	CHECK(usable <= mib << 20 && usable >= (mib - 1) << 20);
	check_acpi();
	check_samples(map, start_info->memmap_entries);
	return 0;
}
