/* A result for programs.  These keys are promised: more may come, none goes or changes its meaning while
 * "format" is 1.  Numbers that are not known are null.
 *
 *	format           1
 *	ringlet          version
 *	started, command_line, host, kernel, guest    texts
 *	device           "net", "disk"
 *	guest_kind       "linux", "bare"
 *	features_wanted  "common", "best"
 *	rounds           done; rounds_planned; seconds, of a measurement
 *	quartiles        how they are made: "linear interpolation (type 7)"
 *	latency_percent  [number], those of every latency_us
 *	features         those in common: {bits: "0x...", names: [text], differ: bool}
 *	paths            [{name, kind, transport: "pci"|"mmio", ring: "split"|"packed",
 *	                   notify: "ioeventfd"|"exit", features: {bits, names} or null}]
 *	workloads        [{name, unit (of rate), each (what counts are divided by), what, has_latency,
 *	                   paths: [as above, in the same order]}], each
 *	  name
 *	  rounds         [{round, ok, METRIC: number, ..., latency_us: [number] or null}]; only ok where it
 *failed summary        {METRIC: {n, median, low, high, min, max}}; low and high are the quartiles ratio the
 *same of the rounds' ratios to the first path, and meaningless: bool latency_us     [number], the rounds'
 *medians, or null missing        {METRIC: why it is not known} notes          in the workload: [{mark: "-",
 *"!", "~", text}] METRIC: rate, p50_us, p99_us, cpu_vcpu, cpu_vmm, cpu_vhost, cpu_backend (processors kept
 *busy), exits, user_exits, kicks, interrupts, syscalls, syscalls_backend (of one "each"). */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "compare/report.h"
#include "compare/report_file.h"
#include "compare/report_metric.h"
#include "compare/report_notes.h"
#include "compare/report_text.h"
#include "devices/virtio/feature_names.h"
#include "lib/cleanup.h"

static const char *const kinds[] = {
	[PATH_TAP] = "tap",
	[PATH_USER] = "user",
	[PATH_VHOST_NET] = "vhost-net",
	[PATH_NET_VHOST_USER] = "vhost-user",
	[PATH_NET_VDPA] = "vdpa",
	[PATH_IN_PROCESS] = "in-process",
	[PATH_DISK_VHOST_USER] = "vhost-user",
	[PATH_DISK_VDPA] = "vdpa",
};

static json_t *number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

static json_t *text(const char *s)
{
	char clean[1024];

	return json_string(report_clean(s, clean, sizeof(clean)));
}

static json_t *features(const struct result *r, uint64_t bits)
{
	json_t *names = json_array(), *o = json_object();
	char one[64];

	for (unsigned bit = 0; bit < 64; bit++)
		if (bits >> bit & 1)
			json_array_append_new(names, text(feature_names(r->device_id, UINT64_C(1) << bit, one,
									sizeof(one))));
	snprintf(one, sizeof(one), "0x%" PRIx64, bits);
	json_object_set_new(o, "bits", text(one));
	json_object_set_new(o, "names", names);
	return o;
}

static json_t *path(const struct result *r, unsigned p)
{
	const struct path *is = &r->plan->path[p];
	json_t *o = json_object();

	json_object_set_new(o, "name", text(is->name));
	json_object_set_new(o, "kind", text(is->kind < ARRAY_SIZE(kinds) ? kinds[is->kind] : ""));
	json_object_set_new(o, "transport", text(is->mmio ? "mmio" : "pci"));
	json_object_set_new(o, "ring", text(is->packed ? "packed" : "split"));
	json_object_set_new(o, "notify", text(is->notify_exit ? "exit" : "ioeventfd"));
	json_object_set_new(o, "features", r->features[p] ? features(r, r->features[p]) : json_null());
	return o;
}

/* --- one cell --- */

static json_t *latencies(const double us[LATENCY_POINTS], bool known)
{
	json_t *a;

	for (unsigned i = 0; i < LATENCY_POINTS && !known; i++)
		known = isfinite(us[i]);
	if (!known)
		return json_null();
	a = json_array();
	for (unsigned i = 0; i < LATENCY_POINTS; i++)
		json_array_append_new(a, number(us[i]));
	return a;
}

static json_t *sample(const struct sample *s, unsigned round)
{
	json_t *o = json_object();

	json_object_set_new(o, "round", json_integer(round + 1));
	json_object_set_new(o, "ok", json_boolean(s && s->ok));
	if (!s || !s->ok)
		return o;
	for (unsigned m = 0; m < METRICS; m++)
		json_object_set_new(o, report_metrics[m].key, number(s->value[m]));
	json_object_set_new(o, "latency_us", latencies(s->latency_us, false));
	return o;
}

static json_t *summary(const struct summary *s)
{
	json_t *o = json_object();

	json_object_set_new(o, "n", json_integer(s->n));
	json_object_set_new(o, "median", number(s->median));
	json_object_set_new(o, "low", number(s->low));
	json_object_set_new(o, "high", number(s->high));
	json_object_set_new(o, "min", number(s->min));
	json_object_set_new(o, "max", number(s->max));
	return o;
}

