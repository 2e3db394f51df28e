/* What all pictures have: a size, margins, a title, colours.  Sizes are in the SVG's units, CSS pixels. */
#ifndef COMPARE_REPORT_CANVAS_H
#define COMPARE_REPORT_CANVAS_H
#include <stdio.h>

#include "compare/result.h"

#define CANVAS_CHARACTER 7.6 /* wide: a letter on average, in the widest of the common sans-serif fonts */
#define CANVAS_PLOT      640
#define CANVAS_LINE      20 /* of a legend */
#define CANVAS_TOP       62 /* title and the line below it */
#define CANVAS_BOTTOM    62 /* an axis and its name */
#define CANVAS_COLOURS   8

/* Told apart by those who see fewer colours, and readable on white and on black. */
extern const char *const canvas_colours[CANVAS_COLOURS];

struct canvas {
	double width, height;
	double left, right, bottom; /* margins; the upper is CANVAS_TOP */
};

/* A text where gnuplot reads neither commands nor variables: within single quotes, a quote being two. */
void canvas_quoted(FILE *out, const char *text);
/* Letters of the longest path's name. */
unsigned canvas_names(const struct result *r);
/* "tcp, rate: a stream ..." */
void canvas_title(const struct result *r, unsigned workload, const char *what, char *out, size_t size);
/* Begins a picture in a file: title, and what to know about it below. */
void canvas_begin(FILE *out, const struct canvas *c, const char *file, const char *title, const char *below);

static inline const char *canvas_plural(unsigned n)
{
	return n == 1 ? "" : "s";
}
#endif
