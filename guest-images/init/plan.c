// SPDX-License-Identifier: MIT
#include "init.h"

#include <string.h>

#define MAX_LINES 1024

static char *lines[MAX_LINES];
static int nlines;

void plan_read(void)
{
	size_t len;
	char *buf = read_whole(PLAN_FILE, &len);

	nlines = buf ? split_strings(buf, len, lines, MAX_LINES) : 0;
}

char *plan_value(const char *key, int index)
{
	size_t len = strlen(key);

	for (int i = 0; i < nlines; i++)
		if (!strncmp(lines[i], key, len) && lines[i][len] == ' ' && index-- == 0)
			return lines[i] + len + 1;
	return NULL;
}
