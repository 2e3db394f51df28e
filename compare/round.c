#include "compare/round.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compare/counters.h"
#include "compare/guest.h"
#include "compare/process.h"
#include "compare/side.h"
#include "compare/words.h"
#include "compare/workloads.h"
#include "lib/cleanup.h"

#define BOOT_MS     120000              /* until a guest says its first word */
#define SLACK_MS    60000               /* ... and each other, besides what it measures */
#define COMMAND_MS  (24u * 3600 * 1000) /* nobody knows how long the user's own takes */
#define END_MS      20000
#define STOP_MS     3000
#define MAX_SERVERS 4

struct guest { /* while it runs */
	struct rounds *r;
	unsigned path, round;
	struct side side;
	struct process *server[MAX_SERVERS];
	unsigned nservers;
	struct process *vmm;
	char control[128];
	struct counters *counters;
	double value[METRICS]; /* what was counted */
	bool counting, counted, busy;
};

/* --- files --- */

static int write_bare(struct rounds *r, struct err *e)
{
	const size_t len = (size_t)((uintptr_t)guest_bare_elf_end - (uintptr_t)guest_bare_elf);
	CLEANUP_FD int fd = -1;

	snprintf(r->bare, sizeof(r->bare), "%s/bare.elf", r->host->dir);
	fd = open(r->bare, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, guest_bare_elf, len) != (ssize_t)len)
		return err_set(e, -errno, "%s: %s", r->bare, strerror(errno));
	return 0;
}

