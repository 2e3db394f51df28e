#include "vmm/kernel_tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/text_file.h"

#define MAX_CONFIG (8u << 20)

static bool make_path(char *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool make_path(char *buf, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, PATH_MAX, fmt, ap);
	va_end(ap);
	return n > 0 && n < PATH_MAX;
}

static bool is_file(const char *path, struct stat *st)
{
	return !stat(path, st) && S_ISREG(st->st_mode);
}

static bool is_older(const struct stat *a, const struct stat *b)
{
	if (a->st_mtim.tv_sec != b->st_mtim.tv_sec)
		return a->st_mtim.tv_sec < b->st_mtim.tv_sec;
	return a->st_mtim.tv_nsec < b->st_mtim.tv_nsec;
}

/* make writes vmlinux first and packs it into bzImage next, so the newer of the two is no sign: a vmlinux that
 * is older by more than a build may take is a leftover of another one. */
static bool is_leftover(const struct stat *vmlinux, const struct stat *bzimage)
{
	struct stat later = *vmlinux;

	later.st_mtim.tv_sec += 3600;
	return is_older(&later, bzimage);
}

static bool image_in(struct kernel_tree *t, const char *dir)
{
	static const char *const others[] = {"bzImage", "vmlinuz"};
	char bzimage[PATH_MAX];
	struct stat elf, packed;
	bool has_elf = make_path(t->image, "%s/vmlinux", dir) && is_file(t->image, &elf);
	bool has_packed = make_path(bzimage, "%s/arch/x86/boot/bzImage", dir) && is_file(bzimage, &packed);

	if (has_elf && has_packed && is_leftover(&elf, &packed)) {
		log_warn("%s is much older than %s, which is taken", t->image, bzimage);
		has_elf = false;
	}
	if (has_elf)
		return true;
	if (has_packed)
		return make_path(t->image, "%s", bzimage);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (make_path(t->image, "%s/%s", dir, others[i]) && is_file(t->image, &packed))
			return true;
	return false;
}

/* The first line, without what is no letter of a release. */
static void read_release(struct kernel_tree *t, const char *path)
{
	CLEANUP_FREE char *text = text_file_read(path, 4096);

	if (text)
		kernel_tree_set_release(t, text);
}

void kernel_tree_set_release(struct kernel_tree *t, const char *version)
{
	size_t n = strcspn(version, " \t\n");

	if (t->release[0] || n >= sizeof(t->release))
		return;
	memcpy(t->release, version, n);
	t->release[n] = '\0';
	if (strchr(t->release, '/')) /* it becomes part of a path */
		t->release[0] = '\0';
}

static bool is_tree(struct kernel_tree *t, const char *dir)
{
	char path[PATH_MAX];
	struct stat st;

	if (!make_path(path, "%s/include/config/kernel.release", dir) || !is_file(path, &st))
		return false;
	make_path(t->dir, "%s", dir);
	read_release(t, path);
	if (!make_path(t->config, "%s/.config", dir) || access(t->config, R_OK))
		t->config[0] = '\0';
	return true;
}

/* A file given by its name may lie in a tree, or in a /boot. */
static void look_round(struct kernel_tree *t)
{
	static const char *const inside[] = {"/vmlinux", "/arch/x86/boot/bzImage", "/arch/x86_64/boot/bzImage"};
	static const char *const named[] = {"vmlinuz-", "vmlinux-"};
	char dir[PATH_MAX];
	const char *name;
	size_t len;

	if (t->dir[0] || !realpath(t->image, dir))
		return;
	len = strlen(dir);
	for (size_t i = 0; i < ARRAY_SIZE(inside); i++) {
		size_t n = strlen(inside[i]);

		if (len > n && !strcmp(dir + len - n, inside[i])) {
			dir[len - n] = '\0';
			if (is_tree(t, dir))
				return;
			dir[len - n] = '/';
		}
	}
	name = strrchr(dir, '/') + 1;
	for (size_t i = 0; i < ARRAY_SIZE(named); i++) {
		if (strncmp(name, named[i], strlen(named[i])))
			continue;
		kernel_tree_set_release(t, name + strlen(named[i]));
		if (!make_path(t->config, "%.*s/config-%s", (int)(name - 1 - dir), dir, t->release) ||
		    access(t->config, R_OK))
			t->config[0] = '\0';
	}
	if (!t->config[0] &&
	    (!make_path(t->config, "%.*s/config", (int)(name - 1 - dir), dir) || access(t->config, R_OK)))
		t->config[0] = '\0';
}

int kernel_tree_find(struct kernel_tree *t, const char *path, struct err *e)
{
	char dir[PATH_MAX];
	struct stat st;
	size_t len;

	*t = (struct kernel_tree){0};
	if (!make_path(t->image, "%s", path))
		return err_set(e, *path ? -ENAMETOOLONG : -ENOENT, "-k %s: %s", path,
			       *path ? "the name is too long" : "the name is empty");
	if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
		look_round(t);
		return 0;
	}
	memcpy(dir, t->image, sizeof(dir));
	for (len = strlen(dir); len > 1 && dir[len - 1] == '/'; len--)
		dir[len - 1] = '\0';
	path = dir;
	if (image_in(t, path)) {
		if (!is_tree(t, path))
			look_round(t);
		return 0;
	}
	if (!access(path, R_OK | X_OK) && is_tree(t, path))
		return err_set(
			e, -ENOENT,
			"-k %s: a build tree without a kernel: neither vmlinux nor arch/x86/boot/bzImage\n"
			"Build it: make -C %s -j$(nproc) bzImage",
			path, path);
	return err_set(
		e, -ENOENT,
		"-k %s: a directory, but no kernel's: there is no vmlinux, arch/x86/boot/bzImage, bzImage "
		"or vmlinuz in it\nGive a bzImage, a vmlinux, or a tree in which make has built one",
		path);
}

char kernel_tree_option(struct kernel_tree *t, const char *name)
{
	char line[80];
	const char *at;
	int n;

	if (!t->config[0])
		return '?';
	if (!t->options)
		t->options = text_file_read(t->config, MAX_CONFIG);
	if (!t->options || !strstr(t->options, "CONFIG_X86")) /* truncated, or no configuration at all */
		return '?';
	n = snprintf(line, sizeof(line), "\nCONFIG_%s=", name);
	at = strstr(t->options, line);
	return at && (at[n] == 'y' || at[n] == 'm') ? at[n] : 'n';
}

void kernel_tree_free(struct kernel_tree *t)
{
	free(t->options);
	t->options = NULL;
}
