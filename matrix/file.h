/* The file of "ringlet matrix" as sections and lines; what they mean is plan.h's.
 *
 * INI: [kind] or [kind name], then "key = value", "key", or options as on a command line ("-m 1G -c 2").  A
 * comment is a line of its own that begins with # or ;.  A line that ends in \ goes on in the next.  Read here
 * and by no library: libinih, as it comes, cuts names after 49 bytes, makes two lines of one of 200, takes what
 * follows " ;" for a comment, and tells nobody. */
#ifndef MATRIX_FILE_H
#define MATRIX_FILE_H
#include <stddef.h>

#include "lib/err.h"

#define FILE_MAX_SIZE  (1u << 20)
#define FILE_MAX_LINES 5000u

struct line {
	const char *key;   /* NULL: value is options */
	const char *value; /* NULL: the key stood alone */
	unsigned number;
};

struct section {
	const char *kind, *name; /* name: NULL where there is none */
	unsigned number;         /* of its line */
	struct line *line;
	size_t n;
};

struct matrix_file {
	char *path; /* for sentences */
	char *text;
	struct section *section;
	size_t n;
	struct line *lines; /* all sections' */
	size_t nlines;
};

/* All fields are set, and file_free() due, either way.  0, or -errno with "path:line: ..." in e.  path "-" is
 * stdin. */
int file_read(struct matrix_file *f, const char *path, struct err *e);
/* The same of a text that may hold any bytes. */
int file_parse(struct matrix_file *f, const char *path, const char *text, size_t len, struct err *e);
void file_free(struct matrix_file *f);

/* "path:line: " and a sentence; returns -EINVAL. */
int file_err(struct err *e, const struct matrix_file *f, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
#endif
