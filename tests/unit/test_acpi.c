/* acpi_build(): tables that a parser accepts, and that say what layout_x86.h says. */
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/teardown.h"
#include "vmm/acpi.h"
#include "vmm/aml.h"
#include "vmm/layout_x86.h"

#define RAM_SIZE (2ull << 20)
#define NCPUS    1024

static struct guest_mem mem;
static uint32_t apic_id[8192];
static gpa_t rsdp;
static struct err e;

TestSuite(acpi, .timeout = 60);

static void make_ram(void)
{
	void *p = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(p, MAP_FAILED);
	mem = (struct guest_mem){.nregions = 1, .fd = -1, .size = RAM_SIZE, .page_size = 4096};
	mem.region[0] = (struct mem_region){.size = RAM_SIZE, .hva = p, .fd = -1};
	/* so that a byte written outside of the window is seen */
	memset(p, 0xa5, RAM_SIZE);
}

static struct acpi_config config(unsigned ncpus)
{
	for (unsigned i = 0; i < sizeof(apic_id) / sizeof(apic_id[0]); i++)
		apic_id[i] = i;
	return (struct acpi_config){
		.ncpus = ncpus,
		.apic_id = apic_id,
		.mmio64 = 1ull << 40,
		.mmio64_size = 1ull << 36,
		.com2 = true,
		.nvirtio_mmio = 2,
	};
}

static void build(const struct acpi_config *cfg)
{
	make_ram();
	cr_assert_eq(acpi_build(cfg, &mem, &rsdp, &e), 0, "%s", e.text);
}

static void build_for(unsigned ncpus)
{
	struct acpi_config cfg = config(ncpus);

	build(&cfg);
}

/* --- reading tables, all accesses bounded by the window --- */

static const uint8_t *window(gpa_t gpa, uint64_t len)
{
	cr_assert_geq(gpa, LAYOUT_ACPI);
	cr_assert_leq(gpa + len, LAYOUT_ACPI + LAYOUT_ACPI_SIZE);
	return guest_mem_ptr(&mem, gpa, len);
}

static uint64_t get(const uint8_t *p, unsigned nbytes)
{
	uint64_t value = 0;

	memcpy(&value, p, nbytes);
	return value;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s = (uint8_t)(s + *p++);
	return s;
}

static const uint8_t *table_at(gpa_t gpa, const char *signature, uint32_t *len)
{
	const uint8_t *t = window(gpa, 36);

	cr_assert_eq(memcmp(t, signature, 4), 0, "%.4s is no %s", (const char *)t, signature);
	*len = (uint32_t)get(t + 4, 4);
	cr_assert_geq(*len, 36);
	window(gpa, *len);
	cr_assert_eq(sum(t, *len), 0, "checksum of %s", signature);
	return t;
}

static const uint8_t *table(const char *signature, uint32_t *len)
{
	const uint8_t *x = table_at(get(window(rsdp, 36) + 24, 8), "XSDT", len);
	uint32_t xsdt_len = *len;

	if (!strcmp(signature, "XSDT"))
		return x;
	if (!strcmp(signature, "DSDT"))
		return table_at(get(table("FACP", len) + 140, 8), signature, len);
	for (uint32_t at = 36; at < xsdt_len; at += 8)
		if (!memcmp(window(get(x + at, 8), 4), signature, 4))
			return table_at(get(x + at, 8), signature, len);
	cr_assert(false, "no %s", signature);
	return NULL;
}

Test(acpi, rsdp)
{
	const uint8_t *r;

	build_for(2);
	cr_assert_eq(rsdp % 16, 0);
	r = window(rsdp, 36);
	cr_assert_eq(memcmp(r, "RSD PTR ", 8), 0);
	cr_assert_eq(r[15], 2);
	cr_assert_eq(get(r + 20, 4), 36);
	cr_assert_eq(sum(r, 20), 0);
	cr_assert_eq(sum(r, 36), 0);
}

Test(acpi, every_table_is_there_with_its_checksum)
{
	uint32_t len;

	build_for(2);
	table("XSDT", &len);
	cr_assert_eq(len, 36 + 3 * 8);
	table("FACP", &len);
	cr_assert_eq(len, 276);
	table("APIC", &len);
	table("DSDT", &len);
	table("MCFG", &len);
	cr_assert_eq(len, 60);
}

