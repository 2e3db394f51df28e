/* One file for a browser, offline: nothing in it is fetched, and nothing in it runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compare/report.h"
#include "compare/report_columns.h"
#include "compare/report_file.h"
#include "compare/report_metric.h"
#include "compare/report_notes.h"
#include "compare/report_plots.h"
#include "compare/report_svg.h"
#include "compare/report_text.h"
#include "lib/cleanup.h"

static const char style[] =
	":root{color-scheme:light dark;--line:#8886;--soft:#8882;--dim:#707070}\n"
	"@media(prefers-color-scheme:dark){:root{--dim:#a8a8a8}}\n"
	"body{font:15px/1.45 system-ui,sans-serif;max-width:84rem;margin:2rem auto;padding:0 1rem}\n"
	"h1{font-size:1.5rem}h2{font-size:1.25rem;margin-top:2.5rem;border-bottom:1px solid var(--line)}\n"
	".wide{overflow-x:auto}\n"
	"table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
	"th,td{padding:.25rem .5rem;text-align:right;white-space:nowrap}\n"
	"thead th{font-weight:600;vertical-align:bottom;white-space:normal}\n"
	"thead tr:last-child th{border-bottom:1px solid var(--line)}\n"
	"th.group{text-align:left;border-left:1px solid var(--line);color:var(--dim);font-weight:400}\n"
	"th[scope=row],th.path{text-align:left;font-weight:400;position:sticky;left:0;background:Canvas}\n"
	"tbody tr:nth-child(even) td{background:var(--soft)}\n"
	".unit{color:var(--dim);font-weight:400}\n"
	"ul.notes{list-style:none;padding:0}ul.notes li{padding-left:1.6rem;text-indent:-1.6rem;margin:.2rem "
	"0}\n"
	"ul.notes b{display:inline-block;width:1.6rem;text-indent:0;text-align:center}\n"
	"figure{margin:1.2rem 0;overflow-x:auto}svg{width:100%;max-width:62rem;height:auto}\n"
	"dt{font-weight:600;margin-top:.5rem}dd{margin-left:1.5rem}code{overflow-wrap:anywhere}\n"
	/* gnuplot's black and white are the page's. */
	"svg [fill=black],svg [fill='rgb(0,0,0)']{fill:CanvasText}svg [stroke=black]{stroke:CanvasText}\n"
	"svg [color=black]{color:CanvasText}svg rect[fill='#ffffff']{fill:none}\n"
	"svg [stroke='rgb(  0,   0,   0)']{stroke:CanvasText}svg [fill='rgb(112,112,112)']{fill:var(--dim)}\n"
	"svg [stroke='rgb(216, 216, 216)']{stroke:var(--line)}\n";

static void escaped(FILE *out, const char *text)
{
	for (; *text; text++)
		switch (*text) {
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '&':
			fputs("&amp;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		case '\'':
			fputs("&#39;", out);
			break;
		default:
			fputc(*text, out);
		}
}

/* What came from outside. */
static void foreign(FILE *out, const char *text)
{
	char clean[1024];

	escaped(out, report_clean(text, clean, sizeof(clean)));
}

static void element(FILE *out, const char *tag, const char *text)
{
	fprintf(out, "<%s>", tag);
	foreign(out, text);
	fprintf(out, "</%s>\n", tag);
}

/* --- tables --- */

static void groups(FILE *out, const struct report_columns *c)
{
	fputs("<tr><th class=\"path\"></th>", out);
	for (unsigned i = 0; i < c->n;) {
		unsigned next = i;

		while (next < c->n && strcmp(c->column[i].group, c->column[next].group) == 0)
			next++;
		fprintf(out, "<th%s colspan=\"%u\">", c->column[i].group[0] ? " class=\"group\"" : "",
			next - i);
		foreign(out, c->column[i].group);
		fputs("</th>", out);
		i = next;
	}
	fputs("</tr>\n", out);
}

static void heads(FILE *out, const struct report_columns *c)
{
	fputs("<tr><th class=\"path\" scope=\"col\">path</th>", out);
	for (unsigned i = 0; i < c->n; i++) {
		const struct report_column *column = &c->column[i];

		fputs("<th scope=\"col\" title=\"", out);
		foreign(out, column->what);
		fputs("\">", out);
		foreign(out, column->name);
		if (column->unit[0]) {
			fputs("<br><span class=\"unit\">", out);
			foreign(out, column->unit);
			fputs("</span>", out);
		}
		fputs("</th>", out);
	}
	fputs("</tr>\n", out);
}

static void table(FILE *out, const struct result *r, const struct report_columns *c)
{
	fputs("<div class=\"wide\"><table>\n<thead>\n", out);
	groups(out, c);
	heads(out, c);
	fputs("</thead>\n<tbody>\n", out);
	for (unsigned p = 0; p < r->plan->npaths; p++) {
		fputs("<tr><th scope=\"row\">", out);
		foreign(out, r->plan->path[p].name);
		fputs("</th>", out);
		for (unsigned i = 0; i < c->n; i++) {
			fputs("<td>", out);
			escaped(out, c->column[i].text[p]);
			fputs("</td>", out);
		}
		fputs("</tr>\n", out);
	}
	fputs("</tbody>\n</table></div>\n", out);
}

/* --- sentences --- */

struct list {
	FILE *out;
	bool begun;
};

static void list_item(void *context, char mark, const char *text)
{
	struct list *l = context;
	const char m[2] = {mark, '\0'};

	if (!l->begun)
		fputs("<ul class=\"notes\">\n", l->out);
	l->begun = true;
	fputs("<li>", l->out);
	if (mark != ' ') {
		fputs("<b>", l->out);
		escaped(l->out, m);
		fputs("</b>", l->out);
	}
	escaped(l->out, text);
	fputs("</li>\n", l->out);
}

static void list_end(struct list *l)
{
	if (l->begun)
		fputs("</ul>\n", l->out);
}

/* --- parts of the page --- */

static void head(FILE *out, const struct result *r)
{
	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
	      "<title>Datapaths compared</title>\n<style>\n",
	      out);
	fputs(style, out);
	fputs("</style>\n</head>\n<body>\n<h1>Datapaths compared</h1>\n<p>", out);
	fprintf(out,
		"The same guest with the same work over %u datapath%s of a %s, in turn; %u round%s of %g s a "
		"workload. "
		"Ratios are to the first path, <b>",
		r->plan->npaths, r->plan->npaths == 1 ? "" : "s", r->plan->disk ? "disk" : "network card",
		r->rounds, r->rounds == 1 ? "" : "s", r->plan->seconds);
	if (r->plan->npaths)
		foreign(out, r->plan->path[0].name);
	fputs("</b>.</p>\n", out);
}

