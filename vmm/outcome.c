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

int outcome_status(enum outcome outcome, int value, bool has_command, char *why, size_t len)
{
	snprintf(why, len, "%s", "");
	switch (outcome) {
	case OUTCOME_POWER_OFF:
		if (!has_command)
			return STATUS_POWER_OFF;
		snprintf(why, len, "the guest powered off before the command had ended");
		return STATUS_NO_ANSWER;
	case OUTCOME_ANSWER:
		return answer(value, has_command, why, len);
	case OUTCOME_PANIC:
		snprintf(why, len, "the guest's kernel panicked");
		return STATUS_PANIC;
	case OUTCOME_RESET:
		snprintf(why, len, "the guest reset itself (--reboot again would start it anew)");
		return STATUS_RESET;
	case OUTCOME_TRIPLE_FAULT:
		snprintf(why, len, "the guest reset itself by a triple fault");
		return STATUS_RESET;
	case OUTCOME_MEMORY_LOST:
		snprintf(why, len,
			 "guest RAM is lost: the file behind it was truncated or punched, or no huge page "
			 "was left for it");
		return STATUS_MEMORY_LOST;
	case OUTCOME_TIMEOUT:
		snprintf(why, len, "the guest did not end within --timeout");
		return STATUS_TIMEOUT;
	case OUTCOME_SIGNAL:
		snprintf(why, len, "ended by signal %d (%s)", value, strsignal(value));
		return 128 + value;
	case OUTCOME_QUIT:
		return STATUS_POWER_OFF;
	case OUTCOME_NONE:
	case OUTCOME_FAILED:
		break;
	}
	return STATUS_FAILED;
}
