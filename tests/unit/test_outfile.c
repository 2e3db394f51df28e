/* Files that are there in full or as they were. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/outfile.h"

static char dir[64], path[128];

static void setup(void)
{
	strcpy(dir, "/tmp/test_outfile.XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/out", dir);
}

static unsigned files(void)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	unsigned n = 0;

	while ((entry = readdir(d)))
		n += entry->d_name[0] != '.';
	closedir(d);
	return n;
}

static const char *contents(void)
{
	static char text[64];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	text[n] = '\0';
	if (f)
		fclose(f);
	return text;
}

static void put(const char *text)
{
	struct outfile o;

	cr_assert_eq(outfile_begin(&o, path), 0);
	cr_assert_eq(write(o.fd, text, strlen(text)), (ssize_t)strlen(text));
	cr_assert_eq(outfile_end(&o, true), 0);
}

static void teardown(void)
{
	unlink(path);
	cr_expect_eq(rmdir(dir), 0, "something was left");
}

TestSuite(outfile, .init = setup, .fini = teardown);

Test(outfile, takes_its_place_at_the_end)
{
	struct outfile o;

	put("first");
	cr_assert_eq(outfile_begin(&o, path), 0);
	cr_assert_eq(write(o.fd, "sec", 3), 3);
	cr_expect_str_eq(contents(), "first");
	cr_assert_eq(write(o.fd, "ond", 3), 3);
	cr_assert_eq(outfile_end(&o, true), 0);
	cr_expect_str_eq(contents(), "second");
	cr_expect_eq(files(), 1);
}

Test(outfile, leaves_nothing_when_it_is_given_up)
{
	struct outfile o;

	put("first");
	cr_assert_eq(outfile_begin(&o, path), 0);
	cr_assert_eq(write(o.fd, "half", 4), 4);
	cr_assert_eq(outfile_end(&o, false), 0);
	cr_expect_str_eq(contents(), "first");
	cr_expect_eq(files(), 1);
}

Test(outfile, what_was_reserved_is_taken_without_opening_anything)
{
	struct outfile o;
	char moved[80];

	cr_assert_eq(outfile_reserve(path), 0);
	cr_expect_eq(access(path, F_OK), -1);
	snprintf(moved, sizeof(moved), "%s.away", dir);
	cr_assert_eq(rename(dir, moved), 0); /* nothing can be opened there now */
	cr_expect_eq(outfile_begin(&o, path), 0);
	cr_expect_eq(write(o.fd, "x", 1), 1);
	cr_assert_eq(rename(moved, dir), 0);
	cr_expect_eq(outfile_end(&o, true), 0);
	cr_expect_str_eq(contents(), "x");
}

Test(outfile, what_was_reserved_and_not_written_is_forgotten)
{
	cr_assert_eq(outfile_reserve(path), 0);
	cr_expect_eq(files(), 1);
	outfile_forget();
	cr_expect_eq(files(), 0);
}

Test(outfile, a_device_is_written_to_as_it_is)
{
	struct outfile o;
	struct stat st;

	cr_assert_eq(outfile_begin(&o, "/dev/null"), 0);
	cr_expect_eq(write(o.fd, "x", 1), 1);
	cr_expect_eq(outfile_end(&o, true), 0);
	cr_assert_eq(stat("/dev/null", &st), 0);
	cr_expect(S_ISCHR(st.st_mode));
}

Test(outfile, says_why_it_cannot_be_opened)
{
	struct outfile o;

	cr_expect_eq(outfile_reserve("/nowhere/x"), -ENOENT);
	cr_expect_eq(outfile_begin(&o, "/nowhere/x"), -ENOENT);
	cr_expect_lt(o.fd, 0);
}
