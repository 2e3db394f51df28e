// SPDX-License-Identifier: MIT
/*
 * Carries the command's stdin, stdout and stderr. Everything here is one poll loop that waits for nothing else:
 * a command that does not read its input still gets its output out, and the other way round.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GRACE_MS      100   /* for processes the command has left behind, which hold its output open */
#define SERIAL_WINDOW 2048u /* of stdin: the driver drops what the tty has no room for */

struct output {
	int fd;          /* our end, or -1 */
	uint32_t window; /* bytes that may be sent */
	size_t left;     /* what was in the pipe when the command ended */
};

static struct output out[WIRE_STREAMS]; /* stdin's is not used */

static int in_fd = -1; /* our end, or -1 */
static uint8_t in[WIRE_WINDOW];
static size_t in_from, in_len;
static uint32_t in_taken; /* not said yet */
static bool in_eof;

static struct wire_reader reader = {.types = WIRE_FROM_VMM};
static int child_pipe[2] = {-1, -1}; /* written by SIGCHLD */
static pid_t child;
static int child_status;
static bool child_ended;

static void on_child(int sig)
{
	int saved = errno;

	(void)sig;
	(void)!write(child_pipe[1], "", 1);
	errno = saved;
}

static void close_in(void)
{
	if (in_fd >= 0)
		close(in_fd);
	in_fd = -1;
	in_len = 0;
}

static void close_out(int stream)
{
	if (out[stream].fd >= 0)
		close(out[stream].fd);
	out[stream].fd = -1;
	out[stream].left = 0;
}

static void send_taken(uint32_t n)
{
	uint8_t taken[WIRE_TAKEN_LEN] = {WIRE_STDIN};

	wire_put32(taken + 1, n);
	channel_send(WIRE_TAKEN, taken, sizeof(taken));
}

static bool make_pipe(int *ours, int *theirs, int our_end)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return false;
	*ours = p[our_end];
	*theirs = p[!our_end];
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	return true;
}

bool stdio_open(struct stdio_ends *theirs)
{
	const struct sigaction on_chld = {.sa_handler = on_child, .sa_flags = SA_RESTART | SA_NOCLDSTOP};
	bool ok;

	out[WIRE_STDERR].fd = -1;
	if (plan_value("stdin", 0)) {
		ok = make_pipe(&in_fd, &theirs->fd[WIRE_STDIN], 1);
		if (ok)
			send_taken(channel_serial ? SERIAL_WINDOW : WIRE_WINDOW);
	} else {
		theirs->fd[WIRE_STDIN] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		ok = true; /* without a /dev/null it starts with its stdin closed */
	}
	ok = ok && make_pipe(&out[WIRE_STDOUT].fd, &theirs->fd[WIRE_STDOUT], 0);
	if (ok && plan_value("one-output", 0))
		theirs->fd[WIRE_STDERR] = fcntl(theirs->fd[WIRE_STDOUT], F_DUPFD_CLOEXEC, 3);
	else if (ok)
		ok = make_pipe(&out[WIRE_STDERR].fd, &theirs->fd[WIRE_STDERR], 0);
	out[WIRE_STDOUT].window = out[WIRE_STDERR].window = WIRE_WINDOW;
	if (!ok || pipe2(child_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return false;
	sigaction(SIGCHLD, &on_chld, NULL);
	return true;
}

/* --- what comes --- */

static void take_input(const uint8_t *data, size_t len)
{
	if (in_fd < 0) /* the command has closed it, and nobody asks for more */
		return;
	for (size_t i = 0; i < len && in_len < sizeof(in); i++)
		in[(in_from + in_len++) % sizeof(in)] = data[i];
}

static void handle(const struct wire_piece *f)
{
	switch (f->type) {
	case WIRE_IN:
		take_input(f->data, f->len);
		break;
	case WIRE_IN_EOF:
		in_eof = true;
		break;
	case WIRE_SIGNAL:
		if (f->len == 1 && !child_ended)
			kill(-child, f->data[0]);
		break;
	case WIRE_GONE:
		if (f->len == 1 && (f->data[0] == WIRE_STDOUT || f->data[0] == WIRE_STDERR))
			close_out(f->data[0]); /* the next write is the command's SIGPIPE */
		break;
	case WIRE_TAKEN:
		if (f->len == WIRE_TAKEN_LEN && (f->data[0] == WIRE_STDOUT || f->data[0] == WIRE_STDERR))
			out[f->data[0]].window += wire_get32(f->data + 1);
		break;
	}
}

static void receive(void)
{
	static uint8_t buf[4096];
	ssize_t got = read(channel_fd, buf, sizeof(buf));
	const uint8_t *p = buf;
	size_t n = got > 0 ? (size_t)got : 0;
	struct wire_piece f;

	while (wire_next(&reader, &p, &n, &f) > 0)
		handle(&f);
}

/* --- what goes --- */

static void feed_command(void)
{
	while (in_fd >= 0 && in_len) {
		size_t run = in_len < sizeof(in) - in_from ? in_len : sizeof(in) - in_from;
		ssize_t n = write(in_fd, in + in_from, run);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			close_in();
			return;
		}
		in_from = (in_from + (size_t)n) % sizeof(in);
		in_len -= (size_t)n;
		in_taken += (uint32_t)n;
	}
	if (in_fd >= 0 && in_taken && (!in_len || in_taken > WIRE_WINDOW / 4)) {
		send_taken(in_taken);
		in_taken = 0;
	}
	if (in_eof && !in_len)
		close_in();
}

static void send_output(int stream)
{
	struct output *o = &out[stream];
	size_t most = o->window < WIRE_MAX ? o->window : WIRE_MAX;
	ssize_t n = read(o->fd, channel_room(most), most);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		o->left = 0;
		return;
	}
	if (n <= 0) {
		close_out(stream);
		return;
	}
	channel_put(stream == WIRE_STDOUT ? WIRE_OUT : WIRE_ERR, (size_t)n);
	o->window -= (uint32_t)n;
	o->left -= o->left < (size_t)n ? o->left : (size_t)n;
	channel_push();
}

