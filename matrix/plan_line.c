#include "matrix/plan_line.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/config.h"
#include "vmm/config_keys.h"
#include "vmm/config_options.h"
#include "vmm/config_values.h"

#define MEM_OVERHEAD (UINT64_C(64) << 20) /* of the VMM and its helpers, on top of the guest's */
#define MAX_JOBS     1024

static const char *const matrix_keys[] = {"name", "directory", "jobs", "grace", "include", "exclude", NULL};
static const char *const defaults_keys[] = {"expect", NULL};
static const char *const kernel_keys[] = {"path", "expect", NULL};
static const char *const command_keys[] = {"run", "shell", "expect", NULL};

static const char *const *keys_of(const char *kind)
{
	if (!strcmp(kind, "matrix"))
		return matrix_keys;
	if (!strcmp(kind, "kernel"))
		return kernel_keys;
	return strcmp(kind, "command") != 0 ? defaults_keys : command_keys;
}

bool line_kind_is_axis(const char *kind)
{
	return !strcmp(kind, "kernel") || !strcmp(kind, "options") || !strcmp(kind, "command");
}

static bool is_key(const char *kind, const char *name)
{
	for (const char *const *key = keys_of(kind); *key; key++)
		if (!strcmp(*key, name))
			return true;
	return false;
}

static bool is_option(const char *name)
{
	for (size_t i = 0; i < noption_defs; i++)
		if (!strcmp(option_defs[i].name, name))
			return true;
	for (size_t i = 0; i < noption_aliases; i++)
		if ((option_aliases[i].dashes & TWO_DASH) && !strcmp(option_aliases[i].name, name))
			return true;
	return false;
}

static int unknown_key(const struct matrix_file *f, const char *kind, const struct line *line, struct err *e)
{
	const bool takes_options = strcmp(kind, "matrix") != 0;
	struct nearest near;

	nearest_init(&near, line->key);
	for (const char *const *key = keys_of(kind); *key; key++)
		nearest_try(&near, *key);
	for (size_t i = 0; i < noption_defs && takes_options; i++)
		if (option_defs[i].places & IN_RUN)
			nearest_try(&near, option_defs[i].name);
	if (near.best)
		return file_err(e, f, line->number, "[%s] has no key \"%.40s\"; did you mean \"%s\"?", kind,
				line->key, near.best);
	return file_err(e, f, line->number, "[%s] has no key \"%.40s\"; expected %s", kind, line->key,
			takes_options ? "an option of \"ringlet run\" or a key of its own"
				      : "name, directory, jobs, grace, include or exclude");
}

/* --- options of "ringlet run" --- */

/* What differs for each case, or would keep it from being run. */
static const char *whose(const struct config *cfg)
{
	const struct run_config *run = &cfg->run;

	if (cfg->command != COMMAND_RUN)
		return "--help and --version run nothing";
	if (run->dry_run)
		return "--dry-run goes on the command line: ringlet matrix --dry-run";
	if (run->log || run->result || run->junit || run->stats_path)
		return "files of results are the matrix's, one directory a case; see --out and --junit of "
		       "\"ringlet matrix\"";
	if (run->name || run->control)
		return "names and sockets differ for each case; leave --name and --control out";
	return NULL;
}

/* words: "ringlet run ..." without a command.  It is read as if there was one. */
static int parse(struct config *cfg, const struct args *words, bool command, struct err *e)
{
	struct args all = {0};
	int rc = args_add_all(&all, words);

	if (!rc && command) {
		rc = args_add(&all, "--");
		if (!rc)
			rc = args_add(&all, "true");
	}
	rc = rc ? err_set(e, rc, "no memory left") : config_parse(cfg, (int)all.n, all.word, e);
	/* Only numbers are taken from it. */
	args_fini(&all);
	return rc;
}

static int check_options(const struct args *words, bool command, struct matrix_case *c, struct err *e)
{
	static struct config cfg; /* large */
	int rc = parse(&cfg, words, command, e);

	if (!rc && whose(&cfg))
		rc = err_set(e, -EINVAL, "%s", whose(&cfg));
	if (!rc && c) {
		c->cpus = cfg.run.cpu.n;
		/* Huge pages are no part of what is free. */
		c->memory = MEM_OVERHEAD + (cfg.run.mem.hugepage_size ? 0 : cfg.run.mem.size);
		c->timeout_ms = cfg.run.timeout_ms;
	}
	config_free(&cfg);
	return rc;
}

int line_check_case(struct matrix_case *c, struct err *e)
{
	return check_options(&c->options, c->command.n, c, e);
}

/* Those of one line, alone: what is wrong in it is said of its line. */
static int check_line(const struct args *words, struct err *e)
{
	struct args all = {0};
	int rc = args_add(&all, "ringlet");

	if (!rc)
		rc = args_add(&all, "run");
	if (!rc)
		rc = args_add_all(&all, words);
	rc = rc ? err_set(e, rc, "no memory left") : check_options(&all, true, NULL, e);
	args_fini(&all);
	return rc;
}

