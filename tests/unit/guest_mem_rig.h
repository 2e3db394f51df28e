/* For the tests of guest RAM: made with a hole, filled from files. */
#ifndef TESTS_UNIT_GUEST_MEM_RIG_H
#define TESTS_UNIT_GUEST_MEM_RIG_H
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/config.h"
#include "vmm/guest_mem.h"

#define MIB        (1ull << 20)
#define GIB        (1ull << 30)
#define HOLE_START (3 * GIB)
#define HOLE_END   (4 * GIB)

static struct guest_mem mem;
static struct err e;

static void teardown(void)
{
	guest_mem_fini(&mem);
}

static void setup(void)
{
	mem.fd = -1;
}

static inline int make(struct mem_config cfg)
{
	return guest_mem_init(&mem, &cfg, HOLE_START, HOLE_END, &e);
}

static inline void make_size(uint64_t size)
{
	cr_assert_eq(make((struct mem_config){.size = size, .share = true, .thp = true}), 0, "%s", e.text);
}

static inline uint64_t resident(void)
{
	struct stat st;

	cr_assert_eq(fstat(mem.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static inline int file_of(size_t len)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	CLEANUP_FREE uint8_t *p = malloc(len);

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 13 >> 2);
	cr_assert_eq(write(fd, p, len), len);
	return fd;
}

static inline void loaded(gpa_t gpa, size_t offset, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		const uint8_t *p = guest_mem_ptr(&mem, gpa + i, 1);

		cr_assert_eq(*p, (uint8_t)((offset + i) * 13 >> 2), "byte %zu", i);
	}
	if (guest_mem_ptr(&mem, gpa + len, 1))
		cr_assert_eq(*(uint8_t *)guest_mem_ptr(&mem, gpa + len, 1), 0, "a byte too many");
}

static inline void load_all_kinds(void)
{
	CLEANUP_FD int fd = file_of(300001);

	cr_expect_eq(guest_mem_load(&mem, 0x1003, fd, 0, 300001), 0);
	loaded(0x1003, 0, 300001);
	cr_expect_eq(guest_mem_load(&mem, 16 * MIB - 1, fd, 77, 200000), 0);
	loaded(16 * MIB - 1, 77, 200000);
	cr_expect_eq(guest_mem_load(&mem, 8 * MIB, fd, 0, 300002), -ENODATA);
	cr_expect_eq(guest_mem_load(&mem, 8 * MIB, fd, 300001, 1), -ENODATA);
	cr_expect_eq(guest_mem_load(&mem, 8 * MIB, fd, 400000, 1), -ENODATA);
	cr_expect_eq(guest_mem_load(&mem, mem.region[0].size - 100, fd, 0, 101), -EFAULT);
	cr_expect_eq(guest_mem_load(&mem, mem.region[0].size - 100, fd, 0, 100), 0);
	cr_expect_eq(guest_mem_load(&mem, UINT64_MAX - 10, fd, 0, 100), -EFAULT);
}
#endif
