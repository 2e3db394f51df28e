/* boot_unpack() through boot_load(): a small kernel in a bzImage, in order and in every disorder. */
#include <asm/bootparam.h>
#include <criterion/criterion.h>
#include <elf.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot.h"
#include "vmm/config.h"
#include "vmm/guest_mem.h"
#include "vmm/layout_x86.h"

#define MIB      (1u << 20)
#define LOAD     0x1000000u
#define KERNEL   0xffffffff80000000ull
#define FIRST    0x200000u /* offset of the first segment in the file */
#define TEXT_LEN 0x3000u
#define DATA_OFF (FIRST + 0x200000u)
#define DATA_AT  (LOAD + 0x100000u) /* lower than where it comes to lie: it has to move */
#define DATA_LEN 0x2000u
#define BSS_LEN  0x1000u
#define ENTRY    (LOAD + 0x40u)
#define SETUP    1024u
#define CODE_OFF 64u /* payload_offset */

static uint8_t *elf;
static size_t elf_len, table_at;
static uint8_t *file;
static size_t file_len;
static struct guest_mem mem;
static struct boot_entry entry;
static struct boot_params params;
static struct err e;

static Elf64_Ehdr *ehdr(void)
{
	return (Elf64_Ehdr *)(void *)elf;
}

static Elf64_Phdr *phdr(unsigned i)
{
	return (Elf64_Phdr *)(void *)(elf + sizeof(Elf64_Ehdr)) + i;
}

static void word(uint32_t v)
{
	memcpy(elf + elf_len, &v, 4);
	elf_len += 4;
}

/* Text at LOAD with a 64-bit and a 32-bit address in it, data that has to move down, and bss. */
static void make_elf(bool backwards_list)
{
	const uint64_t wide = KERNEL + LOAD + 0x40;
	const uint32_t narrow = (uint32_t)(KERNEL + LOAD + 0x80), inverse = 0x1000;

	memset(elf, 0, DATA_OFF + MIB);
	memcpy(ehdr()->e_ident, ELFMAG, SELFMAG);
	ehdr()->e_ident[EI_CLASS] = ELFCLASS64;
	ehdr()->e_machine = EM_X86_64;
	ehdr()->e_entry = ENTRY;
	ehdr()->e_phoff = sizeof(Elf64_Ehdr);
	ehdr()->e_phentsize = sizeof(Elf64_Phdr);
	ehdr()->e_phnum = 2;
	ehdr()->e_shentsize = 64;
	ehdr()->e_shoff = DATA_OFF + DATA_LEN;
	*phdr(0) = (Elf64_Phdr){.p_type = PT_LOAD,
				.p_offset = FIRST,
				.p_paddr = LOAD,
				.p_filesz = TEXT_LEN,
				.p_memsz = TEXT_LEN};
	*phdr(1) = (Elf64_Phdr){.p_type = PT_LOAD,
				.p_offset = DATA_OFF,
				.p_paddr = DATA_AT,
				.p_filesz = DATA_LEN,
				.p_memsz = DATA_LEN + BSS_LEN};
	memset(elf + FIRST, 0x11, TEXT_LEN);
	memset(elf + DATA_OFF, 0x22, DATA_LEN);
	memcpy(elf + FIRST + 0x100, &wide, 8);
	memcpy(elf + FIRST + 0x200, &narrow, 4);
	memcpy(elf + DATA_OFF + 0x300, &inverse, 4);
	elf_len = table_at = DATA_OFF + DATA_LEN;
	word(0);
	word((uint32_t)(KERNEL + LOAD + 0x100));
	word(0);
	if (backwards_list) {
		word((uint32_t)(KERNEL + DATA_AT + 0x300));
		word(0);
	}
	word((uint32_t)(KERNEL + LOAD + 0x200));
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}

