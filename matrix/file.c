#include "matrix/file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"

int file_err(struct err *e, const struct matrix_file *f, unsigned line, const char *fmt, ...)
{
	char text[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(e, -EINVAL, "%s:%u: %s", f->path, line, text);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Without blanks at both ends. */
static char *trim(char *s)
{
	char *end;

	while (is_blank(*s))
		s++;
	end = s + strlen(s);
	while (end > s && is_blank(end[-1]))
		end--;
	*end = '\0';
	return s;
}

/* Takes a line off *rest, without its end; a line that ends in \ is one with the next.  Lines it took: *took.
 */
static char *next_line(char **rest, unsigned *took)
{
	char *line = *rest, *from = *rest, *to = *rest;

	*took = 0;
	for (;;) {
		char *end = strchrnul(from, '\n'), *next = *end ? end + 1 : end;
		size_t len = (size_t)(end - from);

		if (len && from[len - 1] == '\r')
			len--;
		++*took;
		memmove(to, from, len);
		to += len;
		from = next;
		if (!*next || to == line || to[-1] != '\\')
			break;
		/* The next line's indentation is for the eye. */
		to[-1] = ' ';
		while (is_blank(*from))
			from++;
	}
	*rest = from;
	*to = '\0';
	return line;
}

static int begin_section(struct matrix_file *f, char *line, unsigned number, struct err *e)
{
	char *end = strchr(line, ']'), *kind, *name;

	if (!end)
		return file_err(e, f, number, "\"%.40s\" has no \"]\"", line);
	if (*trim(end + 1))
		return file_err(e, f, number, "after \"]\" comes \"%.40s\"; a comment is a line of its own",
				trim(end + 1));
	*end = '\0';
	kind = trim(line + 1);
	if (!*kind)
		return file_err(e, f, number, "\"[]\" says no kind of section");
	name = kind + strcspn(kind, " \t");
	if (*name) {
		*name++ = '\0';
		name = trim(name);
	}
	f->section[f->n++] = (struct section){.kind = kind,
					      .name = *name ? name : NULL,
					      .number = number,
					      .line = f->lines + f->nlines};
	return 0;
}

static int add_line(struct matrix_file *f, char *text, unsigned number, struct err *e)
{
	struct line *line = &f->lines[f->nlines];
	char *equals;

	if (!f->n)
		return file_err(e, f, number, "\"%.40s\" stands before the first section, such as [defaults]",
				text);
	*line = (struct line){.number = number};
	if (*text == '-') {
		line->value = text;
	} else {
		equals = strchr(text, '=');
		if (equals) {
			*equals = '\0';
			line->value = trim(equals + 1);
		}
		line->key = trim(text);
		if (!*line->key)
			return file_err(e, f, number, "nothing stands before \"=\"");
	}
	f->nlines++;
	f->section[f->n - 1].n++;
	return 0;
}

/* Bytes that are in no text. */
static int check_bytes(const struct matrix_file *f, const char *text, size_t len, struct err *e)
{
	unsigned number = 1;

	for (size_t i = 0; i < len; i++) {
		const unsigned char c = (unsigned char)text[i];

		if (c == '\n') {
			if (++number > FILE_MAX_LINES)
				return file_err(e, f, number, "more than %u lines", FILE_MAX_LINES);
		} else if ((c < 0x20 && c != '\t' && !(c == '\r' && i + 1 < len && text[i + 1] == '\n')) ||
			   c == 0x7f) {
			return file_err(e, f, number, "byte 0x%02x is in no text", c);
		}
	}
	return 0;
}

static int split(struct matrix_file *f, struct err *e)
{
	char *rest = f->text;
	unsigned number = 1, took;
	int rc = 0;

	if (!strncmp(rest, "\xef\xbb\xbf", 3))
		rest += 3;
	for (; *rest && !rc; number += took) {
		char *line = trim(next_line(&rest, &took));

		if (*line == '[')
			rc = begin_section(f, line, number, e);
		else if (*line && *line != '#' && *line != ';')
			rc = add_line(f, line, number, e);
	}
	return rc;
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "no memory left");
}

int file_parse(struct matrix_file *f, const char *path, const char *text, size_t len, struct err *e)
{
	size_t lines = 1;
	int rc;

	*f = (struct matrix_file){.path = strdup(path), .text = malloc(len + 1)};
	if (!f->path || !f->text)
		return no_memory(e);
	if (len > FILE_MAX_SIZE)
		return err_set(e, -EINVAL, "%s: %zu bytes; expected at most %u", path, len, FILE_MAX_SIZE);
	rc = check_bytes(f, text, len, e);
	if (rc)
		return rc;
	memcpy(f->text, text, len);
	f->text[len] = '\0';
	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n';
	f->section = calloc(lines, sizeof(*f->section));
	f->lines = calloc(lines, sizeof(*f->lines));
	return f->section && f->lines ? split(f, e) : no_memory(e);
}

int file_read(struct matrix_file *f, const char *path, struct err *e)
{
	CLEANUP_FREE char *text = malloc(FILE_MAX_SIZE + 2);
	const bool in = !strcmp(path, "-");
	FILE *from;
	size_t len;
	int rc;

	*f = (struct matrix_file){0};
	if (!text)
		return no_memory(e);
	from = in ? stdin : fopen(path, "re");
	if (!from)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	errno = 0;
	len = fread(text, 1, FILE_MAX_SIZE + 1, from);
	rc = ferror(from) ? (errno ? -errno : -EIO) : 0;
	if (!in)
		fclose(from);
	if (rc)
		return err_set(e, rc, "%s: %s", path, strerror(-rc));
	return file_parse(f, in ? "stdin" : path, text, len, e);
}

void file_free(struct matrix_file *f)
{
	free(f->path);
	free(f->text);
	free(f->section);
	free(f->lines);
	*f = (struct matrix_file){0};
}
