#include "vmm/outcome.h"

#include <stdio.h>
#include <string.h>

static int answer(int value, bool has_command, char *why, size_t len)
{
	if (!has_command || value < STATUS_RESERVED + 1 || value > STATUS_FAILED)
		return value;
	snprintf(why, len, "the command's status was %d, which Ringlet uses itself; it is passed on as %d",
		 value, STATUS_RESERVED);
	return STATUS_RESERVED;
}

/* What is the same whatever there was to know. */
static const struct {
	const char *name;
	int status;
	const char *why; /* NULL: nothing to say */
} rows[] = {
	[OUTCOME_NONE] = {"failed", STATUS_FAILED, NULL},
	[OUTCOME_POWER_OFF] = {"power-off", STATUS_POWER_OFF, NULL},
	[OUTCOME_ANSWER] = {"answer", 0, NULL},
	[OUTCOME_NO_ANSWER] = {"no-answer", STATUS_NO_ANSWER, "the guest ended before the command had"},
	[OUTCOME_PANIC] = {"panic", STATUS_PANIC, "the guest's kernel panicked"},
	[OUTCOME_OOPS] = {"oops", STATUS_OOPS, "the guest's kernel had an oops (--oops fail)"},
	[OUTCOME_SOFT_LOCKUP] = {"soft-lockup", STATUS_OOPS, "the guest's kernel locked up (--oops fail)"},
	[OUTCOME_BOOT_HANG] = {"boot-hang", STATUS_BOOT_HANG,
			       "the guest did not reach Ringlet's init within --boot-timeout"},
	[OUTCOME_RESET] = {"reset", STATUS_RESET,
			   "the guest reset itself (--reboot again would start it anew)"},
	[OUTCOME_TRIPLE_FAULT] = {"triple-fault", STATUS_RESET, "the guest reset itself by a triple fault"},
	[OUTCOME_MEMORY_LOST] = {"memory-lost", STATUS_MEMORY_LOST,
				 "guest RAM is lost: the file behind it was truncated or punched, or no huge "
				 "page was left for it"},
	[OUTCOME_BACK_END_LOST] = {"back-end-lost", STATUS_BACK_END_LOST, "who served the guest is gone"},
	[OUTCOME_TIMEOUT] = {"timeout", STATUS_TIMEOUT, "the guest did not end within --timeout"},
	[OUTCOME_FAILED] = {"failed", STATUS_FAILED, NULL},
	[OUTCOME_SIGNAL] = {"signal", 0, NULL},
	[OUTCOME_QUIT] = {"quit", STATUS_POWER_OFF, NULL},
};

const char *outcome_name(enum outcome outcome)
{
	return rows[outcome].name;
}

int outcome_status(enum outcome outcome, int value, bool has_command, const char *detail, char *why, size_t len)
{
	const char *text = rows[outcome].why;

	if (text)
		snprintf(why, len, "%s%s%s", text, *detail ? ": " : "", detail);
	else
		snprintf(why, len, "%s", detail);
	if (outcome == OUTCOME_ANSWER)
		return answer(value, has_command, why, len);
	if (outcome == OUTCOME_SIGNAL) {
		snprintf(why, len, "ended by signal %d (%s)", value, strsignal(value));
		return 128 + value;
	}
	if (has_command && !rows[outcome].status) { /* the command has not said so */
		snprintf(why, len, "%s", rows[OUTCOME_NO_ANSWER].why);
		return STATUS_NO_ANSWER;
	}
	return rows[outcome].status;
}
