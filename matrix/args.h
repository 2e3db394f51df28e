/* Lists of words. */
#ifndef MATRIX_ARGS_H
#define MATRIX_ARGS_H
#include <stddef.h>
#include <stdio.h>

#include "lib/err.h"

/* All zero when new.  word[n] is NULL once there is one, as exec() wants it. */
struct args {
	char **word;
	size_t n, room;
};

/* A copy of word.  0 or -ENOMEM. */
int args_add(struct args *w, const char *word);
int args_add_all(struct args *w, const struct args *more);
/* Splits line as a shell does, with '...', "..." and \; there are no variables, and what else a shell would act
 * on is refused where it stands unquoted.  0, -EINVAL with a sentence, -ENOMEM. */
int args_split(struct args *w, const char *line, struct err *e);
void args_fini(struct args *w);

/* Writes words so that a shell takes them as they are, a space between two. */
void args_print(FILE *out, char *const *word);
#endif
