/* ELF kernels: PVH guests, entered in 32-bit mode with a struct hvm_start_info, and a vmlinux without
 * the note, entered in 64-bit mode with a zero page made from nothing. */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/boot_x86.h"
#include "vmm/layout_x86.h"

/* vmlinux has five program headers; the limit bounds what a broken file can make us read. */
#define ELF_MAX_PHDRS 64
#define ELF_NOTES_MAX (1u << 20)

#define XEN_ELFNOTE_PHYS32_ENTRY 18

/* Where Linux links its text, __START_KERNEL_map: an entry point above it is a virtual address. */
#define KERNEL_MAP_START 0xffffffff80000000ull

/* The address Linux takes an initrd below (INITRD_ADDR_MAX), for files which cannot say their own. */
#define ELF_INITRD_LAST 0x7fffffffull

/* The PVH boot ABI (Xen's public/arch-x86/hvm/start_info.h); UAPI has no header for it. */
#define HVM_START_MAGIC 0x336ec578u

struct hvm_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_paddr;
	uint64_t cmdline_paddr;
	uint64_t rsdp_paddr;
	uint64_t memmap_paddr; /* from version 1 on */
	uint32_t memmap_entries;
	uint32_t reserved;
};
_Static_assert(sizeof(struct hvm_start_info) == 56, "PVH ABI");

struct hvm_modlist_entry {
	uint64_t paddr;
	uint64_t size;
	uint64_t cmdline_paddr;
	uint64_t reserved;
};
_Static_assert(sizeof(struct hvm_modlist_entry) == 32, "PVH ABI");

struct hvm_memmap_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type; /* as in E820 */
	uint32_t reserved;
};
_Static_assert(sizeof(struct hvm_memmap_entry) == 24, "PVH ABI");

#define PVH_MODLIST (LAYOUT_PVH_START_INFO + sizeof(struct hvm_start_info))
_Static_assert(PVH_MODLIST + sizeof(struct hvm_modlist_entry) <= LAYOUT_PVH_MEMMAP, "layout");
#define PVH_MEMMAP_SIZE (E820_MAX_ENTRIES_ZEROPAGE * sizeof(struct hvm_memmap_entry))
_Static_assert(LAYOUT_PVH_MEMMAP + PVH_MEMMAP_SIZE <= LAYOUT_ZERO_PAGE, "layout");

static const char *machine_name(unsigned machine)
{
	switch (machine) {
	case EM_386:
		return "i386";
	case EM_X86_64:
		return "x86-64";
	case EM_ARM:
		return "arm";
	case EM_AARCH64:
		return "aarch64";
	case EM_RISCV:
		return "riscv";
	case EM_PPC:
		return "ppc";
	case EM_PPC64:
		return "ppc64";
	case EM_S390:
		return "s390";
	case EM_MIPS:
		return "mips";
	case EM_SPARCV9:
		return "sparc64";
	case EM_LOONGARCH:
		return "loongarch";
	default:
		return NULL;
	}
}

static int refuse_machine(const char *path, unsigned bits, unsigned machine, struct err *e)
{
	const char *name = machine_name(machine);
	char number[16];

	snprintf(number, sizeof(number), "machine %u", machine);
	return err_set(e, -ENOEXEC, "kernel %s is a %u-bit ELF file for %s; expected a 64-bit one for x86-64",
		       path, bits, name ? name : number);
}

static int refuse_type(const char *path, unsigned type, struct err *e)
{
	const char *what = "of an unknown type";

	if (type == ET_REL)
		what = "a relocatable object (an .o file or a kernel module)";
	else if (type == ET_DYN)
		what = "a shared object or a position-independent program";
	else if (type == ET_CORE)
		what = "a core dump";
	return err_set(e, -ENOEXEC, "kernel %s is an ELF file, but %s; expected an executable such as vmlinux",
		       path, what);
}

