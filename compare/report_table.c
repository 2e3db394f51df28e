#include <stdlib.h>
#include <string.h>

#include "compare/report.h"
#include "compare/report_columns.h"
#include "compare/report_notes.h"
#include "compare/report_text.h"
#include "lib/cleanup.h"

#define GAP      2
#define MIN_NAME 8 /* columns for the paths' names: longer ones stand on a line of their own */

struct drawing {
	const struct result *r;
	const struct report_columns *c;
	unsigned width[REPORT_COLUMNS];
	unsigned name; /* columns for the paths' names */
	FILE *out;
};

static unsigned larger(unsigned a, unsigned b)
{
	return a > b ? a : b;
}

static void spaces(FILE *out, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		fputc(' ', out);
}

static void right(FILE *out, const char *text, unsigned width)
{
	unsigned w = report_width(text);

	spaces(out, width > w ? width - w : 0);
	fputs(text, out);
}

static const char *head(const struct report_column *c, unsigned line)
{
	return line == 2 && c->unit[0] ? c->unit : c->head[line];
}

static bool same_group(const struct drawing *d, unsigned a, unsigned b)
{
	return strcmp(d->c->column[a].group, d->c->column[b].group) == 0;
}

static void measure(struct drawing *d)
{
	for (unsigned i = 0; i < d->c->n; i++) {
		const struct report_column *c = &d->c->column[i];

		d->width[i] = 0;
		for (unsigned line = 0; line < 3; line++)
			d->width[i] = larger(d->width[i], report_width(head(c, line)));
		for (unsigned p = 0; p < d->r->plan->npaths; p++)
			d->width[i] = larger(d->width[i], report_width(c->text[p]));
	}
	/* A group's name has to fit over its columns. */
	for (unsigned i = 0; i < d->c->n;) {
		unsigned span = 0, next = i;

		while (next < d->c->n && same_group(d, i, next))
			span += d->width[next++] + GAP;
		span -= GAP;
		if (report_width(d->c->column[i].group) > span)
			d->width[next - 1] += report_width(d->c->column[i].group) - span;
		i = next;
	}
}

/* Columns from..to (not included), without the names. */
static unsigned total(const struct drawing *d, unsigned from, unsigned to)
{
	unsigned n = 0;

	for (unsigned i = from; i < to; i++)
		n += d->width[i] + GAP;
	return n;
}

/* --- one table, of some of the columns --- */

static void draw_groups(const struct drawing *d, unsigned from, unsigned to)
{
	unsigned owed = d->name;

	for (unsigned i = from; i < to; i++)
		if (d->c->column[i].group[0])
			goto some;
	return;
some:
	for (unsigned i = from; i < to;) {
		const char *group = d->c->column[i].group;
		unsigned next = i;

		while (next < to && same_group(d, i, next))
			next++;
		if (group[0]) {
			unsigned span = total(d, i, next) - GAP, w = report_width(group);

			spaces(d->out, owed + GAP);
			/* Of a group that is in two tables there may be less than its name takes. */
			fprintf(d->out, "%.*s", (int)span, group);
			for (unsigned k = w + 1; k <= span; k++)
				fputc(k == w + 1 ? ' ' : '-', d->out);
			owed = 0;
		} else {
			owed += total(d, i, next);
		}
		i = next;
	}
	fputc('\n', d->out);
}

static void draw_heads(const struct drawing *d, unsigned from, unsigned to)
{
	for (unsigned line = 0; line < 3; line++) {
		unsigned owed = d->name;
		bool empty = line < 2;

		for (unsigned i = from; i < to; i++)
			empty &= !*head(&d->c->column[i], line);
		if (empty)
			continue;
		if (line == 2) {
			fputs("path", d->out);
			owed = d->name - 4;
		}
		for (unsigned i = from; i < to; i++) {
			const char *text = head(&d->c->column[i], line);

			owed += GAP + d->width[i];
			if (!*text)
				continue;
			right(d->out, text, owed);
			owed = 0;
		}
		fputc('\n', d->out);
	}
}

