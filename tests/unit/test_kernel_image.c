/* kernel_image_open(): a good file is recognised, and every wrong one is called by its name. */
#include <asm/bootparam.h>
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "tests/unit/teardown.h"
#include "vmm/boot.h"

#define NOTE_OFFSET 0x400
#define CODE_OFFSET 0x1000
#define ELF_SIZE    0x1800

static char dir[PATH_MAX];
static uint8_t file[0x9000];

static void make_dir(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/kernel-image-XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(dir));
}

static void teardown(void)
{
	char cmd[PATH_MAX + 16];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	cr_expect_eq(system(cmd), 0);
}

TestSuite(kernel_image, .init = make_dir, .fini = teardown_once, .timeout = 60);

static const char *name_of(const char *name)
{
	static char path[2 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static const char *save(const void *data, size_t len)
{
	const char *path = name_of("kernel");
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, data, len), (ssize_t)len);
	close(fd);
	return path;
}

static void expect_refused(const char *path, int code, const char *what, const char *more)
{
	struct err e = {0};
	struct kernel_image img;

	cr_assert_eq(kernel_image_open(&img, path, &e), code, "got %d: %s", e.code, e.text);
	cr_assert_eq(img.fd, -1);
	cr_assert(strstr(e.text, what), "no \"%s\" in: %s", what, e.text);
	cr_assert(strstr(e.text, more), "no \"%s\" in: %s", more, e.text);
}

static void expect_bytes_refused(const void *data, size_t len, const char *what, const char *more)
{
	memset(file, 0x90, 0x8800);
	memcpy(file, data, len);
	expect_refused(save(file, 0x8800), -ENOEXEC, what, more);
}

static void expect_bytes_at_refused(size_t at, const char *data, const char *what, const char *more)
{
	memset(file, 0x90, 0x8800);
	memcpy(file + at, data, strlen(data));
	expect_refused(save(file, 0x8800), -ENOEXEC, what, more);
}

static void expect_kind(const char *path, enum kernel_kind kind, struct kernel_image *img)
{
	struct err e = {0};

	cr_assert_eq(kernel_image_open(img, path, &e), 0, "%s", e.text);
	cr_assert_eq(img->kind, kind);
	cr_assert_eq(img->path, path);
}

/* --- bzImage --- */

#define BZ_SIZE (5 * 512 + 4096)

static struct setup_header *bzimage(void)
{
	struct setup_header *hdr = (void *)(file + 0x1f1);

	memset(file, 0, sizeof(file));
	memcpy(file, "MZ", 2); /* as a kernel with an EFI stub begins */
	hdr->setup_sects = 4;
	hdr->syssize = 4096 / 16;
	hdr->boot_flag = 0xaa55;
	hdr->jump = 0x6aeb;
	hdr->header = 0x53726448;
	hdr->version = 0x20f;
	hdr->loadflags = LOADED_HIGH;
	hdr->kernel_version = 0x300 - 0x200;
	hdr->relocatable_kernel = 1;
	hdr->kernel_alignment = 0x200000;
	hdr->xloadflags = XLF_KERNEL_64;
	hdr->cmdline_size = 2047;
	hdr->pref_address = 0x1000000;
	hdr->init_size = 0x100000;
	strcpy((char *)file + 0x300, "6.1.0-test (someone@somewhere) #1 SMP");
	return hdr;
}

WholeTest(kernel_image, bzimage)
{
	struct kernel_image img;

	bzimage();
	expect_kind(save(file, BZ_SIZE), KERNEL_BZIMAGE, &img);
	cr_assert_eq(img.size, BZ_SIZE);
	cr_assert_str_eq(img.version, "6.1.0-test (someone@somewhere) #1 SMP");
	cr_assert(fcntl(img.fd, F_GETFD) & FD_CLOEXEC);
	kernel_image_close(&img);
	cr_assert_eq(img.fd, -1);
}

