#include "compare/report_notes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare/report_metric.h"
#include "compare/report_text.h"
#include "devices/virtio/feature_names.h"

/* A sentence is written to a stream in memory, then said. */
struct sentence {
	FILE *out;
	char *text;
	size_t len;
};

static bool begin(struct sentence *s)
{
	s->text = NULL;
	s->out = open_memstream(&s->text, &s->len);
	return s->out;
}

static void end(struct sentence *s, char mark, report_say *say, void *context)
{
	bool whole = fclose(s->out) == 0;

	if (whole)
		say(context, mark, s->text);
	free(s->text);
}

/* --- what is not known --- */

static const char unknown_why[] = "not measured";

static const char *reason(const struct result *r, unsigned w, unsigned p, enum metric m)
{
	struct summary s;

	/* Where no round went well, that is the reason, and said of the path. */
	if (r->rounds && !report_rounds_ok(r, w, p))
		return NULL;
	result_summary(r, w, p, m, &s);
	if (s.n)
		return NULL;
	return r->cell[w][p].missing[m] ? r->cell[w][p].missing[m] : unknown_why;
}

/* A column that nobody knows anything about is not in the table, but for the first. */
static bool shown(const struct result *r, unsigned w, enum metric m)
{
	if (m == METRIC_RATE)
		return true;
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		struct summary s;

		result_summary(r, w, p, m, &s);
		if (s.n || r->cell[w][p].missing[m])
			return true;
	}
	return false;
}

/* Metrics that path p lacks for this reason. */
static uint32_t lacks(const struct result *r, unsigned w, unsigned p, uint32_t columns, const char *why)
{
	uint32_t bits = 0;

	for (unsigned m = 0; m < METRICS; m++) {
		const char *found = columns >> m & 1 ? reason(r, w, p, m) : NULL;

		if (found && strcmp(found, why) == 0)
			bits |= 1u << m;
	}
	return bits;
}

static void print_metrics(FILE *out, uint32_t bits)
{
	const char *comma = "";

	for (unsigned m = 0; m < METRICS; m++)
		if (bits >> m & 1) {
			fprintf(out, "%s%s", comma, report_metrics[m].name);
			comma = ", ";
		}
}

/* " (tap, user)", " (all but tap)" if that is shorter, nothing where it is all of them. */
static void print_paths(FILE *out, const struct result *r, const uint32_t *bits, uint32_t which)
{
	unsigned n = 0;
	const char *comma;
	bool but;

	for (unsigned p = 0; p < r->plan->npaths; p++)
		n += bits[p] == which;
	if (n == r->plan->npaths)
		return;
	but = n > 2 && r->plan->npaths - n < n;
	comma = but ? " (all but " : " (";
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		char name[PLAN_NAME_SIZE];

		if ((bits[p] == which) == but)
			continue;
		fprintf(out, "%s%s", comma, report_path(r, p, name));
		comma = ", ";
	}
	fputc(')', out);
}

static void say_reason(const struct result *r, unsigned w, uint32_t columns, const char *why, report_say *say,
		       void *context)
{
	uint32_t miss[PLAN_MAX_PATHS];
	struct sentence s;
	char clean[256];
	const char *semicolon = ": ";

	if (!begin(&s))
		return;
	fputs(report_clean(why, clean, sizeof(clean)), s.out);
	for (unsigned p = 0; p < r->plan->npaths; p++)
		miss[p] = lacks(r, w, p, columns, why);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		bool before = miss[p] == 0;

		for (unsigned q = 0; q < p; q++)
			before |= miss[q] == miss[p];
		if (before)
			continue;
		fputs(semicolon, s.out);
		print_metrics(s.out, miss[p]);
		print_paths(s.out, r, miss, miss[p]);
		semicolon = "; ";
	}
	end(&s, '-', say, context);
}

static void say_missing(const struct result *r, unsigned w, report_say *say, void *context)
{
	const char **seen = calloc((size_t)PLAN_MAX_PATHS * METRICS, sizeof(*seen));
	uint32_t columns = 0;
	unsigned nseen = 0;

	if (!seen)
		return;
	for (unsigned m = 0; m < METRICS; m++)
		columns |= (uint32_t)shown(r, w, m) << m;
	for (unsigned m = 0; m < METRICS; m++)
		for (unsigned p = 0; p < r->plan->npaths; p++) {
			const char *why = columns >> m & 1 ? reason(r, w, p, m) : NULL;
			bool before = !why;

			for (unsigned i = 0; i < nseen && !before; i++)
				before = strcmp(seen[i], why) == 0;
			if (before)
				continue;
			seen[nseen++] = why;
			say_reason(r, w, columns, why, say, context);
		}
	free(seen);
}

/* --- what failed --- */

