#include "vmm/cpio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void put(struct cpio *c, const void *p, size_t n)
{
	if (c->error)
		return;
	if (c->len + n + 4 > c->cap) {
		size_t cap = (c->len + n + 4) * 2;
		uint8_t *data = realloc(c->data, cap);

		if (!data) {
			c->error = -ENOMEM;
			return;
		}
		c->data = data;
		c->cap = cap;
	}
	if (n)
		memcpy(c->data + c->len, p, n);
	c->len += n;
	while (c->len % 4)
		c->data[c->len++] = 0;
}

/* Linux: Documentation/driver-api/early-userspace/buffer-format.rst */
static void entry(struct cpio *c, const char *path, unsigned mode, const void *data, size_t len)
{
	char head[111];
	size_t name = strlen(path) + 1;

	snprintf(head, sizeof(head), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++c->ino,
		 mode, 0u, 0u, 1u, 0u, (unsigned)len, 0u, 0u, 0u, 0u, (unsigned)name, 0u);
	/* Header and name together are padded to 4 bytes: 110 + name. */
	if (!c->error) {
		char *both = malloc(110 + name);

		if (!both) {
			c->error = -ENOMEM;
			return;
		}
		memcpy(both, head, 110);
		memcpy(both + 110, path, name);
		put(c, both, 110 + name);
		free(both);
	}
	put(c, data, len);
}

void cpio_dir(struct cpio *c, const char *path, unsigned mode)
{
	entry(c, path, S_IFDIR | mode, NULL, 0);
}

void cpio_file(struct cpio *c, const char *path, unsigned mode, const void *data, size_t len)
{
	entry(c, path, S_IFREG | mode, data, len);
}

void cpio_link(struct cpio *c, const char *path, const char *target)
{
	entry(c, path, S_IFLNK | 0777, target, strlen(target));
}

int cpio_end(struct cpio *c)
{
	entry(c, "TRAILER!!!", 0, NULL, 0);
	return c->error;
}

void cpio_fini(struct cpio *c)
{
	free(c->data);
	memset(c, 0, sizeof(*c));
}