static json_t *rounds(const struct result *r, unsigned w, unsigned p)
{
	const struct sample *s = r->cell[w][p].sample;
	json_t *a = json_array();

	for (unsigned i = 0; i < r->rounds; i++)
		json_array_append_new(a, sample(s ? &s[i] : NULL, i));
	return a;
}

static json_t *cell(const struct result *r, unsigned w, unsigned p)
{
	json_t *o = json_object(), *medians = json_object(), *ratios = json_object(), *missing = json_object();
	double us[LATENCY_POINTS];
	bool known;

	for (unsigned m = 0; m < METRICS; m++) {
		const char *key = report_metrics[m].key, *why = r->cell[w][p].missing[m];
		struct summary s;
		json_t *ratio;

		result_summary(r, w, p, m, &s);
		json_object_set_new(medians, key, summary(&s));
		result_ratio(r, w, p, m, &s);
		ratio = summary(&s);
		json_object_set_new(ratio, "meaningless", json_boolean(result_meaningless(&s)));
		json_object_set_new(ratios, key, ratio);
		if (why)
			json_object_set_new(missing, key, text(why));
	}
	json_object_set_new(o, "name", text(r->plan->path[p].name));
	json_object_set_new(o, "rounds", rounds(r, w, p));
	json_object_set_new(o, "summary", medians);
	json_object_set_new(o, "ratio", ratios);
	known = result_latency(r, w, p, us);
	json_object_set_new(o, "latency_us", known ? latencies(us, true) : json_null());
	json_object_set_new(o, "missing", missing);
	return o;
}

static void add_note(void *context, char mark, const char *sentence)
{
	const char m[2] = {mark, '\0'};
	json_t *o = json_object();

	json_object_set_new(o, "mark", text(m));
	json_object_set_new(o, "text", json_string(sentence));
	json_array_append_new(context, o);
}

static json_t *workload(const struct result *r, unsigned w)
{
	const struct workload *is = &r->plan->workload[w];
	json_t *o = json_object(), *paths = json_array(), *notes = json_array();

	json_object_set_new(o, "name", text(is->name));
	json_object_set_new(o, "unit", text(is->unit));
	json_object_set_new(o, "each", text(is->each));
	json_object_set_new(o, "what", text(is->what));
	json_object_set_new(o, "has_latency", json_boolean(is->has_latency));
	for (unsigned p = 0; p < r->plan->npaths; p++)
		json_array_append_new(paths, cell(r, w, p));
	json_object_set_new(o, "paths", paths);
	report_notes(r, w, add_note, notes);
	json_object_set_new(o, "notes", notes);
	return o;
}

/* --- all of it --- */

static json_t *result(const struct result *r)
{
	const struct plan *plan = r->plan;
	json_t *o = json_object(), *percents = json_array(), *paths = json_array(), *workloads = json_array();
	json_t *shared;
	uint64_t common;
	bool same = report_common_features(r, &common);

	for (unsigned i = 0; i < LATENCY_POINTS; i++)
		json_array_append_new(percents, number(latency_percent[i]));
	for (unsigned p = 0; p < plan->npaths; p++)
		json_array_append_new(paths, path(r, p));
	for (unsigned w = 0; w < plan->nworkloads; w++)
		json_array_append_new(workloads, workload(r, w));
	shared = features(r, common);
	json_object_set_new(shared, "differ", json_boolean(!same));
	json_object_set_new(o, "format", json_integer(1));
	json_object_set_new(o, "ringlet", text(r->version));
	json_object_set_new(o, "started", text(r->started));
	json_object_set_new(o, "command_line", text(r->command_line));
	json_object_set_new(o, "host", text(r->host));
	json_object_set_new(o, "kernel", text(r->kernel));
	json_object_set_new(o, "guest", text(r->guest));
	json_object_set_new(o, "device", text(plan->disk ? "disk" : "net"));
	json_object_set_new(o, "guest_kind", text(plan->guest == GUEST_BARE ? "bare" : "linux"));
	json_object_set_new(o, "features_wanted", text(plan->best ? "best" : "common"));
	json_object_set_new(o, "rounds", json_integer(r->rounds));
	json_object_set_new(o, "rounds_planned", json_integer(plan->repeat));
	json_object_set_new(o, "seconds", number(plan->seconds));
	json_object_set_new(o, "quartiles", text("linear interpolation (type 7)"));
	json_object_set_new(o, "latency_percent", percents);
	json_object_set_new(o, "features", shared);
	json_object_set_new(o, "paths", paths);
	json_object_set_new(o, "workloads", workloads);
	return o;
}

int report_json(const struct result *r, const char *where, struct err *e)
{
	struct report_file f;
	int ret = report_file_open(&f, where, e);
	json_t *o;

	if (ret)
		return ret;
	o = result(r);
	/* 12 digits are more than any of these has, and 0.1 stays 0.1. */
	ret = json_dumpf(o, f.out, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	json_decref(o);
	if (ret < 0 && !ferror(f.out)) {
		report_file_drop(&f);
		return err_set(e, -ENOMEM, "%s: no memory", where);
	}
	fputc('\n', f.out);
	return report_file_close(&f, e);
}
