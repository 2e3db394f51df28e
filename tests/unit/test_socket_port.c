/* A byte stream behind a UNIX socket, by clients that are ours. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/socket_port.h"
#include "lib/log.h"
#include "tests/unit/open_fds.h"
#include "tests/unit/teardown.h"
#include "vmm/evloop.h"
#include "vmm/loop_thread.h"

#define PATIENCE_MS 10000

static char dir[] = "/tmp/ringlet-port-XXXXXX";
static char path[64];
static struct loop_thread thread;
static struct socket_port *port;
static struct err e;

/* The guest's side. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	size_t len, grant; /* bytes it has, and may still take */
	atomic_uint rooms;
	char in[1u << 20];
} guest = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static size_t on_input(void *opaque, const void *data, size_t len)
{
	cr_assert_eq(opaque, &guest);
	pthread_mutex_lock(&guest.lock);
	if (len > guest.grant)
		len = guest.grant;
	cr_assert_leq(guest.len + len, sizeof(guest.in));
	memcpy(guest.in + guest.len, data, len);
	guest.len += len;
	guest.grant -= len;
	pthread_cond_broadcast(&guest.more);
	pthread_mutex_unlock(&guest.lock);
	return len;
}

static void on_room(void *opaque)
{
	cr_assert_eq(opaque, &guest);
	pthread_mutex_lock(&guest.lock);
	guest.rooms++;
	pthread_cond_broadcast(&guest.more);
	pthread_mutex_unlock(&guest.lock);
}

/* Waits until *n is at least least. */
static void wait_until(const size_t *n, size_t least)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_MS / 1000;
	pthread_mutex_lock(&guest.lock);
	while (*n < least && !rc)
		rc = pthread_cond_timedwait(&guest.more, &guest.lock, &until);
	pthread_mutex_unlock(&guest.lock);
	cr_assert_eq(rc, 0, "%zu is all that came, not %zu", *n, least);
}

static size_t input_len(void)
{
	size_t len;

	pthread_mutex_lock(&guest.lock);
	len = guest.len;
	pthread_mutex_unlock(&guest.lock);
	return len;
}

static void set_grant(size_t bytes)
{
	pthread_mutex_lock(&guest.lock);
	guest.grant = bytes;
	pthread_mutex_unlock(&guest.lock);
}

static void wait_for_room(void)
{
	pthread_mutex_lock(&guest.lock);
	while (!guest.rooms)
		pthread_cond_wait(&guest.more, &guest.lock);
	pthread_mutex_unlock(&guest.lock);
}

static void expect_input(const char *text)
{
	wait_until(&guest.len, strlen(text));
	cr_assert_eq(input_len(), strlen(text));
	cr_expect_eq(memcmp(guest.in, text, strlen(text)), 0);
}

static int open_port(void)
{
	const struct socket_port_config c = {
		.path = path,
		.input = on_input,
		.room = on_room,
		.opaque = &guest,
	};

	return socket_port_open(&port, thread.loop, &c, &e);
}

static void setup(void)
{
	log_set_level(LOG_ERROR);
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	set_grant(sizeof(guest.in));
	cr_assert_eq(loop_thread_start(&thread, "port", -1, &e), 0, "%s", e.text);
}

static void teardown(void)
{
	socket_port_close(port);
	loop_thread_stop(&thread);
	unlink(path);
	cr_expect_eq(rmdir(dir), 0, "%s is not empty", dir);
}

TestSuite(socket_port, .init = setup, .fini = teardown_once, .timeout = 60);

static int dial(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0, "%s", strerror(errno));
	return fd;
}

static bool readable(int fd, int ms)
{
	return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, ms) == 1;
}

/* Exactly these bytes come; fewer where the other side has closed. */
static size_t get(int fd, char *buf, size_t len)
{
	size_t got = 0;
	ssize_t n = 1;

	while (got < len && n > 0) {
		cr_assert(readable(fd, PATIENCE_MS), "%zu of %zu bytes came", got, len);
		n = recv(fd, buf + got, len - got, 0);
		got += n > 0 ? (size_t)n : 0;
	}
	return got;
}

static void expect_output(int fd, const char *text)
{
	char buf[256] = "";

	cr_assert_eq(get(fd, buf, strlen(text)), strlen(text));
	cr_expect_str_eq(buf, text);
}

static void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What runs on the loop's thread, as the device does. */
static struct output {
	const char *data;
	size_t len;
	bool ready;
} out;

static void do_output(void *arg)
{
	(void)arg;
	out.ready = socket_port_ready(port);
	if (out.ready)
		socket_port_output(port, out.data, out.len);
}

static bool output(const char *data, size_t len)
{
	out = (struct output){.data = data, .len = len};
	evloop_call(thread.loop, do_output, NULL);
	return out.ready;
}

static void do_room(void *arg)
{
	(void)arg;
	socket_port_room(port);
}