static void draw_rows(const struct drawing *d, unsigned from, unsigned to)
{
	for (unsigned p = 0; p < d->r->plan->npaths; p++) {
		char name[PLAN_NAME_SIZE];
		unsigned w = report_width(report_path(d->r, p, name));

		fputs(name, d->out);
		if (w > d->name) {
			fputc('\n', d->out);
			w = 0;
		}
		spaces(d->out, d->name - w);
		for (unsigned i = from; i < to; i++) {
			spaces(d->out, GAP);
			right(d->out, d->c->column[i].text[p], d->width[i]);
		}
		fputc('\n', d->out);
	}
}

static void draw(const struct drawing *d, unsigned from, unsigned to)
{
	if (from >= to)
		return;
	draw_groups(d, from, to);
	draw_heads(d, from, to);
	draw_rows(d, from, to);
}

/* --- as many tables as the width asks for: one; two, speed and why; more --- */

static unsigned longest_name(const struct result *r)
{
	unsigned longest = MIN_NAME;

	for (unsigned p = 0; p < r->plan->npaths; p++) {
		char name[PLAN_NAME_SIZE];

		longest = larger(longest, report_width(report_path(r, p, name)));
	}
	return longest;
}

static void draw_part(struct drawing *d, unsigned from, unsigned to, unsigned columns)
{
	unsigned figures = total(d, from, to);

	d->name = longest_name(d->r);
	if (d->name + figures > columns) {
		if (figures + MIN_NAME <= columns)
			d->name = columns - figures;
		else if (d->name > columns / 3)
			d->name = larger(columns / 3, MIN_NAME);
	}
	while (from < to) {
		unsigned next = from + 1;

		while (next < to && d->name + total(d, from, next + 1) <= columns)
			next++;
		draw(d, from, next);
		if (next < to)
			fputc('\n', d->out);
		from = next;
	}
}

static void draw_all(struct drawing *d, unsigned columns)
{
	unsigned why = 0;

	measure(d);
	d->name = longest_name(d->r);
	if (!columns || d->name + total(d, 0, d->c->n) <= columns) {
		draw(d, 0, d->c->n);
		return;
	}
	while (why < d->c->n && !d->c->column[why].why)
		why++;
	draw_part(d, 0, why, columns);
	if (why < d->c->n)
		fputc('\n', d->out);
	draw_part(d, why, d->c->n, columns);
}

/* --- sentences --- */

struct writing {
	FILE *out;
	unsigned columns;
};

/* Words, as many on a line as fit, behind the two columns that the caller has written. */
static void write_words(const struct writing *w, const char *text)
{
	unsigned at = 2;

	while (*text) {
		int len = (int)strcspn(text, " ");
		char *word = strndup(text, (size_t)len);
		unsigned width = word ? report_width(word) : 0;

		if (w->columns && at > 2 && at + 1 + width > w->columns) {
			fputs("\n  ", w->out);
			at = 2;
		}
		if (at > 2) {
			fputc(' ', w->out);
			at++;
		}
		fprintf(w->out, "%.*s", len, text);
		at += width;
		text += len;
		text += strspn(text, " ");
		free(word);
	}
	fputc('\n', w->out);
}

static void write_note(void *context, char mark, const char *text)
{
	const struct writing *w = context;

	fprintf(w->out, "%c ", mark);
	write_words(w, text);
}

static void write_title(const struct result *r, unsigned w, const struct writing *writing)
{
	const struct workload *workload = &r->plan->workload[w];
	char text[256], name[64], what[128];

	snprintf(text, sizeof(text), "%s: %s; %u round%s of %g s, medians",
		 report_clean(workload->name, name, sizeof(name)),
		 report_clean(workload->what, what, sizeof(what)), r->rounds, r->rounds == 1 ? "" : "s",
		 r->plan->seconds);
	fputs("= ", writing->out);
	write_words(writing, text);
}

void report_table(const struct result *r, unsigned columns, FILE *out)
{
	struct writing writing = {.out = out, .columns = columns};
	struct report_columns *c CLEANUP_FREE = calloc(1, sizeof(*c));

	for (unsigned w = 0; c && w < r->plan->nworkloads; w++) {
		struct drawing d = {.r = r, .c = c, .out = out};

		if (w)
			fputc('\n', out);
		write_title(r, w, &writing);
		report_columns(r, w, c);
		draw_all(&d, columns);
		report_notes(r, w, write_note, &writing);
	}
	fputs("\nFeature bits\n", out);
	report_features(r, write_note, &writing);
}
