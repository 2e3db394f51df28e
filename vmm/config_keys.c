#include "vmm/config_keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"

#define NAME_MAX_COMPARED 63

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[3][NAME_MAX_COMPARED + 1];
	unsigned na = (unsigned)strnlen(a, NAME_MAX_COMPARED);
	unsigned nb = (unsigned)strnlen(b, NAME_MAX_COMPARED);

	for (unsigned j = 0; j <= nb; j++)
		row[0][j] = j;
	for (unsigned i = 1; i <= na; i++) {
		unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];

		now[0] = i;
		for (unsigned j = 1; j <= nb; j++) {
			now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < now[j])
				now[j] = before[j - 2] + 1;
		}
	}
	return row[na % 3][nb];
}

void nearest_init(struct nearest *n, const char *name)
{
	unsigned len = (unsigned)strlen(name);

	n->name = name;
	n->best = NULL;
	/* What differs in more than a third of its letters and one is another word; so is what
	 * differs in all of them. */
	n->distance = len < len / 3 + 2 ? len : len / 3 + 2;
}

void nearest_try(struct nearest *n, const char *candidate)
{
	size_t len = strlen(n->name);
	unsigned distance = edit_distance(n->name, candidate);

	/* An abbreviation is most probably meant, however much is missing. */
	if (len >= 3 && !strncmp(n->name, candidate, len))
		distance = distance ? 1 : 0;
	if (distance < n->distance) {
		n->distance = distance;
		n->best = candidate;
	}
}

const struct key_def *key_next(const struct key_def *key)
{
	key++;
	return key->name ? key : key->more;
}

bool key_is_public(const struct key_def *key)
{
	return !key->hidden && !key->hint && !key->stands_for;
}

static const struct key_def *find_key(const char *name, const struct key_def *keys)
{
	for (const struct key_def *key = keys; key; key = key_next(key))
		if (!strcmp(key->name, name))
			return key->stands_for ? find_key(key->stands_for, keys) : key;
	return NULL;
}

static int unknown_key(const char *name, const struct key_def *keys, struct err *e)
{
	char known[384] = "";
	struct nearest near;
	size_t len = 0;

	nearest_init(&near, name);
	for (const struct key_def *key = keys; key; key = key_next(key)) {
		if (!key_is_public(key))
			continue;
		nearest_try(&near, key->name);
		if (len < sizeof(known))
			len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", len ? ", " : "",
						key->name);
	}
	if (near.best)
		return err_set(e, -EINVAL, "unknown key \"%s\"; did you mean \"%s\"?", name, near.best);
	return err_set(e, -EINVAL, "unknown key \"%s\"; there are %s", name, known);
}

/* Cuts the next element off *list, in place; NULL at the end. */
static char *next_element(char **list)
{
	char *start = *list, *in = start, *out = start;

	if (!start)
		return NULL;
	while (*in && (*in != ',' || in[1] == ',')) {
		if (*in == ',')
			in++;
		*out++ = *in++;
	}
	*list = *in ? in + 1 : NULL;
	*out = '\0';
	return start;
}

/* name: as it was typed, by which another program may call the key. */
static int set_key(const struct key_def *key, const char *name, const char *value, void *dst, struct err *e)
{
	int r;

	if (key->hint)
		return err_set(e, -EINVAL, "%s=: %s", name, key->hint);
	if (!value && !key->bare)
		return err_set(e, -EINVAL, "\"%s\" wants a value: %s=...", name, name);
	r = key->set(dst, value, e);
	return r < 0 ? err_prefix(e, "%s", name) : 0;
}

static void nearest_try_words(struct nearest *near, const char *words)
{
	char word[NAME_MAX_COMPARED + 1];

	while (words && *words) {
		size_t len = strcspn(words, " ");

		snprintf(word, sizeof(word), "%.*s", (int)len, words);
		nearest_try(near, word);
		words += len;
		words += *words == ' ';
	}
	/* Only how near it is matters, and it dies here. */
	near->best = NULL;
}

/* The value without a key; where it is refused, a misspelt key may be likelier than a bad value. */
static int set_first(const char *value, const struct key_def *keys, void *dst, struct err *e)
{
	struct nearest near;
	int r = set_key(&keys[0], keys[0].name, value, dst, e);
	unsigned distance;

	if (r >= 0 || (*value >= '0' && *value <= '9'))
		return r;
	nearest_init(&near, value);
	nearest_try_words(&near, keys[0].words);
	distance = near.distance;
	for (const struct key_def *key = keys; key; key = key_next(key))
		if (key_is_public(key))
			nearest_try(&near, key->name);
	return near.distance < distance ? unknown_key(value, keys, e) : r;
}

int keys_parse(const char *list, const struct key_def *keys, void *dst, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(list);
	char *rest = copy, *element;
	bool first = true;

	if (!copy)
		return err_set(e, -ENOMEM, "no memory left");
	while ((element = next_element(&rest))) {
		char *value = strchr(element, '=');
		const struct key_def *key;
		int r;

		if (value)
			*value++ = '\0';
		key = find_key(element, keys);
		if (key)
			r = set_key(key, element, value, dst, e);
		else if (!*element)
			r = err_set(e, -EINVAL, "nothing where a key was expected in \"%s\"", list);
		else if (first && !value)
			r = set_first(element, keys, dst, e);
		else
			r = unknown_key(element, keys, e);
		if (r < 0)
			return r;
		first = false;
	}
	return 0;
}
