/* #syscalls[setup]: socket bind listen openat flock lstat mkdir
 * #syscalls[main]: accept4 recvmsg sendmsg recvfrom sendto getsockopt:2==SO_PEERCRED unlink rmdir */
/* Theory of operation.  A lock on the directory of the VM (or, with --control, on FILE.lock beside the socket)
 * says that its owner lives; whoever holds it may remove a socket that an earlier one left behind.  Requests
 * are few and small, so a connection is read until its line is whole, answered, and closed; one that says
 * nothing is closed by a timer. */
#include "vmm/control.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/control_path.h"

#define MAX_CLIENTS  8
#define MAX_REQUEST  4096
#define PATIENCE_MS  5000 /* for a whole request */
#define MAX_PATH_LEN sizeof(((struct sockaddr_un *)0)->sun_path)

struct client {
	struct ev_watch watch; /* fd -1: free */
	struct ev_timer patience;
	struct control *control;
	struct errand_fds fds;
	size_t len;
	char line[MAX_REQUEST];
};

struct control {
	struct control_config cfg;
	struct evloop *loop;
	struct ev_watch listener;
	int lock_fd;
	bool bound;
	char dir[MAX_PATH_LEN]; /* ours to remove, or "" */
	char lock[MAX_PATH_LEN + 8];
	char path[MAX_PATH_LEN];
	struct client client[MAX_CLIENTS];
	char text[CONTROL_TEXT_SIZE];
};

bool control_name_ok(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > CONTROL_NAME_MAX || name[0] == '.')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

const char *control_path(const struct control *c)
{
	return c->path;
}

int control_port_path(const struct control *c, const char *port, char *buf, size_t size, struct err *e)
{
	int n = snprintf(buf, size, "%s%sport-%s", c->dir[0] ? c->dir : c->path, c->dir[0] ? "/" : ".", port);

	if (n >= 0 && (size_t)n < size && (size_t)n < MAX_PATH_LEN)
		return 0;
	return err_set(e, -ENAMETOOLONG, "the path of its socket would be too long; give it: port=%s:PATH",
		       port);
}

/* --- requests --- */

static void hang_up(struct client *client)
{
	if (client->watch.fd < 0)
		return;
	evloop_del(client->control->loop, &client->watch);
	ev_timer_fini(&client->patience);
	close(client->watch.fd);
	client->watch.fd = -1;
	errand_close(&client->fds);
}

