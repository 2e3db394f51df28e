/* Messages: levels, whole lines, and a guest that cannot flood. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"

static int file, saved;
static char text[400000];

static void setup(void)
{
	file = memfd_create("stderr", 0);
	cr_assert_eq(fcntl(file, F_SETFL, O_APPEND), 0); /* a memfd's offset is nobody's lock */
	saved = dup(STDERR_FILENO);
	cr_assert_eq(dup2(file, STDERR_FILENO), STDERR_FILENO);
}

static void teardown(void)
{
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(file);
}

TestSuite(log, .init = setup, .fini = teardown, .timeout = 30);

static const char *said(void)
{
	ssize_t n = pread(file, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = 0;
	return text;
}

Test(log, warnings_and_errors_unless_told_otherwise)
{
	log_error("e%d", 1);
	log_warn("w");
	log_info("i");
	log_debug("d");
	cr_expect_str_eq(said(), "ringlet: e1\nringlet: warning: w\n");
}

Test(log, all_levels)
{
	log_set_level(LOG_DEBUG);
	log_info("i");
	log_debug("d");
	cr_expect_str_eq(said(), "ringlet: i\nringlet: debug: d\n");
}

Test(log, raw_terminal_gets_carriage_returns)
{
	log_set_raw(true);
	log_error("one\ntwo");
	log_set_raw(false);
	log_error("three");
	cr_expect_str_eq(said(), "ringlet: one\r\ntwo\r\nringlet: three\n");
}

Test(log, long_lines_are_cut_and_still_end)
{
	CLEANUP_FREE char *longer = malloc(10000);

	memset(longer, '\n', 9999);
	longer[9999] = 0;
	log_set_raw(true);
	log_error("%s", longer);
	memset(longer, 'x', 9999);
	log_error("%s", longer);
	said();
	cr_expect_gt(strlen(text), 4000);
	cr_expect_str_eq(text + strlen(text) - 2, "\r\n");
}

Test(log, errno_is_left_alone)
{
	errno = ENOSPC;
	log_error("x");
	cr_expect_eq(errno, ENOSPC);
	close(STDERR_FILENO);
	log_error("nobody hears it");
	cr_expect_eq(errno, ENOSPC);
}

Test(log, a_guest_has_a_burst_a_second)
{
	struct log_limit limit = {0};
	unsigned allowed = 0;

	for (unsigned i = 0; i < 100000; i++)
		allowed += log_allowed(&limit, 5);
	cr_expect_geq(allowed, 5);
	cr_expect_leq(allowed, 10, "a second may have begun meanwhile");
	usleep(1100000);
	cr_expect(log_allowed(&limit, 5));
}

Test(log, each_place_has_its_own_burst)
{
	for (unsigned i = 0; i < 20; i++) {
		log_guest("first");
		log_guest("second");
	}
	said();
	cr_expect(strstr(text, "first") && strstr(text, "second"));
}

static void *log_often(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 1000; i++)
		log_error("0123456789");
	return NULL;
}

Test(log, lines_of_several_threads_do_not_mix)
{
	pthread_t t[4];
	size_t n;

	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, log_often, NULL), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	n = strlen(said());
	cr_expect_eq(n, 4000 * 20);
	for (size_t at = 0; at < n; at += 20)
		cr_assert_eq(strncmp(text + at, "ringlet: 0123456789\n", 20), 0, "at %zu", at);
}
