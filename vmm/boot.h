/* A kernel file: what it is, and how it is brought into guest RAM.  One implementation an
 * architecture (boot_x86.c). */
#ifndef VMM_BOOT_H
#define VMM_BOOT_H
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "vmm/guest_mem.h"

enum kernel_kind {
	KERNEL_BZIMAGE, /* Linux x86 boot protocol >= 2.12 with a 64-bit entry point */
	KERNEL_ELF_PVH, /* ELF with a XEN_ELFNOTE_PHYS32_ENTRY note */
	KERNEL_ELF64    /* vmlinux without the note: 64-bit entry at e_entry */
};

struct kernel_image {
	int fd;           /* owned; a regular file */
	const char *path; /* borrowed */
	uint64_t size;    /* bytes */
	enum kernel_kind kind;
	char version[128];  /* of a bzImage ("6.1.0-..."), else "" */
	uint64_t pvh_entry; /* KERNEL_ELF_PVH: the 32-bit entry point */
};

/* Looks at the file and says what it is.  0, or -errno with e saying what was found (gzip data, an
 * arm64 Image, an EFI program, an ELF for another machine, empty, a directory, a FIFO, truncated, ...),
 * what was expected, and what may help.  Never blocks: a FIFO is not opened for waiting. */
int kernel_image_open(struct kernel_image *img, const char *path, struct err *e);
void kernel_image_close(struct kernel_image *img);

/* One initrd is several archives one after the other: files, or bytes made by the VMM. */
struct initrd_part {
	const char *path; /* for messages */
	int fd;           /* regular file (its whole length), or -1: */
	const void *data;
	uint64_t len;
};

/* What lies where in guest-physical space is the machine's choice; see layout_x86.h. */
struct boot_config {
	const struct kernel_image *kernel;
	const struct initrd_part *initrd; /* parts are laid out each 4-byte aligned */
	unsigned ninitrd;
	const char *cmdline;
	gpa_t rsdp;  /* 0: no ACPI */
	bool unpack; /* a bzImage's kernel is unpacked here, where that is possible */
};

enum boot_mode {
	BOOT_LONG64, /* rip in long mode: paging on with cr3, gdt loaded, rsi = arg */
	BOOT_PVH32   /* rip in flat 32-bit protected mode, paging off, ebx = arg */
};

struct boot_entry { /* the state of the boot vCPU */
	enum boot_mode mode;
	gpa_t rip;
	gpa_t arg; /* struct boot_params, or struct hvm_start_info */
	gpa_t cr3; /* BOOT_LONG64: identity map of the first 4 GiB, made in guest RAM */
	gpa_t gdt; /* BOOT_LONG64: 0x10 is 64-bit code, 0x18 is data */
	uint16_t gdt_limit;
};

/* Loads kernel, initrd, command line and the structures the entry protocol asks for.  0 or -errno
 * with e naming the file and the limit (RAM too small, initrd_addr_max, cmdline_size, ...). */
int boot_load(const struct boot_config *cfg, const struct guest_mem *mem, struct boot_entry *entry,
	      struct err *e);
#endif
