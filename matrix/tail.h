/* The end of a log. */
#ifndef MATRIX_TAIL_H
#define MATRIX_TAIL_H
#include <stddef.h>
#include <stdio.h>

/* At most size bytes of the file's end, from the beginning of a line where one begins there, NUL bytes left
 * out; the caller frees it.  NULL: there is no such file, nothing in it, or no memory. */
char *tail_read(const char *path, size_t size);

/* The last lines of text, each behind prefix and without what a terminal would act on. */
void tail_print(FILE *out, const char *text, unsigned lines, const char *prefix);
#endif
