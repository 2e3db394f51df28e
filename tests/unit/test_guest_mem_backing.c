/* What is behind guest RAM: files, huge pages, and pages that are given back. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/unit/guest_mem_rig.h"
#include "tests/unit/open_fds.h"
#include "vmm/hugepages.h"
#include "vmm/ram_file.h"

TestSuite(guest_mem_backing, .init = setup, .fini = teardown, .timeout = 120);

static unsigned lines(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned n = 0;

	cr_assert(f);
	for (int c; (c = getc(f)) != EOF;)
		n += c == '\n';
	fclose(f);
	return n;
}

static bool write_self(const char *name, const char *text)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text);
}

/* Whether whoever we are can have a tmpfs with large pages, by mount(2): as root, or in a user namespace. */
static bool large_pages_to_be_had(void)
{
	const bool root = geteuid() == 0;
	char enabled[128] = "", map[32];
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
	int status = -1;
	pid_t pid;

	if (f && !fgets(enabled, sizeof(enabled), f))
		*enabled = '\0';
	if (f)
		fclose(f);
	if (!*enabled || strstr(enabled, "[deny]"))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", geteuid());
	pid = fork();
	if (!pid)
		_exit(unshare(CLONE_NEWNS | (root ? 0 : CLONE_NEWUSER)) ||
		      (!root && !write_self("uid_map", map)) ||
		      mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		      mount("none", "/tmp", "tmpfs", 0, "huge=always"));
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status == 0;
}

/* --- what is behind it --- */

