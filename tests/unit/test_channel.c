/* What a guest's init and the VMM say to each other: frames, windows, and a guest that lies. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/channel.h"
#include "vmm/evloop.h"

static struct seen {
	unsigned hellos, started, exits, broken, complaints;
	char release[65], why[256], complaint[WIRE_SMALL + 1];
	struct channel_exit how;
	uint8_t *bytes[WIRE_STREAMS];
	size_t len[WIRE_STREAMS], outstanding[WIRE_STREAMS];
} seen;

/* What the guest was sent, and how much more it takes. */
static uint8_t sent[1 << 20];
static size_t nsent, takes;
static enum channel_way sent_by;

static struct evloop *loop;
static struct ev_timer stop;

static void on_hello(void *opaque, const char *release)
{
	(void)opaque;
	seen.hellos++;
	snprintf(seen.release, sizeof(seen.release), "%s", release);
}

static void on_started(void *opaque)
{
	(void)opaque;
	seen.started++;
}

static void on_output(void *opaque, enum wire_stream stream, const void *data, size_t len)
{
	(void)opaque;
	cr_assert(stream == WIRE_STDOUT || stream == WIRE_STDERR);
	seen.outstanding[stream] += len;
	cr_assert_leq(seen.outstanding[stream], WIRE_WINDOW, "more than there is room for");
	if (!len)
		return;
	seen.bytes[stream] = realloc(seen.bytes[stream], seen.len[stream] + len);
	memcpy(seen.bytes[stream] + seen.len[stream], data, len);
	seen.len[stream] += len;
}

static void on_complaint(void *opaque, const char *text)
{
	(void)opaque;
	seen.complaints++;
	snprintf(seen.complaint, sizeof(seen.complaint), "%s", text);
}

static void on_exited(void *opaque, const struct channel_exit *how)
{
	(void)opaque;
	seen.exits++;
	seen.how = *how;
}

static void on_broken(void *opaque, const char *why)
{
	(void)opaque;
	seen.broken++;
	snprintf(seen.why, sizeof(seen.why), "%s", why);
}

static size_t on_send(void *opaque, enum channel_way way, const void *data, size_t len)
{
	size_t n = len < takes ? len : takes;

	(void)opaque;
	sent_by = way;
	cr_assert_leq(nsent + n, sizeof(sent));
	memcpy(sent + nsent, data, n);
	nsent += n;
	takes -= n;
	return n;
}

static void on_stop(struct ev_timer *t)
{
	evloop_quit(t->loop, 0);
}

static struct channel *channel_of(int input_fd)
{
	const struct channel_config c = {
		.hello = on_hello,
		.started = on_started,
		.output = on_output,
		.complaint = on_complaint,
		.exited = on_exited,
		.broken = on_broken,
		.send = on_send,
		.input_fd = input_fd,
	};
	struct err e = {0};
	struct channel *channel;

	for (unsigned s = 0; s < WIRE_STREAMS; s++)
		free(seen.bytes[s]);
	seen = (struct seen){0};
	nsent = 0;
	takes = sizeof(sent);
	loop = evloop_new();
	cr_assert(loop);
	cr_assert_eq(ev_timer_init(&stop, loop, on_stop), 0);
	channel = channel_new(&c, loop, &e);
	cr_assert(channel, "%s", e.text);
	return channel;
}

static void done(struct channel *c)
{
	channel_free(c);
	ev_timer_fini(&stop);
	evloop_free(loop);
}

/* Whatever the loop has to do. */
static void settle(void)
{
	ev_timer_arm(&stop, 20);
	evloop_run(loop);
}

static void frame(struct channel *c, enum wire_type type, const void *data, size_t len)
{
	uint8_t buf[WIRE_HEAD + WIRE_MAX];

	wire_put_head(buf, type, len);
	if (len)
		memcpy(buf + WIRE_HEAD, data, len);
	channel_receive(c, CHANNEL_PORT, buf, WIRE_HEAD + len);
}

