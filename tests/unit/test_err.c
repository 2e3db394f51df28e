/* Errors on their way to the user. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "lib/err.h"

static struct err e;

Test(err, returns_its_code)
{
	cr_expect_eq(err_set(&e, -EINVAL, "a %s of %d", "sentence", 3), -EINVAL);
	cr_expect_eq(e.code, -EINVAL);
	cr_expect_str_eq(e.text, "a sentence of 3");
}

Test(err, may_be_unwanted)
{
	cr_expect_eq(err_set(NULL, -EIO, "unheard"), -EIO);
}

Test(err, prefix)
{
	err_set(&e, -ENOENT, "not there");
	cr_expect_eq(err_prefix(&e, "--log %s", "x"), -ENOENT);
	cr_expect_str_eq(e.text, "--log x: not there");
	err_prefix(&e, "run");
	cr_expect_str_eq(e.text, "run: --log x: not there");
}

Test(err, long_text_is_cut)
{
	char text[3000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	err_set(&e, -E2BIG, "%s", text);
	cr_expect_eq(strlen(e.text), sizeof(e.text) - 1);
	err_prefix(&e, "short");
	cr_expect_eq(strncmp(e.text, "short: xxx", 10), 0);
	cr_expect_eq(strlen(e.text), sizeof(e.text) - 1);
	err_prefix(&e, "%s", text);
	cr_expect_eq(strlen(e.text), sizeof(e.text) - 1);
}

Test(err, text_with_percent_signs)
{
	err_set(&e, -EINVAL, "%s", "100%s");
	err_prefix(&e, "at");
	cr_expect_str_eq(e.text, "at: 100%s");
}
