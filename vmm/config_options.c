#include "vmm/config_options.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/config_values.h"
#include "vmm/control.h"
#include "vmm/doctor_checks.h"

#define PANIC_WORDS  "exit hang reboot"
#define REBOOT_WORDS "exit again"
#define TRACE_WORDS  "control"

void config_defaults(struct run_config *run)
{
	*run = (struct run_config){
		.default_append = true,
		.unpack = true,
		.mem = {.size = 512 * MIB, .share = true, .thp = true},
		.cpu = {.n = 1, .sockets = 1, .cores = 1, .threads = 1},
		.panic = PANIC_EXIT,
		.reboot = REBOOT_EXIT,
		.sandbox = true,
	};
}

/* --mem */

struct mem_list {
	struct config *cfg;
	struct mem_config mem;
	bool prealloc_refused;
};

static int mem_size(void *dst, const char *value, struct err *e)
{
	return value_size(value, &((struct mem_list *)dst)->mem.size, e);
}

static int mem_hugepages(void *dst, const char *value, struct err *e)
{
	struct mem_config *mem = &((struct mem_list *)dst)->mem;
	uint64_t size;
	bool on;

	if (value_switch(value, &on, NULL) == 0) {
		if (!on)
			mem->hugepage_size = 0;
		else if (!mem->hugepage_size)
			mem->hugepage_size = 2 * MIB;
		return 0;
	}
	if (config_parse_size(value, &size) < 0 || (size != 2 * MIB && size != GIB))
		return err_set(e, -EINVAL, "\"%s\" is none of: 2M 1G on off", value);
	mem->hugepage_size = size;
	return 0;
}

static int mem_path(void *dst, const char *value, struct err *e)
{
	struct mem_list *list = dst;

	if (!*value)
		return err_set(e, -EINVAL, "expected a directory, found nothing");
	if (strlen(value) >= PATH_MAX)
		return err_set(e, -EINVAL, "longer than a path can be (%d bytes)", PATH_MAX - 1);
	list->mem.path = config_keep(list->cfg, value);
	return list->mem.path ? 0 : err_set(e, -ENOMEM, "no memory left");
}

static int mem_share(void *dst, const char *value, struct err *e)
{
	return value_switch(value, &((struct mem_list *)dst)->mem.share, e);
}

static int mem_thp(void *dst, const char *value, struct err *e)
{
	return value_switch(value, &((struct mem_list *)dst)->mem.thp, e);
}

static int mem_prealloc(void *dst, const char *value, struct err *e)
{
	struct mem_list *list = dst;
	int r = value_switch(value, &list->mem.prealloc, e);

	list->prealloc_refused = r == 0 && !list->mem.prealloc;
	return r;
}

#define NO_HOTPLUG "memory is not added later; say its whole size once"

static const struct key_def mem_keys[] = {
	{.name = "size", .set = mem_size},
	{.name = "hugepages", .words = "2M 1G on off", .bare = true, .set = mem_hugepages},
	{.name = "path", .directory = true, .set = mem_path},
	{.name = "share", .words = "on off", .bare = true, .set = mem_share},
	{.name = "thp", .words = "on off", .bare = true, .set = mem_thp},
	{.name = "prealloc", .words = "on off", .bare = true, .set = mem_prealloc},
	{.name = "hugepage_size", .stands_for = "hugepages"},
	{.name = "shared", .stands_for = "share"},
	{.name = "prefault", .stands_for = "prealloc"},
	{.name = "maxmem", .hint = NO_HOTPLUG},
	{.name = "slots", .hint = NO_HOTPLUG},
	{.name = "hotplug_size", .hint = NO_HOTPLUG},
	{.name = "hotplug_method", .hint = NO_HOTPLUG},
	{.name = "mergeable", .hint = "shared memory is never merged; leave it out"},
	{.name = NULL},
};

static int check_mem(const struct mem_config *mem, struct err *e)
{
	uint64_t step = mem->hugepage_size ? mem->hugepage_size : 2 * MIB;
	char size[32], page[32], below[32], above[32], limit[32];

	format_size(mem->size, size, sizeof(size));
	format_size(step, page, sizeof(page));
	if (mem->size < CONFIG_MIN_MEM) {
		format_size(CONFIG_MIN_MEM, limit, sizeof(limit));
		return err_set(e, -EINVAL, "%s is too little for a kernel; at least %s", size, limit);
	}
	if (mem->size > CONFIG_MAX_MEM) {
		format_size(CONFIG_MAX_MEM, limit, sizeof(limit));
		return err_set(e, -EINVAL,
			       "%s is more than a host can address (%s); a bare number is MiB, "
			       "not bytes",
			       size, limit);
	}
	if (mem->size % step == 0)
		return 0;
	format_size(mem->size / step * step, below, sizeof(below));
	format_size((mem->size / step + 1) * step, above, sizeof(above));
	if (mem->size < step)
		return err_set(e, -EINVAL, "%s is no multiple of the page size %s; nearest is %s", size, page,
			       above);
	return err_set(e, -EINVAL, "%s is no multiple of %s%s; nearest are %s and %s", size,
		       mem->hugepage_size ? "the page size " : "", page, below, above);
}

