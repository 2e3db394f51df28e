#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/clock.h"
#include "matrix/report.h"

#define CLEAR "\r\033[K"

static bool shown; /* a line without its end */

static size_t width(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) || w.ws_col < 20 ? 80 : w.ws_col;
}

void report_progress(const struct run *r)
{
	char line[512];
	size_t len, most = width() - 1;
	const unsigned s = (unsigned)((clock_ns(CLOCK_MONOTONIC) - r->began_ns) / 1000000000u);

	if (!isatty(STDERR_FILENO))
		return;
	if (most >= sizeof(line))
		most = sizeof(line) - 1;
	len = (size_t)snprintf(line, sizeof(line), "%u:%02u  %zu of %zu, %zu failed%s", s / 60, s % 60, r->done,
			       r->plan->n, r->failed, r->signal ? "; ending" : "");
	for (size_t i = 0; i < r->next && len < most; i++)
		if (r->cases[i].phase == CASE_RUNS)
			len += (size_t)snprintf(line + len, sizeof(line) - len, "%s%s",
						strchr(line, ';') && !r->signal ? " " : "; ",
						r->plan->cases[i].name);
	line[most] = '\0';
	fprintf(stderr, CLEAR "%s", line);
	fflush(stderr);
	shown = true;
}

void report_progress_clear(void)
{
	if (!shown)
		return;
	fputs(CLEAR, stderr);
	fflush(stderr);
	shown = false;
}
