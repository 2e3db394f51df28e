#include "compare/counters_control.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"

#define MAX_ANSWER (1 << 20)

/* --- the connection --- */

static int left_ms(uint64_t deadline)
{
	const uint64_t now = clock_ns(CLOCK_MONOTONIC);

	return now < deadline ? (int)((deadline - now) / 1000000) + 1 : 0;
}

/* 0, -ETIMEDOUT or -errno. */
static int wait_for(int fd, short events, uint64_t deadline)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		int n = poll(&p, 1, left_ms(deadline));

		if (n > 0)
			return 0;
		if (!n)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* The fd or -errno.  EAGAIN: others wait to be accepted already. */
static int dial(const char *path, uint64_t deadline)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		const struct timespec pause = {.tv_nsec = 5000000};

		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (!left_ms(deadline))
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return steal_fd(&fd);
}

static int send_all(int fd, const char *text, uint64_t deadline)
{
	size_t len = strlen(text);

	while (len) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
		int rc = 0;

		if (n >= 0) {
			text += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			rc = wait_for(fd, POLLOUT, deadline);
		} else if (errno != EINTR) {
			rc = -errno;
		}
		if (rc)
			return rc;
	}
	return 0;
}

/* Up to a newline.  The caller's to free.  -EPIPE: it closed before; -EPROTO: there was no end to it. */
static int read_line(int fd, char **out, size_t *out_len, uint64_t deadline)
{
	CLEANUP_FREE char *line = malloc(MAX_ANSWER);
	size_t len = 0;

	if (!line)
		return -ENOMEM;
	while (len < MAX_ANSWER) {
		int rc = wait_for(fd, POLLIN, deadline);
		ssize_t n = rc ? 0 : recv(fd, line + len, MAX_ANSWER - len, 0);
		const char *end;

		if (rc)
			return rc;
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EPIPE;
		end = memchr(line + len, '\n', (size_t)n);
		len += (size_t)n;
		if (end) {
			*out_len = (size_t)(end - line);
			*out = line;
			line = NULL;
			return 0;
		}
	}
	return -EPROTO;
}

/* --- the answer --- */

/* null and what is not there are unknown. */
static uint64_t number(const json_t *object, const char *key)
{
	const json_t *n = json_object_get(object, key);

	return json_is_integer(n) && json_integer_value(n) >= 0 ? (uint64_t)json_integer_value(n)
								: VM_COUNTS_UNKNOWN;
}

static bool is_word(const json_t *object, const char *key, const char *word)
{
	const char *found = json_string_value(json_object_get(object, key));

	return found && !strcmp(found, word);
}

static void take_queues(const json_t *queues, struct vm_counts *out)
{
	size_t i;
	json_t *q;

	out->kicks = out->exit_kicks = 0;
	json_array_foreach(queues, i, q)
	{
		const uint64_t kicks = number(q, "kicks"), exits = number(q, "exit_kicks");

		out->exit_kicks += exits == VM_COUNTS_UNKNOWN ? 0 : exits;
		if (kicks == VM_COUNTS_UNKNOWN || out->kicks == VM_COUNTS_UNKNOWN)
			out->kicks = VM_COUNTS_UNKNOWN;
		else
			out->kicks += kicks;
	}
}

static int take_device(const json_t *d, struct vm_counts *out)
{
	const char *datapath = json_string_value(json_object_get(d, "datapath"));
	const json_t *queues = json_object_get(d, "queues"), *doorbells = json_object_get(d, "doorbells");
	size_t i;
	json_t *b;

	if (!datapath || !json_is_array(queues) || !json_is_array(doorbells))
		return -EPROTO;
	take_queues(queues, out);
	out->remote = json_is_true(json_object_get(d, "remote"));
	out->vdpa = strstr(datapath, "vdpa") != NULL;
	out->kernel_vhost =
		!out->vdpa && !strncmp(datapath, "vhost-", 6) && strcmp(datapath, "vhost-user") != 0;
	out->notify_exit = is_word(d, "notify", "exit");
	out->pci = is_word(d, "transport", "pci");
	json_array_foreach(doorbells, i, b)
	{
		const uint64_t address = number(b, "address"), length = number(b, "length");

		if (i >= VM_COUNTS_DOORBELLS || address == VM_COUNTS_UNKNOWN || length == VM_COUNTS_UNKNOWN)
			return -EPROTO;
		out->doorbell[i].pio = is_word(b, "space", "io");
		out->doorbell[i].address = address;
		out->doorbell[i].length = length;
		out->ndoorbells++;
	}
	return 0;
}

