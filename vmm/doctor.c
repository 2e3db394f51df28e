#include "vmm/doctor.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/doctor_checks.h"

#define EXIT_OURSELVES 125

const struct check_def doctor_checks[] = {
	{"kvm-device", true, check_kvm_device},
	{"kvm-api", true, check_kvm_api},
	{"kvm", true, check_kvm},
	{"kvm-nested", false, check_kvm_nested},
	{"cpus", false, check_cpus},
	{"hugepages-2M", false, check_hugepages_2m},
	{"hugepages-1G", false, check_hugepages_1g},
	{"shmem_enabled", false, check_shmem_enabled},
	{"memlock", false, check_memlock},
	{"nofile", false, check_nofile},
	{"io_uring", false, check_io_uring},
	{"tun", false, check_tun},
	{"vhost-net", false, check_vhost_net},
	{"vhost-vsock", false, check_vhost_vsock},
	{"vhost-scsi", false, check_vhost_scsi},
	{"vhost-vdpa", false, check_vhost_vdpa},
	{"vduse", false, check_vduse},
};
const size_t ndoctor_checks = ARRAY_SIZE(doctor_checks);

static const char *const status_names[] = {
	[CHECK_OK] = "ok",
	[CHECK_NOTE] = "note",
	[CHECK_SLOW] = "slow",
	[CHECK_MISSING] = "missing",
};

const struct check_def *doctor_check_find(const char *name)
{
	for (size_t i = 0; i < ndoctor_checks; i++)
		if (!strcmp(doctor_checks[i].name, name))
			return &doctor_checks[i];
	return NULL;
}

void check_set(struct check *c, enum check_status status, const char *fmt, ...)
{
	va_list ap;

	c->status = status;
	va_start(ap, fmt);
	vsnprintf(c->found, sizeof(c->found), fmt, ap);
	va_end(ap);
}

void check_mend(struct check *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->mend, sizeof(c->mend), fmt, ap);
	va_end(ap);
}

static void print_line(FILE *out, const char *name, const struct check *c)
{
	fprintf(out, "%-7s  %-13s  %s", status_names[c->status], name, c->found);
	if (c->mend[0])
		fprintf(out, "  -> %s", c->mend);
	fputc('\n', out);
}

/* 0, or -1 without memory. */
static int add_json(json_t *array, const char *name, const struct check *c)
{
	/* A path in it need not be UTF-8, which JSON wants; a report without it is better than none. */
	json_t *found = json_string(c->found);
	json_t *object = json_pack("{s:s, s:s, s:o, s:s?}", "name", name, "status", status_names[c->status],
				   "found", found ? found : json_null(), "mend", c->mend[0] ? c->mend : NULL);

	return object ? json_array_append_new(array, object) : -1;
}

/* --ci: what gives a job a KVM that it can use. */
static int report_mend(FILE *out, json_t *into, enum doctor_ci_kvm kvm)
{
	json_t *lines = into ? json_array() : NULL;
	const char *line;
	int rc = 0;

	if (!into)
		fputc('\n', out);
	for (unsigned state = 0; (line = doctor_ci_mend(kvm, &state));) {
		if (into)
			rc |= json_array_append_new(lines, json_string(line));
		else
			fprintf(out, "%s\n", line);
	}
	return into ? rc | json_object_set_new(into, "mend", lines) : 0;
}

/* The same facts as an object: usable, service, checks, mend. */
static int finish_ci(FILE *out, json_t **array, bool failed, bool kvm_fails, enum doctor_ci_kvm kvm)
{
	json_t *object = NULL;
	int rc = 0;

	if (*array) {
		object = json_pack("{s:b, s:s, s:o}", "usable", !failed, "service", doctor_ci_service(),
				   "checks", *array);
		*array = object;
		if (!object)
			return -1;
	}
	if (kvm_fails)
		rc = report_mend(out, object, kvm);
	if (!object)
		fprintf(out, "\n%s\n",
			failed ? "Not usable for \"ringlet run\": what is missing or slow above is needed."
			       : "Usable for \"ringlet run\".");
	return rc;
}

struct report {
	const struct doctor_config *cfg;
	FILE *out;
	const char *root;
	json_t *array; /* NULL: lines */
	bool failed, broken;
	bool kvm_fails;
	enum doctor_ci_kvm kvm;
};

static void report_check(struct report *r, const struct check_def *def)
{
	struct check c = {.status = CHECK_OK};

	def->probe(r->root, &c);
	if (r->cfg->ci && !def->needed && c.status > CHECK_NOTE)
		c.status = CHECK_NOTE;
	if (r->cfg->check)
		r->failed = c.status != CHECK_OK;
	else if (def->needed && (c.status == CHECK_MISSING || c.status == CHECK_SLOW))
		r->failed = true;
	/* The first that fails says which kind of trouble it is. */
	if (def->needed && !r->kvm_fails && !strncmp(def->name, "kvm", 3) && c.status != CHECK_OK) {
		r->kvm_fails = true;
		r->kvm = c.status == CHECK_SLOW               ? CI_KVM_SLOW
			 : doctor_exists(r->root, "/dev/kvm") ? CI_KVM_REFUSED
							      : CI_KVM_ABSENT;
	}
	if (r->array)
		r->broken |= add_json(r->array, def->name, &c) < 0;
	else if (!r->cfg->check || c.status != CHECK_OK)
		print_line(r->out, def->name, &c);
}

int doctor_report(FILE *out, const char *root, const struct doctor_config *cfg)
{
	const struct check_def *checks = cfg->ci ? doctor_ci_checks : doctor_checks;
	const size_t n = cfg->ci ? ndoctor_ci_checks : ndoctor_checks;
	struct report r = {.cfg = cfg, .out = out, .root = root, .array = cfg->json ? json_array() : NULL};

	r.broken = cfg->json && !r.array;
	assert(!cfg->check || doctor_check_find(cfg->check));
	if (cfg->ci && cfg->check) {
		log_error("doctor: --ci looks at all a job needs, --check at one thing: give one of them");
		json_decref(r.array);
		return EXIT_OURSELVES;
	}
	for (size_t i = 0; i < n; i++)
		if (!cfg->check || !strcmp(cfg->check, checks[i].name))
			report_check(&r, &checks[i]);
	if (cfg->ci && !r.broken)
		r.broken = finish_ci(out, &r.array, r.failed, r.kvm_fails, r.kvm) != 0;
	if (r.array) {
		r.broken |= json_dumpf(r.array, out, JSON_INDENT(2)) < 0;
		fputc('\n', out);
		json_decref(r.array);
	}
	if (fflush(out) || ferror(out) || r.broken) {
		log_error("doctor: the report could not be written");
		return EXIT_OURSELVES;
	}
	return r.failed ? 1 : 0;
}

int doctor_run(const struct doctor_config *cfg)
{
	return doctor_report(stdout, "", cfg);
}