Test(acpi, nothing_is_written_outside_of_the_window)
{
	const uint8_t *p;

	build_for(NCPUS);
	p = guest_mem_ptr(&mem, 0, RAM_SIZE);
	for (size_t i = 0; i < RAM_SIZE; i++)
		if (i < LAYOUT_ACPI || i >= LAYOUT_ACPI + LAYOUT_ACPI_SIZE)
			cr_assert_eq(p[i], 0xa5);
}

Test(acpi, too_many_cpus)
{
	struct acpi_config cfg = config(5000);

	make_ram();
	cr_assert_eq(acpi_build(&cfg, &mem, &rsdp, &e), -ENOSPC);
	cr_assert(strstr(e.text, "5000 CPUs"), "%s", e.text);
	cfg.ncpus = 4000;
	cr_assert_eq(acpi_build(&cfg, &mem, &rsdp, &e), -ENOSPC);
	cr_assert(strstr(e.text, "64 KiB"), "%s", e.text);
}

Test(acpi, too_many_virtio_mmio_devices)
{
	struct acpi_config cfg = config(1);

	make_ram();
	cfg.nvirtio_mmio = 11;
	cr_assert_eq(acpi_build(&cfg, &mem, &rsdp, &e), -ENOSPC);
	cr_assert(strstr(e.text, "interrupt lines for 10 only"), "%s", e.text);
}

Test(acpi, without_ram_at_the_window)
{
	struct acpi_config cfg = config(1);

	make_ram();
	mem.region[0].size = LAYOUT_ACPI;
	cr_assert_eq(acpi_build(&cfg, &mem, &rsdp, &e), -EFAULT);
}

Test(acpi, fadt)
{
	const uint8_t *f;
	uint32_t len;

	build_for(2);
	f = table("FACP", &len);
	cr_assert_eq(f[8], 6);
	cr_assert_eq(get(f + 109, 2), 1 << 2 | 1 << 5, "no VGA, no RTC; no 8042, no legacy devices");
	cr_assert_eq(get(f + 112, 4) & (1 << 20 | 1 << 10 | 1 << 12 | 1 << 4),
		     1 << 20 | 1 << 10 | 1 << 12 | 1 << 4);
	cr_assert_eq(get(f + 116, 4), 0x01000801, "reset register: a byte in I/O space");
	cr_assert_eq(get(f + 120, 8), LAYOUT_RESET);
	cr_assert_eq(f[128], LAYOUT_RESET_VALUE);
	cr_assert_eq(get(f + 244, 4), 0x01000801);
	cr_assert_eq(get(f + 248, 8), LAYOUT_SLEEP_CONTROL);
	cr_assert_eq(get(f + 256, 4), 0x01000801);
	cr_assert_eq(get(f + 260, 8), LAYOUT_SLEEP_STATUS);
}

Test(acpi, mcfg)
{
	const uint8_t *m;
	uint32_t len;

	build_for(2);
	m = table("MCFG", &len);
	cr_assert_eq(get(m + 44, 8), LAYOUT_ECAM);
	cr_assert_eq(get(m + 52, 2), 0);
	cr_assert_eq(m[54], 0);
	cr_assert_eq(m[55], LAYOUT_ECAM_BUSES - 1);
}

/* --- MADT --- */

static const uint8_t *madt_next(const uint8_t *m, uint32_t len, uint32_t *at)
{
	const uint8_t *entry = m + *at;

	if (*at >= len)
		return NULL;
	cr_assert_leq(*at + 2, len);
	cr_assert_geq(entry[1], 2);
	cr_assert_leq(*at + entry[1], len);
	*at += entry[1];
	return entry;
}

