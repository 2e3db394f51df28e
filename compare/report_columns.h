/* A workload's table: one text a path and column, for whoever draws it. */
#ifndef COMPARE_REPORT_COLUMNS_H
#define COMPARE_REPORT_COLUMNS_H
#include "compare/report_text.h"
#include "compare/result.h"

#define REPORT_COLUMNS (METRICS + 2) /* and spread, ratio */

struct report_column {
	char group[32];      /* over it and its neighbours that have the same; may be empty */
	const char *head[3]; /* for a narrow column; empty ones first */
	char unit[24];       /* instead of an empty last head */
	const char *name;    /* below its group */
	const char *what;    /* explained */
	bool why;            /* a reason for a difference, rather than one */
	char text[PLAN_MAX_PATHS][REPORT_TEXT];
};

struct report_columns {
	unsigned n;
	struct report_column column[REPORT_COLUMNS];
};

extern const char report_spread_what[], report_ratio_what[];

/* Columns in which nothing is known and nothing could be are left out. */
void report_columns(const struct result *r, unsigned workload, struct report_columns *out);
#endif
