#include "matrix/plan.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "matrix/plan_line.h"
#include "vmm/config_keys.h"

#define GRACE_MS 30000
#define MAX_NAME 64

static const char *const kinds[] = {"matrix", "defaults", "kernel", "options", "command"};
#define AXES 3

/* All that a file says. */
struct draft {
	struct plan *p;
	struct part defaults;
	struct part *axis[AXES]; /* kernels, options, commands; one that is empty where there is none */
	size_t n[AXES];
};

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "no memory left");
}

/* --- sections --- */

static int check_kind(const struct matrix_file *f, const struct section *s, struct err *e)
{
	struct nearest near;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i], s->kind))
			return 0;
	nearest_init(&near, s->kind);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		nearest_try(&near, kinds[i]);
	if (near.best)
		return file_err(e, f, s->number, "there is no section [%.40s]; did you mean [%s]?", s->kind,
				near.best);
	return file_err(e, f, s->number,
			"there is no section [%.40s]; expected [matrix], [defaults], [kernel NAME], "
			"[options NAME] or [command NAME]",
			s->kind);
}

static int check_name(const struct matrix_file *f, const struct section *s, struct err *e)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+=.,:@-";

	if (!line_kind_is_axis(s->kind)) {
		if (!s->name)
			return 0;
		return file_err(e, f, s->number, "[%s] takes no name, found \"%.40s\"", s->kind, s->name);
	}
	if (!s->name)
		return file_err(e, f, s->number, "[%s] wants a name: [%s NAME]", s->kind, s->kind);
	if (s->name[strspn(s->name, legal)] || *s->name == '.' || *s->name == '-' || strlen(s->name) > MAX_NAME)
		return file_err(e, f, s->number,
				"\"%.80s\" cannot be a name: letters, digits and _ + = . , : @ - make one, at "
				"most %d of them, and no . or - begins it",
				s->name, MAX_NAME);
	return 0;
}

static int check_section(const struct matrix_file *f, const struct section *s, struct err *e)
{
	int rc = check_kind(f, s, e);

	if (!rc)
		rc = check_name(f, s, e);
	for (const struct section *t = f->section; t < s && !rc; t++)
		if (!strcmp(t->kind, s->kind) && (!s->name || !strcmp(t->name, s->name)))
			rc = file_err(e, f, s->number, "[%s%s%s] is there already, in line %u", s->kind,
				      s->name ? " " : "", s->name ? s->name : "", t->number);
	return rc;
}

static int axis_of(const char *kind)
{
	for (int i = 0; i < AXES; i++)
		if (!strcmp(kinds[2 + i], kind))
			return i;
	return -1;
}

static int check_part(const struct matrix_file *f, const struct part *part, struct err *e)
{
	const struct section *s = part->section;
	bool has_kernel = part->path_line;

	if (!strcmp(s->kind, "command") && !part->command.n)
		return file_err(e, f, s->number, "[command %s] says neither run = WORDS nor shell = LINE",
				s->name);
	for (size_t i = 0; i < s->n; i++)
		has_kernel |= !s->line[i].key || !strcmp(s->line[i].key, "kernel");
	if (!strcmp(s->kind, "kernel") && !has_kernel)
		return file_err(e, f, s->number, "[kernel %s] says no path = FILE", s->name);
	return 0;
}

static int take_section(struct draft *d, const struct section *s, struct err *e)
{
	const struct matrix_file *f = &d->p->file;
	const int axis = axis_of(s->kind);
	struct part *part = axis < 0 ? &d->defaults : &d->axis[axis][d->n[axis]];
	int rc = check_section(f, s, e);

	if (!rc && !strcmp(s->kind, "matrix")) {
		for (size_t i = 0; i < s->n && !rc; i++)
			rc = line_take_matrix(d->p, &s->line[i], e);
		return rc;
	}
	if (rc)
		return rc;
	part->section = s;
	if (axis >= 0)
		d->n[axis]++;
	for (size_t i = 0; i < s->n && !rc; i++)
		rc = line_take(part, f, &s->line[i], e);
	return rc ? rc : check_part(f, part, e);
}

