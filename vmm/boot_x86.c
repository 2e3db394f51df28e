/* Theory of operation: what firmware and boot loader do on a machine is done here before the first
 * instruction.  Kernel and initrd go from their files into guest RAM; below 1 MiB, where
 * layout_x86.h says, come the command line, the zero page (or PVH's start info), page tables and a
 * GDT.  Every number in a kernel file is taken for hostile until it is compared with RAM.
 *
 * Everything is placed below the hole, also for guests with RAM above 4 GiB: then the identity map of
 * the first 4 GiB and 32-bit fields are enough for any guest. */
#include "vmm/boot_x86.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/cleanup.h"
#include "vmm/layout_x86.h"

#define E820_RAM      1u
#define E820_RESERVED 2u
#define E820_ACPI     3u

#define LOADER_UNDEFINED 0xff
#define VID_MODE_NORMAL  0xffff

#define PAGE_PRESENT (1ull << 0)
#define PAGE_WRITE   (1ull << 1)
#define PAGE_HUGE    (1ull << 7)
#define PAGE_SIZE    4096ull

_Static_assert(sizeof(struct boot_params) == 4096, "boot.rst: the zero page");
_Static_assert(LAYOUT_ZERO_PAGE + sizeof(struct boot_params) <= LAYOUT_PAGE_TABLES, "layout");
_Static_assert(LAYOUT_PAGE_TABLES + 6 * PAGE_SIZE <= LAYOUT_CMDLINE, "layout");
_Static_assert(LAYOUT_CMDLINE + LAYOUT_CMDLINE_MAX <= LAYOUT_EBDA, "layout");

gpa_t boot_low_ram_end(const struct guest_mem *mem)
{
	gpa_t end = 0;

	for (unsigned i = 0; i < mem->nregions && mem->region[i].gpa == end; i++)
		end += mem->region[i].size;
	return end < LAYOUT_HOLE_START ? end : LAYOUT_HOLE_START;
}

static unsigned add_range(struct boot_e820_entry *map, unsigned n, gpa_t start, gpa_t end, uint32_t type)
{
	if (start >= end || n >= E820_MAX_ENTRIES_ZEROPAGE)
		return n;
	map[n] = (struct boot_e820_entry){.addr = start, .size = end - start, .type = type};
	return n + 1;
}

unsigned boot_memory_map(const struct guest_mem *mem, gpa_t rsdp, struct boot_e820_entry *map)
{
	unsigned n = 0;

	n = add_range(map, n, 0, LAYOUT_EBDA, E820_RAM);
	n = add_range(map, n, LAYOUT_EBDA, LAYOUT_LEGACY_HOLE, E820_RESERVED);
	n = add_range(map, n, LAYOUT_ACPI, LAYOUT_ACPI + LAYOUT_ACPI_SIZE, rsdp ? E820_ACPI : E820_RESERVED);
	n = add_range(map, n, LAYOUT_ROM, LAYOUT_ROM + LAYOUT_ROM_SIZE, E820_RESERVED);
	for (unsigned i = 0; i < mem->nregions; i++) {
		gpa_t start = mem->region[i].gpa;
		gpa_t end = start + mem->region[i].size;

		n = add_range(map, n, start > LAYOUT_HIGH_RAM ? start : LAYOUT_HIGH_RAM,
			      end < LAYOUT_HOLE_START ? end : LAYOUT_HOLE_START, E820_RAM);
	}
	n = add_range(map, n, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_SIZE, E820_RESERVED);
	n = add_range(map, n, LAYOUT_IDENTITY_MAP, LAYOUT_TSS + 3 * PAGE_SIZE, E820_RESERVED);
	for (unsigned i = 0; i < mem->nregions; i++) {
		gpa_t start = mem->region[i].gpa;
		gpa_t end = start + mem->region[i].size;

		n = add_range(map, n, start > LAYOUT_HOLE_END ? start : LAYOUT_HOLE_END, end, E820_RAM);
	}
	return n;
}

int boot_load_file(const struct guest_mem *mem, gpa_t gpa, const char *what, const char *path, int fd,
		   uint64_t offset, uint64_t len, struct err *e)
{
	int ret = len ? guest_mem_load(mem, gpa, fd, offset, len) : 0;

	if (ret == -ENODATA)
		return err_set(e, ret, "%s %s ends before byte %" PRIu64 ": it was cut off while being loaded",
			       what, path, offset + len);
	if (ret == -EFAULT)
		return err_set(e, ret, "%s %s: no guest RAM at 0x%" PRIx64 " for %" PRIu64 " bytes", what, path,
			       gpa, len);
	if (ret)
		return err_set(e, ret, "%s %s cannot be loaded into guest RAM: %s", what, path, strerror(-ret));
	return 0;
}

