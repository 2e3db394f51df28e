#include "matrix/report.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/cleanup.h"
#include "matrix/run_case.h"
#include "matrix/tail.h"

#define TAIL_LINES 20
#define TAIL_SIZE  16384

void report_time(char *buf, size_t size, double seconds)
{
	if (seconds < 60)
		snprintf(buf, size, "%.1f s", seconds);
	else
		snprintf(buf, size, "%u min %02u s", (unsigned)seconds / 60, (unsigned)seconds % 60);
}

const char *report_not_run(const struct run *r)
{
	if (r->signal)
		return "not run: a signal ended the matrix";
	return r->host_failed ? "not run: the host failed" : "not run: an earlier case failed (--fail-fast)";
}

static bool has_text(const char *path)
{
	struct stat st;

	return !stat(path, &st) && st.st_size > 0;
}

void report_log(const struct run *r, size_t i, char path[], size_t size)
{
	/* A command that answered says why itself; a guest that did not, on its console; a VMM, on stderr. */
	static const char *const guests[] = {CASE_LOG, CASE_ERR, CASE_OUT}, *const commands[] = {CASE_ERR,
												 CASE_OUT,
												 CASE_LOG};
	char file[CASE_PATH];

	path[0] = '\0';
	for (size_t k = 0; k < ARRAY_SIZE(guests) && r->cases[i].dir; k++) {
		case_path(r, i, r->cases[i].answered ? commands[k] : guests[k], file);
		if (!path[0] && has_text(file))
			snprintf(path, size, "%s", file);
	}
}

static void print_failure(FILE *out, const struct run *r, size_t i)
{
	const struct case_run *c = &r->cases[i];
	char took[32];

	report_time(took, sizeof(took), c->seconds);
	fprintf(out, "FAILED %s (%s): %s\n", r->plan->cases[i].name, took, c->verdict.reason);
}

static void print_tail(FILE *out, const struct run *r, size_t i)
{
	CLEANUP_FREE char *text = NULL;
	char path[CASE_PATH];

	report_log(r, i, path, sizeof(path));
	if (!path[0])
		return;
	fprintf(out, "    the end of %s:\n", path);
	text = tail_read(path, TAIL_SIZE);
	if (text)
		tail_print(out, text, TAIL_LINES, "    | ");
}

void report_case(FILE *out, const struct run *r, size_t i, bool quiet)
{
	const struct case_run *c = &r->cases[i];
	char took[32];

	if (!c->verdict.passed) {
		print_failure(out, r, i);
		print_tail(out, r, i);
	} else if (!quiet) {
		report_time(took, sizeof(took), c->seconds);
		fprintf(out, "passed %s (%s)\n", r->plan->cases[i].name, took);
	}
	fflush(out);
}

static size_t slowest(const struct run *r)
{
	size_t max = 0;

	for (size_t i = 1; i < r->plan->n; i++)
		if (r->cases[i].seconds > r->cases[max].seconds)
			max = i;
	return max;
}

void report_summary(FILE *out, const struct run *r, double seconds)
{
	char path[CASE_PATH], took[32], most[32];
	const size_t left = r->plan->n - r->done, max = slowest(r);

	if (r->failed)
		fputc('\n', out);
	for (size_t i = 0; i < r->plan->n; i++) {
		if (r->cases[i].phase != CASE_DONE || r->cases[i].verdict.passed)
			continue;
		print_failure(out, r, i);
		report_log(r, i, path, sizeof(path));
		if (path[0])
			fprintf(out, "    log: %s\n", path);
	}
	report_time(took, sizeof(took), seconds);
	report_time(most, sizeof(most), r->cases[max].seconds);
	fprintf(out, "%zu passed, %zu failed", r->done - r->failed, r->failed);
	if (left)
		fprintf(out, ", %zu %s", left, report_not_run(r));
	fprintf(out, "; %s", took);
	if (r->done > 1)
		fprintf(out, ", the longest %s with %s", r->plan->cases[max].name, most);
	fprintf(out, "; logs in %s\n", r->out);
	fflush(out);
}
