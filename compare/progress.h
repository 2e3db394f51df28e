/* A line on stderr while a comparison works; on a terminal it is one line that changes. */
#ifndef COMPARE_PROGRESS_H
#define COMPARE_PROGRESS_H
#include "compare/result.h"

void progress_begin(const struct plan *p, unsigned round, unsigned path);
void progress_end(const struct result *r, unsigned round, unsigned path); /* r: with what the round gave */
void progress_clear(void);
#endif