static int apply_mem(struct config *cfg, const char *value, struct err *e)
{
	struct mem_list list = {.cfg = cfg, .mem = {.size = 512 * MIB, .share = true, .thp = true}};
	int r = keys_parse(value, mem_keys, &list, e);

	if (r < 0)
		return r;
	if (list.mem.hugepage_size && list.prealloc_refused)
		return err_set(e, -EINVAL,
			       "prealloc=off cannot go with huge pages: one that is missing later "
			       "would kill the guest");
	list.mem.prealloc |= list.mem.hugepage_size != 0;
	r = check_mem(&list.mem, e);
	if (r == 0)
		cfg->run.mem = list.mem;
	return r;
}

/* --cpus */

static int cpus_n(void *dst, const char *value, struct err *e)
{
	return value_number(value, 1, CONFIG_MAX_CPUS, &((struct cpu_config *)dst)->n, e);
}

static int cpus_sockets(void *dst, const char *value, struct err *e)
{
	return value_number(value, 1, CONFIG_MAX_CPUS, &((struct cpu_config *)dst)->sockets, e);
}

static int cpus_cores(void *dst, const char *value, struct err *e)
{
	return value_number(value, 1, CONFIG_MAX_CPUS, &((struct cpu_config *)dst)->cores, e);
}

static int cpus_threads(void *dst, const char *value, struct err *e)
{
	return value_number(value, 1, CONFIG_MAX_CPUS, &((struct cpu_config *)dst)->threads, e);
}

static int cpus_pin(void *dst, const char *value, struct err *e)
{
	struct cpu_config *cpu = dst;

	return value_cpu_list(value, cpu->pin, CONFIG_MAX_CPUS, &cpu->npin, e);
}

#define NO_CPU_HOTPLUG "vCPUs are not added later; say their number once"

static const struct key_def cpus_keys[] = {
	{.name = "n", .set = cpus_n},
	{.name = "sockets", .set = cpus_sockets},
	{.name = "cores", .set = cpus_cores},
	{.name = "threads", .set = cpus_threads},
	{.name = "pin", .set = cpus_pin},
	{.name = "cpus", .stands_for = "n"},
	{.name = "boot", .stands_for = "n"},
	{.name = "num-cores", .stands_for = "n"},
	{.name = "max", .hint = NO_CPU_HOTPLUG},
	{.name = "maxcpus", .hint = NO_CPU_HOTPLUG},
	{.name = "topology", .hint = "say sockets=, cores= and threads="},
	{.name = "affinity", .hint = "say pin=2-5: vCPU 0 runs on host CPU 2, and so on"},
	{.name = "dies", .hint = "there are sockets=, cores= and threads="},
	{.name = "clusters", .hint = "there are sockets=, cores= and threads="},
	{.name = NULL},
};

static int fill_topology(struct cpu_config *cpu, struct err *e)
{
	unsigned *const part[] = {&cpu->cores, &cpu->sockets, &cpu->threads};
	uint64_t product = 1;
	unsigned *missing = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(part); i++) {
		if (*part[i])
			product *= *part[i];
		else if (!missing)
			missing = part[i];
		else
			*part[i] = 1;
	}
	if (!cpu->n) {
		if (product > CONFIG_MAX_CPUS)
			return err_set(e, -EINVAL, "sockets, cores and threads make %llu vCPUs; at most %d",
				       (unsigned long long)product, CONFIG_MAX_CPUS);
		cpu->n = (unsigned)product;
	}
	if (missing) {
		if (cpu->n % product)
			return err_set(e, -EINVAL,
				       "%u vCPUs cannot be shared out evenly: the given sockets, "
				       "cores and threads make %llu each",
				       cpu->n, (unsigned long long)product);
		*missing = (unsigned)(cpu->n / product);
	} else if (product != cpu->n) {
		return err_set(e, -EINVAL, "sockets=%u x cores=%u x threads=%u make %llu, not %u", cpu->sockets,
			       cpu->cores, cpu->threads, (unsigned long long)product, cpu->n);
	}
	return 0;
}

static int apply_cpus(struct config *cfg, const char *value, struct err *e)
{
	struct cpu_config *cpu = &cfg->run.cpu;
	int r;

	memset(cpu, 0, sizeof(*cpu));
	r = keys_parse(value, cpus_keys, cpu, e);
	return r < 0 ? r : fill_topology(cpu, e);
}