WholeTest(kernel_image, bzimage_version_ends_at_the_first_byte_that_is_no_text)
{
	static const char *const text[] = {"6.1\033[2J", "6.1\x7f.0", "6.1\xff.0"};

	for (unsigned i = 0; i < ARRAY_SIZE(text); i++) {
		struct kernel_image img;

		bzimage();
		strcpy((char *)file + 0x300, text[i]);
		expect_kind(save(file, BZ_SIZE), KERNEL_BZIMAGE, &img);
		cr_assert_str_eq(img.version, "6.1");
		kernel_image_close(&img);
	}
}

WholeTest(kernel_image, bzimage_version_is_cut_to_its_room)
{
	struct kernel_image img;

	bzimage();
	memset(file + 0x300, 'v', 500);
	expect_kind(save(file, BZ_SIZE), KERNEL_BZIMAGE, &img);
	cr_assert_eq(strlen(img.version), sizeof(img.version) - 1);
	kernel_image_close(&img);
}

WholeTest(kernel_image, bzimage_version_outside_the_setup_code_is_left_out)
{
	struct kernel_image img;

	bzimage()->kernel_version = 5 * 512 - 0x200;
	strcpy((char *)file + 5 * 512, "code");
	expect_kind(save(file, BZ_SIZE), KERNEL_BZIMAGE, &img);
	cr_assert_str_eq(img.version, "");
	kernel_image_close(&img);
}

WholeTest(kernel_image, bzimage_whose_last_paragraph_is_not_full)
{
	struct kernel_image img;

	bzimage();
	expect_kind(save(file, BZ_SIZE - 15), KERNEL_BZIMAGE, &img);
	kernel_image_close(&img);
}

WholeTest(kernel_image, bzimage_truncated)
{
	bzimage();
	expect_refused(save(file, BZ_SIZE - 16), -ENOEXEC, "truncated bzImage", "6640");
}

WholeTest(kernel_image, bzimage_truncated_in_its_header)
{
	bzimage();
	expect_refused(save(file, 0x220), -ENOEXEC, "truncated bzImage", "544 bytes");
}

WholeTest(kernel_image, bzimage_with_the_largest_sizes)
{
	struct setup_header *hdr = bzimage();

	hdr->setup_sects = 255;
	hdr->syssize = UINT32_MAX;
	expect_refused(save(file, BZ_SIZE), -ENOEXEC, "truncated bzImage", "promises 68719607");
}

WholeTest(kernel_image, bzimage_without_code)
{
	bzimage()->syssize = 0;
	expect_refused(save(file, BZ_SIZE), -ENOEXEC, "broken bzImage", "syssize is 0");
}

WholeTest(kernel_image, bzimage_whose_header_ends_too_early)
{
	bzimage()->jump = 0x10eb;
	expect_refused(save(file, BZ_SIZE), -ENOEXEC, "broken bzImage", "ends at 0x212");
}

WholeTest(kernel_image, bzimage_of_an_old_protocol)
{
	bzimage()->version = 0x20b;
	expect_refused(save(file, BZ_SIZE), -ENOEXEC, "boot protocol 2.11", "2.12");
}

WholeTest(kernel_image, bzimage_32_bit)
{
	bzimage()->xloadflags = 0;
	expect_refused(save(file, BZ_SIZE), -ENOEXEC, "32-bit bzImage", "XLF_KERNEL_64");
}

WholeTest(kernel_image, zimage)
{
	bzimage()->loadflags = 0;
	expect_refused(save(file, BZ_SIZE), -ENOEXEC, "zImage", "bzImage");
}

/* --- ELF --- */

static Elf64_Ehdr *ehdr(void)
{
	return (void *)file;
}

static Elf64_Phdr *phdr(unsigned i)
{
	return (Elf64_Phdr *)(void *)(file + sizeof(Elf64_Ehdr)) + i;
}

