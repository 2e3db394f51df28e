/* What is believed of a case, what fits a machine, and what is shown of a log. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "matrix/expect.h"
#include "matrix/host.h"
#include "matrix/tail.h"
#include "tests/unit/teardown.h"

static char dir[64], path[128];
static struct err err;

static void make_dir(void)
{
	strcpy(dir, "/tmp/ringlet-verdict-XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_expect_eq(system(command), 0);
}

TestSuite(matrix_verdict, .init = make_dir, .fini = teardown_once);

static void put(const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	cr_assert(f);
	fwrite(text, 1, len, f);
	fclose(f);
}

/* --- verdicts --- */

static struct verdict judge(const char *expect, int exit_status, const char *outcome, int status)
{
	const struct ended how = {.status = exit_status};
	struct result result = {.status = status};
	struct expect x;
	struct verdict v;

	snprintf(result.outcome, sizeof(result.outcome), "%s", outcome);
	cr_assert_eq(expect_parse(&x, expect, &err), 0, "%s", err.text);
	expect_judge(&v, &x, &how, &result, "", 1);
	return v;
}

WholeTest(matrix_verdict, what_passes)
{
	cr_expect(judge("0", 0, "answer", 0).passed);
	cr_expect(judge("0", 0, "power-off", 0).passed);
	cr_expect(judge("7", 7, "answer", 7).passed);
	cr_expect(judge("143", 143, "answer", 143).passed, "a command that a signal ended");
	cr_expect(judge("nonzero", 7, "answer", 7).passed);
	cr_expect(judge("panic", 121, "panic", 121).passed);
	cr_expect(judge("121", 121, "panic", 121).passed);
	cr_expect(judge("timeout", 124, "timeout", 124).passed);
	cr_expect(judge("boot-hang", 118, "boot-hang", 118).passed);
}

WholeTest(matrix_verdict, every_outcome_that_is_no_answer_fails)
{
	for (const char *const *o = result_outcomes; *o; o++) {
		if (!strcmp(*o, "answer") || !strcmp(*o, "power-off"))
			continue;
		cr_expect_not(judge("0", 0, *o, 0).passed, "%s", *o);
		cr_expect_not(judge("143", 143, *o, 143).passed, "%s", *o);
		cr_expect_not(judge("nonzero", 121, *o, 121).passed, "%s", *o);
		cr_expect_str_eq(judge("0", 0, *o, 0).kind, *o);
	}
	cr_expect_not(judge("nonzero", 0, "answer", 0).passed);
	cr_expect_not(judge("0", 3, "answer", 0).passed, "the process and its result differ");
	cr_expect_not(judge("3", 3, "answer", 0).passed);
	cr_expect_str_eq(judge("0", 1, "answer", 1).kind, "status");
}

WholeTest(matrix_verdict, without_a_result_nothing_passes)
{
	const struct ended fine = {0}, killed = {.signalled = true, .status = 9}, late = {.late = true},
			   left = {.left = 2}, ours = {.interrupted = true};
	const struct result good = {.outcome = "answer"};
	struct expect x = {0};
	struct verdict v;

	expect_judge(&v, &x, &fine, NULL, "there is none", 1);
	cr_expect_not(v.passed);
	cr_expect(strstr(v.reason, "there is none"), "%s", v.reason);
	expect_judge(&v, &x, &killed, &good, "", 1);
	cr_expect_not(v.passed);
	cr_expect(strstr(v.reason, "signal 9 (Killed)"), "%s", v.reason);
	expect_judge(&v, &x, &late, &good, "", 1.5);
	cr_expect_not(v.passed);
	cr_expect(strstr(v.reason, "within 1.5 s"), "%s", v.reason);
	expect_judge(&v, &x, &left, &good, "", 1);
	cr_expect_not(v.passed);
	cr_expect(strstr(v.reason, "2 processes behind"), "%s", v.reason);
	expect_judge(&v, &x, &ours, &good, "", 1);
	cr_expect_not(v.passed);
}

