/* The body of the DSDT: a namespace with just the devices that a Linux driver is to find. */
#include "vmm/acpi_dsdt.h"

#include <string.h>

#include "vmm/layout_x86.h"

#define PCI_SLOTS 32u
#define PCI_PINS  4u

_Static_assert(ACPI_VIRTIO_MMIO_MAX <= 10, "one decimal digit in a device's name");
_Static_assert(ACPI_CPUS_MAX <= 0x1000, "three hexadecimal digits in a device's name");

static void hid(struct aml *a, const char *id)
{
	aml_name(a, "_HID");
	if (!strncmp(id, "PNP", 3))
		aml_eisa_id(a, id);
	else
		aml_string(a, id);
}

static void name_int(struct aml *a, const char *name, uint64_t value)
{
	aml_name(a, name);
	aml_int(a, value);
}

static void add_cpus(struct aml *a, const struct acpi_config *cfg)
{
	for (unsigned i = 0; i < cfg->ncpus; i++) {
		static const char digits[] = "0123456789ABCDEF";
		char name[5] = {'C', digits[i >> 8 & 0xf], digits[i >> 4 & 0xf], digits[i & 0xf], '\0'};

		aml_device(a, name);
		hid(a, "ACPI0007");
		name_int(a, "_UID", i); /* the MADT's */
		aml_close(a);
	}
}

/* Device (name) { _HID, _UID, and a _CRS with one range and one edge interrupt } */
static void add_serial(struct aml *a, const char *name, unsigned uid, struct aml *res, unsigned gsi)
{
	aml_device(a, name);
	hid(a, "PNP0501");
	name_int(a, "_UID", uid);
	aml_res_interrupt(res, AML_EDGE_HIGH, gsi);
	aml_crs(a, res);
	aml_close(a);
}

static void add_serials(struct aml *a, const struct acpi_config *cfg)
{
	uint8_t buf[64];
	struct aml res;

	/* In MMIO on purpose: nothing answers at 0x3f8, so ttyS0 is free, and Linux gives it to the
	 * first port that it finds elsewhere. */
	aml_init(&res, buf, sizeof(buf));
	aml_res_memory32(&res, (uint32_t)LAYOUT_UART_MMIO, 8);
	add_serial(a, "COM1", 1, &res, LAYOUT_GSI_COM1);
	if (!cfg->com2)
		return;
	aml_init(&res, buf, sizeof(buf));
	aml_res_io(&res, LAYOUT_COM2, 8);
	add_serial(a, "COM2", 2, &res, LAYOUT_GSI_COM2);
}

/* The power button's interrupt, and what it means (5.6.9). */
static void add_power_button(struct aml *a)
{
	uint8_t buf[64];
	struct aml res;

	aml_device(a, "PWRB");
	hid(a, "PNP0C0C");
	name_int(a, "_UID", 0);
	aml_close(a);

	aml_device(a, "GED");
	hid(a, "ACPI0013");
	name_int(a, "_UID", 0);
	aml_init(&res, buf, sizeof(buf));
	aml_res_interrupt(&res, AML_EDGE_HIGH, LAYOUT_GSI_POWER);
	aml_crs(a, &res);
	aml_method(a, "_EVT", 1);
	aml_if(a);
	aml_op(a, AML_LEQUAL);
	aml_op(a, AML_ARG0);
	aml_int(a, LAYOUT_GSI_POWER);
	aml_op(a, AML_NOTIFY);
	aml_path(a, "\\_SB.PWRB");
	aml_int(a, 0x80); /* pressed */
	aml_close(a);
	aml_close(a);
	aml_close(a);
}

static void add_pvpanic(struct aml *a)
{
	uint8_t buf[64];
	struct aml res;

	aml_device(a, "PEVT");
	hid(a, "QEMU0001");
	name_int(a, "_UID", 0);
	aml_init(&res, buf, sizeof(buf));
	aml_res_io(&res, LAYOUT_PVPANIC, 1);
	aml_crs(a, &res);
	name_int(a, "_STA", 0xf);
	aml_close(a);
}

/* PCI addresses in ECAM must also be claimed by a motherboard device, or Linux does not trust the MCFG
 * (PCI Firmware Specification 3.3, 4.1.2). */
static void add_ecam(struct aml *a)
{
	uint8_t buf[64];
	struct aml res;

	aml_device(a, "MBRD");
	hid(a, "PNP0C02");
	name_int(a, "_UID", 0);
	aml_init(&res, buf, sizeof(buf));
	aml_res_memory32(&res, (uint32_t)LAYOUT_ECAM, LAYOUT_ECAM_SIZE);
	aml_crs(a, &res);
	aml_close(a);
}

