/* boot_load(): what lies where in guest RAM afterwards, and what is refused. */
#include <asm/bootparam.h>
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
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

TestSuite(boot, .timeout = 120);

/* --- guest RAM, sparse --- */

static void add_region(gpa_t gpa, uint64_t size, uint64_t offset)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, mem.fd, (off_t)offset);

	cr_assert_neq(p, MAP_FAILED);
	mem.region[mem.nregions++] =
		(struct mem_region){.gpa = gpa, .size = size, .hva = p, .fd = mem.fd, .fd_offset = offset};
}

static void make_ram(uint64_t size)
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

static const void *ram(gpa_t gpa, uint64_t len)
{
	const void *p = guest_mem_ptr(&mem, gpa, len);

	cr_assert(p, "no RAM at %#llx", (unsigned long long)gpa);
	return p;
}

/* --- files --- */

static int save(const void *data, size_t len)
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

static void open_file(size_t len)
{
	static char path[64];
	int fd = save(file, len);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	cr_assert_eq(kernel_image_open(&img, path, &e), 0, "%s", e.text);
	close(fd);
}

static struct setup_header *bzimage(void)
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

static Elf64_Ehdr *ehdr(void)
{
	return (void *)file;
}

static Elf64_Phdr *phdr(unsigned i)
{
	return (Elf64_Phdr *)(void *)(file + sizeof(Elf64_Ehdr)) + i;
}

/* Two segments and, with a PVH entry point, a note. */
static void elf(uint64_t pvh_entry)
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

static struct boot_config config(void)
{
	return (struct boot_config){.kernel = &img, .cmdline = "console=ttyS0 panic=-1", .rsdp = RSDP};
}

static void load(const struct boot_config *cfg)
{
	cr_assert_eq(boot_load(cfg, &mem, &entry, &e), 0, "%s", e.text);
}

static void expect_refused(const struct boot_config *cfg, int code, const char *what, const char *more)
{
	int ret = boot_load(cfg, &mem, &entry, &e);

	cr_assert_eq(ret, code, "got %d: %s", ret, e.text);
	cr_assert(strstr(e.text, what), "no \"%s\" in: %s", what, e.text);
	cr_assert(strstr(e.text, more), "no \"%s\" in: %s", more, e.text);
}

static void boot_bzimage(uint64_t ram_size)
{
	struct boot_config cfg = config();

	make_ram(ram_size);
	open_file(SETUP + CODE);
	load(&cfg);
}

static const struct boot_params *params(void)
{
	return ram(LAYOUT_ZERO_PAGE, sizeof(struct boot_params));
}

/* --- bzImage --- */

Test(boot, bzimage_code_and_entry)
{
	bzimage();
	boot_bzimage(256 * MIB);
	cr_assert_eq(memcmp(ram(LOAD, CODE), file + SETUP, CODE), 0);
	cr_assert_eq(entry.mode, BOOT_LONG64);
	cr_assert_eq(entry.rip, LOAD + 0x200);
	cr_assert_eq(entry.arg, LAYOUT_ZERO_PAGE);
}

