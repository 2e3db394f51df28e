#include "compare/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare/workloads.h"
#include "lib/cleanup.h"
#include "vmm/config_keys.h"
#include "vmm/config_values.h"

#define MAX_WORDS    8 /* of a list */
#define MIN_SECONDS  0.2
#define MAX_SECONDS  3600
#define DISK_MIN     (UINT64_C(16) << 20)
#define DISK_DEFAULT (UINT64_C(256) << 20)

const char options_help[] =
	"Usage: ringlet compare --net LIST|--disk LIST [OPTION]... [-- COMMAND...]\n"
	"Runs the same guest and workload over each path in turn, and tells what each costs.\n"
	"Taps, networks, back ends and files are made for it, and are gone afterwards.\n"
	"  --net LIST             tap, vhost-net, vhost-user, vdpa[=/dev/vhost-vdpa-N], user\n"
	"  --disk LIST            in-process, vhost-user, vdpa[=/dev/vhost-vdpa-N]\n"
	"  --workload LIST        of a card: tcp, tcp-in, rr, pps, ping; default tcp,rr,pps\n"
	"                         of a disk: randread, randwrite, seq, qd1; default randread,qd1\n"
	"                         a COMMAND is one more, in the guest; alone without this\n"
	"  --transport LIST       pci, mmio; default pci\n"
	"  --ring LIST            split, packed; default split\n"
	"  --notify LIST          ioeventfd, exit; default ioeventfd\n"
	"                         each path is tried with each of these\n"
	"  --features common|best common (default): only bits that all paths offer\n"
	"  --guest linux|bare     bare: one in this program, without an OS; default linux\n"
	"                         with -k, else bare\n"
	"  --repeat N             rounds; default 5\n"
	"  --duration TIME        of each measurement; default 5s\n"
	"  --out DIR              result.json, result.csv, plots and report.html\n"
	"  --size SIZE            of the disk compared; default 256M\n"
	"  -k, --kernel FILE; -i, --initrd FILE    of a Linux guest\n"
	"  --tools IMAGE          its tools: an image with iperf3, sockperf, fio, ping\n"
	"  -m, -c, -a, --no-default-append, --unpack      as for \"ringlet run\"\n"
	"  -q, --quiet            no progress\n"
	"Exit status: 0; 1 a path or workload gave no figure; 125 it could not begin.\n";

struct name {
	const char *name;
	unsigned value;
};

static const struct name net_paths[] = {
	{"tap", PATH_TAP},       {"vhost-net", PATH_VHOST_NET}, {"vhost-user", PATH_NET_VHOST_USER},
	{"vdpa", PATH_NET_VDPA}, {"user", PATH_USER},           {NULL, 0}};
static const struct name disk_paths[] = {{"in-process", PATH_IN_PROCESS},
					 {"vhost-user", PATH_DISK_VHOST_USER},
					 {"vdpa", PATH_DISK_VDPA},
					 {NULL, 0}};
static const struct name transports[] = {{"pci", false}, {"mmio", true}, {NULL, 0}};
static const struct name rings[] = {{"split", false}, {"packed", true}, {NULL, 0}};
static const struct name notifies[] = {{"ioeventfd", false}, {"exit", true}, {NULL, 0}};

struct word {
	unsigned value;
	const char *name;
	const char *device; /* what stood behind "=", or NULL */
};

struct list {
	unsigned n;
	struct word word[MAX_WORDS];
};

struct draft {
	struct plan *plan;
	struct list paths, transports, rings, notifies;
	const char *net, *disk, *workloads, *guest;
};

/* --- lists --- */

static int unknown(const char *option, const char *word, const struct name *names, struct err *e)
{
	struct nearest near;
	char all[256] = "";

	nearest_init(&near, word);
	for (; names->name; names++) {
		const size_t len = strlen(all);

		nearest_try(&near, names->name);
		snprintf(all + len, sizeof(all) - len, "%s%s", len ? ", " : "", names->name);
	}
	if (near.best)
		return err_set(e, -EINVAL, "%s: \"%s\" is not known; did you mean %s?", option, word,
			       near.best);
	return err_set(e, -EINVAL, "%s: \"%s\" is not known; there is %s", option, word, all);
}

