#include "vmm/console_words.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "lib/cleanup.h"

static const char panic_words[] = "Kernel panic - not syncing";

/* Those further up count first: a lock-up says BUG as well. */
static const struct {
	const char *words;
	enum trouble kind;
	bool begins; /* no letter stands before it ("DEBUG:") */
} rows[] = {
	{panic_words, TROUBLE_PANIC, false},
	{"BUG: soft lockup", TROUBLE_LOCKUP, true},
	{"BUG: workqueue lockup", TROUBLE_LOCKUP, true},
	{"Watchdog detected hard LOCKUP", TROUBLE_LOCKUP, true},
	{"self-detected stall", TROUBLE_LOCKUP, true},
	{"detected stalls on CPUs/tasks", TROUBLE_LOCKUP, true},
	{"detected expedited stalls", TROUBLE_LOCKUP, true},
	{"INFO: task ", TROUBLE_LOCKUP, true}, /* ... blocked for more than N seconds */
	{"Oops:", TROUBLE_OOPS, true},
	{"BUG:", TROUBLE_OOPS, true},
	{"kernel BUG at ", TROUBLE_OOPS, true},
	{"Internal error:", TROUBLE_OOPS, true},
	{"general protection fault, probably for", TROUBLE_OOPS, true}, /* a process's has no "probably" */
	{": 0000 [#", TROUBLE_OOPS, false},
};

static bool has_words(const char *line, const char *words, bool begins)
{
	const char *at = line;

	while ((at = strstr(at, words))) {
		if (!begins || at == line || !isalnum((unsigned char)at[-1]))
			return true;
		at++;
	}
	return false;
}

static int kind_of(const char *line)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (has_words(line, rows[i].words, rows[i].begins) &&
		    (strcmp(rows[i].words, "INFO: task ") || strstr(line, "blocked for more than")))
			return (int)rows[i].kind;
	return -1;
}

/* "[    1.234567] " and "[    T1] " say nothing to whoever reads one line. */
static const char *without_stamp(const char *line)
{
	while (*line == '[') {
		const char *end = line + strspn(line, "[ .0123456789TC");

		if (*end != ']')
			break;
		line = end + 1 + strspn(end + 1, " ");
	}
	return line;
}

static void end_line(struct console_words *w, words_noticed *noticed, void *opaque)
{
	int kind;

	w->now[w->len] = '\0';
	kind = w->len ? kind_of(w->now) : -1;
	w->len = 0;
	if (kind < 0)
		return;
	if (!w->line[kind][0])
		snprintf(w->line[kind], WORDS_LINE, "%s", without_stamp(w->now));
	if (!w->seen[kind]) {
		w->seen[kind] = true;
		noticed(opaque, (enum trouble)kind);
	}
}

/* As it is written, not as its line ends: a reset may follow at once. */
static void match_panic(struct console_words *w, char c, words_noticed *noticed, void *opaque)
{
	/* No border of the words is a prefix of them but the first letter. */
	if (c != panic_words[w->matched])
		w->matched = 0;
	if (c != panic_words[w->matched] || panic_words[++w->matched])
		return;
	w->matched = 0;
	if (!w->seen[TROUBLE_PANIC]) {
		w->seen[TROUBLE_PANIC] = true;
		noticed(opaque, TROUBLE_PANIC);
	}
}

void words_read(struct console_words *w, const char *data, size_t len, words_noticed *noticed, void *opaque)
{
	for (size_t i = 0; i < len; i++) {
		char c = data[i];

		match_panic(w, c, noticed, opaque);
		if (c == '\n')
			end_line(w, noticed, opaque);
		else if (w->len < WORDS_LINE - 1 && c != '\r' && c != '\0')
			w->now[w->len++] = c;
	}
}

void words_end(struct console_words *w, words_noticed *noticed, void *opaque)
{
	end_line(w, noticed, opaque);
}

void words_reset(struct console_words *w)
{
	*w = (struct console_words){0};
}