int boot_write_cmdline(const struct boot_config *cfg, const struct guest_mem *mem, uint64_t limit,
		       struct err *e)
{
	size_t len = strlen(cfg->cmdline);

	if (limit > LAYOUT_CMDLINE_MAX - 1)
		limit = LAYOUT_CMDLINE_MAX - 1;
	if (len > limit)
		return err_set(e, -E2BIG,
			       "the kernel command line has %zu characters, but kernel %s takes at most "
			       "%" PRIu64 ". Shorten what -a (--append) adds",
			       len, cfg->kernel->path, limit);
	if (guest_mem_write(mem, LAYOUT_CMDLINE, cfg->cmdline, len + 1))
		return err_set(e, -EFAULT, "the guest has no RAM at 0x%x for the command line", LAYOUT_CMDLINE);
	return 0;
}

static int initrd_size(const struct boot_config *cfg, uint64_t *total, struct err *e)
{
	*total = 0;
	for (unsigned i = 0; i < cfg->ninitrd; i++) {
		uint64_t at;

		if (__builtin_add_overflow(*total, 3, &at) ||
		    __builtin_add_overflow(at & ~3ull, cfg->initrd[i].len, total))
			return err_set(e, -EFBIG, "initrd %s is too large: %" PRIu64 " bytes",
				       cfg->initrd[i].path, cfg->initrd[i].len);
	}
	return 0;
}

int boot_load_initrd(const struct boot_config *cfg, const struct guest_mem *mem, gpa_t kernel_end,
		     gpa_t last_byte, gpa_t *addr, uint64_t *len, struct err *e)
{
	static const char zero[4];
	gpa_t top = boot_low_ram_end(mem);
	uint64_t at = 0;
	int ret;

	*addr = 0;
	ret = initrd_size(cfg, len, e);
	if (ret || !*len)
		return ret;
	if (last_byte < top)
		top = last_byte + 1;
	if (*len <= top)
		*addr = (top - *len) & ~(PAGE_SIZE - 1);
	if (*addr < kernel_end)
		return err_set(e, -ENOMEM,
			       "initrd %s%s has %" PRIu64 " bytes, but between the end of kernel %s "
			       "(0x%" PRIx64 ") and 0x%" PRIx64 " only %" PRIu64 " are free. %s",
			       cfg->initrd[0].path, cfg->ninitrd > 1 ? " with the parts after it" : "", *len,
			       cfg->kernel->path, kernel_end, top, top > kernel_end ? top - kernel_end : 0,
			       top < boot_low_ram_end(mem) || top == LAYOUT_HOLE_START
				       ? "More RAM does not help: make it smaller"
				       : "Give the guest more RAM with -m");
	for (unsigned i = 0; i < cfg->ninitrd; i++) {
		const struct initrd_part *part = &cfg->initrd[i];
		uint64_t pad = -at & 3;

		ret = guest_mem_write(mem, *addr + at, zero, pad);
		at += pad;
		if (!ret && part->fd >= 0) {
			ret = boot_load_file(mem, *addr + at, "initrd", part->path, part->fd, 0, part->len, e);
			if (ret)
				return ret;
		} else if (!ret && part->len) {
			ret = guest_mem_write(mem, *addr + at, part->data, part->len);
		}
		if (ret)
			return err_set(e, ret, "initrd %s: no guest RAM at 0x%" PRIx64, part->path, *addr + at);
		at += part->len;
	}
	return 0;
}

