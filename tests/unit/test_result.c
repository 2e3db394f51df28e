/* --result: what is in the file, whatever the strings hold. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/outfile.h"
#include "vmm/result.h"

static char dir[] = "/tmp/ringlet-result-XXXXXX", path[64];

static void setup(void)
{
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/r.json", dir);
}

static void teardown(void)
{
	unlink(path);
	cr_expect_eq(rmdir(dir), 0, "something was left in %s", dir);
}

TestSuite(result, .init = setup, .fini = teardown, .timeout = 60);

static json_t *written(const struct result *r)
{
	struct err e = {0};
	json_error_t where;
	json_t *o;

	cr_assert_eq(result_write(r, path, &e), 0, "%s", e.text);
	o = json_load_file(path, 0, &where);
	cr_assert(o, "line %d: %s", where.line, where.text);
	return o;
}

static void is(const json_t *o, const char *key, const char *value)
{
	cr_expect_str_eq(json_string_value(json_object_get(o, key)), value, "%s", key);
}

static bool is_null(const json_t *o, const char *key)
{
	return json_is_null(json_object_get(o, key));
}

Test(result, an_answer)
{
	char *argv[] = {"sh", "-c", "exit 3", NULL};
	const struct result r = {
		.status = 3,
		.outcome = "answer",
		.reason = "",
		.command = argv,
		.command_status = 3,
		.kernel = "/boot/vmlinuz",
		.version = "6.12",
		.cmdline = "quiet",
		.run = "ringlet run",
		.started = {.tv_sec = 1767323045, .tv_nsec = 678900000},
		.exec_ns = 1000000000,
		.time_ns = {1001500000, 1100000000, 1200000000, 1300000000, 1400000500},
		.log = "log",
		.counters = "{\"ncpus\": 2}",
	};
	json_t *o = written(&r), *times = json_object_get(o, "times_ms");

	cr_expect_eq(json_integer_value(json_object_get(o, "status")), 3);
	cr_expect_eq(json_integer_value(json_object_get(o, "command_status")), 3);
	is(o, "outcome", "answer");
	is(o, "started", "2026-01-02T03:04:05.678Z");
	is(o, "cmdline", "quiet");
	is(o, "log", "log");
	is(json_object_get(o, "kernel"), "version", "6.12");
	cr_expect_eq(json_array_size(json_object_get(o, "command")), 3);
	cr_expect_float_eq(json_real_value(json_object_get(times, "kernel")), 1.5, 1e-9);
	cr_expect_float_eq(json_real_value(json_object_get(times, "end")), 400, 1e-9);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(o, "counters"), "ncpus")), 2);
	cr_expect(is_null(o, "tail"));
	json_decref(o);
}

Test(result, what_never_was)
{
	const struct result r = {.status = 125,
				 .outcome = "failed",
				 .reason = "no kernel",
				 .command_status = -1};
	json_t *o = written(&r), *times = json_object_get(o, "times_ms");
	static const char *const names[] = {"kernel", "init", "command", "answer", "end"};

	cr_expect(is_null(o, "command"));
	cr_expect(is_null(o, "command_status"));
	cr_expect(is_null(o, "counters"));
	cr_expect(is_null(o, "log"));
	cr_expect(is_null(json_object_get(o, "kernel"), "path"));
	for (unsigned i = 0; i < 5; i++)
		cr_expect(is_null(times, names[i]), "%s", names[i]);
	json_decref(o);
}

/* Neither a file name nor an argument has to be UTF-8. */
Test(result, strings_of_any_bytes)
{
	char *argv[] = {"caf\xc3\xa9", "\xff\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf0\x9f\x98\x80",
			"\x01\t\"",    NULL};
	const struct result r = {.outcome = "answer",
				 .reason = "a\xfe"
					   "b",
				 .command = argv};
	json_t *o = written(&r), *command = json_object_get(o, "command");
	static const char *const expected[] = {"caf\xc3\xa9",
					       "\xef\xbf\xbd\xef\xbf\xbd",
					       "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
					       "\xef\xbf\xbd\xef\xbf\xbd",
					       "\xf0\x9f\x98\x80",
					       "\x01\t\""};

	for (unsigned i = 0; i < 6; i++)
		cr_expect_str_eq(json_string_value(json_array_get(command, i)), expected[i], "argument %u", i);
	is(o, "reason",
	   "a\xef\xbf\xbd"
	   "b");
	json_decref(o);
}

Test(result, replaces_what_was_there)
{
	const struct result green = {.status = 0, .outcome = "answer"},
			    red = {.status = 125, .outcome = "failed"};
	json_t *o = written(&green);

	json_decref(o);
	cr_assert_eq(outfile_reserve(path), 0);
	o = written(&red);
	is(o, "outcome", "failed");
	json_decref(o);
	outfile_forget();
}

Test(result, a_place_where_nothing_can_be)
{
	const struct result r = {.outcome = "answer"};
	struct err e = {0};

	cr_expect_lt(result_write(&r, "/nonexistent/r.json", &e), 0);
	cr_expect(strstr(e.text, "--result /nonexistent/r.json"), "%s", e.text);
}
