#include "matrix/expect.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config_keys.h"

#define NONZERO "nonzero"

int expect_parse(struct expect *x, const char *text, struct err *e)
{
	struct nearest near;
	unsigned long status;
	char *end;

	*x = (struct expect){0};
	if (*text >= '0' && *text <= '9') {
		status = strtoul(text, &end, 10);
		if (*end || end - text > 3 || status > 255)
			return err_set(e, -EINVAL, "\"%.40s\" is no exit status; expected 0 to 255", text);
		x->status = (int)status;
		return 0;
	}
	x->status = -1;
	x->outcome = text;
	if (!strcmp(text, NONZERO) || result_outcome_known(text))
		return 0;
	nearest_init(&near, text);
	nearest_try(&near, NONZERO);
	for (const char *const *o = result_outcomes; *o; o++)
		nearest_try(&near, *o);
	if (near.best)
		return err_set(e, -EINVAL, "nothing ends as \"%.40s\"; did you mean \"%s\"?", text, near.best);
	return err_set(e, -EINVAL,
		       "nothing ends as \"%.40s\"; expected an exit status, nonzero, panic, oops, soft-lockup, "
		       "boot-hang, timeout, power-off, no-answer, reset or triple-fault",
		       text);
}

static void __attribute__((format(printf, 3, 4)))
fail(struct verdict *v, const char *kind, const char *fmt, ...)
{
	va_list ap;

	v->passed = false;
	snprintf(v->kind, sizeof(v->kind), "%s", kind);
	va_start(ap, fmt);
	vsnprintf(v->reason, sizeof(v->reason), fmt, ap);
	va_end(ap);
}

/* The guest or its command said so itself. */
static bool answered(const struct result *r)
{
	return !strcmp(r->outcome, "answer") || !strcmp(r->outcome, "power-off");
}

static bool as_expected(const struct expect *x, const struct result *r)
{
	if (x->outcome && !strcmp(x->outcome, NONZERO))
		return !strcmp(r->outcome, "answer") && r->status != 0;
	if (x->outcome)
		return !strcmp(r->outcome, x->outcome);
	/* A status below 118 or above 125 is the guest's own: one of a VMM that was killed is not it. */
	return r->status == x->status && (answered(r) || (r->status >= 118 && r->status <= 125));
}

static void wanted(const struct expect *x, char *text, size_t size)
{
	if (x->outcome)
		snprintf(text, size, "%s", x->outcome);
	else
		snprintf(text, size, "status %d", x->status);
}

void expect_judge(struct verdict *v, const struct expect *x, const struct ended *how,
		  const struct result *result, const char *why, double limit_s)
{
	char want[64];

	*v = (struct verdict){.passed = true};
	wanted(x, want, sizeof(want));
	if (how->interrupted)
		fail(v, "interrupted", "it was ended by the signal that ended the matrix");
	else if (how->late)
		fail(v, "limit",
		     "ringlet run did not end within %.1f s, which is past its own --timeout, and was "
		     "killed",
		     limit_s);
	else if (how->signalled)
		fail(v, "killed", "ringlet run was killed by signal %d (%s)", how->status,
		     strsignal(how->status));
	else if (!result)
		fail(v, "no-result", "ringlet run ended with status %d, but %s", how->status, why);
	else if (result->status != how->status)
		fail(v, "no-result", "ringlet run ended with status %d, but its result says %d", how->status,
		     result->status);
	else if (how->left)
		fail(v, "left-behind", "ringlet run left %u process%s behind, killed now", how->left,
		     how->left > 1 ? "es" : "");
	else if (as_expected(x, result))
		return;
	else if (result->reason[0])
		fail(v, strcmp(result->outcome, "answer") != 0 ? result->outcome : "status",
		     "%s (%s, status %d; expected %s)", result->reason, result->outcome, result->status, want);
	else
		fail(v, strcmp(result->outcome, "answer") != 0 ? result->outcome : "status",
		     "%s, status %d; expected %s", result->outcome, result->status, want);
}
