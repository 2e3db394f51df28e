#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backends/slirp_process.h"
#include "backends/tap.h"
#include "backends/user_net.h"
#include "backends/vhost_user_again.h"
#include "backends/vhost_user_socket.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "vmm/errand.h"

#define MS UINT64_C(1000000)

void errand_close(struct errand_fds *fds)
{
	int fd;

	while ((fd = errand_take(fds)) >= 0)
		close(fd);
	fds->n = fds->taken = 0;
}

static int add(struct errand_fds *fds, int fd)
{
	if (fds->n == ERRAND_FDS_MAX) {
		close(fd);
		return -EMFILE;
	}
	fds->fd[fds->n++] = fd;
	return 0;
}

/* A block device that the host has mounted.  The VM cannot look: it opens nothing. */
static bool is_busy(int fd)
{
	struct stat st;
	char same[32];
	int probe;

	if (fstat(fd, &st) || !S_ISBLK(st.st_mode))
		return false;
	snprintf(same, sizeof(same), "/proc/self/fd/%d", fd);
	probe = open(same, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (probe >= 0)
		close(probe);
	return probe < 0 && errno == EBUSY;
}

static int open_file(const struct errand *r, struct errand_fds *fds, struct err *e)
{
	for (unsigned i = 0; i < r->count; i++) {
		int fd = open(r->path, (r->write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

		if (fd < 0)
			return err_set(e, -errno, "cannot open %s: %s\nSee who may: ls -l %s; id", r->path,
				       strerror(errno), r->path);
		if (r->write && is_busy(fd)) {
			close(fd);
			return err_set(e, -EBUSY,
				       "%s is in use by this host: mounted, or part of a RAID or swap",
				       r->path);
		}
		if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) || add(fds, fd))
			return err_set(e, -EMFILE, "%s: too many descriptors", r->path);
	}
	return 0;
}

static int connect_socket(const struct errand *r, struct errand_fds *fds, struct err *e)
{
	int fd = vhost_user_reach(r->path, -1, clock_ns(CLOCK_MONOTONIC) + r->wait_ms * MS, "ctl");

	if (fd < 0) {
		vhost_user_explain(r->path, false, fd, e);
		return fd;
	}
	if (add(fds, fd))
		return err_set(e, -EMFILE, "%s: too many descriptors", r->path);
	if (r->count < 2)
		return 0;
	fd = vhost_user_again_start(r->path);
	if (fd < 0)
		return err_set(e, fd, "%s: the process that connects again cannot start: %s", r->path,
			       strerror(-fd));
	return add(fds, fd) ? err_set(e, -EMFILE, "%s: too many descriptors", r->path) : 0;
}

static int start_user(const struct errand *r, struct errand_fds *fds, struct err *e)
{
	CLEANUP_FREE struct user_net_config *c = calloc(1, sizeof(*c));
	char rules[sizeof(r->path)], *rest = rules, *rule;
	int fd, rc;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	user_net_config_init(c);
	if (r->mtu)
		c->mtu = r->mtu;
	memcpy(rules, r->path, sizeof(rules));
	while ((rule = strsep(&rest, "\n")) && *rule) {
		if (c->nfwd == USER_NET_MAX_FWDS)
			return err_set(e, -E2BIG, "more than %d hostfwd=", USER_NET_MAX_FWDS);
		rc = user_net_parse_hostfwd(rule, &c->fwd[c->nfwd++], e);
		if (rc)
			return rc;
	}
	rc = user_net_config_check(c, e);
	if (rc)
		return rc;
	fd = slirp_process_lend(c, e);
	if (fd < 0)
		return err_prefix(e, "user-mode network");
	return add(fds, fd) ? err_set(e, -EMFILE, "too many descriptors") : 0;
}

/* The ports are not destroyed: that would undo what the VM is to have. */
static int open_tap(const struct errand *r, struct errand_fds *fds, struct err *e)
{
	const struct tap_config c = {.ifname = *r->path ? r->path : NULL, .mtu = r->mtu};
	struct net_port *port[ERRAND_FDS_MAX];
	int rc = r->count > ERRAND_FDS_MAX ? -EINVAL : tap_open(port, r->count, &c, e);

	for (unsigned i = 0; !rc && i < r->count; i++)
		rc = add(fds, tap_fd(port[i])) ? err_set(e, -EMFILE, "%s: too many descriptors", r->path) : 0;
	return rc;
}

int errands_run(const struct errands *errands, struct errand_fds *fds, struct err *e)
{
	static int (*const run[ERRAND_KINDS])(const struct errand *, struct errand_fds *, struct err *) = {
		[ERRAND_FILE] = open_file,
		[ERRAND_SOCKET] = connect_socket,
		[ERRAND_TAP] = open_tap,
		[ERRAND_USER] = start_user,
	};
	int rc = 0;

	*fds = (struct errand_fds){0};
	for (unsigned i = 0; !rc && i < errands->n; i++)
		rc = run[errands->errand[i].kind](&errands->errand[i], fds, e);
	if (rc)
		errand_close(fds);
	return rc;
}