Test(guest_mem_backing, nobody_can_shrink_or_grow_the_memfd)
{
	cr_assert_eq(make((struct mem_config){.size = 64 * MIB, .share = true}), 0, "%s", e.text);
	cr_expect_eq(fcntl(mem.fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	cr_expect_eq(ftruncate(mem.fd, 0), -1);
	cr_expect_eq(errno, EPERM);
	cr_expect_eq(ftruncate(mem.fd, (off_t)(128 * MIB)), -1);
	cr_expect_eq(fcntl(mem.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

/* --- pages of 2 MiB without being asked --- */

static bool tmpfs_has_large_pages(void)
{
	struct stat st;

	return mem.fd >= 0 && !fstat(mem.fd, &st) && st.st_blksize == 2 * MIB;
}

/* Or the file is a sealed one, where the host lets us have no other. */
static void has_what_can_be_had(void)
{
	if (!large_pages_to_be_had()) {
		cr_expect_eq(fcntl(mem.fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
		cr_skip_test("this host gives us no large pages");
	}
	cr_assert(tmpfs_has_large_pages(), "the file is of small pages");
	cr_assert_eq(resident(), 0);
	cr_expect_eq(mem.page_size, 4096, "what is given back may be less");
	/* One of them may be out of large pages just now. */
	for (gpa_t at = 4 * MIB + 5; at < 64 * MIB; at += 4 * MIB) {
		const uint64_t before = resident();

		*(volatile uint8_t *)guest_mem_ptr(&mem, at, 1) = 1;
		if (resident() == before + 2 * MIB)
			return;
	}
	cr_assert(false, "no large page came");
}

Test(guest_mem_backing, shared_ram_comes_in_large_pages)
{
	make_size(64 * MIB);
	has_what_can_be_had();
}

Test(guest_mem_backing, whether_it_does_is_known)
{
	cr_expect_eq(ram_file_large(), large_pages_to_be_had());
}

Test(guest_mem_backing, a_user_has_large_pages_too)
{
	if (geteuid() == 0 && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
		cr_skip_test("setresuid: %s", strerror(errno));
	cr_assert(!prctl(PR_SET_DUMPABLE, 1));
	make_size(64 * MIB);
	has_what_can_be_had();
}

/* Whose parent does not want to hear of children. */
Test(guest_mem_backing, a_user_who_ignores_sigchld_has_them_too)
{
	if (geteuid() == 0 && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
		cr_skip_test("setresuid: %s", strerror(errno));
	cr_assert(!prctl(PR_SET_DUMPABLE, 1));
	signal(SIGCHLD, SIG_IGN);
	make_size(64 * MIB);
	signal(SIGCHLD, SIG_DFL);
	has_what_can_be_had();
	cr_expect(waitpid(-1, NULL, WNOHANG | __WALL) < 0, "a child is left");
}

Test(guest_mem_backing, nothing_is_open_or_mounted_but_the_file)
{
	unsigned fds = open_fds(), mounts = lines("/proc/self/mountinfo");

	make_size(64 * MIB);
	cr_expect_eq(open_fds(), fds + 1);
	cr_expect_eq(lines("/proc/self/mountinfo"), mounts);
	guest_mem_fini(&mem);
	cr_expect_eq(open_fds(), fds);
}

static bool kept_small(const void *at)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512], start[32];
	bool here = false, small = false;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)at);
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, start, strlen(start)))
			here = true;
		if (here && !strncmp(line, "VmFlags:", 8)) {
			small = strstr(line, " nh") != NULL;
			break;
		}
	}
	fclose(f);
	cr_assert(here);
	return small;
}

/* khugepaged would fill the holes again. */
Test(guest_mem_backing, what_is_given_back_in_parts_is_not_made_whole)
{
	const void *base;

	make_size(64 * MIB);
	base = mem.region[0].hva;
	cr_assert_eq(guest_mem_discard(&mem, 4 * MIB, 2 * MIB), 0);
	cr_expect_not(kept_small(base));
	cr_assert_eq(guest_mem_discard(&mem, 8 * MIB, 8192), 0);
	cr_expect(kept_small(base));
}

/* A balloon gives pages of 4 KiB back. */
Test(guest_mem_backing, large_pages_are_given_back_in_small_ones)
{
	make_size(64 * MIB);
	memset(mem.region[0].hva, 0x5a, 8 * MIB);
	cr_assert_eq(resident(), 8 * MIB);
	cr_assert_eq(guest_mem_discard(&mem, 2 * MIB, 4096), 0);
	cr_expect_eq(resident(), 8 * MIB - 4096);
	for (gpa_t at = 4 * MIB; at < 6 * MIB; at += 4096)
		cr_assert_eq(guest_mem_discard(&mem, at, 4096), 0);
	cr_expect_eq(resident(), 6 * MIB - 4096);
	cr_expect_eq(*(uint8_t *)guest_mem_ptr(&mem, 2 * MIB + 4095, 1), 0);
	cr_expect_eq(*(uint8_t *)guest_mem_ptr(&mem, 2 * MIB + 4096, 1), 0x5a);
}

Test(guest_mem_backing, shared_ram_is_the_files)
{
	char back[6];

	make_size(6 * GIB);
	cr_assert_eq(guest_mem_write(&mem, HOLE_END + 5, "guest", 6), 0);
	cr_assert_eq(pread(mem.fd, back, 6, (off_t)(mem.region[1].fd_offset + 5)), 6);
	cr_expect_str_eq(back, "guest");
}

Test(guest_mem_backing, private_ram_is_not_the_files)
{
	char back[6] = "";

	cr_assert_eq(make((struct mem_config){.size = 6 * GIB}), 0, "%s", e.text);
	cr_assert_eq(guest_mem_write(&mem, HOLE_END + 5, "guest", 6), 0);
	cr_expect_eq(mem.region[0].fd, -1);
	cr_expect_eq(mem.region[1].fd, -1);
	cr_expect(mem.fd < 0 || (pread(mem.fd, back, 6, (off_t)(3 * GIB + 5)) == 6 && !back[0]));
}

/* A private mapping of a file brings a page of the file in for each page of its own. */
Test(guest_mem_backing, private_ram_is_paid_for_once)
{
	cr_assert_eq(make((struct mem_config){.size = 32 * MIB}), 0, "%s", e.text);
	memset(mem.region[0].hva, 0x5a, 32 * MIB);
	cr_expect(mem.fd < 0 || resident() < MIB, "%lu bytes more", resident());
}

Test(guest_mem_backing, prealloc_brings_every_page)
{
	cr_assert_eq(make((struct mem_config){.size = 130 * MIB, .share = true, .thp = true, .prealloc = true}),
		     0, "%s", e.text);
	cr_expect_eq(resident(), 130 * MIB);
}

Test(guest_mem_backing, prealloc_over_the_hole)
{
	const struct mem_config cfg = {.size = 100 * MIB, .share = true, .thp = true, .prealloc = true};

	cr_assert_eq(guest_mem_init(&mem, &cfg, 34 * MIB, 4 * GIB, &e), 0, "%s", e.text);
	cr_expect_eq(resident(), 100 * MIB);
}

static void is_clear(void)
{
	for (unsigned r = 0; r < mem.nregions; r++) {
		const uint64_t *p = mem.region[r].hva;

		for (uint64_t i = 0; i < mem.region[r].size / 8; i++)
			cr_assert_eq(p[i], 0, "region %u, byte %lu", r, i * 8);
	}
}

static void clear_all(struct mem_config cfg)
{
	cr_assert_eq(guest_mem_init(&mem, &cfg, 8 * MIB, 4 * GIB, &e), 0, "%s", e.text);
	for (unsigned r = 0; r < mem.nregions; r++)
		memset(mem.region[r].hva, 0x5a, mem.region[r].size);
	guest_mem_clear(&mem);
	cr_expect(mem.page_size >= 2 * MIB || !cfg.share || resident() < MIB, "pages are given back");
	is_clear();
	cr_expect_eq(guest_mem_write(&mem, 100, "again", 6), 0);
}

Test(guest_mem_backing, clear_shared)
{
	clear_all((struct mem_config){.size = 32 * MIB, .share = true});
	guest_mem_fini(&mem);
	clear_all((struct mem_config){.size = 32 * MIB, .share = true, .thp = true});
}

Test(guest_mem_backing, clear_private)
{
	clear_all((struct mem_config){.size = 32 * MIB});
}

Test(guest_mem_backing, clear_huge)
{
	if (make((struct mem_config){.size = 32 * MIB, .hugepage_size = 2 * MIB, .share = true}))
		cr_skip_test("16 huge pages cannot be had");
	guest_mem_fini(&mem);
	clear_all((struct mem_config){.size = 32 * MIB, .hugepage_size = 2 * MIB, .share = true});
}

Test(guest_mem_backing, clear_huge_and_private)
{
	if (make((struct mem_config){.size = 32 * MIB, .hugepage_size = 2 * MIB}))
		cr_skip_test("16 huge pages cannot be had");
	guest_mem_fini(&mem);
	clear_all((struct mem_config){.size = 32 * MIB, .hugepage_size = 2 * MIB});
}

/* --- pages given back --- */

static void fill(void)
{
	for (unsigned r = 0; r < mem.nregions; r++)
		memset(mem.region[r].hva, 0x5a, mem.region[r].size);
}

/* Of what fill() wrote exactly [gpa, gpa + len) is gone. */
static void only_zero(gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < mem.nregions; i++) {
		const struct mem_region *r = &mem.region[i];
		const uint64_t *p = r->hva;

		for (uint64_t at = 0; at < r->size; at += 8)
			cr_assert_eq(p[at / 8], r->gpa + at - gpa < len ? 0 : 0x5a5a5a5a5a5a5a5a,
				     "at %#lx with [%#lx, +%#lx)", r->gpa + at, gpa, len);
	}
}

static void discard_all_kinds(void)
{
	fill();
	cr_expect_eq(guest_mem_discard(&mem, 2 * MIB, 4096), 0);
	only_zero(2 * MIB, 4096);
	fill();
	cr_expect_eq(guest_mem_discard(&mem, mem.region[0].size - 8192, 8192), 0);
	only_zero(mem.region[0].size - 8192, 8192);
	fill();
	cr_expect_eq(guest_mem_discard(&mem, 0, mem.region[0].size), 0);
	only_zero(0, mem.region[0].size);
	cr_expect_eq(guest_mem_write(&mem, 100, "again", 6), 0);
}

Test(guest_mem_backing, discard_shared)
{
	make_size(16 * MIB);
	discard_all_kinds();
	guest_mem_discard(&mem, 0, 16 * MIB);
	cr_expect_eq(resident(), 0);
}

Test(guest_mem_backing, discard_private)
{
	cr_assert_eq(make((struct mem_config){.size = 16 * MIB}), 0, "%s", e.text);
	discard_all_kinds();
}

Test(guest_mem_backing, discard_is_seen_by_every_sharer)
{
	uint8_t *other;

	make_size(16 * MIB);
	fill();
	other = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
	cr_assert_neq(other, MAP_FAILED);
	cr_assert_eq(other[MIB], 0x5a);
	cr_expect_eq(guest_mem_discard(&mem, MIB, 4096), 0);
	cr_expect_eq(other[MIB], 0);
	cr_expect_eq(other[MIB + 4096], 0x5a);
	other[MIB] = 7;
	cr_expect_eq(*(uint8_t *)guest_mem_ptr(&mem, MIB, 1), 7);
	munmap(other, 16 * MIB);
}

Test(guest_mem_backing, discard_leaves_pages_that_lie_partly_outside)
{
	make_size(16 * MIB);
	fill();
	cr_expect_eq(guest_mem_discard(&mem, MIB + 1, 3 * 4096), 0);
	only_zero(MIB + 4096, 2 * 4096);
	fill();
	cr_expect_eq(guest_mem_discard(&mem, MIB - 1, 4096 + 2), 0);
	only_zero(MIB, 4096);
}

Test(guest_mem_backing, discard_of_less_than_a_page)
{
	make_size(16 * MIB);
	fill();
	cr_expect_eq(guest_mem_discard(&mem, MIB, 0), -EINVAL);
	cr_expect_eq(guest_mem_discard(&mem, MIB, 4095), -EINVAL);
	cr_expect_eq(guest_mem_discard(&mem, MIB + 1, 4096), -EINVAL);
	cr_expect_eq(guest_mem_discard(&mem, MIB + 1, 8190), -EINVAL);
	only_zero(0, 0);
}

Test(guest_mem_backing, discard_of_what_is_not_ram)
{
	static const gpa_t at[] = {3 * GIB - 4096, 3 * GIB,           4 * GIB - 4096, 7 * GIB - 4096,
				   7 * GIB,        UINT64_MAX - 4095, UINT64_MAX};

	make_size(6 * GIB);
	cr_assert_eq(guest_mem_write(&mem, 3 * GIB - 4096, "guest", 6), 0);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		cr_expect_eq(guest_mem_discard(&mem, at[i], 8192), -EFAULT, "at %#lx", at[i]);
	cr_expect_eq(guest_mem_discard(&mem, 4096, UINT64_MAX), -EFAULT);
	cr_expect_eq(guest_mem_discard(&mem, 4096, UINT64_MAX - 4095), -EFAULT);
	cr_expect_str_eq(guest_mem_ptr(&mem, 3 * GIB - 4096, 6), "guest", "nothing of it is discarded");
}

Test(guest_mem_backing, discard_above_the_hole)
{
	make_size(6 * GIB);
	cr_assert_eq(guest_mem_write(&mem, HOLE_END, "guest", 6), 0);
	cr_assert_eq(guest_mem_write(&mem, HOLE_END + 4096, "stays", 6), 0);
	cr_assert_eq(guest_mem_write(&mem, 4096, "stays", 6), 0);
	cr_expect_eq(guest_mem_discard(&mem, HOLE_END, 4096), 0);
	cr_expect_str_eq(guest_mem_ptr(&mem, HOLE_END, 6), "");
	cr_expect_str_eq(guest_mem_ptr(&mem, HOLE_END + 4096, 6), "stays");
	cr_expect_str_eq(guest_mem_ptr(&mem, 4096, 6), "stays");
}

Test(guest_mem_backing, discard_crosses_regions_that_touch)
{
	const struct mem_config cfg = {.size = 8 * MIB, .share = true};

	cr_assert_eq(guest_mem_init(&mem, &cfg, 4 * MIB, 4 * MIB, &e), 0, "%s", e.text);
	fill();
	cr_expect_eq(guest_mem_discard(&mem, 4 * MIB - 4096, 8192), 0);
	only_zero(4 * MIB - 4096, 8192);
	cr_expect_eq(guest_mem_discard(&mem, 4 * MIB - 100, 200), -EINVAL);
}

Test(guest_mem_backing, nothing_is_discarded_while_pinned)
{
	make_size(16 * MIB);
	fill();
	guest_mem_pin(&mem);
	guest_mem_pin(&mem);
	cr_expect_eq(guest_mem_discard(&mem, MIB, 4096), -EBUSY);
	guest_mem_unpin(&mem);
	cr_expect_eq(guest_mem_discard(&mem, MIB, 4096), -EBUSY);
	only_zero(0, 0);
	guest_mem_unpin(&mem);
	cr_expect_eq(guest_mem_discard(&mem, MIB, 4096), 0);
	only_zero(MIB, 4096);
}

Test(guest_mem_backing, nothing_is_discarded_of_what_was_populated)
{
	cr_assert_eq(make((struct mem_config){.size = 16 * MIB, .share = true, .thp = true, .prealloc = true}),
		     0, "%s", e.text);
	fill();
	cr_expect_eq(guest_mem_discard(&mem, MIB, 4096), -EBUSY);
	cr_expect_eq(guest_mem_discard(&mem, 16 * MIB, 4096), -EFAULT);
	only_zero(0, 0);
	cr_expect_eq(resident(), 16 * MIB);
}

Test(guest_mem_backing, nothing_is_discarded_of_huge_pages)
{
	if (make((struct mem_config){.size = 16 * MIB, .hugepage_size = 2 * MIB, .share = true}))
		cr_skip_test("8 huge pages cannot be had");
	fill();
	cr_expect_eq(guest_mem_discard(&mem, MIB, 4096), -EBUSY);
	cr_expect_eq(guest_mem_discard(&mem, 2 * MIB, 2 * MIB), -EBUSY);
	only_zero(0, 0);
}

Test(guest_mem_backing, pointers_have_their_way_back)
{
	static const gpa_t at[] = {0, 1, 3 * GIB - 1, 4 * GIB, 7 * GIB - 1};
	gpa_t gpa = 77;

	make_size(6 * GIB);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		cr_expect(guest_mem_gpa(&mem, guest_mem_ptr(&mem, at[i], 1), &gpa));
		cr_expect_eq(gpa, at[i]);
	}
	gpa = 77;
	for (unsigned i = 0; i < 2; i++) {
		const char *p = mem.region[i].hva;
		const char *other = mem.region[!i].hva;

		if (other != p + 3 * GIB)
			cr_expect(!guest_mem_gpa(&mem, p + 3 * GIB, &gpa));
	}
	cr_expect(!guest_mem_gpa(&mem, NULL, &gpa));
	cr_expect(!guest_mem_gpa(&mem, &mem, &gpa));
	cr_expect_eq(gpa, 77);
}

