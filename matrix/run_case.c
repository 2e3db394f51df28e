#include "matrix/run_case.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"

/* path and what is missing above it. */
static int make_dirs(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	struct stat st;

	if (!copy)
		return -ENOMEM;
	for (char *s = copy + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		if (mkdir(copy, 0777) && errno != EEXIST)
			return -errno;
		*s = '/';
	}
	if (mkdir(copy, 0777) && errno != EEXIST)
		return -errno;
	return stat(copy, &st) ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int case_make_out(char **out, const char *path, struct err *e)
{
	int rc = make_dirs(path);

	*out = rc ? NULL : realpath(path, NULL);
	if (!rc && !*out)
		rc = -errno;
	return rc ? err_set(e, rc, "--out: %s: %s", path, strerror(-rc)) : 0;
}

void case_path(const struct run *r, size_t i, const char *file, char path[CASE_PATH])
{
	snprintf(path, CASE_PATH, "%s/%s", r->cases[i].dir ? r->cases[i].dir : r->out, file);
}

/* Nothing that was there before can be taken for what comes now. */
static int clear(const struct run *r, size_t i, struct err *e)
{
	static const char *const files[] = {CASE_RESULT, CASE_LOG, CASE_OUT, CASE_ERR};
	char path[CASE_PATH];

	for (size_t k = 0; k < ARRAY_SIZE(files); k++) {
		case_path(r, i, files[k], path);
		if (unlink(path) && errno != ENOENT)
			return err_set(e, -errno, "%s of an earlier run cannot be removed: %m", path);
	}
	return 0;
}

static int make_dir(struct run *r, size_t i, struct err *e)
{
	struct case_run *c = &r->cases[i];
	int rc;

	if (asprintf(&c->dir, "%s/%s", r->out, r->plan->cases[i].name) < 0) {
		c->dir = NULL;
		return err_set(e, -ENOMEM, "no memory left");
	}
	if (strlen(c->dir) + 32 > PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "%s: longer than a path can be", c->dir);
	rc = make_dirs(c->dir);
	return rc ? err_set(e, rc, "%s: %s", c->dir, strerror(-rc)) : clear(r, i, e);
}

static int open_output(const struct run *r, size_t i, const char *file, struct err *e)
{
	char path[CASE_PATH];
	int fd;

	case_path(r, i, file, path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
	return fd < 0 ? err_set(e, -errno, "%s: %m", path) : fd;
}

static int add_file(struct args *w, const struct run *r, size_t i, const char *option, const char *file)
{
	char word[CASE_PATH + 16], path[CASE_PATH];

	case_path(r, i, file, path);
	snprintf(word, sizeof(word), "--%s=%s", option, path);
	return args_add(w, word);
}

static int command_line(struct args *w, const struct run *r, size_t i, struct err *e)
{
	const struct matrix_case *c = &r->plan->cases[i];
	int rc = args_add_all(w, &c->options);

	if (!rc)
		rc = add_file(w, r, i, "result", CASE_RESULT);
	if (!rc)
		rc = add_file(w, r, i, "log", CASE_LOG);
	if (!rc && c->command.n)
		rc = args_add(w, "--");
	if (!rc)
		rc = args_add_all(w, &c->command);
	return rc ? err_set(e, rc, "no memory left") : 0;
}

int case_begin(struct run *r, size_t i, struct err *e)
{
	CLEANUP_FD int out = -1, err = -1;
	struct args w = {0};
	int rc = make_dir(r, i, e);

	if (rc)
		return rc;
	out = open_output(r, i, CASE_OUT, e);
	err = out < 0 ? out : open_output(r, i, CASE_ERR, e);
	if (err < 0)
		return err;
	rc = command_line(&w, r, i, e);
	if (!rc)
		rc = keeper_start(&r->cases[i].keeper,
				  &(struct charge){.file = r->program,
						   .argv = w.word,
						   .directory = r->plan->directory,
						   .out = out,
						   .err = err},
				  e);
	args_fini(&w);
	return rc;
}

void case_end(struct run *r, size_t i)
{
	const struct matrix_case *m = &r->plan->cases[i];
	struct case_run *c = &r->cases[i];
	struct ended how = {.late = c->late, .interrupted = c->interrupted};
	char path[CASE_PATH];
	struct result result;
	struct err e = {0};
	bool there;

	keeper_finish(&c->keeper, &how);
	case_path(r, i, CASE_RESULT, path);
	there = !result_read(&result, path, &e);
	c->answered = there && !strcmp(result.outcome, "answer");
	expect_judge(&c->verdict, &m->expect, &how, there ? &result : NULL, e.text,
		     (double)(m->timeout_ms + r->plan->grace_ms) / 1000);
}
