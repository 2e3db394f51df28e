/* What gnuplot is told to draw: each writes the commands for one picture.
 * false: nothing is known that could be drawn, and nothing was written. */
#ifndef COMPARE_REPORT_SCRIPT_H
#define COMPARE_REPORT_SCRIPT_H
#include <stdio.h>

#include "compare/result.h"

/* file: where gnuplot is to write the SVG. */
bool report_script_rate(const struct result *r, unsigned workload, const char *file, FILE *out);
bool report_script_latency(const struct result *r, unsigned workload, const char *file, FILE *out);
bool report_script_cpu(const struct result *r, unsigned workload, const char *file, FILE *out);
#endif
