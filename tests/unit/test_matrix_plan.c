/* From the lines of a file to cases. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "matrix/plan.h"

static struct plan plan;
static struct err err;

static void done(void)
{
	plan_free(&plan);
}

TestSuite(matrix_plan, .fini = done);

static int make_at(const char *path, const char *text)
{
	struct matrix_file file;
	int rc;

	plan_free(&plan);
	memset(&err, 0, sizeof(err));
	rc = file_parse(&file, path, text, strlen(text), &err);
	cr_assert_eq(rc, 0, "%s", err.text);
	return plan_make(&plan, &file, &err);
}

static void takes(const char *text)
{
	cr_assert_eq(make_at("f", text), 0, "%s: %s", text, err.text);
}

static void refuses(const char *text, ...)
{
	const char *word;
	va_list ap;

	cr_assert_eq(make_at("f", text), -EINVAL, "\"%s\" is taken", text);
	va_start(ap, text);
	while ((word = va_arg(ap, const char *)))
		cr_expect(strstr(err.text, word), "\"%s\" misses \"%s\" in: %s", text, word, err.text);
	va_end(ap);
}

#define NONE (const char *)NULL

static const char *line_of(const struct matrix_case *c)
{
	static char *text;
	size_t size;
	FILE *f;

	free(text);
	f = open_memstream(&text, &size);
	args_print(f, c->options.word);
	if (c->command.n) {
		fputs(" -- ", f);
		args_print(f, c->command.word);
	}
	fclose(f);
	return text;
}

static void names(const char *want)
{
	char text[4096] = "";

	for (size_t i = 0; i < plan.n; i++) {
		strcat(text, i ? " " : "");
		strcat(text, plan.cases[i].name);
	}
	cr_expect_str_eq(text, want);
}

#define TWELVE                                                                                                 \
	"[kernel a]\npath=x\n[kernel b]\npath=y\n[options mmio]\ntransport=mmio\n[options pci]\n"              \
	"[command t]\nrun=true\n[command f]\nrun=false\nexpect=1\n[command s]\nshell=dmesg | tail\n"

Test(matrix_plan, every_combination)
{
	takes(TWELVE);
	names("a/mmio/t a/mmio/f a/mmio/s a/pci/t a/pci/f a/pci/s b/mmio/t b/mmio/f b/mmio/s b/pci/t b/pci/f "
	      "b/pci/s");
	cr_expect_str_eq(line_of(&plan.cases[0]),
			 "ringlet run --timeout=10m --kernel=x --transport=mmio -- true");
	cr_expect_str_eq(line_of(&plan.cases[11]),
			 "ringlet run --timeout=10m --kernel=y -- sh -c 'dmesg | tail'");
	cr_expect_eq(plan.cases[10].expect.status, 1);
	cr_expect_eq(plan.cases[11].expect.status, 0);
}

Test(matrix_plan, what_comes_later_wins)
{
	takes("[command c]\nrun=x\n-c 4\n[options o]\nmem=2G\n-c 3\nexpect=panic\n[kernel k]\npath=x\ncpus=2\n"
	      "[defaults]\nmem=1G\ntimeout=90s\nexpect=3\n");
	names("k/o/c");
	cr_expect_eq(plan.cases[0].cpus, 4);
	cr_expect_eq(plan.cases[0].memory, (UINT64_C(2048) + 64) << 20);
	cr_expect_eq(plan.cases[0].timeout_ms, 90000);
	cr_expect_str_eq(plan.cases[0].expect.outcome, "panic");
}

Test(matrix_plan, an_axis_may_be_missing)
{
	takes("[command c]\nrun=x\n");
	names("c");
	cr_expect_eq(plan.cases[0].timeout_ms, 600000);
	takes("[options a]\n[options b]\n--mem 1G,hugepages\n");
	names("a b");
	cr_expect_eq(plan.cases[1].memory, UINT64_C(64) << 20, "huge pages are no part of what is free");
}

Test(matrix_plan, include_and_exclude)
{
	takes(TWELVE "[matrix]\ninclude = a b/pci\nexclude = */mmio/f\nexclude = a/pci */*/s\n");
	names("a/mmio/t b/pci/t b/pci/f");
	refuses(TWELVE "[matrix]\nexclude = a b\n", "f: no case: every one is excluded", NONE);
	refuses(TWELVE "[matrix]\nexclude = c\n", "f:16:", "exclude: \"c\" matches no case; one is a/mmio/t",
		NONE);
}

Test(matrix_plan, filters)
{
	static const char *const wanted[] = {"*/pci/t", "b/mmio"}, *const wrong[] = {"a", "nobody"};

	takes(TWELVE);
	cr_expect_eq(plan_filter(&plan, wrong, 2, &err), -EINVAL);
	cr_expect(strstr(err.text, "\"nobody\" matches none of 12 cases, such as a/mmio/t"), "%s", err.text);
	cr_expect_eq(plan_filter(&plan, wanted, 2, &err), 0);
	names("a/pci/t b/mmio/t b/mmio/f b/mmio/s b/pci/t");
}

