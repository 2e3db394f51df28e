/* The file of "ringlet matrix": every line has a place, every mistake a line, and no bytes hurt. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "matrix/file.h"
#include "matrix/plan.h"

static struct matrix_file file;
static struct plan plan;
static struct err err;

static void done(void)
{
	file_free(&file);
	plan_free(&plan);
}

TestSuite(matrix_file, .fini = done);

static int parse(const char *text)
{
	file_free(&file);
	memset(&err, 0, sizeof(err));
	return file_parse(&file, "f.ini", text, strlen(text), &err);
}

static void takes(const char *text)
{
	cr_assert_eq(parse(text), 0, "%s: %s", text, err.text);
}

static void refuses(const char *text, ...)
{
	const char *word;
	va_list ap;

	cr_assert_eq(parse(text), -EINVAL, "\"%s\" is taken", text);
	va_start(ap, text);
	while ((word = va_arg(ap, const char *)))
		cr_expect(strstr(err.text, word), "\"%s\" misses \"%s\" in: %s", text, word, err.text);
	va_end(ap);
}

#define NONE (const char *)NULL

Test(matrix_file, sections_and_lines)
{
	takes("\xef\xbb\xbf# first\r\n[defaults]\r\n  mem =  1G \t\r\n\n;x\n[kernel 6.12]\npath=a=b\nstdin\n-c "
	      "2 -m 1G\n");
	cr_assert_eq(file.n, 2);
	cr_expect_str_eq(file.section[0].kind, "defaults");
	cr_expect_null(file.section[0].name);
	cr_assert_eq(file.section[0].n, 1);
	cr_expect_str_eq(file.section[0].line[0].key, "mem");
	cr_expect_str_eq(file.section[0].line[0].value, "1G");
	cr_expect_eq(file.section[0].line[0].number, 3);
	cr_expect_str_eq(file.section[1].name, "6.12");
	cr_expect_eq(file.section[1].number, 6);
	cr_assert_eq(file.section[1].n, 3);
	cr_expect_str_eq(file.section[1].line[0].value, "a=b");
	cr_expect_str_eq(file.section[1].line[1].key, "stdin");
	cr_expect_null(file.section[1].line[1].value);
	cr_expect_null(file.section[1].line[2].key);
	cr_expect_str_eq(file.section[1].line[2].value, "-c 2 -m 1G");
	cr_expect_eq(file.section[1].line[2].number, 9);
}

Test(matrix_file, lines_go_on)
{
	takes("[command a]\nrun = one \\\n\t two\\\nthree\nnext = 1\nlast = x\\");
	cr_assert_eq(file.section[0].n, 3);
	cr_expect_str_eq(file.section[0].line[0].value, "one  two three");
	cr_expect_eq(file.section[0].line[1].number, 5, "the line after it keeps its number");
	cr_expect_str_eq(file.section[0].line[2].value, "x\\", "the end of the file is none to go on in");
}

/* What libraries cut in silence. */
Test(matrix_file, nothing_is_cut)
{
	char text[4200] = "[k ", name[100];

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	strcat(text, name);
	strcat(text, "]\nlong = ");
	memset(text + strlen(text), 'v', 4000);
	takes(text);
	cr_expect_str_eq(file.section[0].name, name);
	cr_assert_eq(file.nlines, 1);
	cr_expect_eq(strlen(file.lines[0].value), 4000);
	takes("[command a]\nrun = a ; b # c : d\n");
	cr_expect_str_eq(file.lines[0].value, "a ; b # c : d");
}

Test(matrix_file, mistakes_have_a_line)
{
	refuses("\nmem = 1\n", "f.ini:2:", "before the first section", NONE);
	refuses("[a]\n[b\n", "f.ini:2:", "no \"]\"", NONE);
	refuses("[a] # why\n", "f.ini:1:", "a comment is a line of its own", NONE);
	refuses("[ ]\n", "f.ini:1:", "no kind", NONE);
	refuses("[a]\n = b\n", "f.ini:2:", "before \"=\"", NONE);
	refuses("[a]\n\nb\x01\n", "f.ini:3:", "0x01", NONE);
	refuses("[a]\rb\n", "f.ini:1:", "0x0d", NONE);
}

