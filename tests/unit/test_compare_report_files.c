/* What becomes of a result, as files: JSON, CSV, plots, page.  Nothing that a path is called may break one. */
#include <criterion/criterion.h>
#include <errno.h>

#include "compare/report_plots.h"
#include "tests/unit/compare_report_rig.h"

static struct err e;

/* Each element ends, in turn, all quotes do, and no control character is in it.  Elements of HTML that have no
 * end are let be. */
static void well_formed(const char *s)
{
	static const char *const lonely[] = {"?xml", "!DOCTYPE", "meta", "br"};
	char stack[64][32];
	unsigned depth = 0;

	cr_assert(s);
	for (; *s; s++) {
		char name[32] = "";
		bool alone = false;

		cr_assert((unsigned char)*s >= ' ' || strchr("\n\t", *s), "control character %d", *s);
		if (*s == '&')
			cr_assert(strcspn(s, ";") < 7, "no entity: %.20s", s);
		if (*s != '<')
			continue;
		s++;
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(s + (*s == '/'), " \n\t/>"), s + (*s == '/'));
		for (size_t i = 0; i < sizeof(lonely) / sizeof(*lonely); i++)
			alone |= !strcmp(name, lonely[i]);
		cr_assert(*name, "no element: %.20s", s);
		if (*s == '/') {
			cr_assert_gt(depth, 0);
			cr_assert_str_eq(stack[--depth], name);
			s += strcspn(s, ">");
			continue;
		}
		for (; *s != '>'; s++) {
			cr_assert(*s && *s != '<', "<%s> does not end", name);
			if (*s == '"' || *s == '\'')
				s = strchr(s + 1, *s);
			cr_assert(s, "a quote in <%s> does not end", name);
		}
		if (s[-1] == '/' || alone)
			continue;
		cr_assert_lt(depth, 64);
		strcpy(stack[depth++], name);
	}
	cr_assert_eq(depth, 0, "%s is not ended", stack[depth ? depth - 1 : 0]);
}

/* --- JSON --- */

TestSuite(report_json, .init = setup, .fini = teardown);

Test(report_json, has_rounds_summaries_and_features)
{
	unknown(0, 1, METRIC_KICKS, "nobody counts");
	cr_assert_eq(report_json(&result, path_of("r.json"), &e), 0, "%s", e.text);
	contents("r.json");
	cr_expect(strstr(text, "\"format\": 1"));
	cr_expect_eq(count(text, "\"round\": "), 3 * ROUNDS);
	cr_expect_eq(count(text, "\"kicks\": null"), ROUNDS);
	cr_expect(strstr(text, "\"kicks\": \"nobody counts\""));
	cr_expect(strstr(text, "\"RING_PACKED\"") == NULL && strstr(text, "\"VERSION_1\""));
	cr_expect(strstr(text, "\"host\": \"a machine\""));
	cr_expect_not(strstr(text, "nan"));
	cr_expect_eq(files(), 1);
}

Test(report_json, a_failed_round_has_no_figures)
{
	all_unknown();
	fails(0, 1);
	cr_assert_eq(report_json(&result, path_of("r.json"), &e), 0, "%s", e.text);
	cr_expect_eq(count(contents("r.json"), "\"ok\": false"), 1);
	cr_expect_eq(count(text, "\"ok\": true"), 3 * ROUNDS - 1);
	result.rounds = 0;
	cr_assert_eq(report_json(&result, path_of("r.json"), &e), 0, "%s", e.text);
}

Test(report_json, names_that_are_no_text)
{
	snprintf(plan.path[1].name, PLAN_NAME_SIZE, "%s", EVIL);
	cr_assert_eq(report_json(&result, path_of("r.json"), &e), 0, "%s", e.text);
	cr_expect_eq(count(contents("r.json"), "<b>&\\\"'`touch OH`??[31m?,;"), 2);
}

Test(report_json, what_was_there_stays_when_it_cannot_be_written)
{
	cr_assert_eq(report_json(&result, "/proc/nowhere/r.json", &e), -ENOENT);
	cr_expect(strstr(e.text, "/proc/nowhere/r.json"));
	/* A directory in its place: found out at the very end. */
	cr_assert_neq(report_json(&result, dir, &e), 0);
	cr_expect_eq(files(), 0);
}

