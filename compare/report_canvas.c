#include "compare/report_canvas.h"

#include "compare/report_text.h"

#define FONT 13

/* Told apart by those who see fewer colours, and readable on white and on black. */
const char *const canvas_colours[CANVAS_COLOURS] = {"#4477aa", "#ee6677", "#228833", "#b8a020",
						    "#44a8cc", "#aa3377", "#808080", "#ee8822"};

void canvas_quoted(FILE *out, const char *text)
{
	fputc('\'', out);
	for (; *text; text++) {
		if (*text == '\'')
			fputc('\'', out);
		fputc(*text, out);
	}
	fputc('\'', out);
}

unsigned canvas_names(const struct result *r)
{
	unsigned longest = 4;

	for (unsigned p = 0; p < r->plan->npaths; p++) {
		char name[PLAN_NAME_SIZE];
		unsigned w = report_width(report_path(r, p, name));

		longest = w > longest ? w : longest;
	}
	return longest;
}

void canvas_begin(FILE *out, const struct canvas *c, const char *file, const char *title, const char *below)
{
	fprintf(out,
		"reset\nset encoding utf8\n"
		"set terminal svg size %.0f,%.0f dynamic noenhanced font 'sans-serif,%d' background rgb "
		"'#ffffff'\n"
		"set output ",
		c->width, c->height, FONT);
	canvas_quoted(out, file);
	fprintf(out,
		"\nset lmargin at screen %.5f\nset rmargin at screen %.5f\n"
		"set tmargin at screen %.5f\nset bmargin at screen %.5f\n",
		c->left / c->width, 1 - c->right / c->width, 1 - CANVAS_TOP / c->height, c->bottom / c->height);
	/* By labels, since a title is centred over the plot and would be cut. */
	fprintf(out, "set label 1001 ");
	canvas_quoted(out, title);
	fprintf(out, " at screen %.5f,%.5f left font 'sans-serif,%d'\nset label 1002 ", 12 / c->width,
		1 - 20 / c->height, FONT + 2);
	canvas_quoted(out, below);
	fprintf(out, " at screen %.5f,%.5f left textcolor rgb '#707070'\n", 12 / c->width, 1 - 42 / c->height);
	fputs("set border 1 lc rgb '#a0a0a0'\nset tics nomirror scale 0.4 textcolor rgb '#000000'\n"
	      "set grid xtics lc rgb '#d8d8d8' lw 0.7 dt solid\nset key off\n",
	      out);
}

void canvas_title(const struct result *r, unsigned w, const char *what, char *out, size_t size)
{
	const struct workload *workload = &r->plan->workload[w];
	char name[40], what_it_is[128];

	snprintf(out, size, "%s, %s: %s", report_clean(workload->name, name, sizeof(name)), what,
		 report_clean(workload->what, what_it_is, sizeof(what_it_is)));
}
