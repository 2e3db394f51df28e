#include "vmm/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config_keys.h"
#include "vmm/config_options.h"
#include "vmm/control.h"

struct config_string {
	struct config_string *next;
	char text[];
};

/* Where the parser is. */
struct args {
	struct config *cfg;
	int argc;
	char *const *argv;
	int next;       /* index of the first argument not looked at */
	unsigned place; /* IN_... */
	struct err *e;
};

const char *config_keep(struct config *cfg, const char *text)
{
	size_t len = strlen(text) + 1;
	struct config_string *s = malloc(sizeof(*s) + len);

	if (!s)
		return NULL;
	memcpy(s->text, text, len);
	s->next = cfg->strings;
	cfg->strings = s;
	return s->text;
}

void config_free(struct config *cfg)
{
	while (cfg->strings) {
		struct config_string *s = cfg->strings;

		cfg->strings = s->next;
		free(s);
	}
}

static const char *place_name(unsigned place)
{
	for (size_t i = 0; i < ncommand_defs; i++)
		if (command_defs[i].place == place && place != IN_OTHER)
			return command_defs[i].name;
	return NULL;
}

static const struct option_def *find_option(const char *name, size_t len)
{
	for (size_t i = 0; i < noption_defs; i++)
		if (strlen(option_defs[i].name) == len && !memcmp(option_defs[i].name, name, len))
			return &option_defs[i];
	return NULL;
}

static const struct option_alias *find_alias(const char *name, size_t len, unsigned dashes)
{
	for (size_t i = 0; i < noption_aliases; i++)
		if ((option_aliases[i].dashes & dashes) && strlen(option_aliases[i].name) == len &&
		    !memcmp(option_aliases[i].name, name, len))
			return &option_aliases[i];
	return NULL;
}

static const struct option_def *find_letter(char letter)
{
	const struct option_alias *alias;

	for (size_t i = 0; i < noption_defs; i++)
		if (option_defs[i].letter == letter)
			return &option_defs[i];
	alias = find_alias(&letter, 1, ONE_DASH);
	return alias && alias->stands_for ? find_option(alias->stands_for, strlen(alias->stands_for)) : NULL;
}

static int unknown_option(const struct args *a, const char *typed, const char *name)
{
	const char *where = place_name(a->place);
	struct nearest near;

	nearest_init(&near, name);
	for (size_t i = 0; i < noption_defs; i++)
		if (option_defs[i].places & a->place)
			nearest_try(&near, option_defs[i].name);
	if (near.best)
		return err_set(a->e, -EINVAL, "unknown option %s; did you mean --%s?", typed, near.best);
	return err_set(a->e, -EINVAL, "unknown option %s; see \"ringlet %s%s--help\"", typed,
		       where ? where : "", where ? " " : "");
}

/* "--rng src=...": what follows is not the option's, and would be taken for the kernel. */
static int check_detached(const struct args *a, const struct option_def *def, const char *typed)
{
	const char *next = a->next < a->argc ? a->argv[a->next] : "";
	size_t len = strcspn(next, "=");

	if (!next[len] || def->arg != ARG_OPTIONAL)
		return 0;
	for (const struct key_def *key = def->keys; key; key = key_next(key))
		if (strlen(key->name) == len && !memcmp(key->name, next, len))
			return err_set(a->e, -EINVAL, "%s: its keys are attached to it: %s=%s", typed, typed,
				       next);
	return 0;
}

