#include "matrix/tail.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"

/* Closes up over NUL bytes. */
static size_t without_nul(char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		if (text[i])
			text[n++] = text[i];
	text[n] = '\0';
	return n;
}

char *tail_read(const char *path, size_t size)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	size_t len = 0;
	ssize_t n = 0;
	char *text, *newline;
	bool cut;

	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || !st.st_size)
		return NULL;
	cut = st.st_size > (off_t)size;
	text = malloc(size + 1);
	if (text && cut)
		lseek(fd, -(off_t)size, SEEK_END);
	while (text && len < size && (n = read(fd, text + len, size - len)) > 0)
		len += (size_t)n;
	if (!text || !without_nul(text, len)) {
		free(text);
		return NULL;
	}
	newline = cut ? strchr(text, '\n') : NULL;
	if (newline && newline[1])
		memmove(text, newline + 1, strlen(newline));
	return text;
}

static void print_line(FILE *out, const char *line, size_t len, const char *prefix)
{
	fputs(prefix, out);
	for (size_t i = 0; i < len; i++) {
		const unsigned char c = (unsigned char)line[i];

		if (c == 0x1b && i + 1 < len && line[i + 1] == '[') {
			/* Parameters, up to the letter that ends them */
			for (i += 2; i < len && line[i] >= 0x20 && line[i] < 0x40;)
				i++;
		} else if ((c >= 0x20 && c != 0x7f) || c == '\t') {
			fputc(c, out);
		}
	}
	fputc('\n', out);
}

void tail_print(FILE *out, const char *text, unsigned lines, const char *prefix)
{
	const char *end = text + strlen(text), *start;

	while (end > text && (end[-1] == '\n' || end[-1] == '\r'))
		end--;
	for (start = end; start > text && (start[-1] != '\n' || --lines > 0);)
		start--;
	while (start < end) {
		const char *newline = memchr(start, '\n', (size_t)(end - start));
		const char *stop = newline ? newline : end;

		print_line(out, start, (size_t)(stop - start), prefix);
		start = newline ? newline + 1 : end;
	}
}