static void hello(struct channel *c)
{
	frame(c, WIRE_HELLO,
	      WIRE_NAME "\x01"
			"6.12-test",
	      sizeof(WIRE_NAME) + 9);
}

static void window(struct channel *c, uint32_t n)
{
	uint8_t taken[WIRE_TAKEN_LEN] = {WIRE_STDIN};

	wire_put32(taken + 1, n);
	frame(c, WIRE_TAKEN, taken, sizeof(taken));
}

static void answer(struct channel *c, uint8_t by_signal, uint8_t value, uint32_t taint)
{
	uint8_t exit[WIRE_EXIT_LEN] = {by_signal, value};

	wire_put32(exit + 2, taint);
	frame(c, WIRE_EXIT, exit, sizeof(exit));
}

TestSuite(channel, .timeout = 120);

/* --- from init --- */

Test(channel, a_whole_run)
{
	struct channel *c = channel_of(-1);

	hello(c);
	frame(c, WIRE_STARTED, NULL, 0);
	frame(c, WIRE_OUT, "a\0b\xa5", 4);
	frame(c, WIRE_ERR, "oh", 2);
	frame(c, WIRE_OUT, "c", 1);
	frame(c, WIRE_COMPLAINT, "no\nsuch \x1b[31mmodule", 19);
	answer(c, 0, 7, 0x81);
	cr_expect_str_eq(seen.release, "6.12-test");
	cr_expect_eq(seen.started, 1);
	cr_assert_eq(seen.len[WIRE_STDOUT], 5);
	cr_expect_arr_eq(seen.bytes[WIRE_STDOUT],
			 "a\0b\xa5"
			 "c",
			 5);
	cr_assert_eq(seen.len[WIRE_STDERR], 2);
	cr_expect_str_eq(seen.complaint, "no?such ?[31mmodule");
	cr_expect_eq(seen.exits, 1);
	cr_expect_eq(seen.how.status, 7);
	cr_expect_eq(seen.how.taint, 0x81);
	cr_expect_eq(seen.broken, 0, "%s", seen.why);
	done(c);
}

Test(channel, a_signal_is_what_a_shell_makes_of_it)
{
	struct channel *c = channel_of(-1);

	hello(c);
	answer(c, 1, SIGKILL, 0);
	cr_expect_eq(seen.how.status, 137);
	done(c);
}

/* One byte at a time, and from each place on at once. */
Test(channel, frames_come_in_any_pieces)
{
	uint8_t whole[512];
	size_t len = 0, payload = sizeof(WIRE_NAME);

	wire_put_head(whole, WIRE_HELLO, payload);
	memcpy(whole + WIRE_HEAD, WIRE_NAME "\x01", payload);
	len = WIRE_HEAD + payload;
	wire_put_head(whole + len, WIRE_OUT, 100);
	memset(whole + len + WIRE_HEAD, 'x', 100);
	len += WIRE_HEAD + 100;
	wire_put_head(whole + len, WIRE_OUT, 0);
	len += WIRE_HEAD;
	wire_put_head(whole + len, WIRE_EXIT, WIRE_EXIT_LEN);
	memset(whole + len + WIRE_HEAD, 0, WIRE_EXIT_LEN);
	len += WIRE_HEAD + WIRE_EXIT_LEN;
	for (size_t cut = 0; cut <= len; cut++) {
		struct channel *c = channel_of(-1);

		for (size_t i = 0; i < cut; i++)
			channel_receive(c, CHANNEL_PORT, whole + i, 1);
		channel_receive(c, CHANNEL_PORT, whole + cut, len - cut);
		cr_assert_eq(seen.hellos, 1, "cut at %zu", cut);
		cr_assert_eq(seen.len[WIRE_STDOUT], 100, "cut at %zu", cut);
		cr_assert_eq(seen.exits, 1, "cut at %zu", cut);
		done(c);
	}
}

