#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare/guest.h"

#define PREFIX      "compare:"
#define BARE_PREFIX "not ok " /* tests/bare/lib/bare.h: a check has failed */
#define WORD_SIZE   64
#define LARGEST     1e18 /* of any number: beyond what a machine does, within what a double counts */

/* The next word, which may not be longer than anything known; false: there is none, or it is. */
static bool take_word(const char **text, char word[WORD_SIZE])
{
	size_t len;

	*text += strspn(*text, " \t");
	len = strcspn(*text, " \t\r\n");
	if (!len || len >= WORD_SIZE)
		return false;
	memcpy(word, *text, len);
	word[len] = '\0';
	*text += len;
	return true;
}

static bool at_end(const char *text)
{
	return !text[strspn(text, " \t\r\n")];
}

static bool take_number(const char **text, double *out)
{
	char word[WORD_SIZE], *end;

	/* Decimal ones only: strtod(3) knows "inf", "nan" and hexadecimal ones too. */
	if (!take_word(text, word) || word[strspn(word, "0123456789.eE+-")])
		return false;
	*out = strtod(word, &end);
	return end != word && !*end && isfinite(*out) && *out >= 0 && *out <= LARGEST;
}

static bool take_positive(const char **text, double *out)
{
	return take_number(text, out) && *out > 0;
}

static bool take_bits(const char **text, uint64_t *out)
{
	char word[WORD_SIZE];
	const size_t len = take_word(text, word) ? strlen(word) : 0;

	if (!len || len > 16 || word[strspn(word, "0123456789abcdefABCDEF")])
		return false;
	*out = strtoull(word, NULL, 16);
	return true;
}

static bool take_workload(const char **text, struct guest_line *out)
{
	char word[WORD_SIZE];

	if (!take_word(text, word) || strlen(word) >= sizeof(out->workload) ||
	    word[strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-")])
		return false;
	strcpy(out->workload, word);
	return true;
}

static bool take_latency(const char **text, struct guest_line *out)
{
	for (unsigned i = 0; i < LATENCY_POINTS; i++)
		if (!take_number(text, &out->latency_us[i]))
			return false;
	return true;
}

/* A guest's words come to the user's terminal: nothing but text. */
static void say_why(struct guest_line *out, const char *prefix, const char *text)
{
	size_t n = (size_t)snprintf(out->why, sizeof(out->why), "%s", prefix);

	out->word = GUEST_FAILED;
	text += strspn(text, " \t");
	for (; *text && n < sizeof(out->why) - 1; text++)
		out->why[n++] = isprint((unsigned char)*text) && (unsigned char)*text < 0x80 ? *text : ' ';
	while (n && out->why[n - 1] == ' ')
		n--;
	out->why[n] = '\0';
	if (!n)
		strcpy(out->why, "it does not say why");
}

static bool understood(const char *text, struct guest_line *out)
{
	char word[WORD_SIZE];

	if (!take_word(&text, word))
		return false;
	if (!strcmp(word, "offered") || !strcmp(word, "features")) {
		out->word = *word == 'o' ? GUEST_OFFERED : GUEST_FEATURES;
		return take_bits(&text, &out->bits) && at_end(text);
	}
	if (!take_workload(&text, out))
		return false;
	if (!strcmp(word, "failed")) {
		say_why(out, "", text);
		return true;
	}
	if (!strcmp(word, "begin")) {
		out->word = GUEST_BEGIN;
		out->busy = take_word(&text, word);
		return (!out->busy || !strcmp(word, "busy")) && at_end(text);
	}
	if (!strcmp(word, "stop")) {
		out->word = GUEST_STOP;
		return at_end(text);
	}
	if (!strcmp(word, "end")) {
		out->word = GUEST_END;
		return take_positive(&text, &out->count) && take_positive(&text, &out->seconds) &&
		       take_positive(&text, &out->rate) && at_end(text);
	}
	out->word = GUEST_LATENCY;
	return !strcmp(word, "latency") && take_latency(&text, out) && at_end(text);
}

void guest_line(const char *text, struct guest_line *out)
{
	*out = (struct guest_line){.word = GUEST_OTHER};
	if (!strncmp(text, BARE_PREFIX, strlen(BARE_PREFIX))) {
		say_why(out, "the bare guest: ", text + strlen(BARE_PREFIX));
	} else if (!strncmp(text, PREFIX, strlen(PREFIX)) && !understood(text + strlen(PREFIX), out)) {
		*out = (struct guest_line){.word = GUEST_FAILED};
		say_why(out, "not understood: ", text);
	}
}
