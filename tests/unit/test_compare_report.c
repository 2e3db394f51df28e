/* What becomes of a result, as text: a table for a terminal, its units and its sentences. */
#include <criterion/criterion.h>

#include "compare/report_columns.h"
#include "tests/unit/compare_report_rig.h"

static const char *table(unsigned columns)
{
	size_t size;
	FILE *f;

	free(text);
	f = open_memstream(&text, &size);
	report_table(&result, columns, f);
	fclose(f);
	return text;
}

static unsigned widest(const char *s)
{
	unsigned most = 0;

	for (unsigned at = 0; *s; s++) {
		at = *s == '\n' ? 0 : at + (((unsigned char)*s & 0xc0) != 0x80);
		most = at > most ? at : most;
	}
	return most;
}

/* --- table --- */

TestSuite(report_table, .init = setup, .fini = teardown);

Test(report_table, one_table_where_it_fits)
{
	cr_expect_eq(count(table(160), "\npath "), 1);
	cr_expect_leq(widest(text), 160);
	cr_expect(strstr(text, "vhost-net"));
	cr_expect_eq(count(table(0), "\npath "), 1);
}

Test(report_table, two_tables_where_it_does_not)
{
	cr_expect_eq(count(table(80), "\npath "), 2);
	cr_expect_leq(widest(text), 80);
	const char *why = strstr(strstr(text, "\npath ") + 1, "\npath ");

	cr_expect(strstr(text, "spread") < why);
	cr_expect(strstr(why, "vCPU"));
}

Test(report_table, any_width_from_40_holds)
{
	for (unsigned columns = 40; columns < 200; columns++) {
		cr_expect_leq(widest(table(columns)), columns, "%u columns, not %u", widest(text), columns);
		cr_expect_geq(count(text, "\nvhost-user mmio packed exit"), 1);
	}
}

Test(report_table, units_for_people)
{
	samples[0][0][0].value[METRIC_RATE] = 4;
	for (unsigned i = 0; i < ROUNDS; i++)
		samples[0][2][i].value[METRIC_RATE] = 18.84e9;
	cr_expect(strstr(table(0), "Gbit/s"));
	cr_expect(strstr(text, " 18.8 "));
	plan.workload[0].unit = "packets/s";
	for (unsigned i = 0; i < ROUNDS; i++)
		samples[0][2][i].value[METRIC_RATE] = 1.5e6;
	cr_expect(strstr(table(0), " k/s"));
	cr_expect(strstr(text, " 1500 "));
}

Test(report_table, the_ratio_is_paired_and_has_its_quartiles)
{
	struct report_columns *c = malloc(sizeof(*c));

	for (unsigned i = 0; i < ROUNDS; i++) {
		samples[0][0][i].value[METRIC_RATE] = 100 * (i + 1);
		samples[0][1][i].value[METRIC_RATE] = 100 * (i + 1) * (2 + 0.25 * i);
	}
	report_columns(&result, 0, c);
	cr_expect_str_eq(c->column[2].name, "ratio");
	cr_expect_str_eq(c->column[2].text[0], "1");
	cr_expect_str_eq(c->column[2].text[1], "2.50 (2.25-2.75)");
	cr_expect_str_eq(c->column[1].text[0], "67");
	free(c);
}

Test(report_table, a_difference_that_means_nothing_is_marked_and_said)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		samples[0][1][i].value[METRIC_RATE] = i % 2 ? 1090 : 910;
	table(0);
	cr_expect_eq(count(text, ") ~"), 1);
	cr_expect_eq(count(text, "\n~ vhost-net against tap: the spread hides any difference in rate"), 1);
	cr_expect_not(strstr(text, "~ vhost-user"));
}

Test(report_table, latency_is_marked_too)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		samples[0][1][i].value[METRIC_P99_US] = samples[0][0][i].value[METRIC_P99_US];
	table(0);
	cr_expect(strstr(text, " 802~"));
	cr_expect(
		strstr(text, "\n~ vhost-net against tap: the spread hides any difference in p99 (ratio 1.00"));
}

Test(report_table, too_few_rounds_are_said_once)
{
	result.rounds = 2;
	cr_expect_eq(count(table(0), "--repeat 3"), 1);
	cr_expect_eq(count(text, ") ~"), 2);
	result.rounds = 1;
	cr_expect_eq(count(table(0), "with 1 round no"), 1);
}

Test(report_table, a_path_with_too_few_good_rounds)
{
	fails(1, 3);
	table(0);
	cr_expect(strstr(text, "\n! vhost-net: 3 of 5 rounds failed"));
	cr_expect(strstr(text, "\n~ vhost-net against tap: only 2 rounds have both"));
}

Test(report_table, a_path_that_failed)
{
	fails(1, ROUNDS);
	table(0);
	cr_expect_eq(count(text, " failed "), 1);
	cr_expect(strstr(text, "\n! vhost-net: 5 of 5 rounds failed\n"));
	cr_expect_not(strstr(text, "not measured"));
}

Test(report_table, the_first_path_failed)
{
	fails(0, ROUNDS);
	table(0);
	cr_expect_not(strstr(text, ") ~"));
	cr_expect_not(strstr(text, "nan"));
}

