/* Results of tests in the XML that CI servers read: JUnit's, as GitLab, GitHub's actions and Jenkins take it.
 */
#ifndef LIB_JUNIT_H
#define LIB_JUNIT_H
#include <stddef.h>

#include "lib/err.h"

/* Strings are any bytes up to a NUL and stay the caller's; NULL: there is none. */
struct junit_case {
	const char *name, *classname;
	double seconds;
	const char *failure; /* NULL: passed.  The first line is the headline. */
	const char *error;   /* the test itself could not be done; counts instead of failure */
	const char *kind;    /* of failure or error: one word, "timeout" */
	const char *system_out, *system_err;
};

/* Writes one suite of n cases, valid XML 1.0 in UTF-8 whatever the strings hold: bytes that are no UTF-8 become
 * U+FFFD; characters that XML forbids, a terminal's escape sequences and CR before LF are left out.  The file
 * is there whole or as it was before; what is no regular file, such as /dev/stdout, is written to.  Any thread.
 * 0, or -errno with a sentence in e. */
int junit_write(const char *path, const char *suite, const struct junit_case *cases, size_t n, struct err *e);
#endif
