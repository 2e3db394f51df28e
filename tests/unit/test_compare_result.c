/* Statistics of a comparison: which rounds count, quartiles, ratios, what means nothing. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare/result.h"

static struct plan plan;
static struct result result;
static struct sample samples[3][PLAN_MAX_ROUNDS];

static void setup(void)
{
	plan = (struct plan){.npaths = 3, .nworkloads = 1, .repeat = PLAN_MAX_ROUNDS};
	result = (struct result){.plan = &plan};
	for (unsigned p = 0; p < 3; p++) {
		result.cell[0][p].sample = samples[p];
		for (unsigned i = 0; i < PLAN_MAX_ROUNDS; i++) {
			samples[p][i].ok = true;
			for (unsigned m = 0; m < METRICS; m++)
				samples[p][i].value[m] = NAN;
			for (unsigned k = 0; k < LATENCY_POINTS; k++)
				samples[p][i].latency_us[k] = NAN;
		}
	}
}

static void rates(unsigned path, const double *v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		samples[path][i].value[METRIC_RATE] = v[i];
	result.rounds = n;
}
#define RATES(path, ...) rates(path, (double[]){__VA_ARGS__}, sizeof((double[]){__VA_ARGS__}) / sizeof(double))

static struct summary summary_of(unsigned path)
{
	struct summary s;

	result_summary(&result, 0, path, METRIC_RATE, &s);
	return s;
}

static struct summary ratio_of(unsigned path)
{
	struct summary s;

	result_ratio(&result, 0, path, METRIC_RATE, &s);
	return s;
}

static void is(const struct summary *s, unsigned n, double low, double median, double high)
{
	cr_expect_eq(s->n, n, "n is %u, not %u", s->n, n);
	cr_expect_float_eq(s->low, low, 1e-9, "low is %g, not %g", s->low, low);
	cr_expect_float_eq(s->median, median, 1e-9, "median is %g, not %g", s->median, median);
	cr_expect_float_eq(s->high, high, 1e-9, "high is %g, not %g", s->high, high);
}

static void is_nothing(const struct summary *s)
{
	cr_expect_eq(s->n, 0);
	cr_expect(isnan(s->median) && isnan(s->low) && isnan(s->high) && isnan(s->min) && isnan(s->max));
}

/* --- one path --- */

TestSuite(compare_summary, .init = setup);

Test(compare_summary, odd_number_in_any_order)
{
	RATES(0, 5, 1, 4, 2, 3);
	struct summary s = summary_of(0);

	is(&s, 5, 2, 3, 4);
	cr_expect_eq(s.min, 1);
	cr_expect_eq(s.max, 5);
}

Test(compare_summary, even_number_lies_between)
{
	RATES(0, 40, 10, 30, 20);
	struct summary s = summary_of(0);

	is(&s, 4, 17.5, 25, 32.5);
}

Test(compare_summary, two_rounds)
{
	RATES(0, 3, 1);
	struct summary s = summary_of(0);

	is(&s, 2, 1.5, 2, 2.5);
}

Test(compare_summary, one_round_is_its_own_quartiles)
{
	RATES(0, 7);
	struct summary s = summary_of(0);

	is(&s, 1, 7, 7, 7);
	cr_expect_eq(s.min, 7);
	cr_expect_eq(s.max, 7);
}

Test(compare_summary, no_round)
{
	struct summary s = summary_of(0);

	is_nothing(&s);
}

Test(compare_summary, rounds_that_were_not_done_do_not_count)
{
	RATES(0, 1, 2, 3, 1000);
	result.rounds = 3;
	struct summary s = summary_of(0);

	is(&s, 3, 1.5, 2, 2.5);
}

Test(compare_summary, failed_rounds_are_left_out)
{
	RATES(0, 1, 1000, 3);
	samples[0][1].ok = false;
	struct summary s = summary_of(0);

	is(&s, 2, 1.5, 2, 2.5);
}

Test(compare_summary, unknown_and_infinite_are_left_out)
{
	RATES(0, 1, NAN, INFINITY, 3, -INFINITY);
	struct summary s = summary_of(0);

	is(&s, 2, 1.5, 2, 2.5);
}

Test(compare_summary, all_unknown)
{
	RATES(0, NAN, NAN, NAN);
	struct summary s = summary_of(0);

	is_nothing(&s);
}

Test(compare_summary, a_path_without_samples)
{
	RATES(0, 1, 2, 3);
	result.cell[0][1].sample = NULL;
	struct summary s = summary_of(1);

	is_nothing(&s);
	s = ratio_of(1);
	is_nothing(&s);
}

Test(compare_summary, as_many_rounds_as_there_may_be)
{
	for (unsigned i = 0; i < PLAN_MAX_ROUNDS; i++)
		samples[0][i].value[METRIC_RATE] = (i * 7u) % PLAN_MAX_ROUNDS;
	result.rounds = PLAN_MAX_ROUNDS;
	struct summary s = summary_of(0);

	is(&s, PLAN_MAX_ROUNDS, (PLAN_MAX_ROUNDS - 1) * 0.25, (PLAN_MAX_ROUNDS - 1) * 0.5,
	   (PLAN_MAX_ROUNDS - 1) * 0.75);
}

