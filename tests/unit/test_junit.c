/* XML for CI servers: whatever a guest printed, a parser takes it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/junit.h"
#include "tests/unit/teardown.h"

static char dir[64], file[96];

static void make_dir(void)
{
	strcpy(dir, "/tmp/ringlet-junit-XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/out.xml", dir);
}

/* Nothing but the file itself is left beside it. */
static void teardown(void)
{
	char command[320];

	snprintf(command, sizeof(command), "rm -f '%s' '%s/link' && rmdir '%s'", file, dir, dir);
	cr_expect_eq(system(command), 0, "something is left in %s", dir);
}

TestSuite(junit, .init = make_dir, .fini = teardown_once);

static const char *slurp(const char *path)
{
	static char text[1 << 20];
	FILE *f = fopen(path, "r");
	size_t n;

	cr_assert(f, "%s: %s", path, strerror(errno));
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return text;
}

static const char *written(const struct junit_case *cases, size_t n)
{
	struct err e = {0};

	cr_assert_eq(junit_write(file, "suite", cases, n, &e), 0, "%s", e.text);
	return slurp(file);
}

static void holds(const char *text, const char *part)
{
	cr_expect(strstr(text, part), "\"%s\" is not in:\n%.4000s", part, text);
}

/* What a parser makes of an XPath expression, or of the whole. */
static void parses(void)
{
	char command[320];

	snprintf(command, sizeof(command), "xmllint --noout '%s'", file);
	cr_expect_eq(system(command), 0, "xmllint (libxml2-utils) refuses %s, or is not installed", file);
}

static const char *xpath(const char *expression)
{
	static char text[8192];
	char command[512];
	size_t n;
	FILE *p;

	snprintf(command, sizeof(command), "xmllint --xpath '%s' '%s'", expression, file);
	p = popen(command, "r");
	cr_assert(p);
	n = fread(text, 1, sizeof(text) - 1, p);
	pclose(p);
	text[n] = '\0';
	return text;
}

WholeTest(junit, counts_and_times)
{
	const struct junit_case cases[] = {
		{.name = "6.12/smoke", .classname = "linux", .seconds = 1.25},
		{.name = "b", .seconds = 2, .failure = "exit status 1, expected 0\nand more", .kind = "status"},
		{.name = "c",
		 .error = "no kernel",
		 .failure = "not said",
		 .kind = "host",
		 .system_err = "words"},
	};
	const char *text = written(cases, ARRAY_SIZE(cases));

	holds(text, "<testsuite name=\"suite\" tests=\"3\" failures=\"1\" errors=\"1\" skipped=\"0\" "
		    "time=\"3.250\">");
	holds(text, "<testcase name=\"6.12/smoke\" classname=\"linux\" time=\"1.250\">");
	holds(text, "<testcase name=\"b\" classname=\"suite\" time=\"2.000\">");
	holds(text, "<failure message=\"exit status 1, expected 0\" type=\"status\">exit status 1, expected "
		    "0\nand more</failure>");
	holds(text, "<error message=\"no kernel\" type=\"host\">no kernel</error>");
	holds(text, "<system-err>words</system-err>");
	cr_expect_null(strstr(text, "not said"));
	parses();
}

WholeTest(junit, no_case_at_all)
{
	holds(written(NULL, 0), "tests=\"0\"");
	parses();
}

WholeTest(junit, markup_is_text)
{
	const char hostile[] = "</system-out>]]>&amp;<!-- \"'\r\nnext\rline\ttab";
	const struct junit_case c = {.name = hostile, .system_out = hostile, .failure = hostile};
	const char *text = written(&c, 1);

	holds(text, "name=\"&lt;/system-out&gt;]]&gt;&amp;amp;&lt;!-- &quot;'&#10;next&#13;line&#9;tab\"");
	holds(text, "<system-out>&lt;/system-out&gt;]]&gt;&amp;amp;&lt;!-- &quot;'\nnext&#13;line\ttab</");
	parses();
	cr_expect_str_eq(xpath("string(//system-out)"), "</system-out>]]>&amp;<!-- \"'\nnext\rline\ttab\n");
}