static int draft_read(struct draft *d, struct err *e)
{
	const struct matrix_file *f = &d->p->file;
	int rc = 0;

	for (int i = 0; i < AXES; i++) {
		d->axis[i] = calloc(f->n + 1, sizeof(*d->axis[i]));
		if (!d->axis[i])
			return no_memory(e);
	}
	for (size_t i = 0; i < f->n && !rc; i++)
		rc = take_section(d, &f->section[i], e);
	return rc;
}

static void draft_free(struct draft *d)
{
	for (int i = 0; i < AXES; i++) {
		for (size_t k = 0; d->axis[i] && k < d->n[i]; k++)
			part_fini(&d->axis[i][k]);
		free(d->axis[i]);
	}
	part_fini(&d->defaults);
}

/* --- cases --- */

static int add_part(struct matrix_case *c, const struct part *part)
{
	int rc = args_add_all(&c->options, &part->options);

	if (!rc)
		rc = args_add_all(&c->command, &part->command);
	if (part->has_expect)
		c->expect = part->expect;
	return rc;
}

static int name_case(struct matrix_case *c, const struct part *const part[AXES])
{
	char name[AXES * (MAX_NAME + 1) + 1];
	size_t len = 0;

	for (int i = 0; i < AXES; i++)
		if (part[i]->section)
			len += (size_t)snprintf(name + len, sizeof(name) - len, "%s%s", len ? "/" : "",
						part[i]->section->name);
	c->name = strdup(name);
	return c->name ? 0 : -ENOMEM;
}

static int make_case(struct plan *p, const struct draft *d, const struct part *const part[AXES], struct err *e)
{
	static const char *const first[] = {"ringlet", "run", "--timeout=" PLAN_TIMEOUT};
	struct matrix_case *c = &p->cases[p->n++];
	int rc = name_case(c, part);

	for (size_t i = 0; i < ARRAY_SIZE(first) && !rc; i++)
		rc = args_add(&c->options, first[i]);
	if (!rc)
		rc = add_part(c, &d->defaults);
	for (int i = 0; i < AXES && !rc; i++)
		rc = add_part(c, part[i]);
	if (rc)
		return no_memory(e);
	return line_check_case(c, e) ? err_prefix(e, "%s: case %s", p->file.path, c->name) : 0;
}

static int make_cases(struct plan *p, const struct draft *d, struct err *e)
{
	const size_t n[AXES] = {d->n[0] ? d->n[0] : 1, d->n[1] ? d->n[1] : 1, d->n[2] ? d->n[2] : 1};
	size_t total;

	if (!d->n[0] && !d->n[1] && !d->n[2])
		return err_set(
			e, -EINVAL,
			"%s: no case: expected at least one [kernel NAME], [options NAME] or [command NAME]",
			p->file.path);
	if (__builtin_mul_overflow(n[0], n[1], &total) || __builtin_mul_overflow(total, n[2], &total) ||
	    total > PLAN_MAX_CASES)
		return err_set(e, -EINVAL,
			       "%s: %zu kernels x %zu options x %zu commands; expected at most %u cases",
			       p->file.path, n[0], n[1], n[2], PLAN_MAX_CASES);
	p->cases = calloc(total, sizeof(*p->cases));
	if (!p->cases)
		return no_memory(e);
	for (size_t i = 0; i < total; i++) {
		const struct part *const part[AXES] = {&d->axis[0][i / n[2] / n[1]],
						       &d->axis[1][i / n[2] % n[1]], &d->axis[2][i % n[2]]};
		int rc = make_case(p, d, part, e);

		if (rc)
			return rc;
	}
	return 0;
}

static void case_fini(struct matrix_case *c)
{
	free(c->name);
	args_fini(&c->options);
	args_fini(&c->command);
}

/* --- which of them --- */

