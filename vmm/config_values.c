#include "vmm/config_values.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"

#define MAX_FRACTION_DIGITS 9

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* A decimal with up to 9 places, as whole + fraction / scale.  Where it ends, or NULL. */
static const char *parse_decimal(const char *s, uint64_t *whole, uint64_t *fraction, uint64_t *scale,
				 bool *too_large)
{
	*whole = *fraction = 0;
	*scale = 1;
	*too_large = false;
	if (!is_digit(*s))
		return NULL;
	for (; is_digit(*s); s++)
		if (__builtin_mul_overflow(*whole, 10, whole) ||
		    __builtin_add_overflow(*whole, (uint64_t)(*s - '0'), whole))
			*too_large = true;
	if (*s != '.')
		return s;
	if (!is_digit(*++s))
		return NULL;
	for (unsigned n = 0; is_digit(*s); s++) {
		if (++n > MAX_FRACTION_DIGITS)
			return NULL;
		*fraction = *fraction * 10 + (uint64_t)(*s - '0');
		*scale *= 10;
	}
	return s;
}

int config_parse_size(const char *text, uint64_t *bytes)
{
	uint64_t whole, fraction, scale, unit = MIB, part;
	bool too_large;
	const char *s = parse_decimal(text, &whole, &fraction, &scale, &too_large);

	if (!s)
		return -EINVAL;
	if (*s) {
		switch (*s++) {
		case 'k':
		case 'K':
			unit = UINT64_C(1) << 10;
			break;
		case 'm':
		case 'M':
			break;
		case 'g':
		case 'G':
			unit = GIB;
			break;
		case 't':
		case 'T':
			unit = UINT64_C(1) << 40;
			break;
		default:
			return -EINVAL;
		}
		if (*s && strcmp(s, "iB") != 0 && strcmp(s, "ib") != 0)
			return -EINVAL;
	}
	/* 10^9 * 2^40 does not fit 64 bits. */
	part = (uint64_t)((unsigned __int128)fraction * unit / scale);
	if (too_large || __builtin_mul_overflow(whole, unit, &whole) ||
	    __builtin_add_overflow(whole, part, &whole))
		return -ERANGE;
	*bytes = whole;
	return 0;
}

int config_parse_duration(const char *text, uint64_t *ms)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
	uint64_t whole, fraction, scale, part;
	bool too_large;
	const char *s = parse_decimal(text, &whole, &fraction, &scale, &too_large);

	if (!s)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(s, units[i].name) != 0)
			continue;
		part = fraction * units[i].ms / scale;
		if (too_large || __builtin_mul_overflow(whole, units[i].ms, &whole) ||
		    __builtin_add_overflow(whole, part, &whole) || whole > INT64_MAX / 1000000)
			return -ERANGE;
		/* Rounded down to 0 it would mean "no limit". */
		if (!whole && fraction)
			return -EINVAL;
		*ms = whole;
		return 0;
	}
	return -EINVAL;
}

int value_switch(const char *text, bool *on, struct err *e)
{
	static const char *const yes[] = {"on", "true", "1"}, *const no[] = {"off", "false", "0"};

	*on = true;
	if (!text)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (!strcmp(text, yes[i]))
			return 0;
	*on = false;
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		if (!strcmp(text, no[i]))
			return 0;
	return err_set(e, -EINVAL, "\"%s\" is neither on nor off", text);
}

int value_number(const char *text, unsigned min, unsigned max, unsigned *n, struct err *e)
{
	uint64_t whole, fraction, scale;
	bool too_large;
	const char *s = parse_decimal(text, &whole, &fraction, &scale, &too_large);

	if (!s || *s || scale != 1)
		return err_set(e, -EINVAL, "\"%s\" is not a whole number", text);
	if (too_large || whole < min || whole > max)
		return err_set(e, -EINVAL, "%s is not between %u and %u", text, min, max);
	*n = (unsigned)whole;
	return 0;
}

int value_bits(const char *text, uint64_t *bits, struct err *e)
{
	const char *digits = !strncmp(text, "0x", 2) ? text + 2 : text;
	const size_t len = strspn(digits, "0123456789abcdefABCDEF");

	if (!len || len > 16 || digits[len])
		return err_set(e, -EINVAL,
			       "\"%s\" are no feature bits; expected up to 16 hexadecimal digits, such as "
			       "0x130000020",
			       text);
	*bits = strtoull(digits, NULL, 16);
	return 0;
}

int value_size(const char *text, uint64_t *bytes, struct err *e)
{
	switch (config_parse_size(text, bytes)) {
	case 0:
		return 0;
	case -ERANGE:
		return err_set(e, -EINVAL, "%s is more than 64 bits hold", text);
	default:
		return err_set(e, -EINVAL,
			       "\"%s\" is not a size; expected a number and K, M, G or T, "
			       "such as 512M (a bare number is MiB)",
			       text);
	}
}

int value_duration(const char *text, uint64_t *ms, struct err *e)
{
	switch (config_parse_duration(text, ms)) {
	case 0:
		return 0;
	case -ERANGE:
		return err_set(e, -EINVAL, "%s is longer than 292 years; 0 is no limit", text);
	default:
		return err_set(e, -EINVAL,
			       "\"%s\" is not a time of 1 ms or more; expected a number and ms, s, "
			       "m or h, such as 60s (a bare number is seconds)",
			       text);
	}
}

