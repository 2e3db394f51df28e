#include "compare/process_output.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The oldest lines go, half of them, so that this is rare. */
static void forget_half(struct lines *l)
{
	while (l->first < l->open && l->first < l->end / 2)
		l->first += strlen(l->text + l->first) + 1;
}

static bool make_room(struct lines *l)
{
	size_t room = l->room ? 2 * l->room : 4096;
	char *text;

	if (l->end < l->room)
		return true;
	if (l->room == LINES_SIZE && l->first < l->room / 2)
		forget_half(l);
	if (l->first && l->first >= l->room / 2) {
		memmove(l->text, l->text + l->first, l->end - l->first);
		l->open -= l->first;
		l->end -= l->first;
		l->first = 0;
		return true;
	}
	text = room <= LINES_SIZE ? realloc(l->text, room) : NULL;
	if (!text)
		return false;
	l->text = text;
	l->room = room;
	return true;
}

static void finish_line(struct lines *l)
{
	if (l->end > l->open && l->text[l->end - 1] == '\r')
		l->end--;
	if (make_room(l)) {
		l->text[l->end++] = '\0';
		l->open = l->end;
	}
}

void lines_put(struct lines *l, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n')
			finish_line(l);
		else if (data[i] && l->end - l->open < LINE_SIZE - 1 && make_room(l))
			l->text[l->end++] = data[i];
	}
}

void lines_close(struct lines *l)
{
	if (l->end > l->open)
		finish_line(l);
}

const char *lines_get(struct lines *l)
{
	size_t size;

	if (l->first == l->open)
		return NULL;
	if (!l->given && !(l->given = malloc(LINE_SIZE)))
		return NULL;
	size = strlen(l->text + l->first) + 1;
	memcpy(l->given, l->text + l->first, size);
	l->first += size;
	if (l->first == l->end)
		l->first = l->open = l->end = 0;
	return l->given;
}

void lines_fini(struct lines *l)
{
	free(l->text);
	free(l->given);
	*l = (struct lines){0};
}

void tail_put(struct tail *t, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i])
			t->ring[t->total++ % TAIL_SIZE] = data[i];
}

const char *tail_get(struct tail *t)
{
	size_t len = t->total < TAIL_SIZE ? t->total : TAIL_SIZE, start = t->total - len;
	char *whole;

	for (size_t i = 0; i < len; i++)
		t->text[i] = t->ring[(start + i) % TAIL_SIZE];
	while (len && isspace((unsigned char)t->text[len - 1]))
		len--;
	t->text[len] = '\0';
	whole = start ? strchr(t->text, '\n') : NULL;
	return whole ? whole + 1 : t->text;
}
