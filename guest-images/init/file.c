// SPDX-License-Identifier: MIT
#include "init.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILE (1 << 20)

char *read_whole(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	char *buf;

	if (fd < 0)
		return NULL;
	buf = malloc(MAX_FILE + 1);
	while (buf && used < MAX_FILE) {
		ssize_t n = read(fd, buf + used, MAX_FILE - used);

		if (n <= 0)
			break;
		used += (size_t)n;
	}
	close(fd);
	if (!buf)
		return NULL;
	buf[used] = '\0';
	*len = used;
	return buf;
}

int split_strings(char *buf, size_t len, char **strings, int max)
{
	int n = 0;

	for (size_t i = 0; i < len && n < max; i += strlen(buf + i) + 1)
		strings[n++] = buf + i;
	return n;
}