static int take_counters(const json_t *o, const char *device, struct vm_counts *out)
{
	const json_t *kvm = json_object_get(o, "kvm"), *devices = json_object_get(o, "devices");
	size_t i;
	json_t *d;

	*out = (struct vm_counts){
		.exits = number(kvm, "exits"),
		.irq_injections = number(kvm, "irq_injections"),
		.user_exits = number(json_object_get(o, "run"), "exits_total"),
	};
	out->busy = json_is_true(json_object_get(o, "busy"));
	out->kvm_missing = !json_is_object(kvm);
	if (out->user_exits == VM_COUNTS_UNKNOWN)
		return -EPROTO;
	json_array_foreach(devices, i, d) if (is_word(d, "name", device)) return take_device(d, out);
	return -EPROTO;
}

/* What the VM told in its answer's text. */
static int understand(const char *line, size_t len, const char *device, struct vm_counts *out, struct err *e)
{
	json_t *reply = json_loadb(line, len, 0, NULL), *counters = NULL;
	const char *text = json_string_value(json_object_get(reply, "text"));
	const json_t *ok = json_object_get(reply, "ok");
	int rc = text && json_is_boolean(ok) ? 0 : -EPROTO;

	if (!rc && !json_is_true(ok)) {
		rc = err_set(e, -EREMOTEIO, "the VM does not tell its counters: %s", text);
	} else {
		if (!rc)
			counters = json_loads(text, 0, NULL);
		rc = counters ? take_counters(counters, device, out) : -EPROTO;
		if (rc)
			err_set(e, rc,
				"the VM's answer is not to be understood; expected what \"ringlet ctl NAME "
				"counters %s\" of this very ringlet prints",
				device);
	}
	json_decref(counters);
	json_decref(reply);
	return rc;
}

static int ask(const char *path, const char *device, char **line, size_t *len)
{
	const uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + VM_COUNTS_DEADLINE_MS * UINT64_C(1000000);
	CLEANUP_FD int fd = dial(path, deadline);
	json_t *request = json_pack("{s:[s,s]}", "args", "counters", device);
	CLEANUP_FREE char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	int rc = fd < 0 ? fd : text ? 0 : -ENOMEM;

	json_decref(request);
	rc = rc ? rc : send_all(fd, text, deadline);
	rc = rc ? rc : send_all(fd, "\n", deadline);
	return rc ? rc : read_line(fd, line, len, deadline);
}

int vm_counts_ask(const char *socket_path, const char *device, struct vm_counts *out, struct err *e)
{
	CLEANUP_FREE char *line = NULL;
	size_t len = 0;
	int rc = ask(socket_path, device, &line, &len);

	if (!rc)
		rc = understand(line, len, device, out, e);
	else if (rc == -ETIMEDOUT)
		err_set(e, rc, "the VM has not answered within %d s", VM_COUNTS_DEADLINE_MS / 1000);
	else if (rc == -EPIPE || rc == -ECONNRESET)
		err_set(e, rc = -EPIPE, "the VM hung up in place of an answer; has it ended?");
	else if (rc == -EPROTO)
		err_set(e, rc, "the VM's answer has no end: more than %d bytes without a newline", MAX_ANSWER);
	else if (rc == -ENOENT || rc == -ECONNREFUSED)
		err_set(e, rc, "no VM listens there (%s); has it ended?", strerror(-rc));
	else
		err_set(e, rc, "%s", strerror(-rc));
	if (rc)
		err_prefix(e, "counters: %s", socket_path);
	return rc;
}