/* --- the loop --- */

static void reap(void)
{
	char buf[64];
	pid_t pid;
	int status;

	while (read(child_pipe[0], buf, sizeof(buf)) > 0)
		;
	/* PID 1 inherits every orphan: all are reaped, one is waited for. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != child)
			continue;
		child_ended = true;
		child_status = status;
		for (int s = WIRE_STDOUT; s <= WIRE_STDERR; s++) {
			int bytes = 0;

			if (out[s].fd >= 0 && ioctl(out[s].fd, FIONREAD, &bytes) == 0)
				out[s].left = (size_t)bytes;
		}
	}
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What it wrote itself has to come out whatever that takes; what others write, for a moment more. */
static bool done(int64_t until)
{
	bool open = false;

	for (int s = WIRE_STDOUT; s <= WIRE_STDERR; s++) {
		if (out[s].fd >= 0 && out[s].left)
			return false;
		open |= out[s].fd >= 0;
	}
	return !open || now_ms() >= until;
}

static void wait_for_something(int64_t until)
{
	struct pollfd p[5] = {
		{.fd = child_pipe[0], .events = POLLIN},
		{.fd = channel_fd, .events = POLLIN},
		{.fd = in_len ? in_fd : -1, .events = POLLOUT},
	};
	int64_t wait = until ? until - now_ms() : -1;

	if (!channel_idle())
		p[1].events |= POLLOUT;
	for (int s = WIRE_STDOUT; s <= WIRE_STDERR; s++)
		p[2 + s] = (struct pollfd){.fd = channel_idle() && out[s].window ? out[s].fd : -1,
					   .events = POLLIN};
	if (until && wait < 1)
		wait = out[WIRE_STDOUT].left || out[WIRE_STDERR].left ? -1 : 0;
	if (poll(p, 5, (int)wait) < 0)
		return;
	if (p[1].revents & POLLIN)
		receive();
	if (p[1].revents & POLLOUT)
		channel_push();
	if (p[2].revents & (POLLHUP | POLLERR))
		close_in();
	for (int s = WIRE_STDOUT; s <= WIRE_STDERR; s++)
		if (p[2 + s].revents && out[s].fd >= 0 && channel_idle() && out[s].window)
			send_output(s);
}

int stdio_serve(pid_t pid)
{
	int64_t until = 0;

	child = pid;
	do {
		wait_for_something(until);
		feed_command();
		channel_push();
		reap();
		if (child_ended && !until)
			until = now_ms() + GRACE_MS;
	} while (!child_ended || !done(until));
	return child_status;
}
