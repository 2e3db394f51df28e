/* Tests whose teardown can fail them.  Criterion calls a suite's .fini after its verdict on the test: a check
 * that fails there, even a crash, is printed and the test passes.  So such a test does its teardown itself, as
 * the last thing, and .fini only what is left of one that did not come to its end. */
#ifndef TESTS_UNIT_TEARDOWN_H
#define TESTS_UNIT_TEARDOWN_H
#include <criterion/criterion.h>
#include <stdbool.h>

/* Each file has its own; its checks are cr_expect(), so that one that fails does not spare the others. */
static void teardown(void);

static void teardown_once(void)
{
	static bool done;

	if (!done) {
		done = true;
		teardown();
	}
}

/* For suites with .fini = teardown_once. */
#define WholeTest(suite, name)                                                                                 \
	static void suite##_##name##_body(void);                                                               \
	Test(suite, name)                                                                                      \
	{                                                                                                      \
		suite##_##name##_body();                                                                       \
		teardown_once();                                                                               \
	}                                                                                                      \
	static void suite##_##name##_body(void)
#endif
