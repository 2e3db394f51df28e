/* What guests say, and what they are told. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare/bare/histogram.h"
#include "compare/guest.h"
#include "compare/host.h"
#include "compare/workloads.h"
#include "lib/cleanup.h"

static struct guest_line read_line(const char *text)
{
	struct guest_line l;

	memset(&l, 0xaa, sizeof(l));
	guest_line(text, &l);
	return l;
}

static void check_failed(const char *text, const char *why)
{
	struct guest_line l = read_line(text);

	cr_expect_eq(l.word, GUEST_FAILED, "%.60s", text);
	cr_expect(strstr(l.why, why), "%.60s: %s", text, l.why);
	cr_expect_lt(strlen(l.why), sizeof(l.why));
}

/* --- lines --- */

Test(compare_guest, other_text_is_not_ours)
{
	static const char *const other[] = {
		"",     "compare", "Compare: begin tcp", " compare: begin tcp", "[    0.1] compare: begin tcp",
		"ok 1", "\r"};

	for (size_t i = 0; i < ARRAY_SIZE(other); i++)
		cr_expect_eq(read_line(other[i]).word, GUEST_OTHER, "%s", other[i]);
}

Test(compare_guest, feature_bits_are_hexadecimal)
{
	cr_expect_eq(read_line("compare: offered 130bfbba3").word, GUEST_OFFERED);
	cr_expect_eq(read_line("compare: offered 130bfbba3").bits, 0x130bfbba3);
	cr_expect_eq(read_line("compare: features ffffffffFFFFFFFF\r").word, GUEST_FEATURES);
	cr_expect_eq(read_line("compare: features ffffffffFFFFFFFF\r").bits, UINT64_MAX);
}

Test(compare_guest, feature_bits_are_not_anything_else)
{
	check_failed("compare: offered", "offered");
	check_failed("compare: offered -1", "-1");
	check_failed("compare: offered 0x10", "0x10");
	check_failed("compare: features 10000000000000000", "10000000000000000");
	check_failed("compare: features 1 2", "1 2");
}

Test(compare_guest, a_beginning_names_its_workload)
{
	struct guest_line l = read_line("compare: begin tcp-in\r");

	cr_expect_eq(l.word, GUEST_BEGIN);
	cr_expect_str_eq(l.workload, "tcp-in");
	cr_expect_str_eq(l.why, "");
	cr_expect_not(l.busy);
	cr_expect(read_line("compare: begin rr busy").busy);
	cr_expect_eq(read_line("compare: stop rr").word, GUEST_STOP);
	check_failed("compare: stop", "stop");
	check_failed("compare: stop rr 1", "rr 1");
	check_failed("compare: begin", "begin");
	check_failed("compare: begin rr rr", "rr rr");
	check_failed("compare: begin \"rr\"", "rr");
}

Test(compare_guest, an_end_has_three_numbers)
{
	struct guest_line l = read_line("compare: end pps 1049174 1.000085 1049084\r");

	cr_expect_eq(l.word, GUEST_END);
	cr_expect_str_eq(l.workload, "pps");
	cr_expect_eq(l.count, 1049174);
	cr_expect_float_eq(l.seconds, 1.000085, 1e-9);
	cr_expect_eq(l.rate, 1049084);
	cr_expect_float_eq(read_line("compare: end tcp 1 2 3.5e+09").rate, 3.5e9, 1);
	check_failed("compare: end pps 1 2", "pps 1 2");
	check_failed("compare: end pps 1 2 3 4", "3 4");
	check_failed("compare: end pps 1 2 3x", "3x");
}

Test(compare_guest, numbers_that_no_work_can_have_are_refused)
{
	static const char *const wrong[] = {"inf", "nan", "-1", "0",     "1e400", "1e19", "0x10",
					    "1e",  ".",   "-",  "1,000", "+-1",   "NAN",  "infinity"};
	char text[80];

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		for (unsigned at = 0; at < 3; at++) {
			snprintf(text, sizeof(text), "compare: end rr %s %s %s", at == 0 ? wrong[i] : "1",
				 at == 1 ? wrong[i] : "1", at == 2 ? wrong[i] : "1");
			check_failed(text, wrong[i]);
		}
}

