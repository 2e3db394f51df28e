#include "lib/junit.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/outfile.h"

#define REPLACEMENT 0xfffdu

/* The character that s begins with; its length in *len.  No UTF-8: REPLACEMENT, for one byte. */
static uint32_t decode(const unsigned char *s, size_t *len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t c = *s;
	size_t n;

	*len = 1;
	if (c < 0x80)
		return c;
	n = c >= 0xf0 && c < 0xf8 ? 4 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xc0 && c < 0xe0 ? 2 : 0;
	if (!n)
		return REPLACEMENT;
	c &= 0xffu >> (n + 1);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return REPLACEMENT;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return REPLACEMENT;
	*len = n;
	return c;
}

/* XML 1.0, 2.2 */
static bool allowed(uint32_t c)
{
	return c >= 0x20 ? c != 0xfffe && c != 0xffff : c == '\t' || c == '\n' || c == '\r';
}

/* Of the escape sequence of a terminal at s, which is ESC: ECMA-48, 5.4 */
static size_t escape_len(const char *s)
{
	size_t len = 2;

	if (s[1] != '[')
		return 1;
	while (s[len] >= 0x20 && s[len] < 0x40)
		len++;
	return s[len] >= 0x40 && s[len] < 0x7f ? len + 1 : 1;
}

/* A reader turns line ends and tabs of an attribute into spaces, and CR anywhere into LF, unless they are
 * references. */
static void put_char(FILE *out, const char *s, size_t len, uint32_t c, bool attribute)
{
	if (c == '<')
		fputs("&lt;", out);
	else if (c == '>')
		fputs("&gt;", out);
	else if (c == '&')
		fputs("&amp;", out);
	else if (c == '"')
		fputs("&quot;", out);
	else if (c == '\r' || (attribute && (c == '\n' || c == '\t')))
		fprintf(out, "&#%u;", c);
	else if (c == REPLACEMENT)
		fputs("\xef\xbf\xbd", out);
	else
		fwrite(s, 1, len, out);
}

static void put(FILE *out, const char *s, size_t size, bool attribute)
{
	size_t len;

	for (const char *end = s + size; s < end && *s; s += len) {
		uint32_t c = decode((const unsigned char *)s, &len);

		if (c == 0x1b)
			len = escape_len(s);
		else if (allowed(c) && !(c == '\r' && s[1] == '\n'))
			put_char(out, s, len, c, attribute);
	}
}

static void put_attribute(FILE *out, const char *name, const char *value, size_t size)
{
	fprintf(out, " %s=\"", name);
	put(out, value, size, true);
	fputc('"', out);
}

static void put_element(FILE *out, const char *name, const char *text)
{
	if (!text)
		return;
	fprintf(out, "    <%s>", name);
	put(out, text, strlen(text), false);
	fprintf(out, "</%s>\n", name);
}

static double seconds_of(const struct junit_case *c)
{
	return isfinite(c->seconds) && c->seconds > 0 ? c->seconds : 0;
}

static void put_case(FILE *out, const struct junit_case *c, const char *suite)
{
	const char *what = c->error ? c->error : c->failure, *class = c->classname ? c->classname : suite;
	const char *element = c->error ? "error" : "failure", *name = c->name ? c->name : "";

	fputs("  <testcase", out);
	put_attribute(out, "name", name, strlen(name));
	put_attribute(out, "classname", class, strlen(class));
	fprintf(out, " time=\"%.3f\">\n", seconds_of(c));
	if (what) {
		fprintf(out, "    <%s", element);
		put_attribute(out, "message", what, strcspn(what, "\r\n"));
		if (c->kind)
			put_attribute(out, "type", c->kind, strlen(c->kind));
		fputc('>', out);
		put(out, what, strlen(what), false);
		fprintf(out, "</%s>\n", element);
	}
	put_element(out, "system-out", c->system_out);
	put_element(out, "system-err", c->system_err);
	fputs("  </testcase>\n", out);
}

static void put_suite(FILE *out, const char *suite, const struct junit_case *cases, size_t n)
{
	size_t failures = 0, errors = 0;
	double seconds = 0;

	for (size_t i = 0; i < n; i++) {
		errors += cases[i].error != NULL;
		failures += cases[i].failure && !cases[i].error;
		seconds += seconds_of(&cases[i]);
	}
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite", out);
	put_attribute(out, "name", suite, strlen(suite));
	fprintf(out, " tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" skipped=\"0\" time=\"%.3f\">\n", n,
		failures, errors, seconds);
	for (size_t i = 0; i < n; i++)
		put_case(out, &cases[i], suite);
	fputs("</testsuite>\n</testsuites>\n", out);
}

/* Takes fd.  0 or -errno. */
static int write_to(int fd, const char *suite, const struct junit_case *cases, size_t n)
{
	FILE *out = fdopen(fd, "w");
	int rc = 0;

	if (!out) {
		rc = -errno;
		close(fd);
		return rc;
	}
	errno = 0;
	put_suite(out, suite, cases, n);
	if (ferror(out))
		rc = errno ? -errno : -EIO;
	if (fclose(out) && !rc)
		rc = -errno;
	return rc;
}

int junit_write(const char *path, const char *suite, const struct junit_case *cases, size_t n, struct err *e)
{
	struct outfile out;
	int rc = outfile_begin(&out, path), end;

	if (!rc) {
		rc = write_to(steal_fd(&out.fd), suite, cases, n);
		end = outfile_end(&out, !rc);
		rc = rc ? rc : end;
	}
	return rc ? err_set(e, rc, "%s cannot be written: %s", path, strerror(-rc)) : 0;
}
