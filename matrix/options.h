/* The command line of "ringlet matrix". */
#ifndef MATRIX_OPTIONS_H
#define MATRIX_OPTIONS_H
#include <stdbool.h>

#include "lib/err.h"

#define OPTIONS_MAX_FILTERS 64

struct options {
	const char *file;    /* "-": stdin */
	unsigned jobs;       /* 0: the file's, or what fits the machine */
	const char *out;     /* default: OPTIONS_OUT */
	const char *junit;   /* or NULL */
	const char *ringlet; /* NULL: this very program */
	bool tap, dry_run, fail_fast, verbose, help;
	const char *filter[OPTIONS_MAX_FILTERS];
	unsigned nfilter;
};

#define OPTIONS_OUT "ringlet-matrix"

extern const char options_usage[];

/* Strings stay argv's.  0, or -EINVAL with a sentence that names the option. */
int options_read(struct options *o, int argc, char *const argv[], struct err *e);
#endif