bool plan_matches(const char *pattern, const char *name)
{
	return !fnmatch(pattern, name, FNM_PATHNAME | FNM_LEADING_DIR);
}

/* Drops those whose mark is not as wanted. */
static void keep_marked(struct plan *p, const bool *mark, bool wanted)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++) {
		if (mark[i] == wanted)
			p->cases[n++] = p->cases[i];
		else
			case_fini(&p->cases[i]);
	}
	p->n = n;
}

static bool mark_matching(const struct plan *p, const char *pattern, bool *mark)
{
	bool any = false;

	for (size_t i = 0; i < p->n; i++) {
		if (plan_matches(pattern, p->cases[i].name))
			any = mark[i] = true;
	}
	return any;
}

int plan_filter(struct plan *p, const char *const *pattern, size_t n, struct err *e)
{
	CLEANUP_FREE bool *mark = calloc(p->n + 1, sizeof(*mark));

	if (!mark)
		return no_memory(e);
	for (size_t i = 0; i < n; i++)
		if (!mark_matching(p, pattern[i], mark))
			return err_set(e, -EINVAL, "\"%s\" matches none of %zu cases, such as %s", pattern[i],
				       p->n, p->cases[0].name);
	if (n)
		keep_marked(p, mark, true);
	return 0;
}

/* The lines of [matrix] that begin with key: a pattern or more each. */
static int choose(struct plan *p, const char *key, bool keep, struct err *e)
{
	CLEANUP_FREE bool *mark = calloc(p->n + 1, sizeof(*mark));
	bool any = false;

	if (!mark)
		return no_memory(e);
	for (const struct line *l = p->file.lines; l < p->file.lines + p->file.nlines; l++) {
		char *copy, *rest = NULL;
		int rc = 0;

		if (!l->key || strcmp(l->key, key) != 0)
			continue;
		any = true;
		copy = strdup(l->value);
		if (!copy)
			return no_memory(e);
		for (char *w = strtok_r(copy, " \t", &rest); w && !rc; w = strtok_r(NULL, " \t", &rest))
			if (!mark_matching(p, w, mark))
				rc = file_err(e, &p->file, l->number, "%s: \"%.80s\" matches no case%s%s", key,
					      w, p->n ? "; one is " : "", p->n ? p->cases[0].name : "");
		free(copy);
		if (rc)
			return rc;
	}
	if (any)
		keep_marked(p, mark, keep);
	return 0;
}

/* --- the whole --- */

static int set_names(struct plan *p)
{
	const char *slash = strrchr(p->file.path, '/');

	p->name = slash ? slash + 1 : p->file.path;
	p->directory = slash ? strndup(p->file.path, slash > p->file.path ? (size_t)(slash - p->file.path) : 1)
			     : strdup(".");
	return p->directory ? 0 : -ENOMEM;
}

int plan_make(struct plan *p, struct matrix_file *file, struct err *e)
{
	struct draft d = {.p = p};
	int rc;

	*p = (struct plan){.file = *file, .grace_ms = GRACE_MS};
	*file = (struct matrix_file){0};
	if (set_names(p))
		return no_memory(e);
	rc = draft_read(&d, e);
	if (!rc)
		rc = make_cases(p, &d, e);
	draft_free(&d);
	if (!rc)
		rc = choose(p, "include", true, e);
	if (!rc)
		rc = choose(p, "exclude", false, e);
	if (!rc && !p->n)
		rc = err_set(e, -EINVAL, "%s: no case: every one is excluded", p->file.path);
	return rc;
}

int plan_read(struct plan *p, const char *path, struct err *e)
{
	struct matrix_file file;
	int rc = file_read(&file, path, e);

	*p = (struct plan){0};
	if (!rc)
		return plan_make(p, &file, e);
	file_free(&file);
	return rc;
}

void plan_free(struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		case_fini(&p->cases[i]);
	free(p->cases);
	free(p->directory);
	file_free(&p->file);
	*p = (struct plan){0};
}
