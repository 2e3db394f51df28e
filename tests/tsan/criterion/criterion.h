/* As much of Criterion as the tests use, for the thread sanitizer, whose address space the library's
 * arena does not fit into ("Could not initialize inheritable arena").  One fork a test, TAP on stdout;
 * checks say where, not what. */
#ifndef TSAN_CRITERION_H
#define TSAN_CRITERION_H
#pragma GCC diagnostic ignored "-Wsign-compare" /* the library compares by its own macros */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct shim_options {
	void (*init)(void);
	void (*fini)(void);
	double timeout; /* seconds; the sanitizer gets three times as many */
};

struct shim_test {
	const char *suite, *name;
	void (*fn)(void);
	struct shim_options options;
	struct shim_test *next;
};

struct shim_suite {
	const char *name;
	struct shim_options options;
	struct shim_suite *next;
};

static struct shim_test *shim_tests;
static struct shim_suite *shim_suites;
static _Atomic unsigned shim_failed;

#define Test(s, n, ...)                                                                                        \
	static void s##_##n(void);                                                                             \
	__attribute__((constructor)) static void shim_register_##s##_##n(void)                                 \
	{                                                                                                      \
		static struct shim_test t = {.suite = #s,                                                      \
					     .name = #n,                                                       \
					     .fn = s##_##n,                                                    \
					     .options = {__VA_ARGS__}};                                        \
		t.next = shim_tests;                                                                           \
		shim_tests = &t;                                                                               \
	}                                                                                                      \
	static void s##_##n(void)

#define TestSuite(s, ...)                                                                                      \
	__attribute__((constructor)) static void shim_register_##s(void)                                       \
	{                                                                                                      \
		static struct shim_suite t = {.name = #s, .options = {__VA_ARGS__}};                           \
		t.next = shim_suites;                                                                          \
		shim_suites = &t;                                                                              \
	}                                                                                                      \
	struct shim_suite

#define SHIM(ok, stop)                                                                                         \
	do {                                                                                                   \
		if (!(ok)) {                                                                                   \
			fprintf(stderr, "# %s:%d: failed\n", __FILE__, __LINE__);                              \
			shim_failed++;                                                                         \
			if (stop)                                                                              \
				_exit(1);                                                                      \
		}                                                                                              \
	} while (0)

#define cr_expect(c, ...)              SHIM(c, 0)
#define cr_assert(c, ...)              SHIM(c, 1)
#define cr_expect_not(c, ...)          SHIM(!(c), 0)
#define cr_assert_not(c, ...)          SHIM(!(c), 1)
#define cr_expect_eq(a, b, ...)        SHIM((a) == (b), 0)
#define cr_assert_eq(a, b, ...)        SHIM((a) == (b), 1)
#define cr_expect_neq(a, b, ...)       SHIM((a) != (b), 0)
#define cr_assert_neq(a, b, ...)       SHIM((a) != (b), 1)
#define cr_expect_lt(a, b, ...)        SHIM((a) < (b), 0)
#define cr_assert_lt(a, b, ...)        SHIM((a) < (b), 1)
#define cr_expect_leq(a, b, ...)       SHIM((a) <= (b), 0)
#define cr_assert_leq(a, b, ...)       SHIM((a) <= (b), 1)
#define cr_expect_gt(a, b, ...)        SHIM((a) > (b), 0)
#define cr_assert_gt(a, b, ...)        SHIM((a) > (b), 1)
#define cr_expect_geq(a, b, ...)       SHIM((a) >= (b), 0)
#define cr_assert_geq(a, b, ...)       SHIM((a) >= (b), 1)
#define cr_expect_null(a, ...)         SHIM(!(a), 0)
#define cr_assert_null(a, ...)         SHIM(!(a), 1)
#define cr_expect_not_null(a, ...)     SHIM(a, 0)
#define cr_assert_not_null(a, ...)     SHIM(a, 1)
#define cr_expect_str_eq(a, b, ...)    SHIM(!strcmp(a, b), 0)
#define cr_assert_str_eq(a, b, ...)    SHIM(!strcmp(a, b), 1)
#define cr_expect_arr_eq(a, b, n, ...) SHIM(!memcmp(a, b, n), 0)
#define cr_assert_arr_eq(a, b, n, ...) SHIM(!memcmp(a, b, n), 1)
#define cr_skip_test(...)              _exit(77)

static void shim_child(const struct shim_test *t)
{
	struct shim_options o = {0};
	double seconds;

	for (const struct shim_suite *s = shim_suites; s; s = s->next)
		if (!strcmp(s->name, t->suite))
			o = s->options;
	seconds = t->options.timeout > 0 ? t->options.timeout : o.timeout > 0 ? o.timeout : 60;
	alarm((unsigned)seconds * 3);
	if (o.init)
		o.init();
	t->fn();
	if (o.fini)
		o.fini();
	exit(shim_failed ? 1 : 0);
}

int main(void)
{
	unsigned n = 0, failed = 0;

	for (const struct shim_test *t = shim_tests; t; t = t->next) {
		int status;
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (!pid)
			shim_child(t);
		waitpid(pid, &status, 0);
		n++;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
			printf("ok - %s::%s # SKIP see stderr\n", t->suite, t->name);
		} else if (status) {
			failed++;
			printf("not ok - %s::%s (status %#x)\n", t->suite, t->name, (unsigned)status);
		} else {
			printf("ok - %s::%s\n", t->suite, t->name);
		}
	}
	printf("1..%u\n", n);
	return failed != 0;
}
#endif