static int check_header(const struct kernel_image *img, const Elf64_Ehdr *eh, int64_t len, struct err *e)
{
	const unsigned char *id = eh->e_ident;

	if (len < EI_NIDENT + 4)
		return err_set(e, -ENOEXEC, "kernel %s is a truncated ELF file of %" PRIu64 " bytes", img->path,
			       img->size);
	if (id[EI_DATA] == ELFDATA2MSB)
		return refuse_machine(img->path, id[EI_CLASS] == ELFCLASS64 ? 64 : 32,
				      __builtin_bswap16(eh->e_machine), e);
	if (id[EI_CLASS] != ELFCLASS64)
		return refuse_machine(img->path, 32, eh->e_machine, e);
	if (eh->e_machine != EM_X86_64)
		return refuse_machine(img->path, 64, eh->e_machine, e);
	if (len < (int64_t)sizeof(*eh))
		return err_set(e, -ENOEXEC, "kernel %s is a truncated ELF file of %" PRIu64 " bytes", img->path,
			       img->size);
	if (eh->e_type != ET_EXEC)
		return refuse_type(img->path, eh->e_type, e);
	if (eh->e_phentsize != sizeof(Elf64_Phdr))
		return err_set(e, -ENOEXEC,
			       "kernel %s is a broken ELF file: its program headers have %u bytes, not %zu",
			       img->path, eh->e_phentsize, sizeof(Elf64_Phdr));
	if (!eh->e_phnum || eh->e_phnum > ELF_MAX_PHDRS)
		return err_set(e, -ENOEXEC, "kernel %s has %u ELF program headers; expected between 1 and %u",
			       img->path, eh->e_phnum, ELF_MAX_PHDRS);
	return 0;
}

static int refuse_truncated(const struct kernel_image *img, const char *what, uint64_t offset, uint64_t len,
			    struct err *e)
{
	return err_set(e, -ENOEXEC,
		       "kernel %s is a truncated ELF file: %s (%" PRIu64 " bytes at offset %" PRIu64
		       ") lies beyond its end at %" PRIu64 ". Copy or build it again",
		       img->path, what, len, offset, img->size);
}

static bool in_file(const struct kernel_image *img, uint64_t offset, uint64_t len)
{
	uint64_t end;

	return !__builtin_add_overflow(offset, len, &end) && end <= img->size;
}

/* Reads and checks everything that does not depend on the guest's RAM. */
static int read_headers(const struct kernel_image *img, Elf64_Ehdr *eh, Elf64_Phdr *ph, struct err *e)
{
	size_t table;
	bool load = false;
	int64_t n;
	int ret;

	memset(eh, 0, sizeof(*eh));
	n = kernel_file_read(img->fd, eh, sizeof(*eh), 0);
	if (n < 0)
		return err_set(e, (int)n, "kernel %s cannot be read: %s", img->path, strerror((int)-n));
	ret = check_header(img, eh, n, e);
	if (ret)
		return ret;
	table = eh->e_phnum * sizeof(*ph);
	if (!in_file(img, eh->e_phoff, table))
		return refuse_truncated(img, "the table of program headers", eh->e_phoff, table, e);
	n = kernel_file_read(img->fd, ph, table, eh->e_phoff);
	if (n < 0)
		return err_set(e, (int)n, "kernel %s cannot be read: %s", img->path, strerror((int)-n));
	if ((size_t)n < table)
		return refuse_truncated(img, "the table of program headers", eh->e_phoff, table, e);
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		char name[32];

		snprintf(name, sizeof(name), "segment %u", i);
		if (ph[i].p_type == PT_INTERP)
			return err_set(e, -ENOEXEC,
				       "kernel %s is a user-space program (it wants a dynamic "
				       "loader); expected a kernel such as vmlinux",
				       img->path);
		if (ph[i].p_type != PT_LOAD && ph[i].p_type != PT_NOTE)
			continue;
		if (!in_file(img, ph[i].p_offset, ph[i].p_filesz))
			return refuse_truncated(img, name, ph[i].p_offset, ph[i].p_filesz, e);
		if (ph[i].p_type == PT_LOAD && ph[i].p_filesz > ph[i].p_memsz)
			return err_set(e, -ENOEXEC,
				       "kernel %s is a broken ELF file: %s has %" PRIu64
				       " bytes in the file and %" PRIu64 " in memory",
				       img->path, name, ph[i].p_filesz, ph[i].p_memsz);
		load = load || (ph[i].p_type == PT_LOAD && ph[i].p_filesz);
	}
	if (!load)
		return err_set(e, -ENOEXEC, "kernel %s is an ELF file with nothing to load", img->path);
	return 0;
}