static void give_room(size_t bytes)
{
	pthread_mutex_lock(&guest.lock);
	guest.grant += bytes;
	pthread_mutex_unlock(&guest.lock);
	evloop_call(thread.loop, do_room, NULL);
}

/* A chunk that tells where it belongs. */
static const char *chunk(unsigned n)
{
	static char data[SOCKET_PORT_CHUNK];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(n * 31 + i);
	return data;
}

/* Output until it is not ready; how many chunks. */
static unsigned fill(void)
{
	unsigned n = 0;

	while (n < 10000 && output(chunk(n), SOCKET_PORT_CHUNK))
		n++;
	cr_assert_lt(n, 10000, "it never says stop");
	return n;
}

static void expect_chunks(int fd, unsigned from, unsigned to)
{
	char buf[SOCKET_PORT_CHUNK];

	for (unsigned i = from; i < to; i++) {
		cr_assert_eq(get(fd, buf, sizeof(buf)), sizeof(buf));
		cr_assert_eq(memcmp(buf, chunk(i), sizeof(buf)), 0, "chunk %u is another", i);
	}
}

/* Until the port has seen that nobody is there. */
static void wait_until_free(void)
{
	int fd = dial();

	for (int i = 0; i < PATIENCE_MS && !readable(fd, 1); i++)
		output("!", 1);
	cr_assert(readable(fd, 0), "the next client is not served");
	close(fd);
}

WholeTest(socket_port, carries_bytes_both_ways)
{
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	fd = dial();
	say(fd, "to the guest");
	expect_input("to the guest");
	cr_expect(output("to the host", 11));
	expect_output(fd, "to the host");
	close(fd);
}

WholeTest(socket_port, socket_is_its_owners_alone)
{
	struct stat st;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	cr_assert_eq(stat(path, &st), 0);
	cr_expect(S_ISSOCK(st.st_mode));
	cr_expect_eq(st.st_mode & 0777, 0600, "%o", st.st_mode);
}

WholeTest(socket_port, socket_goes_with_it)
{
	cr_assert_eq(open_port(), 0, "%s", e.text);
	socket_port_close(port);
	port = NULL;
	cr_expect_eq(access(path, F_OK), -1);
}

WholeTest(socket_port, replaces_a_socket_that_was_left_behind)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	cr_assert_eq(open_port(), 0, "%s", e.text);
	fd = dial();
	say(fd, "x");
	expect_input("x");
	close(fd);
}

WholeTest(socket_port, somebody_elses_socket_is_left_alone)
{
	struct socket_port *first;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	first = port;
	cr_expect_eq(open_port(), -EADDRINUSE);
	cr_expect(strstr(e.text, path), "%s", e.text);
	cr_expect_null(port);
	port = first;
	cr_expect_eq(access(path, F_OK), 0);
}

WholeTest(socket_port, a_file_in_its_place_is_left_alone)
{
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	cr_expect_eq(open_port(), -EEXIST);
	cr_expect(strstr(e.text, "no socket"), "%s", e.text);
	cr_expect_eq(access(path, F_OK), 0);
}

