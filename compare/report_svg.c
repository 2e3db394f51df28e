#include "compare/report_svg.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"

/* An id begins behind each of these, inside a tag. */
static const char *const before_id[] = {" id='", " id=\"", "href='#", "href=\"#", "url(#"};

static size_t id_at(const char *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(before_id); i++)
		if (strncmp(s, before_id[i], strlen(before_id[i])) == 0)
			return strlen(before_id[i]);
	return 0;
}

/* tag: whether the line begins, and then ends, inside a tag. */
static void copy(const char *s, const char *prefix, bool *tag, FILE *out)
{
	while (*s) {
		size_t len = *tag ? id_at(s) : 0;

		if (len) {
			fwrite(s, 1, len, out);
			fputs(prefix, out);
			s += len;
			continue;
		}
		if (*s == '<')
			*tag = true;
		else if (*s == '>')
			*tag = false;
		fputc(*s++, out);
	}
}

void report_svg_embed(FILE *svg, const char *prefix, FILE *out)
{
	char *line CLEANUP_FREE = NULL;
	size_t size = 0;
	bool begun = false, tag = false;

	while (getline(&line, &size, svg) >= 0) {
		const char *from = line;

		if (!begun) {
			from = strstr(line, "<svg");
			begun = from;
		}
		if (begun)
			copy(from, prefix, &tag, out);
	}
}
