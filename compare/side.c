#include "compare/side.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define READY_MS   20000
#define STOP_MS    5000
#define QUEUE_SIZE 256
#define VDUSE_DIR  "/dev/vduse"
#define VDUSE_NAME "rlcompare"

static bool wants_tap(enum path_kind kind)
{
	return kind == PATH_TAP || kind == PATH_VHOST_NET || kind == PATH_NET_VHOST_USER ||
	       kind == PATH_NET_VDPA;
}

static bool is_vdpa(enum path_kind kind)
{
	return kind == PATH_NET_VDPA || kind == PATH_DISK_VDPA;
}

static void backend_words(const struct side *s, const struct plan *p, const char *file, struct words *w)
{
	const bool net = !p->disk;

	words_add(w, "ringlet");
	words_add(w, "backend");
	words_add(w, net ? "net" : "blk");
	if (is_vdpa(s->path->kind))
		words_add(w, net ? "vduse=%s,tap=%s" : "vduse=%s", s->where, HOST_TAP);
	else
		words_add(w, net ? "path=%s,tap=%s" : "path=%s", s->where, HOST_TAP);
	if (!net)
		words_add(w, "path=%s", file);
}

/* Of a VDUSE device: "... at /dev/vhost-vdpa-0 ...". */
static int find_device(struct side *s, const char *line, struct err *e)
{
	const char *at = strstr(line, "/dev/vhost-vdpa-");
	int n = at ? (int)strcspn(at, " ,:") : 0;

	if (!n || n >= (int)sizeof(s->where))
		return err_set(e, -EPROTO, "%s: it says \"%s\", expected where its vDPA device is",
			       process_name(s->backend), line);
	snprintf(s->where, sizeof(s->where), "%.*s", n, at);
	return 0;
}

/* The owner of a device that a comparison before has left, if it was killed; else we. */
static pid_t vduse_owner(void)
{
	DIR *dir = opendir(VDUSE_DIR);
	const struct dirent *d;
	pid_t owner = getpid();

	while (dir && (d = readdir(dir))) {
		int pid;

		if (sscanf(d->d_name, VDUSE_NAME "%d", &pid) == 1 && pid > 0 && kill(pid, 0) && errno == ESRCH)
			owner = pid;
	}
	if (dir)
		closedir(dir);
	return owner;
}

static int launch(struct side *s, const struct plan *p, const char *file, struct err *e)
{
	struct words w = {0};
	const char *line;
	int rc;

	backend_words(s, p, file, &w);
	rc = w.failed ? err_set(e, -ENOMEM, "out of memory") : process_start(&s->backend, w.word, -1, e);
	words_fini(&w);
	if (rc)
		return rc;
	rc = process_line(s->backend, READY_MS, &line);
	if (rc == -ECANCELED)
		return err_set(e, rc, "interrupted");
	if (rc <= 0)
		return err_set(e, rc ? rc : -EIO, "%s: %s\n%s", process_name(s->backend),
			       rc ? "is not ready after 20 s" : "has ended", process_complaint(s->backend));
	return is_vdpa(s->path->kind) ? find_device(s, line, e) : 0;
}

static int launch_vduse(struct side *s, const struct plan *p, const char *file, pid_t owner, struct err *e)
{
	snprintf(s->where, sizeof(s->where), VDUSE_NAME "%d", (int)owner);
	return launch(s, p, file, e);
}

/* "ringlet backend" makes what was left anew, unless its VM, killed too, still waits for who served it: then
 * that is for a comparison after this one. */
static int start_backend(struct side *s, const struct plan *p, const char *file, struct err *e)
{
	const pid_t owner = is_vdpa(s->path->kind) ? vduse_owner() : 0;
	int rc;

	if (!owner) {
		snprintf(s->where, sizeof(s->where), "%s/backend", s->host->dir);
		return launch(s, p, file, e);
	}
	rc = launch_vduse(s, p, file, owner, e);
	if (rc && rc != -ECANCELED && owner != getpid()) {
		process_stop(s->backend, STOP_MS);
		s->backend = NULL;
		rc = launch_vduse(s, p, file, getpid(), e);
	}
	return rc;
}

int side_start(struct side *s, struct host *h, const struct plan *p, const struct path *path, enum host_tap tap,
	       const char *file, struct err *e)
{
	int rc = 0;

	*s = (struct side){.path = path, .host = h};
	if (path->device) {
		snprintf(s->where, sizeof(s->where), "%s", path->device);
		return 0;
	}
	if (wants_tap(path->kind)) {
		rc = host_tap_new(h, tap, e);
		s->has_tap = !rc;
	}
	switch (path->kind) {
	case PATH_NET_VHOST_USER:
	case PATH_NET_VDPA:
	case PATH_DISK_VHOST_USER:
	case PATH_DISK_VDPA:
		rc = rc ? rc : start_backend(s, p, file, e);
		break;
	case PATH_TAP:
	case PATH_VHOST_NET:
	case PATH_USER:
	case PATH_IN_PROCESS:
		break;
	}
	if (rc)
		side_stop(s);
	return rc;
}

void side_stop(struct side *s)
{
	process_stop(s->backend, STOP_MS);
	s->backend = NULL;
	if (s->has_tap)
		host_tap_del(s->host);
	s->has_tap = false;
}

void side_option(const struct side *s, const struct plan *p, const char *file, uint64_t features,
		 struct words *w)
{
	const struct path *path = s->path;
	char more[128], bits[64];

	if (p->best)
		snprintf(bits, sizeof(bits), "bits=all,packed=%s", path->packed ? "on" : "off");
	else
		snprintf(bits, sizeof(bits), "features=0x%" PRIx64 ",packed=%s", features,
			 path->packed ? "on" : "off");
	snprintf(more, sizeof(more), "transport=%s,notify=%s,queue-size=%d,%s", path->mmio ? "mmio" : "pci",
		 path->notify_exit ? "exit" : "ioeventfd", QUEUE_SIZE, bits);
	words_add(w, p->disk ? "--disk" : "--net");
	switch (path->kind) {
	case PATH_TAP:
		words_add(w, "tap,ifname=%s,%s", HOST_TAP, more);
		break;
	case PATH_VHOST_NET:
		words_add(w, "tap,ifname=%s,vhost=on,%s", HOST_TAP, more);
		break;
	case PATH_USER:
		words_add(w, "user,%s", more);
		break;
	case PATH_IN_PROCESS:
		words_add(w, "path=%s,%s", file, more);
		break;
	case PATH_NET_VHOST_USER:
	case PATH_DISK_VHOST_USER:
		words_add(w, "vhost-user,path=%s,%s", s->where, more);
		break;
	case PATH_NET_VDPA:
	case PATH_DISK_VDPA:
		words_add(w, "vdpa,path=%s,%s", s->where, more);
		break;
	}
}
