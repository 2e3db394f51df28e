/* Lists of `key=value,key,...` as options take them, and the nearest name to a misspelt one. */
#ifndef VMM_CONFIG_KEYS_H
#define VMM_CONFIG_KEYS_H
#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

struct key_def {
	const char *name;       /* NULL ends a table */
	const char *words;      /* the values it may have, separated by spaces, where known */
	bool directory;         /* its value is one */
	bool file;              /* its value is one */
	bool bare;              /* may stand without "=value" */
	bool hidden;            /* another program's: taken, not advertised */
	const char *stands_for; /* another program's word for this key of ours, or NULL */
	const char *hint;       /* another program's key with another meaning: what to say, or NULL */

	/* Takes the value (NULL: the key stood bare; the string dies with the call).  0 or a negative
	 * code with a sentence in e that need not repeat the key. */
	int (*set)(void *dst, const char *value, struct err *e);

	const struct key_def *more; /* of the last: the table that goes on, or NULL */
};

/* for (key = keys; key; key = key_next(key)): all of a table and those it goes on with. */
const struct key_def *key_next(const struct key_def *key);

/* Whether key is one of ours, which help, manual and completion name. */
bool key_is_public(const struct key_def *key);

/* Calls set() of every key in list, in order.  What stands first and is no key is the value of
 * keys[0].  A doubled comma stands for a comma in a value.  0 or a negative code with a sentence. */
int keys_parse(const char *list, const struct key_def *keys, void *dst, struct err *e);

/* Insertions, deletions, replacements and swaps of neighbours that make b of a. */
unsigned edit_distance(const char *a, const char *b);

/* Remembers the best of the names it is shown. */
struct nearest {
	const char *name; /* what was misspelt */
	const char *best; /* NULL: nothing near enough to be meant */
	unsigned distance;
};
void nearest_init(struct nearest *n, const char *name);
void nearest_try(struct nearest *n, const char *candidate);
#endif
