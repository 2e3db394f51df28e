#include "compare/report_columns.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compare/report_metric.h"

const char report_spread_what[] =
	"How far the rounds lie apart: the distance between the quartiles, in percent of the median.";
const char report_ratio_what[] =
	"The rate by that of the first path in the same round: the median of the rounds' ratios, and their "
	"quartiles. With ~ the rounds lie too far apart to tell the difference from none.";

static const char *const spread_head[3] = {"", "spread", ""};
static const char *const ratio_head[3] = {"", "ratio to first", "(quartiles)"};

static struct report_column *add(struct report_columns *c, const char *name, const char *what,
				 const char *const head[3], bool why)
{
	struct report_column *column = &c->column[c->n++];

	column->group[0] = column->unit[0] = '\0';
	memcpy(column->head, head, sizeof(column->head));
	column->name = name;
	column->what = what;
	column->why = why;
	return column;
}

static bool any_known(const struct result *r, unsigned w, enum metric m)
{
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		struct summary s;

		result_summary(r, w, p, m, &s);
		if (s.n || r->cell[w][p].missing[m])
			return true;
	}
	return false;
}

/* Set behind a latency: its difference to the first path's is none that can be seen. */
static bool marked(const struct result *r, unsigned w, unsigned p, enum metric m)
{
	struct summary ratio;

	if (p == 0 || (m != METRIC_P50_US && m != METRIC_P99_US))
		return false;
	result_ratio(r, w, p, m, &ratio);
	return ratio.n && result_meaningless(&ratio);
}

static void rate_texts(const struct result *r, unsigned w, struct report_column *c)
{
	struct report_scale scale;

	report_scale(r, w, &scale);
	snprintf(c->unit, sizeof(c->unit), "%s", scale.brief);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		struct summary s;

		result_summary(r, w, p, METRIC_RATE, &s);
		if (r->rounds && !report_rounds_ok(r, w, p))
			snprintf(c->text[p], REPORT_TEXT, "failed");
		else
			report_number(s.median / scale.divisor, c->text[p]);
	}
}

static void spread_texts(const struct result *r, unsigned w, struct report_column *c)
{
	snprintf(c->unit, sizeof(c->unit), "%%");
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		struct summary s;
		double percent;

		result_summary(r, w, p, METRIC_RATE, &s);
		percent = s.n > 1 && s.median > 0 ? (s.high - s.low) / s.median * 100 : NAN;
		if (isfinite(percent))
			snprintf(c->text[p], REPORT_TEXT, "%.*f", percent < 10 ? 1 : 0, percent);
		else
			snprintf(c->text[p], REPORT_TEXT, "-");
	}
}

static void ratio_texts(const struct result *r, unsigned w, struct report_column *c)
{
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		struct summary s;
		char median[REPORT_TEXT], low[REPORT_TEXT], high[REPORT_TEXT], all[3 * REPORT_TEXT + 8];

		result_ratio(r, w, p, METRIC_RATE, &s);
		report_ratio(s.median, median);
		if (!s.n)
			snprintf(all, sizeof(all), "-");
		else if (p == 0)
			snprintf(all, sizeof(all), "1");
		else
			snprintf(all, sizeof(all), "%s (%s-%s)%s", median, report_ratio(s.low, low),
				 report_ratio(s.high, high), result_meaningless(&s) ? " ~" : "");
		/* Wider than any that a measurement gives: without the quartiles then. */
		snprintf(c->text[p], REPORT_TEXT, "%.*s", REPORT_TEXT - 1,
			 strlen(all) < REPORT_TEXT ? all : median);
	}
}

static void metric_texts(const struct result *r, unsigned w, enum metric m, struct report_column *c)
{
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		struct summary s;

		result_summary(r, w, p, m, &s);
		if (m >= METRIC_CPU_VCPU && m <= METRIC_CPU_BACKEND)
			report_cpu(s.median, c->text[p]);
		else
			report_number(s.median, c->text[p]);
		if (marked(r, w, p, m))
			strncat(c->text[p], "~", REPORT_TEXT - strlen(c->text[p]) - 1);
	}
}

void report_columns(const struct result *r, unsigned w, struct report_columns *out)
{
	const struct workload *workload = &r->plan->workload[w];

	out->n = 0;
	for (unsigned m = 0; m < METRICS; m++) {
		const struct report_metric *metric = &report_metrics[m];
		struct report_column *c;

		if (m != METRIC_RATE && !any_known(r, w, m))
			continue;
		c = add(out, metric->brief, metric->what, metric->head, metric->why);
		if (m == METRIC_RATE) {
			rate_texts(r, w, c);
			spread_texts(r, w, add(out, "spread", report_spread_what, spread_head, false));
			ratio_texts(r, w, add(out, "ratio", report_ratio_what, ratio_head, false));
			continue;
		}
		if (strcmp(metric->group, "a %s") == 0)
			snprintf(c->group, sizeof(c->group), "%s %.24s",
				 strchr("aeiouAEIOU", workload->each[0]) ? "an" : "a", workload->each);
		else
			snprintf(c->group, sizeof(c->group), "%s", metric->group);
		metric_texts(r, w, m, c);
	}
}