static void send_reply(struct client *client, json_t *reply)
{
	char *line = reply ? json_dumps(reply, JSON_COMPACT) : NULL;

	if (line) {
		size_t len = strlen(line);

		line[len] = '\n'; /* in place of the NUL: the length counts */
		/* One that does not read its answer loses it; nobody waits for it. */
		if (send(client->watch.fd, line, len + 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			log_debug("control: an answer was not taken: %s", strerror(errno));
		free(line);
	}
	json_decref(reply);
	hang_up(client);
}

static void answer(struct client *client, bool ok, const char *text)
{
	json_t *reply = json_pack("{s:b,s:s%}", "ok", ok, "text", text, strlen(text));

	if (!reply) /* not UTF-8 */
		reply = json_pack("{s:b,s:s}", "ok", ok, "text", "(not text)");
	send_reply(client, reply);
}

static json_t *errand_json(const struct errand *r)
{
	switch (r->kind) {
	case ERRAND_SOCKET:
		return json_pack("{s:s,s:s,s:i,s:i}", "what", "socket", "path", r->path, "count", (int)r->count,
				 "wait_ms", (int)r->wait_ms);
	case ERRAND_USER:
		return json_pack("{s:s,s:s,s:i}", "what", "user", "path", r->path, "mtu", (int)r->mtu);
	case ERRAND_TAP:
		return json_pack("{s:s,s:s,s:i,s:i}", "what", "tap", "path", r->path, "count", (int)r->count,
				 "mtu", (int)r->mtu);
	default:
		return json_pack("{s:s,s:s,s:i,s:b}", "what", "file", "path", r->path, "count", (int)r->count,
				 "write", (int)r->write);
	}
}

/* True: it is sent on errands instead. */
static bool send_on_errands(struct client *client, int argc, char *const argv[])
{
	const struct control_config *cfg = &client->control->cfg;
	struct errands errands = {0};
	json_t *list;

	if (cfg->errands)
		cfg->errands(cfg->opaque, argc, argv, &errands);
	if (!errands.n)
		return false;
	list = json_array();
	for (unsigned i = 0; i < errands.n; i++)
		json_array_append_new(list, errand_json(&errands.errand[i]));
	send_reply(client, json_pack("{s:b,s:o}", "ok", 1, "opens", list));
	return true;
}

static void serve(struct client *client)
{
	struct control *c = client->control;
	json_error_t error;
	json_t *request = json_loadb(client->line, client->len, 0, &error);
	json_t *args = json_object_get(request, "args");
	size_t n = json_array_size(args);
	char *argv[CONTROL_MAX_ARGS + 1] = {NULL};
	bool fit = n >= 1 && n <= CONTROL_MAX_ARGS;

	for (size_t i = 0; fit && i < n; i++) {
		const char *word = json_string_value(json_array_get(args, i));

		fit = word;
		argv[i] = (char *)word;
	}
	if (fit && (size_t)json_integer_value(json_object_get(request, "fds")) != client->fds.n) {
		answer(client, false, "\"fds\" is not the number of descriptors that came");
	} else if (fit && json_is_true(json_object_get(request, "opens")) &&
		   send_on_errands(client, (int)n, argv)) {
		log_debug("control: %s: the client opens what it takes", argv[0]);
	} else if (fit) {
		int rc;

		c->text[0] = '\0';
		rc = c->cfg.request(c->cfg.opaque, (int)n, argv, &client->fds, c->text, sizeof(c->text));
		answer(client, !rc, c->text);
	} else {
		answer(client, false, "a request is {\"args\":[\"COMMAND\",...]} on one line");
	}
	json_decref(request);
}

/* As recvmsg().  What came beside the bytes is kept, all of it or -EMFILE. */
static ssize_t receive(struct client *client)
{
	struct errand_fds *fds = &client->fds;
	struct iovec iov = {client->line + client->len, sizeof(client->line) - client->len};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(ERRAND_FDS_MAX * sizeof(int))];
	} control;
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	ssize_t n = recvmsg(client->watch.fd, &m, MSG_CMSG_CLOEXEC);
	bool fit = n < 0 || !(m.msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (fds->n < ERRAND_FDS_MAX) {
				fds->fd[fds->n++] = fd;
			} else {
				close(fd);
				fit = false;
			}
		}
	}
	if (fit)
		return n;
	errno = EMFILE;
	return -1;
}

static void on_client(struct ev_watch *w, uint32_t events)
{
	struct client *client = container_of(w, struct client, watch);
	ssize_t n;

	(void)events;
	n = receive(client);
	if (n < 0 && errno == EMFILE) {
		answer(client, false, "more descriptors came than any request needs");
		return;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hang_up(client);
		return;
	}
	client->len += (size_t)n;
	if (memchr(client->line, '\n', client->len))
		serve(client);
	else if (client->len == sizeof(client->line))
		answer(client, false, "a request has at most 4095 bytes and a newline");
}

static void on_patience(struct ev_timer *t)
{
	answer(container_of(t, struct client, patience), false, "no whole request came within 5 s");
}

