#include "vmm/modules.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/modules_parts.h"
#include "vmm/text_file.h"

#define MAX_LIST (32u << 20)

/* --- names --- */

/* "kernel/fs/ext4/ext4.ko.xz": "ext4", with _ for -. */
bool modules_name(const char *path, char name[MODULE_NAME])
{
	const char *base = strrchr(path, '/');
	size_t n;

	base = base ? base + 1 : path;
	n = strcspn(base, ".");
	if (!n || n >= MODULE_NAME)
		return false;
	for (size_t i = 0; i < n; i++)
		name[i] = base[i] == '-' ? '_' : base[i];
	name[n] = '\0';
	return true;
}

static uint32_t hash(const char *name)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return h;
}

struct module_entry *modules_lookup(struct modules *m, const char *name)
{
	char plain[MODULE_NAME];
	uint32_t h;

	if (!modules_name(name, plain))
		return NULL;
	h = hash(plain);
	for (size_t i = 0; i < m->nentry; i++)
		if (m->entry[i].hash == h && !strcmp(m->entry[i].name, plain))
			return &m->entry[i];
	return NULL;
}

/* --- lists --- */

static int add_entry(struct modules *m, char *path, char *deps, bool builtin)
{
	struct module_entry *entry;

	if (m->nentry == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 1024;

		entry = realloc(m->entry, cap * sizeof(*entry));
		if (!entry)
			return -ENOMEM;
		m->entry = entry;
		m->cap = cap;
	}
	entry = &m->entry[m->nentry];
	*entry = (struct module_entry){.path = path, .deps = deps, .builtin = builtin};
	if (!modules_name(path, entry->name))
		return 0; /* a line that names nothing */
	entry->hash = hash(entry->name);
	m->nentry++;
	return 0;
}

static char *read_list(const struct modules *m, const char *file)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", m->dir, file) >= (int)sizeof(path))
		return NULL;
	return text_file_read(path, MAX_LIST);
}

/* "PATH: PATH PATH" a line, or PATH alone. */
static int take_lines(struct modules *m, char *text, bool builtin)
{
	char *save = NULL;
	int rc = 0;

	for (char *line = strtok_r(text, "\n", &save); !rc && line; line = strtok_r(NULL, "\n", &save)) {
		char *deps = strchr(line, ':');

		if (deps)
			*deps++ = '\0';
		rc = add_entry(m, line, deps, builtin);
	}
	return rc;
}

/* modules.order names what was compiled ("fs/fuse/fuse.o", before Linux 6.4 "kernel/fs/fuse/fuse.ko"). */
static void name_files(struct modules *m)
{
	for (size_t i = 0; i < m->nentry; i++) {
		struct module_entry *entry = &m->entry[i];
		size_t n = strlen(entry->path);

		if (!strncmp(entry->path, "kernel/", 7))
			entry->path += 7;
		entry->object = n > 2 && !strcmp(m->entry[i].path + strlen(m->entry[i].path) - 2, ".o");
	}
}

static bool has_file(const char *dir, const char *file)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", dir, file) < (int)sizeof(path) && !access(path, R_OK);
}

/* The built-in ones first: who is in both lists is in the kernel. */
static int read_lists(struct modules *m, struct err *e)
{
	int rc = 0;

	m->builtin = read_list(m, "modules.builtin");
	m->knows_builtin = m->builtin != NULL;
	if (m->builtin)
		rc = take_lines(m, m->builtin, true);
	m->dep = read_list(m, m->tree ? "modules.order" : "modules.dep");
	if (!m->dep)
		return err_set(e, -errno, "the list of modules %s/%s cannot be read: %s", m->dir,
			       m->tree ? "modules.order" : "modules.dep", strerror(errno));
	if (!rc)
		rc = take_lines(m, m->dep, false);
	if (m->tree)
		name_files(m);
	m->softdep = read_list(m, "modules.softdep");
	return rc ? err_set(e, rc, "out of memory") : 0;
}

/* --- where --- */

