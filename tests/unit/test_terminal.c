/* Terminal, pipe and file as the guest's keyboard.  Each test's process is its own, stdin included. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/terminal.h"

static struct evloop *l;
static struct terminal terminal;
static struct ev_timer end_timer;
static char got[200000];
static size_t ngot, room;
static unsigned nquits, nbreaks, ncalls;

static size_t on_input(void *opaque, const void *data, size_t len)
{
	(void)opaque;
	ncalls++;
	if (len > room)
		len = room;
	room -= len;
	memcpy(got + ngot, data, len);
	ngot += len;
	return len;
}

static void on_key(void *opaque, enum terminal_key key)
{
	(void)opaque;
	nquits += key == TERMINAL_QUIT;
	nbreaks += key == TERMINAL_BREAK;
}

static void on_end(struct ev_timer *t)
{
	(void)t;
	evloop_quit(l, 0);
}

static void setup(void)
{
	l = evloop_new();
	cr_assert(l);
	cr_assert_eq(ev_timer_init(&end_timer, l, on_end), 0);
	room = sizeof(got);
}

static void teardown(void)
{
	terminal_fini(&terminal);
	ev_timer_fini(&end_timer);
	evloop_free(l);
}

TestSuite(terminal, .init = setup, .fini = teardown, .timeout = 30);

static void begin(void)
{
	const struct terminal_config cfg = {.input = on_input, .key = on_key};

	cr_assert_eq(terminal_init(&terminal, l, &cfg), 0);
}

static void run_for(unsigned ms)
{
	ev_timer_arm(&end_timer, ms);
	evloop_run(l);
}

static void become_stdin(int fd)
{
	cr_assert_eq(dup2(fd, STDIN_FILENO), STDIN_FILENO);
	close(fd);
}

static int pipe_stdin(void)
{
	int p[2];

	cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
	become_stdin(p[0]);
	return p[1];
}

/* The test's process becomes the foreground of a terminal of its own; the answer is the user's side. */
static int pty_stdin(void)
{
	int user, ours;

	cr_assert_eq(openpty(&user, &ours, NULL, NULL, NULL), 0);
	setsid();
	if (ioctl(ours, TIOCSCTTY, 0) || tcsetpgrp(ours, getpgrp()))
		cr_skip_test("no controlling terminal: %s", strerror(errno));
	become_stdin(ours);
	signal(SIGHUP, SIG_IGN); /* when the user's side is closed */
	return user;
}

static bool same(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       a->c_lflag == b->c_lflag && !memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc));
}

static void type(int fd, const char *text, size_t len)
{
	cr_assert_eq(write(fd, text, len), len);
}

static void guest_got(const char *text, size_t len)
{
	cr_expect_eq(ngot, len, "%zu bytes, not %zu", ngot, len);
	cr_expect_eq(memcmp(got, text, len), 0);
}

/* --- a terminal --- */

Test(terminal, raw_and_restored)
{
	struct termios before, raw, after;
	int user = pty_stdin();

	cr_assert_eq(tcgetattr(STDIN_FILENO, &before), 0);
	begin();
	cr_assert_eq(tcgetattr(STDIN_FILENO, &raw), 0);
	cr_expect(!(raw.c_lflag & (ICANON | ECHO | ISIG)));
	cr_expect(!(raw.c_oflag & OPOST));
	terminal_fini(&terminal);
	cr_assert_eq(tcgetattr(STDIN_FILENO, &after), 0);
	cr_expect(same(&before, &after));
	close(user);
}

Test(terminal, restored_twice_is_harmless)
{
	struct termios mine, after;
	int user = pty_stdin();

	begin();
	terminal_restore();
	cr_assert_eq(tcgetattr(STDIN_FILENO, &mine), 0);
	mine.c_lflag &= ~(tcflag_t)ECHO; /* somebody else's change afterwards */
	cr_assert_eq(tcsetattr(STDIN_FILENO, TCSANOW, &mine), 0);
	terminal_restore();
	cr_assert_eq(tcgetattr(STDIN_FILENO, &after), 0);
	cr_expect_eq(after.c_lflag & ECHO, 0);
	close(user);
}