Test(channel, noise_before_the_greeting_is_skipped)
{
	static const char noise[] = "boot: \xa5"
				    "h\xa5"
				    "hxxring\xa5\xa5";
	struct channel *c = channel_of(-1);

	channel_receive(c, CHANNEL_PORT, noise, sizeof(noise) - 1);
	hello(c);
	cr_expect_eq(seen.hellos, 1);
	cr_expect_eq(seen.broken, 0);
	done(c);
}

/* The first that greets is the guest; the other line is not listened to. */
Test(channel, whoever_says_hello)
{
	uint8_t buf[64];
	struct channel *c = channel_of(-1);

	channel_receive(c, CHANNEL_PORT, "login: ", 7);
	wire_put_head(buf, WIRE_HELLO, sizeof(WIRE_NAME));
	memcpy(buf + WIRE_HEAD, WIRE_NAME "\x01", sizeof(WIRE_NAME));
	channel_receive(c, CHANNEL_SERIAL, buf, WIRE_HEAD + sizeof(WIRE_NAME));
	cr_expect_eq(seen.hellos, 1);
	hello(c);
	cr_expect_eq(seen.hellos, 1);
	cr_expect_eq(seen.broken, 0);
	channel_gone(c, WIRE_STDOUT);
	settle();
	cr_expect_eq(sent_by, CHANNEL_SERIAL);
	done(c);
}

/* --- a guest that lies --- */

Test(channel, what_is_no_frame_ends_it)
{
	static const struct {
		const char *what;
		uint8_t bytes[8];
		size_t len;
	} rows[] = {
		{"no mark", {'o', 1, 0, 0}, 4},
		{"no type", {WIRE_MARK, 0, 0, 0}, 4},
		{"a type of ours", {WIRE_MARK, WIRE_IN, 1, 0}, 4},
		{"an unknown type", {WIRE_MARK, '!', 1, 0}, 4},
		{"output that is too long", {WIRE_MARK, WIRE_OUT, 1, 0x40}, 4},
		{"a sentence that is too long", {WIRE_MARK, WIRE_COMPLAINT, 1, 4}, 4},
		{"a short answer", {WIRE_MARK, WIRE_EXIT, 1, 0, 0}, 5},
		{"a short window", {WIRE_MARK, WIRE_TAKEN, 1, 0, 0}, 5},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct channel *c = channel_of(-1);

		hello(c);
		channel_receive(c, CHANNEL_PORT, rows[i].bytes, rows[i].len);
		cr_expect_eq(seen.broken, 1, "%s", rows[i].what);
		cr_expect_gt(strlen(seen.why), 20, "%s", rows[i].what);
		answer(c, 0, 0, 0);
		cr_expect_eq(seen.exits, 0, "%s: and then an answer", rows[i].what);
		done(c);
	}
}

Test(channel, answers_that_are_none)
{
	static const uint8_t rows[][2] = {{2, 0}, {1, 0}, {1, 65}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct channel *c = channel_of(-1);

		hello(c);
		answer(c, rows[i][0], rows[i][1], 0);
		cr_expect_eq(seen.exits, 0, "row %zu", i);
		cr_expect_eq(seen.broken, 1, "row %zu", i);
		done(c);
	}
}

Test(channel, more_than_the_window_ends_it)
{
	static const uint8_t zeros[WIRE_MAX];
	struct channel *c = channel_of(-1);
	size_t fit = WIRE_WINDOW / WIRE_MAX;

	hello(c);
	for (size_t i = 0; i < fit; i++)
		frame(c, WIRE_OUT, zeros, WIRE_MAX);
	cr_expect_eq(seen.broken, 0);
	frame(c, WIRE_OUT, zeros, 1);
	cr_expect_eq(seen.broken, 1);
	done(c);
}

Test(channel, a_second_hello_ends_it)
{
	struct channel *c = channel_of(-1);

	hello(c);
	hello(c);
	cr_expect_eq(seen.broken, 1);
	done(c);
}

