#include "vmm/result.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/outfile.h"
#include "vmm/version.h"

/* How many bytes of s are one character of UTF-8 that JSON takes, or 0. */
static size_t character(const unsigned char *s)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = {{0x80, 0, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

	for (size_t n = 0; n < 4; n++) {
		uint32_t c = s[0] & (unsigned char)~forms[n].mask;

		if ((s[0] & forms[n].mask) != forms[n].lead)
			continue;
		for (size_t i = 1; i <= n; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (s[i] & 0x3f);
		}
		return c < forms[n].least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n + 1;
	}
	return 0;
}

/* Any bytes as JSON: what is no UTF-8 becomes U+FFFD. */
static json_t *text(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	char *clean = s ? malloc(3 * strlen(s) + 1) : NULL;
	size_t n = 0;
	json_t *o;

	if (!s)
		return json_null();
	while (clean && *p) {
		size_t len = character(p);

		memcpy(clean + n, len ? (const char *)p : "\xef\xbf\xbd", len ? len : 3);
		n += len ? len : 3;
		p += len ? len : 1;
	}
	o = clean ? json_stringn_nocheck(clean, n) : json_null();
	free(clean);
	return o;
}

static json_t *command_array(char *const *argv)
{
	json_t *all = argv ? json_array() : json_null();

	for (; argv && *argv; argv++)
		json_array_append_new(all, text(*argv));
	return all;
}

static json_t *times_object(const struct result *r)
{
	static const char *const name[RESULT_TIMES] = {"kernel", "init", "command", "answer", "end"};
	json_t *o = json_object();

	for (unsigned i = 0; i < RESULT_TIMES; i++) {
		uint64_t us = r->time_ns[i] > r->exec_ns ? (r->time_ns[i] - r->exec_ns) / 1000 : 0;

		json_object_set_new(o, name[i], r->time_ns[i] ? json_real((double)us / 1e3) : json_null());
	}
	return o;
}

static json_t *started(const struct timespec *t)
{
	char date[32], whole[48];
	struct tm tm;

	if (!gmtime_r(&t->tv_sec, &tm) || !strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm))
		return json_null();
	snprintf(whole, sizeof(whole), "%s.%03ldZ", date, t->tv_nsec / 1000000);
	return json_string(whole);
}

static json_t *result_object(const struct result *r)
{
	json_t *o = json_object(), *kernel = json_object();
	json_t *counters = r->counters ? json_loads(r->counters, 0, NULL) : NULL;

	json_object_set_new(kernel, "path", text(r->kernel));
	json_object_set_new(kernel, "version", text(r->version));
	json_object_set_new(o, "ringlet", text(RINGLET_VERSION));
	json_object_set_new(o, "status", json_integer(r->status));
	json_object_set_new(o, "outcome", text(r->outcome));
	json_object_set_new(o, "reason", text(r->reason));
	json_object_set_new(o, "command", command_array(r->command));
	json_object_set_new(o, "command_status",
			    r->command_status < 0 ? json_null() : json_integer(r->command_status));
	json_object_set_new(o, "kernel", kernel);
	json_object_set_new(o, "cmdline", text(r->cmdline));
	json_object_set_new(o, "run", text(r->run));
	json_object_set_new(o, "started", started(&r->started));
	json_object_set_new(o, "times_ms", times_object(r));
	json_object_set_new(o, "oops", text(r->oops));
	json_object_set_new(o, "log", text(r->log));
	json_object_set_new(o, "tail", text(r->tail));
	json_object_set_new(o, "counters", counters ? counters : json_null());
	return o;
}

int result_write(const struct result *r, const char *path, struct err *e)
{
	json_t *o = result_object(r);
	struct outfile out;
	int rc = outfile_begin(&out, path);

	if (!rc) {
		int end;

		errno = 0;
		rc = json_dumpfd(o, out.fd, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) ? (errno ? -errno : -EIO)
										      : 0;
		if (!rc && write(out.fd, "\n", 1) != 1)
			rc = errno ? -errno : -EIO;
		end = outfile_end(&out, !rc);
		rc = rc ? rc : end;
	}
	json_decref(o);
	return rc ? err_set(e, rc, "--result %s: %s", path, strerror(-rc)) : 0;
}