/* The notes of one segment.  Sizes which do not fit end the walk: what follows has no meaning. */
static bool find_pvh_note(const uint8_t *notes, size_t len, size_t align, uint64_t *entry)
{
	size_t at = 0;

	while (len - at >= sizeof(Elf64_Nhdr)) {
		uint64_t name_size, desc_size;
		const uint8_t *name;
		Elf64_Nhdr nh;

		memcpy(&nh, notes + at, sizeof(nh));
		at += sizeof(nh);
		name = notes + at;
		name_size = ((uint64_t)nh.n_namesz + align - 1) & ~(uint64_t)(align - 1);
		desc_size = ((uint64_t)nh.n_descsz + align - 1) & ~(uint64_t)(align - 1);
		if (name_size > len - at || nh.n_descsz > len - at - name_size)
			return false;
		if (nh.n_type == XEN_ELFNOTE_PHYS32_ENTRY && nh.n_namesz == sizeof("Xen") &&
		    !memcmp(name, "Xen", sizeof("Xen")) && (nh.n_descsz == 4 || nh.n_descsz == 8)) {
			*entry = 0;
			memcpy(entry, name + name_size, nh.n_descsz);
			return true;
		}
		/* the last description may lack its padding */
		at += name_size;
		at += desc_size < len - at ? desc_size : len - at;
	}
	return false;
}

int elf_inspect(struct kernel_image *img, struct err *e)
{
	Elf64_Phdr ph[ELF_MAX_PHDRS];
	Elf64_Ehdr eh;
	int ret = read_headers(img, &eh, ph, e);

	if (ret)
		return ret;
	img->kind = KERNEL_ELF64;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		CLEANUP_FREE uint8_t *notes = NULL;
		size_t len = ph[i].p_filesz < ELF_NOTES_MAX ? ph[i].p_filesz : ELF_NOTES_MAX;
		int64_t n;

		if (ph[i].p_type != PT_NOTE || !len)
			continue;
		notes = malloc(len);
		if (!notes)
			return err_set(e, -ENOMEM, "kernel %s: out of memory", img->path);
		n = kernel_file_read(img->fd, notes, len, ph[i].p_offset);
		if (n < 0)
			return err_set(e, (int)n, "kernel %s cannot be read: %s", img->path, strerror((int)-n));
		if (find_pvh_note(notes, (size_t)n, ph[i].p_align == 8 ? 8 : 4, &img->pvh_entry)) {
			img->kind = KERNEL_ELF_PVH;
			break;
		}
	}
	return 0;
}

/* Loads segment i and moves *end behind it.  What lies past p_filesz is zero because RAM is. */
static int load_segment(const struct boot_config *cfg, const struct guest_mem *mem, const Elf64_Phdr *ph,
			unsigned i, gpa_t *end, struct err *e)
{
	const struct kernel_image *img = cfg->kernel;
	gpa_t ram_end = boot_low_ram_end(mem);
	uint64_t last;

	if (ph->p_paddr < LAYOUT_HIGH_RAM || __builtin_add_overflow(ph->p_paddr, ph->p_memsz, &last))
		return err_set(e, -EINVAL,
			       "kernel %s: segment %u is to lie at 0x%" PRIx64 ", %" PRIu64
			       " bytes; expected it above 0x%x (p_paddr is a physical address)",
			       img->path, i, (uint64_t)ph->p_paddr, (uint64_t)ph->p_memsz, LAYOUT_HIGH_RAM);
	if (last > ram_end)
		return err_set(e, -EINVAL,
			       "kernel %s: segment %u is to lie at [0x%" PRIx64 ", 0x%" PRIx64
			       "), but RAM below 4 GiB ends at 0x%" PRIx64 "%s",
			       img->path, i, (uint64_t)ph->p_paddr, last, ram_end,
			       last <= LAYOUT_HOLE_START ? ". Give the guest more with -m" : "");
	if (last > *end)
		*end = last;
	return boot_load_file(mem, ph->p_paddr, "kernel", img->path, img->fd, ph->p_offset, ph->p_filesz, e);
}

static bool in_segments(const Elf64_Ehdr *eh, const Elf64_Phdr *ph, uint64_t paddr)
{
	for (unsigned i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && paddr >= ph[i].p_paddr && paddr - ph[i].p_paddr < ph[i].p_memsz)
			return true;
	return false;
}

static int entry_address(const struct kernel_image *img, const Elf64_Ehdr *eh, const Elf64_Phdr *ph,
			 uint64_t *entry, struct err *e)
{
	*entry = img->kind == KERNEL_ELF_PVH ? img->pvh_entry : eh->e_entry;
	if (*entry >= KERNEL_MAP_START) {
		for (unsigned i = 0; i < eh->e_phnum; i++) {
			if (ph[i].p_type != PT_LOAD || *entry < ph[i].p_vaddr ||
			    *entry - ph[i].p_vaddr >= ph[i].p_memsz)
				continue;
			*entry = *entry - ph[i].p_vaddr + ph[i].p_paddr;
			break;
		}
	}
	if (!in_segments(eh, ph, *entry))
		return err_set(e, -ENOEXEC,
			       "kernel %s: the entry point 0x%" PRIx64 " lies in none of its segments",
			       img->path, *entry);
	return 0;
}

