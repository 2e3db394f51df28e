/* Plots, by gnuplot: all of them in one run of it, each put in its place when all are there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compare/process.h"
#include "compare/report.h"
#include "compare/report_file.h"
#include "compare/report_plots.h"
#include "compare/report_script.h"
#include "compare/report_text.h"
#include "lib/cleanup.h"

const char *report_gnuplot = "gnuplot";

const struct report_plot report_plot[REPORT_PLOTS] = {
	{"rate", "rate", report_script_rate},
	{"cpu", "CPU, by who spent it", report_script_cpu},
	{"latency", "latency", report_script_latency},
};

char *report_plot_file(const struct result *r, unsigned w, unsigned plot, const char *dir, const char *suffix)
{
	const char *name = r->plan->workload[w].name;
	char clean[64], *path;

	report_clean(name, clean, sizeof(clean));
	for (char *c = clean; *c; c++)
		if (*c == '/')
			*c = '_';
	/* A leading "|" would be a command to gnuplot, a leading "-" an option. */
	if (asprintf(&path, "%s%s/%s-%s.svg%s", *dir == '/' ? "" : "./", dir, report_plot[plot].name, clean,
		     suffix) < 0)
		return NULL;
	return path;
}

#define PART ".part"

/* What is there now is of this result or of none. */
static void forget(const struct result *r, const char *dir, const char *suffix)
{
	for (unsigned w = 0; w < r->plan->nworkloads; w++)
		for (unsigned i = 0; i < REPORT_PLOTS; i++) {
			char *path CLEANUP_FREE = report_plot_file(r, w, i, dir, suffix);

			if (path)
				unlink(path);
		}
}

static int write_script(const struct result *r, const char *dir, FILE *out, unsigned *n)
{
	*n = 0;
	for (unsigned w = 0; w < r->plan->nworkloads; w++)
		for (unsigned i = 0; i < REPORT_PLOTS; i++) {
			char *path CLEANUP_FREE = report_plot_file(r, w, i, dir, PART);

			if (!path)
				return -ENOMEM;
			*n += report_plot[i].script(r, w, path, out);
		}
	return 0;
}

static int put_in_place(const struct result *r, const char *dir, struct err *e)
{
	for (unsigned w = 0; w < r->plan->nworkloads; w++)
		for (unsigned i = 0; i < REPORT_PLOTS; i++) {
			char *part CLEANUP_FREE = report_plot_file(r, w, i, dir, PART);
			char *path CLEANUP_FREE = report_plot_file(r, w, i, dir, "");

			if (!part || !path)
				return err_set(e, -ENOMEM, "plots: no memory");
			if (rename(part, path) < 0 && errno != ENOENT) {
				int ret = -errno;

				return err_set(e, ret, "%s cannot be written: %s", path, strerror(-ret));
			}
		}
	return 0;
}

/* path: where the script is put meanwhile. */
static int draw(const struct result *r, const char *dir, const char *path, struct err *e)
{
	struct report_file script;
	unsigned n;
	int ret = report_file_open(&script, path, e);

	if (ret)
		return ret;
	if (write_script(r, dir, script.out, &n) < 0) {
		report_file_drop(&script);
		return err_set(e, -ENOMEM, "plots: no memory");
	}
	ret = report_file_close(&script, e);
	if (ret || !n)
		return ret;
	/* -d: without the user's own settings. */
	ret = PROCESS_RUN(e, (char *)(uintptr_t)report_gnuplot, (char *)(uintptr_t) "-d",
			  (char *)(uintptr_t)path);
	return ret ? ret : put_in_place(r, dir, e);
}

int report_plots(const struct result *r, const char *dir, struct err *e)
{
	char *path CLEANUP_FREE = NULL;
	int ret;

	forget(r, dir, "");
	if (!process_exists(report_gnuplot))
		return err_set(e, -ENOENT,
			       "no plots: there is no gnuplot in PATH, which draws them; "
			       "apt-get install gnuplot-nox");
	if (asprintf(&path, "%s%s/plots.%d.gnuplot", *dir == '/' ? "" : "./", dir, (int)getpid()) < 0) {
		path = NULL;
		return err_set(e, -ENOMEM, "plots: no memory");
	}
	ret = draw(r, dir, path, e);
	unlink(path);
	forget(r, dir, PART);
	return ret;
}
