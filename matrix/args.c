#include "matrix/args.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"

/* What a shell does more with than to pass it on: in a word, and at the beginning of one. */
#define ANYWHERE "|&;<>()$`*?"
#define BEGINS   ANYWHERE "[{~#"

static int args_take(struct args *w, char *word)
{
	if (w->n + 2 > w->room) {
		size_t room = w->room ? 2 * w->room : 8;
		char **more = reallocarray(w->word, room, sizeof(*more));

		if (!more) {
			free(word);
			return -ENOMEM;
		}
		w->word = more;
		w->room = room;
	}
	w->word[w->n++] = word;
	w->word[w->n] = NULL;
	return 0;
}

int args_add(struct args *w, const char *word)
{
	char *copy = strdup(word);

	return copy ? args_take(w, copy) : -ENOMEM;
}

int args_add_all(struct args *w, const struct args *more)
{
	int rc = 0;

	for (size_t i = 0; i < more->n && !rc; i++)
		rc = args_add(w, more->word[i]);
	return rc;
}

void args_fini(struct args *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->word[i]);
	free(w->word);
	*w = (struct args){0};
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Would a shell act on c here? */
static bool is_shells(char c, char quote, bool first)
{
	if (quote)
		return quote == '"' && (c == '$' || c == '`');
	return strchr(first ? BEGINS : ANYWHERE, c);
}

static bool is_quoted(const char *s, char quote)
{
	return *s == '\\' && (!quote || (quote == '"' && s[1] && strchr("\"\\$`", s[1])));
}

/* From s on, one word into to, which is as long as s.  Its end; NULL: a sentence in e. */
static const char *take_word(const char *s, char *to, struct err *e)
{
	const char *start = s;
	char quote = '\0';

	for (; *s && (quote || !is_blank(*s)); s++) {
		if (is_quoted(s, quote)) {
			if (!*++s) {
				err_set(e, -EINVAL, "the backslash at its end has nothing to quote");
				return NULL;
			}
			*to++ = *s;
		} else if (quote && *s == quote) {
			quote = '\0';
		} else if (!quote && (*s == '\'' || *s == '"')) {
			quote = *s;
		} else if (is_shells(*s, quote, s == start)) {
			err_set(e, -EINVAL,
				"\"%c\" is for a shell, and there is none: put it in '...', or say shell = ...",
				*s);
			return NULL;
		} else {
			*to++ = *s;
		}
	}
	if (quote) {
		err_set(e, -EINVAL, "the quote %c is not closed", quote);
		return NULL;
	}
	*to = '\0';
	return s;
}

int args_split(struct args *w, const char *line, struct err *e)
{
	for (;;) {
		CLEANUP_FREE char *word = NULL;
		int rc;

		while (is_blank(*line))
			line++;
		if (!*line)
			return 0;
		word = malloc(strlen(line) + 1);
		if (!word)
			return err_set(e, -ENOMEM, "no memory left");
		line = take_word(line, word, e);
		if (!line)
			return -EINVAL;
		rc = args_add(w, word);
		if (rc)
			return err_set(e, rc, "no memory left");
	}
}

static void print_word(FILE *out, const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";

	if (*s && s[strspn(s, plain)] == '\0') {
		fputs(s, out);
		return;
	}
	fputc('\'', out);
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", out);
		else
			fputc(*s, out);
	}
	fputc('\'', out);
}

void args_print(FILE *out, char *const *word)
{
	for (size_t i = 0; word[i]; i++) {
		if (i)
			fputc(' ', out);
		print_word(out, word[i]);
	}
}