/* How many plots there were. */
static unsigned plots(FILE *out, const struct result *r, unsigned w, const char *dir)
{
	unsigned n = 0;

	for (unsigned i = 0; i < REPORT_PLOTS; i++) {
		char *path CLEANUP_FREE = report_plot_file(r, w, i, dir, "");
		FILE *svg = path ? fopen(path, "re") : NULL;
		char prefix[32];

		if (!svg)
			continue;
		snprintf(prefix, sizeof(prefix), "plot-%u-%u-", w, i);
		fputs("<figure aria-label=\"", out);
		foreign(out, r->plan->workload[w].name);
		fprintf(out, ": %s\">\n", report_plot[i].what);
		report_svg_embed(svg, prefix, out);
		fputs("</figure>\n", out);
		fclose(svg);
		n++;
	}
	return n;
}

static unsigned workload(FILE *out, const struct result *r, unsigned w, const char *dir,
			 struct report_columns *c)
{
	const struct workload *is = &r->plan->workload[w];
	struct list notes = {.out = out};
	unsigned n;

	fputs("<section>\n<h2>", out);
	foreign(out, is->name);
	fputs(": ", out);
	foreign(out, is->what);
	fputs("</h2>\n", out);
	report_columns(r, w, c);
	table(out, r, c);
	report_notes(r, w, list_item, &notes);
	list_end(&notes);
	n = plots(out, r, w, dir);
	fputs("</section>\n", out);
	return n;
}

static void explain(FILE *out, const char *name, const char *what)
{
	element(out, "dt", name);
	element(out, "dd", what);
}

static void explanations(FILE *out)
{
	fputs("<section>\n<h2>What the columns say</h2>\n"
	      "<p>Every figure is the median of the rounds that did not fail. Quartiles are by linear "
	      "interpolation "
	      "between the two nearest rounds (type 7). A dash is a figure that is not known; the reason "
	      "stands below "
	      "the table.</p>\n<dl>\n",
	      out);
	for (unsigned m = 0; m < METRICS; m++) {
		explain(out, report_metrics[m].name, report_metrics[m].what);
		if (m == METRIC_RATE) {
			explain(out, "spread", report_spread_what);
			explain(out, "ratio", report_ratio_what);
		}
	}
	fputs("</dl>\n<p>Exits, kicks, interrupts and system calls are divided by what the workload counts: a "
	      "packet, an "
	      "I/O, a run.</p>\n</section>\n",
	      out);
}

static void about(FILE *out, const struct result *r)
{
	const struct {
		const char *name, *text;
	} what[] = {{"Host", r->host},
		    {"Kernel of the host", r->kernel},
		    {"Guest", r->guest},
		    {"Started", r->started},
		    {"Ringlet", r->version}};

	fputs("<section>\n<h2>The machine</h2>\n<dl>\n", out);
	for (unsigned i = 0; i < ARRAY_SIZE(what); i++)
		if (what[i].text[0])
			explain(out, what[i].name, what[i].text);
	if (r->command_line[0]) {
		fputs("<dt>Command</dt>\n<dd><code>", out);
		foreign(out, r->command_line);
		fputs("</code></dd>\n", out);
	}
	fputs("</dl>\n</section>\n", out);
}

static void body(FILE *out, const struct result *r, const char *dir, struct report_columns *c)
{
	struct list features = {.out = out};
	unsigned nplots = 0;

	head(out, r);
	for (unsigned w = 0; w < r->plan->nworkloads; w++)
		nplots += workload(out, r, w, dir, c);
	if (!nplots)
		fputs("<p>Without plots: gnuplot draws them (Debian's package gnuplot-nox).</p>\n", out);
	fputs("<section>\n<h2>Feature bits</h2>\n", out);
	fprintf(out, "<p>%s</p>\n",
		r->plan->best ? "Each path was let use all it has."
			      : "Each path was held to what all of them have.");
	report_features(r, list_item, &features);
	list_end(&features);
	fputs("</section>\n", out);
	explanations(out);
	about(out, r);
	fputs("</body>\n</html>\n", out);
}

int report_html(const struct result *r, const char *dir, struct err *e)
{
	struct report_columns *c CLEANUP_FREE = calloc(1, sizeof(*c));
	char *path CLEANUP_FREE = NULL;
	struct report_file f;
	int ret;

	if (!c || asprintf(&path, "%s/report.html", dir) < 0) {
		path = NULL;
		return err_set(e, -ENOMEM, "report.html: no memory");
	}
	ret = report_file_open(&f, path, e);
	if (ret)
		return ret;
	body(f.out, r, dir, c);
	return report_file_close(&f, e);
}
