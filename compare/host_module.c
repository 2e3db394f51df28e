#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "compare/host.h"
#include "compare/process.h"
#include "lib/cleanup.h"
#include "vmm/unpack.h"

#define DEPTH 8
#define ROOM  ((size_t)64 << 20) /* of one, unpacked */

static void load_from(const char *dir, const char *name, unsigned depth);

/* To the kernel "-" and "_" are the same in a module's name. */
static bool same_name(const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((a[i] == '-' ? '_' : a[i]) != (b[i] == '-' ? '_' : b[i]))
			return false;
	return true;
}

/* "vhost,tun,tap" */
static void load_needed(const char *dir, const char *names, const char *end, unsigned depth)
{
	while (names < end && *names) {
		const size_t len = strcspn(names, ",");
		char name[64];

		if (len && len < sizeof(name)) {
			snprintf(name, sizeof(name), "%.*s", (int)len, names);
			load_from(dir, name, depth + 1);
		}
		names += len + (names[len] == ',');
	}
}

static void *map_file(const char *path, size_t *len)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) || st.st_size <= 0)
		return NULL;
	*len = (size_t)st.st_size;
	p = mmap(NULL, *len, PROT_READ, MAP_PRIVATE, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* The module's bytes, in memory that a NUL follows; NULL: none.  To be unmapped, ROOM bytes. */
static char *read_module(const char *path, int64_t *len)
{
	size_t packed_len;
	char *packed = map_file(path, &packed_len), *out;

	if (!packed)
		return NULL;
	out = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (out == MAP_FAILED) {
		munmap(packed, packed_len);
		return NULL;
	}
	*len = unpack(packed, packed_len, out, ROOM - 1);
	if (*len == -ENOTSUP && packed_len < ROOM) { /* not packed */
		memcpy(out, packed, packed_len);
		*len = (int64_t)packed_len;
	}
	munmap(packed, packed_len);
	if (*len > 0)
		return out;
	munmap(out, ROOM);
	return NULL;
}

static bool load_file(const char *dir, const char *path, unsigned depth)
{
	static const char key[] = "\0depends=";
	int64_t len;
	char *image = read_module(path, &len);
	const char *needed;
	bool loaded;

	if (!image)
		return false;
	needed = memmem(image, (size_t)len, key, sizeof(key) - 1);
	if (needed)
		load_needed(dir, needed + sizeof(key) - 1, image + len, depth);
	/* One of another kernel is refused. */
	loaded = !syscall(SYS_init_module, image, (unsigned long)len, "") || errno == EEXIST;
	munmap(image, ROOM);
	return loaded;
}

/* What nftw() has no room for. */
static const char *sought;
static char found[16][PATH_MAX];
static unsigned nfound;

static int look(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	const char *base = path + ftw->base;
	const size_t len = strlen(sought);

	(void)st;
	if (flag == FTW_F && strlen(base) > len && !strncmp(base + len, ".ko", 3) &&
	    same_name(base, sought, len) && nfound < ARRAY_SIZE(found) && strlen(path) < PATH_MAX)
		snprintf(found[nfound++], PATH_MAX, "%s", path);
	return 0;
}

static void load_from(const char *dir, const char *name, unsigned depth)
{
	char(*paths)[PATH_MAX];
	unsigned n;

	if (depth >= DEPTH)
		return;
	sought = name;
	nfound = 0;
	if (nftw(dir, look, 16, FTW_PHYS))
		return;
	n = nfound;
	paths = malloc(sizeof(found));
	if (!paths)
		return;
	memcpy(paths, found, sizeof(found)); /* those that it needs are looked for in the same place */
	for (unsigned i = 0; i < n; i++)
		if (load_file(dir, paths[i], depth))
			break;
	free(paths);
}

static bool by_modprobe(const char *name)
{
	char *const argv[] = {"modprobe", "-q", (char *)(uintptr_t)name, NULL};

	return process_exists(argv[0]) && !process_run(NULL, argv);
}

/* It is there, or was tried before: a tap is made often, and a tree is large. */
static bool is_done(const char *name)
{
	static char tried[32][32];
	static unsigned n;
	char path[64];

	snprintf(path, sizeof(path), "/sys/module/%.40s", name);
	for (char *c = path; *c; c++)
		if (*c == '-')
			*c = '_';
	if (!access(path, F_OK))
		return true;
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(tried[i], name))
			return true;
	if (n < ARRAY_SIZE(tried))
		snprintf(tried[n++], sizeof(tried[0]), "%s", name);
	return false;
}

void host_module(const char *name)
{
	const char *dir = getenv("RINGLET_MODULES");

	if (!geteuid() && !is_done(name) && !by_modprobe(name) && dir && *dir)
		load_from(dir, name, 0);
}
