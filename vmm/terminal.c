/* #ioctls[main]: TCGETS TCSETS TCSETSW TIOCGPGRP TIOCGWINSZ */
#include "vmm/terminal.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"

#define CTRL_A 0x01

static struct termios saved;
static _Atomic bool is_raw;

void terminal_restore(void)
{
	if (atomic_exchange(&is_raw, false)) {
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
		log_set_raw(false);
	}
}

static void go_raw(void)
{
	struct termios raw;

	/* In the background a tcsetattr() would stop us: SIGTTOU. */
	if (tcgetpgrp(STDIN_FILENO) != getpgrp() || tcgetattr(STDIN_FILENO, &saved))
		return;
	raw = saved;
	cfmakeraw(&raw);
	is_raw = true;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw))
		is_raw = false;
	log_set_raw(is_raw);
}

static void help(void)
{
	static const char text[] = "\r\nCtrl-a x  quit Ringlet\r\nCtrl-a b  send a break (SysRq)\r\n"
				   "Ctrl-a h  this help\r\nCtrl-a Ctrl-a  send Ctrl-a\r\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		return; /* nobody to help */
}

/* Takes our own keys out of buf; returns how many bytes are the guest's. */
static size_t take_keys(struct terminal *t, char *buf, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = buf[i];

		if (!t->escape) {
			if (c == CTRL_A)
				t->escape = true;
			else
				buf[n++] = c;
			continue;
		}
		t->escape = false;
		if (c == 'x' || c == 'X')
			t->cfg.key(t->cfg.opaque, TERMINAL_QUIT);
		else if (c == 'b' || c == 'B')
			t->cfg.key(t->cfg.opaque, TERMINAL_BREAK);
		else if (c == 'h' || c == 'H' || c == '?')
			help();
		else if (c == CTRL_A || c == 'a')
			buf[n++] = CTRL_A;
	}
	return n;
}

/* Off means out of the epoll set: an empty mask would still report a hang-up, for ever. */
static void watch(struct terminal *t, bool on)
{
	if (t->always || t->in.fd < 0 || t->watched == on)
		return;
	if (on)
		t->watched = !evloop_add(t->loop, &t->in, EPOLLIN);
	else
		evloop_del(t->loop, &t->in);
	t->watched = t->watched && on;
}

static void stop_reading(struct terminal *t)
{
	watch(t, false);
	t->in.fd = -1;
}

/* False: no more now (full, or nothing there). */
static bool pump(struct terminal *t)
{
	if (t->off == t->len) {
		ssize_t n;

		if (t->in.fd < 0)
			return false;
		n = read(t->in.fd, t->buf, sizeof(t->buf));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		if (n <= 0) { /* end of a pipe or file: the guest sees a silent line */
			stop_reading(t);
			return false;
		}
		t->off = 0;
		t->len = t->keys ? take_keys(t, t->buf, (size_t)n) : (size_t)n;
	}
	t->off += t->cfg.input(t->cfg.opaque, t->buf + t->off, t->len - t->off);
	return t->off == t->len;
}

static void on_input(struct ev_watch *w, uint32_t events)
{
	struct terminal *t = container_of(w, struct terminal, in);

	(void)events;
	/* A full line is not watched: the keys wait with the rest, but a signal still ends us. */
	if (!pump(t) && t->off < t->len)
		watch(t, false);
}

static void on_more(struct ev_watch *w, uint32_t events)
{
	struct terminal *t = container_of(w, struct terminal, more);
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) < 0)
		return;
	if (t->always) {
		while (pump(t))
			;
		return;
	}
	if (t->off < t->len) /* else there is nothing of ours, and a read() could wait */
		pump(t);
	if (t->off == t->len)
		watch(t, true);
}

void terminal_room(struct terminal *t)
{
	const uint64_t one = 1;

	if (write(t->more.fd, &one, sizeof(one)) < 0)
		return; /* it was told often enough */
}

int terminal_init(struct terminal *t, struct evloop *loop, const struct terminal_config *cfg)
{
	int rc;

	memset(t, 0, sizeof(*t));
	t->cfg = *cfg;
	t->loop = loop;
	t->in.fd = -1;
	t->more.fn = on_more;
	t->more.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->more.fd < 0)
		return -errno;
	rc = evloop_add(loop, &t->more, EPOLLIN);
	if (rc) {
		close(t->more.fd);
		t->more.fd = -1;
		return rc;
	}
	t->in.fn = on_input;
	t->in.fd = STDIN_FILENO;
	rc = evloop_add(loop, &t->in, EPOLLIN);
	if (rc == -EPERM) {
		t->always = true;
		terminal_room(t);
	} else if (rc) { /* closed: a guest without input */
		t->in.fd = -1;
		return 0;
	}
	t->watched = !rc;
	t->keys = isatty(STDIN_FILENO);
	if (t->keys)
		go_raw();
	return 0;
}

void terminal_fini(struct terminal *t)
{
	terminal_restore();
	if (t->more.fd < 0)
		return;
	stop_reading(t);
	evloop_del(t->loop, &t->more);
	close(t->more.fd);
	t->more.fd = -1;
}