Test(terminal, typed_bytes_reach_the_guest)
{
	int user = pty_stdin();

	begin();
	type(user, "ls\r\x03\x04\x1a\x7f", 7); /* Ctrl-C, Ctrl-D and Ctrl-Z are the guest's too */
	run_for(100);
	guest_got("ls\r\x03\x04\x1a\x7f", 7);
	close(user);
}

Test(terminal, keys)
{
	int user = pty_stdin();

	begin();
	type(user,
	     "a\x01"
	     "xb\x01"
	     "bc\x01\x01"
	     "d\x01?\x01ze",
	     15);
	run_for(100);
	cr_expect_eq(nquits, 1);
	cr_expect_eq(nbreaks, 1);
	guest_got("abc\x01"
		  "de",
		  6);
	close(user);
}

Test(terminal, keys_split_over_reads)
{
	int user = pty_stdin();

	begin();
	for (const char *p = "1\x01"
			     "x2\x01"
			     "b3\x01\x01"
			     "4";
	     *p; p++) {
		type(user, p, 1);
		run_for(20);
	}
	cr_expect_eq(nquits, 1);
	cr_expect_eq(nbreaks, 1);
	guest_got("123\x01"
		  "4",
		  5);
	close(user);
}

Test(terminal, help_is_not_the_guests)
{
	int err = memfd_create("stderr", 0), user = pty_stdin(), saved = dup(STDERR_FILENO);
	char text[512] = "";

	dup2(err, STDERR_FILENO);
	begin();
	type(user, "\x01h", 2);
	run_for(50);
	dup2(saved, STDERR_FILENO);
	cr_expect_gt(pread(err, text, sizeof(text) - 1, 0), 0);
	cr_expect(strstr(text, "Ctrl-a x"));
	cr_expect_eq(ngot, 0);
	close(user);
	close(err);
	close(saved);
}

Test(terminal, in_the_background_nothing_is_changed)
{
	struct termios before, after;
	int user, ours;

	/* a terminal, but not the one that controls us */
	cr_assert_eq(openpty(&user, &ours, NULL, NULL, NULL), 0);
	become_stdin(ours);
	cr_assert_eq(tcgetattr(STDIN_FILENO, &before), 0);
	begin();
	cr_assert_eq(tcgetattr(STDIN_FILENO, &after), 0);
	cr_expect(same(&before, &after));
	close(user);
}

Test(terminal, hang_up)
{
	int user = pty_stdin();
	clock_t began; /* of processor time */

	begin();
	type(user, "last", 4);
	run_for(50);
	close(user);
	began = clock();
	run_for(300);
	guest_got("last", 4);
	cr_expect_lt(clock() - began, CLOCKS_PER_SEC / 10, "it spins");
}

/* --- pipes and files --- */

Test(terminal, pipe)
{
	int w = pipe_stdin();

	begin();
	type(w, "a\x01x", 3); /* no keys of ours in a pipe */
	run_for(50);
	type(w, "more", 4);
	close(w);
	run_for(50);
	guest_got("a\x01xmore", 7);
	cr_expect_eq(nquits, 0);
}

static void file_stdin(size_t len)
{
	int fd = memfd_create("stdin", 0);
	CLEANUP_FREE char *p = malloc(len);

	for (size_t i = 0; i < len; i++)
		p[i] = (char)(i * 31 >> 3);
	cr_assert_eq(write(fd, p, len), len);
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	become_stdin(fd);
}

static void guest_got_pattern(size_t len)
{
	cr_expect_eq(ngot, len);
	for (size_t i = 0; i < ngot; i++)
		cr_assert_eq(got[i], (char)(i * 31 >> 3), "byte %zu", i);
}