Test(acpi, madt_of_two_cpus)
{
	unsigned ncpus = 0, nioapics = 0, nnmis = 0;
	const uint8_t *m, *entry;
	uint32_t len;

	build_for(2);
	m = table("APIC", &len);
	cr_assert_eq(get(m + 36, 4), LAYOUT_LAPIC);
	cr_assert_eq(get(m + 40, 4), 0);
	for (uint32_t at = 44; (entry = madt_next(m, len, &at));) {
		switch (entry[0]) {
		case 0:
			cr_assert_eq(entry[1], 8);
			cr_assert_eq(entry[2], ncpus);
			cr_assert_eq(entry[3], ncpus++);
			cr_assert_eq(get(entry + 4, 4), 1);
			break;
		case 1:
			nioapics++;
			cr_assert_eq(entry[1], 12);
			cr_assert_eq(get(entry + 4, 4), LAYOUT_IOAPIC);
			cr_assert_eq(get(entry + 8, 4), 0);
			break;
		case 4:
			nnmis++;
			cr_assert_eq(entry[1], 6);
			cr_assert_eq(entry[2], 0xff);
			cr_assert_eq(entry[5], 1);
			break;
		default:
			cr_assert(false, "type %u", entry[0]);
		}
	}
	cr_assert_eq(ncpus, 2);
	cr_assert_eq(nioapics, 1);
	cr_assert_eq(nnmis, 1);
}

Test(acpi, madt_ids_from_255_on_are_x2apic)
{
	unsigned uid = 0, nnmis = 0;
	const uint8_t *m, *entry;
	uint32_t len;

	build_for(NCPUS);
	m = table("APIC", &len);
	for (uint32_t at = 44; (entry = madt_next(m, len, &at));) {
		if (entry[0] == 0) {
			cr_assert_lt(uid, 255);
			cr_assert_eq(entry[2], uid++);
		} else if (entry[0] == 9) {
			cr_assert_geq(uid, 255);
			cr_assert_eq(entry[1], 16);
			cr_assert_eq(get(entry + 4, 4), uid);
			cr_assert_eq(get(entry + 8, 4), 1);
			cr_assert_eq(get(entry + 12, 4), uid++);
		} else if (entry[0] == 10) {
			nnmis++;
			cr_assert_eq(entry[1], 12);
			cr_assert_eq(get(entry + 4, 4), UINT32_MAX);
			cr_assert_eq(entry[8], 1);
		}
	}
	cr_assert_eq(uid, NCPUS);
	cr_assert_eq(nnmis, 1);
}

Test(acpi, madt_ids_with_gaps_keep_the_index_as_uid)
{
	struct acpi_config cfg = config(2);
	const uint8_t *m;
	uint32_t len;

	apic_id[1] = 16;
	build(&cfg);
	m = table("APIC", &len);
	cr_assert_eq(m[44 + 8 + 2], 1);
	cr_assert_eq(m[44 + 8 + 3], 16);
}

/* --- AML --- */

static void expect_package_length(size_t body, const char *length, size_t n)
{
	static uint8_t buf[0x110000], data[0x100100];
	struct aml a;

	aml_init(&a, buf, sizeof(buf));
	aml_if(&a);
	aml_bytes(&a, data, body);
	aml_close(&a);
	cr_assert_eq(a.full, false);
	cr_assert_eq(a.len, 1 + n + body);
	cr_assert_eq(memcmp(buf + 1, length, n), 0, "%zu", body);
}

Test(acpi, aml_package_lengths)
{
	expect_package_length(0, "\x01", 1);
	expect_package_length(62, "\x3f", 1);
	expect_package_length(63, "\x41\x04", 2);
	expect_package_length(0xffd, "\x4f\xff", 2);
	expect_package_length(0xffe, "\x81\x00\x01", 3);
	expect_package_length(0xffffc, "\x8f\xff\xff", 3);
	expect_package_length(0xffffd, "\xc1\x00\x00\x01", 4);
}

static void expect_aml(const struct aml *a, const void *bytes, size_t len)
{
	cr_assert_eq(a->len, len);
	cr_assert_eq(memcmp(a->buf, bytes, len), 0);
}

Test(acpi, aml_integers)
{
	uint8_t buf[64];
	struct aml a;

	aml_init(&a, buf, sizeof(buf));
	aml_int(&a, 0);
	aml_int(&a, 1);
	aml_int(&a, 0xff);
	aml_int(&a, 0x100);
	aml_int(&a, 0x10000);
	aml_int(&a, 0x100000000);
	expect_aml(&a, "\0\1\x0a\xff\x0b\0\1\x0c\0\0\1\0\x0e\0\0\0\0\1\0\0\0", 21);
}

