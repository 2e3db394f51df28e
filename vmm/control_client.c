#include <errno.h>
#include <glob.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/control.h"
#include "vmm/control_path.h"
#include "vmm/outcome.h"

#define MAX_PATH_LEN sizeof(((struct sockaddr_un *)0)->sun_path)
#define PATIENCE_S   30

/* One that was killed leaves its socket behind. */
static bool alive(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(addr.sun_path))
		return false;
	strcpy(addr.sun_path, path);
	return fd >= 0 && !connect(fd, (struct sockaddr *)&addr, sizeof(addr));
}

/* The names of all that there are, for whoever asked for another. */
static void list_running(char *buf, size_t size)
{
	char pattern[MAX_PATH_LEN + 16], base[MAX_PATH_LEN];
	size_t len = 0;
	glob_t g;

	buf[0] = '\0';
	if (control_base(base, sizeof(base)))
		return;
	snprintf(pattern, sizeof(pattern), "%s/*/control", base);
	if (glob(pattern, 0, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc && len < size; i++) {
			const char *name = g.gl_pathv[i] + strlen(base) + 1;

			if (!alive(g.gl_pathv[i]))
				continue;
			len += (size_t)snprintf(buf + len, size - len, "%s%.*s", len ? ", " : "",
						(int)(strrchr(name, '/') - name), name);
		}
	globfree(&g);
}

static int no_such_vm(const char *name, const char *path, int error)
{
	char running[512];

	list_running(running, sizeof(running));
	if (error == EACCES || error == EPERM)
		log_error("ctl: %s: %s\nThe VM belongs to somebody else", path, strerror(error));
	else if (running[0])
		log_error("ctl: no VM called %s runs (%s: %s)\nThere are: %s", name, path, strerror(error),
			  running);
	else
		log_error("ctl: no VM called %s runs (%s: %s), and no other of yours", name, path,
			  strerror(error));
	return STATUS_FAILED;
}

enum opens { OPENS_NOTHING, OPENS };

/* One line, and the descriptors beside its first byte.  0 or -errno. */
static int send_line(int fd, const char *line, const struct errand_fds *fds)
{
	struct iovec iov = {(char *)line, strlen(line)};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(ERRAND_FDS_MAX * sizeof(int))];
	} control = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (fds->n) {
		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(fds->n * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds->n * sizeof(int));
		memcpy(CMSG_DATA(c), fds->fd, fds->n * sizeof(int));
	}
	if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0 || send(fd, "\n", 1, MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}

static int send_request(int fd, int argc, char *const argv[], enum opens opens, const struct errand_fds *fds)
{
	json_t *args = json_array(), *request = json_pack("{s:o}", "args", args);
	char *text;
	int rc = 0;

	for (int i = 0; i < argc && !rc; i++)
		rc = json_array_append_new(args, json_string(argv[i]));
	if (!rc && opens == OPENS)
		rc = json_object_set_new(request, "opens", json_true());
	if (!rc && fds->n)
		rc = json_object_set_new(request, "fds", json_integer(fds->n));
	text = rc ? NULL : json_dumps(request, JSON_COMPACT);
	json_decref(request);
	if (!text)
		return -EILSEQ; /* an argument that is not UTF-8 */
	rc = send_line(fd, text, fds);
	free(text);
	return rc;
}

static json_t *read_answer(int fd)
{
	static char line[8 * CONTROL_TEXT_SIZE]; /* escapes make it longer */
	size_t len = 0;
	json_t *reply;
	ssize_t n;

	while (len < sizeof(line) && (n = recv(fd, line + len, sizeof(line) - len, 0)) > 0)
		len += (size_t)n;
	reply = json_loadb(line, len, JSON_DISABLE_EOF_CHECK, NULL);
	if (!json_is_object(reply))
		log_error(len ? "ctl: the VM's answer is not to be understood"
			      : "ctl: the VM gave no answer; has it ended?");
	return reply;
}

/* Exit status. */
static int print_answer(const json_t *reply)
{
	const json_t *text = json_object_get(reply, "text");
	const bool ok = json_is_true(json_object_get(reply, "ok"));

	if (!json_is_string(text)) {
		log_error("ctl: the VM's answer is not to be understood");
		return STATUS_FAILED;
	}
	if (!ok)
		log_error("ctl: %s", json_string_value(text));
	else if (json_string_length(text))
		printf("%s%s", json_string_value(text),
		       json_string_value(text)[json_string_length(text) - 1] == '\n' ? "" : "\n");
	return ok ? 0 : 1;
}

static unsigned number(const json_t *object, const char *key, unsigned otherwise)
{
	const json_t *n = json_object_get(object, key);

	return json_is_integer(n) && json_integer_value(n) >= 0 && json_integer_value(n) <= INT_MAX
		       ? (unsigned)json_integer_value(n)
		       : otherwise;
}

