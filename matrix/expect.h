/* How a case is to end, and whether it did. */
#ifndef MATRIX_EXPECT_H
#define MATRIX_EXPECT_H
#include <stdbool.h>

#include "lib/err.h"
#include "matrix/result.h"

struct expect {
	int status;          /* -1: what follows says it */
	const char *outcome; /* a word of result_outcomes[], or "nonzero"; NULL: status */
};

/* "0", "7", "panic", "nonzero".  0, or -EINVAL with a sentence. */
int expect_parse(struct expect *x, const char *text, struct err *e);

/* How the process ended. */
struct ended {
	bool signalled;
	int status;       /* or the signal's number */
	bool late;        /* it outlived its limit, and we ended it */
	bool interrupted; /* a signal to us, and we ended it */
	unsigned left;    /* processes that it left behind and that were killed */
};

struct verdict {
	bool passed;
	char kind[24]; /* "", or a word for programs: an outcome, "status", "no-result", "killed", "limit" */
	char reason[1400]; /* a sentence; "" where it passed */
};

/* result: NULL with a sentence in why: there is none that can be believed.  limit_s: for the sentence. */
void expect_judge(struct verdict *v, const struct expect *x, const struct ended *how,
		  const struct result *result, const char *why, double limit_s);
#endif