Test(matrix_file, bytes_and_size)
{
	static char large[FILE_MAX_SIZE + 1], lines[FILE_MAX_LINES + 2];

	memset(large, ' ', sizeof(large));
	cr_expect_eq(file_parse(&file, "f", large, sizeof(large), &err), -EINVAL);
	cr_expect(strstr(err.text, "at most"), "%s", err.text);
	file_free(&file);
	memset(lines, '\n', sizeof(lines));
	cr_expect_eq(file_parse(&file, "f", lines, sizeof(lines), &err), -EINVAL);
	cr_expect(strstr(err.text, "lines"), "%s", err.text);
	file_free(&file);
	cr_expect_eq(file_parse(&file, "f", "[a]\n\0b", 6, &err), -EINVAL);
	cr_expect(strstr(err.text, "f:2: byte 0x00"), "%s", err.text);
	file_free(&file);
	cr_expect_eq(file_read(&file, "/nowhere/at/all", &err), -ENOENT);
	cr_expect(strstr(err.text, "/nowhere/at/all: No such file"), "%s", err.text);
	file_free(&file);
	cr_expect_eq(file_read(&file, "/", &err), -EISDIR);
}

/* Noise, made of what has a meaning so that it gets far: either a plan or a sentence comes of it. */
Test(matrix_file, noise, .timeout = 120)
{
	static const char *const pieces[] = {
		"[",        "]",          "\n",
		"\n",       "=",          " ",
		"\\\n",     "#",          "[kernel a]\n",
		"path=x",   "[matrix]",   "\n-c 2",
		"mem=1G",   "run=",       "[options ",
		"exclude=", "*",          "[command c]\n",
		"'",        "\"",         "jobs=",
		"\t",       "expect",     "=panic",
		"shell=",   "a/b",        "[defaults]\n",
		"\r\n",     "-",          "--",
		"..",       "\xff",       "\xc3\xa9",
		"include=", "[a-",        "timeout=1s\n",
		";",        "{",          "0",
		"99999",    "--mem=",     "disk=x,ro",
		"\\",       "run=true\n", "[options b]\n",
	};
	unsigned seed = 12, made = 0, planned = 0;

	for (unsigned round = 0; round < 20000; round++) {
		char text[512] = "";
		size_t len = 0;
		int rc;

		for (int n = rand_r(&seed) % 24; n >= 0; n--) {
			const char *piece = pieces[(size_t)rand_r(&seed) % ARRAY_SIZE(pieces)];

			strcat(text, piece);
			len = strlen(text);
		}
		for (int n = rand_r(&seed) % 8 ? 0 : 3; n && len; n--)
			text[(size_t)rand_r(&seed) % len] = (char)rand_r(&seed);
		memset(&err, 0, sizeof(err));
		rc = file_parse(&file, "f", text, len, &err);
		if (!rc) {
			made++;
			rc = plan_make(&plan, &file, &err);
			planned += !rc;
			cr_assert(rc || plan.n, "a plan without a case: %s", text);
			plan_free(&plan);
		}
		file_free(&file);
		cr_assert(!rc || (err.text[0] && err.code == rc), "%d without a sentence: %s", rc, text);
		cr_assert(!rc || !strncmp(err.text, "f:", 2), "a sentence without its file: %s", err.text);
	}
	cr_expect_gt(made, 1000, "the noise does not get past the first step");
	cr_expect_gt(planned, 20, "the noise makes no plan");
}

Test(matrix_file, any_bytes, .timeout = 60)
{
	unsigned seed = 7;

	for (unsigned round = 0; round < 20000; round++) {
		char text[256];
		size_t len = (size_t)rand_r(&seed) % sizeof(text);

		for (size_t i = 0; i < len; i++)
			text[i] = (char)rand_r(&seed);
		if (!file_parse(&file, "f", text, len, &err))
			plan_make(&plan, &file, &err);
		plan_free(&plan);
		file_free(&file);
	}
}
