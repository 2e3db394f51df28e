#include <errno.h>
#include <glob.h>
#include <jansson.h>
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

static int send_request(int fd, int argc, char *const argv[])
{
	json_t *args = json_array(), *request = json_pack("{s:o}", "args", args);
	char *text;
	int rc = 0;

	for (int i = 0; i < argc && !rc; i++)
		rc = json_array_append_new(args, json_string(argv[i]));
	text = rc ? NULL : json_dumps(request, JSON_COMPACT);
	json_decref(request);
	if (!text)
		return -EILSEQ; /* an argument that is not UTF-8 */
	rc = send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 || send(fd, "\n", 1, MSG_NOSIGNAL) < 0 ? -errno : 0;
	free(text);
	return rc;
}

static int print_answer(int fd)
{
	static char line[8 * CONTROL_TEXT_SIZE]; /* escapes make it longer */
	size_t len = 0;
	json_t *reply, *text;
	ssize_t n;
	bool ok;

	while (len < sizeof(line) && (n = recv(fd, line + len, sizeof(line) - len, 0)) > 0)
		len += (size_t)n;
	reply = json_loadb(line, len, JSON_DISABLE_EOF_CHECK, NULL);
	text = json_object_get(reply, "text");
	if (!json_is_string(text)) {
		log_error(len ? "ctl: the VM's answer is not to be understood"
			      : "ctl: the VM gave no answer; has it ended?");
		json_decref(reply);
		return STATUS_FAILED;
	}
	ok = json_is_true(json_object_get(reply, "ok"));
	if (!ok)
		log_error("ctl: %s", json_string_value(text));
	else if (json_string_length(text))
		printf("%s%s", json_string_value(text),
		       json_string_value(text)[json_string_length(text) - 1] == '\n' ? "" : "\n");
	json_decref(reply);
	return ok ? 0 : 1;
}

int control_client(const char *name, int argc, char *const argv[])
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	int rc;

	if (fd < 0) {
		log_error("ctl: socket: %s", strerror(errno));
		return STATUS_FAILED;
	}
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
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return no_such_vm(name, addr.sun_path, errno);
	rc = send_request(fd, argc, argv);
	if (rc) {
		log_error("ctl: %s", rc == -EILSEQ ? "an argument is not UTF-8" : strerror(-rc));
		return STATUS_FAILED;
	}
	return print_answer(fd);
}
