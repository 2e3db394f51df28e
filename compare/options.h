/* The command line of "ringlet compare" becomes a plan.  Opens nothing. */
#ifndef COMPARE_OPTIONS_H
#define COMPARE_OPTIONS_H
#include "compare/plan.h"
#include "lib/err.h"

extern const char options_help[];

/* argv: what stands after "compare"; its strings are kept.  0; 1: help was asked for; -EINVAL with a sentence
 * in e, and -ENOMEM.  p is to be freed in any case. */
int options_parse(struct plan *p, int argc, char *const argv[], struct err *e);
void options_free(struct plan *p);
#endif
