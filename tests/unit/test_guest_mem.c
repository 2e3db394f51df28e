/* Guest RAM: edges, the hole, pointers, copies, and files that are loaded. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>

#include "tests/unit/guest_mem_rig.h"
#include "vmm/hugepages.h"

TestSuite(guest_mem, .init = setup, .fini = teardown, .timeout = 120);

/* --- the map --- */

Test(guest_mem, small_ram_is_one_region)
{
	make_size(256 * MIB);
	cr_expect_eq(mem.nregions, 1);
	cr_expect_eq(mem.region[0].gpa, 0);
	cr_expect_eq(mem.region[0].size, 256 * MIB);
	cr_expect_eq(mem.region[0].fd_offset, 0);
}

Test(guest_mem, ram_up_to_the_hole_is_one_region)
{
	make_size(3 * GIB);
	cr_expect_eq(mem.nregions, 1);
	cr_expect_eq(mem.region[0].size, 3 * GIB);
	cr_expect_null(guest_mem_ptr(&mem, HOLE_START, 1));
}

Test(guest_mem, the_rest_lies_above_the_hole)
{
	make_size(6 * GIB);
	cr_expect_eq(mem.nregions, 2);
	cr_expect_eq(mem.region[0].size, 3 * GIB);
	cr_expect_eq(mem.region[1].gpa, HOLE_END);
	cr_expect_eq(mem.region[1].size, 3 * GIB);
	cr_expect_eq(mem.region[1].fd_offset, 3 * GIB);
	cr_expect_eq(mem.region[1].fd, mem.fd);
}

Test(guest_mem, two_megabytes_over)
{
	make_size(3 * GIB + 2 * MIB);
	cr_expect_eq(mem.nregions, 2);
	cr_expect_eq(mem.region[1].size, 2 * MIB);
}

Test(guest_mem, is_sparse)
{
	make_size(6 * GIB);
	cr_expect_eq(resident(), 0);
}

Test(guest_mem, host_and_guest_addresses_are_in_step)
{
	make_size(6 * GIB);
	for (unsigned i = 0; i < 2; i++)
		cr_expect_eq((uintptr_t)mem.region[i].hva % (2 * MIB), 0);
}

/* --- pointers --- */

static void edges_of(gpa_t first, uint64_t size)
{
	cr_expect_not_null(guest_mem_ptr(&mem, first, 1));
	cr_expect_not_null(guest_mem_ptr(&mem, first, size));
	cr_expect_not_null(guest_mem_ptr(&mem, first + size - 1, 1));
	cr_expect_null(guest_mem_ptr(&mem, first, size + 1));
	cr_expect_null(guest_mem_ptr(&mem, first + size - 1, 2));
	cr_expect_null(guest_mem_ptr(&mem, first + size, 1));
	cr_expect_null(guest_mem_ptr(&mem, first - 1, 1));
	cr_expect_null(guest_mem_ptr(&mem, first + 1, UINT64_MAX));
	cr_expect_null(guest_mem_ptr(&mem, first + 1, UINT64_MAX - first));
	cr_expect_not_null(guest_mem_ptr(&mem, first, 0));
}

Test(guest_mem, pointers_at_every_edge)
{
	static const uint64_t sizes[] = {256 * MIB, 3 * GIB, 6 * GIB};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		make_size(sizes[i]);
		for (unsigned r = 0; r < mem.nregions; r++)
			edges_of(mem.region[r].gpa, mem.region[r].size);
		guest_mem_fini(&mem);
	}
}

Test(guest_mem, no_pointer_into_the_hole)
{
	make_size(6 * GIB);
	cr_expect_null(guest_mem_ptr(&mem, HOLE_START, 1));
	cr_expect_null(guest_mem_ptr(&mem, HOLE_END - 1, 1));
	cr_expect_null(guest_mem_ptr(&mem, HOLE_END - 1, 2));
	cr_expect_null(guest_mem_ptr(&mem, HOLE_START - 1, GIB + 2));
}

Test(guest_mem, no_pointer_at_the_end_of_addresses)
{
	make_size(6 * GIB);
	cr_expect_null(guest_mem_ptr(&mem, UINT64_MAX, 1));
	cr_expect_null(guest_mem_ptr(&mem, UINT64_MAX, 2));
	cr_expect_null(guest_mem_ptr(&mem, UINT64_MAX - 7, 16));
}

/* --- copies --- */

Test(guest_mem, what_is_written_is_read)
{
	static const gpa_t at[] = {0, 1, 4095, 2 * MIB - 3, 3 * GIB - 6, 4 * GIB, 7 * GIB - 6};

	make_size(6 * GIB);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		char back[6];

		cr_expect_eq(guest_mem_write(&mem, at[i], "guest", 6), 0);
		cr_expect_eq(guest_mem_read(&mem, at[i], back, 6), 0);
		cr_expect_str_eq(back, "guest");
		cr_expect_str_eq((char *)guest_mem_ptr(&mem, at[i], 6), "guest");
	}
}