/* --- path= --- */

static char dir[64];

static void make_dir(void)
{
	strcpy(dir, "/dev/shm/ringlet-mem-XXXXXX");
	if (!mkdtemp(dir)) {
		strcpy(dir, "/tmp/ringlet-mem-XXXXXX");
		cr_assert(mkdtemp(dir));
	}
}

static void remove_dir(void)
{
	cr_expect_eq(rmdir(dir), 0, "something is left in %s", dir);
}

Test(guest_mem_backing, path_leaves_no_file_behind)
{
	unsigned n = 0;
	DIR *d;

	make_dir();
	cr_assert_eq(make((struct mem_config){.size = 64 * MIB, .path = dir, .share = true}), 0, "%s", e.text);
	d = opendir(dir);
	while (readdir(d))
		n++;
	closedir(d);
	cr_expect_eq(n, 2, "only . and ..");
	load_all_kinds();
	guest_mem_fini(&mem);
	remove_dir();
}

Test(guest_mem_backing, path_may_be_private)
{
	make_dir();
	cr_assert_eq(make((struct mem_config){.size = 64 * MIB, .path = dir}), 0, "%s", e.text);
	load_all_kinds();
	remove_dir();
}

static void discard_in_file(bool share)
{
	make_dir();
	cr_assert_eq(make((struct mem_config){.size = 16 * MIB, .path = dir, .share = share}), 0, "%s", e.text);
	discard_all_kinds();
	guest_mem_fini(&mem);
	remove_dir();
}

