/* boot_load() of an ELF kernel, and of what is no kernel. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/boot_rig.h"

TestSuite(boot_elf, .timeout = 120);

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

Test(boot_elf, elf_segments)
{
	struct boot_config cfg = config();

	elf(0);
	boot_elf(&cfg);
	cr_assert_eq(memcmp(ram(0x1000000, 0x1000), file + 0x1000, 0x1000), 0);
	cr_assert_eq(*(const uint8_t *)ram(0x1001000, 1), 0);
	cr_assert_eq(memcmp(ram(0x1200000, 0x800), file + 0x2000, 0x800), 0);
}

Test(boot_elf, pvh_entry_and_start_info)
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

Test(boot_elf, pvh_memory_map)
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

Test(boot_elf, pvh_initrd_is_a_module)
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

Test(boot_elf, elf64_zero_page)
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

Test(boot_elf, elf64_virtual_entry_is_translated)
{
	struct boot_config cfg = config();

	elf(0);
	ehdr()->e_entry = 0xffffffff81200010;
	boot_elf(&cfg);
	cr_assert_eq(entry.rip, 0x1200010);
}

Test(boot_elf, elf_entry_outside_of_its_segments)
{
	elf(0);
	ehdr()->e_entry = 0xffffffff90000000;
	expect_elf_refused(-ENOEXEC, "entry point 0xffffffff90000000", "none of its segments");
	elf(0x1004000);
	expect_elf_refused(-ENOEXEC, "entry point 0x1004000", "none of its segments");
}

Test(boot_elf, elf_segment_below_1_mib)
{
	elf(0);
	phdr(1)->p_paddr = LAYOUT_ZERO_PAGE;
	expect_elf_refused(-EINVAL, "segment 1", "0x100000");
}

Test(boot_elf, elf_segment_in_the_hole)
{
	struct boot_config cfg = config();

	elf(0);
	phdr(1)->p_paddr = LAYOUT_HOLE_START - 0x400;
	make_ram(6 * GIB);
	open_file(ELF_SIZE);
	expect_refused(&cfg, -EINVAL, "segment 1", "ends at 0xc0000000");
}

Test(boot_elf, elf_segment_beyond_ram)
{
	elf(0);
	phdr(0)->p_memsz = 256 * MIB;
	expect_elf_refused(-EINVAL, "segment 0", "-m");
}

Test(boot_elf, elf_segment_whose_address_overflows)
{
	elf(0);
	phdr(1)->p_paddr = UINT64_MAX - 0x10;
	expect_elf_refused(-EINVAL, "segment 1", "physical address");
}

Test(boot_elf, elf_segment_whose_size_overflows)
{
	elf(0);
	phdr(1)->p_memsz = UINT64_MAX;
	expect_elf_refused(-EINVAL, "segment 1", "physical address");
}

Test(boot_elf, elf_initrd_above_the_last_segment)
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

Test(boot_elf, too_little_ram)
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

Test(boot_elf, bzimage_with_random_bytes)
{
	bzimage();
	flip_and_load(SETUP + CODE, 0x280);
}

Test(boot_elf, pvh_with_random_bytes)
{
	elf(0x1000040);
	memcpy(file + 0xf0, file + 0x400, 24);
	phdr(2)->p_offset = 0xf0;
	flip_and_load(ELF_SIZE, 0x108);
}

Test(boot_elf, elf64_with_random_bytes)
{
	elf(0);
	flip_and_load(ELF_SIZE, 0xe8);
}
