/* ACPI tables: hardware-reduced, just what a stock Linux kernel needs to find CPUs, PCI, the serial
 * ports, power-off, reset, the power button and pvpanic. */
#ifndef VMM_ACPI_H
#define VMM_ACPI_H
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "vmm/guest_mem.h"

struct acpi_config {
	unsigned ncpus;
	const uint32_t *apic_id; /* [ncpus], strictly rising; ids above 254 are described as x2APIC */
	uint64_t mmio64;         /* 64-bit PCI window: first byte, and size; size 0: none */
	uint64_t mmio64_size;
	bool com2;             /* a second serial port exists */
	unsigned nvirtio_mmio; /* transports at LAYOUT_VIRTIO_MMIO, 4 KiB apart, GSI from LAYOUT_GSI_VIRTIO_MMIO
				*/
};

/* Writes RSDP, XSDT, FADT, MADT, MCFG and DSDT into [LAYOUT_ACPI, + LAYOUT_ACPI_SIZE) and sets *rsdp.
 * 0, or -ENOSPC with a sentence. */
int acpi_build(const struct acpi_config *cfg, const struct guest_mem *mem, gpa_t *rsdp, struct err *e);
#endif
