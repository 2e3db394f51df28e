/* What a run has counted, as a person and as a program read it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/stats.h"

static char path[] = "/tmp/ringlet-stats-XXXXXX";
static json_t *json;
static char *text;

static const struct run_stats run = {.ncpus = 2, .exits_total = 7, .status = 3};
static struct device_report device[] = {
	{
		.name = "net0",
		.type = "net",
		.transport = "mmio",
		.nqueues = 3,
		.queue = {{1, 2, 3, 4, 5, 6, 7}, {.kicks = 9, .bytes = 1ull << 40}, {0}},
	},
	{
		.name = "disk0",
		.type = "block",
		.transport = "pci",
		.nqueues = 1,
		.queue = {{STATS_UNSEEN, STATS_UNSEEN, STATS_UNSEEN, STATS_UNSEEN, 8, STATS_UNSEEN,
			   STATS_UNSEEN}},
	},
};
static struct balloon_report balloon = {
	.wanted = 256u << 20,
	.actual = 128u << 20,
	.returned = 1u << 20,
	.known = 1u << 4 | 1u << 9,
	.value = {[3] = 1, [4] = 44, [9] = 99},
};
static struct devices_report report = {.n = 2, .device = device, .balloon = &balloon};

static void setup(void)
{
	close(mkstemp(path));
}

static void teardown(void)
{
	json_decref(json);
	free(text);
	unlink(path);
}

TestSuite(stats, .init = setup, .fini = teardown);

static void write_and_load(const struct devices_report *r)
{
	json_error_t error;

	cr_assert_eq(stats_write_json(&run, r, path), 0);
	json = json_load_file(path, 0, &error);
	cr_assert(json, "%s", error.text);
}

static const char *print(const struct devices_report *r)
{
	size_t len;
	FILE *f = open_memstream(&text, &len);

	stats_print(&run, r, f);
	fclose(f);
	return text;
}

static json_t *device_at(size_t i)
{
	return json_array_get(json_object_get(json, "devices"), i);
}

static json_t *queue_at(size_t i, size_t q)
{
	return json_array_get(json_object_get(device_at(i), "queues"), q);
}

static void expect_word(const json_t *o, const char *key, const char *word)
{
	const char *found = json_string_value(json_object_get(o, key));

	cr_assert(found, "no %s", key);
	cr_expect_str_eq(found, word);
}

static void expect_number(const json_t *o, const char *key, json_int_t n)
{
	const json_t *found = json_object_get(o, key);

	cr_assert(json_is_integer(found), "no %s", key);
	cr_expect_eq(json_integer_value(found), n, "%s is %lld", key, json_integer_value(found));
}

Test(stats, json_has_the_runs_counts)
{
	write_and_load(&report);
	expect_number(json, "ncpus", 2);
	expect_number(json, "exits_total", 7);
	expect_number(json, "status", 3);
}

Test(stats, json_names_the_devices)
{
	write_and_load(&report);
	cr_assert_eq(json_array_size(json_object_get(json, "devices")), 2);
	expect_word(device_at(0), "name", "net0");
	expect_word(device_at(0), "type", "net");
	expect_word(device_at(0), "transport", "mmio");
	expect_word(device_at(1), "name", "disk0");
	cr_expect_eq(json_array_size(json_object_get(device_at(0), "queues")), 3);
	cr_expect_eq(json_array_size(json_object_get(device_at(1), "queues")), 1);
}

Test(stats, json_has_every_count_of_a_queue)
{
	static const char *const keys[] = {"kicks",      "bursts", "chains",      "bytes",
					   "interrupts", "spared", "system_calls"};

	write_and_load(&report);
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		expect_number(queue_at(0, 0), keys[i], (json_int_t)i + 1);
	expect_number(queue_at(0, 0), "index", 0);
	expect_number(queue_at(0, 1), "index", 1);
	expect_number(queue_at(0, 1), "bytes", 1ll << 40);
	expect_number(queue_at(0, 2), "kicks", 0);
	cr_expect_eq(json_object_size(queue_at(0, 0)), 8);
}

Test(stats, json_has_null_for_what_nobody_saw)
{
	write_and_load(&report);
	cr_expect(json_is_null(json_object_get(queue_at(1, 0), "kicks")));
	cr_expect(json_is_null(json_object_get(queue_at(1, 0), "system_calls")));
	expect_number(queue_at(1, 0), "interrupts", 8);
}

Test(stats, json_has_the_balloon)
{
	const json_t *b, *guest;

	write_and_load(&report);
	b = json_object_get(json, "balloon");
	guest = json_object_get(b, "guest");
	expect_number(b, "wanted", 256 << 20);
	expect_number(b, "actual", 128 << 20);
	expect_number(b, "returned", 1 << 20);
	expect_number(guest, "free_memory", 44);
	expect_number(guest, "hugetlb_failures", 99);
	cr_expect_eq(json_object_size(guest), 2, "only what the guest told");
}

Test(stats, json_without_devices_has_an_empty_list)
{
	const struct devices_report none = {0};

	write_and_load(&none);
	cr_expect(json_is_array(json_object_get(json, "devices")));
	cr_expect_eq(json_array_size(json_object_get(json, "devices")), 0);
	cr_expect_null(json_object_get(json, "balloon"));
}

Test(stats, json_that_cannot_be_written_says_why)
{
	cr_expect_eq(stats_write_json(&run, &report, "/nowhere/x"), -ENOENT);
}

Test(stats, text_has_the_queues_that_were_used)
{
	const char *s = print(&report);

	cr_expect(strstr(s, "net0 queue 0:  kicks 1  bursts 2  chains 3  bytes 4  interrupts 5  spared 6  "
			    "system calls 7\n"),
		  "%s", s);
	cr_expect(strstr(s, "net0 queue 1:"), "%s", s);
	cr_expect_not(strstr(s, "net0 queue 2:"), "%s", s);
}

Test(stats, text_leaves_out_what_nobody_saw)
{
	cr_expect(strstr(print(&report), "disk0 queue 0:  interrupts 8\n"), "%s", text);
}

Test(stats, text_has_the_balloon)
{
	const char *s = print(&report);

	cr_expect(strstr(s, "balloon: wanted 256 MiB, is 128 MiB; given back to the host 1 MiB\n"), "%s", s);
	cr_expect(strstr(s, "the guest says:  free memory 44  huge pages refused 99\n"), "%s", s);
}

Test(stats, text_is_silent_about_a_guest_that_told_nothing)
{
	struct balloon_report quiet = {.wanted = 1};
	const struct devices_report r = {.balloon = &quiet};

	cr_expect(strstr(print(&r), "balloon:"));
	cr_expect_not(strstr(text, "the guest says"));
}

/* --- what programs ask a running VM for --- */