Test(guest_mem_backing, discard_in_a_file)
{
	discard_in_file(true);
}

Test(guest_mem_backing, discard_in_a_private_file)
{
	discard_in_file(false);
}

/* No holes in ramfs: told, and not pretended. */
Test(guest_mem_backing, discard_where_there_are_no_holes)
{
	make_dir();
	if (mount("none", dir, "ramfs", 0, NULL)) {
		remove_dir();
		cr_skip_test("ramfs cannot be mounted");
	}
	cr_assert_eq(make((struct mem_config){.size = 16 * MIB, .path = dir, .share = true}), 0, "%s", e.text);
	fill();
	cr_expect_eq(guest_mem_discard(&mem, MIB, 4096), -EOPNOTSUPP);
	only_zero(0, 0);
	guest_mem_fini(&mem);
	cr_assert_eq(umount(dir), 0);
	remove_dir();
}

Test(guest_mem_backing, path_that_is_not_there)
{
	cr_expect_eq(make((struct mem_config){.size = 64 * MIB, .path = "/nonexistent/dir"}), -ENOENT);
	cr_expect(strstr(e.text, "--mem") && strstr(e.text, "/nonexistent/dir"));
	cr_expect_eq(mem.fd, -1);
}

Test(guest_mem_backing, path_that_is_a_file)
{
	cr_expect_lt(make((struct mem_config){.size = 64 * MIB, .path = "/etc/passwd"}), 0);
	cr_expect(strstr(e.text, "/etc/passwd"));
}