int value_choice(const char *text, const char *words, unsigned *index, struct err *e)
{
	size_t len = strlen(text);
	const char *word = words;

	for (unsigned i = 0; *word; i++) {
		size_t n = strcspn(word, " ");

		if (n == len && !memcmp(word, text, n)) {
			*index = i;
			return 0;
		}
		word += n;
		word += *word == ' ';
	}
	return err_set(e, -EINVAL, "\"%s\" is none of: %s", text, words);
}

static const char *parse_cpu(const char *s, unsigned *cpu)
{
	if (!is_digit(*s))
		return NULL;
	for (*cpu = 0; is_digit(*s); s++) {
		*cpu = *cpu * 10 + (unsigned)(*s - '0');
		if (*cpu >= CPU_SETSIZE)
			return NULL;
	}
	return s;
}

int value_cpu_list(const char *text, uint16_t *cpus, unsigned max, unsigned *ncpus, struct err *e)
{
	const char *s = text;
	unsigned n = 0, first, last;

	for (;;) {
		s = parse_cpu(s, &first);
		last = first;
		if (s && *s == '-')
			s = parse_cpu(s + 1, &last);
		if (!s || (*s && *s != '+') || last < first)
			return err_set(e, -EINVAL,
				       "\"%s\" is not a list of host CPUs below %d; expected "
				       "such as 2-5 or 0-1+4",
				       text, CPU_SETSIZE);
		if (last - first >= max - n)
			return err_set(e, -EINVAL, "%s names more than %u host CPUs", text, max);
		for (unsigned cpu = first; cpu <= last; cpu++)
			cpus[n++] = (uint16_t)cpu;
		if (!*s++)
			break;
	}
	*ncpus = n;
	return 0;
}

int value_mac(const char *text, uint8_t mac[6], struct err *e)
{
	unsigned byte[6];
	int end = 0;

	/* Signs, spaces and "0x" are numbers to sscanf(). */
	if (strlen(text) != 17 || strspn(text, "0123456789abcdefABCDEF:") != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4],
		   &byte[5], &end) != 6 ||
	    end != 17)
		return err_set(e, -EINVAL,
			       "\"%s\" is not an address of a network card; expected six bytes in "
			       "hexadecimal, such as 52:54:00:12:34:56",
			       text);
	if (byte[0] & 1)
		return err_set(e, -EINVAL, "%s is an address of a group; the first byte of a card's is even",
			       text);
	if (!(byte[0] | byte[1] | byte[2] | byte[3] | byte[4] | byte[5]))
		return err_set(e, -EINVAL, "%s is nobody's address; left out, one is made up", text);
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)byte[i];
	return 0;
}

#define MAX_BYTE_RATE (UINT64_C(1) << 40)

/* One of the two halves of a rate, from s to end. */
static int parse_rate(const char *s, const char *end, uint64_t *bytes, uint64_t *packets)
{
	uint64_t whole, fraction, scale;
	bool too_large;
	char half[64];
	const char *unit;

	if (end - s >= (ptrdiff_t)sizeof(half))
		return -EINVAL;
	snprintf(half, sizeof(half), "%.*s", (int)(end - s), s);
	unit = parse_decimal(half, &whole, &fraction, &scale, &too_large);
	/* A bare number would be MiB as a size, bytes to some and bits to others. */
	if (!unit || !*unit)
		return -EINVAL;
	if (!strcmp(unit, "p")) {
		if (scale != 1 || *packets)
			return -EINVAL;
		*packets = whole;
		return too_large || !whole || whole > UINT32_MAX ? -ERANGE : 0;
	}
	if (*bytes)
		return -EINVAL;
	if (!strcmp(unit, "B")) {
		if (scale != 1)
			return -EINVAL;
		*bytes = whole;
	} else if (config_parse_size(half, bytes) == -EINVAL) {
		return -EINVAL;
	}
	return too_large || !*bytes || *bytes > MAX_BYTE_RATE ? -ERANGE : 0;
}

int value_rate(const char *text, uint64_t *bytes, uint64_t *packets, struct err *e)
{
	const char *plus = strchr(text, '+'), *end = text + strlen(text);
	int r;

	*bytes = *packets = 0;
	r = parse_rate(text, plus ? plus : end, bytes, packets);
	if (r == 0 && plus)
		r = parse_rate(plus + 1, end, bytes, packets);
	if (r == -ERANGE)
		return err_set(
			e, -EINVAL,
			"%s is not between 1B and 1T, or 1p and 4294967295p; left out, there is no limit",
			text);
	if (r < 0)
		return err_set(e, -EINVAL,
			       "\"%s\" is not a rate; expected bytes a second such as 12M, packets a second "
			       "such as 10000p, or both joined by \"+\"",
			       text);
	return 0;
}

void format_size(uint64_t bytes, char *buf, size_t len)
{
	if (bytes % GIB == 0 && bytes)
		snprintf(buf, len, "%" PRIu64 "G", bytes / GIB);
	else if (bytes % MIB == 0)
		snprintf(buf, len, "%" PRIu64 "M", bytes / MIB);
	else if (bytes % 1024 == 0)
		snprintf(buf, len, "%" PRIu64 "K", bytes / 1024);
	else
		snprintf(buf, len, "%" PRIu64 " bytes", bytes);
}
