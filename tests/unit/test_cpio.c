/* The archive Ringlet makes, as the real cpio unpacks it. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "tests/unit/teardown.h"
#include "vmm/cpio.h"

static struct cpio c;
static char dir[64];

static void setup(void)
{
	if (system("command -v cpio >/dev/null") != 0)
		cr_skip_test("no cpio");
	strcpy(dir, "/tmp/ringlet-cpio-XXXXXX");
	cr_assert(mkdtemp(dir));
}

static void teardown(void)
{
	char command[128];

	cpio_fini(&c);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (dir[0])
		cr_expect_eq(system(command), 0);
}

TestSuite(cpio, .init = setup, .fini = teardown_once, .timeout = 30);

static void unpack(void)
{
	char command[256];
	FILE *f;

	cr_assert_eq(cpio_end(&c), 0);
	cr_expect_eq(c.len % 4, 0);
	snprintf(command, sizeof(command), "cd '%s' && umask 022 && cpio -idm --quiet", dir);
	f = popen(command, "w");
	cr_assert(f);
	cr_assert_eq(fwrite(c.data, 1, c.len, f), c.len);
	cr_assert_eq(pclose(f), 0);
}

static const char *in_dir(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void is_file(const char *name, unsigned mode, const void *data, size_t len)
{
	CLEANUP_FREE char *back = malloc(len + 1);
	CLEANUP_FD int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
	struct stat st;

	cr_assert_geq(fd, 0, "%s", name);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect(S_ISREG(st.st_mode));
	cr_expect_eq(st.st_mode & 07777, mode, "%s: mode %o", name, st.st_mode);
	cr_assert_eq(read(fd, back, len + 1), len, "%s", name);
	cr_expect_eq(memcmp(back, data, len), 0, "%s", name);
}

WholeTest(cpio, files_directories_and_links)
{
	struct stat st;
	char target[32] = "";

	cpio_dir(&c, "bin", 0755);
	cpio_file(&c, "bin/busybox", 0755,
		  "\x7f"
		  "ELF",
		  4);
	cpio_link(&c, "bin/sh", "busybox");
	cpio_dir(&c, "secret", 0700);
	cpio_file(&c, "secret/command", 0600, "uname\0-a", 9);
	unpack();
	is_file("bin/busybox", 0755,
		"\x7f"
		"ELF",
		4);
	is_file("secret/command", 0600, "uname\0-a", 9);
	cr_assert_eq(lstat(in_dir("bin/sh"), &st), 0);
	cr_expect(S_ISLNK(st.st_mode));
	cr_expect_eq(readlink(in_dir("bin/sh"), target, sizeof(target) - 1), 7);
	cr_expect_str_eq(target, "busybox");
	cr_assert_eq(stat(in_dir("secret"), &st), 0);
	cr_expect(S_ISDIR(st.st_mode));
	cr_expect_eq(st.st_mode & 0777, 0700);
}

/* Header, name and data are padded each by itself. */
WholeTest(cpio, every_length_of_name_and_data)
{
	char name[32] = "", data[32];

	memset(data, 'd', sizeof(data));
	for (size_t n = 1; n <= 9; n++)
		for (size_t len = 0; len <= 9; len++) {
			memset(name, 'a' + (char)len, n);
			name[n] = 0;
			cpio_file(&c, name, 0644, data, len);
		}
	unpack();
	for (size_t n = 1; n <= 9; n++)
		for (size_t len = 0; len <= 9; len++) {
			memset(name, 'a' + (char)len, n);
			name[n] = 0;
			is_file(name, 0644, data, len);
		}
}

WholeTest(cpio, a_large_file)
{
	CLEANUP_FREE char *data = malloc(5000001);

	for (size_t i = 0; i < 5000001; i++)
		data[i] = (char)(i * 31 >> 4);
	cpio_file(&c, "large", 0400, data, 5000001);
	unpack();
	is_file("large", 0400, data, 5000001);
}

WholeTest(cpio, many_files_share_nothing)
{
	char name[16];

	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		cpio_file(&c, name, 0644, name, strlen(name));
	}
	unpack();
	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		is_file(name, 0644, name, strlen(name));
	}
}

WholeTest(cpio, empty_archive)
{
	unpack();
	cr_expect_eq(rmdir(dir), 0);
	cr_assert_eq(mkdir(dir, 0700), 0);
}

WholeTest(cpio, two_in_a_row_as_the_kernel_reads_them)
{
	cpio_file(&c, "one", 0644, "1", 1);
	cr_assert_eq(cpio_end(&c), 0);
	cr_expect_eq(c.len % 4, 0, "the next one begins aligned");
	cpio_fini(&c);
	cr_expect_null(c.data);
	cpio_file(&c, "two", 0644, "2", 1);
	unpack();
	is_file("two", 0644, "2", 1);
}
