#include "compare/counters_perf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/cleanup.h"

static const char *const places[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};

/* Its number in this kernel, or -errno: -EACCES beats what the other place says. */
static int id_of(const char *tracepoint)
{
	const char *colon = strchr(tracepoint, ':');
	int rc = -ENOENT;

	for (size_t i = 0; colon && i < ARRAY_SIZE(places); i++) {
		char path[160], text[16] = "";
		CLEANUP_FD int fd = -1;

		snprintf(path, sizeof(path), "%s/events/%.*s/%s/id", places[i], (int)(colon - tracepoint),
			 tracepoint, colon + 1);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 && (errno == EACCES || errno == EPERM))
			rc = -EACCES;
		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
			return atoi(text);
	}
	return rc;
}

static int event_open(int id, pid_t tid, bool wait)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = (unsigned)id,
		.inherit = 1,
		.disabled = wait,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

const char *perf_missing(const char *tracepoint)
{
	int id = id_of(tracepoint), fd;

	if (id == -EACCES)
		return "takes root: tracepoints are not for everybody";
	if (id < 0 && access("/sys/kernel/tracing/events", F_OK) &&
	    access("/sys/kernel/debug/tracing/events", F_OK))
		return "takes tracefs: mount -t tracefs tracefs /sys/kernel/tracing";
	if (id < 0)
		return "this kernel has no such tracepoint";
	fd = event_open(id, 0, false);
	if (fd == -EACCES || fd == -EPERM)
		return "takes root: perf_event_open(2) is not for everybody";
	if (fd < 0)
		return "this kernel counts no tracepoints";
	close(fd);
	return NULL;
}

static int keep(struct perf *p, int fd)
{
	int *more = fd < 0 ? NULL : realloc(p->fd, (p->n + 1) * sizeof(*p->fd));

	if (fd < 0)
		return fd;
	if (!more) {
		close(fd);
		return -ENOMEM;
	}
	p->fd = more;
	p->fd[p->n++] = fd;
	return 0;
}

static int add_one(struct perf *p, int id, const char *filter, pid_t tid)
{
	int fd = event_open(id, tid, filter != NULL), rc;

	if (fd >= 0 && filter &&
	    (ioctl(fd, PERF_EVENT_IOC_SET_FILTER, filter) || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return keep(p, fd);
}

void perf_hold(struct perf *p, const char *tracepoint)
{
	int id = id_of(tracepoint);

	if (id >= 0)
		keep(p, event_open(id, 0, true));
}

int perf_add(struct perf *p, const char *tracepoint, const char *filter, const pid_t *tid, unsigned n)
{
	int id = id_of(tracepoint), rc = id < 0 ? id : 0;

	for (unsigned i = 0; i < n && !rc; i++)
		rc = add_one(p, id, filter, tid[i]);
	return rc;
}

int perf_read(const struct perf *p, uint64_t *count)
{
	*count = 0;
	for (unsigned i = 0; i < p->n; i++) {
		uint64_t n;
		ssize_t len = read(p->fd[i], &n, sizeof(n));

		if (len != sizeof(n))
			return len < 0 ? -errno : -EIO;
		*count += n;
	}
	return 0;
}

void perf_free(struct perf *p)
{
	for (unsigned i = 0; i < p->n; i++)
		close(p->fd[i]);
	free(p->fd);
	*p = (struct perf){0};
}