static int add_word(struct draft *d, const char *option, struct list *l, char *word, const struct name *names,
		    struct err *e)
{
	char *device = strchr(word, '=');

	if (device)
		*device++ = '\0';
	for (unsigned i = 0; i < l->n; i++)
		if (!strcmp(l->word[i].name, word))
			return err_set(e, -EINVAL, "%s: %s is there twice", option, word);
	for (const struct name *n = names; n->name; n++) {
		if (strcmp(n->name, word))
			continue;
		if (device && (strcmp(word, "vdpa") || !*device))
			return err_set(e, -EINVAL, "%s: %s takes no \"=%s\"", option, word, device);
		if (l->n == MAX_WORDS)
			return err_set(e, -EINVAL, "%s: %d words at most", option, MAX_WORDS);
		if (device) {
			free(d->plan->device);
			d->plan->device = strdup(device);
			if (!d->plan->device)
				return err_set(e, -ENOMEM, "out of memory");
		}
		l->word[l->n++] = (struct word){n->value, n->name, device ? d->plan->device : NULL};
		return 0;
	}
	return unknown(option, word, names, e);
}

static int parse_list(struct draft *d, const char *option, const char *text, const struct name *names,
		      struct list *l, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(text);
	char *rest = copy, *word;
	int rc = copy ? 0 : err_set(e, -ENOMEM, "out of memory");

	l->n = 0;
	while (!rc && (word = strsep(&rest, ",")))
		rc = *word ? add_word(d, option, l, word, names, e)
			   : err_set(e, -EINVAL, "%s: a word is missing in \"%s\"", option, text);
	return rc;
}

/* --- options --- */

static int set_repeat(struct draft *d, const char *v, struct err *e)
{
	return value_number(v, 1, PLAN_MAX_ROUNDS, &d->plan->repeat, e);
}

static int set_duration(struct draft *d, const char *v, struct err *e)
{
	uint64_t ms;
	int rc = value_duration(v, &ms, e);

	if (rc)
		return rc;
	d->plan->seconds = (double)ms / 1000;
	if (d->plan->seconds < MIN_SECONDS || d->plan->seconds > MAX_SECONDS)
		return err_set(e, -EINVAL, "\"%s\" is not within 200ms and 3600s", v);
	return 0;
}

static int set_features(struct draft *d, const char *v, struct err *e)
{
	unsigned i;
	int rc = value_choice(v, "common best", &i, e);

	d->plan->best = !rc && i;
	return rc;
}

static int set_size(struct draft *d, const char *v, struct err *e)
{
	int rc = value_size(v, &d->plan->disk_bytes, e);

	if (rc)
		return rc;
	if (d->plan->disk_bytes < DISK_MIN || d->plan->disk_bytes % 4096)
		return err_set(e, -EINVAL,
			       "\"%s\" is no size for this disk; expected at least 16M, in whole 4K", v);
	return 0;
}

static int set_transports(struct draft *d, const char *v, struct err *e)
{
	return parse_list(d, "--transport", v, transports, &d->transports, e);
}

static int set_rings(struct draft *d, const char *v, struct err *e)
{
	return parse_list(d, "--ring", v, rings, &d->rings, e);
}

static int set_notifies(struct draft *d, const char *v, struct err *e)
{
	return parse_list(d, "--notify", v, notifies, &d->notifies, e);
}

#define TEXT(name_, field)                                                                                     \
	static int name_(struct draft *d, const char *v, struct err *e)                                        \
	{                                                                                                      \
		if (!*v)                                                                                       \
			return err_set(e, -EINVAL, "nothing stands there");                                    \
		d->field = v;                                                                                  \
		return 0;                                                                                      \
	}
