#include "compare/progress.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#define CLEAR "\r\033[K"

static bool shown; /* a line without its end */

static bool terminal(void)
{
	return isatty(STDERR_FILENO);
}

void progress_begin(const struct plan *p, unsigned round, unsigned path)
{
	if (p->quiet || !terminal())
		return;
	fprintf(stderr, CLEAR "round %u of %u: %s ...", round + 1, p->repeat, p->path[path].name);
	fflush(stderr);
	shown = true;
}

static void say_rate(double rate, const char *unit)
{
	static const char *const prefix[] = {"", "k", "M", "G"};
	unsigned i = 0;

	for (; rate >= 10000 && i < 3; i++)
		rate /= 1000;
	fprintf(stderr, "%.4g %s%s", rate, prefix[i], unit);
}

void progress_end(const struct result *r, unsigned round, unsigned path)
{
	const struct plan *p = r->plan;

	if (p->quiet)
		return;
	progress_clear();
	fprintf(stderr, "round %u of %u: %s:", round + 1, p->repeat, p->path[path].name);
	for (unsigned w = 0; w < p->nworkloads; w++) {
		const struct sample *s = &r->cell[w][path].sample[round];

		fprintf(stderr, "%s %s ", w ? "," : "", p->workload[w].name);
		if (s->ok && !isnan(s->value[METRIC_RATE]))
			say_rate(s->value[METRIC_RATE], p->workload[w].unit);
		else
			fputs("failed", stderr);
	}
	fputc('\n', stderr);
}

void progress_clear(void)
{
	if (shown)
		fputs(CLEAR, stderr);
	shown = false;
}
