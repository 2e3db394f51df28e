#include "matrix/matrix.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "matrix/options.h"
#include "matrix/plan.h"
#include "matrix/report.h"
#include "matrix/run.h"

#define STATUS_FAILED 1
#define STATUS_OURS   125

static void case_done(const struct run *r, size_t i)
{
	report_progress_clear();
	if (r->options->tap)
		report_tap_case(stdout, r, i);
	report_case(r->options->tap ? stderr : stdout, r, i,
		    !r->options->verbose && (r->options->tap || isatty(STDERR_FILENO)));
}

static const struct run_listener listener = {.done = case_done, .tick = report_progress};

static int dry_run(const struct plan *plan)
{
	if (strcmp(plan->directory, ".") != 0)
		printf("cd %s\n", plan->directory);
	for (size_t i = 0; i < plan->n; i++) {
		const struct matrix_case *c = &plan->cases[i];

		if (c->expect.outcome)
			printf("# %s, expected: %s\n", c->name, c->expect.outcome);
		else
			printf("# %s, expected: status %d\n", c->name, c->expect.status);
		args_print(stdout, c->options.word);
		if (c->command.n) {
			fputs(" -- ", stdout);
			args_print(stdout, c->command.word);
		}
		fputc('\n', stdout);
	}
	return 0;
}

static int verdict(const struct run *r)
{
	if (r->signal)
		return 128 + r->signal;
	if (r->host_failed)
		return STATUS_OURS;
	return r->failed || r->done < r->plan->n ? STATUS_FAILED : 0;
}

static int run(const struct plan *plan, const struct options *options)
{
	struct err e = {0};
	struct run r;
	int status = STATUS_OURS;

	if (run_prepare(&r, plan, options, &e)) {
		log_error("matrix: %s", e.text);
	} else {
		if (options->tap)
			report_tap_begin(stdout, &r);
		run_all(&r, &listener);
		report_progress_clear();
		if (options->tap)
			report_tap_end(stdout, &r);
		report_summary(options->tap ? stderr : stdout, &r,
			       (double)(clock_ns(CLOCK_MONOTONIC) - r.began_ns) / 1e9);
		status = verdict(&r);
		if (options->junit && report_junit(options->junit, &r, &e)) {
			log_error("matrix: --junit: %s", e.text);
			status = STATUS_OURS;
		}
	}
	run_free(&r);
	return status;
}

int matrix_main(int argc, char *argv[])
{
	struct options options;
	struct plan plan = {0};
	struct err e = {0};
	int status = STATUS_OURS;

	if (options_read(&options, argc, argv, &e)) {
		log_error("matrix: %s", e.text);
		return STATUS_OURS;
	}
	if (options.help) {
		fputs(options_usage, stdout);
		status = 0;
	} else if (plan_read(&plan, options.file, &e) ||
		   plan_filter(&plan, options.filter, options.nfilter, &e)) {
		log_error("matrix: %s", e.text);
	} else {
		status = options.dry_run ? dry_run(&plan) : run(&plan, &options);
	}
	plan_free(&plan);
	if (fflush(stdout) || ferror(stdout)) {
		log_error("matrix: stdout could not be written");
		status = status ? status : STATUS_OURS;
	}
	return status;
}