int rounds_new(struct rounds *r, struct host *h, struct result *result, struct err *e)
{
	const struct plan *p = result->plan;
	int rc;

	*r = (struct rounds){.host = h, .result = result};
	rc = write_bare(r, e);
	if (!rc && p->disk)
		rc = host_file_new(h, "disk", p->disk_bytes, r->file, sizeof(r->file), e);
	if (!rc && p->guest == GUEST_LINUX) {
		r->script = guest_linux_script(p);
		rc = r->script ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	return rc;
}

void rounds_free(struct rounds *r)
{
	free(r->script);
	*r = (struct rounds){0};
}

/* --- a guest --- */

static enum host_tap far_end(const struct plan *p, const struct workload *w)
{
	if (p->guest == GUEST_LINUX)
		return HOST_TAP_ADDRESS;
	return w && w->kind == WORKLOAD_RR ? HOST_TAP_BACK : HOST_TAP_SINK;
}

/* In a list of keys a comma is written twice. */
static int add_tools(struct words *v, const char *file, struct err *e)
{
	CLEANUP_FREE char *name = malloc(2 * strlen(file) + 1);
	char *out = name;

	if (!name)
		return err_set(e, -ENOMEM, "out of memory");
	do {
		if (*file == ',')
			*out++ = ',';
	} while ((*out++ = *file++));
	words_add(v, "--disk=path=%s,ro", name);
	return 0;
}

static int vmm_words(struct guest *g, const struct workload *w, bool probe, struct words *v, struct err *e)
{
	const struct rounds *r = g->r;
	const struct plan *p = r->result->plan;
	const bool bare = probe || p->guest == GUEST_BARE;
	CLEANUP_FREE char *append = NULL;
	int rc = 0;

	words_add(v, "ringlet");
	words_add(v, "run");
	words_add(v, "--control=%s", g->control);
	for (int i = 0; i < p->nrun; i++)
		words_add(v, "%s", p->run[i]);
	if (bare) {
		append = guest_bare_append(p, w, p->path[g->path].packed, probe);
		if (!append)
			return err_set(e, -ENOMEM, "out of memory");
		words_add(v, "--kernel=%s", r->bare);
		words_add(v, "--append=%s", append);
	} else {
		words_add(v, "--kernel=%s", p->kernel);
		words_add(v, "--initrd=%s", p->initrd);
		if (p->tools)
			rc = add_tools(v, p->tools, e);
	}
	side_option(&g->side, p, r->file, r->features, v);
	if (!bare) {
		words_add(v, "--");
		words_add(v, "sh");
		words_add(v, "-c");
		words_add(v, "%s", r->script);
		for (int i = 0; p->ncommand && i < p->ncommand + 1; i++)
			words_add(v, "%s", i ? p->command[i - 1] : "sh");
	}
	if (v->failed)
		rc = err_set(e, -E2BIG, "the command line of a guest is too long");
	return rc;
}

static int start_servers(struct guest *g, struct err *e)
{
	const struct plan *p = g->r->result->plan;
	char *const *argv;
	int rc = 0;

	for (unsigned i = 0; !rc && i < MAX_SERVERS && (argv = guest_host_server(p, i)); i++) {
		rc = process_start(&g->server[g->nservers], argv, -1, e);
		g->nservers += !rc;
	}
	return rc;
}

static void guest_stop(struct guest *g)
{
	counters_free(g->counters);
	process_stop(g->vmm, STOP_MS);
	for (unsigned i = 0; i < g->nservers; i++)
		process_stop(g->server[i], STOP_MS);
	side_stop(&g->side);
	unlink(g->control);
}

static int guest_start(struct guest *g, struct rounds *r, unsigned path, unsigned round,
		       const struct workload *w, bool probe, struct err *e)
{
	const struct plan *p = r->result->plan;
	struct words v = {0};
	int rc;

	*g = (struct guest){.r = r, .path = path, .round = round};
	snprintf(g->control, sizeof(g->control), "%s/control", r->host->dir);
	rc = side_start(&g->side, r->host, p, &p->path[path], probe ? HOST_TAP_SINK : far_end(p, w), r->file,
			e);
	if (rc)
		return rc;
	rc = probe || p->guest == GUEST_BARE ? 0 : start_servers(g, e);
	rc = rc ? rc : vmm_words(g, w, probe, &v, e);
	rc = rc ? rc : process_start(&g->vmm, v.word, -1, e);
	words_fini(&v);
	if (rc)
		guest_stop(g);
	return rc;
}

static int failed(struct guest *g, const char *what, struct err *e)
{
	return err_set(e, -EIO, "%s: %s\n%s", g->r->result->plan->path[g->path].name, what,
		       process_complaint(g->vmm));
}

/* 1: a line of the protocol; 0: the guest's output has ended. */
static int next_line(struct guest *g, unsigned timeout_ms, struct guest_line *l, struct err *e)
{
	const char *text;
	int rc;

	do {
		rc = process_line(g->vmm, timeout_ms, &text);
		if (rc > 0)
			guest_line(text, l);
	} while (rc > 0 && l->word == GUEST_OTHER);
	if (rc == -ECANCELED)
		return err_set(e, rc, "interrupted");
	return rc < 0 ? failed(g, "the guest says nothing any more", e) : rc;
}

/* --- what is offered --- */

static int probe(struct rounds *r, unsigned path, uint64_t *offered, struct err *e)
{
	struct guest_line l;
	struct guest g;
	int rc = guest_start(&g, r, path, 0, NULL, true, e);

	if (rc)
		return err_prefix(e, "%s", r->result->plan->path[path].name);
	do {
		rc = next_line(&g, BOOT_MS, &l, e);
	} while (rc > 0 && l.word != GUEST_OFFERED);
	if (rc > 0)
		*offered = l.bits;
	else if (!rc)
		failed(&g, "the guest has ended without a word", e);
	guest_stop(&g);
	return rc > 0 ? 0 : e->code;
}

int rounds_probe(struct rounds *r, struct err *e)
{
	const struct plan *p = r->result->plan;
	const uint64_t packed = UINT64_C(1) << VIRTIO_F_RING_PACKED;
	uint64_t all = UINT64_MAX, offered = 0;

	r->features = UINT64_MAX;
	for (unsigned i = 0; i < p->npaths; i++) {
		int rc = probe(r, i, &offered, e);

		if (rc)
			return rc;
		if (p->path[i].packed && !(offered & packed))
			return err_set(e, -ENOTSUP,
				       "%s: it does not serve packed rings; leave --ring packed out",
				       p->path[i].name);
		all &= offered | packed;
	}
	r->features = p->best ? 0 : all;
	return 0;
}

/* --- measurements --- */

static int find_workload(const struct plan *p, const char *name)
{
	for (unsigned i = 0; i < p->nworkloads; i++)
		if (!strcmp(p->workload[i].name, name))
			return (int)i;
	return -1;
}

static struct cell *cell_of(struct guest *g, unsigned workload)
{
	return &g->r->result->cell[workload][g->path];
}

static struct sample *sample_of(struct guest *g, unsigned workload)
{
	return &cell_of(g, workload)->sample[g->round];
}

/* Linux's tools are its first disk. */
static const char *device_name(const struct plan *p)
{
	if (!p->disk)
		return "net0";
	return p->guest == GUEST_LINUX && p->tools ? "disk1" : "disk0";
}

/* Takes a while, so it comes when the guest has its driver and not when it begins to work. */
static int attach(struct guest *g, struct err *e)
{
	const pid_t backend = g->side.backend ? process_pid(g->side.backend) : 0;

	return g->counters ? 0
			   : counters_new(&g->counters, process_pid(g->vmm), g->control,
					  device_name(g->r->result->plan), backend, e);
}

static int begin(struct guest *g, bool busy, struct err *e)
{
	int rc = attach(g, e);

	rc = rc ? rc : counters_begin(g->counters, e);
	g->counted = false;
	g->counting = !rc;
	g->busy = busy;
	return rc;
}

static int stop(struct guest *g, struct err *e)
{
	int rc = g->counting ? counters_end(g->counters, g->value, e)
			     : failed(g, "a measurement ends that has not begun", e);

	g->counting = false;
	g->counted = !rc;
	return rc;
}

/* Totals of `window` seconds become shares of the work.  Who is idle around it has done l->count in all that
 * time; who is busy has been looked at a little earlier or later than his counts. */
static void share(double value[METRICS], const struct guest_line *l, double window, bool busy)
{
	const double count = busy ? l->count / l->seconds * window : l->count;

	for (unsigned m = METRIC_CPU_VCPU; m <= METRIC_CPU_BACKEND; m++)
		value[m] *= busy ? 1 : window / l->seconds;
	for (unsigned m = METRIC_EXITS; m < METRICS; m++)
		value[m] = count > 0 ? value[m] / count : NAN;
}

static int end(struct guest *g, unsigned workload, const struct guest_line *l, struct err *e)
{
	struct sample *s = sample_of(g, workload);
	struct cell *c = cell_of(g, workload);
	int rc = g->counted ? 0 : stop(g, e);

	if (rc)
		return rc;
	g->counted = false;
	memcpy(s->value, g->value, sizeof(s->value));
	s->value[METRIC_P50_US] = s->value[METRIC_P99_US] = NAN;
	s->value[METRIC_RATE] = l->rate;
	share(s->value, l, counters_seconds(g->counters), g->busy);
	for (unsigned m = 0; m < METRICS; m++)
		c->missing[m] = counters_missing(g->counters, (enum metric)m);
	s->ok = true;
	return 0;
}

static void latency(struct guest *g, unsigned workload, const struct guest_line *l)
{
	struct sample *s = sample_of(g, workload);

	memcpy(s->latency_us, l->latency_us, sizeof(s->latency_us));
	for (unsigned i = 0; i < LATENCY_POINTS; i++) {
		if (latency_percent[i] == 50)
			s->value[METRIC_P50_US] = l->latency_us[i];
		if (latency_percent[i] == 99)
			s->value[METRIC_P99_US] = l->latency_us[i];
	}
}

static int features(struct guest *g, uint64_t bits, struct err *e)
{
	uint64_t *have = &g->r->result->features[g->path];

	if (*have && *have != bits)
		return err_set(e, -EPROTO,
			       "%s: its driver took features 0x%" PRIx64 " and another time 0x%" PRIx64,
			       g->r->result->plan->path[g->path].name, *have, bits);
	*have = bits;
	return attach(g, e);
}

static int take(struct guest *g, const struct guest_line *l, struct err *e)
{
	const struct plan *p = g->r->result->plan;
	const int w = l->word == GUEST_FEATURES || l->word == GUEST_OFFERED ? 0 : find_workload(p, l->workload);

	if (l->word == GUEST_FAILED)
		return err_set(e, -EIO, "%s: %s", p->path[g->path].name, l->why);
	if (w < 0)
		return err_set(e, -EPROTO, "%s: the guest speaks of \"%s\"", p->path[g->path].name,
			       l->workload);
	switch (l->word) {
	case GUEST_FEATURES:
		return features(g, l->bits, e);
	case GUEST_BEGIN:
		return begin(g, l->busy, e);
	case GUEST_STOP:
		return stop(g, e);
	case GUEST_END:
		return end(g, (unsigned)w, l, e);
	case GUEST_LATENCY:
		latency(g, (unsigned)w, l);
		return 0;
	case GUEST_OFFERED:
	case GUEST_FAILED:
	case GUEST_OTHER:
		return 0;
	}
	return 0;
}

static void blank(struct sample *s)
{
	*s = (struct sample){.ok = false};
	for (unsigned m = 0; m < METRICS; m++)
		s->value[m] = NAN;
	for (unsigned i = 0; i < LATENCY_POINTS; i++)
		s->latency_us[i] = NAN;
}

/* One guest does the workloads from `first` to before `past`.  A workload that fails does not end the others.
 */
static int run_guest(struct guest *g, unsigned first, unsigned past, struct err *e)
{
	const struct plan *p = g->r->result->plan;
	const unsigned wait_ms = SLACK_MS + (unsigned)(p->seconds * 2000);
	struct err this = {0};
	struct guest_line l;
	unsigned timeout_ms = BOOT_MS;
	int rc;

	e->code = 0;
	while ((rc = next_line(g, timeout_ms, &l, &this)) > 0) {
		timeout_ms = l.word == GUEST_BEGIN && !strcmp(l.workload, "command") ? COMMAND_MS : wait_ms;
		if (take(g, &l, &this) && !e->code)
			*e = this;
	}
	if (!rc && process_wait(g->vmm, END_MS) && !e->code)
		failed(g, "the guest has failed", e);
	for (unsigned i = first; i < past && !rc && !e->code; i++)
		if (!sample_of(g, i)->ok)
			failed(g, "the guest has ended before its work", e);
	if (rc && (!e->code || rc == -ECANCELED))
		*e = this;
	return e->code;
}

int rounds_run(struct rounds *r, unsigned path, unsigned round, struct err *e)
{
	const struct plan *p = r->result->plan;
	/* A bare guest does one thing. */
	const unsigned step = p->guest == GUEST_LINUX ? p->nworkloads : 1;
	struct err first = {0};

	for (unsigned i = 0; i < p->nworkloads; i++)
		blank(&r->result->cell[i][path].sample[round]);
	for (unsigned i = 0; i < p->nworkloads; i += step) {
		struct guest g;
		int rc = guest_start(&g, r, path, round, &p->workload[i], false, e);

		if (rc) {
			err_prefix(e, "%s", p->path[path].name);
		} else {
			rc = run_guest(&g, i, i + step, e);
			guest_stop(&g);
		}
		if (rc == -ECANCELED)
			return rc;
		if (rc && !first.code)
			first = *e;
	}
	*e = first;
	return first.code;
}