int boot_long_mode(const struct guest_mem *mem, struct boot_entry *entry, struct err *e)
{
	static const uint64_t gdt[] = {
		0,                  /* 0x00: null */
		0x00cf9b000000ffff, /* 0x08: 32-bit code */
		0x00af9b000000ffff, /* 0x10: 64-bit code, __BOOT_CS */
		0x00cf93000000ffff, /* 0x18: data, __BOOT_DS */
	};
	uint64_t table[512] = {0};
	gpa_t at = LAYOUT_PAGE_TABLES;
	int ret;

	table[0] = (at + PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE;
	ret = guest_mem_write(mem, at, table, sizeof(table));
	for (unsigned i = 0; i < 4; i++)
		table[i] = (at + (2 + i) * PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE;
	if (!ret)
		ret = guest_mem_write(mem, at + PAGE_SIZE, table, sizeof(table));
	for (unsigned i = 0; i < 4 && !ret; i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(table); k++)
			table[k] = ((uint64_t)i << 30) | ((uint64_t)k << 21) | PAGE_PRESENT | PAGE_WRITE |
				   PAGE_HUGE;
		ret = guest_mem_write(mem, at + (2 + i) * PAGE_SIZE, table, sizeof(table));
	}
	if (!ret)
		ret = guest_mem_write(mem, LAYOUT_GDT, gdt, sizeof(gdt));
	if (ret)
		return err_set(e, ret, "the guest has no RAM at 0x%x for page tables", LAYOUT_PAGE_TABLES);
	entry->cr3 = LAYOUT_PAGE_TABLES;
	entry->gdt = LAYOUT_GDT;
	entry->gdt_limit = sizeof(gdt) - 1;
	return 0;
}

void boot_fill_params(const struct boot_config *cfg, const struct guest_mem *mem, gpa_t initrd,
		      uint64_t initrd_len, struct boot_params *bp)
{
	struct boot_e820_entry map[E820_MAX_ENTRIES_ZEROPAGE];
	unsigned n = boot_memory_map(mem, cfg->rsdp, map);

	/* no loader number is assigned to us (boot.rst, "type_of_loader") */
	bp->hdr.type_of_loader = LOADER_UNDEFINED;
	bp->hdr.vid_mode = VID_MODE_NORMAL;
	bp->hdr.ramdisk_image = (uint32_t)initrd;
	bp->hdr.ramdisk_size = (uint32_t)initrd_len;
	bp->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	bp->hdr.setup_data = 0;
	bp->acpi_rsdp_addr = cfg->rsdp;
	bp->e820_entries = (uint8_t)n;
	memcpy(bp->e820_table, map, n * sizeof(map[0]));
}

/* The setup header as the file has it, in an otherwise empty zero page (boot.rst, "64-bit Boot
 * Protocol"): its end is told by the jump over it. */
static int read_setup_header(const struct kernel_image *img, struct boot_params *bp, struct err *e)
{
	uint8_t head[SETUP_HEADER_END] = {0};
	int64_t n = kernel_file_read(img->fd, head, sizeof(head), 0);
	size_t end;

	if (n < 0)
		return err_set(e, (int)n, "kernel %s cannot be read: %s", img->path, strerror((int)-n));
	end = 0x202u + head[0x201];
	if (end > sizeof(head))
		end = sizeof(head);
	memcpy((uint8_t *)bp + SETUP_HEADER_OFFSET, head + SETUP_HEADER_OFFSET, end - SETUP_HEADER_OFFSET);
	if ((size_t)n < SETUP_HEADER_OFFSET + sizeof(bp->hdr) || bp->hdr.header != SETUP_HEADER_MAGIC)
		return err_set(e, -ENOEXEC, "kernel %s is no bzImage any more: it was written to", img->path);
	return 0;
}

/* Where the protected-mode code goes, and where the room it takes for itself ends. */
static int place_bzimage(const struct kernel_image *img, const struct guest_mem *mem,
			 const struct setup_header *hdr, uint64_t code_len, gpa_t *load, gpa_t *end,
			 struct err *e)
{
	uint64_t align = hdr->kernel_alignment;
	uint64_t room = hdr->init_size > code_len ? hdr->init_size : code_len;
	gpa_t ram_end = boot_low_ram_end(mem);

	*load = hdr->pref_address;
	if (hdr->relocatable_kernel) {
		if (!align || (align & (align - 1)))
			return err_set(e, -ENOEXEC,
				       "kernel %s is a broken bzImage: kernel_alignment is 0x%" PRIx64
				       ", not a power of two",
				       img->path, align);
		if (*load < LAYOUT_HIGH_RAM)
			*load = LAYOUT_HIGH_RAM;
		if (__builtin_add_overflow(*load, align - 1, load))
			*load = UINT64_MAX;
		*load &= ~(align - 1);
	}
	if (*load < LAYOUT_HIGH_RAM)
		return err_set(e, -ENOEXEC,
			       "kernel %s is to be loaded at 0x%" PRIx64 " and not relocatable; expected "
			       "at least 0x%x",
			       img->path, *load, LAYOUT_HIGH_RAM);
	if (__builtin_add_overflow(*load, room, end))
		*end = UINT64_MAX;
	if (*end <= ram_end)
		return 0;
	if (*end <= LAYOUT_HOLE_START)
		return err_set(e, -ENOMEM,
			       "kernel %s takes %" PRIu64 " MiB from 0x%" PRIx64 " on while it unpacks "
			       "itself, but the guest has %" PRIu64 " MiB of RAM. Give it at least "
			       "-m %" PRIu64 "M, and more for an initrd and programs",
			       img->path, (room + BOOT_MIB - 1) / BOOT_MIB, *load, ram_end / BOOT_MIB,
			       ((*end + 2 * BOOT_MIB - 1) / BOOT_MIB) & ~UINT64_C(1));
	return err_set(e, -ENOEXEC,
		       "kernel %s is to be loaded at 0x%" PRIx64 " and takes %" PRIu64
		       " bytes there, but RAM below 4 GiB ends at 0x%" PRIx64 " at the latest",
		       img->path, *load, room, (uint64_t)LAYOUT_HOLE_START);
}

static int load_bzimage(const struct boot_config *cfg, const struct guest_mem *mem, struct boot_entry *entry,
			struct err *e)
{
	const struct kernel_image *img = cfg->kernel;
	struct boot_params bp = {0};
	uint64_t offset, len, initrd_len;
	gpa_t load = 0, end = 0, initrd;
	struct stat st;
	int ret;

	ret = read_setup_header(img, &bp, e);
	if (ret)
		return ret;
	if (fstat(img->fd, &st) || (uint64_t)st.st_size != img->size)
		return err_set(e, -ESTALE, "kernel %s was written to since it was opened", img->path);
	offset = bzimage_setup_size(&bp.hdr);
	len = (uint64_t)bp.hdr.syssize * 16;
	if (img->size < offset)
		return err_set(e, -ENODATA, "kernel %s has no code behind its setup header", img->path);
	if (len > img->size - offset)
		len = img->size - offset; /* syssize is rounded up */
	ret = place_bzimage(img, mem, &bp.hdr, len, &load, &end, e);
	if (ret)
		return ret;
	entry->rip = load + 0x200; /* boot.rst: the 64-bit entry point */
	if (!cfg->unpack || !boot_unpack(cfg, mem, load, end, &bp.hdr, &entry->rip))
		ret = boot_load_file(mem, load, "kernel", img->path, img->fd, offset, len, e);
	if (!ret)
		ret = boot_write_cmdline(cfg, mem, bp.hdr.cmdline_size, e);
	if (!ret)
		ret = boot_load_initrd(cfg, mem, end, bp.hdr.initrd_addr_max, &initrd, &initrd_len, e);
	if (!ret)
		ret = boot_long_mode(mem, entry, e);
	if (ret)
		return ret;
	bp.hdr.code32_start = (uint32_t)load;
	boot_fill_params(cfg, mem, initrd, initrd_len, &bp);
	if (guest_mem_write(mem, LAYOUT_ZERO_PAGE, &bp, sizeof(bp)))
		return err_set(e, -EFAULT, "the guest has no RAM at 0x%x for the zero page", LAYOUT_ZERO_PAGE);
	entry->mode = BOOT_LONG64;
	entry->arg = LAYOUT_ZERO_PAGE;
	return 0;
}

/* A hardware-reduced ACPI makes Linux reset through EFI, and without EFI by a jump to where firmware
 * would begin (arch/x86/kernel/reboot.c).  So what begins there resets. */
static int write_reset_vector(const struct guest_mem *mem, struct err *e)
{
	static const uint8_t code[] = {
		0xba,
		LAYOUT_RESET & 0xff,
		LAYOUT_RESET >> 8, /* mov $LAYOUT_RESET, %dx */
		0xb0,
		LAYOUT_RESET_VALUE, /* mov $LAYOUT_RESET_VALUE, %al */
		0xee,               /* out %al, %dx */
		0xf4,
		0xeb,
		0xfd, /* 1: hlt; jmp 1b */
	};

	if (guest_mem_write(mem, LAYOUT_RESET_VECTOR, code, sizeof(code)))
		return err_set(e, -EFAULT, "the guest has no RAM at 0x%x", LAYOUT_RESET_VECTOR);
	return 0;
}

int boot_load(const struct boot_config *cfg, const struct guest_mem *mem, struct boot_entry *entry,
	      struct err *e)
{
	memset(entry, 0, sizeof(*entry));
	if (boot_low_ram_end(mem) < 2 * BOOT_MIB)
		return err_set(e, -ENOMEM, "the guest needs at least 2 MiB of RAM from address 0 on");
	if (write_reset_vector(mem, e))
		return e ? e->code : -EFAULT;
	switch (cfg->kernel->kind) {
	case KERNEL_BZIMAGE:
		return load_bzimage(cfg, mem, entry, e);
	case KERNEL_ELF_PVH:
	case KERNEL_ELF64:
		return boot_load_elf(cfg, mem, entry, e);
	}
	assert(!"every kind of kernel has a loader");
	return -EINVAL;
}