/* Applies def, which was typed as typed, with the value attached to it (NULL: none was). */
static int take_option(struct args *a, const struct option_def *def, const char *typed, const char *attached)
{
	const char *value = attached;
	int r;

	if (!(def->places & a->place)) {
		const char *owner = def->places & IN_RUN ? "run" : "doctor";

		if (a->place == IN_MAIN)
			return err_set(a->e, -EINVAL, "%s goes after a command: ringlet %s %s", typed, owner,
				       typed);
		return err_set(a->e, -EINVAL, "%s is an option of \"ringlet %s\"", typed, owner);
	}
	if (def->arg == ARG_NONE && attached)
		return err_set(a->e, -EINVAL, "%s takes no value, but was given \"%s\"", typed, attached);
	if (def->arg == ARG_REQUIRED && !attached) {
		if (a->next >= a->argc || !strcmp(a->argv[a->next], "--"))
			return err_set(a->e, -EINVAL, "%s wants a value, but none follows", typed);
		value = a->argv[a->next++];
	}
	r = attached ? 0 : check_detached(a, def, typed);
	if (r < 0)
		return r;
	if (value && !*value && def->value != VALUE_OTHER)
		return err_set(a->e, -EINVAL, "%s wants a value, but was given an empty one", typed);
	r = def->apply(a->cfg, value, a->e);
	return r < 0 ? err_prefix(a->e, "%s", typed) : 0;
}

static int take_alias(struct args *a, const struct option_alias *alias, const char *typed, const char *attached)
{
	if (alias->hint)
		return err_set(a->e, -EINVAL, "%s: %s", typed, alias->hint);
	return take_option(a, find_option(alias->stands_for, strlen(alias->stands_for)), typed, attached);
}

/* --name, --name=value */
static int parse_long(struct args *a, const char *arg)
{
	const char *name = arg + 2, *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct option_def *def = find_option(name, len);
	const struct option_alias *alias = find_alias(name, len, TWO_DASH);
	const char *attached = equals ? equals + 1 : NULL;
	char typed[64];
	char bare[64];

	snprintf(bare, sizeof(bare), "%.*s", (int)(len < sizeof(bare) ? len : sizeof(bare)), name);
	snprintf(typed, sizeof(typed), "--%.61s", bare);
	if (def)
		return take_option(a, def, typed, attached);
	if (alias)
		return take_alias(a, alias, typed, attached);
	return unknown_option(a, typed, bare);
}

/* "-kernal" would be read as a kernel named "ernal", "-dirve" as a disk named "irve": whoever is one
 * letter off means the word. */
static const char *misspelt_word(const char *word)
{
	if (strlen(word) < 5)
		return NULL;
	for (size_t i = 0; i < noption_aliases; i++)
		if ((option_aliases[i].dashes & ONE_DASH) && strlen(option_aliases[i].name) >= 5 &&
		    edit_distance(option_aliases[i].name, word) == 1)
			return option_aliases[i].name;
	return NULL;
}