static void say_failed(const struct result *r, unsigned w, report_say *say, void *context)
{
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		unsigned ok = report_rounds_ok(r, w, p);
		char name[PLAN_NAME_SIZE];
		struct sentence s;

		if (ok >= r->rounds || !begin(&s))
			continue;
		fprintf(s.out, "%s: %u of %u round%s failed", report_path(r, p, name), r->rounds - ok,
			r->rounds, r->rounds == 1 ? "" : "s");
		if (ok)
			fprintf(s.out, "; the figures are of the other%s", ok == 1 ? "" : "s");
		end(&s, '!', say, context);
	}
}

/* --- what means nothing --- */

/* " rate (1.02, quartiles 0.91 to 1.10)" of each metric that is compared; how many those are. */
static unsigned print_meaningless(FILE *out, const struct result *r, unsigned w, unsigned p)
{
	unsigned n = 0;

	for (enum metric m = METRIC_RATE; m <= METRIC_P99_US; m++) {
		char median[REPORT_TEXT], low[REPORT_TEXT], high[REPORT_TEXT];
		struct summary s;

		result_ratio(r, w, p, m, &s);
		if (!s.n || !result_meaningless(&s))
			continue;
		fprintf(out, "%s %s (ratio %s, quartiles %s to %s)", n++ ? "," : "", report_metrics[m].name,
			report_ratio(s.median, median), report_ratio(s.low, low), report_ratio(s.high, high));
	}
	return n;
}

static void say_meaningless(const struct result *r, unsigned w, unsigned p, report_say *say, void *context)
{
	char name[PLAN_NAME_SIZE], first[PLAN_NAME_SIZE], *quietly = NULL;
	struct summary rate;
	struct sentence s;
	size_t len;
	FILE *list = open_memstream(&quietly, &len);
	unsigned n;

	if (!list)
		return;
	n = print_meaningless(list, r, w, p);
	if (fclose(list) < 0)
		n = 0;
	result_ratio(r, w, p, METRIC_RATE, &rate);
	if (n && begin(&s)) {
		fprintf(s.out, "%s against %s: ", report_path(r, p, name), report_path(r, 0, first));
		if (rate.n && rate.n < 3)
			fprintf(s.out,
				"only %u round%s both; 3 at least are needed to know a difference from chance",
				rate.n, rate.n == 1 ? " has" : "s have");
		else
			fprintf(s.out, "the spread hides any difference in%s", quietly);
		end(&s, '~', say, context);
	}
	free(quietly);
}

void report_notes(const struct result *r, unsigned workload, report_say *say, void *context)
{
	struct sentence s;

	if (!r->rounds) {
		say(context, '!', "no round was finished");
		return;
	}
	say_missing(r, workload, say, context);
	say_failed(r, workload, say, context);
	if (r->plan->npaths < 2)
		return;
	if (r->rounds >= 3) {
		for (unsigned p = 1; p < r->plan->npaths; p++)
			say_meaningless(r, workload, p, say, context);
	} else if (begin(&s)) {
		fprintf(s.out,
			"with %u round%s no difference can be known from chance; 3 at least are needed "
			"(--repeat 3)",
			r->rounds, r->rounds == 1 ? "" : "s");
		end(&s, '~', say, context);
	}
}

/* --- features --- */

bool report_common_features(const struct result *r, uint64_t *common)
{
	uint64_t all = 0;
	bool known = false;

	*common = ~UINT64_C(0);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		if (!r->features[p])
			continue;
		known = true;
		all |= r->features[p];
		*common &= r->features[p];
	}
	if (!known)
		*common = 0;
	return all == *common;
}

static void say_features_of(const struct result *r, unsigned p, uint64_t common, report_say *say, void *context)
{
	char name[PLAN_NAME_SIZE], bits[1024];
	struct sentence s;

	if (!begin(&s))
		return;
	report_path(r, p, name);
	if (!r->features[p])
		fprintf(s.out, "%s: not known", name);
	else if (r->features[p] == common)
		fprintf(s.out, "%s: nothing besides", name);
	else
		fprintf(s.out, "%s: besides %s", name,
			feature_names(r->device_id, r->features[p] & ~common, bits, sizeof(bits)));
	end(&s, ' ', say, context);
}

void report_features(const struct result *r, report_say *say, void *context)
{
	char bits[1024];
	struct sentence s;
	uint64_t common;
	bool same = report_common_features(r, &common);
	bool unknown = false;

	for (unsigned p = 0; p < r->plan->npaths; p++)
		unknown |= !r->features[p];
	if (!begin(&s))
		return;
	feature_names(r->device_id, common, bits, sizeof(bits));
	if (same && !common)
		fprintf(s.out, "the feature bits that the paths have taken are not known");
	else
		fprintf(s.out, "%s: %s", same && !unknown ? "the same on every path" : "in common",
			common ? bits : "none");
	end(&s, ' ', say, context);
	if (same && (!unknown || !common))
		return;
	for (unsigned p = 0; p < r->plan->npaths; p++)
		say_features_of(r, p, common, say, context);
}
