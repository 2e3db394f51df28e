/* What a program has written and nobody has taken yet: lines, or only the end of it.  Bounded, whatever comes.
 */
#ifndef COMPARE_PROCESS_OUTPUT_H
#define COMPARE_PROCESS_OUTPUT_H
#include <stdbool.h>
#include <stddef.h>

#define LINE_SIZE  (64u << 10) /* of one, with its terminator; what is longer is cut */
#define LINES_SIZE (1u << 20)  /* of all; then the oldest go */
#define TAIL_SIZE  4096u

/* All zero when new. */
struct lines {
	char *text, *given;
	size_t room, first, open, end; /* of text: lines from first, the one that is unfinished from open */
};

/* Where there is no memory for it, it is lost. */
void lines_put(struct lines *l, const char *data, size_t len);
/* Nothing more will come: what is unfinished is a line. */
void lines_close(struct lines *l);
/* NULL: there is none.  Valid until the next call. */
const char *lines_get(struct lines *l);
void lines_fini(struct lines *l);

/* All zero when new. */
struct tail {
	char ring[TAIL_SIZE], text[TAIL_SIZE + 1];
	size_t total;
};

void tail_put(struct tail *t, const char *data, size_t len);
/* Whole lines where there are any; no white space at its end.  Valid until the next call. */
const char *tail_get(struct tail *t);
#endif