Test(channel, another_version_is_refused)
{
	struct channel *c = channel_of(-1);

	frame(c, WIRE_HELLO, WIRE_NAME "\x02", sizeof(WIRE_NAME));
	cr_expect_eq(seen.hellos, 0);
	cr_expect_eq(seen.broken, 1);
	done(c);
}

Test(channel, nothing_after_the_answer_counts)
{
	struct channel *c = channel_of(-1);

	hello(c);
	answer(c, 0, 1, 0);
	answer(c, 0, 0, 0);
	frame(c, WIRE_OUT, "x", 1);
	cr_expect_eq(seen.exits, 1);
	cr_expect_eq(seen.how.status, 1);
	cr_expect_eq(seen.len[WIRE_STDOUT], 0);
	done(c);
}

/* Random bytes, also such as begin well: it never writes beyond anything (make SAN=1), and never answers by
 * chance without a greeting. */
Test(channel, random_bytes)
{
	static const char types[] = WIRE_FROM_INIT "z?";
	unsigned seed = 1;

	for (unsigned round = 0; round < 3000; round++) {
		struct channel *c = channel_of(-1);
		uint8_t buf[700];

		if (round % 3)
			hello(c);
		for (unsigned i = 0; i < 20; i++) {
			size_t len = (size_t)rand_r(&seed) % sizeof(buf);

			for (size_t k = 0; k < len; k++)
				buf[k] = (uint8_t)rand_r(&seed);
			if (len >= WIRE_HEAD && round % 2)
				wire_put_head(buf,
					      (enum wire_type)types[rand_r(&seed) % (int)(sizeof(types) - 1)],
					      rand_r(&seed) % 4 ? len - WIRE_HEAD
								: (size_t)rand_r(&seed) % 2000);
			channel_receive(c, rand_r(&seed) % 8 ? CHANNEL_PORT : CHANNEL_SERIAL, buf, len);
		}
		cr_assert_leq(seen.exits + seen.broken, 1);
		if (!seen.hellos)
			cr_assert_eq(seen.exits, 0);
		done(c);
	}
}

/* --- to init --- */

static struct wire_reader reader;
static const uint8_t *at;
static size_t left;

static void read_sent(void)
{
	reader = (struct wire_reader){.types = WIRE_FROM_VMM};
	at = sent;
	left = nsent;
}

static bool next(struct wire_piece *f)
{
	int rc = wire_next(&reader, &at, &left, f);

	cr_assert_geq(rc, 0, "no frame");
	return rc;
}

static int input_of(const char *text, size_t len)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	cr_assert_eq(write(fd, text, len), len);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

Test(channel, stdin_comes_by_its_window_and_ends)
{
	int fd = input_of("0123456789", 10);
	struct channel *c = channel_of(fd);
	struct wire_piece f;

	hello(c);
	settle();
	cr_expect_eq(nsent, 0, "nobody has asked for it");
	window(c, 4);
	settle();
	window(c, 100);
	settle();
	read_sent();
	cr_assert(next(&f));
	cr_expect_eq(f.type, WIRE_IN);
	cr_assert_eq(f.len, 4);
	cr_expect_arr_eq(f.data, "0123", 4);
	cr_assert(next(&f));
	cr_assert_eq(f.len, 6);
	cr_assert(next(&f));
	cr_expect_eq(f.type, WIRE_IN_EOF);
	cr_expect_not(next(&f));
	done(c);
	close(fd);
}

Test(channel, a_pipe_is_waited_for)
{
	struct channel *c;
	struct wire_piece f;
	int p[2];

	cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
	c = channel_of(p[0]);
	hello(c);
	window(c, 100);
	settle();
	cr_expect_eq(nsent, 0);
	cr_assert_eq(write(p[1], "late", 4), 4);
	settle();
	close(p[1]);
	settle();
	read_sent();
	cr_assert(next(&f));
	cr_assert_eq(f.len, 4);
	cr_expect_arr_eq(f.data, "late", 4);
	cr_assert(next(&f));
	cr_expect_eq(f.type, WIRE_IN_EOF);
	done(c);
	close(p[0]);
}