/* --- CSV --- */

TestSuite(report_csv, .init = setup, .fini = teardown);

Test(report_csv, a_line_a_workload_path_and_round)
{
	plan.nworkloads = 2;
	paths(3);
	cr_assert_eq(report_csv(&result, path_of("r.csv"), &e), 0, "%s", e.text);
	contents("r.csv");
	cr_expect_eq(count(text, "\r\n"), 1 + 2 * 3 * ROUNDS);
	cr_expect_eq(strncmp(text, "workload,path,round,ok,unit,rate,p50_us,", 40), 0);
	cr_expect(strstr(text, "\r\n\"pps\",\"vhost-net\",3,1,\"packets/s\",2002,1002,1602,"));
}

/* Every line has as many fields, whatever a path is called. */
Test(report_csv, hostile_names)
{
	unsigned fields = 0, n = 0, first = 0;
	bool in = false;

	snprintf(plan.path[1].name, PLAN_NAME_SIZE, "%s", EVIL);
	unknown(0, 1, METRIC_RATE, NULL);
	fails(2, 2);
	cr_assert_eq(report_csv(&result, path_of("r.csv"), &e), 0, "%s", e.text);
	for (const char *s = contents("r.csv"); *s; s++) {
		in ^= *s == '"';
		fields += !in && *s == ',';
		if (*s != '\n')
			continue;
		cr_assert_not(in);
		first = n++ ? first : fields;
		cr_expect_eq(fields, first, "line %u has %u", n, fields);
		fields = 0;
	}
	cr_expect_eq(n, 1 + 3 * ROUNDS);
	cr_expect_eq(count(text, "\"<b>&\"\"'`touch"), ROUNDS);
	cr_expect_eq(count(text, ",0,\"bit/s\",,,,"), 2);
	cr_expect_not(strstr(text, "nan"));
}

Test(report_csv, no_rounds_leave_the_header)
{
	result.rounds = 0;
	cr_assert_eq(report_csv(&result, path_of("r.csv"), &e), 0, "%s", e.text);
	cr_expect_eq(count(contents("r.csv"), "\r\n"), 1);
}

/* --- plots, by gnuplot --- */

TestSuite(report_plots, .init = setup, .fini = teardown, .timeout = 100);

Test(report_plots, one_of_each)
{
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
	cr_expect_eq(files(), 3);
	well_formed(contents("rate-rr.svg"));
	cr_expect(strstr(text, ">vhost-user mmio packed exit<"));
	cr_expect(strstr(text, "3.00)<"));
	cr_expect_eq(count(text, "<polygon"), 3);
	well_formed(contents("cpu-rr.svg"));
	cr_expect(strstr(text, ">back end<"));
	well_formed(contents("latency-rr.svg"));
	cr_expect(strstr(text, ">99.9<"));
	cr_expect(strstr(text, "\xc2\xb5s<"));
}

Test(report_plots, hostile_names_are_text)
{
	snprintf(plan.path[0].name, PLAN_NAME_SIZE, "%s", EVIL);
	snprintf(plan.path[1].name, PLAN_NAME_SIZE, "a' 1; !touch OH; '\\");
	cr_assert_eq(chdir(dir), 0);
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
	cr_expect_eq(files(), 3);
	for (unsigned i = 0; i < REPORT_PLOTS; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%s-rr.svg", report_plot[i].name);
		well_formed(contents(name));
		cr_expect(strstr(text, "`touch OH`"));
		cr_expect(strstr(text, "a' 1; !touch OH; '\\"));
	}
}

Test(report_plots, as_many_paths_as_there_may_be)
{
	paths(PLAN_MAX_PATHS);
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
	well_formed(contents("latency-rr.svg"));
	for (unsigned p = 0; p < PLAN_MAX_PATHS; p++)
		cr_expect(strstr(text, plan.path[p].name));
}

