/* Theory of operation: all tables are put together in one buffer and copied to LAYOUT_ACPI at the end.
 * The machine is "hardware-reduced" (ACPI 6.5, 4.1): no SCI, no PM timer, no PIC, so the tables
 * describe a PC without the parts that we do not emulate.  Power-off is a write to the sleep
 * control register, reset one to the reset register, and the power button is an interrupt of a
 * generic event device. */
#include "vmm/acpi.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/acpi_dsdt.h"
#include "vmm/aml.h"
#include "vmm/layout_x86.h"

#define OEM_ID       "RNGLET"
#define OEM_TABLE_ID "RINGLET "
#define CREATOR_ID   "RNGL"

#define TABLE_ALIGN 16u

/* Processors with ids from here on are described by the x2APIC structures (5.2.12.12). */
#define X2APIC_FIRST 255u

/* All tables are packed and little-endian, as the host is. */
struct acpi_rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 6.5, table 5.3");

struct acpi_header { /* 5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.5, table 5.4");

#define GAS_SYSTEM_IO 1u

struct acpi_gas { /* 5.2.3.2 */
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size; /* 1: a byte */
	uint64_t address;
} __attribute__((packed));

enum fadt_flag { /* table 5.10 */
		 FADT_WBINVD = 1 << 0,
		 FADT_PROC_C1 = 1 << 2,
		 FADT_PWR_BUTTON = 1 << 4,
		 FADT_SLP_BUTTON = 1 << 5,
		 FADT_FIX_RTC = 1 << 6,
		 FADT_RESET_REG_SUP = 1 << 10,
		 FADT_HEADLESS = 1 << 12,
		 FADT_HW_REDUCED_ACPI = 1 << 20
};

enum fadt_boot_arch { /* table 5.11; legacy devices and 8042 are the bits left out */
		      FADT_VGA_NOT_PRESENT = 1 << 2,
		      FADT_CMOS_RTC_NOT_PRESENT = 1 << 5
};

struct acpi_fadt { /* 5.2.9 */
	struct acpi_header header;
	uint32_t firmware_ctrl;
	uint32_t dsdt;
	uint8_t reserved0;
	uint8_t pm_profile;
	uint8_t legacy0[62]; /* SCI_INT ... CENTURY: of no meaning here */
	uint8_t century;
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl;
	uint64_t x_dsdt;
	struct acpi_gas legacy1[8]; /* X_PM1a_EVT_BLK ... X_GPE1_BLK */
	struct acpi_gas sleep_control;
	struct acpi_gas sleep_status;
	uint64_t hypervisor_id;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 6.5, table 5.9");
_Static_assert(offsetof(struct acpi_fadt, iapc_boot_arch) == 109, "ACPI 6.5, table 5.9");
_Static_assert(offsetof(struct acpi_fadt, sleep_control) == 244, "ACPI 6.5, table 5.9");

struct acpi_madt { /* 5.2.12 */
	struct acpi_header header;
	uint32_t lapic;
	uint32_t flags;
} __attribute__((packed));

#define MADT_ENABLED 1u
#define MADT_ALL     0xffu

struct madt_lapic { /* 5.2.12.2 */
	uint8_t type, length;
	uint8_t uid;
	uint8_t apic_id;
	uint32_t flags;
} __attribute__((packed));

struct madt_ioapic { /* 5.2.12.3 */
	uint8_t type, length;
	uint8_t id;
	uint8_t reserved;
	uint32_t address;
	uint32_t gsi_base;
} __attribute__((packed));

struct madt_lapic_nmi { /* 5.2.12.7 */
	uint8_t type, length;
	uint8_t uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

struct madt_x2apic { /* 5.2.12.12 */
	uint8_t type, length;
	uint16_t reserved;
	uint32_t apic_id;
	uint32_t flags;
	uint32_t uid;
} __attribute__((packed));

struct madt_x2apic_nmi { /* 5.2.12.13 */
	uint8_t type, length;
	uint16_t flags;
	uint32_t uid;
	uint8_t lint;
	uint8_t reserved[3];
} __attribute__((packed));

struct acpi_mcfg { /* PCI Firmware Specification 3.3, 4.1.2, with its one allocation */
	struct acpi_header header;
	uint64_t reserved0;
	uint64_t base;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved1;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_mcfg) == 60, "PCI Firmware Specification, table 4-2");

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

/* --- the window --- */

static void align(struct aml *w)
{
	static const uint8_t zero[TABLE_ALIGN];

	aml_bytes(w, zero, -w->len % TABLE_ALIGN);
}

static struct acpi_header header(const char *signature, uint8_t revision, size_t length)
{
	struct acpi_header h = {
		.length = (uint32_t)length,
		.revision = revision,
		.oem_revision = 1,
		.creator_revision = 1,
	};

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, OEM_ID, sizeof(h.oem_id));
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof(h.oem_table_id));
	memcpy(h.creator_id, CREATOR_ID, sizeof(h.creator_id));
	return h;
}