/* The rest */

static int apply_kernel(struct config *cfg, const char *value, struct err *e)
{
	(void)e;
	cfg->run.kernel = value;
	return 0;
}

static int apply_initrd(struct config *cfg, const char *value, struct err *e)
{
	(void)e;
	cfg->run.initrd = value;
	return 0;
}

static int apply_append(struct config *cfg, const char *value, struct err *e)
{
	if (cfg->run.nappend == CONFIG_MAX_APPENDS)
		return err_set(e, -EINVAL, "given more than %d times; one may hold many words",
			       CONFIG_MAX_APPENDS);
	cfg->run.append[cfg->run.nappend++] = value;
	return 0;
}

static int apply_no_default_append(struct config *cfg, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	cfg->run.default_append = false;
	return 0;
}

static int apply_unpack(struct config *cfg, const char *value, struct err *e)
{
	return value_switch(value, &cfg->run.unpack, e);
}

static int apply_timeout(struct config *cfg, const char *value, struct err *e)
{
	return value_duration(value, &cfg->run.timeout_ms, e);
}

static int apply_panic(struct config *cfg, const char *value, struct err *e)
{
	unsigned i;
	int r = value_choice(value, PANIC_WORDS, &i, e);

	if (r == 0)
		cfg->run.panic = (enum panic_action)i;
	return r;
}

static int apply_reboot(struct config *cfg, const char *value, struct err *e)
{
	unsigned i;
	int r = value_choice(value, REBOOT_WORDS, &i, e);

	if (r == 0)
		cfg->run.reboot = (enum reboot_action)i;
	return r;
}

static int apply_name(struct config *cfg, const char *value, struct err *e)
{
	if (!control_name_ok(value))
		return err_set(e, -EINVAL,
			       "\"%s\" cannot be a name: letters, digits, . _ - and at most %d of them", value,
			       CONTROL_NAME_MAX);
	cfg->run.name = value;
	return 0;
}

static int apply_control(struct config *cfg, const char *value, struct err *e)
{
	(void)e;
	cfg->run.control = value;
	return 0;
}

static int apply_log(struct config *cfg, const char *value, struct err *e)
{
	(void)e;
	cfg->run.log = value;
	return 0;
}

static int apply_stats(struct config *cfg, const char *value, struct err *e)
{
	(void)e;
	cfg->run.stats = true;
	cfg->run.stats_path = value;
	return 0;
}

static int apply_trace(struct config *cfg, const char *value, struct err *e)
{
	unsigned i;
	int r = value_choice(value, TRACE_WORDS, &i, e);

	if (r == 0)
		cfg->run.trace_control = true;
	return r;
}

static int apply_dry_run(struct config *cfg, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	cfg->run.dry_run = true;
	return 0;
}

static int apply_json(struct config *cfg, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	cfg->doctor.json = true;
	return 0;
}

static int apply_ci(struct config *cfg, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	cfg->doctor.ci = true;
	return 0;
}

static int apply_check(struct config *cfg, const char *value, struct err *e)
{
	struct nearest near;

	cfg->doctor.check = value;
	if (doctor_check_find(value))
		return 0;
	nearest_init(&near, value);
	for (size_t i = 0; i < ndoctor_checks; i++)
		nearest_try(&near, doctor_checks[i].name);
	if (near.best)
		return err_set(e, -EINVAL, "no check is called \"%s\"; did you mean \"%s\"?", value, near.best);
	return err_set(e, -EINVAL, "no check is called \"%s\"; \"ringlet doctor\" lists them", value);
}

static int apply_verbose(struct config *cfg, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	cfg->verbose = true;
	return 0;
}

static int apply_help(struct config *cfg, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	cfg->command = COMMAND_HELP;
	return 0;
}

static int apply_version(struct config *cfg, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	cfg->command = COMMAND_VERSION;
	return 0;
}