Test(acpi, aml_names)
{
	uint8_t buf[64];
	struct aml a;

	aml_init(&a, buf, sizeof(buf));
	aml_path(&a, "GED");
	aml_path(&a, "\\_SB.PWRB");
	aml_path(&a, "A.B.C");
	expect_aml(&a,
		   "GED_\\\x2e_SB_PWRB\x2f\x03"
		   "A___B___C___",
		   28);
}

Test(acpi, aml_eisa_id)
{
	uint8_t buf[64];
	struct aml a;

	aml_init(&a, buf, sizeof(buf));
	aml_eisa_id(&a, "PNP0A03");
	expect_aml(&a, "\x0c\x41\xd0\x0a\x03", 5);
}

Test(acpi, aml_buffer_too_small)
{
	uint8_t buf[16];

	for (size_t size = 0; size < 14; size++) {
		struct aml a;

		memset(buf, 0xa5, sizeof(buf));
		aml_init(&a, buf, size);
		aml_device(&a, "COM1");
		aml_name(&a, "_UID");
		aml_int(&a, 2);
		aml_close(&a);
		aml_bytes(&a, "", 1);
		cr_assert_eq(a.full, true, "size %zu", size);
		cr_assert_leq(a.len, size);
		cr_assert_eq(buf[size], 0xa5);
	}
}

Test(acpi, aml_buffer_once_full_takes_nothing_more)
{
	uint8_t buf[5];
	struct aml a;

	aml_init(&a, buf, sizeof(buf));
	aml_device(&a, "COM1");
	cr_assert_eq(a.len, 2);
	aml_int(&a, 1);
	cr_assert_eq(a.len, 2);
}

/* --- iasl, a second opinion --- */

static char dir[PATH_MAX / 2];

static void in_dir(const char *command, const char *what)
{
	char cmd[2 * PATH_MAX];

	snprintf(cmd, sizeof(cmd), "cd '%s' && %s", dir, command);
	cr_assert_eq(system(cmd), 0, "%s failed (is iasl, package acpica-tools, there?): %s", what, cmd);
}

static void make_dir(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/acpi-XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(dir));
}

static void teardown(void)
{
	char cmd[PATH_MAX];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	cr_expect_eq(system(cmd), 0);
}

static void save_table(const char *signature)
{
	char path[PATH_MAX];
	uint32_t len;
	const uint8_t *t = table(signature, &len);
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.dat", dir, signature);
	f = fopen(path, "w");
	cr_assert(f);
	cr_assert_eq(fwrite(t, 1, len, f), len);
	cr_assert_eq(fclose(f), 0);
}

static char *load_text(const char *name)
{
	char path[PATH_MAX];
	char *text = calloc(1, 4 << 20);
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r");
	cr_assert(f && text, "%s", path);
	cr_assert_gt(fread(text, 1, (4 << 20) - 1, f), 0);
	fclose(f);
	return text;
}

/* Disassembles, compiles again, and returns the ASL.  -oa: no optimisation, so the bytes are ours. */
static char *dsdt_source(const struct acpi_config *cfg)
{
	char *log;

	build(cfg);
	save_table("DSDT");
	in_dir("iasl -d DSDT.dat >disassembler 2>&1", "disassembling the DSDT");
	in_dir("iasl -oa -p again DSDT.dsl >compiler 2>&1", "compiling the DSDT again");
	log = load_text("compiler");
	cr_assert(strstr(log, "0 Errors, 0 Warnings, 0 Remarks"), "%s", log);
	free(log);
	in_dir("tail -c +37 DSDT.dat >a && tail -c +37 again.aml >b && cmp a b", "comparing the AML");
	return load_text("DSDT.dsl");
}

TestSuite(acpi_iasl, .init = make_dir, .fini = teardown_once, .timeout = 120);

/* Whether all the texts follow one another, the list ended by NULL. */
static bool in_order(const char *text, const char *const *want)
{
	for (; *want; want++) {
		text = strstr(text, *want);
		if (!text) {
			cr_log_error("missing: %s", *want);
			return false;
		}
		text += strlen(*want);
	}
	return true;
}
#define has(text, ...) in_order(text, (const char *const[]){__VA_ARGS__, NULL})