Test(matrix_plan, patterns)
{
	cr_expect(plan_matches("6.12", "6.12/mmio/smoke"));
	cr_expect(plan_matches("6.*/mmio", "6.12/mmio/smoke"));
	cr_expect(plan_matches("*/*/smoke", "6.12/mmio/smoke"));
	cr_expect_not(plan_matches("6.1", "6.12/mmio/smoke"));
	cr_expect_not(plan_matches("*smoke", "6.12/mmio/smoke"));
}

Test(matrix_plan, of_the_whole)
{
	takes("[matrix]\nname=boot tests\njobs=3\ngrace=2s\n[options a]\n");
	cr_expect_str_eq(plan.name, "boot tests");
	cr_expect_eq(plan.jobs, 3);
	cr_expect_eq(plan.grace_ms, 2000);
	cr_expect_str_eq(plan.directory, ".");
	cr_expect_eq(make_at("ci/m.ini", "[options a]\n"), 0);
	cr_expect_str_eq(plan.directory, "ci");
	cr_expect_str_eq(plan.name, "m.ini");
	cr_expect_eq(make_at("/m.ini", "[options a]\n"), 0);
	cr_expect_str_eq(plan.directory, "/");
	cr_expect_eq(make_at("ci/m.ini", "[options a]\n[matrix]\ndirectory = ..\n"), 0);
	cr_expect_str_eq(plan.directory, "ci/..");
	cr_expect_eq(make_at("ci/m.ini", "[options a]\n[matrix]\ndirectory = /src\n"), 0);
	cr_expect_str_eq(plan.directory, "/src");
}

Test(matrix_plan, mistakes)
{
	refuses("[kernl a]\n", "f:1:", "did you mean [kernel]?", NONE);
	refuses("[zzzzzzzz]\n", "f:1:", "expected [matrix]", NONE);
	refuses("[kernel]\n", "f:1:", "wants a name", NONE);
	refuses("[matrix x]\n", "f:1:", "takes no name", NONE);
	refuses("[kernel a/b]\n", "f:1:", "\"a/b\" cannot be a name", NONE);
	refuses("[options ..]\n", "cannot be a name", NONE);
	refuses("[options -x]\n", "cannot be a name", NONE);
	refuses("[options a]\n[kernel a]\npath=x\n[options a]\n",
		"f:4:", "[options a] is there already, in line 1", NONE);
	refuses("[kernel a]\n", "f:1:", "no path = FILE", NONE);
	refuses("[kernel a]\npath=x\npath=y\n", "f:3:", "line 2 has said it already", NONE);
	refuses("[kernel a]\npath=\n", "f:2:", "expected path = VALUE", NONE);
	refuses("[command a]\n", "f:1:", "neither run = WORDS nor shell = LINE", NONE);
	refuses("[command a]\nrun=x\nshell=y\n", "f:3:", "line 2", NONE);
	refuses("[command a]\nrun='x\n", "f:2:", "' is not closed", NONE);
	refuses("[command a]\nrun=x\nexpect=panik\n", "f:3:", "did you mean \"panic\"?", NONE);
	refuses("[command a]\nrun=x\nexpect=256\n", "f:3:", "0 to 255", NONE);
	refuses("[matrix]\njbs=2\n", "f:2:", "[matrix] has no key \"jbs\"; did you mean \"jobs\"?", NONE);
	refuses("[matrix]\n-m 1G\n", "f:2:", "they go into [defaults]", NONE);
	refuses("[matrix]\njobs=0\n", "f:2:", "jobs", NONE);
	refuses("[defaults]\ncpuss=2\n", "f:2:", "did you mean \"cpus\"?", NONE);
}