static struct counted_device counted[2] = {
	{
		.datapath = "in-process",
		.here = {true, true, false},
		.exit_kicks = {11, 0, 12},
		.ndoorbells = 2,
		.doorbell = {{true, 0x1000, 256}, {false, 1ull << 40, 128}},
	},
	{.datapath = "vhost-user", .remote = true, .notify_exit = true},
};
static struct counters_report counters = {
	.kvm = {.exits = 1ull << 41, .irq_injections = KVM_STATS_UNKNOWN},
	.ndevices = 2,
	.device = counted,
};

static int count_into(char *buf, size_t size)
{
	counters.run = run;
	counted[0].report = device[0];
	counted[1].report = device[1];
	return stats_counters_json(&counters, buf, size);
}

static void count_and_load(void)
{
	static char buf[8192];
	json_error_t error;

	cr_assert_eq(count_into(buf, sizeof(buf)), 0);
	cr_expect_null(strchr(buf, '\n'), "one line");
	json = json_loads(buf, 0, &error);
	cr_assert(json, "%s", error.text);
}

Test(stats, counters_have_the_run_and_kvm)
{
	count_and_load();
	expect_number(json_object_get(json, "run"), "exits_total", 7);
	expect_number(json_object_get(json, "kvm"), "exits", 1ll << 41);
	cr_expect(json_is_null(json_object_get(json_object_get(json, "kvm"), "irq_injections")));
	cr_expect_null(json_object_get(json, "kvm_missing"));
	cr_expect(json_is_false(json_object_get(json, "busy")));
}

Test(stats, counters_have_the_devices)
{
	json_t *doorbells;

	count_and_load();
	expect_word(device_at(0), "name", "net0");
	expect_word(device_at(0), "datapath", "in-process");
	expect_word(device_at(0), "notify", "ioeventfd");
	cr_expect(json_is_false(json_object_get(device_at(0), "remote")));
	expect_word(device_at(1), "notify", "exit");
	cr_expect(json_is_true(json_object_get(device_at(1), "remote")));
	doorbells = json_object_get(device_at(0), "doorbells");
	cr_assert_eq(json_array_size(doorbells), 2);
	expect_word(json_array_get(doorbells, 0), "space", "io");
	expect_number(json_array_get(doorbells, 0), "address", 0x1000);
	expect_word(json_array_get(doorbells, 1), "space", "memory");
	expect_number(json_array_get(doorbells, 1), "address", 1ll << 40);
	expect_number(json_array_get(doorbells, 1), "length", 128);
}

Test(stats, counters_have_the_queues)
{
	count_and_load();
	expect_number(queue_at(0, 0), "kicks", 1);
	expect_number(queue_at(0, 0), "system_calls", 7);
	expect_number(queue_at(0, 0), "exit_kicks", 11);
	cr_expect(json_is_true(json_object_get(queue_at(0, 0), "here")));
	expect_number(queue_at(0, 2), "exit_kicks", 12);
	cr_expect(json_is_false(json_object_get(queue_at(0, 2), "here")));
	cr_expect(json_is_null(json_object_get(queue_at(1, 0), "kicks")));
}

Test(stats, counters_say_why_kvm_told_nothing)
{
	counters.kvm_missing = "no KVM \"here\"";
	counters.busy = true;
	count_and_load();
	cr_expect(json_is_null(json_object_get(json, "kvm")));
	expect_word(json, "kvm_missing", "no KVM \"here\"");
	cr_expect(json_is_true(json_object_get(json, "busy")));
}

Test(stats, counters_fit_or_say_so)
{
	static char buf[8192];
	size_t len;

	cr_assert_eq(count_into(buf, sizeof(buf)), 0);
	len = strlen(buf);
	memset(buf, 'x', sizeof(buf));
	cr_expect_eq(count_into(buf, len), -EMSGSIZE);
	cr_expect_eq(buf[0], '\0', "half an object");
	cr_expect_eq(buf[len], 'x');
	cr_expect_eq(count_into(buf, len + 1), 0);
	cr_expect_eq(strlen(buf), len);
}
