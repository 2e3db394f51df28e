/* The plots of a workload, and where they lie. */
#ifndef COMPARE_REPORT_PLOTS_H
#define COMPARE_REPORT_PLOTS_H
#include <stdio.h>

#include "compare/result.h"

#define REPORT_PLOTS 3

struct report_plot {
	const char *name; /* of the file */
	const char *what; /* for people */
	bool (*script)(const struct result *r, unsigned workload, const char *file,
		       FILE *out); /* report_script.h */
};

extern const struct report_plot report_plot[REPORT_PLOTS];
extern const char *report_gnuplot; /* the program: "gnuplot", but for tests */

/* dir/NAME-WORKLOAD.svg and suffix: the caller's to free; NULL: no memory. */
char *report_plot_file(const struct result *r, unsigned workload, unsigned plot, const char *dir,
		       const char *suffix);
#endif
