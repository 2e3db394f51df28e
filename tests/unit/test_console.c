/* The console's writer: order, nothing lost, and nobody waits for ever. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/console.h"

/* As a vCPU does it: asks, then writes a little. */
static void feed(struct console *c, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		size_t n = len < 1024 ? len : 1024;

		while (!console_wait(c, 50))
			;
		(console_write)(c, p, n);
		p += n;
		len -= n;
	}
}
#define console_write(c, data, len) feed(c, data, len)

#define MIB  (1u << 20)
#define RING (64u << 10)
#define LATE 10000 /* ms; no test is meant to wait so long */

static const char words[] = "Kernel panic - not syncing";

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN);
}

TestSuite(console, .init = setup, .timeout = 120);

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static _Atomic unsigned panics;

static void on_trouble(void *opaque, enum trouble kind)
{
	(void)opaque;
	panics += kind == TROUBLE_PANIC;
}

static struct console *start(int out_fd, int log_fd)
{
	struct console_config cfg = {.out_fd = out_fd, .log_fd = log_fd, .noticed = on_trouble};
	struct err e = {0};
	struct console *c = console_new(&cfg, &e);

	cr_assert(c, "%s", e.text);
	return c;
}

static int memory_file(void)
{
	int fd = memfd_create("console", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

static void holds(int fd, const void *data, size_t len)
{
	char *got = malloc(len + 1);

	cr_assert_eq(pread(fd, got, len + 1, 0), len);
	cr_expect_eq(memcmp(got, data, len), 0);
	free(got);
}

static char *noise(size_t len)
{
	char *p = malloc(len);

	for (size_t i = 0; i < len; i++)
		p[i] = (char)(i % 97 == 0 ? '\n' : 'a' + i * 7 % 23);
	return p;
}

struct reader {
	int fd;
	size_t len, size;
	char *buf;
	unsigned pause_us;
	size_t piece;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;
	ssize_t n;

	while ((n = read(r->fd, r->buf + r->len, r->size - r->len < r->piece ? r->size - r->len : r->piece)) >
	       0) {
		r->len += (size_t)n;
		if (r->pause_us)
			usleep(r->pause_us);
	}
	return NULL;
}

static struct reader reader_of(int fd, size_t size, size_t piece, unsigned pause_us)
{
	return (struct reader){
		.fd = fd, .size = size, .buf = malloc(size), .piece = piece, .pause_us = pause_us};
}

/* --- order, completeness --- */

Test(console, both_readers_get_all_in_order)
{
	int out = memory_file(), log = memory_file();
	struct console *c = start(out, log);
	char text[4000];
	size_t len = 0;

	for (unsigned i = 0; i < 500; i++) {
		char line[16];
		int n = snprintf(line, sizeof(line), "%u\n", i);

		console_write(c, line, (size_t)n);
		memcpy(text + len, line, (size_t)n);
		len += (size_t)n;
	}
	console_free(c, LATE);
	holds(out, text, len);
	holds(log, text, len);
	close(out);
	close(log);
}

Test(console, byte_by_byte)
{
	int out = memory_file();
	struct console *c = start(out, -1);
	CLEANUP_FREE char *data = noise(5000);

	for (unsigned i = 0; i < 5000; i++)
		console_write(c, data + i, 1);
	console_free(c, LATE);
	holds(out, data, 5000);
	close(out);
}

Test(console, one_write_larger_than_the_ring)
{
	int out = memory_file();
	struct console *c = start(out, -1);
	CLEANUP_FREE char *data = noise(5 * RING + 13);

	console_write(c, data, 5 * RING + 13);
	console_free(c, LATE);
	holds(out, data, 5 * RING + 13);
	close(out);
}

Test(console, every_piece_over_the_end_of_the_ring)
{
	CLEANUP_FREE char *data = noise(RING + 8);

	for (size_t before = RING - 4; before <= RING; before++) {
		int out = memory_file();
		struct console *c = start(out, -1);

		console_write(c, data, before);
		console_flush(c, LATE);
		console_write(c, data + before, RING + 8 - before);
		console_free(c, LATE);
		holds(out, data, RING + 8);
		close(out);
	}
	for (size_t len = 1; len <= 8; len++) {
		int out = memory_file();
		struct console *c = start(out, -1);

		console_write(c, data, RING - 3);
		console_flush(c, LATE);
		console_write(c, data + RING - 3, len);
		console_free(c, LATE);
		holds(out, data, RING - 3 + len);
		close(out);
	}
}

Test(console, no_newline_for_long)
{
	int out = memory_file();
	struct console *c = start(out, -1);
	CLEANUP_FREE char *data = malloc(3 * RING);

	memset(data, 'x', 3 * RING);
	console_write(c, data, 3 * RING);
	console_free(c, LATE);
	holds(out, data, 3 * RING);
	close(out);
}

Test(console, a_partial_line_does_not_wait_for_its_end)
{
	int out = memory_file();
	struct console *c = start(out, -1);
	uint64_t began = now_ms();
	struct stat st;

	console_write(c, "login: ", 7);
	do {
		usleep(1000);
		cr_assert_eq(fstat(out, &st), 0);
	} while (!st.st_size && now_ms() - began < 5000);
	cr_expect_eq(st.st_size, 7);
	console_free(c, LATE);
	close(out);
}

Test(console, nothing_is_lost_through_a_slow_pipe)
{
	CLEANUP_FREE char *data = noise(MIB);
	struct console *c;
	struct reader r;
	pthread_t t;
	int p[2];

	cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
	r = reader_of(p[0], 2 * MIB, 3001, 500);
	c = start(p[1], -1);
	cr_assert_eq(pthread_create(&t, NULL, read_all, &r), 0);
	for (size_t at = 0; at < MIB; at += 1 << 12)
		console_write(c, data + at, 1 << 12);
	console_flush(c, LATE);
	console_free(c, LATE);
	close(p[1]);
	pthread_join(t, NULL);
	cr_expect_eq(r.len, MIB);
	cr_expect_eq(memcmp(r.buf, data, MIB), 0);
	free(r.buf);
	close(p[0]);
}

Test(console, nothing_is_lost_through_a_non_blocking_pipe)
{
	CLEANUP_FREE char *data = noise(MIB);
	struct console *c;
	struct reader r;
	pthread_t t;
	int p[2];

	cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
	cr_assert_eq(fcntl(p[1], F_SETFL, O_NONBLOCK), 0);
	r = reader_of(p[0], 2 * MIB, 3001, 500);
	c = start(p[1], -1);
	cr_assert_eq(pthread_create(&t, NULL, read_all, &r), 0);
	console_write(c, data, MIB);
	console_flush(c, LATE);
	console_free(c, LATE);
	close(p[1]);
	pthread_join(t, NULL);
	cr_expect_eq(r.len, MIB);
	cr_expect_eq(memcmp(r.buf, data, MIB), 0);
	free(r.buf);
	close(p[0]);
}

/* --- a reader that is gone --- */

Test(console, closed_pipe_stops_nobody)
{
	CLEANUP_FREE char *data = noise(MIB);
	int log = memory_file();
	struct console *c;
	uint64_t began;
	int p[2];

	cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
	close(p[0]);
	c = start(p[1], log);
	began = now_ms();
	console_write(c, data, MIB);
	console_free(c, LATE);
	cr_expect_lt(now_ms() - began, 5000);
	holds(log, data, MIB);
	close(p[1]);
	close(log);
}

Test(console, closed_descriptor_stops_nobody)
{
	CLEANUP_FREE char *data = noise(4 * RING);
	int fd = memory_file();
	struct console *c;

	close(fd);
	c = start(fd, -1);
	console_write(c, data, 4 * RING);
	console_free(c, LATE);
}

Test(console, full_disk_keeps_the_screen)
{
	int out = memory_file(), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	CLEANUP_FREE char *data = noise(2 * RING);
	struct console *c;

	if (full < 0)
		cr_skip_test("no /dev/full");
	c = start(out, full);
	console_write(c, data, 2 * RING);
	console_free(c, LATE);
	holds(out, data, 2 * RING);
	close(out);
	close(full);
}

Test(console, shown_nowhere)
{
	CLEANUP_FREE char *data = noise(4 * RING);
	struct console *c = start(-1, -1);
	char tail[64];

	console_write(c, data, 4 * RING);
	console_flush(c, LATE);
	cr_expect_gt(console_tail(c, tail, sizeof(tail)), 0);
	console_free(c, LATE);
}

/* --- a reader that does not read --- */

struct writing {
	struct console *c;
	const char *data;
	size_t len;
	_Atomic bool done;
};

static void *write_much(void *arg)
{
	struct writing *w = arg;

	console_write(w->c, w->data, w->len);
	w->done = true;
	return NULL;
}

/* A pipe so small that what the writer holds and the ring decide. */
static void small_pipe(int p[2])
{
	cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
	cr_assert_geq(fcntl(p[1], F_SETPIPE_SZ, 4096), 0);
}

Test(console, full_ring_says_so_and_never_waits_to_write)
{
	CLEANUP_FREE char *data = noise(4 * RING);
	struct console *c;
	uint64_t began;
	int p[2];

	small_pipe(p);
	c = start(p[1], -1);
	cr_expect(console_wait(c, 0));
	(console_write)(c, data, RING - CONSOLE_SLACK);
	usleep(20000); /* the writer takes what the pipe does */
	(console_write)(c, data, CONSOLE_SLACK);
	cr_expect_not(console_wait(c, 0));
	began = now_ms();
	cr_expect_not(console_wait(c, 100));
	cr_expect_geq(now_ms() - began, 95);
	began = now_ms();
	for (unsigned i = 0; i < 10; i++)
		(console_write)(c, data, 4 * RING);
	cr_expect_lt(now_ms() - began, 2000);
	close(p[0]); /* EPIPE lets the writer go */
	cr_expect(console_wait(c, 2000));
	console_free(c, LATE);
	close(p[1]);
}

/* What is granted by console_wait() is never dropped, whoever else was granted it at the same time. */
Test(console, slack_holds_what_was_granted)
{
	CLEANUP_FREE char *data = noise(2 * RING);
	struct reader r;
	pthread_t rt;
	int p[2];
	struct console *c;
	size_t sent = 0;

	small_pipe(p);
	c = start(p[1], -1);
	while (console_wait(c, 0) && sent < RING) {
		(console_write)(c, data + sent, 1);
		sent++;
	}
	cr_assert_gt(sent, RING - CONSOLE_SLACK - 1);
	(console_write)(c, data + sent, CONSOLE_SLACK);
	sent += CONSOLE_SLACK;
	r = reader_of(p[0], 2 * RING, 5000, 0);
	cr_assert_eq(pthread_create(&rt, NULL, read_all, &r), 0);
	console_free(c, LATE);
	close(p[1]);
	pthread_join(rt, NULL);
	cr_expect_eq(r.len, sent);
	cr_expect_eq(memcmp(r.buf, data, sent), 0);
	free(r.buf);
	close(p[0]);
}

Test(console, full_ring_goes_on_when_the_reader_does)
{
	CLEANUP_FREE char *data = noise(4 * RING);
	struct writing w = {.data = data, .len = 4 * RING};
	struct reader r;
	pthread_t t, rt;
	int p[2];

	small_pipe(p);
	w.c = start(p[1], -1);
	cr_assert_eq(pthread_create(&t, NULL, write_much, &w), 0);
	usleep(50000);
	r = reader_of(p[0], 5 * RING, 5000, 0);
	cr_assert_eq(pthread_create(&rt, NULL, read_all, &r), 0);
	pthread_join(t, NULL);
	console_free(w.c, LATE);
	close(p[1]);
	pthread_join(rt, NULL);
	cr_expect_eq(r.len, 4 * RING);
	cr_expect_eq(memcmp(r.buf, data, 4 * RING), 0);
	free(r.buf);
	close(p[0]);
}

Test(console, flush_waits_for_what_was_written)
{
	int out = memory_file();
	struct console *c = start(out, -1);
	struct stat st;

	for (unsigned i = 1; i <= 50; i++) {
		console_write(c, "abc", 3);
		console_flush(c, LATE);
		cr_assert_eq(fstat(out, &st), 0);
		cr_expect_eq(st.st_size, 3 * i);
	}
	console_free(c, LATE);
	close(out);
}

Test(console, flush_keeps_its_deadline)
{
	CLEANUP_FREE char *data = noise(RING / 2);
	struct console *c;
	uint64_t began;
	int p[2];

	small_pipe(p);
	c = start(p[1], -1);
	console_write(c, data, RING / 2);
	began = now_ms();
	console_flush(c, 200);
	cr_expect_geq(now_ms() - began, 190);
	cr_expect_lt(now_ms() - began, 1500);
	close(p[0]);
	console_free(c, LATE);
	close(p[1]);
}

Test(console, flush_of_nothing_returns_at_once)
{
	struct console *c = start(-1, -1);
	uint64_t began = now_ms();

	console_flush(c, LATE);
	cr_expect_lt(now_ms() - began, 1000);
	console_free(c, LATE);
}

/* "Gives what is buffered ms milliseconds", not twice that. */
Test(console, free_keeps_its_deadline)
{
	CLEANUP_FREE char *data = noise(RING / 2);
	struct console *c;
	uint64_t began;
	int p[2];

	small_pipe(p);
	c = start(p[1], -1);
	console_write(c, data, RING / 2);
	began = now_ms();
	console_free(c, 1000);
	cr_expect_geq(now_ms() - began, 990);
	cr_expect_lt(now_ms() - began, 1600);
	/* The writer hangs in write() and keeps what it needs; let it end before we do. */
	close(p[0]); /* p[1] is the writer's as long as it lives */
	usleep(50000);
}

/* Its owner is gone after console_free(), even where the thread is not. */
Test(console, nobody_is_called_after_free)
{
	CLEANUP_FREE char *data = malloc(RING);
	struct console *c;
	int p[2];

	memset(data, 'x', RING);
	small_pipe(p);
	c = start(p[1], -1);
	console_write(c, data, 8192);
	usleep(50000); /* the writer took these and hangs */
	console_write(c, words, sizeof(words) - 1);
	console_free(c, 50);
	panics = 0;
	close(p[0]);
	usleep(100000);
	cr_expect_eq(panics, 0);
}

Test(console, free_of_nothing)
{
	console_free(NULL, 0);
}

Test(console, free_at_once)
{
	for (unsigned i = 0; i < 300; i++) {
		struct console *c = start(-1, -1);

		if (i % 2)
			console_write(c, "x", 1);
		console_free(c, LATE);
	}
}

/* --- what its owner is told --- */

static struct told {
	_Atomic size_t taken;
	_Atomic unsigned gone;
} told;

static void on_taken(void *opaque, size_t len)
{
	(void)opaque;
	told.taken += len;
}

static void on_gone(void *opaque)
{
	(void)opaque;
	told.gone++;
}

static struct console *start_told(int out_fd)
{
	struct console_config cfg = {.out_fd = out_fd, .log_fd = -1, .taken = on_taken, .gone = on_gone};
	struct err e = {0};
	struct console *c = console_new(&cfg, &e);

	cr_assert(c, "%s", e.text);
	return c;
}

Test(console, tells_what_it_has_taken)
{
	CLEANUP_FREE char *data = noise(3 * RING);
	int out = memory_file();
	struct console *c = start_told(out);

	console_write(c, data, 3 * RING);
	cr_expect(console_flush(c, LATE));
	console_free(c, LATE);
	cr_expect_eq(told.taken, 3 * RING);
	cr_expect_eq(told.gone, 0);
	close(out);
}

Test(console, tells_once_that_the_reader_left)
{
	CLEANUP_FREE char *data = noise(2 * RING);
	struct console *c;
	int p[2];

	cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
	close(p[0]);
	c = start_told(p[1]);
	console_write(c, data, 2 * RING);
	cr_expect(console_flush(c, LATE), "what nobody wants is not lost");
	cr_expect_not(console_lost(c));
	console_free(c, LATE);
	cr_expect_eq(told.gone, 1);
	cr_expect_eq(told.taken, 2 * RING);
	close(p[1]);
}

Test(console, a_full_disk_is_a_loss)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct console *c = start_told(full);

	console_write(c, "x\n", 2);
	cr_expect_not(console_flush(c, LATE));
	cr_expect(console_lost(c));
	console_free(c, LATE);
	cr_expect_eq(told.gone, 1);
	close(full);
}

/* --- the tail --- */

static struct console *with_text(const char *text)
{
	struct console *c = start(-1, -1);

	console_write(c, text, strlen(text));
	return c;
}

static void tail_is(const char *text, size_t size, const char *expected)
{
	struct console *c = with_text(text);
	char *buf = malloc(size);
	size_t n = console_tail(c, buf, size);

	cr_expect_str_eq(buf, expected, "of \"%s\" in %zu: \"%s\", not \"%s\"", text, size, buf, expected);
	cr_expect_eq(n, strlen(expected));
	free(buf);
	console_free(c, LATE);
}

Test(console, tail_of_nothing)
{
	tail_is("", 10, "");
	tail_is("", 1, "");
}

Test(console, tail_that_fits)
{
	tail_is("one\ntwo\n", 9, "one\ntwo\n");
	tail_is("one\ntwo\n", 100, "one\ntwo\n");
}

Test(console, tail_begins_with_a_whole_line)
{
	tail_is("one\ntwo\n", 8, "two\n");
	tail_is("one\ntwo\nthree\n", 12, "two\nthree\n");
	tail_is("one\ntwo", 7, "two");
}

/* When the last n bytes happen to begin where a line begins, that line is whole. */
Test(console, tail_keeps_a_line_that_just_fits)
{
	tail_is("one\ntwo\n", 5, "two\n");
	tail_is("one\ntwo\nthree\n", 11, "two\nthree\n");
}

Test(console, tail_after_the_ring_went_round)
{
	struct console *c = start(-1, -1);
	static char buf[RING];
	char line[64];
	size_t n;

	for (unsigned i = 0; i < 20000; i++) {
		int len = snprintf(line, sizeof(line), "line %u\n", i);

		console_write(c, line, (size_t)len);
	}
	n = console_tail(c, buf, 200);
	cr_expect_gt(n, 150);
	cr_expect_eq(strncmp(buf, "line ", 5), 0);
	cr_expect(strstr(buf, "line 19999\n"));
	n = console_tail(c, buf, sizeof(buf));
	cr_expect_gt(n, RING - 100);
	cr_expect_lt(n, RING);
	cr_expect_eq(strncmp(buf, "line ", 5), 0);
	console_free(c, LATE);
}

Test(console, tail_at_every_size)
{
	struct console *c = with_text("a\nbb\nccc\ndddd\neeeee\n");
	char buf[64];

	for (size_t size = 1; size < sizeof(buf); size++) {
		size_t n;

		memset(buf, '#', sizeof(buf));
		n = console_tail(c, buf, size);
		cr_assert_lt(n, size);
		cr_assert_eq(buf[n], 0);
		for (size_t i = n + 1; i < sizeof(buf); i++)
			cr_assert_eq(buf[i], '#', "size %zu writes at %zu", size, i);
	}
	console_free(c, LATE);
}

/* --- a panic's words --- */

Test(console, panic_words_in_one_piece)
{
	struct console *c = with_text("[ 1.0] Kernel panic - not syncing: VFS\n");

	console_free(c, LATE);
	cr_expect_eq(panics, 1);
}

Test(console, panic_words_split_at_every_place)
{
	for (size_t at = 0; at <= sizeof(words) - 1; at++) {
		struct console *c = start(-1, -1);

		panics = 0;
		console_write(c, words, at);
		console_flush(c, LATE); /* so that the writer sees two pieces */
		console_write(c, words + at, sizeof(words) - 1 - at);
		console_free(c, LATE);
		cr_expect_eq(panics, 1, "split at %zu", at);
	}
}

Test(console, panic_words_over_the_end_of_the_ring)
{
	CLEANUP_FREE char *data = malloc(RING);

	memset(data, '.', RING);
	for (size_t before = RING - sizeof(words); before <= RING; before++) {
		struct console *c = start(-1, -1);

		panics = 0;
		console_write(c, data, before);
		console_write(c, words, sizeof(words) - 1);
		console_free(c, LATE);
		cr_assert_eq(panics, 1, "%zu bytes before", before);
	}
}

Test(console, panic_words_after_a_false_start)
{
	struct console *c = with_text("KKernel panic - Kernel panic - not synKernel panic - not syncing");

	console_free(c, LATE);
	cr_expect_eq(panics, 1);
}

Test(console, panic_is_told_once)
{
	struct console *c = with_text("Kernel panic - not syncing\nKernel panic - not syncing\n");

	console_free(c, LATE);
	cr_expect_eq(panics, 1);
}

Test(console, other_words_are_no_panic)
{
	struct console *c = with_text("kernel panic - not syncing, Kernel panic - not syncin\n");

	console_free(c, LATE);
	cr_expect_eq(panics, 0);
}

Test(console, scattered_words_are_no_panic)
{
	struct console *c = with_text("Kernel of panic and - not or syncing\nKernel panic\n - not syncing\n");

	console_free(c, LATE);
	cr_expect_eq(panics, 0);
}

/* --- threads --- */

static void *write_lines(void *arg)
{
	struct console *c = arg;

	for (unsigned i = 0; i < 5000; i++)
		console_write(c, "0123456789abcde\n", 16);
	return NULL;
}

Test(console, lines_of_several_threads_stay_whole)
{
	int out = memory_file();
	struct console *c = start(out, -1);
	pthread_t t[4];
	char line[16], tail[300];
	off_t at = 0;

	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, write_lines, c), 0);
	for (unsigned i = 0; i < 100; i++)
		console_tail(c, tail, sizeof(tail));
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	console_free(c, LATE);
	for (; pread(out, line, 16, at) == 16; at += 16)
		cr_assert_arr_eq(line, "0123456789abcde\n", 16);
	cr_expect_eq(at, 4 * 5000 * 16);
	close(out);
}