static void add_pci_windows(struct aml *a, const struct acpi_config *cfg)
{
	uint8_t buf[256];
	struct aml res;

	aml_init(&res, buf, sizeof(buf));
	aml_res_bus_range(&res, 0, LAYOUT_ECAM_BUSES - 1);
	aml_res_io(&res, LAYOUT_PCI_CONFIG, 8);
	aml_res_io_window(&res, 0, LAYOUT_PCI_CONFIG - 1);
	aml_res_io_window(&res, LAYOUT_PCI_CONFIG + 8, 0xffff);
	aml_res_memory_window32(&res, (uint32_t)LAYOUT_PCI_MMIO32,
				(uint32_t)(LAYOUT_PCI_MMIO32 + LAYOUT_PCI_MMIO32_SIZE - 1));
	if (cfg->mmio64_size)
		aml_res_memory_window64(&res, cfg->mmio64, cfg->mmio64 + cfg->mmio64_size - 1);
	aml_crs(a, &res);
}

/* INTx of every slot to one of four lines, straight to the IOAPIC (6.2.13). */
static void add_pci_routing(struct aml *a)
{
	aml_name(a, "_PRT");
	aml_package(a, PCI_SLOTS * PCI_PINS);
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		for (unsigned pin = 0; pin < PCI_PINS; pin++) {
			aml_package(a, 4);
			aml_int(a, (uint64_t)slot << 16 | 0xffff);
			aml_int(a, pin);
			aml_int(a, 0);
			aml_int(a, LAYOUT_GSI_PCI_INTX + (slot + pin) % 4);
			aml_close(a);
		}
	}
	aml_close(a);
}

/* _OSC (6.2.11): the OS may control all that it asks for, since no firmware is there to keep
 * anything.  Linux then has nothing to complain about and nothing to fall back to. */
static void add_pci_osc(struct aml *a)
{
	/* 33DB4D5B-1FF7-401C-9657-7441C03DD766, PCI host bridges */
	static const uint8_t uuid[] = {
		0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66,
	};

	aml_method(a, "_OSC", 4);
	aml_op(a, AML_CREATE_DWORD_FIELD);
	aml_op(a, AML_ARG3);
	aml_int(a, 0);
	aml_path(a, "CDW1");

	aml_if(a);
	aml_op(a, AML_LEQUAL);
	aml_op(a, AML_ARG0);
	aml_buffer(a, uuid, sizeof(uuid));
	aml_if(a);
	aml_op(a, AML_LNOT);
	aml_op(a, AML_LEQUAL);
	aml_op(a, AML_ARG1);
	aml_int(a, 1);
	aml_op(a, AML_OR);
	aml_path(a, "CDW1");
	aml_int(a, 1 << 3); /* unrecognised revision */
	aml_path(a, "CDW1");
	aml_close(a);
	aml_close(a);

	aml_else(a);
	aml_op(a, AML_OR);
	aml_path(a, "CDW1");
	aml_int(a, 1 << 2); /* unrecognised UUID */
	aml_path(a, "CDW1");
	aml_close(a);

	aml_op(a, AML_RETURN);
	aml_op(a, AML_ARG3);
	aml_close(a);
}

static void add_pci(struct aml *a, const struct acpi_config *cfg)
{
	aml_device(a, "PCI0");
	hid(a, "PNP0A08");
	aml_name(a, "_CID");
	aml_eisa_id(a, "PNP0A03");
	name_int(a, "_UID", 0);
	name_int(a, "_SEG", 0);
	name_int(a, "_BBN", 0);
	add_pci_windows(a, cfg);
	add_pci_routing(a);
	add_pci_osc(a);
	aml_close(a);
}

static void add_virtio_mmio(struct aml *a, const struct acpi_config *cfg)
{
	for (unsigned i = 0; i < cfg->nvirtio_mmio; i++) {
		char name[5] = {'V', 'R', '0', (char)('0' + i), '\0'};
		uint8_t buf[64];
		struct aml res;

		aml_device(a, name);
		hid(a, "LNRO0005");
		name_int(a, "_UID", i);
		name_int(a, "_CCA", 1);
		aml_init(&res, buf, sizeof(buf));
		aml_res_memory32(&res, (uint32_t)LAYOUT_VIRTIO_MMIO + i * 0x1000u, 0x1000);
		/* edge: the interrupt is an irqfd, which pulses */
		aml_res_interrupt(&res, AML_EDGE_HIGH, LAYOUT_GSI_VIRTIO_MMIO + i);
		aml_crs(a, &res);
		aml_close(a);
	}
}

void acpi_dsdt_body(struct aml *a, const struct acpi_config *cfg)
{
	aml_scope(a, "\\_SB");
	add_cpus(a, cfg);
	add_serials(a, cfg);
	add_power_button(a);
	add_pvpanic(a);
	add_ecam(a);
	add_pci(a, cfg);
	add_virtio_mmio(a, cfg);
	aml_close(a);

	/* 7.4.2.6: with sleep registers only the first element means anything */
	aml_name(a, "\\_S5");
	aml_package(a, 4);
	aml_int(a, LAYOUT_SLEEP_TYPE_S5);
	for (unsigned i = 1; i < 4; i++)
		aml_int(a, 0);
	aml_close(a);
}