Test(guest_mem_backing, path_without_huge_pages)
{
	make_dir();
	cr_expect_eq(make((struct mem_config){
			     .size = 64 * MIB, .path = dir, .hugepage_size = 2 * MIB, .share = true}),
		     -EINVAL);
	cr_expect(strstr(e.text, "hugetlbfs"), "%s", e.text);
	cr_expect(strstr(e.text, dir));
	remove_dir();
}

Test(guest_mem_backing, path_with_pages_of_another_size)
{
	make_dir();
	if (mount("none", dir, "hugetlbfs", 0, "pagesize=2M")) {
		remove_dir();
		cr_skip_test("hugetlbfs cannot be mounted");
	}
	cr_expect_eq(
		make((struct mem_config){.size = 2 * GIB, .path = dir, .hugepage_size = GIB, .share = true}),
		-EINVAL);
	cr_expect(strstr(e.text, "2 MiB") && strstr(e.text, "1024M"), "%s", e.text);
	cr_assert_eq(umount(dir), 0);
	remove_dir();
}

/* A tmpfs too small is no memory cgroup's doing. */
Test(guest_mem_backing, path_on_a_small_mount_is_explained)
{
	make_dir();
	if (mount("none", dir, "tmpfs", 0, "size=16M")) {
		remove_dir();
		cr_skip_test("tmpfs cannot be mounted");
	}
	cr_expect_lt(make((struct mem_config){.size = 64 * MIB, .path = dir, .share = true, .prealloc = true}),
		     0);
	cr_expect(strstr(e.text, dir), "does not name the place: %s", e.text);
	cr_assert_eq(umount(dir), 0);
	remove_dir();
}

