/* Names and figures as people read them. */
#ifndef COMPARE_REPORT_TEXT_H
#define COMPARE_REPORT_TEXT_H
#include <stddef.h>

#include "compare/result.h"

#define REPORT_TEXT 32 /* enough for any figure */

/* A copy that a terminal, XML and JSON can all bear: control characters, and bytes that are no UTF-8, become
 * '?'.  Cut to size between characters.  NULL is an empty text.  Returns out. */
char *report_clean(const char *text, char *out, size_t size);
/* Columns of a terminal that it takes, if each character takes one. */
unsigned report_width(const char *utf8);

/* About three digits; "-": not known (NAN, infinite). out: REPORT_TEXT bytes, and returned. */
char *report_number(double v, char *out);
char *report_ratio(double v, char *out);
char *report_cpu(double v, char *out);

/* The one unit of a workload's rates, for all paths, so that the figures can be compared by eye. */
struct report_scale {
	double divisor;
	char unit[40];  /* "Mbit/s", "k packets/s" */
	char brief[24]; /* over a column: "Mbit/s", "k/s" */
};
void report_scale(const struct result *r, unsigned workload, struct report_scale *out);

/* A path's name, clean; size PLAN_NAME_SIZE. */
char *report_path(const struct result *r, unsigned path, char *out);
/* Rounds of a path and workload that did not fail. */
unsigned report_rounds_ok(const struct result *r, unsigned workload, unsigned path);
#endif
