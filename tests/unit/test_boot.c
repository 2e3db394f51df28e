/* boot_load() of a bzImage: what lies where in guest RAM afterwards, and what is refused. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/boot_rig.h"

TestSuite(boot, .timeout = 120);

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
