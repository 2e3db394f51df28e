/* What one line of a file means. */
#ifndef MATRIX_PLAN_LINE_H
#define MATRIX_PLAN_LINE_H
#include <stdbool.h>

#include "matrix/plan.h"

/* What a section adds to a case; all zero when new, strings and words its own. */
struct part {
	const struct section *section; /* NULL: there is none of this kind */
	struct args options, command;
	struct expect expect;
	bool has_expect;
	unsigned path_line, run_line, expect_line; /* 0: not there */
};

/* Is it a kind of section of which there may be many, with names? */
bool line_kind_is_axis(const char *kind);

/* [defaults], [kernel], [options], [command].  0 or a code with a sentence. */
int line_take(struct part *part, const struct matrix_file *f, const struct line *line, struct err *e);

/* [matrix]: name, directory, jobs, grace; what begins with include or exclude is left alone. */
int line_take_matrix(struct plan *p, const struct line *line, struct err *e);

/* As it will be run.  Fills in cpus, memory and timeout_ms of c. */
int line_check_case(struct matrix_case *c, struct err *e);
void part_fini(struct part *part);
#endif