/* A table began at `start` with its header: sets length and checksum.  Returns where it lies. */
static gpa_t finish_table(struct aml *w, size_t start)
{
	uint32_t length = (uint32_t)(w->len - start);
	struct acpi_header *h = (void *)(w->buf + start);

	if (w->full)
		return 0;
	h->length = length;
	h->checksum = checksum(h, length);
	align(w);
	return LAYOUT_ACPI + start;
}

static gpa_t add_dsdt(struct aml *w, const struct acpi_config *cfg)
{
	/* revision 2: integers have 64 bits */
	struct acpi_header h = header("DSDT", 2, 0);
	size_t start = w->len;

	aml_bytes(w, &h, sizeof(h));
	acpi_dsdt_body(w, cfg);
	return finish_table(w, start);
}

static struct acpi_gas io_byte(unsigned port)
{
	return (struct acpi_gas){.space = GAS_SYSTEM_IO, .bit_width = 8, .access_size = 1, .address = port};
}

static gpa_t add_fadt(struct aml *w, gpa_t dsdt)
{
	struct acpi_fadt fadt = {
		.header = header("FACP", 6, sizeof(fadt)),
		.iapc_boot_arch = FADT_VGA_NOT_PRESENT | FADT_CMOS_RTC_NOT_PRESENT,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_FIX_RTC |
			 FADT_RESET_REG_SUP | FADT_HEADLESS | FADT_HW_REDUCED_ACPI,
		.reset_reg = io_byte(LAYOUT_RESET),
		.reset_value = LAYOUT_RESET_VALUE,
		.minor_version = 5,
		.x_dsdt = dsdt,
		.sleep_control = io_byte(LAYOUT_SLEEP_CONTROL),
		.sleep_status = io_byte(LAYOUT_SLEEP_STATUS),
	};
	size_t start = w->len;

	aml_bytes(w, &fadt, sizeof(fadt));
	return finish_table(w, start);
}

static bool add_madt_cpus(struct aml *w, const struct acpi_config *cfg)
{
	bool x2apic = false;

	for (unsigned i = 0; i < cfg->ncpus; i++) {
		if (cfg->apic_id[i] < X2APIC_FIRST) {
			struct madt_lapic cpu = {
				.type = 0,
				.length = sizeof(cpu),
				.uid = (uint8_t)i,
				.apic_id = (uint8_t)cfg->apic_id[i],
				.flags = MADT_ENABLED,
			};

			/* ids rise, so the index fits as well */
			assert(i <= cfg->apic_id[i]);
			aml_bytes(w, &cpu, sizeof(cpu));
		} else {
			struct madt_x2apic cpu = {
				.type = 9,
				.length = sizeof(cpu),
				.apic_id = cfg->apic_id[i],
				.flags = MADT_ENABLED,
				.uid = i,
			};

			x2apic = true;
			aml_bytes(w, &cpu, sizeof(cpu));
		}
	}
	return x2apic;
}