Test(compare_guest, latency_is_one_number_a_percentile)
{
	struct guest_line l = read_line("compare: latency rr 69.905 70.299 70.693 71.875 73.056 76.601 90.385 "
					"97.474 172.106 204.006 367.842 1446.165 4952.879");

	cr_expect_eq(l.word, GUEST_LATENCY);
	cr_expect_float_eq(l.latency_us[0], 69.905, 1e-9);
	cr_expect_float_eq(l.latency_us[LATENCY_POINTS - 1], 4952.879, 1e-9);
	check_failed("compare: latency rr 1 2 3 4 5 6 7 8 9 10 11 12", "latency");
	check_failed("compare: latency rr 1 2 3 4 5 6 7 8 9 10 11 12 13 14", "latency");
	check_failed("compare: latency rr 1 2 3 4 5 6 nan 8 9 10 11 12 13", "latency");
	check_failed("compare: latency rr 1 2 3 4 5 6 -7 8 9 10 11 12 13", "latency");
	cr_expect_eq(read_line("compare: latency rr 0 2 3 4 5 6 7 8 9 10 11 12 13").word, GUEST_LATENCY);
}

Test(compare_guest, a_failure_keeps_its_words)
{
	struct guest_line l = read_line("compare: failed tcp iperf3: exit status 1: no route\r");

	cr_expect_eq(l.word, GUEST_FAILED);
	cr_expect_str_eq(l.workload, "tcp");
	cr_expect_str_eq(l.why, "iperf3: exit status 1: no route");
	cr_expect_str_eq(read_line("compare: failed - what= names nothing").workload, "-");
	cr_expect_str_neq(read_line("compare: failed tcp").why, "");
}

Test(compare_guest, what_the_bare_library_complains_of_is_a_failure)
{
	check_failed("not ok tests/bare/lib/virtio.c:232: vdev_has(d, 34)\r", "virtio.c:232");
	cr_expect_eq(read_line("not okay").word, GUEST_OTHER);
}

Test(compare_guest, words_that_nobody_knows_are_told)
{
	check_failed("compare:", "not understood");
	check_failed("compare: ", "not understood");
	check_failed("compare: dance tcp", "dance tcp");
	check_failed("compare:begin", "compare:begin");
	cr_expect_eq(read_line("compare:begin tcp").word, GUEST_BEGIN);
}

Test(compare_guest, a_refused_line_leaves_no_numbers)
{
	struct guest_line l = read_line("compare: end rr 5 6 nan");

	cr_expect_eq(l.count, 0);
	cr_expect_eq(l.seconds, 0);
	cr_expect_str_eq(l.workload, "");
}

Test(compare_guest, very_long_words_do_no_harm)
{
	static const char *const before[] = {"compare: ",
					     "compare: begin ",
					     "compare: features ",
					     "compare: end rr ",
					     "compare: latency rr 1 ",
					     "compare: failed rr ",
					     "compare: failed ",
					     "not ok "};
	static char text[100000];

	for (size_t i = 0; i < ARRAY_SIZE(before); i++)
		for (const char *fill = "a1 "; *fill; fill++) {
			memset(text, *fill, sizeof(text) - 1);
			memcpy(text, before[i], strlen(before[i]));
			check_failed(text, "");
		}
}

Test(compare_guest, a_workloads_name_fits_or_is_refused)
{
	char text[64] = "compare: begin ";
	const size_t at = strlen(text), room = sizeof(((struct guest_line *)0)->workload);

	memset(text + at, 'x', room - 1);
	cr_expect_eq(read_line(text).word, GUEST_BEGIN);
	cr_expect_eq(strlen(read_line(text).workload), room - 1);
	text[at + room - 1] = 'x';
	check_failed(text, "xxx");
}

