#include "matrix/result.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"

const char *const result_outcomes[] = {
	"answer",      "power-off", "no-answer", "panic", "oops",         "soft-lockup",
	"boot-hang",   "timeout",   "reset",     "quit",  "triple-fault", "back-end-lost",
	"memory-lost", "signal",    "failed",    NULL,
};

bool result_outcome_known(const char *word)
{
	for (const char *const *o = result_outcomes; *o; o++)
		if (!strcmp(*o, word))
			return true;
	return false;
}

static int open_result(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_set(e, -errno,
			       errno == ENOENT ? "it wrote no result (%s is not there)" : "its result %s: %m",
			       path);
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size <= (off_t)RESULT_MAX_SIZE)
		return fd;
	close(fd);
	return err_set(e, -EBADMSG, "its result is malformed: %s is no file of at most %u bytes", path,
		       RESULT_MAX_SIZE);
}

/* Left out, or no number: -1. */
static double seconds(const json_t *times, const char *key)
{
	const json_t *t = json_object_get(times, key);

	return json_is_number(t) ? json_number_value(t) / 1000 : -1;
}

static int take(struct result *r, const json_t *root, const char *path, struct err *e)
{
	const json_t *status = json_object_get(root, "status");
	const char *outcome = json_string_value(json_object_get(root, "outcome"));
	const char *reason = json_string_value(json_object_get(root, "reason"));
	const json_t *times = json_object_get(root, "times_ms");

	if (!json_is_integer(status) || json_integer_value(status) < 0 || json_integer_value(status) > 255)
		return err_set(e, -EBADMSG, "its result is malformed: %s has no \"status\" from 0 to 255",
			       path);
	if (!outcome || !result_outcome_known(outcome))
		return err_set(e, -EBADMSG, "its result is malformed: %s has %s%.40s for \"outcome\"", path,
			       outcome ? "" : "nothing", outcome ? outcome : "");
	*r = (struct result){.status = (int)json_integer_value(status),
			     .command_s = seconds(times, "command"),
			     .end_s = seconds(times, "end")};
	snprintf(r->outcome, sizeof(r->outcome), "%s", outcome);
	snprintf(r->reason, sizeof(r->reason), "%s", reason ? reason : "");
	return 0;
}

int result_read(struct result *r, const char *path, struct err *e)
{
	CLEANUP_FD int fd = open_result(path, e);
	json_error_t why;
	json_t *root;
	int rc;

	if (fd < 0)
		return fd;
	root = json_loadfd(fd, JSON_REJECT_DUPLICATES, &why);
	if (!root)
		return err_set(e, -EBADMSG, "its result is malformed: %s:%d: %s", path, why.line, why.text);
	rc = take(r, root, path, e);
	json_decref(root);
	return rc;
}
