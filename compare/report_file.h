/* A file that is there whole or not at all. */
#ifndef COMPARE_REPORT_FILE_H
#define COMPARE_REPORT_FILE_H
#include <stdio.h>

#include "lib/err.h"

struct report_file {
	FILE *out;
	char *path, *temporary; /* beside it, renamed to it */
};

/* Begins what is to be at path.  0, or -errno and a sentence; then there is nothing to close. */
int report_file_open(struct report_file *f, const char *path, struct err *e);
/* Puts it in its place.  0, or -errno and a sentence: what was at path before is still there. */
int report_file_close(struct report_file *f, struct err *e);
/* Gives it up. */
void report_file_drop(struct report_file *f);
#endif
