/* What a comparison will need, looked for before it begins. */
#ifndef COMPARE_CHECK_H
#define COMPARE_CHECK_H
#include "compare/plan.h"
#include "lib/err.h"

/* All that is missing, a line each, with how to mend it.  Loads kernel modules that paths need.  Before
 * host_new(), with the user's own view of the machine.  0 or -ENOENT. */
int check_plan(const struct plan *p, struct err *e);
#endif