static int option_words(struct args *words, const char *key, const char *value, struct err *e)
{
	CLEANUP_FREE char *word = NULL;

	if (asprintf(&word, "--%s%s%s", key, value ? "=" : "", value ? value : "") < 0) {
		word = NULL;
		return err_set(e, -ENOMEM, "no memory left");
	}
	return args_add(words, word) ? err_set(e, -ENOMEM, "no memory left") : 0;
}

static int raw_words(struct args *words, const char *value, struct err *e)
{
	int rc = args_split(words, value, e);

	for (size_t i = 0; i < words->n && !rc; i++)
		if (!strcmp(words->word[i], "--"))
			rc = err_set(e, -EINVAL,
				     "a command is not given by \"--\" but by run = ... of a [command]");
	return rc;
}

static int take_options(struct part *part, const char *key, const char *value, struct err *e)
{
	struct args words = {0};
	int rc = key ? option_words(&words, key, value, e) : raw_words(&words, value, e);

	if (!rc)
		rc = check_line(&words, e);
	if (!rc && args_add_all(&part->options, &words))
		rc = err_set(e, -ENOMEM, "no memory left");
	args_fini(&words);
	return rc;
}

/* --- our own keys --- */

static int take_command(struct part *part, bool shell, const char *value, struct err *e)
{
	struct args *w = &part->command;
	int rc;

	if (!shell)
		return args_split(w, value, e);
	rc = args_add(w, "sh");
	if (!rc)
		rc = args_add(w, "-c");
	if (!rc)
		rc = args_add(w, value);
	return rc ? err_set(e, rc, "no memory left") : 0;
}

/* Whether key is there for the first time. */
static int once(unsigned *seen, const struct line *line, struct err *e)
{
	if (*seen)
		return err_set(e, -EINVAL, "line %u has said it already", *seen);
	*seen = line->number;
	return 0;
}

static int take_own(struct part *part, const struct line *line, struct err *e)
{
	const bool is_expect = !strcmp(line->key, "expect"), is_path = !strcmp(line->key, "path");
	unsigned *seen = is_expect ? &part->expect_line : is_path ? &part->path_line : &part->run_line;

	if (!line->value || !*line->value)
		return err_set(e, -EINVAL, "expected %s = VALUE, found no value", line->key);
	if (once(seen, line, e))
		return -EINVAL;
	if (is_expect) {
		part->has_expect = true;
		return expect_parse(&part->expect, line->value, e);
	}
	if (is_path)
		return take_options(part, "kernel", line->value, e);
	return take_command(part, !strcmp(line->key, "shell"), line->value, e);
}

int line_take(struct part *part, const struct matrix_file *f, const struct line *line, struct err *e)
{
	const char *kind = part->section->kind;
	int rc;

	if (line->key && is_key(kind, line->key))
		rc = take_own(part, line, e);
	else if (line->key && !is_option(line->key))
		return unknown_key(f, kind, line, e);
	else
		rc = take_options(part, line->key, line->value, e);
	return rc ? err_prefix(e, "%s:%u: %s", f->path, line->number, line->key ? line->key : "options") : 0;
}

void part_fini(struct part *part)
{
	args_fini(&part->options);
	args_fini(&part->command);
}

static int take_matrix(struct plan *p, const struct line *line, struct err *e)
{
	const char *value = line->value;

	if (!value || !*value)
		return err_set(e, -EINVAL, "expected %s = VALUE, found no value", line->key);
	if (!strcmp(line->key, "jobs"))
		return value_number(value, 1, MAX_JOBS, &p->jobs, e);
	if (!strcmp(line->key, "grace"))
		return value_duration(value, &p->grace_ms, e);
	if (!strcmp(line->key, "name")) {
		p->name = value;
	} else if (!strcmp(line->key, "directory")) {
		const char *slash = strrchr(p->file.path, '/');
		char *directory = NULL;

		if (asprintf(&directory, "%.*s%s",
			     *value == '/' || !slash ? 0 : (int)(slash - p->file.path + 1), p->file.path,
			     value) < 0)
			return err_set(e, -ENOMEM, "no memory left");
		free(p->directory);
		p->directory = directory;
	}
	return 0;
}

int line_take_matrix(struct plan *p, const struct line *line, struct err *e)
{
	if (!line->key)
		return file_err(e, &p->file, line->number,
				"[matrix] takes no options of \"ringlet run\"; they go into [defaults]");
	if (!is_key("matrix", line->key))
		return unknown_key(&p->file, "matrix", line, e);
	return take_matrix(p, line, e) ? err_prefix(e, "%s:%u: %s", p->file.path, line->number, line->key) : 0;
}