/* -v, -m 512M, -m512M, -vm512M, and the few words that QEMU writes with one dash. */
static int parse_short(struct args *a, const char *arg)
{
	const struct option_alias *alias = find_alias(arg + 1, strlen(arg + 1), ONE_DASH);
	const char *word;

	if (alias)
		return take_alias(a, alias, arg, NULL);
	word = misspelt_word(arg + 1);
	if (word)
		return err_set(a->e, -EINVAL, "unknown option %s; did you mean -%s?", arg, word);
	for (const char *s = arg + 1; *s; s++) {
		const struct option_def *def = find_letter(*s);
		char typed[3] = {'-', *s, '\0'};
		int r;

		alias = find_alias(s, 1, ONE_DASH);
		if (!def && alias)
			return take_alias(a, alias, typed, NULL);
		if (!def)
			return unknown_option(a, arg, arg + 1);
		if (def->arg == ARG_REQUIRED)
			return take_option(a, def, typed, s[1] ? s + 1 : NULL);
		r = take_option(a, def, typed, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The next argument that is no option; options before it are applied.  1: in *arg; 0: there is
 * none, or an option settled what is to be done. */
static int next_operand(struct args *a, const char **arg)
{
	enum command before = a->cfg->command;

	while (a->next < a->argc) {
		int r;

		*arg = a->argv[a->next];
		if (!strcmp(*arg, "--"))
			return 0;
		a->next++;
		if ((*arg)[0] != '-' || !(*arg)[1])
			return 1;
		r = (*arg)[1] == '-' ? parse_long(a, *arg) : parse_short(a, *arg);
		if (r < 0)
			return r;
		if (a->cfg->command != before) {
			a->next = a->argc;
			return 0;
		}
	}
	return 0;
}

static int parse_run(struct args *a)
{
	struct run_config *run = &a->cfg->run;
	const char *operand, *kernel = NULL;
	int r;

	while ((r = next_operand(a, &operand)) > 0) {
		if (kernel)
			return err_set(a->e, -EINVAL,
				       "\"%s\" after the kernel \"%s\": a command for the guest "
				       "goes after --",
				       operand, kernel);
		run->kernel = kernel = operand;
	}
	if (r == 0 && a->cfg->command == COMMAND_RUN)
		r = config_finish_devices(a->cfg, a->e);
	if (r < 0 || a->cfg->command != COMMAND_RUN)
		return r;
	if (a->next < a->argc) {
		if (a->next + 1 >= a->argc)
			return err_set(a->e, -EINVAL, "no command follows --");
		run->argv = (char **)&a->argv[a->next + 1];
		run->argc = a->argc - a->next - 1;
	}
	return config_finish_guest(run, a->e);
}

static int parse_doctor(struct args *a)
{
	const char *operand;
	int r = next_operand(a, &operand);

	if (r > 0)
		return err_set(a->e, -EINVAL,
			       "doctor: unexpected \"%s\"; one check is asked for by --check NAME", operand);
	if (r == 0 && a->next < a->argc)
		return err_set(a->e, -EINVAL, "doctor: takes nothing after --");
	return r;
}

/* ctl NAME COMMAND [ARG]...: what follows the name is the VM's to judge. */
static int parse_ctl(struct args *a)
{
	struct ctl_config *ctl = &a->cfg->ctl;
	const char *operand;
	int r = next_operand(a, &operand);

	if (r < 0 || a->cfg->command != COMMAND_CTL)
		return r;
	if (r == 0)
		return err_set(a->e, -EINVAL, "ctl: which VM, and what of it? ringlet ctl NAME COMMAND");
	ctl->name = operand;
	ctl->argv = a->argv + a->next;
	ctl->argc = a->argc - a->next;
	if (!ctl->argc)
		return err_set(a->e, -EINVAL, "ctl: what of %s? \"ringlet help ctl\" lists the commands",
			       operand);
	if (ctl->argc > CONTROL_MAX_ARGS)
		return err_set(a->e, -EINVAL, "ctl: no command has more than %d words", CONTROL_MAX_ARGS);
	return 0;
}

/* explain NAME [DEVICE] */
static int parse_explain(struct args *a)
{
	struct ctl_config *ctl = &a->cfg->ctl;
	const char *operand, *extra;
	int r = next_operand(a, &operand);

	if (r < 0 || a->cfg->command != COMMAND_EXPLAIN)
		return r;
	if (r == 0)
		return err_set(a->e, -EINVAL, "explain: which VM? ringlet explain NAME [DEVICE]");
	ctl->name = operand;
	ctl->words[0] = (char *)(uintptr_t) "explain";
	ctl->argc = 1;
	r = next_operand(a, &operand);
	if (r > 0) {
		ctl->words[ctl->argc++] = (char *)(uintptr_t)operand;
		r = next_operand(a, &extra);
		if (r > 0)
			return err_set(a->e, -EINVAL, "explain: unexpected \"%s\" after the device \"%s\"",
				       extra, operand);
	}
	if (r == 0 && a->next < a->argc)
		return err_set(a->e, -EINVAL, "explain: takes nothing after --");
	ctl->argv = ctl->words;
	return r;
}

static const struct command_def *find_command(const char *name)
{
	for (size_t i = 0; i < ncommand_defs; i++)
		if (!strcmp(command_defs[i].name, name))
			return &command_defs[i];
	return NULL;
}

static const char *find_topic(const char *name)
{
	const struct command_def *def = find_command(name);

	if (!strcmp(name, HELP_DEVICES))
		return HELP_DEVICES;
	if (!strcmp(name, HELP_TESTS))
		return HELP_TESTS;
	return def ? def->name : NULL;
}

static int unknown_command(const char *name, struct err *e)
{
	struct nearest near;

	nearest_init(&near, name);
	for (size_t i = 0; i < ncommand_defs; i++)
		nearest_try(&near, command_defs[i].name);
	if (near.best)
		return err_set(e, -EINVAL, "unknown command \"%s\"; did you mean \"%s\"?", name, near.best);
	return err_set(e, -EINVAL, "unknown command \"%s\"; a kernel is started by: ringlet run KERNEL", name);
}

static int unknown_topic(const char *name, struct err *e)
{
	struct nearest near;

	nearest_init(&near, name);
	nearest_try(&near, HELP_DEVICES);
	nearest_try(&near, HELP_TESTS);
	if (near.best)
		return err_set(e, -EINVAL, "unknown topic \"%s\"; did you mean \"%s\"?", name, near.best);
	return unknown_command(name, e);
}

/* help [TOPIC], completion bash, version: one operand at most. */
static int parse_other(struct args *a, enum command command)
{
	const char *operand, *extra;
	int r = next_operand(a, &operand);

	if (r < 0 || a->cfg->command != command)
		return r;
	if (command == COMMAND_COMPLETE && (r == 0 || strcmp(operand, "bash") != 0))
		return err_set(a->e, -EINVAL, "completion: the shell is \"bash\", no other yet");
	if (command == COMMAND_HELP && r > 0) {
		a->cfg->help_topic = find_topic(operand);
		if (!a->cfg->help_topic)
			return unknown_topic(operand, a->e);
	}
	if (command == COMMAND_VERSION && r > 0)
		return err_set(a->e, -EINVAL, "version: unexpected \"%s\"", operand);
	r = r > 0 ? next_operand(a, &extra) : 0;
	if (r > 0)
		return err_set(a->e, -EINVAL, "unexpected \"%s\" after \"%s\"", extra, operand);
	if (r == 0 && a->next < a->argc)
		return err_set(a->e, -EINVAL, "nothing goes after -- here");
	return r;
}

int config_parse(struct config *cfg, int argc, char *const argv[], struct err *e)
{
	struct args a = {.cfg = cfg, .argc = argc, .argv = argv, .next = 1, .place = IN_MAIN, .e = e};
	const struct command_def *def;
	const char *operand;
	int r;

	memset(cfg, 0, sizeof(*cfg));
	config_defaults(&cfg->run);
	/* Not a command that an option can ask for, so that one that does is noticed. */
	cfg->command = COMMAND_RUN;
	r = next_operand(&a, &operand);
	if (r < 0)
		return r;
	if (r == 0) {
		if (cfg->command != COMMAND_RUN)
			return 0;
		if (a.next < argc)
			return err_set(e, -EINVAL, "a command is wanted before --: ringlet run ...");
		cfg->command = COMMAND_HELP;
		return 0;
	}
	def = find_command(operand);
	if (!def)
		return unknown_command(operand, e);
	cfg->command = def->command;
	a.place = def->place;
	switch (def->command) {
	case COMMAND_RUN:
		r = parse_run(&a);
		break;
	case COMMAND_DOCTOR:
		r = parse_doctor(&a);
		break;
	case COMMAND_CTL:
		r = parse_ctl(&a);
		break;
	case COMMAND_EXPLAIN:
		r = parse_explain(&a);
		break;
	default:
		r = parse_other(&a, def->command);
		break;
	}
	if (r == 0 && cfg->command == COMMAND_HELP && def->command != COMMAND_HELP)
		cfg->help_topic = def->name;
	return r;
}
