/* What "ringlet run --result" wrote. */
#ifndef MATRIX_RESULT_H
#define MATRIX_RESULT_H
#include <stdbool.h>

#include "lib/err.h"

#define RESULT_MAX_SIZE (16u << 20)

struct result {
	int status;
	char outcome[24]; /* "answer", "panic", ...: a word of result_outcomes[] */
	char reason[1024];
	double command_s, end_s; /* seconds since exec(); < 0: not reached */
};

/* All that there are, NULL at the end. */
extern const char *const result_outcomes[];
bool result_outcome_known(const char *word);

/* 0, or -errno with a sentence: there is none (-ENOENT), it is no whole one (-EBADMSG). */
int result_read(struct result *r, const char *path, struct err *e);
#endif
