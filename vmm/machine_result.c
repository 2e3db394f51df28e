/* What is told of a run: --stats, --result, --junit. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/junit.h"
#include "lib/log.h"
#include "lib/outfile.h"
#include "vmm/machine_parts.h"
#include "vmm/result.h"

/* The process's CPU time so far is what lies between exec() and now: nobody has waited for anything yet. */
static void note_exec(struct machine *m)
{
	const uint64_t age = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	const uint64_t date = clock_ns(CLOCK_REALTIME) - age;

	m->exec_ns = clock_ns(CLOCK_MONOTONIC) - age;
	m->exec_date.tv_sec = (time_t)(date / 1000000000u);
	m->exec_date.tv_nsec = (long)(date % 1000000000u);
}

static char *run_line(const struct config *cfg)
{
	size_t size = (size_t)config_print_run(cfg, NULL, 0) + 1;
	char *line = malloc(size);

	if (line)
		config_print_run(cfg, line, size);
	return line;
}

static struct result facts(const struct machine *m, int status, const char *why)
{
	const struct machine_command *c = &m->command;
	const struct payload *p = &m->payload;
	struct result r = {
		.status = status,
		.outcome = outcome_name(m->outcome),
		.reason = why,
		.command = m->cfg->argv,
		.command_status = c->answer_ns ? c->how.status : -1,
		.kernel = p->kernel_path,
		.version = p->kernel.version[0] ? p->kernel.version : NULL,
		.cmdline = p->cmdline[0] ? p->cmdline : NULL,
		.started = m->exec_date,
		.exec_ns = m->exec_ns,
		.log = m->cfg->log,
	};

	if (c->init_ns && c->release[0])
		r.version = c->release;
	if (m->stats.first_run_ns)
		r.time_ns[RESULT_KERNEL] = m->started_ns + m->stats.first_run_ns;
	r.time_ns[RESULT_INIT] = c->init_ns;
	r.time_ns[RESULT_COMMAND] = c->started_ns;
	r.time_ns[RESULT_ANSWER] = c->answer_ns;
	return r;
}

static int reserve(const char *option, const char *path, struct err *e)
{
	int rc = path ? outfile_reserve(path) : 0;

	return rc ? err_set(e, rc, "%s %s: %s", option, path, strerror(-rc)) : 0;
}

int machine_result_reserve(const struct machine *m, struct err *e)
{
	int rc = reserve("--result", m->cfg->result, e);

	rc = rc ? rc : reserve("--junit", m->cfg->junit, e);
	return rc ? rc : reserve("--stats", m->cfg->stats_path, e);
}

static int write_junit(const struct machine *m, const struct result *r, struct err *e)
{
	CLEANUP_FREE char *name = NULL, *class_name = NULL;
	struct junit_case c = {
		.seconds = (double)(r->time_ns[RESULT_END] - r->exec_ns) / 1e9,
		.kind = r->outcome,
		.system_out = r->tail,
	};
	char answer[64];
	size_t len = 0;
	FILE *out = open_memstream(&name, &len);

	if (!out)
		return err_set(e, -errno, "--junit: %s", strerror(errno));
	for (unsigned i = 0; m->cfg->argv && m->cfg->argv[i]; i++)
		fprintf(out, "%s%s", i ? " " : "", m->cfg->argv[i]);
	if (!m->cfg->argv)
		fputs("boot", out);
	if (fclose(out) || asprintf(&class_name, "ringlet.%s", r->version ? r->version : "unknown") < 0) {
		class_name = NULL;
		return err_set(e, -ENOMEM, "--junit: out of memory");
	}
	c.name = name;
	c.classname = class_name;
	snprintf(answer, sizeof(answer), "exit status %d", r->status);
	if (r->status == STATUS_FAILED)
		c.error = *r->reason ? r->reason : answer;
	else if (r->status)
		c.failure = *r->reason ? r->reason : answer;
	return junit_write(m->cfg->junit, "ringlet run", &c, 1, e);
}

int machine_result_begin(struct machine *m, const struct config *cfg, struct err *e)
{
	CLEANUP_FREE char *line = NULL;
	struct result r;
	int rc = 0;

	note_exec(m);
	if (!cfg->run.result && !cfg->run.junit)
		return 0;
	line = run_line(cfg);
	r = facts(m, STATUS_FAILED, "the run has not come to its end");
	r.run = line;
	if (cfg->run.result)
		rc = result_write(&r, cfg->run.result, e);
	if (!rc && cfg->run.junit) {
		r.time_ns[RESULT_END] = r.exec_ns;
		rc = write_junit(m, &r, e);
	}
	return rc;
}

static int write_stats(struct machine *m, const struct devices_report *devices, struct err *e)
{
	const struct run_config *cfg = m->cfg;
	int rc = 0;

	if (cfg->stats && !cfg->stats_path)
		stats_print(&m->stats, devices, stderr);
	if (cfg->stats_path)
		rc = stats_write_json(&m->stats, devices, cfg->stats_path);
	return rc ? err_set(e, rc, "--stats %s: %s", cfg->stats_path, strerror(-rc)) : 0;
}

static int tell(struct machine *m, const struct config *cfg, const struct devices_report *devices, int status,
		const char *why, const char *tail, struct err *e)
{
	CLEANUP_FREE char *line = run_line(cfg), *counters = NULL;
	struct result r = facts(m, status, why);
	char oops[TROUBLES][WORDS_LINE] = {""};
	int rc = devices ? write_stats(m, devices, e) : 0;

	for (unsigned kind = 0; m->console && kind < TROUBLES; kind++)
		console_trouble(m->console, (enum trouble)kind, oops[kind]);
	r.oops = *oops[TROUBLE_OOPS] ? oops[TROUBLE_OOPS] : *oops[TROUBLE_LOCKUP] ? oops[TROUBLE_LOCKUP] : NULL;
	r.time_ns[RESULT_END] = clock_ns(CLOCK_MONOTONIC);
	r.tail = tail;
	r.run = line;
	if (!rc && cfg->run.result) {
		r.counters = counters = devices ? stats_json(&m->stats, devices) : NULL;
		rc = result_write(&r, cfg->run.result, e);
	}
	if (!rc && cfg->run.junit)
		rc = write_junit(m, &r, e);
	return rc;
}

int machine_result_end(struct machine *m, const struct config *cfg, int status, const char *why,
		       const char *tail)
{
	struct devices_report devices;
	struct err e = {0};
	int rc;

	m->stats.status = status;
	m->stats.console_bytes = m->console_bytes;
	m->stats.run_ns = clock_ns(CLOCK_MONOTONIC) - m->started_ns - m->stats.first_run_ns;
	rc = m->inst ? devices_report(m->devices, &devices) : 0;
	if (rc)
		err_set(&e, rc, "--stats: %s", strerror(-rc));
	else
		rc = tell(m, cfg, m->inst ? &devices : NULL, status, why, tail, &e);
	if (m->inst)
		devices_report_free(&devices);
	if (rc)
		log_error("%s", e.text);
	outfile_forget();
	return rc;
}