Test(guest_mem, copies_over_an_edge_fault)
{
	static const gpa_t at[] = {3 * GIB - 5, 3 * GIB,        4 * GIB - 1, 7 * GIB - 5,
				   7 * GIB,     UINT64_MAX - 2, UINT64_MAX};
	char buf[6] = "";

	make_size(6 * GIB);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		cr_expect_eq(guest_mem_write(&mem, at[i], buf, 6), -EFAULT, "at %#lx", at[i]);
		cr_expect_eq(guest_mem_read(&mem, at[i], buf, 6), -EFAULT, "at %#lx", at[i]);
	}
}

Test(guest_mem, copies_of_nothing)
{
	make_size(256 * MIB);
	cr_expect_eq(guest_mem_write(&mem, 256 * MIB, NULL, 0), 0);
	cr_expect_eq(guest_mem_read(&mem, UINT64_MAX, NULL, 0), 0);
	cr_expect_eq(guest_mem_load(&mem, UINT64_MAX, -1, 0, 0), 0);
}

/* The second region of a table may follow the first without a hole. */
Test(guest_mem, copies_cross_regions_that_touch)
{
	const struct mem_config cfg = {.size = 8 * MIB, .share = true};
	char back[8];

	cr_assert_eq(guest_mem_init(&mem, &cfg, 4 * MIB, 4 * MIB, &e), 0, "%s", e.text);
	cr_expect_eq(mem.nregions, 2);
	cr_expect_eq(guest_mem_write(&mem, 4 * MIB - 3, "acrossX", 8), 0);
	cr_expect_eq(guest_mem_read(&mem, 4 * MIB - 3, back, 8), 0);
	cr_expect_str_eq(back, "acrossX");
	cr_expect_null(guest_mem_ptr(&mem, 4 * MIB - 3, 8));
}

Test(guest_mem, knows_its_own_addresses)
{
	make_size(6 * GIB);
	for (unsigned i = 0; i < 2; i++) {
		const char *p = mem.region[i].hva;

		cr_expect(guest_mem_holds(&mem, p));
		cr_expect(guest_mem_holds(&mem, p + mem.region[i].size - 1));
	}
	cr_expect(!guest_mem_holds(&mem, NULL));
	cr_expect(!guest_mem_holds(&mem, &mem));
	guest_mem_fini(&mem);
	cr_expect(!guest_mem_holds(&mem, &mem));
}

/* --- loading files --- */

Test(guest_mem, load_by_sendfile)
{
	make_size(64 * MIB);
	load_all_kinds();
}

Test(guest_mem, load_into_private_ram)
{
	cr_assert_eq(make((struct mem_config){.size = 64 * MIB}), 0, "%s", e.text);
	cr_expect_eq(mem.region[0].fd, -1);
	load_all_kinds();
}

Test(guest_mem, load_into_huge_pages)
{
	if (make((struct mem_config){.size = 64 * MIB, .hugepage_size = 2 * MIB, .share = true}))
		cr_skip_test("32 huge pages cannot be had");
	load_all_kinds();
}

Test(guest_mem, load_above_the_hole)
{
	CLEANUP_FD int fd = file_of(5000);

	make_size(6 * GIB);
	cr_expect_eq(guest_mem_load(&mem, HOLE_END, fd, 0, 5000), 0);
	loaded(HOLE_END, 0, 5000);
	cr_expect_eq(guest_mem_load(&mem, 7 * GIB - 5000, fd, 0, 5000), 0);
	loaded(7 * GIB - 5000, 0, 5000);
	cr_expect_eq(guest_mem_load(&mem, HOLE_START - 100, fd, 0, 5000), -EFAULT);
}

Test(guest_mem, load_across_a_seam)
{
	const struct mem_config cfg = {.size = 8 * MIB, .share = true};
	CLEANUP_FD int fd = file_of(5000);

	cr_assert_eq(guest_mem_init(&mem, &cfg, 4 * MIB, 4 * MIB, &e), 0, "%s", e.text);
	cr_expect_eq(guest_mem_load(&mem, 4 * MIB - 2500, fd, 0, 5000), 0);
	loaded(4 * MIB - 2500, 0, 5000);
}

Test(guest_mem, load_does_not_move_the_files_offset)
{
	CLEANUP_FD int fd = file_of(5000);

	make_size(64 * MIB);
	cr_assert_eq(lseek(fd, 17, SEEK_SET), 17);
	cr_expect_eq(guest_mem_load(&mem, 0, fd, 0, 5000), 0);
	cr_expect_eq(lseek(fd, 0, SEEK_CUR), 17);
}

Test(guest_mem, load_of_what_cannot_be_read)
{
	CLEANUP_FD int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	make_size(64 * MIB);
	cr_expect_eq(guest_mem_load(&mem, 0, fd, 0, 10), -EISDIR);
	cr_expect_eq(guest_mem_load(&mem, 0, -1, 0, 10), -EBADF);
}