/* The payload in lz4's legacy frame, in a bzImage whose stub would be 0xcc. */
static void make_file(void)
{
	struct setup_header *h = (void *)(file + offsetof(struct boot_params, hdr));
	uint8_t *payload = file + SETUP + CODE_OFF;
	size_t n = 4;

	memset(file, 0, SETUP);
	memset(file + SETUP, 0xcc, CODE_OFF);
	put32(payload, 0x184c2102);
	for (size_t at = 0; at < elf_len; at += 8u << 20) {
		int len = elf_len - at < 8u << 20 ? (int)(elf_len - at) : 8 << 20;

		len = LZ4_compress_default((char *)elf + at, (char *)payload + n + 4, len, 16 << 20);
		put32(payload + n, (uint32_t)len);
		n += 4 + (size_t)len;
	}
	file_len = (SETUP + CODE_OFF + n + 15) & ~15ul;
	*h = (struct setup_header){
		.setup_sects = 1,
		.boot_flag = 0xaa55,
		.header = 0x53726448,
		.version = 0x020f,
		.jump = 0x66eb,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.syssize = (uint32_t)((file_len - SETUP) / 16),
		.payload_offset = CODE_OFF,
		.payload_length = (uint32_t)n,
		.pref_address = LOAD,
		.init_size = 8 * MIB,
	};
}

static void setup(void)
{
	const struct mem_config cfg = {.size = 64 * MIB, .share = true};

	elf = calloc(1, DATA_OFF + 2 * MIB);
	file = malloc(32 * MIB);
	cr_assert_eq(guest_mem_init(&mem, &cfg, LAYOUT_HOLE_START, LAYOUT_HOLE_END, &e), 0, "%s", e.text);
}

static void teardown(void)
{
	guest_mem_fini(&mem);
	free(elf);
	free(file);
}

TestSuite(boot_unpack, .init = setup, .fini = teardown);

