#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "servers/server_memory.h"

#define MIB (1ull << 20)

static struct server_memory m;
static int fd, lost;

static void set_up(void)
{
	lost = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fd = memfd_create("m", MFD_CLOEXEC);
	cr_assert(!ftruncate(fd, 16 * MIB));
	server_memory_init(&m, lost);
}

static void tear_down(void)
{
	server_memory_clear(&m);
	close(fd);
	close(lost);
}

TestSuite(server_memory, .init = set_up, .fini = tear_down, .timeout = 20);

static int add(uint64_t gpa, uint64_t size, uint64_t user, uint64_t offset)
{
	const struct vhost_user_mem_region r = {.guest_phys_addr = gpa,
						.memory_size = size,
						.userspace_addr = user,
						.mmap_offset = offset};

	return server_memory_add(&m, &r, fd);
}

Test(server_memory, translates_what_it_maps_and_nothing_else)
{
	gpa_t gpa;
	char byte = 7;

	cr_assert_eq(add(0, 4 * MIB, 0x7f0000000000, 0), 0);
	cr_assert_eq(add(8 * MIB, 2 * MIB, 0x7e0000000000, 4 * MIB), 0);
	cr_assert(server_memory_gpa(&m, 0x7e0000000000 + 5, 2 * MIB - 5, &gpa));
	cr_assert_eq(gpa, 8 * MIB + 5);
	cr_assert_eq(pwrite(fd, &byte, 1, 4 * MIB + 5), 1);
	cr_assert_eq(*(char *)guest_mem_ptr(&m.mem, gpa, 1), 7);
	cr_assert_not(server_memory_gpa(&m, 0x7e0000000000 + 5, 2 * MIB - 4, &gpa));
	cr_assert_not(server_memory_gpa(&m, 0x7e0000000000 - 1, 1, &gpa));
	cr_assert_not(server_memory_gpa(&m, 0x7e0000000000 + 2 * MIB, 1, &gpa));
	cr_assert_not(server_memory_gpa(&m, 0x7e0000000000 + 8, UINT64_MAX - 4, &gpa));
}

Test(server_memory, an_offset_may_lie_within_a_page)
{
	char byte = 9;

	cr_assert_eq(add(0x110, MIB, 0x1110, 0x2110), 0);
	cr_assert_eq(pwrite(fd, &byte, 1, 0x2110), 1);
	cr_assert_eq(*(char *)guest_mem_ptr(&m.mem, 0x110, 1), 9);
}

Test(server_memory, refuses_what_wraps_round_or_overlaps_or_is_not_there)
{
	cr_assert_eq(add(0, 0, 0, 0), -EINVAL);
	cr_assert_eq(add(UINT64_MAX - 4095, 8192, 0, 0), -EINVAL);
	cr_assert_eq(add(0, 8192, UINT64_MAX - 4095, 0), -EINVAL);
	cr_assert_eq(add(0, 8192, 0, UINT64_MAX - 4095), -EINVAL);
	cr_assert_eq(add(0, UINT64_MAX, 0, 0), -EINVAL);
	cr_assert_eq(add(0, 16 * MIB + 4096, 0, 0), -EINVAL);
	cr_assert_eq(add(0, 4096, 0, 16 * MIB), -EINVAL);
	cr_assert_eq(add(8, 4096, 0, 4096), -EINVAL, "rings would not be aligned");
	cr_assert_eq(m.mem.nregions, 0);
	cr_assert_eq(add(4 * MIB, 2 * MIB, 4 * MIB, 0), 0);
	cr_assert_eq(add(4 * MIB, 2 * MIB, 32 * MIB, 0), -EINVAL, "the guest's addresses");
	cr_assert_eq(add(6 * MIB - 4096, 2 * MIB, 32 * MIB, 0), -EINVAL);
	cr_assert_eq(add(2 * MIB + 4096, 2 * MIB, 32 * MIB, 0), -EINVAL);
	cr_assert_eq(add(3 * MIB, 8 * MIB, 32 * MIB, 0), -EINVAL);
	cr_assert_eq(add(64 * MIB, 2 * MIB, 5 * MIB, 0), -EINVAL, "the front end's addresses");
	cr_assert_eq(add(6 * MIB, 2 * MIB, 6 * MIB, 0), 0, "neighbours");
	cr_assert_eq(m.mem.nregions, 2);
}

Test(server_memory, holds_as_many_regions_as_it_says)
{
	for (unsigned i = 0; i < GUEST_MEM_MAX_REGIONS; i++)
		cr_assert_eq(add(i * MIB, MIB, i * MIB, i * MIB), 0);
	cr_assert_eq(add(15 * MIB, MIB, 15 * MIB, 0), -ENOSPC);
}

Test(server_memory, one_that_is_added_again_stays_until_it_is_removed_as_often)
{
	const struct vhost_user_mem_region r = {.guest_phys_addr = MIB,
						.memory_size = MIB,
						.userspace_addr = MIB};

	cr_assert_eq(add(MIB, MIB, MIB, 0), 0);
	cr_assert_eq(add(MIB, MIB, MIB, 0), 0);
	cr_assert_eq(m.mem.nregions, 1);
	cr_assert_eq(server_memory_remove(&m, &r), 0);
	cr_assert_eq(m.mem.nregions, 1);
	cr_assert_eq(server_memory_remove(&m, &r), 0);
	cr_assert_eq(m.mem.nregions, 0);
	cr_assert_eq(server_memory_remove(&m, &r), -ENOENT);
}

Test(server_memory, removes_the_one_that_is_meant)
{
	struct vhost_user_mem_region r = {.guest_phys_addr = MIB, .memory_size = MIB, .userspace_addr = MIB};
	gpa_t gpa;

	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(add(i * MIB, MIB, i * MIB, i * MIB), 0);
	r.memory_size = 2 * MIB;
	cr_assert_eq(server_memory_remove(&m, &r), -ENOENT);
	r.memory_size = MIB;
	cr_assert_eq(server_memory_remove(&m, &r), 0);
	cr_assert_eq(server_memory_remove(&m, &r), -ENOENT);
	cr_assert_not(server_memory_gpa(&m, MIB, 1, &gpa));
	cr_assert(server_memory_gpa(&m, 2 * MIB, 1, &gpa));
	cr_assert_eq(gpa, 2 * MIB);
	cr_assert_eq(add(MIB, MIB, MIB, 0), 0);
}

Test(server_memory, a_file_that_is_cut_off_turns_into_zeroes_and_is_told)
{
	struct pollfd p = {.fd = lost, .events = POLLIN};
	char byte = 1, *ptr;

	cr_assert_eq(add(0, 4 * MIB, 0, 0), 0);
	cr_assert_eq(add(8 * MIB, MIB, 8 * MIB, 8 * MIB), 0);
	cr_assert_eq(pwrite(fd, &byte, 1, 0), 1);
	ptr = guest_mem_ptr(&m.mem, 0, 1);
	cr_assert_eq(*ptr, 1);
	cr_assert(!ftruncate(fd, 0));
	cr_assert_eq(poll(&p, 1, 0), 0);
	ptr = guest_mem_ptr(&m.mem, 3 * MIB, 1);
	cr_assert_eq(*(volatile char *)ptr, 0);
	*(volatile char *)ptr = 5; /* and is ours now */
	cr_assert_eq(*(volatile char *)ptr, 5);
	cr_assert_eq(poll(&p, 1, 0), 1);
	memset(guest_mem_ptr(&m.mem, 8 * MIB, MIB), 3, MIB);
}
