#include "compare/report_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the character at s; 0: it is none that may be written to a terminal or into XML. */
static unsigned character(const unsigned char *s)
{
	static const unsigned least[5] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned len = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
	unsigned code = len == 1 ? s[0] : s[0] & (0x7fu >> len);

	if (!len)
		return 0;
	for (unsigned i = 1; i < len; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < least[len] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	/* Control characters of both kinds, and what XML forbids. */
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0xfffe || code == 0xffff ? 0 : len;
}

char *report_clean(const char *text, char *out, size_t size)
{
	const unsigned char *s = (const unsigned char *)(text ? text : "");
	size_t at = 0;

	while (*s) {
		unsigned good = character(s), len = good ? good : 1;

		if (at + len >= size)
			break;
		memcpy(out + at, good ? (const char *)s : "?", len);
		at += len;
		s += len;
	}
	out[at] = '\0';
	return out;
}

unsigned report_width(const char *utf8)
{
	unsigned n = 0;

	for (; *utf8; utf8++)
		n += ((unsigned char)*utf8 & 0xc0) != 0x80;
	return n;
}

char *report_number(double v, char *out)
{
	double size = fabs(v);

	if (!isfinite(v))
		snprintf(out, REPORT_TEXT, "-");
	else if (v == 0)
		snprintf(out, REPORT_TEXT, "0");
	else if (size < 0.0005)
		snprintf(out, REPORT_TEXT, "<.001");
	else if (size >= 1e15)
		snprintf(out, REPORT_TEXT, "%.3g", v);
	else
		snprintf(out, REPORT_TEXT, "%.*f", size < 1 ? 3 : size < 10 ? 2 : size < 100 ? 1 : 0, v);
	return out;
}

/* Near 1, where it matters, with the same two digits on both sides of it. */
char *report_ratio(double v, char *out)
{
	if (!(v >= 0.1 && v < 10))
		return report_number(v, out);
	snprintf(out, REPORT_TEXT, "%.2f", v);
	return out;
}

char *report_cpu(double v, char *out)
{
	if (!isfinite(v) || v == 0 || v >= 100)
		return report_number(v, out);
	snprintf(out, REPORT_TEXT, v < 0.005 ? "<.01" : "%.2f", v);
	return out;
}

void report_scale(const struct result *r, unsigned workload, struct report_scale *out)
{
	static const char *const prefix[] = {"", "k", "M", "G", "T"};
	const char *unit = r->plan->workload[workload].unit;
	double largest = 0;
	unsigned p = 0;
	bool counted;
	char clean[24];

	if (!unit)
		unit = "";
	counted = strcmp(unit, "bit/s") != 0 && strcmp(unit, "B/s") != 0;
	for (unsigned path = 0; path < r->plan->npaths; path++) {
		struct summary s;

		result_summary(r, workload, path, METRIC_RATE, &s);
		if (s.n && s.median > largest)
			largest = s.median;
	}
	out->divisor = 1;
	while (largest / out->divisor >= 10000 && p < 4) {
		out->divisor *= 1000;
		p++;
	}
	report_clean(unit, clean, sizeof(clean));
	if (strcmp(unit, "1/s") == 0)
		snprintf(out->unit, sizeof(out->unit), "%s/s", p ? prefix[p] : "1");
	else
		snprintf(out->unit, sizeof(out->unit), "%s%s%s", prefix[p], p && counted ? " " : "", clean);
	if (counted)
		snprintf(out->brief, sizeof(out->brief), "%s/s", p ? prefix[p] : "1");
	else
		snprintf(out->brief, sizeof(out->brief), "%s%.20s", prefix[p], clean);
}

char *report_path(const struct result *r, unsigned path, char *out)
{
	return report_clean(r->plan->path[path].name, out, PLAN_NAME_SIZE);
}

unsigned report_rounds_ok(const struct result *r, unsigned workload, unsigned path)
{
	const struct sample *s = r->cell[workload][path].sample;
	unsigned n = 0;

	for (unsigned i = 0; s && i < r->rounds; i++)
		n += s[i].ok;
	return n;
}
