/* What a person or another program is told about cases. */
#ifndef MATRIX_REPORT_H
#define MATRIX_REPORT_H
#include <stdio.h>

#include "lib/err.h"
#include "matrix/run.h"

/* "3.2 s", "4 min 05 s" */
void report_time(char *buf, size_t size, double seconds);

/* The log of case i that says most about its failure: an absolute path, "" where there is none. */
void report_log(const struct run *r, size_t i, char path[], size_t size);

/* A case is over: a line, and for a failure the end of its log.  quiet: only failures. */
void report_case(FILE *out, const struct run *r, size_t i, bool quiet);
/* All are: failures once more, and the count. */
void report_summary(FILE *out, const struct run *r, double seconds);

/* TAP 14, as it happens. */
void report_tap_begin(FILE *out, const struct run *r);
void report_tap_case(FILE *out, const struct run *r, size_t i);
/* Those that were not run, and why. */
void report_tap_end(FILE *out, const struct run *r);

int report_junit(const char *path, const struct run *r, struct err *e);

/* The line that is redrawn on a terminal at stderr; nothing elsewhere. */
void report_progress(const struct run *r);
void report_progress_clear(void);

/* Why a case that has not begun has not: a sentence. */
const char *report_not_run(const struct run *r);
#endif