Test(report_table, a_reason_is_said_once)
{
	unknown(0, 0, METRIC_EXITS, "KVM has no statistics");
	unknown(0, 0, METRIC_USER_EXITS, "KVM has no statistics");
	unknown(0, 1, METRIC_EXITS, "KVM has no statistics");
	unknown(0, 1, METRIC_USER_EXITS, "KVM has no statistics");
	unknown(0, 2, METRIC_SYSCALLS, "no tracefs");
	table(0);
	cr_expect_eq(count(text, "\n- KVM has no statistics: exits, user exits (tap, vhost-net)\n"), 1);
	cr_expect_eq(count(text, "KVM has no statistics"), 1);
	cr_expect_eq(count(text, "\n- no tracefs: system calls of the VMM (vhost-user mmio packed exit)\n"), 1);
}

Test(report_table, everybodys_reason_names_nobody)
{
	for (unsigned p = 0; p < 3; p++)
		unknown(0, p, METRIC_SYSCALLS, "no tracefs");
	cr_expect(strstr(table(0), "\n- no tracefs: system calls of the VMM\n"));
}

Test(report_table, nothing_known)
{
	all_unknown();
	table(80);
	cr_expect_not(strstr(text, "nan"));
	cr_expect_not(strstr(text, "p50"));
	cr_expect(strstr(text, "not measured: rate\n"));
}

Test(report_table, no_rounds)
{
	result.rounds = 0;
	cr_expect(strstr(table(80), "no round was finished"));
	cr_expect_not(strstr(text, "failed"));
}

Test(report_table, one_path_is_compared_with_nothing)
{
	plan.npaths = 1;
	cr_expect_not(strchr(table(80), '~'));
}

Test(report_table, as_many_paths_as_there_may_be)
{
	paths(PLAN_MAX_PATHS);
	cr_expect_leq(widest(table(80)), 80);
	for (unsigned p = 0; p < PLAN_MAX_PATHS; p++)
		cr_expect(strstr(text, plan.path[p].name));
}

Test(report_table, no_control_characters_reach_the_terminal)
{
	snprintf(plan.path[1].name, PLAN_NAME_SIZE, "%s", EVIL);
	for (const char *s = table(80); *s; s++)
		cr_assert(*s == '\n' || (unsigned char)*s >= ' ');
	cr_expect_not(strchr(text, '\xff'));
}

/* --- features --- */

Test(report_table, features_that_are_the_same_are_named_once)
{
	cr_expect_eq(count(table(0), "the same on every path: CSUM, GUEST_CSUM, VERSION_1\n"), 1);
	cr_expect_not(strstr(text, "besides"));
}

Test(report_table, features_that_differ_are_named)
{
	plan.best = true;
	result.features[1] |= UINT64_C(1) << 34;
	table(0);
	cr_expect(strstr(text, "in common: CSUM, GUEST_CSUM, VERSION_1\n"));
	cr_expect(strstr(text, "  tap: nothing besides\n"));
	cr_expect(strstr(text, "  vhost-net: besides RING_PACKED\n"));
	cr_expect(strstr(text, "  vhost-user mmio packed exit: nothing besides\n"));
}

Test(report_table, features_that_are_not_known)
{
	result.features[1] = 0;
	table(0);
	cr_expect(strstr(text, "in common: CSUM, GUEST_CSUM, VERSION_1\n"));
	cr_expect(strstr(text, "  vhost-net: not known\n"));
	result.features[0] = result.features[2] = 0;
	cr_expect(strstr(table(0), "have taken are not known\n"));
}

/* --- parts --- */

TestSuite(report_text, .init = setup, .fini = teardown);

Test(report_text, figures)
{
	static const struct {
		double v;
		const char *number, *ratio, *cpu;
	} of[] = {{0, "0", "0", "0"},
		  {0.0004, "<.001", "<.001", "<.01"},
		  {0.0314, "0.031", "0.031", "0.03"},
		  {0.95, "0.950", "0.95", "0.95"},
		  {1.234, "1.23", "1.23", "1.23"},
		  {12.34, "12.3", "12.3", "12.34"},
		  {1234.5, "1234", "1234", "1234"},
		  {NAN, "-", "-", "-"},
		  {INFINITY, "-", "-", "-"}};
	char out[REPORT_TEXT];

	for (size_t i = 0; i < sizeof(of) / sizeof(*of); i++) {
		cr_expect_str_eq(report_number(of[i].v, out), of[i].number);
		cr_expect_str_eq(report_ratio(of[i].v, out), of[i].ratio);
		cr_expect_str_eq(report_cpu(of[i].v, out), of[i].cpu);
	}
}

Test(report_text, only_whole_characters)
{
	char out[8];

	cr_expect_str_eq(report_clean("a\xc2\xb5\xc2", out, sizeof(out)), "a\xc2\xb5?");
	cr_expect_str_eq(report_clean("\xc0\x80\xed\xa0\x80", out, sizeof(out)), "?????");
	cr_expect_str_eq(report_clean("\xc1\xa1", out, sizeof(out)), "??");
	cr_expect_str_eq(report_clean("\xc2\x9b\x7f\t", out, sizeof(out)), "????");
	cr_expect_str_eq(report_clean("123456\xc2\xb5", out, sizeof(out)), "123456");
	cr_expect_str_eq(report_clean(NULL, out, sizeof(out)), "");
	cr_expect_eq(report_width("a\xc2\xb5"), 2);
}
