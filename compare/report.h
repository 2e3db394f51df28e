/* What becomes of a result.  0 or -errno, with a sentence in e. */
#ifndef COMPARE_REPORT_H
#define COMPARE_REPORT_H
#include <stdio.h>

#include "compare/result.h"
#include "lib/err.h"

/* For a terminal `columns` wide (0: no limit). */
void report_table(const struct result *r, unsigned columns, FILE *out);
int report_json(const struct result *r, const char *path, struct err *e);
int report_csv(const struct result *r, const char *path, struct err *e);
/* In dir: rate-WORKLOAD.svg (bars with spread), latency-WORKLOAD.svg (percentiles; where known),
 * cpu-WORKLOAD.svg (stacked, by who), by gnuplot, which is a program of its own: -ENOENT, it is not there. */
int report_plots(const struct result *r, const char *dir, struct err *e);
/* dir/report.html: tables and the plots that are in dir, in one file, readable offline. */
int report_html(const struct result *r, const char *dir, struct err *e);
#endif
