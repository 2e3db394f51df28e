/* For the tests of boot_load(): guest RAM, and kernels made by hand. */
#ifndef TESTS_UNIT_BOOT_RIG_H
#define TESTS_UNIT_BOOT_RIG_H
#include <asm/bootparam.h>
#include <criterion/criterion.h>
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot.h"
#include "vmm/layout_x86.h"

#define MIB       (1ull << 20)
#define GIB       (1ull << 30)
#define RSDP      0xe0000u
#define SETUP     (5 * 512u)
#define CODE      4096u
#define INIT_SIZE (16 * MIB)
#define LOAD      (16 * MIB)

static uint8_t file[0x4000];
static struct guest_mem mem;
static struct kernel_image img;
static struct boot_entry entry;
static struct err e;

/* --- guest RAM, sparse --- */

static inline void add_region(gpa_t gpa, uint64_t size, uint64_t offset)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, mem.fd, (off_t)offset);

	cr_assert_neq(p, MAP_FAILED);
	mem.region[mem.nregions++] =
		(struct mem_region){.gpa = gpa, .size = size, .hva = p, .fd = mem.fd, .fd_offset = offset};
}

static inline void make_ram(uint64_t size)
{
	uint64_t low = size < LAYOUT_HOLE_START ? size : LAYOUT_HOLE_START;

	memset(&mem, 0, sizeof(mem));
	mem.size = size;
	mem.page_size = 4096;
	mem.fd = memfd_create("ram", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(mem.fd, (off_t)size), 0);
	add_region(0, low, 0);
	if (size > low)
		add_region(LAYOUT_HOLE_END, size - low, low);
}

static inline const void *ram(gpa_t gpa, uint64_t len)
{
	const void *p = guest_mem_ptr(&mem, gpa, len);

	cr_assert(p, "no RAM at %#llx", (unsigned long long)gpa);
	return p;
}

/* --- files --- */

static inline int save(const void *data, size_t len)
{
	char path[PATH_MAX];
	const char *tmp = getenv("TMPDIR");
	int fd;

	snprintf(path, sizeof(path), "%s/boot-XXXXXX", tmp ? tmp : "/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	cr_assert_geq(fd, 0);
	unlink(path);
	cr_assert_eq(write(fd, data, len), (ssize_t)len);
	return fd;
}

static inline void open_file(size_t len)
{
	static char path[64];
	int fd = save(file, len);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	cr_assert_eq(kernel_image_open(&img, path, &e), 0, "%s", e.text);
	close(fd);
}

static inline struct setup_header *bzimage(void)
{
	struct setup_header *hdr = (void *)(file + 0x1f1);

	/* not zero: nothing before the setup header may get into the zero page */
	memset(file, 0x77, sizeof(file));
	memset(hdr, 0, sizeof(*hdr));
	hdr->setup_sects = 4;
	hdr->syssize = CODE / 16;
	hdr->boot_flag = 0xaa55;
	hdr->jump = 0x6aeb;
	hdr->header = 0x53726448;
	hdr->version = 0x20f;
	hdr->loadflags = LOADED_HIGH;
	hdr->initrd_addr_max = 0x7fffffff;
	hdr->relocatable_kernel = 1;
	hdr->kernel_alignment = 0x200000;
	hdr->xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
	hdr->cmdline_size = 2047;
	hdr->pref_address = LOAD;
	hdr->init_size = INIT_SIZE;
	for (unsigned i = 0; i < CODE; i++)
		file[SETUP + i] = (uint8_t)(i * 7);
	return hdr;
}

static inline Elf64_Ehdr *ehdr(void)
{
	return (void *)file;
}

static inline Elf64_Phdr *phdr(unsigned i)
{
	return (Elf64_Phdr *)(void *)(file + sizeof(Elf64_Ehdr)) + i;
}

/* Two segments and, with a PVH entry point, a note. */
static inline void elf(uint64_t pvh_entry)
{
	Elf64_Nhdr nh = {.n_namesz = 4, .n_descsz = 8, .n_type = 18};

	memset(file, 0x55, sizeof(file));
	memset(file, 0, 0x800);
	memcpy(ehdr()->e_ident, ELFMAG, SELFMAG);
	ehdr()->e_ident[EI_CLASS] = ELFCLASS64;
	ehdr()->e_ident[EI_DATA] = ELFDATA2LSB;
	ehdr()->e_type = ET_EXEC;
	ehdr()->e_machine = EM_X86_64;
	ehdr()->e_entry = 0x1000100;
	ehdr()->e_phoff = sizeof(Elf64_Ehdr);
	ehdr()->e_phentsize = sizeof(Elf64_Phdr);
	ehdr()->e_phnum = 3;
	*phdr(0) = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = 0x1000,
		.p_filesz = 0x1000,
		.p_memsz = 0x4000,
		.p_paddr = 0x1000000,
		.p_vaddr = 0xffffffff81000000,
	};
	*phdr(1) = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = 0x2000,
		.p_filesz = 0x800,
		.p_memsz = 0x800,
		.p_paddr = 0x1200000,
		.p_vaddr = 0xffffffff81200000,
	};
	if (!pvh_entry)
		return;
	*phdr(2) = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = 0x400, .p_filesz = 24, .p_align = 4};
	memcpy(file + 0x400, &nh, sizeof(nh));
	memcpy(file + 0x40c, "Xen", 4);
	memcpy(file + 0x410, &pvh_entry, 8);
}

#define ELF_SIZE 0x3000

static inline struct boot_config config(void)
{
	return (struct boot_config){.kernel = &img, .cmdline = "console=ttyS0 panic=-1", .rsdp = RSDP};
}

static inline void load(const struct boot_config *cfg)
{
	cr_assert_eq(boot_load(cfg, &mem, &entry, &e), 0, "%s", e.text);
}

static inline void expect_refused(const struct boot_config *cfg, int code, const char *what, const char *more)
{
	int ret = boot_load(cfg, &mem, &entry, &e);

	cr_assert_eq(ret, code, "got %d: %s", ret, e.text);
	cr_assert(strstr(e.text, what), "no \"%s\" in: %s", what, e.text);
	cr_assert(strstr(e.text, more), "no \"%s\" in: %s", more, e.text);
}

static inline void boot_bzimage(uint64_t ram_size)
{
	struct boot_config cfg = config();

	make_ram(ram_size);
	open_file(SETUP + CODE);
	load(&cfg);
}

static inline const struct boot_params *params(void)
{
	return ram(LAYOUT_ZERO_PAGE, sizeof(struct boot_params));
}

static inline uint64_t ram_in_map(const struct boot_params *bp)
{
	uint64_t sum = 0;
	uint64_t end = 0;

	for (unsigned i = 0; i < bp->e820_entries; i++) {
		const struct boot_e820_entry *m = &bp->e820_table[i];

		cr_assert_gt(m->size, 0);
		cr_assert_geq(m->addr, end, "entry %u overlaps or is not sorted", i);
		end = m->addr + m->size;
		if (m->type != 1)
			continue;
		sum += m->size;
		cr_assert(m->addr >= 4 * GIB || end <= LAYOUT_HOLE_START, "RAM in the hole");
		cr_assert(m->addr >= MIB || end <= LAYOUT_EBDA, "RAM above the EBDA");
	}
	return sum;
}
#endif