/* False: nothing that this client knows how to do. */
static bool parse_errands(const json_t *list, struct errands *out)
{
	static const char *const what[ERRAND_KINDS] = {"file", "socket", "tap", "user"};
	size_t i;
	json_t *o;

	*out = (struct errands){0};
	if (!json_is_array(list) || json_array_size(list) > ERRANDS_MAX)
		return false;
	json_array_foreach(list, i, o)
	{
		const char *kind = json_string_value(json_object_get(o, "what"));
		const char *path = json_string_value(json_object_get(o, "path"));
		struct errand *r = &out->errand[out->n++];
		unsigned k = 0;

		while (kind && k < ERRAND_KINDS && strcmp(kind, what[k]))
			k++;
		if (!kind || k == ERRAND_KINDS || !path || strlen(path) >= sizeof(r->path))
			return false;
		r->kind = (enum errand_kind)k;
		strcpy(r->path, path);
		r->count = number(o, "count", 1);
		r->write = json_is_true(json_object_get(o, "write"));
		r->mtu = (uint16_t)number(o, "mtu", 0);
		r->wait_ms = number(o, "wait_ms", 0);
	}
	return errands_count(out) <= ERRAND_FDS_MAX;
}

static int dial(const char *name, const struct sockaddr_un *addr, int *status)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*status = STATUS_FAILED;
	if (fd < 0) {
		log_error("ctl: socket: %s", strerror(errno));
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!connect(fd, (const struct sockaddr *)addr, sizeof(*addr)))
		return fd;
	*status = no_such_vm(name, addr->sun_path, errno);
	close(fd);
	return -1;
}

/* One request and its answer.  NULL: an error was printed, *status is to be returned. */
static json_t *ask(const char *name, const struct sockaddr_un *addr, int argc, char *const argv[],
		   enum opens opens, const struct errand_fds *fds, int *status)
{
	CLEANUP_FD int fd = dial(name, addr, status);
	int rc;

	if (fd < 0)
		return NULL;
	rc = send_request(fd, argc, argv, opens, fds);
	if (!rc)
		return read_answer(fd);
	log_error("ctl: %s", rc == -EILSEQ ? "an argument is not UTF-8" : strerror(-rc));
	return NULL;
}

/* Each line of rules is one of the command's. */
static bool forwards_named(const char *rules, const char *words)
{
	char rule[ERRAND_PATH_MAX], wanted[ERRAND_PATH_MAX + 16];

	for (size_t len; *rules; rules += len + (rules[len] == '\n')) {
		const char *at;
		size_t n;

		len = strcspn(rules, "\n");
		snprintf(rule, sizeof(rule), "%.*s", (int)len, rules);
		n = (size_t)snprintf(wanted, sizeof(wanted), ",hostfwd=%s", rule);
		at = strstr(words, wanted);
		if (!at || (at[n] && at[n] != ','))
			return false;
	}
	return true;
}

/* Who answers may not be the VM any more, and the rights are the caller's: it gets what the command names. */
static bool named(const struct errand *r, int argc, char *const argv[])
{
	const size_t len = strlen(r->path);
	const char *words = argc > 2 && !strcmp(argv[0], "datapath") ? argv[2] : NULL;

	if (!words)
		return false;
	if (r->kind == ERRAND_TAP)
		return !strncmp(words, "tap", 3);
	if (r->kind == ERRAND_USER)
		return !strncmp(words, "user", 4) && forwards_named(r->path, words);
	if (r->kind == ERRAND_FILE && !strcmp(r->path, "/dev/vhost-net"))
		return !strncmp(words, "tap,", 4) && strstr(words, ",vhost");
	for (const char *at = words; len && (at = strstr(at, r->path)); at++)
		if ((at == words || at[-1] == '=' || at[-1] == ',') && (!at[len] || at[len] == ','))
			return true;
	return false;
}

/* What it takes is opened here.  NULL: an error was printed. */
static json_t *ask_with_errands(const char *name, const struct sockaddr_un *addr, int argc, char *const argv[],
				json_t *first, int *status)
{
	struct errand_fds fds;
	struct errands errands;
	struct err e = {0};
	json_t *reply;

	*status = STATUS_FAILED;
	if (!parse_errands(json_object_get(first, "opens"), &errands)) {
		log_error("ctl: the VM needs what this ringlet cannot open; are the two of one version?");
		return NULL;
	}
	for (unsigned i = 0; i < errands.n; i++)
		if (!named(&errands.errand[i], argc, argv)) {
			log_error("ctl: the VM asks for \"%s\", which the command does not name",
				  errands.errand[i].path);
			return NULL;
		}
	if (errands_run(&errands, &fds, &e)) {
		log_error("ctl: %s", e.text);
		*status = 1;
		return NULL;
	}
	reply = ask(name, addr, argc, argv, OPENS_NOTHING, &fds, status);
	errand_close(&fds);
	return reply;
}

int control_client(const char *name, int argc, char *const argv[])
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	json_t *reply;
	int status;

	if (strchr(name, '/')) {
		if (strlen(name) >= sizeof(addr.sun_path)) {
			log_error("ctl: %s: a socket's path has at most %zu bytes", name,
				  sizeof(addr.sun_path) - 1);
			return STATUS_FAILED;
		}
		strcpy(addr.sun_path, name);
	} else if (!control_name_ok(name) || control_socket_path(addr.sun_path, sizeof(addr.sun_path), name)) {
		log_error("ctl: \"%s\" cannot be a VM's name: letters, digits, . _ - and at most %d of them",
			  name, CONTROL_NAME_MAX);
		return STATUS_FAILED;
	}
	reply = ask(name, &addr, argc, argv, OPENS, &(struct errand_fds){0}, &status);
	if (json_object_get(reply, "opens")) {
		json_t *first = reply;

		reply = ask_with_errands(name, &addr, argc, argv, first, &status);
		json_decref(first);
	}
	if (reply)
		status = print_answer(reply);
	json_decref(reply);
	return status;
}