WholeTest(socket_port, a_path_that_is_too_long_is_refused)
{
	char longer[200];
	const struct socket_port_config c = {.path = longer};

	memset(longer, 'a', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	cr_expect_eq(socket_port_open(&port, thread.loop, &c, &e), -ENAMETOOLONG);
	cr_expect(strstr(e.text, "107"), "%s", e.text);
}

WholeTest(socket_port, keeps_output_for_the_first_client)
{
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	cr_expect(output("early ", 6));
	cr_expect(output("words", 5));
	fd = dial();
	expect_output(fd, "early words");
	close(fd);
}

WholeTest(socket_port, drops_output_that_nobody_is_there_for)
{
	const unsigned kept = SOCKET_PORT_KEEP / SOCKET_PORT_CHUNK;
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	for (unsigned i = 0; i < 3 * kept; i++)
		cr_assert(output(chunk(i), SOCKET_PORT_CHUNK), "the guest waits for nobody");
	fd = dial();
	expect_chunks(fd, 0, kept);
	cr_expect(output("now", 3));
	expect_output(fd, "now");
	close(fd);
}

WholeTest(socket_port, a_client_that_does_not_read_makes_the_guest_wait)
{
	unsigned n;
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	fd = dial();
	say(fd, "x");
	expect_input("x"); /* it is connected */
	n = fill();
	cr_expect_eq(guest.rooms, 0);
	expect_chunks(fd, 0, n); /* all of it, in order */
	wait_for_room();
	cr_expect(output("more", 4));
	expect_output(fd, "more");
	close(fd);
}

WholeTest(socket_port, a_client_that_leaves_frees_a_guest_that_waits)
{
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	fd = dial();
	say(fd, "x");
	expect_input("x");
	fill();
	close(fd);
	wait_for_room();
	/* And what it had not read is not the next one's. */
	fd = dial();
	cr_expect(output("new", 3));
	expect_output(fd, "new");
	close(fd);
}

WholeTest(socket_port, a_guest_that_does_not_read_makes_the_client_wait)
{
	char buf[65536];
	size_t sent = 0;
	ssize_t n;
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	set_grant(100);
	fd = dial();
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i * 7);
	/* Not more than is left of the pattern, for not every send() is taken whole. */
	while ((n = send(fd, buf + sent % sizeof(buf), sizeof(buf) - sent % sizeof(buf),
			 MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
		sent += (size_t)n;
	cr_assert_gt(sent, 100);
	cr_assert_lt(sent, sizeof(guest.in));
	wait_until(&guest.len, 100);
	cr_expect_eq(input_len(), 100);
	give_room(sizeof(guest.in) - 100);
	wait_until(&guest.len, sent);
	for (size_t i = 0; i < sent; i++)
		cr_assert_eq(guest.in[i], (char)(i % sizeof(buf) * 7), "byte %zu", i);
	close(fd);
}

WholeTest(socket_port, what_a_client_sent_outlives_it)
{
	char buf[20000];
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	set_grant(1);
	memset(buf, 'a', sizeof(buf));
	fd = dial();
	cr_assert_eq(send(fd, buf, sizeof(buf), MSG_NOSIGNAL), (ssize_t)sizeof(buf));
	wait_until(&guest.len, 1);
	close(fd);
	/* By little, so that the rest waits more than once. */
	for (size_t i = 1; i < sizeof(buf); i += 1999) {
		give_room(1999);
		wait_until(&guest.len, i + 1999 < sizeof(buf) ? i + 1999 : sizeof(buf));
	}
	cr_expect_eq(input_len(), sizeof(buf));
	set_grant(1);
	fd = dial();
	say(fd, "b");
	wait_until(&guest.len, sizeof(buf) + 1);
	cr_expect_eq(guest.in[sizeof(buf)], 'b');
	close(fd);
}

WholeTest(socket_port, a_client_gone_with_input_left_does_not_keep_the_loop_busy)
{
	struct timespec before, after;
	clockid_t clock;
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	set_grant(1);
	fd = dial();
	say(fd, "abc");
	wait_until(&guest.len, 1);
	close(fd);
	evloop_call(thread.loop, do_room, NULL);
	pthread_getcpuclockid(thread.thread, &clock);
	clock_gettime(clock, &before);
	poll(NULL, 0, 50);
	clock_gettime(clock, &after);
	cr_expect_lt((after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec, 10000000L);
}

WholeTest(socket_port, an_answer_reaches_who_has_stopped_sending)
{
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	fd = dial();
	say(fd, "question");
	shutdown(fd, SHUT_WR);
	expect_input("question");
	poll(NULL, 0, 10); /* it has been seen to end */
	cr_expect(output("answer", 6));
	expect_output(fd, "answer");
	close(fd);
	wait_until_free();
}

WholeTest(socket_port, the_next_client_waits_in_line)
{
	int first, second;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	first = dial();
	say(first, "1");
	expect_input("1");
	second = dial();
	say(second, "2");
	cr_expect(output("for the first", 13));
	expect_output(first, "for the first");
	cr_expect_not(readable(second, 20));
	cr_expect_eq(input_len(), 1);
	close(first);
	expect_input("12");
	cr_expect(output("for the second", 14));
	expect_output(second, "for the second");
	close(second);
}

WholeTest(socket_port, many_clients_one_after_another)
{
	cr_assert_eq(open_port(), 0, "%s", e.text);
	for (size_t i = 1; i <= 300; i++) {
		int fd = dial();

		say(fd, "x");
		wait_until(&guest.len, i);
		close(fd);
	}
}

WholeTest(socket_port, nothing_is_called_after_it_is_closed)
{
	int fd;

	cr_assert_eq(open_port(), 0, "%s", e.text);
	fd = dial();
	say(fd, "x");
	expect_input("x");
	socket_port_close(port);
	port = NULL;
	cr_expect_eq(send(fd, "y", 1, MSG_NOSIGNAL), -1);
	cr_expect_eq(input_len(), 1);
	close(fd);
}

WholeTest(socket_port, leaks_no_descriptors)
{
	unsigned before = open_fds();

	for (unsigned i = 0; i < 3; i++) {
		struct socket_port *first;
		int fd;

		cr_assert_eq(open_port(), 0, "%s", e.text);
		first = port;
		cr_expect_eq(open_port(), -EADDRINUSE);
		port = first;
		fd = dial();
		cr_expect(output("x", 1));
		expect_output(fd, "x");
		socket_port_close(port);
		port = NULL;
		close(fd);
	}
	cr_expect_eq(open_fds(), before);
}