static int write_start_info(const struct boot_config *cfg, const struct guest_mem *mem, gpa_t initrd,
			    uint64_t initrd_len, struct err *e)
{
	struct boot_e820_entry map[E820_MAX_ENTRIES_ZEROPAGE];
	unsigned n = boot_memory_map(mem, cfg->rsdp, map);
	struct hvm_modlist_entry mod = {.paddr = initrd, .size = initrd_len};
	struct hvm_start_info info = {
		.magic = HVM_START_MAGIC,
		.version = 1,
		.nr_modules = initrd_len ? 1 : 0,
		.modlist_paddr = initrd_len ? PVH_MODLIST : 0,
		.cmdline_paddr = LAYOUT_CMDLINE,
		.rsdp_paddr = cfg->rsdp,
		.memmap_paddr = LAYOUT_PVH_MEMMAP,
		.memmap_entries = n,
	};
	int ret = guest_mem_write(mem, LAYOUT_PVH_START_INFO, &info, sizeof(info));

	if (!ret)
		ret = guest_mem_write(mem, PVH_MODLIST, &mod, sizeof(mod));
	for (unsigned i = 0; i < n && !ret; i++) {
		struct hvm_memmap_entry m = {.addr = map[i].addr, .size = map[i].size, .type = map[i].type};

		ret = guest_mem_write(mem, LAYOUT_PVH_MEMMAP + i * sizeof(m), &m, sizeof(m));
	}
	if (ret)
		return err_set(e, ret, "the guest has no RAM at 0x%x for the PVH start info",
			       LAYOUT_PVH_START_INFO);
	return 0;
}

static int write_zero_page(const struct boot_config *cfg, const struct guest_mem *mem, gpa_t initrd,
			   uint64_t initrd_len, struct err *e)
{
	struct boot_params bp = {0};

	bp.hdr.boot_flag = SETUP_BOOT_FLAG;
	bp.hdr.header = SETUP_HEADER_MAGIC;
	bp.hdr.version = 0x020c;
	bp.hdr.loadflags = LOADED_HIGH;
	bp.hdr.xloadflags = XLF_KERNEL_64;
	bp.hdr.initrd_addr_max = (uint32_t)ELF_INITRD_LAST;
	bp.hdr.cmdline_size = LAYOUT_CMDLINE_MAX - 1;
	boot_fill_params(cfg, mem, initrd, initrd_len, &bp);
	if (guest_mem_write(mem, LAYOUT_ZERO_PAGE, &bp, sizeof(bp)))
		return err_set(e, -EFAULT, "the guest has no RAM at 0x%x for the zero page", LAYOUT_ZERO_PAGE);
	return 0;
}

int boot_load_elf(const struct boot_config *cfg, const struct guest_mem *mem, struct boot_entry *entry,
		  struct err *e)
{
	const struct kernel_image *img = cfg->kernel;
	Elf64_Phdr ph[ELF_MAX_PHDRS];
	uint64_t start, initrd_len;
	gpa_t end = LAYOUT_HIGH_RAM;
	Elf64_Ehdr eh;
	gpa_t initrd;
	int ret;

	/* read again: between open and now the file may have been written to */
	ret = read_headers(img, &eh, ph, e);
	if (!ret)
		ret = entry_address(img, &eh, ph, &start, e);
	for (unsigned i = 0; !ret && i < eh.e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && ph[i].p_memsz)
			ret = load_segment(cfg, mem, &ph[i], i, &end, e);
	if (!ret)
		ret = boot_write_cmdline(cfg, mem, LAYOUT_CMDLINE_MAX - 1, e);
	if (!ret)
		ret = boot_load_initrd(cfg, mem, end, ELF_INITRD_LAST, &initrd, &initrd_len, e);
	if (!ret)
		ret = boot_long_mode(mem, entry, e);
	if (ret)
		return ret;
	entry->rip = start;
	if (img->kind == KERNEL_ELF_PVH) {
		entry->mode = BOOT_PVH32;
		entry->arg = LAYOUT_PVH_START_INFO;
		return write_start_info(cfg, mem, initrd, initrd_len, e);
	}
	entry->mode = BOOT_LONG64;
	entry->arg = LAYOUT_ZERO_PAGE;
	return write_zero_page(cfg, mem, initrd, initrd_len, e);
}