static bool welcome(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

static void on_connection(struct ev_watch *w, uint32_t events)
{
	struct control *c = container_of(w, struct control, listener);
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *client = NULL;

	(void)events;
	if (fd < 0)
		return;
	for (unsigned i = 0; i < MAX_CLIENTS && !client; i++)
		if (c->client[i].watch.fd < 0)
			client = &c->client[i];
	if (!client || !welcome(fd)) {
		close(fd);
		return;
	}
	client->len = 0;
	client->fds = (struct errand_fds){0};
	client->control = c;
	client->watch.fd = fd;
	client->watch.fn = on_client;
	if (ev_timer_init(&client->patience, c->loop, on_patience) ||
	    evloop_add(c->loop, &client->watch, EPOLLIN)) {
		ev_timer_fini(&client->patience);
		client->watch.fd = -1;
		close(fd);
		return;
	}
	ev_timer_arm(&client->patience, PATIENCE_MS);
}

/* --- the socket --- */

/* A directory of ours alone: root's would be no use if somebody else could swap it. */
static int make_dir(const char *path, struct err *e)
{
	struct stat st;

	if (mkdir(path, 0700) && errno != EEXIST)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (lstat(path, &st))
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
		return err_set(e, -EPERM, "%s: expected a directory that only its owner, user %u, may write to",
			       path, (unsigned)geteuid());
	return 0;
}

static int take_lock(struct control *c, struct err *e)
{
	c->lock_fd = open(c->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->lock_fd < 0)
		return err_set(e, -errno, "%s: %s", c->lock, strerror(errno));
	if (flock(c->lock_fd, LOCK_EX | LOCK_NB)) {
		int rc = -errno;

		close(steal_fd(&c->lock_fd));
		return rc == -EWOULDBLOCK
			       ? err_set(e, -EADDRINUSE,
					 "%s: another VM has it\nGive this one a name of its own: --name NAME",
					 c->path)
			       : err_set(e, rc, "%s: %s", c->lock, strerror(-rc));
	}
	return 0;
}

static int bind_socket(struct control *c, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;
	mode_t mask;
	int rc;

	strcpy(addr.sun_path, c->path); /* both have this size */
	if (!lstat(c->path, &st)) {
		if (!S_ISSOCK(st.st_mode))
			return err_set(e, -EEXIST, "%s: there is a file already, and it is no socket", c->path);
		unlink(c->path); /* of one that is gone: we hold its lock */
	}
	c->listener.fn = on_connection;
	c->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener.fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	mask = umask(0177);
	rc = bind(c->listener.fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	umask(mask);
	if (!rc) {
		c->bound = true;
		rc = listen(c->listener.fd, MAX_CLIENTS) ? -errno : evloop_add(c->loop, &c->listener, EPOLLIN);
	}
	return rc ? err_set(e, rc, "%s: %s", c->path, strerror(-rc)) : 0;
}

static int choose_place(struct control *c, struct err *e)
{
	char base[MAX_PATH_LEN], name[CONTROL_NAME_MAX + 1];
	int rc;

	if (c->cfg.path) {
		if (strlen(c->cfg.path) >= sizeof(c->path))
			return err_set(e, -ENAMETOOLONG, "%s: a socket's path has at most %zu bytes",
				       c->cfg.path, sizeof(c->path) - 1);
		strcpy(c->path, c->cfg.path);
		snprintf(c->lock, sizeof(c->lock), "%s.lock", c->path);
		return 0;
	}
	if (c->cfg.name)
		snprintf(name, sizeof(name), "%s", c->cfg.name);
	else
		snprintf(name, sizeof(name), "vm-%d", (int)getpid());
	rc = control_base(base, sizeof(base));
	rc = rc ? rc : control_socket_path(c->path, sizeof(c->path), name);
	if (rc)
		return err_set(e, rc,
			       "the path of the control socket would be too long; give it: --control FILE");
	rc = make_dir(base, e);
	snprintf(c->dir, sizeof(c->dir), "%.*s", (int)(strrchr(c->path, '/') - c->path), c->path);
	rc = rc ? rc : make_dir(c->dir, e);
	if (rc) {
		c->dir[0] = '\0';
		return rc;
	}
	snprintf(c->lock, sizeof(c->lock), "%s/lock", c->dir);
	return 0;
}

int control_open(struct control **out, struct evloop *loop, const struct control_config *cfg, struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));
	int rc;

	*out = NULL;
	json_object_seed(0); /* it opens /dev/urandom for its first object, and later nobody may */
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->cfg = *cfg;
	c->loop = loop;
	c->listener.fd = c->lock_fd = -1;
	for (unsigned i = 0; i < MAX_CLIENTS; i++)
		c->client[i].watch.fd = -1;
	rc = choose_place(c, e);
	rc = rc ? rc : take_lock(c, e);
	rc = rc ? rc : bind_socket(c, e);
	if (rc) {
		control_close(c);
		return err_prefix(e, "control socket");
	}
	*out = c;
	return 0;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < MAX_CLIENTS; i++)
		hang_up(&c->client[i]);
	if (c->listener.fd >= 0) {
		evloop_del(c->loop, &c->listener);
		close(c->listener.fd);
	}
	if (c->bound)
		unlink(c->path);
	if (c->lock_fd >= 0) { /* whoever holds it may tidy up, nobody else */
		unlink(c->lock);
		if (c->dir[0])
			rmdir(c->dir);
		close(c->lock_fd);
	}
	free(c);
}
