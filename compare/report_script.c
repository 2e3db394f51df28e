#include "compare/report_script.h"

#include <math.h>

#include "compare/report_canvas.h"
#include "compare/report_text.h"
#include "lib/cleanup.h"

#define BAR_HEIGHT 30

/* Paths from top to bottom, by name. */
static void name_rows(const struct result *r, FILE *out)
{
	fprintf(out, "set yrange [%.1f:-0.6]\nset ytics scale 0 (", r->plan->npaths - 0.4);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		char name[PLAN_NAME_SIZE];

		if (p)
			fputs(", ", out);
		canvas_quoted(out, report_path(r, p, name));
		fprintf(out, " %u", p);
	}
	fputs(")\n", out);
}

static struct canvas rows(const struct result *r, double label, double legend)
{
	struct canvas c = {.left = canvas_names(r) * CANVAS_CHARACTER + 24,
			   .right = label,
			   .bottom = CANVAS_BOTTOM + legend};

	c.width = c.left + CANVAS_PLOT + c.right;
	c.height = CANVAS_TOP + r->plan->npaths * BAR_HEIGHT + c.bottom;
	return c;
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

static void label_row(FILE *out, unsigned p, double x, const char *text)
{
	fprintf(out, "set label %u ", p + 1);
	canvas_quoted(out, text);
	fprintf(out, " at first %.9g,%u left offset character 0.8,0\n", x, p);
}

/* --- rate: bars from zero, the quartiles on them, the ratio behind --- */

static void rate_label(const struct result *r, unsigned w, unsigned p, double rate, char *out, size_t size)
{
	char number[REPORT_TEXT], ratio[REPORT_TEXT];
	struct summary s;

	result_ratio(r, w, p, METRIC_RATE, &s);
	report_number(rate, number);
	if (p == 0 || !s.n)
		snprintf(out, size, "%s", number);
	else
		snprintf(out, size, "%s (\xc3\x97%s%s)", number, report_ratio(s.median, ratio),
			 result_meaningless(&s) ? " ~" : "");
}

bool report_script_rate(const struct result *r, unsigned w, const char *file, FILE *out)
{
	const struct canvas c = rows(r, 130, 0);
	struct summary s[PLAN_MAX_PATHS];
	struct report_scale scale;
	char title[256], below[160], first[PLAN_NAME_SIZE];
	double largest = 0;

	report_scale(r, w, &scale);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		result_summary(r, w, p, METRIC_RATE, &s[p]);
		if (s[p].n)
			largest = larger(largest, s[p].high / scale.divisor);
	}
	if (largest <= 0)
		return false;
	canvas_title(r, w, "rate", title, sizeof(title));
	snprintf(below, sizeof(below),
		 "bars: median of %u round%s; whiskers: quartiles; \xc3\x97: ratio to %s%s", r->rounds,
		 canvas_plural(r->rounds), report_path(r, 0, first),
		 r->plan->npaths > 1 ? "; ~: spread hides it" : "");
	canvas_begin(out, &c, file, title, below);
	name_rows(r, out);
	fprintf(out, "set xrange [0:%.9g]\nset xlabel ", largest * 1.02);
	canvas_quoted(out, scale.unit);
	fputc('\n', out);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		char label[2 * REPORT_TEXT + 16];

		if (s[p].n)
			rate_label(r, w, p, s[p].median / scale.divisor, label, sizeof(label));
		else
			snprintf(label, sizeof(label), report_rounds_ok(r, w, p) ? "not known" : "failed");
		label_row(out, p, s[p].n ? s[p].high / scale.divisor : 0, label);
	}
	fputs("$rate << END_OF_RATE\n", out);
	for (unsigned p = 0; p < r->plan->npaths; p++)
		if (s[p].n)
			fprintf(out, "%u %.9g %.9g %.9g 0x%s\n", p, s[p].median / scale.divisor,
				s[p].low / scale.divisor, s[p].high / scale.divisor,
				canvas_colours[p % CANVAS_COLOURS] + 1);
	fputs("END_OF_RATE\nset style fill solid 0.85 noborder\n"
	      "plot $rate using 2:1:(0):2:($1-0.36):($1+0.36):5 with boxxyerror lc rgb variable title "
	      "'median', "
	      "$rate using 2:1:3:4 with xerrorbars pt -1 lw 1.5 lc rgb '#000000' title 'quartiles'\n"
	      "unset output\n",
	      out);
	return true;
}

