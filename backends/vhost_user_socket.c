/* #syscalls[setup]: socket connect bind listen unlink openat lstat
 * #syscalls[connect]: socket:0==AF_UNIX connect
 * #syscalls[vcpu,data]: accept4 */
#include "backends/vhost_user_socket.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/log.h"

#define MS       UINT64_C(1000000)
#define RETRY_MS 10

static int address(struct sockaddr_un *a, const char *path)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(a->sun_path))
		return -ENAMETOOLONG;
	snprintf(a->sun_path, sizeof(a->sun_path), "%s", path);
	return 0;
}

int vhost_user_connect(const char *path)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;
	int rc = address(&a, path);

	if (rc)
		return rc;
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return -errno;
	return steal_fd(&fd);
}

/* "Num RefCount Protocol Flags Type St Inode Path" a line. */
bool vhost_user_somebody_listens(const char *path)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[512];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		unsigned long flags;
		int at = 0;

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%*s %*s %*s %lx %*s %*s %*s %n", &flags, &at) == 1 && at)
			found = (flags & 0x10000) /* __SO_ACCEPTCON */ && !strcmp(line + at, path);
	}
	if (f)
		fclose(f);
	return found;
}

int vhost_user_listen(const char *path, struct err *e)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;
	struct stat st;
	int rc = address(&a, path);

	if (rc)
		return vhost_user_explain(path, true, rc, e);
	if (fd < 0)
		return err_set(e, -errno, "vhost-user: a socket: %s", strerror(errno));
	if (!lstat(path, &st)) {
		if (!S_ISSOCK(st.st_mode))
			return err_set(e, -EEXIST,
				       "vhost-user: path=%s exists and is no socket\nUse another path=", path);
		if (vhost_user_somebody_listens(path))
			return err_set(e, -EADDRINUSE,
				       "vhost-user: another program listens at path=%s already\n"
				       "Leave out server=on to connect to it, or use another path=",
				       path);
		unlink(path);
	}
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)))
		return vhost_user_explain(path, true, -errno, e);
	if (listen(fd, 1)) {
		rc = -errno;
		unlink(path);
		return vhost_user_explain(path, true, rc, e);
	}
	return steal_fd(&fd);
}

int vhost_user_accept(int listen_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

static void still_waiting(const char *path, bool server, const char *who)
{
	if (server)
		log_warn("%s: waiting for a vhost-user back end to connect to %s", who, path);
	else if (vhost_user_somebody_listens(path))
		log_warn("%s: waiting for the vhost-user back end at %s: it listens, but is busy", who, path);
	else
		log_warn("%s: waiting for a vhost-user back end: nobody listens at %s yet", who, path);
}

int vhost_user_reach(const char *path, int listen_fd, uint64_t deadline, const char *who)
{
	const uint64_t patience = clock_ns(CLOCK_MONOTONIC) + 1000 * MS;

	for (;;) {
		int fd = listen_fd < 0 ? vhost_user_connect(path) : vhost_user_accept(listen_fd);
		uint64_t now;

		if (fd >= 0 || !vhost_user_may_come(fd))
			return fd;
		now = clock_ns(CLOCK_MONOTONIC);
		if (now >= deadline)
			return fd;
		if (who && now >= patience) {
			still_waiting(path, listen_fd >= 0, who);
			who = NULL;
		}
		if (listen_fd < 0) {
			const struct timespec t = {.tv_nsec = RETRY_MS * (long)MS};

			clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
		} else {
			const uint64_t until = who && patience < deadline ? patience : deadline;
			struct pollfd p = {.fd = listen_fd, .events = POLLIN};

			poll(&p, 1, until > now ? (int)((until - now) / MS + 1) : 1);
		}
	}
}

int vhost_user_explain(const char *path, bool server, int rc, struct err *e)
{
	switch (rc) {
	case -ENOENT:
		return err_set(e, rc,
			       "vhost-user: there is no socket at path=%s\n"
			       "Start the back end first, or give it time with wait=SECONDS",
			       path);
	case -ECONNREFUSED:
		return err_set(e, rc,
			       "vhost-user: nobody listens at path=%s any more\n"
			       "Start the back end again, or give it time with wait=SECONDS",
			       path);
	case -EAGAIN:
		if (server)
			return err_set(e, rc,
				       "vhost-user: no back end has connected to path=%s\n"
				       "Start it as a client of that socket, or give it time with wait=SECONDS",
				       path);
		return err_set(e, rc,
			       "vhost-user: the back end at path=%s is busy with another front end\n"
			       "Run: ss -xp | grep %s",
			       path, path);
	case -EACCES:
	case -EPERM:
		return err_set(e, rc,
			       "vhost-user: path=%s: not permitted\n"
			       "Run: ls -l %s; the socket must be writable for this user",
			       path, path);
	case -EPROTOTYPE:
	case -ENOTSOCK:
		return err_set(e, rc, "vhost-user: path=%s is not a stream socket", path);
	case -ENAMETOOLONG:
		return err_set(e, rc, "vhost-user: path=%s is longer than a socket's name may be (%zu)", path,
			       sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	}
	return err_set(e, rc, "vhost-user: path=%s: %s", path, strerror(-rc));
}