Test(report_plots, what_failed_and_what_is_not_known)
{
	fails(0, ROUNDS);
	unknown(0, 1, METRIC_CPU_VHOST, NULL);
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
	well_formed(contents("rate-rr.svg"));
	cr_expect(strstr(text, ">failed<"));
	well_formed(contents("cpu-rr.svg"));
	cr_expect(strstr(text, " +?<"));
}

Test(report_plots, latencies_that_are_all_the_same)
{
	for (unsigned p = 0; p < plan.npaths; p++)
		for (unsigned i = 0; i < ROUNDS; i++)
			for (unsigned k = 0; k < LATENCY_POINTS; k++)
				samples[0][p][i].latency_us[k] = 100;
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
	well_formed(contents("latency-rr.svg"));
	cr_expect(strstr(text, ">100 \xc2\xb5s<"));
	cr_expect(strstr(text, ">200 \xc2\xb5s<"));
}

Test(report_plots, old_ones_go_where_nothing_is_known)
{
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
	all_unknown();
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
	cr_expect_eq(files(), 0);
	result.rounds = 0;
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
}

Test(report_plots, without_gnuplot)
{
	report_gnuplot = "no-such-gnuplot";
	cr_assert_eq(report_plots(&result, dir, &e), -ENOENT);
	cr_expect(strstr(e.text, "apt-get install gnuplot-nox"));
	cr_expect_eq(files(), 0);
}

Test(report_plots, gnuplot_fails)
{
	report_gnuplot = "/bin/false";
	cr_assert_eq(report_plots(&result, dir, &e), -EIO);
	cr_expect_eq(files(), 0);
}

/* --- page --- */

TestSuite(report_html, .init = setup, .fini = teardown, .timeout = 100);

Test(report_html, holds_tables_and_plots)
{
	plan.nworkloads = 2;
	paths(3);
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
	cr_assert_eq(report_html(&result, dir, &e), 0, "%s", e.text);
	well_formed(contents("report.html"));
	cr_expect_eq(strncmp(text, "<!DOCTYPE html>", 15), 0);
	cr_expect_eq(count(text, "<table>"), 2);
	cr_expect_eq(count(text, "<svg"), 6);
	cr_expect_not(strstr(text, "<?xml"));
	cr_expect_eq(count(text, "gnuplot-nox"), 0);
	/* Nothing is fetched, and no id is there twice. */
	cr_expect_not(strstr(text, "src="));
	cr_expect_not(strstr(text, "<script"));
	cr_expect_eq(count(text, "id='plot-0-1-gpPt3'"), 1);
	cr_expect_eq(count(text, "id='gp"), 0);
	cr_expect_eq(count(text, "'#gp"), 0);
}

Test(report_html, hostile_names_are_escaped)
{
	for (unsigned p = 0; p < 3; p++)
		snprintf(plan.path[p].name, PLAN_NAME_SIZE, "</svg><script>alert(%u)</script>", p);
	snprintf(result.command_line, sizeof(result.command_line), "%s", EVIL);
	for (unsigned i = 0; i < ROUNDS; i++)
		samples[0][1][i].value[METRIC_RATE] = 1;
	unknown(0, 1, METRIC_EXITS, "<script>");
	fails(2, 1);
	cr_assert_eq(report_plots(&result, dir, &e), 0, "%s", e.text);
	cr_assert_eq(report_html(&result, dir, &e), 0, "%s", e.text);
	well_formed(contents("report.html"));
	cr_expect_not(strstr(text, "<script"));
	cr_expect_not(strstr(text, "<b>&\""));
	cr_expect(strstr(text, "&lt;script&gt;alert(1)"));
}

Test(report_html, without_plots_says_so)
{
	cr_assert_eq(report_html(&result, dir, &e), 0, "%s", e.text);
	well_formed(contents("report.html"));
	cr_expect(strstr(text, "gnuplot-nox"));
}

Test(report_html, nothing_known_and_no_rounds)
{
	all_unknown();
	cr_assert_eq(report_html(&result, dir, &e), 0, "%s", e.text);
	well_formed(contents("report.html"));
	cr_expect_not(strstr(text, "nan"));
	result.rounds = 0;
	plan.npaths = 0;
	cr_assert_eq(report_html(&result, dir, &e), 0, "%s", e.text);
	well_formed(contents("report.html"));
}