Test(matrix_plan, options_that_are_wrong)
{
	refuses("[options a]\nmem=1Q\n", "f:2:", "mem", "1Q", NONE);
	refuses("[options a]\n\n-c 0\n", "f:3:", "-c", NONE);
	refuses("[options a]\nmem\n", "f:2:", "wants a value", NONE);
	refuses("[options a]\nno-default-append=1\n", "f:2:", "takes no value", NONE);
	refuses("[options a]\n-m 1G -- true\n", "f:2:", "run = ... of a [command]", NONE);
	refuses("[options a]\nlog=x\n", "f:2:", "directory a case", NONE);
	refuses("[options a]\n--result x\n", "f:2:", "directory a case", NONE);
	refuses("[options a]\nstats=x\n", "f:2:", "directory a case", NONE);
	refuses("[options a]\nname=x\n", "f:2:", "differ for each case", NONE);
	refuses("[options a]\n--dry-run\n", "f:2:", "ringlet matrix --dry-run", NONE);
	refuses("[options a]\n-h\n", "f:2:", "run nothing", NONE);
	/* What only the whole shows. */
	refuses("[options a]\nenv = A=1\n", "f: case a:", "--env", NONE);
}

Test(matrix_plan, too_many_cases)
{
	static char text[65536];
	size_t len = 0;

	for (int i = 0; i < 101; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "[kernel k%d]\npath=x\n[options o%d]\n",
					i, i);
	refuses(text, "101 kernels x 101 options x 1 commands", "at most", NONE);
}

/* --- words --- */

static void splits(const char *line, const char *want)
{
	struct args w = {0};
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	cr_assert_eq(args_split(&w, line, &err), 0, "%s: %s", line, err.text);
	for (size_t i = 0; i < w.n; i++)
		fprintf(f, "<%s>", w.word[i]);
	fclose(f);
	cr_expect_str_eq(text, want);
	free(text);
	args_fini(&w);
}

static void does_not_split(const char *line, const char *why)
{
	struct args w = {0};

	cr_expect_eq(args_split(&w, line, &err), -EINVAL, "%s", line);
	cr_expect(strstr(err.text, why), "%s: %s", line, err.text);
	args_fini(&w);
}

Test(matrix_plan, words)
{
	splits("", "");
	splits("  a\t b ", "<a><b>");
	splits("a'b c'\"d e\"f", "<ab cd ef>");
	splits("'' \"\"", "<><>");
	splits("a\\ b \\'", "<a b><'>");
	splits("\"a\\\"b\\c\\\\\"", "<a\"b\\c\\>");
	splits("'$HOME | \\'", "<$HOME | \\>");
	splits("a=b,c:1  x~ a#b a!b c]", "<a=b,c:1><x~><a#b><a!b><c]>");
}

Test(matrix_plan, words_for_a_shell)
{
	static const char *const lines[] = {"a | b",  "a;b",   "a && b", "a>b",  "a <b", "$HOME",
					    "\"$A\"", "`x`",   "*.c",    "a?",   "(a)",  "# a",
					    "~",      "{a,b}", "[ab]",   "\"`\""};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		does_not_split(lines[i], "is for a shell");
	does_not_split("'a", "' is not closed");
	does_not_split("a \"b", "\" is not closed");
	does_not_split("a \\", "backslash");
}

Test(matrix_plan, words_come_back_from_a_shell)
{
	static char word[] = "a'b \"c\" $d \\ \n", *const words[] = {word, NULL};
	char command[256], got[256];
	size_t n;
	FILE *f = fmemopen(command, sizeof(command), "w");

	fputs("printf %s ", f);
	args_print(f, words);
	fclose(f);
	f = popen(command, "r");
	n = fread(got, 1, sizeof(got) - 1, f);
	got[n] = '\0';
	pclose(f);
	cr_expect_str_eq(got, word);
}