/* One segment at 16 MiB and one of notes. */
static void elf(void)
{
	memset(file, 0, sizeof(file));
	memcpy(ehdr()->e_ident, ELFMAG, SELFMAG);
	ehdr()->e_ident[EI_CLASS] = ELFCLASS64;
	ehdr()->e_ident[EI_DATA] = ELFDATA2LSB;
	ehdr()->e_type = ET_EXEC;
	ehdr()->e_machine = EM_X86_64;
	ehdr()->e_entry = 0x1000000;
	ehdr()->e_phoff = sizeof(Elf64_Ehdr);
	ehdr()->e_phentsize = sizeof(Elf64_Phdr);
	ehdr()->e_phnum = 2;
	*phdr(0) = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = CODE_OFFSET,
		.p_paddr = 0x1000000,
		.p_filesz = ELF_SIZE - CODE_OFFSET,
		.p_memsz = 0x4000,
	};
	*phdr(1) = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = NOTE_OFFSET, .p_align = 4};
}

static void note(const char *name, uint32_t name_size, uint32_t type, uint64_t desc, uint32_t desc_size)
{
	uint8_t *p = file + NOTE_OFFSET + phdr(1)->p_filesz;
	Elf64_Nhdr nh = {.n_namesz = name_size, .n_descsz = desc_size, .n_type = type};

	memcpy(p, &nh, sizeof(nh));
	memcpy(p + sizeof(nh), name, strlen(name) + 1);
	memcpy(p + sizeof(nh) + 4, &desc, sizeof(desc));
	phdr(1)->p_filesz += sizeof(nh) + 4 + 8;
}

static const char *save_elf(void)
{
	return save(file, ELF_SIZE);
}

WholeTest(kernel_image, elf_without_a_note)
{
	struct kernel_image img;

	elf();
	expect_kind(save_elf(), KERNEL_ELF64, &img);
	kernel_image_close(&img);
}

WholeTest(kernel_image, elf_pvh_note_of_4_bytes)
{
	struct kernel_image img;

	elf();
	note("Xen", 4, 18, 0xdeadbeef01000040, 4);
	expect_kind(save_elf(), KERNEL_ELF_PVH, &img);
	cr_assert_eq(img.pvh_entry, 0x01000040);
	kernel_image_close(&img);
}

WholeTest(kernel_image, elf_pvh_note_of_8_bytes)
{
	struct kernel_image img;

	elf();
	note("Xen", 4, 18, 0x01000040, 8);
	expect_kind(save_elf(), KERNEL_ELF_PVH, &img);
	cr_assert_eq(img.pvh_entry, 0x01000040);
	kernel_image_close(&img);
}

WholeTest(kernel_image, elf_pvh_note_behind_others)
{
	struct kernel_image img;

	elf();
	note("GNU", 4, 18, 1, 8);
	note("Xen", 4, 6, 2, 8);
	note("Xen", 4, 18, 0x01000040, 8);
	expect_kind(save_elf(), KERNEL_ELF_PVH, &img);
	cr_assert_eq(img.pvh_entry, 0x01000040);
	kernel_image_close(&img);
}

WholeTest(kernel_image, elf_pvh_note_of_another_size_is_no_entry)
{
	struct kernel_image img;

	elf();
	note("Xen", 4, 18, 0x01000040, 2);
	expect_kind(save_elf(), KERNEL_ELF64, &img);
	kernel_image_close(&img);
}

WholeTest(kernel_image, elf_note_whose_name_lies_about_its_size)
{
	struct kernel_image img;

	elf();
	note("Xen", UINT32_MAX, 18, 0x01000040, 8);
	expect_kind(save_elf(), KERNEL_ELF64, &img);
	kernel_image_close(&img);
}

WholeTest(kernel_image, elf_note_whose_description_lies_about_its_size)
{
	struct kernel_image img;

	elf();
	note("Xen", 4, 1, 0x01000040, UINT32_MAX - 1);
	note("Xen", 4, 18, 0x01000040, 8);
	expect_kind(save_elf(), KERNEL_ELF64, &img);
	kernel_image_close(&img);
}