Test(boot, bzimage_zero_page)
{
	const struct boot_params *bp;
	struct setup_header *hdr = bzimage();

	hdr->setup_data = 0x1234;
	boot_bzimage(256 * MIB);
	bp = params();
	cr_assert_eq(bp->hdr.header, 0x53726448);
	cr_assert_eq(bp->hdr.boot_flag, 0xaa55);
	cr_assert_eq(bp->hdr.version, 0x20f);
	cr_assert_eq(bp->hdr.init_size, INIT_SIZE);
	cr_assert_eq(bp->hdr.type_of_loader, 0xff);
	cr_assert_eq(bp->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	cr_assert_eq(bp->hdr.code32_start, LOAD);
	cr_assert_eq(bp->hdr.setup_data, 0);
	cr_assert_eq(bp->hdr.ramdisk_image, 0);
	cr_assert_eq(bp->hdr.ramdisk_size, 0);
	cr_assert_eq(bp->ext_cmd_line_ptr, 0);
	cr_assert_eq(bp->acpi_rsdp_addr, RSDP);
	cr_assert_str_eq(ram(LAYOUT_CMDLINE, 64), "console=ttyS0 panic=-1");
}

Test(boot, bzimage_only_the_setup_header_is_taken)
{
	const uint8_t *page;

	bzimage();
	boot_bzimage(256 * MIB);
	page = (const void *)params();
	cr_assert_eq(page[offsetof(struct boot_params, sentinel)], 0);
	for (unsigned i = 0; i < 0x70; i++)
		cr_assert_eq(page[i], 0, "byte %#x", i);
	for (unsigned i = 0x202 + 0x6a; i < 0x290; i++)
		cr_assert_eq(page[i], 0, "byte %#x", i);
}

Test(boot, bzimage_longest_header_stops_at_the_next_field)
{
	const struct boot_params *bp;

	bzimage()->jump = 0xffeb;
	boot_bzimage(256 * MIB);
	bp = params();
	cr_assert_eq(((const uint8_t *)bp)[0x28f], 0x77);
	cr_assert_eq(bp->edd_mbr_sig_buffer[0], 0);
}

Test(boot, bzimage_signature_behind_the_code_is_not_loaded)
{
	struct boot_config cfg = config();

	bzimage();
	make_ram(256 * MIB);
	open_file(SETUP + CODE + 1024);
	load(&cfg);
	cr_assert_eq(*(const uint8_t *)ram(LOAD + CODE, 1), 0);
}

Test(boot, bzimage_relocatable_is_aligned_upwards)
{
	bzimage()->pref_address = LOAD + 1;
	boot_bzimage(256 * MIB);
	cr_assert_eq(entry.rip, LOAD + 2 * MIB + 0x200);
}

Test(boot, bzimage_relocatable_is_kept_above_1_mib)
{
	bzimage()->pref_address = 0;
	boot_bzimage(256 * MIB);
	cr_assert_eq(entry.rip, 2 * MIB + 0x200);
}

Test(boot, bzimage_fixed_goes_to_its_address)
{
	struct setup_header *hdr = bzimage();

	hdr->relocatable_kernel = 0;
	hdr->pref_address = LOAD + 0x1000;
	boot_bzimage(256 * MIB);
	cr_assert_eq(entry.rip, LOAD + 0x1200);
}

static void expect_bzimage_refused(uint64_t ram_size, int code, const char *what, const char *more)
{
	struct boot_config cfg = config();

	make_ram(ram_size);
	open_file(SETUP + CODE);
	expect_refused(&cfg, code, what, more);
}

Test(boot, bzimage_fixed_below_1_mib)
{
	struct setup_header *hdr = bzimage();

	hdr->relocatable_kernel = 0;
	hdr->pref_address = 0x90000;
	expect_bzimage_refused(256 * MIB, -ENOEXEC, "0x90000", "0x100000");
}

Test(boot, bzimage_alignment_of_0)
{
	bzimage()->kernel_alignment = 0;
	expect_bzimage_refused(256 * MIB, -ENOEXEC, "kernel_alignment is 0x0", "power of two");
}

Test(boot, bzimage_alignment_that_is_no_power_of_two)
{
	bzimage()->kernel_alignment = 0x300000;
	expect_bzimage_refused(256 * MIB, -ENOEXEC, "0x300000", "power of two");
}

Test(boot, bzimage_in_just_enough_ram)
{
	bzimage();
	boot_bzimage(32 * MIB);
	cr_assert_eq(entry.rip, LOAD + 0x200);
}

Test(boot, bzimage_too_large_for_ram)
{
	bzimage();
	expect_bzimage_refused(30 * MIB, -ENOMEM, "30 MiB", "-m 32M");
}

Test(boot, bzimage_init_size_into_the_hole)
{
	bzimage()->init_size = 0xfff00000;
	expect_bzimage_refused(6 * GIB, -ENOEXEC, "0x1000000", "0xc0000000");
}

Test(boot, bzimage_preferred_address_overflows)
{
	bzimage()->pref_address = UINT64_MAX - 5;
	expect_bzimage_refused(256 * MIB, -ENOEXEC, "to be loaded at", "0xc0000000");
}

Test(boot, bzimage_preferred_address_above_4_gib)
{
	bzimage()->pref_address = 4 * GIB;
	expect_bzimage_refused(6 * GIB, -ENOEXEC, "0x100000000", "0xc0000000");
}

Test(boot, bzimage_shortened_after_it_was_opened)
{
	struct boot_config cfg = config();
	int fd;

	bzimage();
	make_ram(256 * MIB);
	open_file(SETUP + CODE);
	fd = save(file, SETUP + 100);
	cr_assert_eq(dup2(fd, img.fd), img.fd);
	expect_refused(&cfg, -ESTALE, "written to since it was opened", img.path);
}

/* --- command line --- */

Test(boot, cmdline_as_long_as_the_kernel_takes)
{
	struct boot_config cfg = config();
	char line[2048];

	memset(line, 'x', 2047);
	line[2047] = '\0';
	cfg.cmdline = line;
	bzimage();
	make_ram(256 * MIB);
	memset(guest_mem_ptr(&mem, LAYOUT_CMDLINE, 4096), 'y', 4095); /* a longer one, of a VM before */
	open_file(SETUP + CODE);
	load(&cfg);
	cr_assert_str_eq(ram(LAYOUT_CMDLINE, 4096), line);
}

Test(boot, cmdline_too_long)
{
	struct boot_config cfg = config();
	char line[2049];

	memset(line, 'x', 2048);
	line[2048] = '\0';
	cfg.cmdline = line;
	bzimage();
	make_ram(256 * MIB);
	open_file(SETUP + CODE);
	expect_refused(&cfg, -E2BIG, "2048 characters", "at most 2047");
}

Test(boot, cmdline_too_long_for_its_place)
{
	struct boot_config cfg = config();
	char *line = malloc(LAYOUT_CMDLINE_MAX + 1);

	memset(line, 'x', LAYOUT_CMDLINE_MAX);
	line[LAYOUT_CMDLINE_MAX] = '\0';
	cfg.cmdline = line;
	bzimage()->cmdline_size = UINT32_MAX;
	make_ram(256 * MIB);
	open_file(SETUP + CODE);
	expect_refused(&cfg, -E2BIG, "65536 characters", "at most 65535");
	free(line);
}

/* --- E820 --- */

static uint64_t ram_in_map(const struct boot_params *bp)
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

static const struct boot_e820_entry *in_map(uint64_t addr)
{
	const struct boot_params *bp = params();

	for (unsigned i = 0; i < bp->e820_entries; i++)
		if (addr >= bp->e820_table[i].addr && addr - bp->e820_table[i].addr < bp->e820_table[i].size)
			return &bp->e820_table[i];
	return NULL;
}

static void expect_map(uint64_t size)
{
	bzimage();
	boot_bzimage(size);
	cr_assert_eq(ram_in_map(params()), size - MIB + LAYOUT_EBDA);
	cr_assert_eq(in_map(LAYOUT_EBDA)->type, 2);
	cr_assert_eq(in_map(LAYOUT_ACPI)->type, 3);
	cr_assert_eq(in_map(LAYOUT_ACPI)->size, LAYOUT_ACPI_SIZE);
	cr_assert_eq(in_map(LAYOUT_ECAM)->type, 2);
	cr_assert_eq(in_map(LAYOUT_ECAM)->addr, LAYOUT_ECAM);
	cr_assert_eq(in_map(LAYOUT_ECAM)->size, LAYOUT_ECAM_SIZE);
	cr_assert_null(in_map(LAYOUT_HOLE_START));
	cr_assert_null(in_map(LAYOUT_LEGACY_HOLE));
	cr_assert_eq(!in_map(4 * GIB), size <= 3 * GIB);
}

Test(boot, e820_256_mib)
{
	expect_map(256 * MIB);
}

Test(boot, e820_3_gib)
{
	expect_map(3 * GIB);
}

Test(boot, e820_6_gib)
{
	expect_map(6 * GIB);
	cr_assert_eq(in_map(4 * GIB)->addr, 4 * GIB);
	cr_assert_eq(in_map(4 * GIB)->size, 3 * GIB);
}

Test(boot, e820_without_acpi)
{
	struct boot_config cfg = config();

	cfg.rsdp = 0;
	bzimage();
	make_ram(256 * MIB);
	open_file(SETUP + CODE);
	load(&cfg);
	cr_assert_eq(in_map(LAYOUT_ACPI)->type, 2);
	cr_assert_eq(params()->acpi_rsdp_addr, 0);
}

/* --- initrd --- */

static void load_initrd(uint64_t ram_size, const struct initrd_part *part, unsigned n)
{
	struct boot_config cfg = config();

	cfg.initrd = part;
	cfg.ninitrd = n;
	make_ram(ram_size);
	open_file(SETUP + CODE);
	load(&cfg);
}

static void expect_initrd(uint64_t ram_size, uint64_t top)
{
	static const char data[5000] = "initrd";
	struct initrd_part part = {.path = "memory", .fd = -1, .data = data, .len = sizeof(data)};
	const struct boot_params *bp;

	load_initrd(ram_size, &part, 1);
	bp = params();
	cr_assert_eq(bp->hdr.ramdisk_image, (top - sizeof(data)) & ~4095ull);
	cr_assert_eq(bp->hdr.ramdisk_size, sizeof(data));
	cr_assert_eq(bp->ext_ramdisk_image, 0);
	cr_assert_eq(bp->ext_ramdisk_size, 0);
	cr_assert_eq(memcmp(ram(bp->hdr.ramdisk_image, sizeof(data)), data, sizeof(data)), 0);
}

Test(boot, initrd_256_mib)
{
	bzimage();
	expect_initrd(256 * MIB, 256 * MIB);
}

Test(boot, initrd_3_gib_below_initrd_addr_max)
{
	bzimage();
	expect_initrd(3 * GIB, 2 * GIB);
}

Test(boot, initrd_6_gib_below_initrd_addr_max)
{
	bzimage();
	expect_initrd(6 * GIB, 2 * GIB);
}

Test(boot, initrd_6_gib_below_the_hole)
{
	bzimage()->initrd_addr_max = UINT32_MAX;
	expect_initrd(6 * GIB, 3 * GIB);
}

Test(boot, initrd_from_a_file)
{
	char data[10000];
	struct initrd_part part = {.path = "file", .len = sizeof(data)};
	const struct boot_params *bp;

	memset(data, 'i', sizeof(data));
	part.fd = save(data, sizeof(data));
	bzimage();
	load_initrd(256 * MIB, &part, 1);
	bp = params();
	cr_assert_eq(bp->hdr.ramdisk_size, sizeof(data));
	cr_assert_eq(memcmp(ram(bp->hdr.ramdisk_image, sizeof(data)), data, sizeof(data)), 0);
	close(part.fd);
}

Test(boot, initrd_parts_are_4_byte_aligned)
{
	struct initrd_part part[] = {
		{.path = "a", .len = 5},
		{.path = "empty", .fd = -1},
		{.path = "b", .fd = -1, .data = "seven77", .len = 7},
		{.path = "c", .fd = -1, .data = "x", .len = 1},
	};
	const struct boot_params *bp;

	part[0].fd = save("fives", 5);
	bzimage();
	load_initrd(256 * MIB, part, 4);
	bp = params();
	cr_assert_eq(bp->hdr.ramdisk_size, 17);
	cr_assert_eq(memcmp(ram(bp->hdr.ramdisk_image, 17), "fives\0\0\0seven77\0x", 17), 0);
	close(part[0].fd);
}

Test(boot, initrd_just_fits)
{
	struct boot_config cfg = config();
	char *data = calloc(1, 8 * MIB);
	struct initrd_part part = {.path = "big", .fd = -1, .data = data, .len = 8 * MIB};

	cfg.initrd = &part;
	cfg.ninitrd = 1;
	bzimage();
	make_ram(40 * MIB);
	open_file(SETUP + CODE);
	load(&cfg);
	cr_assert_eq(params()->hdr.ramdisk_image, LOAD + INIT_SIZE);
	free(data);
}

Test(boot, initrd_up_to_the_last_byte_of_initrd_addr_max)
{
	static const char data[4096] = "page";
	struct initrd_part part = {.path = "page", .fd = -1, .data = data, .len = sizeof(data)};

	bzimage()->initrd_addr_max = 64 * MIB - 1;
	load_initrd(256 * MIB, &part, 1);
	cr_assert_eq(params()->hdr.ramdisk_image, 64 * MIB - 4096);
}

static void expect_initrd_refused(uint64_t ram_size, const struct initrd_part *part, unsigned n, int code,
				  const char *what, const char *more)
{
	struct boot_config cfg = config();

	cfg.initrd = part;
	cfg.ninitrd = n;
	make_ram(ram_size);
	open_file(SETUP + CODE);
	expect_refused(&cfg, code, what, more);
}

Test(boot, initrd_does_not_overlap_the_kernel)
{
	struct initrd_part part = {.path = "big", .fd = -1, .data = "", .len = 8 * MIB + 1};

	bzimage();
	expect_initrd_refused(40 * MIB, &part, 1, -ENOMEM, "initrd big", "-m");
}

Test(boot, initrd_larger_than_initrd_addr_max_allows)
{
	struct initrd_part part = {.path = "big", .fd = -1, .data = "", .len = 2 * GIB};

	bzimage();
	expect_initrd_refused(6 * GIB, &part, 1, -ENOMEM, "initrd big", "More RAM does not help");
}

Test(boot, initrd_whose_length_overflows)
{
	struct initrd_part part[] = {
		{.path = "a", .fd = -1, .data = "1", .len = 1},
		{.path = "b", .fd = -1, .data = "", .len = UINT64_MAX - 1},
	};

	bzimage();
	expect_initrd_refused(256 * MIB, part, 2, -EFBIG, "initrd b", "too large");
	expect_initrd_refused(256 * MIB, part + 1, 1, -ENOMEM, "initrd b", "18446744073709551614");
}

Test(boot, initrd_file_shorter_than_its_length)
{
	struct initrd_part part = {.path = "short.img", .len = 100};

	part.fd = save("1234", 4);
	bzimage();
	expect_initrd_refused(256 * MIB, &part, 1, -ENODATA, "initrd short.img", "cut off");
	close(part.fd);
}

Test(boot, initrd_addr_max_of_0)
{
	struct initrd_part part = {.path = "i", .fd = -1, .data = "12345", .len = 5};

	bzimage()->initrd_addr_max = 0;
	expect_initrd_refused(256 * MIB, &part, 1, -ENOMEM, "initrd i", "only 0 are free");
}

/* --- page tables and GDT --- */

static uint64_t translate(uint64_t va)
{
	const uint64_t *t = ram(entry.cr3, 4096);

	for (unsigned shift = 39; shift > 21; shift -= 9) {
		cr_assert_eq(t[va >> shift & 511] & 0x81, 1);
		t = ram(t[va >> shift & 511] & ~0xfffull, 4096);
	}
	cr_assert_eq(t[va >> 21 & 511] & 0x83, 0x83);
	return (t[va >> 21 & 511] & ~0x1fffffull) + (va & 0x1fffff);
}

Test(boot, page_tables_map_4_gib_onto_themselves)
{
	bzimage();
	boot_bzimage(256 * MIB);
	for (uint64_t va = 0x123456; va < 4 * GIB; va += 2 * MIB)
		cr_assert_eq(translate(va), va);
	cr_assert_eq(((const uint64_t *)ram(entry.cr3, 4096))[1], 0);
	cr_assert_eq(((const uint64_t *)ram(entry.cr3, 8192))[512 + 4], 0);
}

Test(boot, gdt)
{
	const uint64_t *gdt;

	bzimage();
	boot_bzimage(256 * MIB);
	gdt = ram(entry.gdt, entry.gdt_limit + 1u);
	cr_assert_geq(entry.gdt_limit, 0x1f);
	cr_assert_eq(gdt[0], 0);
	cr_assert_eq(gdt[2] >> 53 & 3, 1, "L set and D clear: 64-bit code");
	cr_assert_eq(gdt[2] >> 43 & 3, 3, "code");
	cr_assert_eq(gdt[3] >> 43 & 3, 2, "data");
	cr_assert_eq(gdt[3] >> 41 & 1, 1, "writable");
}

/* --- ELF --- */

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

static const struct start_info *start_info(void)
{
	return ram(LAYOUT_PVH_START_INFO, sizeof(struct start_info));
}

static void boot_elf(const struct boot_config *cfg)
{
	make_ram(256 * MIB);
	open_file(ELF_SIZE);
	load(cfg);
}

static void expect_elf_refused(int code, const char *what, const char *more)
{
	struct boot_config cfg = config();

	make_ram(256 * MIB);
	open_file(ELF_SIZE);
	expect_refused(&cfg, code, what, more);
}

Test(boot, elf_segments)
{
	struct boot_config cfg = config();

	elf(0);
	boot_elf(&cfg);
	cr_assert_eq(memcmp(ram(0x1000000, 0x1000), file + 0x1000, 0x1000), 0);
	cr_assert_eq(*(const uint8_t *)ram(0x1001000, 1), 0);
	cr_assert_eq(memcmp(ram(0x1200000, 0x800), file + 0x2000, 0x800), 0);
}

Test(boot, pvh_entry_and_start_info)
{
	struct boot_config cfg = config();
	const struct start_info *si;

	elf(0x1000040);
	boot_elf(&cfg);
	cr_assert_eq(entry.mode, BOOT_PVH32);
	cr_assert_eq(entry.rip, 0x1000040);
	cr_assert_eq(entry.arg, LAYOUT_PVH_START_INFO);
	si = start_info();
	cr_assert_eq(si->magic, 0x336ec578);
	cr_assert_eq(si->version, 1);
	cr_assert_eq(si->flags, 0);
	cr_assert_eq(si->nr_modules, 0);
	cr_assert_eq(si->modlist, 0);
	cr_assert_eq(si->rsdp, RSDP);
	cr_assert_str_eq(ram(si->cmdline, 64), cfg.cmdline);
}

Test(boot, pvh_memory_map)
{
	struct boot_config cfg = config();
	const struct {
		uint64_t addr, size;
		uint32_t type, reserved;
	} * map;
	uint64_t end = 0, sum = 0;

	elf(0x1000040);
	make_ram(6 * GIB);
	open_file(ELF_SIZE);
	load(&cfg);
	map = ram(start_info()->memmap, start_info()->memmap_entries * sizeof(*map));
	for (unsigned i = 0; i < start_info()->memmap_entries; i++) {
		cr_assert_geq(map[i].addr, end);
		end = map[i].addr + map[i].size;
		sum += map[i].type == 1 ? map[i].size : 0;
	}
	cr_assert_eq(end, 7 * GIB);
	cr_assert_eq(sum, 6 * GIB - MIB + LAYOUT_EBDA);
}

Test(boot, pvh_initrd_is_a_module)
{
	struct initrd_part part = {.path = "i", .fd = -1, .data = "12345", .len = 5};
	struct boot_config cfg = config();
	const uint64_t *mod;

	cfg.initrd = &part;
	cfg.ninitrd = 1;
	elf(0x1000040);
	boot_elf(&cfg);
	cr_assert_eq(start_info()->nr_modules, 1);
	mod = ram(start_info()->modlist, 32);
	cr_assert_eq(mod[0], 256 * MIB - 4096);
	cr_assert_eq(mod[1], 5);
	cr_assert_eq(mod[2], 0);
	cr_assert_eq(memcmp(ram(mod[0], 5), "12345", 5), 0);
}

Test(boot, elf64_zero_page)
{
	struct initrd_part part = {.path = "i", .fd = -1, .data = "12345", .len = 5};
	struct boot_config cfg = config();
	const struct boot_params *bp;

	cfg.initrd = &part;
	cfg.ninitrd = 1;
	elf(0);
	boot_elf(&cfg);
	cr_assert_eq(entry.mode, BOOT_LONG64);
	cr_assert_eq(entry.rip, 0x1000100);
	cr_assert_eq(entry.arg, LAYOUT_ZERO_PAGE);
	cr_assert_eq(entry.cr3, LAYOUT_PAGE_TABLES);
	bp = params();
	cr_assert_eq(bp->hdr.boot_flag, 0xaa55);
	cr_assert_eq(bp->hdr.header, 0x53726448);
	cr_assert_eq(bp->hdr.type_of_loader, 0xff);
	cr_assert_eq(bp->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	cr_assert_eq(bp->hdr.ramdisk_image, 256 * MIB - 4096);
	cr_assert_eq(bp->hdr.ramdisk_size, 5);
	cr_assert_eq(bp->acpi_rsdp_addr, RSDP);
	cr_assert_eq(ram_in_map(bp), 255 * MIB + LAYOUT_EBDA);
}

Test(boot, elf64_virtual_entry_is_translated)
{
	struct boot_config cfg = config();

	elf(0);
	ehdr()->e_entry = 0xffffffff81200010;
	boot_elf(&cfg);
	cr_assert_eq(entry.rip, 0x1200010);
}

Test(boot, elf_entry_outside_of_its_segments)
{
	elf(0);
	ehdr()->e_entry = 0xffffffff90000000;
	expect_elf_refused(-ENOEXEC, "entry point 0xffffffff90000000", "none of its segments");
	elf(0x1004000);
	expect_elf_refused(-ENOEXEC, "entry point 0x1004000", "none of its segments");
}

Test(boot, elf_segment_below_1_mib)
{
	elf(0);
	phdr(1)->p_paddr = LAYOUT_ZERO_PAGE;
	expect_elf_refused(-EINVAL, "segment 1", "0x100000");
}

Test(boot, elf_segment_in_the_hole)
{
	struct boot_config cfg = config();

	elf(0);
	phdr(1)->p_paddr = LAYOUT_HOLE_START - 0x400;
	make_ram(6 * GIB);
	open_file(ELF_SIZE);
	expect_refused(&cfg, -EINVAL, "segment 1", "ends at 0xc0000000");
}

Test(boot, elf_segment_beyond_ram)
{
	elf(0);
	phdr(0)->p_memsz = 256 * MIB;
	expect_elf_refused(-EINVAL, "segment 0", "-m");
}

Test(boot, elf_segment_whose_address_overflows)
{
	elf(0);
	phdr(1)->p_paddr = UINT64_MAX - 0x10;
	expect_elf_refused(-EINVAL, "segment 1", "physical address");
}

Test(boot, elf_segment_whose_size_overflows)
{
	elf(0);
	phdr(1)->p_memsz = UINT64_MAX;
	expect_elf_refused(-EINVAL, "segment 1", "physical address");
}

Test(boot, elf_initrd_above_the_last_segment)
{
	struct initrd_part part = {.path = "i", .fd = -1, .data = "", .len = 200 * MIB};
	struct boot_config cfg = config();

	cfg.initrd = &part;
	cfg.ninitrd = 1;
	elf(0);
	phdr(1)->p_memsz = 100 * MIB;
	make_ram(256 * MIB);
	open_file(ELF_SIZE);
	expect_refused(&cfg, -ENOMEM, "initrd i", "0x7600000");
}

Test(boot, too_little_ram)
{
	struct boot_config cfg = config();

	bzimage();
	make_ram(2 * MIB);
	mem.region[0].size = MIB;
	open_file(SETUP + CODE);
	expect_refused(&cfg, -ENOMEM, "2 MiB", "RAM");
}

/* --- anything else --- */

/* Flips bytes in the headers.  The outcome is free, only what loads must stay inside of RAM. */
static void flip_and_load(size_t len, size_t head)
{
	struct initrd_part part = {.path = "i", .fd = -1, .data = "12345", .len = 5};
	struct boot_config cfg = config();
	uint8_t *good = malloc(len);
	unsigned loaded = 0;
	int fd;

	cr_assert(good);
	memcpy(good, file, len);
	cfg.initrd = &part;
	cfg.ninitrd = 1;
	make_ram(64 * MIB);
	open_file(len);
	fd = save(file, len);
	srandom(2);
	for (unsigned round = 0; round < 20000; round++) {
		struct kernel_image opened;
		char path[64];

		memcpy(file, good, len);
		for (unsigned n = 1 + (unsigned)random() % 4; n--;)
			file[(size_t)random() % head] = (uint8_t)random();
		cr_assert_eq(pwrite(fd, file, len, 0), (ssize_t)len);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		e.text[0] = '\0';
		if (kernel_image_open(&opened, path, &e)) {
			cr_assert(e.text[0]);
			continue;
		}
		cfg.kernel = &opened;
		if (!boot_load(&cfg, &mem, &entry, &e))
			loaded++;
		else
			cr_assert(e.text[0]);
		/* the same with a file that changed after it was opened as a good one */
		cr_assert_eq(dup2(fd, img.fd), img.fd);
		cfg.kernel = &img;
		boot_load(&cfg, &mem, &entry, &e);
		kernel_image_close(&opened);
	}
	cr_assert_gt(loaded, 0);
	free(good);
}

Test(boot, bzimage_with_random_bytes)
{
	bzimage();
	flip_and_load(SETUP + CODE, 0x280);
}

Test(boot, pvh_with_random_bytes)
{
	elf(0x1000040);
	memcpy(file + 0xf0, file + 0x400, 24);
	phdr(2)->p_offset = 0xf0;
	flip_and_load(ELF_SIZE, 0x108);
}

Test(boot, elf64_with_random_bytes)
{
	elf(0);
	flip_and_load(ELF_SIZE, 0xe8);
}