TEXT(set_net, net)
TEXT(set_disk, disk)
TEXT(set_workloads, workloads)
TEXT(set_guest, guest)
TEXT(set_out, plan->out)
TEXT(set_kernel, plan->kernel)
TEXT(set_initrd, plan->initrd)
TEXT(set_tools, plan->tools)

static int set_quiet(struct draft *d, const char *v, struct err *e)
{
	(void)v;
	(void)e;
	d->plan->quiet = true;
	return 0;
}

static const struct option {
	const char *name;
	char letter;
	bool bare;                                                     /* takes no value */
	int (*set)(struct draft *d, const char *value, struct err *e); /* NULL: goes on to "ringlet run" */
} options[] = {
	{"net", 'n', false, set_net},
	{"disk", 'd', false, set_disk},
	{"workload", 0, false, set_workloads},
	{"transport", 0, false, set_transports},
	{"ring", 0, false, set_rings},
	{"notify", 0, false, set_notifies},
	{"features", 0, false, set_features},
	{"guest", 0, false, set_guest},
	{"repeat", 0, false, set_repeat},
	{"duration", 0, false, set_duration},
	{"out", 0, false, set_out},
	{"size", 0, false, set_size},
	{"kernel", 'k', false, set_kernel},
	{"initrd", 'i', false, set_initrd},
	{"tools", 0, false, set_tools},
	{"quiet", 'q', true, set_quiet},
	{"mem", 'm', false, NULL},
	{"cpus", 'c', false, NULL},
	{"append", 'a', false, NULL},
	{"no-default-append", 0, true, NULL},
	{"unpack", 0, false, NULL},
};

static const struct option *find_long(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (strlen(options[i].name) == len && !strncmp(options[i].name, name, len))
			return &options[i];
	return NULL;
}

static const struct option *find_letter(char letter)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].letter == letter)
			return &options[i];
	return NULL;
}

static int no_option(const char *arg, struct err *e)
{
	struct nearest near;
	char word[64];

	snprintf(word, sizeof(word), "%s", arg + strspn(arg, "-"));
	word[strcspn(word, "=")] = '\0';
	nearest_init(&near, word);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		nearest_try(&near, options[i].name);
	if (near.best)
		return err_set(e, -EINVAL, "compare: unknown option %s; did you mean --%s?", arg, near.best);
	return err_set(e, -EINVAL, "compare: unknown %s %s\nRun: ringlet compare --help",
		       *arg == '-' ? "option" : "word", arg);
}

