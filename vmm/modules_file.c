/* A module's file: unpacked, and what it says of itself. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/modules_parts.h"
#include "vmm/text_file.h"
#include "vmm/unpack.h"

#define MAX_MODULE (64u << 20) /* bytes, with everything a debugger wants in it */

static int file_path(const struct modules *m, const struct module_entry *entry, char path[PATH_MAX])
{
	int n;

	/* Lists made by depmod -b may have paths from the root, which is not ours. */
	if (entry->object)
		n = snprintf(path, PATH_MAX, "%s/%.*s.ko", m->dir, (int)strlen(entry->path) - 2, entry->path);
	else
		n = snprintf(path, PATH_MAX, "%s/%s", m->dir, entry->path);
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Owned bytes in, owned bytes out. */
static uint8_t *unpack_all(uint8_t *packed, size_t packed_len, size_t *len, int *rc)
{
	size_t room = packed_len * 6;
	uint8_t *plain = NULL;
	int64_t n = -ENOBUFS;

	while (n == -ENOBUFS && room <= MAX_MODULE) {
		free(plain);
		room *= 2;
		plain = malloc(room);
		n = plain ? unpack(packed, packed_len, plain, room) : -ENOMEM;
	}
	free(packed);
	if (n < 0) {
		free(plain);
		*rc = (int)n;
		return NULL;
	}
	*len = (size_t)n;
	return plain;
}

static uint8_t *load(const struct modules *m, const struct module_entry *entry, size_t *len, struct err *e)
{
	char path[PATH_MAX];
	uint8_t *data;
	int rc = file_path(m, entry, path);

	errno = -rc;
	data = rc ? NULL : text_file_bytes(path, MAX_MODULE, len);
	if (!data) {
		err_set(e, -errno, "module %s: %s: %s", entry->name, path, strerror(errno));
		return NULL;
	}
	if (unpack_format(data, *len))
		data = unpack_all(data, *len, len, &rc);
	if (!data) {
		err_set(e, rc, "module %s: %s cannot be unpacked%s", entry->name, path,
			rc == -EBADMSG   ? ": its contents are broken\nInstall it again"
			: rc == -ENOBUFS ? ": it is too large"
					 : "");
		return NULL;
	}
	if (*len < 4 || memcmp(data, "\177ELF", 4)) {
		free(data);
		err_set(e, -ENOEXEC,
			"module %s: %s is no module: expected an ELF object, or one packed by xz, zstd "
			"or gzip\nInstall it again",
			entry->name, path);
		return NULL;
	}
	return data;
}

uint8_t *modules_load(const struct modules *m, size_t i, char *name, size_t size, size_t *len, struct err *e)
{
	const struct module_entry *entry = m->order[i];

	snprintf(name, size, "%s.ko", entry->name);
	return load(m, entry, len, e);
}

/* .modinfo is strings, each ended by NUL: "depends=virtio,virtio_ring". */
int modules_read_deps(struct modules *m, struct module_entry *entry, struct err *e)
{
	static const char key[] = "\0depends=";
	size_t len;
	CLEANUP_FREE uint8_t *data = load(m, entry, &len, e);
	const char *at;

	if (!data)
		return e->code;
	at = memmem(data, len, key, sizeof(key) - 1);
	entry->deps = strdup(at ? at + sizeof(key) - 1 : "");
	if (!entry->deps)
		return err_set(e, -ENOMEM, "out of memory");
	for (char *c = entry->deps; *c; c++)
		if (*c == ',')
			*c = ' ';
	return 0;
}
