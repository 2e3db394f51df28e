#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/junit.h"
#include "matrix/report.h"
#include "matrix/run_case.h"
#include "matrix/tail.h"

#define OUTPUT_SIZE 16384 /* of each, and only of those that failed: a server keeps it all */

/* "SUITE.6.12.mmio" for "6.12/mmio/smoke", which a server shows as a group of its own. */
static char *class_of(const char *suite, const char *name)
{
	const char *slash = strrchr(name, '/');
	char *class;

	if (asprintf(&class, "%s%s%.*s", suite, slash ? "." : "", slash ? (int)(slash - name) : 0, name) < 0)
		return NULL;
	for (char *s = class + strlen(suite); *s; s++)
		if (*s == '/')
			*s = '.';
	return class;
}

/* The console's end, behind what the VMM or the command said. */
static char *errors_of(const struct run *r, size_t i)
{
	CLEANUP_FREE char *said = NULL, *console = NULL;
	char path[CASE_PATH], *both;

	case_path(r, i, CASE_ERR, path);
	said = tail_read(path, OUTPUT_SIZE);
	case_path(r, i, CASE_LOG, path);
	console = tail_read(path, OUTPUT_SIZE);
	if (!said && !console)
		return NULL;
	if (asprintf(&both, "%s%s%s", said ? said : "", console ? "\n--- console ---\n" : "",
		     console ? console : "") < 0)
		return NULL;
	return both;
}

static void fill(struct junit_case *j, const struct run *r, size_t i)
{
	const struct case_run *c = &r->cases[i];
	char path[CASE_PATH];

	j->name = r->plan->cases[i].name;
	j->classname = class_of(r->plan->name, j->name);
	j->seconds = c->seconds;
	if (c->phase != CASE_DONE) {
		j->error = report_not_run(r);
		j->kind = "not-run";
	} else if (!c->verdict.passed) {
		j->failure = c->verdict.reason;
		j->kind = c->verdict.kind;
		if (!strcmp(c->verdict.kind, "host"))
			j->error = j->failure;
		if (c->dir) {
			case_path(r, i, CASE_OUT, path);
			j->system_out = tail_read(path, OUTPUT_SIZE);
			j->system_err = errors_of(r, i);
		}
	}
}

int report_junit(const char *path, const struct run *r, struct err *e)
{
	struct junit_case *cases = calloc(r->plan->n, sizeof(*cases));
	int rc;

	if (!cases)
		return err_set(e, -ENOMEM, "%s: no memory left", path);
	for (size_t i = 0; i < r->plan->n; i++)
		fill(&cases[i], r, i);
	rc = junit_write(path, r->plan->name, cases, r->plan->n, e);
	for (size_t i = 0; i < r->plan->n; i++) {
		free((void *)(uintptr_t)cases[i].classname);
		free((void *)(uintptr_t)cases[i].system_out);
		free((void *)(uintptr_t)cases[i].system_err);
	}
	free(cases);
	return rc;
}