/* --- too few huge pages --- */

Test(guest_mem_backing, too_few_huge_pages_are_explained_with_numbers)
{
	int rc = make((struct mem_config){.size = 512 * GIB, .hugepage_size = 2 * MIB, .share = true});

	cr_expect_eq(rc, -ENOMEM);
	cr_expect(strstr(e.text, "262144 huge pages of 2MB"), "%s", e.text);
	cr_expect(strstr(e.text, "echo ") && strstr(e.text, "hugepages"), "%s", e.text);
	cr_expect_eq(mem.fd, -1);
	cr_expect_eq(mem.nregions, 0);
}

Test(guest_mem_backing, size_that_is_no_multiple_of_the_page)
{
	int rc = make((struct mem_config){.size = 3 * MIB, .hugepage_size = 2 * MIB, .share = true});

	cr_expect_eq(rc, -EINVAL);
	cr_expect(strstr(e.text, "multiple"), "%s", e.text);
}

/* --- what it leaves behind --- */

Test(guest_mem_backing, leaves_nothing_open)
{
	int before = dup(0), after;

	close(before);
	for (unsigned i = 0; i < 50; i++) {
		make_size(6 * GIB);
		guest_mem_fini(&mem);
		guest_mem_fini(&mem);
		make((struct mem_config){.size = 512 * GIB, .hugepage_size = 2 * MIB, .share = true});
		make((struct mem_config){.size = 3 * MIB, .hugepage_size = 2 * MIB, .share = true});
		make((struct mem_config){.size = 64 * MIB, .path = "/etc/passwd"});
	}
	after = dup(0);
	close(after);
	cr_expect_eq(before, after);
}

Test(guest_mem_backing, leaves_nothing_mapped)
{
	char before[64], after[64];
	int fd;

	/* 4000 times 6 GiB would not fit into 47 bits of addresses if they stayed */
	for (unsigned i = 0; i < 25000; i += 1000) {
		make_size(6 * GIB);
		guest_mem_fini(&mem);
		if (i == 1000) {
			fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
			cr_assert_gt(read(fd, before, sizeof(before)), 0);
			close(fd);
		}
	}
	fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	cr_assert_gt(read(fd, after, sizeof(after)), 0);
	close(fd);
	cr_expect_lt(strtoull(after, NULL, 10), strtoull(before, NULL, 10) + 1000);
}
