/* What a file asks for: cases, each a `ringlet run` and how it is to end. */
#ifndef MATRIX_PLAN_H
#define MATRIX_PLAN_H
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "matrix/args.h"
#include "matrix/expect.h"
#include "matrix/file.h"

#define PLAN_MAX_CASES 10000u
#define PLAN_TIMEOUT   "10m" /* of a case that says none */

struct matrix_case {
	char *name;          /* "6.12/mmio/smoke": unique, and fit for a path */
	struct args options; /* ringlet run ... */
	struct args command; /* what goes after "--"; none: n is 0 */
	struct expect expect;
	unsigned cpus;
	uint64_t memory;     /* bytes of the host's that it may come to use */
	uint64_t timeout_ms; /* 0: none */
};

struct plan {
	struct matrix_file file;
	char *directory;   /* what paths are relative to; for the user: may be relative itself */
	const char *name;  /* of the suite */
	unsigned jobs;     /* 0: not said */
	uint64_t grace_ms; /* that a case may take longer than its timeout */
	struct matrix_case *cases;
	size_t n;
};

/* Reads the file at path.  plan_free() is due either way.  0, or -errno with a sentence that says the line.  */
int plan_read(struct plan *p, const char *path, struct err *e);
/* The same for a file that has been parsed, which p takes over. */
int plan_make(struct plan *p, struct matrix_file *file, struct err *e);
/* Only the cases that a pattern matches stay.  -EINVAL with a sentence: a pattern matches none. */
int plan_filter(struct plan *p, const char *const *pattern, size_t n, struct err *e);
void plan_free(struct plan *p);

/* Does pattern match the name, or what stands before one of its slashes?  A * stops at a slash. */
bool plan_matches(const char *pattern, const char *name);
#endif