/* A line that takes a few bytes at a time. */
Test(channel, what_was_not_taken_is_offered_again)
{
	char text[3000];
	struct channel *c;
	struct wire_piece f;
	size_t got = 0;
	int fd;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 7);
	fd = input_of(text, sizeof(text));
	c = channel_of(fd);
	takes = 0;
	hello(c);
	window(c, 100000);
	for (unsigned i = 0; i < 40; i++) {
		takes = 100;
		channel_room(c);
		settle();
	}
	read_sent();
	while (next(&f) && f.type == WIRE_IN) {
		cr_assert_arr_eq(f.data, text + got, f.len);
		got += f.len;
	}
	cr_expect_eq(got, sizeof(text));
	cr_expect_eq(f.type, WIRE_IN_EOF);
	done(c);
	close(fd);
}

Test(channel, a_window_is_given_back_by_halves)
{
	static const uint8_t zeros[WIRE_MAX];
	struct channel *c = channel_of(-1);
	struct wire_piece f;

	hello(c);
	frame(c, WIRE_ERR, zeros, WIRE_MAX);
	frame(c, WIRE_ERR, zeros, WIRE_MAX);
	channel_taken(c, WIRE_STDERR, WIRE_MAX);
	settle();
	cr_expect_eq(nsent, 0);
	channel_taken(c, WIRE_STDERR, WIRE_MAX);
	settle();
	read_sent();
	cr_assert(next(&f));
	cr_expect_eq(f.type, WIRE_TAKEN);
	cr_expect_eq(f.data[0], WIRE_STDERR);
	cr_expect_eq(wire_get32(f.data + 1), 2 * WIRE_MAX);
	seen.outstanding[WIRE_STDERR] = 0;
	for (unsigned i = 0; i < WIRE_WINDOW / WIRE_MAX; i++)
		frame(c, WIRE_ERR, zeros, WIRE_MAX);
	cr_expect_eq(seen.broken, 0, "%s", seen.why);
	done(c);
}

Test(channel, signals_and_a_reader_that_left)
{
	struct channel *c = channel_of(-1);
	struct wire_piece f;

	cr_expect_not(channel_signal(c, SIGINT), "nobody is there");
	hello(c);
	cr_expect_not(channel_signal(c, SIGINT), "no command runs");
	frame(c, WIRE_STARTED, NULL, 0);
	cr_expect(channel_signal(c, SIGTERM));
	channel_gone(c, WIRE_STDOUT);
	settle();
	read_sent();
	cr_assert(next(&f));
	cr_expect_eq(f.type, WIRE_SIGNAL);
	cr_expect_eq(f.data[0], SIGTERM);
	cr_assert(next(&f));
	cr_expect_eq(f.type, WIRE_GONE);
	cr_expect_eq(f.data[0], WIRE_STDOUT);
	cr_expect_not(next(&f));
	answer(c, 0, 0, 0);
	cr_expect_not(channel_signal(c, SIGTERM), "it has ended");
	done(c);
}

Test(channel, another_life)
{
	struct channel *c = channel_of(-1);
	struct wire_piece f;

	hello(c);
	channel_gone(c, WIRE_STDERR);
	frame(c, WIRE_STARTED, NULL, 0);
	settle();
	channel_restart(c);
	nsent = 0;
	cr_expect_not(channel_signal(c, SIGTERM));
	hello(c);
	settle();
	read_sent();
	cr_assert(next(&f), "it does not know that nobody reads");
	cr_expect_eq(f.type, WIRE_GONE);
	answer(c, 0, 3, 0);
	cr_expect_eq(seen.how.status, 3);
	cr_expect_eq(seen.broken, 0);
	done(c);
}
