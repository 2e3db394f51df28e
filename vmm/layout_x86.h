/* Where things lie in an x86 guest: addresses, ports and interrupt lines.  The memory map given to the
 * guest (E820), the ACPI tables, the bus and the tests all take them from here. */
#ifndef VMM_LAYOUT_X86_H
#define VMM_LAYOUT_X86_H

/* Low memory, all below the EBDA */
#define LAYOUT_GDT            0x00000500u
#define LAYOUT_PVH_START_INFO 0x00006000u
#define LAYOUT_PVH_MEMMAP     0x00006100u
#define LAYOUT_ZERO_PAGE      0x00007000u
#define LAYOUT_PAGE_TABLES    0x00009000u /* 6 pages: PML4, PDPT, 4 page directories of 2 MiB pages */
#define LAYOUT_CMDLINE        0x00020000u
#define LAYOUT_CMDLINE_MAX    0x00010000u
#define LAYOUT_EBDA           0x0009fc00u /* end of the first usable range */
#define LAYOUT_LEGACY_HOLE    0x000a0000u /* RAM as far as KVM goes, never usable in E820 */
#define LAYOUT_ACPI           0x000e0000u
#define LAYOUT_ACPI_SIZE      0x00010000u
#define LAYOUT_ROM            0x000f0000u /* where firmware would be: the reset vector */
#define LAYOUT_ROM_SIZE       0x00010000u
#define LAYOUT_RESET_VECTOR   0x000ffff0u /* f000:fff0, where a reset by hand jumps to */
#define LAYOUT_HIGH_RAM       0x00100000u

/* The hole below 4 GiB */
#define LAYOUT_HOLE_START      0xc0000000ull
#define LAYOUT_PCI_MMIO32      0xc0000000ull
#define LAYOUT_PCI_MMIO32_SIZE 0x20000000ull
#define LAYOUT_ECAM            0xe0000000ull /* 1 MiB a bus */
#define LAYOUT_ECAM_BUSES      1u
#define LAYOUT_ECAM_SIZE       (LAYOUT_ECAM_BUSES << 20)
#define LAYOUT_VIRTIO_MMIO     0xfd000000ull
#define LAYOUT_UART_MMIO       0xfe000000ull /* one page: the registers of ttyS0 */
#define LAYOUT_UART_MMIO_SIZE  0x1000u
#define LAYOUT_IOAPIC          0xfec00000ull
#define LAYOUT_LAPIC           0xfee00000ull
#define LAYOUT_IDENTITY_MAP    0xfffbc000ull /* KVM's own pages on Intel hosts: 1 + 3 */
#define LAYOUT_TSS             0xfffbd000ull
#define LAYOUT_HOLE_END        0x100000000ull

/* I/O ports */
#define LAYOUT_COM1          0x3f8u
#define LAYOUT_COM2          0x2f8u
#define LAYOUT_PVPANIC       0x505u
#define LAYOUT_DEBUG_EXIT    0x5f0u /* a 32-bit write ends the VM with the low byte as status */
#define LAYOUT_SLEEP_CONTROL 0x600u /* ACPI 6.5, 4.8.3.7 */
#define LAYOUT_SLEEP_STATUS  0x601u
#define LAYOUT_RESET         0xcf9u /* writing 0x06 resets */
#define LAYOUT_RESET_VALUE   0x06u
#define LAYOUT_SLEEP_TYPE_S5 5u
#define LAYOUT_PCI_CONFIG    0xcf8u

/* Global system interrupts: IOAPIC pins */
#define LAYOUT_GSI_COM2        3u
#define LAYOUT_GSI_COM1        4u
#define LAYOUT_GSI_POWER       5u  /* ACPI generic event device, edge */
#define LAYOUT_GSI_VIRTIO_MMIO 6u  /* from here up */
#define LAYOUT_GSI_PCI_INTX    16u /* 4 lines, level */
#define LAYOUT_IOAPIC_PINS     24u
#endif