/* --- CPU: stacked by who --- */

bool report_script_cpu(const struct result *r, unsigned w, const char *file, FILE *out)
{
	static const struct {
		enum metric metric;
		const char *name, *colour;
	} who[] = {{METRIC_CPU_VCPU, "vCPU", "#4477aa"},
		   {METRIC_CPU_VMM, "VMM", "#ee8822"},
		   {METRIC_CPU_VHOST, "vhost", "#228833"},
		   {METRIC_CPU_BACKEND, "back end", "#aa3377"}};
	const struct canvas c = rows(r, 90, CANVAS_LINE + 4);
	double share[PLAN_MAX_PATHS][ARRAY_SIZE(who)], largest = 0;
	char title[256], below[160];
	bool known = false, unknown = false;

	for (unsigned p = 0; p < r->plan->npaths; p++) {
		double sum = 0;

		for (unsigned i = 0; i < ARRAY_SIZE(who); i++) {
			struct summary s;

			result_summary(r, w, p, who[i].metric, &s);
			share[p][i] = s.median;
			sum += s.n ? s.median : 0;
			known |= s.n != 0;
			unknown |= !s.n;
		}
		largest = larger(largest, sum);
	}
	if (!known)
		return false;
	canvas_title(r, w, "CPU", title, sizeof(title));
	snprintf(below, sizeof(below), "processors kept busy, by who: medians of %u round%s%s", r->rounds,
		 canvas_plural(r->rounds), unknown ? "; +?: part of it is not known" : "");
	canvas_begin(out, &c, file, title, below);
	name_rows(r, out);
	fprintf(out, "set xrange [0:%.9g]\nset xlabel 'processors'\n", largest > 0 ? largest * 1.02 : 1);
	/* In the margin below the axis and its name. */
	fprintf(out,
		"set key at screen %.5f,%.5f center bottom horizontal Left reverse samplen 1.5 width 1 maxrows "
		"1\n",
		(c.left + CANVAS_PLOT / 2.0) / c.width, 6 / c.height);
	fputs("$cpu << END_OF_CPU\n", out);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		double at = 0;

		fprintf(out, "%u", p);
		for (unsigned i = 0; i < ARRAY_SIZE(who); i++) {
			double v = isfinite(share[p][i]) && share[p][i] > 0 ? share[p][i] : 0;

			fprintf(out, " %.9g %.9g", at, at + v);
			at += v;
		}
		fputc('\n', out);
	}
	fputs("END_OF_CPU\n", out);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		double sum = 0;
		unsigned n = 0;
		char number[REPORT_TEXT], label[REPORT_TEXT + 8];

		for (unsigned i = 0; i < ARRAY_SIZE(who); i++)
			if (isfinite(share[p][i])) {
				sum += share[p][i];
				n++;
			}
		if (n)
			snprintf(label, sizeof(label), "%s%s", report_cpu(sum, number),
				 n < ARRAY_SIZE(who) ? " +?" : "");
		else
			snprintf(label, sizeof(label), report_rounds_ok(r, w, p) ? "not known" : "failed");
		label_row(out, p, sum, label);
	}
	fputs("set style fill solid 0.85 noborder\nplot ", out);
	for (unsigned i = 0; i < ARRAY_SIZE(who); i++) {
		unsigned from = 2 + 2 * i;

		fprintf(out,
			"%s$cpu using %u:1:%u:%u:($1-0.36):($1+0.36) with boxxyerror lc rgb '%s' title '%s'",
			i ? ", " : "", from, from, from + 1, who[i].colour, who[i].name);
	}
	fputs("\nunset output\n", out);
	return true;
}
