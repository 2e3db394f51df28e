#include <inttypes.h>
#include <stdio.h>

#include "matrix/report.h"
#include "matrix/run_case.h"

/* The points are numbered as they come; what each is, its name says. */
static size_t number;

void report_tap_begin(FILE *out, const struct run *r)
{
	number = 0;
	fprintf(out, "TAP version 14\n1..%zu\n", r->plan->n);
	fflush(out);
}

/* Between "", as YAML has it. */
static void put_text(FILE *out, const char *key, const char *text)
{
	fprintf(out, "  %s: \"", key);
	for (; *text; text++) {
		const unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			fputc(c, out);
	}
	fputs("\"\n", out);
}

static void put_failure(FILE *out, const char *name, const char *reason, const char *kind)
{
	fprintf(out, "not ok %zu - %s\n  ---\n", ++number, name);
	put_text(out, "message", reason);
	put_text(out, "kind", kind);
}

void report_tap_case(FILE *out, const struct run *r, size_t i)
{
	const struct case_run *c = &r->cases[i];
	char path[CASE_PATH];

	if (c->verdict.passed) {
		fprintf(out, "ok %zu - %s\n  ---\n", ++number, r->plan->cases[i].name);
	} else {
		put_failure(out, r->plan->cases[i].name, c->verdict.reason, c->verdict.kind);
		report_log(r, i, path, sizeof(path));
		if (path[0])
			put_text(out, "log", path);
	}
	fprintf(out, "  duration_ms: %.0f\n  ...\n", c->seconds * 1000);
	fflush(out);
}

void report_tap_end(FILE *out, const struct run *r)
{
	for (size_t i = 0; i < r->plan->n; i++) {
		if (r->cases[i].phase == CASE_DONE)
			continue;
		put_failure(out, r->plan->cases[i].name, report_not_run(r), "not-run");
		fputs("  ...\n", out);
	}
	if (r->signal)
		fprintf(out, "Bail out! signal %d\n", r->signal);
	fflush(out);
}
