#include "matrix/options.h"

#include <errno.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/config_keys.h"
#include "vmm/config_values.h"

#define MAX_JOBS 1024

const char options_usage[] =
	"Usage: ringlet matrix FILE [OPTION]...\n"
	"Runs every combination of the kernels, options and commands of FILE (-: stdin).\n"
	"  -j, --jobs N         at a time; default: what fits the processors and memory\n"
	"  -o, --out DIR        results and logs, a directory a case; default " OPTIONS_OUT "\n"
	"      --junit FILE     JUnit's XML\n"
	"      --tap            TAP on stdout, all else on stderr\n"
	"  -f, --filter GLOB    only these cases, such as '6.12' or '*/*/smoke'\n"
	"      --fail-fast      after the first failure start no more\n"
	"      --dry-run        print each case's command line, and stop\n"
	"      --ringlet FILE   another program than this for \"ringlet run\"\n"
	"  -v, --verbose        a line for each case that passed as well; -h, --help\n"
	"FILE:\n"
	"  [defaults]           -m 1G -c 2     timeout = 2m\n"
	"  [kernel 6.12]        path = linux/arch/x86/boot/bzImage\n"
	"  [options mmio]       transport = mmio\n"
	"  [command smoke]      run = uname -r      expect = 0, or panic, timeout, ...\n"
	"  [matrix]             exclude = 6.1/mmio\n"
	"A line is a key of these or any option of \"ringlet run\".  docs/ci.md has more.\n"
	"\n"
	"Exit status: 0 all ended as expected, 1 some did not, 125 usage, file or host.\n";

struct option {
	const char *name;
	char letter;
	bool value;
	int (*apply)(struct options *o, const char *value, struct err *e);
};

static int apply_jobs(struct options *o, const char *value, struct err *e)
{
	return value_number(value, 1, MAX_JOBS, &o->jobs, e);
}

static int apply_out(struct options *o, const char *value, struct err *e)
{
	o->out = value;
	return *value ? 0 : err_set(e, -EINVAL, "expected a directory, found nothing");
}

static int apply_junit(struct options *o, const char *value, struct err *e)
{
	o->junit = value;
	return *value ? 0 : err_set(e, -EINVAL, "expected a file, found nothing");
}

static int apply_ringlet(struct options *o, const char *value, struct err *e)
{
	o->ringlet = value;
	return *value ? 0 : err_set(e, -EINVAL, "expected a program, found nothing");
}

static int apply_filter(struct options *o, const char *value, struct err *e)
{
	if (o->nfilter == OPTIONS_MAX_FILTERS)
		return err_set(e, -EINVAL, "given more than %d times", OPTIONS_MAX_FILTERS);
	o->filter[o->nfilter++] = value;
	return 0;
}

#define SWITCH(field)                                                                                          \
	static int apply_##field(struct options *o, const char *value, struct err *e)                          \
	{                                                                                                      \
		(void)value;                                                                                   \
		(void)e;                                                                                       \
		o->field = true;                                                                               \
		return 0;                                                                                      \
	}
SWITCH(tap)
SWITCH(dry_run)
SWITCH(fail_fast)
SWITCH(verbose)
SWITCH(help)

static const struct option options[] = {
	{"jobs", 'j', true, apply_jobs},        {"out", 'o', true, apply_out},
	{"junit", 0, true, apply_junit},        {"tap", 0, false, apply_tap},
	{"filter", 'f', true, apply_filter},    {"fail-fast", 0, false, apply_fail_fast},
	{"dry-run", 0, false, apply_dry_run},   {"ringlet", 0, true, apply_ringlet},
	{"verbose", 'v', false, apply_verbose}, {"help", 'h', false, apply_help},
};

/* The option that word is, and the value that it holds, if any. */
static const struct option *find(const char *word, const char **value)
{
	*value = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *opt = &options[i];
		const size_t len = strlen(opt->name);

		if (word[1] != '-') {
			if (!opt->letter || word[1] != opt->letter || (word[2] && !opt->value))
				continue;
			*value = word[2] ? word + 2 : NULL;
			return opt;
		}
		if (!strncmp(word + 2, opt->name, len) && (!word[2 + len] || word[2 + len] == '=')) {
			*value = word[2 + len] ? word + 3 + len : NULL;
			return opt;
		}
	}
	return NULL;
}

static int unknown(const char *word, struct err *e)
{
	struct nearest near;

	nearest_init(&near, word[1] == '-' ? word + 2 : word);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		nearest_try(&near, options[i].name);
	if (word[1] == '-' && near.best)
		return err_set(e, -EINVAL, "there is no option %s; did you mean --%s?", word, near.best);
	return err_set(e, -EINVAL, "there is no option %s; see \"ringlet matrix --help\"", word);
}

static int read_option(struct options *o, char *const argv[], int *i, struct err *e)
{
	const char *word = argv[*i], *value;
	const struct option *opt = find(word, &value);
	int rc;

	if (!opt)
		return unknown(word, e);
	if (value && !opt->value)
		return err_set(e, -EINVAL, "--%s takes no value, found \"%s\"", opt->name, value);
	if (opt->value && !value) {
		value = argv[++*i];
		if (!value)
			return err_set(e, -EINVAL, "--%s: expected a value after it", opt->name);
	}
	rc = opt->apply(o, value, e);
	return rc ? err_prefix(e, "--%s", opt->name) : 0;
}

int options_read(struct options *o, int argc, char *const argv[], struct err *e)
{
	bool words_only = false;

	*o = (struct options){.out = OPTIONS_OUT};
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i];
		int rc = 0;

		if (!words_only && !strcmp(word, "--"))
			words_only = true;
		else if (!words_only && word[0] == '-' && word[1])
			rc = read_option(o, argv, &i, e);
		else if (o->file)
			return err_set(e, -EINVAL, "one FILE is expected, found \"%s\" after \"%s\"", word,
				       o->file);
		else
			o->file = word;
		if (rc)
			return rc;
		if (o->help)
			return 0;
	}
	if (!o->file)
		return err_set(e, -EINVAL, "expected a FILE; see \"ringlet matrix --help\"");
	return 0;
}
