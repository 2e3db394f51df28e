#include "compare/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void words_add(struct words *w, const char *fmt, ...)
{
	va_list ap;

	if (w->failed || w->n == WORDS_MAX) {
		w->failed = true;
		return;
	}
	va_start(ap, fmt);
	if (vasprintf(&w->word[w->n], fmt, ap) < 0) {
		w->word[w->n] = NULL;
		w->failed = true;
	} else {
		w->n++;
	}
	va_end(ap);
}

void words_fini(struct words *w)
{
	for (int i = 0; i < w->n; i++)
		free(w->word[i]);
	*w = (struct words){0};
}
