/* The metrics' names, the same in all reports. */
#ifndef COMPARE_REPORT_METRIC_H
#define COMPARE_REPORT_METRIC_H
#include "compare/result.h"

struct report_metric {
	const char *key;     /* in JSON and CSV: promised to programs */
	const char *name;    /* in sentences */
	const char *brief;   /* over a column, below its group */
	const char *group;   /* over several columns; "" none; "a %s": of a packet, of an I/O */
	const char *head[3]; /* over a narrow column */
	const char *what;    /* explained, in a sentence */
	bool why;            /* a reason for a difference; else how large it is */
};

extern const struct report_metric report_metrics[METRICS];
#endif