Test(compare_guest, terminal_codes_do_not_come_through)
{
	struct guest_line l = read_line("compare: failed tcp \033[2J\a\x9b"
					"31m\xff"
					"boo\t!\n");

	cr_expect_eq(l.word, GUEST_FAILED);
	for (const char *c = l.why; *c; c++)
		cr_expect(*c >= ' ' && *c < 0x7f, "0x%02x", (unsigned char)*c);
	cr_expect(strstr(l.why, "boo"));
}

Test(compare_guest, any_bytes_are_read)
{
	char text[64];

	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(text, sizeof(text), "compare: %s", i & 1 ? "end rr " : "");
		for (size_t n = strlen(text); n < sizeof(text); n++)
			text[n] = (char)rand();
		text[sizeof(text) - 1] = '\0';
		cr_expect_neq(read_line(text).word, GUEST_OTHER);
	}
}

/* --- what guests are told --- */

static struct plan plan_of(bool disk, const char *const names[])
{
	struct plan p = {.disk = disk, .seconds = 2.5, .guest = GUEST_LINUX};

	for (; *names; names++)
		p.workload[p.nworkloads++] =
			strcmp(*names, "command") ? *workload_find(*names, disk) : *workload_command();
	return p;
}
#define PLAN(disk, ...) plan_of(disk, (const char *const[]){__VA_ARGS__, NULL})

static bool has(const char *text, const char *what)
{
	return strstr(text, what) != NULL;
}

Test(compare_guest, a_bare_guest_is_told_its_work)
{
	const struct plan p = PLAN(false, "rr");
	CLEANUP_FREE char *plain = guest_bare_append(&p, &p.workload[0], false, false);
	CLEANUP_FREE char *packed = guest_bare_append(&p, &p.workload[0], true, false);

	cr_expect(has(plain, "what=rr ") && has(plain, "ms=2500 ") && has(plain, "hold=300"), "%s", plain);
	cr_expect(!has(plain, "packed") && !has(plain, "probe"), "%s", plain);
	cr_expect(has(packed, " packed=1") && !has(packed, "probe"), "%s", packed);
}

Test(compare_guest, a_probe_wants_a_device_but_no_workload)
{
	const struct plan net = PLAN(false, "tcp"), disk = PLAN(true, "seq");
	CLEANUP_FREE char *card = guest_bare_append(&net, NULL, false, true);
	CLEANUP_FREE char *blk = guest_bare_append(&disk, NULL, false, true);

	cr_expect(has(card, "what=pps ") && has(card, " probe=1"), "%s", card);
	cr_expect(has(blk, "what=qd1 ") && has(blk, " probe=1"), "%s", blk);
}

Test(compare_guest, the_bare_guest_is_an_elf_file)
{
	cr_expect_gt(guest_bare_elf_end - guest_bare_elf, 4096);
	cr_expect_eq(memcmp(guest_bare_elf, "\177ELF", 4), 0);
}

Test(compare_guest, the_bare_guest_knows_what_it_is_said_to_run)
{
	for (unsigned disk = 0; disk < 2; disk++) {
		const struct workload *w;

		for (unsigned i = 0; (w = workload_nth(i, disk)); i++) {
			const bool knows = memmem(guest_bare_elf, (size_t)(guest_bare_elf_end - guest_bare_elf),
						  w->name, strlen(w->name) + 1);

			cr_expect_eq(knows, workload_runs(w, GUEST_BARE), "%s", w->name);
		}
	}
}

Test(compare_guest, percentiles_are_those_of_the_reports)
{
	static const unsigned points[] = HISTOGRAM_POINTS;

	cr_assert_eq(ARRAY_SIZE(points), LATENCY_POINTS);
	for (unsigned i = 0; i < LATENCY_POINTS; i++)
		cr_expect_float_eq(points[i] / 100.0, latency_percent[i], 1e-9);
}

Test(compare_guest, a_script_begins_with_the_plan)
{
	const struct plan p = PLAN(false, "tcp", "ping", "command");
	CLEANUP_FREE char *s = guest_linux_script(&p);

	cr_expect(has(s, "kind=net\n") && has(s, "\nseconds=3\n") && has(s, "\nms=2500\n"));
	cr_expect(has(s, "\nworkloads='tcp ping command'\n"));
	cr_expect(has(s, "\npoints='1 5 10 25 50 75 90 95 99 99.5 99.9 99.95 99.99'\n"));
	cr_expect(has(s, "\naddress=" GUEST_ADDRESS "\n") && has(s, "\nhost=" HOST_ADDRESS "\n"));
	cr_expect(has(s, guest_script));
}