WholeTest(junit, terminal_colours_are_left_out)
{
	const struct junit_case c = {.name = "a",
				     .system_out = "\x1b[1;31mred\x1b[0m \x1b(B \x1b[ \x1b[1\nend\x1b[12"};

	/* What only looks like a sequence loses its ESC and no text. */
	holds(written(&c, 1), "<system-out>red (B [ [1\nend[12</system-out>");
	parses();
}

WholeTest(junit, bytes_that_are_no_text)
{
	static const char *const in[] = {
		"a\x01\x02\x08\x0b\x0c\x0e\x1f z",
		"a\x7f z",
		"a\xff z",
		"a\xc0\xaf z",     /* too long a form */
		"a\xed\xa0\x80 z", /* a surrogate */
		"a\xef\xbf\xbe z", /* U+FFFE */
		"a\xf4\x90\x80\x80 z",
		"a\xe2\x82",
		"a\xf0\x9f\x98\x80 z",
		"a\xe2\x82\xac z",
	};
#define FFFD "\xef\xbf\xbd"
	static const char *const out[] = {
		"a z",
		"a\x7f z",
		"a" FFFD " z",
		"a" FFFD FFFD " z",
		"a" FFFD FFFD FFFD " z",
		"a z",
		"a" FFFD FFFD FFFD FFFD " z",
		"a" FFFD FFFD,
		"a\xf0\x9f\x98\x80 z",
		"a\xe2\x82\xac z",
	};

	for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
		const struct junit_case c = {.name = in[i], .system_out = in[i]};
		char part[128];
		const char *text = written(&c, 1);

		snprintf(part, sizeof(part), "<system-out>%s</system-out>", out[i]);
		holds(text, part);
		snprintf(part, sizeof(part), "<testcase name=\"%s\"", out[i]);
		holds(text, part);
		parses();
	}
}

WholeTest(junit, random_bytes_parse)
{
	static char noise[65536];
	unsigned seed = 1;

	for (unsigned round = 0; round < 8; round++) {
		const struct junit_case c = {.name = noise,
					     .failure = noise,
					     .kind = noise,
					     .system_out = noise};

		for (size_t i = 0; i < sizeof(noise) - 1; i++)
			noise[i] = (char)(1 + rand_r(&seed) % 255);
		written(&c, 1);
		parses();
	}
}

WholeTest(junit, times_that_are_none)
{
	const struct junit_case cases[] = {{.name = "a", .seconds = NAN}, {.name = "b", .seconds = -1}};

	holds(written(cases, 2), "time=\"0.000\"");
	cr_expect_null(strstr(slurp(file), "nan"));
	cr_expect_null(strstr(slurp(file), "time=\"-"));
}

WholeTest(junit, a_link_stays_one)
{
	char link[96];
	struct stat st;

	snprintf(link, sizeof(link), "%s/link", dir);
	written(NULL, 0);
	cr_assert_eq(symlink("out.xml", link), 0);
	cr_assert_eq(junit_write(link, "through", NULL, 0, NULL), 0);
	cr_assert_eq(lstat(link, &st), 0);
	cr_expect(S_ISLNK(st.st_mode));
	holds(slurp(file), "through");
}

WholeTest(junit, what_is_no_file_is_written_to)
{
	struct stat st;

	cr_expect_eq(junit_write("/dev/null", "s", NULL, 0, NULL), 0);
	cr_assert_eq(stat("/dev/null", &st), 0);
	cr_expect(S_ISCHR(st.st_mode), "/dev/null was replaced");
}

WholeTest(junit, failures_say_which_file)
{
	char path[128];
	struct err e = {0};

	snprintf(path, sizeof(path), "%s/none/out.xml", dir);
	cr_expect_eq(junit_write(path, "s", NULL, 0, &e), -ENOENT);
	holds(e.text, path);
	holds(e.text, "No such file");
	cr_expect_eq(junit_write("/dev/full", "s", NULL, 0, &e), -ENOSPC);
	holds(e.text, "/dev/full");
}