/* --- against the first --- */

TestSuite(compare_ratio, .init = setup);

/* The machine becomes slower from round to round: the ratio does not care. */
Test(compare_ratio, is_of_the_same_round)
{
	RATES(0, 100, 50, 10);
	RATES(1, 200, 100, 20);
	struct summary s = ratio_of(1);

	is(&s, 3, 2, 2, 2);
}

Test(compare_ratio, first_to_itself_is_one)
{
	RATES(0, 100, 50, 10);
	struct summary s = ratio_of(0);

	is(&s, 3, 1, 1, 1);
}

Test(compare_ratio, takes_rounds_that_both_have)
{
	RATES(0, 1, 1, 1, NAN, 1);
	RATES(1, 2, 900, 4, 900, NAN);
	samples[0][1].ok = false;
	struct summary s = ratio_of(1);

	is(&s, 2, 2.5, 3, 3.5);
}

Test(compare_ratio, to_nothing_is_not_known)
{
	RATES(0, 0, 0, 2);
	RATES(1, 5, 0, 4);
	struct summary s = ratio_of(1);

	is(&s, 1, 2, 2, 2);
}

Test(compare_ratio, of_nothing_is_zero)
{
	RATES(0, 5, 5, 5);
	RATES(1, 0, 0, 0);
	struct summary s = ratio_of(1);

	is(&s, 3, 0, 0, 0);
	cr_expect_not(result_meaningless(&s));
}

/* --- meaningless --- */

TestSuite(compare_meaningless, .init = setup);

Test(compare_meaningless, quartiles_on_both_sides_of_one)
{
	RATES(0, 1, 1, 1, 1, 1);
	RATES(1, 0.9, 0.95, 1.2, 1.3, 1.4);
	struct summary s = ratio_of(1);

	cr_expect(result_meaningless(&s));
}

Test(compare_meaningless, quartiles_on_one_side)
{
	RATES(0, 1, 1, 1, 1, 1);
	RATES(1, 0.9, 1.1, 1.2, 1.3, 1.4);
	RATES(2, 1.1, 0.9, 0.8, 0.7, 0.6);
	struct summary more = ratio_of(1), less = ratio_of(2);

	cr_expect_not(result_meaningless(&more));
	cr_expect_not(result_meaningless(&less));
}

Test(compare_meaningless, too_few_rounds)
{
	RATES(0, 1, 1);
	RATES(1, 5, 5);
	struct summary two = ratio_of(1);

	cr_expect(result_meaningless(&two));
	RATES(0, 1, 1, 1);
	RATES(1, 5, 5, 5);
	struct summary three = ratio_of(1);

	cr_expect_not(result_meaningless(&three));
}

Test(compare_meaningless, no_difference_at_all)
{
	RATES(0, 2, 2, 2);
	RATES(1, 2, 2, 2);
	struct summary s = ratio_of(1);

	cr_expect(result_meaningless(&s));
}

Test(compare_meaningless, nothing_known)
{
	RATES(0, 1, 1, 1);
	struct summary s = ratio_of(1);

	cr_expect(result_meaningless(&s));
}

/* --- latency --- */

TestSuite(compare_latency, .init = setup);

Test(compare_latency, median_of_each_percentile)
{
	double out[LATENCY_POINTS];

	result.rounds = 4;
	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < LATENCY_POINTS; k++)
			samples[0][i].latency_us[k] = (i == 3 ? 1e6 : i + 1) * (k + 1);
	samples[0][3].ok = false;
	cr_assert(result_latency(&result, 0, 0, out));
	for (unsigned k = 0; k < LATENCY_POINTS; k++)
		cr_expect_float_eq(out[k], 2.0 * (k + 1), 1e-9);
}

Test(compare_latency, some_percentiles)
{
	double out[LATENCY_POINTS];

	result.rounds = 1;
	samples[0][0].latency_us[4] = 30;
	cr_assert(result_latency(&result, 0, 0, out));
	for (unsigned k = 0; k < LATENCY_POINTS; k++)
		if (k == 4)
			cr_expect_eq(out[k], 30);
		else
			cr_expect(isnan(out[k]));
}

Test(compare_latency, none)
{
	double out[LATENCY_POINTS];

	result.rounds = 3;
	cr_expect_not(result_latency(&result, 0, 0, out));
	result.rounds = 0;
	cr_expect_not(result_latency(&result, 0, 0, out));
}

Test(compare_latency, percentiles_ascend)
{
	for (unsigned k = 1; k < LATENCY_POINTS; k++)
		cr_expect_lt(latency_percent[k - 1], latency_percent[k]);
	cr_expect_gt(latency_percent[0], 0);
	cr_expect_lt(latency_percent[LATENCY_POINTS - 1], 100);
	cr_expect_eq(latency_percent[4], 50);
	cr_expect_eq(latency_percent[8], 99);
}