WholeTest(matrix_verdict, results)
{
	static const char good[] =
		"{\"status\":7,\"outcome\":\"answer\",\"reason\":\"x\",\"times_ms\":{\"end\":1500,"
		"\"command\":null}}";
	static const char *const bad[] = {
		"",
		"null",
		"[]",
		"{}",
		"{\"status\":0}",
		"{\"outcome\":\"answer\"}",
		"{\"status\":\"0\",\"outcome\":\"answer\"}",
		"{\"status\":0.0,\"outcome\":\"answer\"}",
		"{\"status\":256,\"outcome\":\"answer\"}",
		"{\"status\":-1,\"outcome\":\"answer\"}",
		"{\"status\":null,\"outcome\":\"answer\"}",
		"{\"status\":0,\"outcome\":\"fine\"}",
		"{\"status\":0,\"outcome\":0}",
		"{\"status\":1,\"status\":0,\"outcome\":\"answer\"}",
		"{\"status\":0,\"outcome\":\"answer\"} {\"status\":1}",
		"{\"status\":0,\"outcome\":\"answer\"",
	};
	struct result r;

	put(good, strlen(good));
	cr_assert_eq(result_read(&r, path, &err), 0, "%s", err.text);
	cr_expect_eq(r.status, 7);
	cr_expect_str_eq(r.outcome, "answer");
	cr_expect_str_eq(r.reason, "x");
	cr_expect_float_eq(r.end_s, 1.5, 1e-9);
	cr_expect_lt(r.command_s, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put(bad[i], strlen(bad[i]));
		cr_expect_eq(result_read(&r, path, &err), -EBADMSG, "%s", bad[i]);
		cr_expect(strstr(err.text, path), "%s", err.text);
	}
	for (size_t len = 0; len < strlen(good); len++) {
		put(good, len);
		cr_expect_neq(result_read(&r, path, &err), 0, "%zu bytes of it", len);
	}
	unlink(path);
	cr_expect_eq(result_read(&r, path, &err), -ENOENT);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_expect_eq(result_read(&r, path, &err), -EBADMSG, "and it does not wait for a writer");
}

/* --- the host --- */

static void host_file(const char *name, const char *text)
{
	char full[256];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", dir, name);
	for (char *s = full + strlen(dir) + 1; (s = strchr(s, '/')); s++) {
		*s = '\0';
		mkdir(full, 0755);
		*s = '/';
	}
	f = fopen(full, "w");
	cr_assert(f, "%s", full);
	fputs(text, f);
	fclose(f);
}

WholeTest(matrix_verdict, the_host)
{
	struct host h;
	unsigned cpus;

	host_look(&h, dir);
	cr_expect_eq(h.memory, UINT64_MAX, "nothing says how much there is");
	cr_expect_geq(h.cpus, 1);
	cpus = h.cpus;
	host_file("/proc/meminfo", "MemTotal: 999 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n");
	host_look(&h, dir);
	cr_expect_eq(h.memory, UINT64_C(2048) << 10);
	host_file("/proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
	host_file("/proc/self/cgroup", "0::/job\n");
	host_file("/sys/fs/cgroup/job/memory.max", "1000000\n");
	host_file("/sys/fs/cgroup/job/cpu.max", "150000 100000\n");
	host_look(&h, dir);
	cr_expect_eq(h.memory, 900000);
	cr_expect_eq(h.cpus, cpus < 2 ? cpus : 2);
	host_file("/sys/fs/cgroup/job/cpu.max", "max 100000\n");
	host_file("/sys/fs/cgroup/job/memory.max", "max\n");
	host_look(&h, dir);
	cr_expect_eq(h.memory, UINT64_C(2048) << 10);
	cr_expect_eq(h.cpus, cpus);
}

/* --- logs --- */

static void shows(const char *text, unsigned lines, const char *want)
{
	char *got = NULL;
	size_t size;
	FILE *f = open_memstream(&got, &size);

	tail_print(f, text, lines, ">");
	fclose(f);
	cr_expect_str_eq(got, want);
	free(got);
}

WholeTest(matrix_verdict, the_end_of_a_log)
{
	char *text;

	put("one\ntwo\nthree", 13);
	text = tail_read(path, 8);
	cr_expect_str_eq(text, "three", "from the beginning of a line");
	free(text);
	put("one\ntwo\nthree", 13);
	text = tail_read(path, 4);
	cr_expect_str_eq(text, "hree", "there is none");
	free(text);
	put("a\0b", 3);
	text = tail_read(path, 100);
	cr_expect_str_eq(text, "ab");
	free(text);
	put("", 0);
	cr_expect_null(tail_read(path, 100));
	put("\0\0", 2);
	cr_expect_null(tail_read(path, 100));
	cr_expect_null(tail_read("/nowhere/at/all", 100));
}

WholeTest(matrix_verdict, lines_of_a_log)
{
	shows("a\nb\nc\n", 2, ">b\n>c\n");
	shows("a\r\nb\r\n\n\n", 9, ">a\n>b\n");
	shows("a\n\nb", 2, ">\n>b\n");
	shows("", 3, "");
	shows("\n\n", 3, "");
	shows("\x1b[1;31mred\x1b[0m\x07 t\tx\x1b[12", 1, ">red t\tx\n");
	shows("\x1b]0;title\x07 \x1b", 1, ">]0;title \n");
}
