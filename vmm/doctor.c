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

int doctor_report(FILE *out, const char *root, const struct doctor_config *cfg)
{
	json_t *array = cfg->json ? json_array() : NULL;
	bool failed = false, broken = cfg->json && !array;

	assert(!cfg->check || doctor_check_find(cfg->check));
	for (size_t i = 0; i < ndoctor_checks; i++) {
		const struct check_def *def = &doctor_checks[i];
		struct check c = {.status = CHECK_OK};
		bool ok;

		if (cfg->check && strcmp(cfg->check, def->name) != 0)
			continue;
		def->probe(root, &c);
		ok = c.status == CHECK_OK;
		if (cfg->check)
			failed = !ok;
		else if (def->needed && (c.status == CHECK_MISSING || c.status == CHECK_SLOW))
			failed = true;
		if (array)
			broken |= add_json(array, def->name, &c) < 0;
		else if (!cfg->check || !ok)
			print_line(out, def->name, &c);
	}
	if (array) {
		broken |= json_dumpf(array, out, JSON_INDENT(2)) < 0;
		fputc('\n', out);
		json_decref(array);
	}
	if (fflush(out) || ferror(out) || broken) {
		log_error("doctor: the report could not be written");
		return EXIT_OURSELVES;
	}
	return failed ? 1 : 0;
}

int doctor_run(const struct doctor_config *cfg)
{
	return doctor_report(stdout, "", cfg);
}