static int apply(struct draft *d, const struct option *o, const char *value, struct err *e)
{
	struct plan *p = d->plan;
	int rc;

	if (o->set) {
		rc = o->set(d, value, e);
		return rc && strncmp(e->text, "--", 2) ? err_prefix(e, "compare: --%s", o->name) : rc;
	}
	p->run[p->nrun] = NULL;
	if (asprintf(&p->run[p->nrun], value ? "--%s=%s" : "--%s", o->name, value) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	p->nrun++;
	return 0;
}

/* One option and its value: how many words it took, or -errno. */
static int take(struct draft *d, int argc, char *const argv[], struct err *e)
{
	const char *arg = argv[0], *value = NULL;
	const bool is_long = !strncmp(arg, "--", 2);
	const struct option *o = is_long       ? find_long(arg + 2, strcspn(arg + 2, "="))
				 : *arg == '-' ? find_letter(arg[1])
					       : NULL;
	int used = 1, rc;

	if (!o || (!is_long && !arg[1]))
		return no_option(arg, e);
	if (is_long)
		value = arg[2 + strlen(o->name)] ? arg + 3 + strlen(o->name) : NULL;
	else if (arg[2])
		value = arg + 2;
	if (o->bare && value)
		return err_set(e, -EINVAL, "compare: --%s takes no value", o->name);
	if (!o->bare && !value) {
		if (argc < 2)
			return err_set(e, -EINVAL, "compare: --%s: a value is missing", o->name);
		value = argv[1];
		used = 2;
	}
	rc = apply(d, o, value, e);
	return rc ? rc : used;
}

/* --- the whole --- */

static void name_path(struct path *p, const struct draft *d, const char *kind)
{
	snprintf(p->name, sizeof(p->name), "%s%s%s%s", kind,
		 d->transports.n > 1 || p->mmio ? p->mmio ? " mmio" : " pci" : "",
		 d->rings.n > 1 || p->packed ? p->packed ? " packed" : " split" : "",
		 d->notifies.n > 1 || p->notify_exit ? p->notify_exit ? " exit" : " ioeventfd" : "");
}

static int add_path(struct draft *d, const struct word *kind, unsigned t, unsigned r, unsigned n, struct err *e)
{
	struct plan *p = d->plan;
	struct path *path = &p->path[p->npaths];

	if (p->npaths == PLAN_MAX_PATHS)
		return err_set(e, -EINVAL, "compare: more than %d paths", PLAN_MAX_PATHS);
	*path = (struct path){
		.kind = (enum path_kind)kind->value,
		.mmio = d->transports.word[t].value,
		.packed = d->rings.word[r].value,
		.notify_exit = d->notifies.word[n].value,
		.device = kind->device,
	};
	name_path(path, d, kind->name);
	p->npaths++;
	return 0;
}

static int finish_paths(struct draft *d, struct err *e)
{
	int rc;

	if (!d->net == !d->disk)
		return err_set(e, -EINVAL,
			       d->net ? "compare: a card or a disk: --net and --disk are two comparisons"
				      : "compare: what shall be compared?  For example:\n"
					"ringlet compare --net tap,vhost-net,vhost-user");
	d->plan->disk = d->disk;
	rc = d->net ? parse_list(d, "--net", d->net, net_paths, &d->paths, e)
		    : parse_list(d, "--disk", d->disk, disk_paths, &d->paths, e);
	for (unsigned i = 0; !rc && i < d->paths.n; i++)
		for (unsigned t = 0; !rc && t < d->transports.n; t++)
			for (unsigned r = 0; !rc && r < d->rings.n; r++)
				for (unsigned n = 0; !rc && n < d->notifies.n; n++)
					rc = add_path(d, &d->paths.word[i], t, r, n, e);
	return rc;
}

static int finish_guest(struct draft *d, struct err *e)
{
	struct plan *p = d->plan;
	unsigned i = p->kernel ? 0 : 1;
	int rc = d->guest ? value_choice(d->guest, "linux bare", &i, e) : 0;

	if (rc)
		return err_prefix(e, "compare: --guest");
	p->guest = i ? GUEST_BARE : GUEST_LINUX;
	if (p->guest == GUEST_BARE && p->kernel)
		return err_set(e, -EINVAL, "compare: --guest bare has a kernel of its own; leave --kernel out");
	if (p->guest == GUEST_BARE && p->ncommand)
		return err_set(e, -EINVAL, "compare: a command takes a Linux guest: say -k KERNEL -i INITRD");
	if (p->guest == GUEST_LINUX && (!p->kernel || !p->initrd))
		return err_set(e, -EINVAL, "compare: a Linux guest takes -k KERNEL and -i INITRD");
	return 0;
}

static int add_workload(struct plan *p, const char *word, struct err *e)
{
	const struct workload *w = workload_find(word, p->disk);
	struct nearest near;

	for (unsigned i = 0; i < p->nworkloads; i++)
		if (!strcmp(p->workload[i].name, word))
			return err_set(e, -EINVAL, "--workload: %s is there twice", word);
	if (!w) {
		nearest_init(&near, word);
		for (unsigned i = 0; (w = workload_nth(i, p->disk)); i++)
			nearest_try(&near, w->name);
		return err_set(e, -EINVAL, "--workload: a %s has no \"%s\"%s%s%s", p->disk ? "disk" : "card",
			       word, near.best ? "; did you mean " : "", near.best ? near.best : "",
			       near.best ? "?" : "\nRun: ringlet compare --help");
	}
	if (!workload_runs(w, p->guest))
		return err_set(e, -EINVAL,
			       "--workload: %s takes a Linux guest: say -k KERNEL -i INITRD --tools IMAGE",
			       word);
	if (p->nworkloads == PLAN_MAX_WORKLOADS)
		return err_set(e, -EINVAL, "--workload: %d at most", PLAN_MAX_WORKLOADS);
	p->workload[p->nworkloads++] = *w;
	return 0;
}

static const char *usual_workloads(const struct plan *p)
{
	if (p->disk)
		return "randread,qd1";
	return p->guest == GUEST_LINUX ? "tcp,rr,pps" : "rr,pps";
}

static int add_workloads(struct plan *p, const char *list, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(list);
	char *rest = copy, *word;
	int rc = copy ? 0 : err_set(e, -ENOMEM, "out of memory");

	while (!rc && (word = strsep(&rest, ",")))
		rc = *word ? add_workload(p, word, e)
			   : err_set(e, -EINVAL, "--workload: a word is missing in \"%s\"", list);
	return rc;
}

static int finish_workloads(struct draft *d, struct err *e)
{
	struct plan *p = d->plan;
	int rc = 0;

	if (d->workloads || !p->ncommand)
		rc = add_workloads(p, d->workloads ? d->workloads : usual_workloads(p), e);
	if (rc || !p->ncommand)
		return rc;
	if (p->nworkloads == PLAN_MAX_WORKLOADS)
		return err_set(e, -EINVAL, "--workload: %d at most", PLAN_MAX_WORKLOADS);
	p->workload[p->nworkloads++] = *workload_command();
	return 0;
}

/* What goes on to "ringlet run" is looked at by its own parser now, not in the middle of a round. */
static int check_run(const struct plan *p, struct err *e)
{
	struct config *cfg = calloc(1, sizeof(*cfg));
	char **argv = calloc((size_t)p->nrun + 3, sizeof(*argv));
	int rc = cfg && argv ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (!rc) {
		argv[0] = (char *)"ringlet";
		argv[1] = (char *)"run";
		memcpy(argv + 2, p->run, (size_t)p->nrun * sizeof(*argv));
		rc = config_parse(cfg, p->nrun + 2, argv, e);
		config_free(cfg);
	}
	free(argv);
	free(cfg);
	return rc;
}

int options_parse(struct plan *p, int argc, char *const argv[], struct err *e)
{
	struct draft d = {
		.plan = p,
		.transports = {1, {{false, "pci", NULL}}},
		.rings = {1, {{false, "split", NULL}}},
		.notifies = {1, {{false, "ioeventfd", NULL}}},
	};
	int rc;

	*p = (struct plan){.repeat = 5, .seconds = 5, .disk_bytes = DISK_DEFAULT};
	p->run = calloc((size_t)argc + 1, sizeof(*p->run));
	if (!p->run)
		return err_set(e, -ENOMEM, "out of memory");
	for (int i = 0; i < argc; i += rc) {
		if (!strcmp(argv[i], "--")) {
			p->ncommand = argc - i - 1;
			p->command = (char **)argv + i + 1;
			if (!p->ncommand)
				return err_set(e, -EINVAL, "compare: a command is missing behind --");
			break;
		}
		if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help"))
			return 1;
		rc = take(&d, argc - i, argv + i, e);
		if (rc < 0)
			return rc;
	}
	rc = finish_paths(&d, e);
	rc = rc ? rc : finish_guest(&d, e);
	rc = rc ? rc : finish_workloads(&d, e);
	return rc ? rc : check_run(p, e);
}

void options_free(struct plan *p)
{
	for (int i = 0; i < p->nrun; i++)
		free(p->run[i]);
	free(p->run);
	free(p->device);
	*p = (struct plan){0};
}
