/* What acpi.c and acpi_dsdt.c share; nobody else includes it. */
#ifndef VMM_ACPI_DSDT_H
#define VMM_ACPI_DSDT_H
#include "vmm/acpi.h"
#include "vmm/aml.h"
#include "vmm/layout_x86.h"

/* One interrupt line each, up to the ones of PCI. */
#define ACPI_VIRTIO_MMIO_MAX (LAYOUT_GSI_PCI_INTX - LAYOUT_GSI_VIRTIO_MMIO)
#define ACPI_CPUS_MAX        0x1000u

/* All that follows the DSDT's header. */
void acpi_dsdt_body(struct aml *a, const struct acpi_config *cfg);
#endif