static bool try_dir(struct modules *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool try_dir(struct modules *m, const char *fmt, ...)
{
	char dir[PATH_MAX];
	size_t used = strlen(m->looked);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(dir, sizeof(dir), fmt, ap);
	va_end(ap);
	if (n < 0 || n >= (int)sizeof(dir))
		return false;
	if (has_file(dir, "modules.dep")) {
		memcpy(m->dir, dir, (size_t)n + 1);
		return true;
	}
	snprintf(m->looked + used, sizeof(m->looked) - used, "%s%s", used ? ", " : "", dir);
	return false;
}

static int find_asked(struct modules *m, const struct kernel_tree *kernel, const char *asked, struct err *e)
{
	if (try_dir(m, "%s", asked))
		return 0;
	if (!kernel->release[0])
		return err_set(e, -ENOENT,
			       "--modules %s: there is no modules.dep in it, and which of the directories "
			       "below it are "
			       "this kernel's cannot be told: %s does not say its version\n"
			       "Name the directory itself: --modules %s/lib/modules/VERSION",
			       asked, kernel->image, asked);
	if (try_dir(m, "%s/lib/modules/%s", asked, kernel->release) ||
	    try_dir(m, "%s/%s", asked, kernel->release))
		return 0;
	return err_set(e, -ENOENT,
		       "--modules %s: no modules of kernel %s: there is no modules.dep in %s\n"
		       "Install them there: make modules_install INSTALL_MOD_PATH=DIR, or depmod -b DIR %s",
		       asked, kernel->release, m->looked, kernel->release);
}

static bool is_built(const struct kernel_tree *kernel)
{
	return kernel->dir[0] && has_file(kernel->dir, "modules.order");
}

static void find_beside(struct modules *m, const struct kernel_tree *kernel)
{
	char dir[PATH_MAX];
	char *slash;

	if (is_built(kernel)) {
		snprintf(m->dir, sizeof(m->dir), "%s", kernel->dir);
		m->tree = true;
		return;
	}
	if (!kernel->release[0] || !realpath(kernel->image, dir))
		return;
	slash = strrchr(dir, '/');
	*slash = '\0';
	/* /boot/vmlinuz-V: /boot/../lib/modules/V */
	if (try_dir(m, "%s/lib/modules/%s", dir, kernel->release))
		return;
	slash = strrchr(dir, '/');
	if (slash) {
		*slash = '\0';
		if (try_dir(m, "%s/lib/modules/%s", dir, kernel->release))
			return;
	}
	if (*dir && !kernel->dir[0])
		try_dir(m, "/lib/modules/%s", kernel->release);
}

int modules_open(struct modules *m, const struct kernel_tree *kernel, const char *asked, struct err *e)
{
	int rc = 0;

	*m = (struct modules){0};
	if (asked)
		rc = find_asked(m, kernel, asked, e);
	else
		find_beside(m, kernel);
	if (rc || !m->dir[0])
		return rc;
	return read_lists(m, e);
}

void modules_close(struct modules *m)
{
	for (size_t i = 0; m->tree && i < m->nentry; i++)
		if (!m->entry[i].builtin)
			free(m->entry[i].deps);
	free(m->dep);
	free(m->builtin);
	free(m->softdep);
	free(m->alias);
	free(m->entry);
	free(m->order);
	*m = (struct modules){0};
}

/* --- order --- */

static int want(struct modules *m, struct module_entry *entry, struct err *e);

/* Something soft: another name of it may be in the kernel, and it works without. */
static int want_soft(struct modules *m, const char *name, struct err *e)
{
	struct module_entry *entry = modules_lookup(m, name);
	char line[MODULE_NAME + 16];
	int rc = 0;

	if (entry)
		return want(m, entry, e);
	if (!m->alias)
		m->alias = read_list(m, "modules.alias");
	if (!m->alias || snprintf(line, sizeof(line), "\nalias %s ", name) >= (int)sizeof(line))
		return 0;
	for (const char *at = m->alias; !rc && (at = strstr(at, line)); at++) {
		char target[MODULE_NAME];
		const char *word = at + strlen(line);
		size_t n = strcspn(word, "\n");

		if (n >= sizeof(target))
			continue;
		memcpy(target, word, n);
		target[n] = '\0';
		entry = modules_lookup(m, target);
		if (entry)
			rc = want(m, entry, e);
	}
	return rc;
}

/* "softdep NAME pre: A B post: C": those of the one kind. */
static int want_softdeps(struct modules *m, const struct module_entry *entry, const char *kind, struct err *e)
{
	char head[MODULE_NAME + 16];
	int rc = 0;

	if (!m->softdep)
		return 0;
	snprintf(head, sizeof(head), "softdep %s ", entry->name);
	for (const char *at = m->softdep; !rc && (at = strstr(at, head)); at++) {
		CLEANUP_FREE char *line = strndup(at + strlen(head), strcspn(at + strlen(head), "\n"));
		bool meant = false;
		char *save = NULL;

		if (!line)
			return err_set(e, -ENOMEM, "out of memory");
		for (char *w = strtok_r(line, " ", &save); !rc && w; w = strtok_r(NULL, " ", &save)) {
			if (w[strlen(w) - 1] == ':')
				meant = !strcmp(w, kind);
			else if (meant)
				rc = want_soft(m, w, e);
		}
	}
	return rc;
}

/* depmod writes what must be loaded first last. */
static int want_deps(struct modules *m, const struct module_entry *entry, struct err *e)
{
	CLEANUP_FREE char *deps = strdup(entry->deps ? entry->deps : "");
	char *dep;

	if (!deps)
		return err_set(e, -ENOMEM, "out of memory");
	while ((dep = strrchr(deps, ' ')) || *deps) {
		char *name = dep ? dep + 1 : deps;
		struct module_entry *first = *name ? modules_lookup(m, name) : NULL;
		int rc = 0;

		if (*name && !first)
			return err_set(e, -EBADMSG,
				       "module %s needs %s, which is not among the modules in %s\n%s",
				       entry->name, name, m->dir,
				       m->tree ? "Build them all: make modules"
					       : "Make the list anew: depmod -a");
		if (first)
			rc = want(m, first, e);
		if (rc)
			return rc;
		*(dep ? dep : deps) = '\0';
	}
	return 0;
}

static int want(struct modules *m, struct module_entry *entry, struct err *e)
{
	size_t at = (size_t)(entry - m->entry);
	int rc = 0;

	if (entry->builtin || entry->done)
		return 0;
	entry->done = true; /* before what it needs: a list with a circle ends */
	if (!m->order)
		m->order = calloc(m->nentry, sizeof(*m->order));
	if (!m->order)
		return err_set(e, -ENOMEM, "out of memory");
	if (m->tree)
		rc = modules_read_deps(m, entry, e);
	if (!rc)
		rc = want_deps(m, &m->entry[at], e);
	if (!rc)
		rc = want_softdeps(m, &m->entry[at], "pre:", e);
	if (rc)
		return rc;
	m->order[m->norder++] = &m->entry[at];
	return want_softdeps(m, &m->entry[at], "post:", e);
}

int modules_want(struct modules *m, const char *name, struct err *e)
{
	struct module_entry *entry = modules_lookup(m, name);

	return entry ? want(m, entry, e) : -ENOENT;
}