static gpa_t add_madt(struct aml *w, const struct acpi_config *cfg)
{
	/* no PCAT_COMPAT flag: there is no pair of 8259s to mask */
	struct acpi_madt madt = {.header = header("APIC", 5, 0), .lapic = (uint32_t)LAYOUT_LAPIC};
	struct madt_ioapic ioapic = {.type = 1, .length = sizeof(ioapic), .address = (uint32_t)LAYOUT_IOAPIC};
	struct madt_lapic_nmi nmi = {.type = 4, .length = sizeof(nmi), .uid = MADT_ALL, .lint = 1};
	struct madt_x2apic_nmi x2apic_nmi = {.type = 10,
					     .length = sizeof(x2apic_nmi),
					     .uid = UINT32_MAX,
					     .lint = 1};
	size_t start = w->len;
	bool x2apic;

	aml_bytes(w, &madt, sizeof(madt));
	x2apic = add_madt_cpus(w, cfg);
	aml_bytes(w, &ioapic, sizeof(ioapic));
	aml_bytes(w, &nmi, sizeof(nmi));
	if (x2apic)
		aml_bytes(w, &x2apic_nmi, sizeof(x2apic_nmi));
	return finish_table(w, start);
}

static gpa_t add_mcfg(struct aml *w)
{
	struct acpi_mcfg mcfg = {
		.header = header("MCFG", 1, sizeof(mcfg)),
		.base = LAYOUT_ECAM,
		.last_bus = LAYOUT_ECAM_BUSES - 1,
	};
	size_t start = w->len;

	aml_bytes(w, &mcfg, sizeof(mcfg));
	return finish_table(w, start);
}

static gpa_t add_xsdt(struct aml *w, const uint64_t *tables, size_t len)
{
	struct acpi_header h = header("XSDT", 1, 0);
	size_t start = w->len;

	aml_bytes(w, &h, sizeof(h));
	aml_bytes(w, tables, len);
	return finish_table(w, start);
}

int acpi_build(const struct acpi_config *cfg, const struct guest_mem *mem, gpa_t *rsdp, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = malloc(LAYOUT_ACPI_SIZE);
	struct acpi_rsdp r = {
		.signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
		.revision = 2,
		.length = sizeof(r),
	};
	uint64_t tables[3];
	struct aml w;
	gpa_t dsdt;

	if (!buf)
		return err_set(e, -ENOMEM, "ACPI tables: out of memory");
	if (cfg->nvirtio_mmio > ACPI_VIRTIO_MMIO_MAX)
		return err_set(e, -ENOSPC,
			       "%u virtio-mmio devices, but there are interrupt lines for %u only; use "
			       "transport=pci for the others",
			       cfg->nvirtio_mmio, ACPI_VIRTIO_MMIO_MAX);
	aml_init(&w, buf, LAYOUT_ACPI_SIZE);
	aml_bytes(&w, &r, sizeof(r)); /* its place, at the front where a BIOS has it */
	align(&w);
	dsdt = add_dsdt(&w, cfg);
	tables[0] = add_fadt(&w, dsdt);
	tables[1] = add_madt(&w, cfg);
	tables[2] = add_mcfg(&w);
	r.xsdt = add_xsdt(&w, tables, sizeof(tables));
	if (w.full || cfg->ncpus > ACPI_CPUS_MAX)
		return err_set(e, -ENOSPC, "the ACPI tables for %u CPUs do not fit into %u KiB; use fewer",
			       cfg->ncpus, LAYOUT_ACPI_SIZE >> 10);
	assert(!w.depth);
	memcpy(r.oem_id, OEM_ID, sizeof(r.oem_id));
	r.checksum = checksum(&r, offsetof(struct acpi_rsdp, length));
	r.extended_checksum = checksum(&r, sizeof(r));
	memcpy(buf, &r, sizeof(r));
	if (guest_mem_write(mem, LAYOUT_ACPI, buf, w.len))
		return err_set(e, -EFAULT, "the guest has no RAM at 0x%x for ACPI tables", LAYOUT_ACPI);
	*rsdp = LAYOUT_ACPI;
	return 0;
}
