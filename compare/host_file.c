#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "compare/host.h"
#include "compare/process.h"
#include "lib/cleanup.h"

#define CHUNK ((size_t)1 << 20)

/* splitmix64: what no file system and no device makes less of. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		const ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int fill(int fd, uint64_t bytes)
{
	CLEANUP_FREE uint64_t *chunk = malloc(CHUNK);
	uint64_t state = 1;
	int rc = 0;

	if (!chunk)
		return -ENOMEM;
	if (getrandom(&state, sizeof(state), GRND_NONBLOCK) < 0)
		state = (uint64_t)getpid();
	while (!rc && bytes) {
		const size_t len = bytes < CHUNK ? (size_t)bytes : CHUNK;

		for (size_t i = 0; i < CHUNK / sizeof(*chunk); i++)
			chunk[i] = next_random(&state);
		rc = process_interrupted() ? -ECANCELED : write_all(fd, (const char *)chunk, len);
		bytes -= len;
	}
	return rc;
}

static int tell(const struct host *h, const char *path, uint64_t bytes, int rc, struct err *e)
{
	struct statvfs fs;

	if (rc == -ENOSPC && !statvfs(h->dir, &fs))
		return err_set(e, rc,
			       "%s is to have %" PRIu64 " MiB, but %s has room for %" PRIu64
			       " MiB (half of the memory is what a tmpfs may take)",
			       path, bytes >> 20, h->dir, (uint64_t)fs.f_bavail * fs.f_frsize >> 20);
	if (rc == -ECANCELED)
		return err_set(e, rc, "interrupted");
	return err_set(e, rc, "%s: %s", path, strerror(-rc));
}

int host_file_new(struct host *h, const char *name, uint64_t bytes, char *path, unsigned size, struct err *e)
{
	CLEANUP_FD int fd = -1;
	int rc;

	if (snprintf(path, size, "%s/%s", h->dir, name) >= (int)size)
		return err_set(e, -ENAMETOOLONG, "%s/%s: a path of less than %u bytes is expected", h->dir,
			       name, size);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	/* All at once, so that a lack of room is seen before any is taken. */
	rc = bytes && bytes <= INT64_MAX && fallocate(fd, 0, 0, (off_t)bytes) ? -errno : 0;
	if (!rc || rc == -EOPNOTSUPP)
		rc = fill(fd, bytes);
	if (!rc)
		return 0;
	rc = tell(h, path, bytes, rc, e);
	unlink(path);
	return rc;
}