Test(terminal, regular_file)
{
	file_stdin(100000);
	begin();
	run_for(100);
	guest_got_pattern(100000);
}

Test(terminal, empty_file)
{
	file_stdin(0);
	begin();
	run_for(50);
	cr_expect_eq(ngot, 0);
}

Test(terminal, dev_null)
{
	become_stdin(open("/dev/null", O_RDONLY));
	begin();
	run_for(50);
	cr_expect_eq(ngot, 0);
}

Test(terminal, closed_stdin)
{
	close(STDIN_FILENO);
	begin();
	run_for(50);
	cr_expect_eq(ngot, 0);
}

Test(terminal, non_blocking_pipe)
{
	int w = pipe_stdin();

	cr_assert_eq(fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK), 0);
	begin();
	run_for(20);
	type(w, "x", 1);
	run_for(50);
	guest_got("x", 1);
	close(w);
}

/* --- back-pressure --- */

static void drip(size_t total, size_t piece)
{
	while (ngot < total) {
		size_t before = ngot;

		room = piece;
		terminal_room(&terminal);
		run_for(5);
		cr_assert_gt(ngot, before, "stuck after %zu bytes", ngot);
		cr_assert_leq(ngot - before, piece);
	}
}

Test(terminal, full_pipe_waits_for_room)
{
	char text[5000];
	int w = pipe_stdin();

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 31 >> 3);
	room = 10;
	begin();
	type(w, text, sizeof(text));
	run_for(50);
	cr_expect_eq(ngot, 10);
	drip(sizeof(text), 77);
	guest_got_pattern(sizeof(text));
	close(w);
}

Test(terminal, full_file_waits_for_room)
{
	file_stdin(5000);
	room = 0;
	begin();
	run_for(50);
	cr_expect_eq(ngot, 0);
	drip(5000, 77);
	guest_got_pattern(5000);
}

Test(terminal, nothing_is_lost_at_the_end_of_a_full_pipe)
{
	char text[3000];
	int w = pipe_stdin();

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 31 >> 3);
	room = 1;
	begin();
	type(w, text, sizeof(text));
	close(w);
	run_for(20);
	drip(sizeof(text), 500);
	guest_got_pattern(sizeof(text));
}

/* epoll reports a hang-up whether asked or not. */
Test(terminal, a_full_pipe_whose_writer_left_does_not_spin)
{
	char text[1000] = "";
	int w = pipe_stdin();
	clock_t began; /* of processor time */

	room = 0;
	begin();
	type(w, text, sizeof(text));
	close(w);
	began = clock();
	run_for(400);
	cr_expect_lt(ncalls, 100, "offered %u times", ncalls);
	cr_expect_lt(clock() - began, CLOCKS_PER_SEC / 10, "it spins");
}

static void *hang_up_later(void *arg)
{
	usleep(500000);
	close(*(int *)arg);
	return NULL;
}

/* The loop must never wait in read(): a serial port may tell of room that nobody asked for. */
Test(terminal, room_with_nothing_pending_does_not_block)
{
	struct timespec a, b;
	int w = pipe_stdin();
	pthread_t t;

	begin();
	cr_assert_eq(pthread_create(&t, NULL, hang_up_later, &w), 0);
	terminal_room(&terminal);
	clock_gettime(CLOCK_MONOTONIC, &a);
	run_for(20);
	clock_gettime(CLOCK_MONOTONIC, &b);
	cr_expect_lt((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000, 300);
	pthread_join(t, NULL);
}

Test(terminal, leaves_no_descriptor_open)
{
	int w = pipe_stdin(), before = dup(0), after;

	close(before);
	for (unsigned i = 0; i < 10; i++) {
		begin();
		terminal_fini(&terminal);
		terminal_fini(&terminal);
	}
	after = dup(0);
	close(after);
	cr_expect_eq(before, after);
	close(w);
}