WholeTest(acpi_iasl, dsdt)
{
	struct acpi_config cfg = config(2);
	char *asl = dsdt_source(&cfg);

	cr_assert(has(asl, "Device (C000)", "\"ACPI0007\"", "Device (C001)", "Name (_UID, One)"));
	cr_assert(has(asl, "Device (COM1)", "PNP0501", "Memory32Fixed (ReadWrite", "0xFE000000", "0x00000008",
		      "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive", "0x00000004"));
	cr_assert(has(asl, "Device (COM2)", "PNP0501", "Name (_UID, 0x02)", "IO (Decode16", "0x02F8", "0x08",
		      "Edge, ActiveHigh, Exclusive", "0x00000003"));
	cr_assert(has(asl, "Device (PWRB)", "PNP0C0C"));
	cr_assert(has(asl, "Device (GED)", "\"ACPI0013\"", "Edge, ActiveHigh, Exclusive", "0x00000005",
		      "Method (_EVT, 1", "If ((Arg0 == 0x05))", "Notify (\\_SB.PWRB, 0x80)"));
	cr_assert(has(asl, "\"QEMU0001\"", "IO (Decode16", "0x0505", "0x01,               // Length",
		      "Name (_STA, 0x0F)"));
	cr_assert(has(asl, "PNP0C02", "Memory32Fixed (ReadWrite", "0xE0000000", "0x00100000"));
	cr_assert(has(asl, "Device (VR01)", "\"LNRO0005\"", "Name (_CCA, One)", "0xFD001000", "0x00001000",
		      "Edge, ActiveHigh, Exclusive", "0x00000007"));
	cr_assert(has(asl, "Name (\\_S5, Package", "0x05"));
	free(asl);
}

WholeTest(acpi_iasl, pci_root)
{
	struct acpi_config cfg = config(1);
	char *asl = dsdt_source(&cfg);

	cr_assert(has(asl, "Device (PCI0)", "PNP0A08", "PNP0A03", "WordBusNumber", "Range Minimum",
		      "0x0000,             // Range Maximum", "IO (Decode16", "0x0CF8", "WordIO", "0x0CF7",
		      "WordIO", "0x0D00", "0xFFFF", "DWordMemory", "0xC0000000", "0xDFFFFFFF", "0x20000000",
		      "QWordMemory", "0x0000010000000000", "0x0000010FFFFFFFFF", "0x0000001000000000"));
	cr_assert(has(asl, "Name (_PRT, Package (0x80)", "0xFFFF", "Zero", "Zero", "0x10", "0x0001FFFF", "0x03",
		      "Zero", "0x10", "0x001FFFFF", "0x03", "Zero", "0x12"));
	cr_assert(has(asl, "Method (_OSC, 4", "33db4d5b-1ff7-401c-9657-7441c03dd766", "Return (Arg3)"));
	free(asl);
}

WholeTest(acpi_iasl, what_is_not_configured_is_not_there)
{
	struct acpi_config cfg = {.ncpus = 1, .apic_id = apic_id};
	char *asl = dsdt_source(&cfg);

	cr_assert_null(strstr(asl, "COM2"));
	cr_assert_null(strstr(asl, "LNRO0005"));
	cr_assert_null(strstr(asl, "QWordMemory"));
	free(asl);
}

WholeTest(acpi_iasl, dsdt_of_1024_cpus)
{
	struct acpi_config cfg = config(NCPUS);
	char *asl = dsdt_source(&cfg);

	cr_assert(has(asl, "Device (C000)", "Device (C3FF)", "Name (_UID, 0x03FF)"));
	free(asl);
}

WholeTest(acpi_iasl, other_tables)
{
	char *dsl;

	build_for(300);
	save_table("FACP");
	save_table("APIC");
	save_table("MCFG");
	save_table("XSDT");
	in_dir("iasl -d FACP.dat APIC.dat MCFG.dat XSDT.dat >log 2>&1", "disassembling the tables");
	in_dir("! grep -iE 'error|warning|invalid|unknown|\\*\\*\\*\\*' log *.dsl", "reading iasl's words");
	dsl = load_text("FACP.dsl");
	cr_assert(has(dsl, "Hardware Reduced (V5) : 1"));
	free(dsl);
}