const struct option_def option_defs[] = {
	{.name = "kernel",
	 .letter = 'k',
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_FILE,
	 .apply = apply_kernel},
	{.name = "initrd",
	 .letter = 'i',
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_FILE,
	 .apply = apply_initrd},
	{.name = "append", .letter = 'a', .places = IN_RUN, .arg = ARG_REQUIRED, .apply = apply_append},
	{.name = "no-default-append", .places = IN_RUN, .apply = apply_no_default_append},
	{.name = "mem",
	 .letter = 'm',
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = mem_keys,
	 .apply = apply_mem},
	{.name = "cpus",
	 .letter = 'c',
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = cpus_keys,
	 .apply = apply_cpus},
	{.name = "net",
	 .letter = 'n',
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = config_net_keys,
	 .apply = config_apply_net},
	{.name = "disk",
	 .letter = 'd',
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = config_disk_keys,
	 .apply = config_apply_disk},
	{.name = "vsock",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = config_vsock_keys,
	 .apply = config_apply_vsock},
	{.name = "scsi",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = config_scsi_keys,
	 .apply = config_apply_scsi},
	{.name = "fs",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = config_fs_keys,
	 .apply = config_apply_fs},
	{.name = "device",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = config_device_keys,
	 .apply = config_apply_device},
	{.name = "rng",
	 .places = IN_RUN,
	 .arg = ARG_OPTIONAL,
	 .value = VALUE_KEYS,
	 .keys = config_rng_keys,
	 .apply = config_apply_rng},
	{.name = "balloon",
	 .places = IN_RUN,
	 .arg = ARG_OPTIONAL,
	 .value = VALUE_KEYS,
	 .keys = config_balloon_keys,
	 .apply = config_apply_balloon},
	{.name = "console",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = config_console_keys,
	 .apply = config_apply_console},
	{.name = "transport",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_WORDS,
	 .words = TRANSPORT_WORDS,
	 .apply = config_apply_transport},
	{.name = "unpack",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_WORDS,
	 .words = "on off",
	 .apply = apply_unpack},
	{.name = "root",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = config_root_keys,
	 .apply = config_apply_root},
	{.name = "share",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_KEYS,
	 .keys = config_share_keys,
	 .apply = config_apply_share},
	{.name = "modules",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_FILE,
	 .apply = config_apply_modules},
	{.name = "env", .places = IN_RUN, .arg = ARG_REQUIRED, .apply = config_apply_env},
	{.name = "cwd", .places = IN_RUN, .arg = ARG_REQUIRED, .apply = config_apply_cwd},
	{.name = "user", .places = IN_RUN, .arg = ARG_REQUIRED, .apply = config_apply_user},
	{.name = "stdin", .places = IN_RUN, .apply = config_apply_stdin},
	{.name = "boot-timeout", .places = IN_RUN, .arg = ARG_REQUIRED, .apply = config_apply_boot_timeout},
	{.name = "timeout", .places = IN_RUN, .arg = ARG_REQUIRED, .apply = apply_timeout},
	{.name = "panic",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_WORDS,
	 .words = PANIC_WORDS,
	 .apply = apply_panic},
	{.name = "oops",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_WORDS,
	 .words = OOPS_WORDS,
	 .apply = config_apply_oops},
	{.name = "reboot",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_WORDS,
	 .words = REBOOT_WORDS,
	 .apply = apply_reboot},
	{.name = "name", .places = IN_RUN, .arg = ARG_REQUIRED, .apply = apply_name},
	{.name = "control", .places = IN_RUN, .arg = ARG_REQUIRED, .value = VALUE_FILE, .apply = apply_control},
	{.name = "log", .places = IN_RUN, .arg = ARG_REQUIRED, .value = VALUE_FILE, .apply = apply_log},
	{.name = "stats", .places = IN_RUN, .arg = ARG_OPTIONAL, .value = VALUE_FILE, .apply = apply_stats},
	{.name = "result",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_FILE,
	 .apply = config_apply_result},
	{.name = "junit",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_FILE,
	 .apply = config_apply_junit},
	{.name = "sandbox",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_WORDS,
	 .words = "on off",
	 .apply = config_apply_sandbox},
	{.name = "trace",
	 .places = IN_RUN,
	 .arg = ARG_REQUIRED,
	 .value = VALUE_WORDS,
	 .words = TRACE_WORDS,
	 .apply = apply_trace},
	{.name = "dry-run", .places = IN_RUN, .apply = apply_dry_run},
	{.name = "json", .places = IN_DOCTOR, .apply = apply_json},
	{.name = "ci", .places = IN_DOCTOR, .apply = apply_ci},
	{.name = "check", .places = IN_DOCTOR, .arg = ARG_REQUIRED, .value = VALUE_CHECK, .apply = apply_check},
	{.name = "verbose", .letter = 'v', .places = IN_ALL, .apply = apply_verbose},
	{.name = "help", .letter = 'h', .places = IN_ALL, .apply = apply_help},
	{.name = "version", .places = IN_ALL, .apply = apply_version},
};
const size_t noption_defs = ARRAY_SIZE(option_defs);

const struct command_def command_defs[] = {
	{"run", COMMAND_RUN, IN_RUN},
	{"doctor", COMMAND_DOCTOR, IN_DOCTOR},
	{"help", COMMAND_HELP, IN_OTHER},
	{"completion", COMMAND_COMPLETE, IN_OTHER},
	{"version", COMMAND_VERSION, IN_OTHER},
	{"ctl", COMMAND_CTL, IN_CTL},
	{"explain", COMMAND_EXPLAIN, IN_EXPLAIN},
};
const size_t ncommand_defs = ARRAY_SIZE(command_defs);