WholeTest(kernel_image, elf_note_at_the_end_of_the_file)
{
	struct kernel_image img;

	elf();
	phdr(1)->p_offset = ELF_SIZE - sizeof(Elf64_Nhdr);
	phdr(1)->p_filesz = sizeof(Elf64_Nhdr);
	((Elf64_Nhdr *)(void *)(file + phdr(1)->p_offset))->n_type = 18;
	((Elf64_Nhdr *)(void *)(file + phdr(1)->p_offset))->n_namesz = 4;
	((Elf64_Nhdr *)(void *)(file + phdr(1)->p_offset))->n_descsz = 4;
	expect_kind(save_elf(), KERNEL_ELF64, &img);
	kernel_image_close(&img);
}

WholeTest(kernel_image, elf_truncated_in_a_segment)
{
	elf();
	phdr(0)->p_filesz++;
	expect_refused(save_elf(), -ENOEXEC, "truncated ELF", "segment 0");
}

WholeTest(kernel_image, elf_segment_whose_end_overflows)
{
	elf();
	phdr(0)->p_filesz = UINT64_MAX - CODE_OFFSET + 2;
	phdr(0)->p_memsz = UINT64_MAX;
	expect_refused(save_elf(), -ENOEXEC, "truncated ELF", "segment 0");
}

WholeTest(kernel_image, elf_truncated_in_the_program_headers)
{
	elf();
	ehdr()->e_phoff = ELF_SIZE - 60;
	expect_refused(save_elf(), -ENOEXEC, "truncated ELF", "program headers");
}

WholeTest(kernel_image, elf_program_headers_whose_end_overflows)
{
	elf();
	ehdr()->e_phoff = UINT64_MAX - 8;
	expect_refused(save_elf(), -ENOEXEC, "truncated ELF", "program headers");
}

WholeTest(kernel_image, elf_truncated_in_its_header)
{
	elf();
	expect_refused(save(file, 40), -ENOEXEC, "truncated ELF", "40 bytes");
}

WholeTest(kernel_image, elf_with_65535_program_headers)
{
	elf();
	ehdr()->e_phnum = 0xffff;
	expect_refused(save_elf(), -ENOEXEC, "65535", "program headers");
}

WholeTest(kernel_image, elf_with_program_headers_of_another_size)
{
	elf();
	ehdr()->e_phentsize = 0;
	expect_refused(save_elf(), -ENOEXEC, "broken ELF", "56");
}

WholeTest(kernel_image, elf_with_more_in_the_file_than_in_memory)
{
	elf();
	phdr(0)->p_memsz = 1;
	expect_refused(save_elf(), -ENOEXEC, "broken ELF", "in memory");
}

WholeTest(kernel_image, elf_with_nothing_to_load)
{
	elf();
	phdr(0)->p_type = PT_NULL;
	expect_refused(save_elf(), -ENOEXEC, "nothing to load", "ELF");
}

