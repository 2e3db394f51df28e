/* An argument vector that grows. */
#ifndef COMPARE_WORDS_H
#define COMPARE_WORDS_H
#include <stdbool.h>

#define WORDS_MAX 256

struct words {
	int n;
	bool failed;               /* no memory, or too many: not to be used */
	char *word[WORDS_MAX + 1]; /* the last is NULL */
};

void words_add(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void words_fini(struct words *w); /* as {0} */
#endif
