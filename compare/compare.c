/* The composition root of a comparison: plan, host, rounds, reports. */
#include "compare/compare.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "compare/check.h"
#include "compare/host.h"
#include "compare/options.h"
#include "compare/process.h"
#include "compare/progress.h"
#include "compare/report.h"
#include "compare/round.h"
#include "lib/log.h"
#include "vmm/version.h"

#define STATUS_PARTLY      1
#define STATUS_FAILED      125
#define STATUS_INTERRUPTED 130

/* --- the result --- */

static void describe(struct result *r, int argc, char *const argv[])
{
	const struct plan *p = r->plan;
	const time_t now = time(NULL);
	struct utsname u;
	struct tm tm;
	size_t len;

	if (!uname(&u))
		snprintf(r->host, sizeof(r->host), "%.40s %.60s, %ld processors", u.sysname, u.release,
			 sysconf(_SC_NPROCESSORS_ONLN));
	snprintf(r->kernel, sizeof(r->kernel), "%s", p->guest == GUEST_LINUX ? p->kernel : "");
	snprintf(r->guest, sizeof(r->guest), p->guest == GUEST_LINUX ? "Linux" : "bare: no OS, in ring 3");
	snprintf(r->version, sizeof(r->version), "%s", RINGLET_VERSION);
	if (gmtime_r(&now, &tm))
		strftime(r->started, sizeof(r->started), "%Y-%m-%dT%H:%M:%SZ", &tm);
	len = (size_t)snprintf(r->command_line, sizeof(r->command_line), "ringlet compare");
	for (int i = 0; i < argc && len < sizeof(r->command_line); i++)
		len += (size_t)snprintf(r->command_line + len, sizeof(r->command_line) - len, " %s", argv[i]);
}

static int result_new(struct result *r, const struct plan *p, struct err *e)
{
	*r = (struct result){.plan = p, .device_id = p->disk ? VIRTIO_ID_BLOCK : VIRTIO_ID_NET};
	for (unsigned w = 0; w < p->nworkloads; w++) {
		for (unsigned i = 0; i < p->npaths; i++) {
			struct cell *c = &r->cell[w][i];

			c->sample = calloc(p->repeat, sizeof(*c->sample));
			if (!c->sample)
				return err_set(e, -ENOMEM, "out of memory");
		}
	}
	return 0;
}

static void result_free(struct result *r)
{
	for (unsigned w = 0; w < PLAN_MAX_WORKLOADS; w++)
		for (unsigned i = 0; i < PLAN_MAX_PATHS; i++)
			free(r->cell[w][i].sample);
}

/* Every path and workload has given a figure. */
static bool complete(const struct result *r)
{
	for (unsigned w = 0; w < r->plan->nworkloads; w++) {
		for (unsigned i = 0; i < r->plan->npaths; i++) {
			struct summary s;

			result_summary(r, w, i, METRIC_RATE, &s);
			if (!s.n)
				return false;
		}
	}
	return true;
}

/* --- rounds --- */

/* There and back again, so that what drifts with time is not one path's. */
static unsigned turn(const struct plan *p, unsigned round, unsigned i)
{
	return round % 2 ? p->npaths - 1 - i : i;
}

static bool gave_nothing(const struct result *r, unsigned path)
{
	for (unsigned w = 0; w < r->plan->nworkloads; w++)
		if (r->cell[w][path].sample[0].ok)
			return false;
	return true;
}

static int measure(struct rounds *rounds, struct result *r, struct err *e)
{
	const struct plan *p = r->plan;

	for (unsigned round = 0; round < p->repeat; round++) {
		for (unsigned i = 0; i < p->npaths; i++) {
			const unsigned path = turn(p, round, i);
			int rc;

			progress_begin(p, round, path);
			rc = rounds_run(rounds, path, round, e);
			if (rc == -ECANCELED)
				return rc;
			progress_end(r, round, path);
			/* Nothing at all is not chance, and the other rounds would be like this one. */
			if (rc && !round && gave_nothing(r, path))
				return rc;
			if (rc)
				log_warn("round %u: %s", round + 1, e->text);
		}
		r->rounds = round + 1;
	}
	return 0;
}

/* --- reports --- */

static unsigned columns(void)
{
	struct winsize w;

	return !isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) ? 0 : w.ws_col;
}

static int write_reports(const struct result *r, const char *dir, struct err *e)
{
	char path[4096];
	int rc;

	if (snprintf(path, sizeof(path), "%s/result.json", dir) >= (int)sizeof(path))
		return err_set(e, -ENAMETOOLONG, "--out: the name is too long");
	rc = report_json(r, path, e);
	snprintf(path, sizeof(path), "%s/result.csv", dir);
	rc = rc ? rc : report_csv(r, path, e);
	rc = rc ? rc : report_plots(r, dir, e);
	if (rc == -ENOENT) { /* the figures are there, and the page says what is not */
		log_warn("%s", e->text);
		rc = 0;
	}
	rc = rc ? rc : report_html(r, dir, e);
	if (!rc)
		printf("\n%s/report.html has tables and plots\n", dir);
	return rc;
}

/* Before hours of work, not after. */
static int make_out(const char *dir, struct err *e)
{
	if (mkdir(dir, 0777) && errno != EEXIST)
		return err_set(e, -errno, "compare: --out %s: %s", dir, strerror(errno));
	if (access(dir, W_OK | X_OK))
		return err_set(e, -errno, "compare: --out %s: %s", dir, strerror(errno));
	return 0;
}

/* --- the whole --- */

static int run(struct result *r, struct err *e)
{
	struct rounds rounds = {0};
	struct host host;
	int rc = host_new(&host, e);

	if (rc)
		return rc;
	rc = rounds_new(&rounds, &host, r, e);
	rc = rc ? rc : rounds_probe(&rounds, e);
	rc = rc ? rc : measure(&rounds, r, e);
	rounds_free(&rounds);
	host_free(&host);
	progress_clear();
	return rc;
}

static int compare(const struct plan *p, int argc, char *const argv[], struct result *r, struct err *e)
{
	int rc = check_plan(p, e);

	rc = rc ? rc : p->out ? make_out(p->out, e) : 0;
	rc = rc ? rc : result_new(r, p, e);
	if (rc)
		return rc;
	describe(r, argc, argv);
	process_catch_signals();
	rc = run(r, e);
	if (rc)
		return rc;
	report_table(r, columns(), stdout);
	return p->out ? write_reports(r, p->out, e) : 0;
}

int compare_main(int argc, char *const argv[])
{
	static struct result r;
	static struct plan p;
	struct err e = {0};
	int rc = options_parse(&p, argc, argv, &e), status = STATUS_FAILED;

	if (rc > 0) {
		fputs(options_help, stdout);
		status = 0;
	} else if (!rc) {
		rc = compare(&p, argc, argv, &r, &e);
		status = rc == -ECANCELED ? STATUS_INTERRUPTED
			 : rc             ? STATUS_FAILED
			 : complete(&r)   ? 0
					  : STATUS_PARTLY;
	}
	if (rc < 0)
		log_error("%s", e.text);
	result_free(&r);
	options_free(&p);
	return status;
}