WholeTest(kernel_image, elf_for_another_machine)
{
	static const struct {
		uint16_t machine;
		const char *name;
	} other[] = {
		{EM_AARCH64, "aarch64"},
		{EM_RISCV, "riscv"},
		{EM_PPC64, "ppc64"},
		{0x1234, "4660"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(other); i++) {
		elf();
		ehdr()->e_machine = other[i].machine;
		expect_refused(save_elf(), -ENOEXEC, other[i].name, "x86-64");
	}
}

WholeTest(kernel_image, elf_big_endian)
{
	elf();
	ehdr()->e_ident[EI_DATA] = ELFDATA2MSB;
	ehdr()->e_machine = __builtin_bswap16(EM_S390);
	expect_refused(save_elf(), -ENOEXEC, "s390", "64-bit");
}

WholeTest(kernel_image, elf32)
{
	elf();
	ehdr()->e_ident[EI_CLASS] = ELFCLASS32;
	ehdr()->e_machine = EM_386;
	expect_refused(save_elf(), -ENOEXEC, "32-bit ELF file for i386", "64-bit");
}

WholeTest(kernel_image, elf_relocatable)
{
	elf();
	ehdr()->e_type = ET_REL;
	expect_refused(save_elf(), -ENOEXEC, "relocatable object", "vmlinux");
}

WholeTest(kernel_image, elf_shared)
{
	expect_refused("/proc/self/exe", -ENOEXEC, "ELF", "vmlinux");
	elf();
	ehdr()->e_type = ET_DYN;
	expect_refused(save_elf(), -ENOEXEC, "shared object", "vmlinux");
}

WholeTest(kernel_image, elf_program)
{
	elf();
	phdr(1)->p_type = PT_INTERP;
	expect_refused(save_elf(), -ENOEXEC, "user-space program", "vmlinux");
}

/* --- other files --- */

WholeTest(kernel_image, compressed)
{
	expect_bytes_refused("\x1f\x8b\x08", 3, "gzip data", "zcat");
	expect_bytes_refused("\xfd"
			     "7zXZ\0",
			     6, "xz data", "xzcat");
	expect_bytes_refused("\x28\xb5\x2f\xfd", 4, "zstd data", "zstdcat");
	expect_bytes_refused("BZh9", 4, "bzip2 data", "bzcat");
	expect_bytes_refused("\x02\x21\x4c\x18", 4, "lz4 data", "lz4cat");
}

WholeTest(kernel_image, other_architectures)
{
	expect_bytes_at_refused(0x38, "ARM\x64", "arm64 Image", "x86-64");
	expect_bytes_at_refused(0x30, "RISCV", "riscv Image", "x86-64");
	expect_bytes_at_refused(0x38, "RSC\x05", "riscv Image", "x86-64");
}

WholeTest(kernel_image, arm64_image_that_is_an_efi_program_too)
{
	uint8_t head[0x40] = "MZ";

	memcpy(head + 0x38, "ARM\x64", 4);
	expect_bytes_refused(head, sizeof(head), "arm64 Image", "x86-64");
}

WholeTest(kernel_image, efi_program)
{
	uint8_t head[0x100] = "MZ";

	head[0x3c] = 0x80;
	memcpy(head + 0x80, "PE\0\0\x64\x86", 6);
	expect_bytes_refused(head, sizeof(head), "EFI program", "firmware");
	memcpy(head + 0x84, "\x64\xaa", 2);
	expect_bytes_refused(head, sizeof(head), "another machine", "x86-64");
	memcpy(head + 0xa0, ".linux\0", 8);
	expect_bytes_refused(head, sizeof(head), "unified kernel image", "objcopy");
}

WholeTest(kernel_image, efi_program_whose_header_lies_outside)
{
	uint8_t head[0x40] = "MZ";

	memset(head + 0x3c, 0xff, 4);
	expect_bytes_refused(head, sizeof(head), "DOS program", "bzImage");
	memcpy(head + 0x3c, "\xfa\x87\0\0", 4);
	expect_bytes_refused(head, sizeof(head), "DOS program", "bzImage");
	expect_refused(save("MZ", 2), -ENOEXEC, "DOS program", "bzImage");
}

WholeTest(kernel_image, initrd)
{
	expect_bytes_refused("070701", 6, "cpio archive", "-i");
	expect_bytes_refused("\xc7\x71", 2, "cpio archive", "-i");
}

WholeTest(kernel_image, disk_images)
{
	expect_bytes_refused("QFI\xfb", 4, "qcow2", "with -k");
	expect_bytes_at_refused(0x8001, "CD001", "ISO 9660", "with -k");
	expect_bytes_at_refused(0x200, "EFI PART", "GPT", "with -k");
	expect_bytes_at_refused(0x1fe, "\x55\xaa", "boot sector", "with -k");
}

WholeTest(kernel_image, script)
{
	expect_bytes_refused("#!/bin/sh\n", 10, "script", "bzImage");
}

WholeTest(kernel_image, text)
{
	expect_refused(save("hello, world\n", 13), -ENOEXEC, "text file", "bzImage");
}

WholeTest(kernel_image, zeros)
{
	memset(file, 0, sizeof(file));
	expect_refused(save(file, sizeof(file)), -ENOEXEC, "zero bytes", "went wrong");
}

WholeTest(kernel_image, unknown)
{
	expect_bytes_refused("\x01\x02\x03\x04", 4, "01 02 03 04", "bzImage");
	expect_refused(save("\x90", 1), -ENOEXEC, "1 bytes", "bzImage");
}

WholeTest(kernel_image, empty)
{
	expect_refused(save("", 0), -ENOEXEC, "empty", "bzImage");
}

/* --- not even a file --- */

WholeTest(kernel_image, missing)
{
	expect_refused(name_of("nothing"), -ENOENT, "no such file", "/boot/vmlinuz");
	expect_refused("", -ENOENT, "name of the kernel is empty", "bzImage");
}

WholeTest(kernel_image, dangling_link)
{
	cr_assert_eq(symlink("nowhere", name_of("link")), 0);
	expect_refused(name_of("link"), -ENOENT, "symbolic link", "does not exist");
}

WholeTest(kernel_image, no_permission)
{
	const char *path;

	bzimage();
	path = save(file, BZ_SIZE);
	cr_assert_eq(chmod(path, 0), 0);
	if (!geteuid()) /* root reads everything */
		cr_assert_eq(chmod(dir, 0755) || seteuid(65534), 0);
	expect_refused(path, -EACCES, "permission denied", "chmod");
	cr_assert_eq(getuid() ? 0 : seteuid(0), 0);
}

WholeTest(kernel_image, directory)
{
	expect_refused(dir, -EISDIR, "is a directory", "bzImage");
}

WholeTest(kernel_image, build_tree)
{
	char path[2 * PATH_MAX];
	int fd;

	cr_assert_eq(mkdir(name_of("arch"), 0755), 0);
	cr_assert_eq(mkdir(name_of("arch/x86"), 0755), 0);
	cr_assert_eq(mkdir(name_of("arch/x86/boot"), 0755), 0);
	snprintf(path, sizeof(path), "%s", name_of("arch/x86/boot/bzImage"));
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	close(fd);
	expect_refused(dir, -EISDIR, "did you mean", path);
}

WholeTest(kernel_image, fifo_without_a_writer)
{
	cr_assert_eq(mkfifo(name_of("fifo"), 0600), 0);
	expect_refused(name_of("fifo"), -ENOEXEC, "FIFO", "regular file");
}

WholeTest(kernel_image, device)
{
	expect_refused("/dev/zero", -ENOEXEC, "character device", "bzImage");
}

WholeTest(kernel_image, socket)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(chdir(dir), 0);
	strcpy(addr.sun_path, "socket");
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	expect_refused("socket", -ENOEXEC, "a socket", "bzImage");
	close(fd);
}

/* --- anything else --- */

static void flip_and_open(size_t len, size_t head)
{
	struct kernel_image img;
	uint8_t *good = malloc(len);
	struct err e;

	cr_assert(good);
	memcpy(good, file, len);
	srandom(1);
	for (unsigned round = 0; round < 20000; round++) {
		memcpy(file, good, len);
		for (unsigned n = 1 + (unsigned)random() % 4; n--;)
			file[(size_t)random() % head] = (uint8_t)random();
		if (!kernel_image_open(&img, save(file, len), &e))
			kernel_image_close(&img);
		else
			cr_assert(e.text[0]);
	}
	free(good);
}

WholeTest(kernel_image, bzimage_with_random_bytes)
{
	bzimage();
	flip_and_open(BZ_SIZE, 0x280);
}

WholeTest(kernel_image, elf_with_random_bytes)
{
	elf();
	note("GNU", 4, 18, 1, 8);
	note("Xen", 4, 18, 0x01000040, 8);
	memmove(file + 0xc0, file + NOTE_OFFSET, phdr(1)->p_filesz);
	phdr(1)->p_offset = 0xc0;
	flip_and_open(ELF_SIZE, 0x100);
}