Test(compare_guest, seconds_are_never_none)
{
	struct plan p = PLAN(true, "seq");
	CLEANUP_FREE char *s = NULL;

	p.seconds = 0.25;
	s = guest_linux_script(&p);
	cr_expect(has(s, "kind=disk\n") && has(s, "\nseconds=1\n") && has(s, "\nms=250\n"));
}

static unsigned count_servers(const struct plan *p)
{
	unsigned n = 0;

	while (guest_host_server(p, n))
		n++;
	return n;
}

Test(compare_guest, servers_are_those_that_workloads_want)
{
	struct plan p = PLAN(false, "rr", "tcp", "tcp-in", "pps", "ping");
	const struct plan disk = PLAN(true, "seq", "qd1"), rr = PLAN(false, "rr"), own = PLAN(false, "command");

	cr_expect_eq(count_servers(&p), 2);
	cr_expect_str_eq(guest_host_server(&p, 0)[0], "iperf3");
	cr_expect_str_eq(guest_host_server(&p, 1)[0], "sockperf");
	cr_expect_eq(count_servers(&rr), 1);
	cr_expect_str_eq(guest_host_server(&rr, 0)[0], "sockperf");
	cr_expect_eq(count_servers(&disk), 0);
	cr_expect_eq(count_servers(&own), 0);
	p.guest = GUEST_BARE;
	cr_expect_eq(count_servers(&p), 0);
}

/* --- workloads --- */

Test(compare_guest, every_workload_is_found_by_its_name)
{
	unsigned n = 0;

	for (unsigned disk = 0; disk < 2; disk++) {
		const struct workload *w;

		for (unsigned i = 0; (w = workload_nth(i, disk)); i++, n++) {
			cr_expect_eq(workload_find(w->name, disk), w);
			cr_expect_null(workload_find(w->name, !disk), "%s", w->name);
			cr_expect(*w->unit && *w->each && *w->what, "%s", w->name);
			cr_expect(workload_runs(w, GUEST_LINUX), "%s", w->name);
		}
	}
	cr_expect_eq(n, WORKLOAD_COMMAND);
	cr_expect_null(workload_find("command", false));
	cr_expect_not(workload_runs(workload_command(), GUEST_BARE));
}

/* --- histogram --- */

static struct histogram h;

Test(compare_guest, a_bucket_holds_what_it_stands_for)
{
	for (uint64_t v = 0; v < UINT64_MAX / 4; v += v / 5 + 1) {
		const double stands = (double)histogram_value(histogram_bucket(v));

		cr_expect_leq(fabs(stands - (double)v), (double)v * 0.004, "%lu: %g", (unsigned long)v, stands);
	}
	cr_expect_lt(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS);
}

Test(compare_guest, buckets_ascend_without_a_gap)
{
	for (uint64_t v = 1; v < 100000; v++) {
		const unsigned step = histogram_bucket(v) - histogram_bucket(v - 1);

		cr_assert_leq(step, 1, "%lu", (unsigned long)v);
	}
}

Test(compare_guest, percentiles_of_a_known_row)
{
	for (unsigned v = 1; v <= 10000; v++)
		histogram_add(&h, v);
	cr_expect_float_eq((double)histogram_percentile(&h, 5000), 5000, 5000 * 0.008);
	cr_expect_float_eq((double)histogram_percentile(&h, 100), 100, 1);
	cr_expect_float_eq((double)histogram_percentile(&h, 9999), 9999, 9999 * 0.008);
	histogram_clear(&h);
	cr_expect_eq(histogram_percentile(&h, 5000), 0);
	histogram_add(&h, 7);
	cr_expect_eq(histogram_percentile(&h, 1), 7);
	cr_expect_eq(histogram_percentile(&h, 9999), 7);
}
