/* A result of three paths and one workload, all of it known, and a directory for what becomes of it. */
#ifndef TESTS_UNIT_COMPARE_REPORT_RIG_H
#define TESTS_UNIT_COMPARE_REPORT_RIG_H
#include <criterion/criterion.h>
#include <dirent.h>
#include <linux/virtio_ids.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compare/report.h"

#define ROUNDS 5
#define EVIL   "<b>&\"'`touch OH`\n\x1b[31m\xff,;$(x)@GPVAL"

static struct plan plan;
static struct result result;
static struct sample samples[PLAN_MAX_WORKLOADS][PLAN_MAX_PATHS][ROUNDS];
static char dir[] = "/tmp/ringlet-report-XXXXXX";
static char *text;

/* --- a result --- */

/* Rates of path p: 1000 (p + 1), a little more in each round; p50 half of that; all of it known. */
static inline void fill(unsigned w, unsigned p)
{
	result.cell[w][p].sample = samples[w][p];
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct sample *s = &samples[w][p][i];

		s->ok = true;
		for (unsigned m = 0; m < METRICS; m++)
			s->value[m] = 0.25 * m;
		s->value[METRIC_RATE] = 1000 * (p + 1) + i;
		s->value[METRIC_P50_US] = 500 * (p + 1) + i;
		s->value[METRIC_P99_US] = 800 * (p + 1) + i;
		for (unsigned k = 0; k < LATENCY_POINTS; k++)
			s->latency_us[k] = 10 * (k + 1) * (p + 1);
	}
}

static inline void paths(unsigned n)
{
	static const char *const names[] = {"tap", "vhost-net", "vhost-user mmio packed exit"};

	plan.npaths = n;
	for (unsigned p = 0; p < n; p++) {
		snprintf(plan.path[p].name, PLAN_NAME_SIZE, p < 3 ? "%s" : "%s %u", names[p % 3], p);
		result.features[p] = 0x100000003;
		for (unsigned w = 0; w < plan.nworkloads; w++)
			fill(w, p);
	}
}

static inline void setup(void)
{
	cr_assert(mkdtemp(dir));
	plan = (struct plan){.nworkloads = 1, .repeat = ROUNDS, .seconds = 5};
	plan.workload[0] = (struct workload){WORKLOAD_RR, "rr", "bit/s", "packet", "there and back", true};
	plan.workload[1] = (struct workload){WORKLOAD_PPS, "pps", "packets/s", "packet", "small frames", false};
	result = (struct result){.plan = &plan, .rounds = ROUNDS, .device_id = VIRTIO_ID_NET};
	snprintf(result.host, sizeof(result.host), "a machine");
	paths(3);
}

static inline void unknown(unsigned w, unsigned p, enum metric m, const char *why)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		samples[w][p][i].value[m] = NAN;
	result.cell[w][p].missing[m] = why;
}

static inline void all_unknown(void)
{
	for (unsigned p = 0; p < plan.npaths; p++) {
		for (unsigned m = 0; m < METRICS; m++)
			unknown(0, p, m, NULL);
		for (unsigned i = 0; i < ROUNDS; i++)
			for (unsigned k = 0; k < LATENCY_POINTS; k++)
				samples[0][p][i].latency_us[k] = NAN;
	}
}

static inline void fails(unsigned p, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++)
		samples[0][p][i].ok = false;
}

/* --- files --- */

static inline void teardown(void)
{
	DIR *d = opendir(dir);

	for (struct dirent *f = d ? readdir(d) : NULL; f; f = readdir(d))
		unlinkat(dirfd(d), f->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
	free(text);
}

static inline unsigned files(void)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	for (struct dirent *f = readdir(d); f; f = readdir(d))
		n += f->d_name[0] != '.';
	closedir(d);
	return n;
}

static inline char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* Into text; NULL: there is none. */
static inline const char *contents(const char *name)
{
	FILE *f = fopen(path_of(name), "r");
	size_t size = 0;

	free(text);
	text = NULL;
	if (!f)
		return NULL;
	if (getdelim(&text, &size, EOF, f) < 0)
		text[0] = '\0';
	fclose(f);
	return text;
}

static inline unsigned count(const char *in, const char *what)
{
	unsigned n = 0;

	for (const char *s = in; (s = strstr(s, what)); s += strlen(what))
		n++;
	return n;
}
#endif
