/* Made-up directories of modules. */
#ifndef TESTS_UNIT_MODULE_RIG_H
#define TESTS_UNIT_MODULE_RIG_H
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char rig_dir[64];

static inline void rig_make(void)
{
	strcpy(rig_dir, "/tmp/ringlet-modules-XXXXXX");
	cr_assert(mkdtemp(rig_dir));
}

static inline void rig_remove(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", rig_dir);
	if (rig_dir[0])
		cr_expect_eq(system(command), 0);
}

static inline const char *rig_path(const char *name)
{
	static char path[4][256];
	static unsigned n;
	char *p = path[n++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", rig_dir, name);
	return p;
}

static inline void rig_bytes(const char *name, const void *data, size_t len)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s", rig_path(name));
	for (char *c = path + strlen(rig_dir) + 1; (c = strchr(c, '/')); c++) {
		*c = '\0';
		mkdir(path, 0755);
		*c = '/';
	}
	f = fopen(path, "w");
	cr_assert(f, "%s", path);
	cr_assert_eq(fwrite(data, 1, len, f), len);
	cr_assert_eq(fclose(f), 0);
}

static inline void rig_file(const char *name, const char *text)
{
	rig_bytes(name, text, strlen(text));
}

/* Runs it in the directory. */
__attribute__((format(printf, 1, 2))) static inline void rig_run(const char *fmt, ...)
{
	char command[1024];
	int n = snprintf(command, sizeof(command), "cd '%s' && ", rig_dir);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, ap);
	va_end(ap);
	cr_assert_eq(system(command), 0, "%s", command);
}
#endif
