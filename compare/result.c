#include "compare/result.h"

#include <math.h>
#include <stdlib.h>

const double latency_percent[LATENCY_POINTS] = {1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99};

/* With fewer, the quartiles are the rounds themselves, and chance alone puts both on one side of 1. */
#define MIN_PAIRS 3

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of n ascending values, by linear interpolation between the two nearest ranks, the first being at 0 and the
 * last at 1 (Hyndman and Fan's type 7: what R, NumPy and spreadsheets do unasked). */
static double quantile(const double *sorted, unsigned n, double q)
{
	double at = (double)(n - 1) * q;
	unsigned below = (unsigned)at;

	if (below + 1 >= n)
		return sorted[n - 1];
	return sorted[below] + (at - below) * (sorted[below + 1] - sorted[below]);
}

static void summarize(double *v, unsigned n, struct summary *out)
{
	*out = (struct summary){.n = n, .median = NAN, .low = NAN, .high = NAN, .min = NAN, .max = NAN};
	if (!n)
		return;
	qsort(v, n, sizeof(*v), ascending);
	out->median = quantile(v, n, 0.5);
	out->low = quantile(v, n, 0.25);
	out->high = quantile(v, n, 0.75);
	out->min = v[0];
	out->max = v[n - 1];
}

/* NULL: this path never had a round. */
static const struct sample *sample_of(const struct result *r, unsigned workload, unsigned path, unsigned round)
{
	const struct sample *s = r->cell[workload][path].sample;

	return s && s[round].ok ? &s[round] : NULL;
}

static unsigned rounds_of(const struct result *r)
{
	return r->rounds < PLAN_MAX_ROUNDS ? r->rounds : PLAN_MAX_ROUNDS;
}

void result_summary(const struct result *r, unsigned workload, unsigned path, enum metric m,
		    struct summary *out)
{
	double v[PLAN_MAX_ROUNDS];
	unsigned n = 0;

	for (unsigned i = 0; i < rounds_of(r); i++) {
		const struct sample *s = sample_of(r, workload, path, i);

		if (s && isfinite(s->value[m]))
			v[n++] = s->value[m];
	}
	summarize(v, n, out);
}

void result_ratio(const struct result *r, unsigned workload, unsigned path, enum metric m, struct summary *out)
{
	double v[PLAN_MAX_ROUNDS];
	unsigned n = 0;

	for (unsigned i = 0; i < rounds_of(r); i++) {
		const struct sample *first = sample_of(r, workload, 0, i);
		const struct sample *s = sample_of(r, workload, path, i);
		double ratio;

		if (!first || !s)
			continue;
		ratio = s->value[m] / first->value[m];
		if (isfinite(ratio))
			v[n++] = ratio;
	}
	summarize(v, n, out);
}

bool result_meaningless(const struct summary *ratio)
{
	return ratio->n < MIN_PAIRS || (ratio->low <= 1 && ratio->high >= 1);
}

bool result_latency(const struct result *r, unsigned workload, unsigned path, double out[LATENCY_POINTS])
{
	double v[PLAN_MAX_ROUNDS];
	bool known = false;

	for (unsigned point = 0; point < LATENCY_POINTS; point++) {
		struct summary at;
		unsigned n = 0;

		for (unsigned i = 0; i < rounds_of(r); i++) {
			const struct sample *s = sample_of(r, workload, path, i);

			if (s && isfinite(s->latency_us[point]))
				v[n++] = s->latency_us[point];
		}
		summarize(v, n, &at);
		out[point] = at.median;
		known |= n != 0;
	}
	return known;
}
