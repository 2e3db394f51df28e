#include "compare/report_script.h"

#include <math.h>

#include "compare/report_canvas.h"
#include "compare/report_text.h"
#include "lib/cleanup.h"

#define HEIGHT 340

/* Percentiles lie as far apart as their odds: a distribution's both tails are wide, and each nine more is as
 * far again.  gnuplot does the sum. */
#define ODDS "odds(percent) = log10(percent / (100.0 - percent))\n"

/* Ticks are at 1, 2 and 5 times the powers of ten, from this one on. */
#define FIRST_TICK 1e-3
#define LAST_TICK  1e12

static double next_tick(double us, unsigned *which)
{
	*which = (*which + 1) % 3;
	return us * (*which == 2 ? 2.5 : 2);
}

static void tick(FILE *out, double us, const char *comma)
{
	if (us < 999)
		fprintf(out, "%s'%g \xc2\xb5s' %.9g", comma, us, us);
	else if (us < 999e3)
		fprintf(out, "%s'%g ms' %.9g", comma, us / 1e3, us);
	else
		fprintf(out, "%s'%g s' %.9g", comma, us / 1e6, us);
}

/* From the last tick below to the first above, both drawn. */
static void latency_ticks(FILE *out, double low, double high)
{
	double below = FIRST_TICK, above = FIRST_TICK;
	const char *comma = "";
	unsigned which = 0;

	for (double us = FIRST_TICK; us <= LAST_TICK && (above < high || above <= below);
	     us = next_tick(us, &which)) {
		if (us <= low)
			below = us;
		above = us;
	}
	fputs("set logscale y\nset ytics (", out);
	which = 0;
	for (double us = FIRST_TICK; us <= above * 1.01; us = next_tick(us, &which)) {
		bool wanted = high / low < 2000 || which == 0;

		if (us < below * 0.99 || !wanted)
			continue;
		tick(out, us, comma);
		comma = ", ";
	}
	/* A tick on the very edge is lost to rounding. */
	fprintf(out, ")\nset yrange [%.9g:%.9g]\n", below * 0.998, above * 1.002);
}

static void line_style(FILE *out, unsigned p)
{
	fprintf(out, "lw 1.8 dt %u lc rgb '%s'", 1 + p / CANVAS_COLOURS % 5,
		canvas_colours[p % CANVAS_COLOURS]);
}

static unsigned point_type(unsigned p)
{
	return 4 + p % 6;
}

/* gnuplot's own legend is no higher than the plot, and leaves out what does not fit. */
static void legend(const struct result *r, unsigned p, unsigned row, const struct canvas *c, FILE *out)
{
	double x = c->width - c->right + 14, y = 1 - (CANVAS_TOP + CANVAS_LINE * (row + 0.5)) / c->height;
	char name[PLAN_NAME_SIZE];

	fprintf(out, "set arrow %u from screen %.5f,%.5f to screen %.5f,%.5f nohead ", p + 1, x / c->width, y,
		(x + 26) / c->width, y);
	line_style(out, p);
	fprintf(out, "\nset label %u '' at screen %.5f,%.5f point pt %u ps 0.6 lc rgb '%s'\nset label %u ",
		p + 1, (x + 13) / c->width, y, point_type(p), canvas_colours[p % CANVAS_COLOURS], p + 101);
	canvas_quoted(out, report_path(r, p, name));
	fprintf(out, " at screen %.5f,%.5f left\n", (x + 34) / c->width, y);
}

bool report_script_latency(const struct result *r, unsigned w, const char *file, FILE *out)
{
	static const double ticks[] = {1, 10, 25, 50, 75, 90, 99, 99.9, 99.99};
	double us[PLAN_MAX_PATHS][LATENCY_POINTS], low = INFINITY, high = 0;
	struct canvas c = {.left = 84, .right = 60 + canvas_names(r) * CANVAS_CHARACTER};
	bool known[PLAN_MAX_PATHS];
	char title[256], below[160];
	const char *comma = "";
	unsigned nlines = 0;

	for (unsigned p = 0; p < r->plan->npaths; p++) {
		known[p] = false;
		result_latency(r, w, p, us[p]);
		for (unsigned i = 0; i < LATENCY_POINTS; i++) {
			if (!(us[p][i] > 0))
				continue;
			known[p] = true;
			low = us[p][i] < low ? us[p][i] : low;
			high = us[p][i] > high ? us[p][i] : high;
		}
	}
	if (high <= 0)
		return false;
	c.width = c.left + CANVAS_PLOT + c.right;
	c.height = (r->plan->npaths + 1) * CANVAS_LINE;
	if (c.height < HEIGHT + CANVAS_BOTTOM)
		c.height = HEIGHT + CANVAS_BOTTOM;
	c.height += CANVAS_TOP;
	c.bottom = c.height - CANVAS_TOP - HEIGHT;
	canvas_title(r, w, "latency", title, sizeof(title));
	snprintf(below, sizeof(below), "so many percent were answered within; medians of %u round%s", r->rounds,
		 canvas_plural(r->rounds));
	canvas_begin(out, &c, file, title, below);
	fputs("set grid xtics ytics lc rgb '#d8d8d8' lw 0.7 dt solid\nset border 3 lc rgb '#a0a0a0'\n", out);
	fputs(ODDS "set xrange [odds(0.8):odds(99.992)]\nset xlabel 'percent of the answers'\nset xtics (",
	      out);
	for (unsigned i = 0; i < ARRAY_SIZE(ticks); i++)
		fprintf(out, "%s'%g' odds(%g)", i ? ", " : "", ticks[i], ticks[i]);
	fputs(")\n", out);
	latency_ticks(out, low, high);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		if (!known[p])
			continue;
		fprintf(out, "$p%u << END_OF_PATH\n", p);
		for (unsigned i = 0; i < LATENCY_POINTS; i++)
			if (us[p][i] > 0)
				fprintf(out, "%g %.9g\n", latency_percent[i], us[p][i]);
		fputs("END_OF_PATH\n", out);
		legend(r, p, nlines++, &c, out);
	}
	fputs("plot ", out);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		char name[PLAN_NAME_SIZE];

		if (!known[p])
			continue;
		fprintf(out, "%s$p%u using (odds($1)):2 with linespoints ", comma, p);
		line_style(out, p);
		fprintf(out, " pt %u ps 0.6 title ", point_type(p));
		canvas_quoted(out, report_path(r, p, name));
		comma = ", ";
	}
	fputs("\nunset output\n", out);
	return true;
}
