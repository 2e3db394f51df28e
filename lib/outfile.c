/* #syscalls[setup]: openat
 * #syscalls[main]: rename renameat renameat2 unlink unlinkat lseek fsync */
#include "lib/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"

#define RESERVED 8

static struct outfile *reserved[RESERVED];

static int create(struct outfile *o, const char *path)
{
	CLEANUP_FREE char *real = realpath(path, NULL); /* a link stays one */
	struct stat st;

	o->fd = -1;
	o->temporary[0] = '\0';
	if (strlen(path) + 16 >= sizeof(o->path))
		return -ENAMETOOLONG;
	memcpy(o->path, path, strlen(path) + 1);
	if (!stat(path, &st) && !S_ISREG(st.st_mode)) {
		o->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
		return o->fd < 0 ? -errno : 0;
	}
	if (snprintf(o->target, sizeof(o->target), "%s", real ? real : path) >= (int)sizeof(o->target) ||
	    snprintf(o->temporary, sizeof(o->temporary), "%s.%d~", real ? real : path, (int)getpid()) >=
		    (int)sizeof(o->temporary))
		return -ENAMETOOLONG;
	o->fd = open(o->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
	return o->fd < 0 ? -errno : 0;
}

int outfile_reserve(const char *path)
{
	for (unsigned i = 0; i < RESERVED; i++) {
		int rc;

		if (reserved[i])
			continue;
		reserved[i] = malloc(sizeof(*reserved[i]));
		if (!reserved[i])
			return -ENOMEM;
		rc = create(reserved[i], path);
		if (rc) {
			free(reserved[i]);
			reserved[i] = NULL;
		}
		return rc;
	}
	return -ENFILE;
}

int outfile_begin(struct outfile *o, const char *path)
{
	for (unsigned i = 0; i < RESERVED; i++)
		if (reserved[i] && !strcmp(reserved[i]->path, path)) {
			*o = *reserved[i];
			free(reserved[i]);
			reserved[i] = NULL;
			return 0;
		}
	return create(o, path);
}

int outfile_end(struct outfile *o, bool keep)
{
	int rc = 0;

	if (o->fd >= 0 && close(o->fd) && keep)
		rc = -errno;
	o->fd = -1;
	if (!o->temporary[0])
		return rc;
	if (keep && !rc && rename(o->temporary, o->target))
		rc = -errno;
	if (!keep || rc)
		unlink(o->temporary);
	return rc;
}

void outfile_forget(void)
{
	for (unsigned i = 0; i < RESERVED; i++) {
		if (!reserved[i])
			continue;
		outfile_end(reserved[i], false);
		free(reserved[i]);
		reserved[i] = NULL;
	}
}