static int load(const char *cmdline)
{
	struct boot_config cfg = {.cmdline = cmdline, .unpack = true};
	struct kernel_image img;
	char path[64];
	int fd = memfd_create("bzImage", MFD_CLOEXEC), rc;

	cr_assert_eq(write(fd, file, file_len), (ssize_t)file_len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	guest_mem_clear(&mem);
	rc = kernel_image_open(&img, path, &e);
	if (!rc) {
		cfg.kernel = &img;
		rc = boot_load(&cfg, &mem, &entry, &e);
		kernel_image_close(&img);
	}
	close(fd);
	guest_mem_read(&mem, LAYOUT_ZERO_PAGE, &params, sizeof(params));
	return rc;
}

static uint8_t *ram(gpa_t gpa)
{
	return guest_mem_ptr(&mem, gpa, 1);
}

static uint64_t read64(gpa_t gpa)
{
	uint64_t v;

	guest_mem_read(&mem, gpa, &v, 8);
	return v;
}

static bool by_the_stub(void)
{
	return entry.rip == LOAD + 0x200 && *ram(LOAD) == 0xcc;
}

Test(boot_unpack, segments_come_to_lie_where_they_belong)
{
	make_elf(true);
	make_file();
	cr_assert_eq(load("nokaslr"), 0, "%s", e.text);
	cr_expect_eq(entry.rip, ENTRY);
	cr_expect_eq(entry.mode, BOOT_LONG64);
	cr_expect_eq(memcmp(ram(LOAD), elf + FIRST, TEXT_LEN), 0);
	cr_expect_eq(memcmp(ram(DATA_AT), elf + DATA_OFF, DATA_LEN), 0);
	for (unsigned i = 0; i < BSS_LEN; i++)
		cr_assert_eq(*ram(DATA_AT + DATA_LEN + i), 0);
	cr_expect_not(params.hdr.loadflags & KASLR_FLAG);
}

static void expect_moved(bool backwards_list)
{
	uint64_t seen = 0;

	make_elf(backwards_list);
	make_file();
	for (unsigned i = 0; i < 20; i++) {
		uint64_t delta;
		uint32_t narrow, inverse;

		cr_assert_eq(load("quiet"), 0, "%s", e.text);
		cr_expect(params.hdr.loadflags & KASLR_FLAG);
		delta = read64(LOAD + 0x100) - (KERNEL + LOAD + 0x40);
		cr_expect_eq(delta % 0x200000, 0);
		cr_expect_leq(delta, 0x40000000u - LOAD - 8 * MIB);
		guest_mem_read(&mem, LOAD + 0x200, &narrow, 4);
		guest_mem_read(&mem, DATA_AT + 0x300, &inverse, 4);
		cr_expect_eq(narrow, (uint32_t)(KERNEL + LOAD + 0x80 + delta));
		cr_expect_eq(inverse, backwards_list ? (uint32_t)(0x1000 - delta) : 0x1000);
		seen |= delta;
	}
	cr_expect_neq(seen, 0, "twenty times the same address is not random");
}

Test(boot_unpack, relocations_with_three_lists)
{
	expect_moved(true);
}

Test(boot_unpack, relocations_with_two_lists)
{
	expect_moved(false);
}

Test(boot_unpack, a_place_outside_the_kernel_spoils_no_other)
{
	make_elf(true);
	elf_len -= 4;
	word((uint32_t)(KERNEL + LOAD - 8));
	make_file();
	cr_assert_eq(load("quiet"), 0, "%s", e.text);
	cr_expect_eq(entry.rip, ENTRY);
	cr_expect_eq(read64(LOAD + 0x100), KERNEL + LOAD + 0x40, "half relocated");
	cr_expect_not(params.hdr.loadflags & KASLR_FLAG);
}

Test(boot_unpack, what_is_not_as_expected_is_left_to_the_stub)
{
	static const struct {
		const char *what;
		size_t at;
		uint64_t value;
	} changes[] = {
		{"no ELF", 0, 0},
		{"entry outside", offsetof(Elf64_Ehdr, e_entry), LOAD - 1},
		{"headers past the end", offsetof(Elf64_Ehdr, e_phoff), UINT64_MAX - 8},
		{"segment past the end", sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_offset),
		 UINT64_MAX - 4096},
		{"segment below", sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), LOAD - 4096},
		{"segment above", sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), LOAD + 8 * MIB},
		{"segment wraps", sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_memsz), UINT64_MAX},
		{"file larger than memory", sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_memsz), 16},
		{"runs over the next", sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), LOAD + 0x1ff000},
	};

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		make_elf(true);
		memcpy(elf + changes[i].at, &changes[i].value, 8);
		make_file();
		cr_assert_eq(load("quiet"), 0, "%s: %s", changes[i].what, e.text);
		cr_expect(by_the_stub(), "%s", changes[i].what);
		for (gpa_t gpa = LOAD - FIRST; gpa < LOAD; gpa += 64)
			cr_assert_eq(*ram(gpa), 0, "%s leaves something behind", changes[i].what);
	}
}

Test(boot_unpack, broken_payload_is_left_to_the_stub)
{
	make_elf(true);
	make_file();
	put32(file + SETUP + CODE_OFF + 8, 0xffffffff);
	cr_assert_eq(load("quiet"), 0, "%s", e.text);
	cr_expect(by_the_stub());
	for (gpa_t gpa = LOAD + file_len; gpa < LOAD + 8 * MIB; gpa += 64)
		cr_assert_eq(*ram(gpa), 0);
}

Test(boot_unpack, unpack_off_is_the_stub)
{
	make_elf(true);
	make_file();
	((struct setup_header *)(void *)(file + offsetof(struct boot_params, hdr)))->payload_length = 0;
	cr_assert_eq(load("quiet"), 0, "%s", e.text);
	cr_expect(by_the_stub());
}

Test(boot_unpack, survives_any_headers_and_relocations, .timeout = 120)
{
	uint32_t x = 3;

	for (unsigned round = 0; round < 1500; round++) {
		make_elf(round % 2);
		for (unsigned i = 0; i < 3; i++) {
			size_t at;

			x = x * 1664525 + 1013904223;
			at = (x >> 8) % (64 + 2 * 56 + 24);
			if (at >= 64 + 2 * 56)
				at += table_at - (64 + 2 * 56);
			elf[at] = (uint8_t)(x >> 24);
		}
		make_file();
		load("quiet"); /* whatever it says, it comes back */
	}
}
