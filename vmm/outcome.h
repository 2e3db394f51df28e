/* How a VM ended, and what that is as an exit status. */
#ifndef VMM_OUTCOME_H
#define VMM_OUTCOME_H
#include <stdbool.h>
#include <stddef.h>

enum outcome {
	OUTCOME_NONE,
	OUTCOME_POWER_OFF,
	OUTCOME_ANSWER,    /* value: the guest's own status (debug exit, or the command's) */
	OUTCOME_NO_ANSWER, /* it powered off, or says nothing that makes sense, before the command had ended */
	OUTCOME_PANIC,
	OUTCOME_OOPS,        /* --oops fail: an oops, a BUG ... */
	OUTCOME_SOFT_LOCKUP, /* ... a lock-up, a stall, a hung task */
	OUTCOME_BOOT_HANG,   /* --boot-timeout */
	OUTCOME_RESET,
	OUTCOME_TRIPLE_FAULT,
	OUTCOME_MEMORY_LOST,   /* a sharer took guest RAM away */
	OUTCOME_BACK_END_LOST, /* somebody that serves the guest is gone for good; said already */
	OUTCOME_TIMEOUT,
	OUTCOME_FAILED, /* the VMM or the host; said already */
	OUTCOME_SIGNAL, /* value: its number */
	OUTCOME_QUIT    /* Ctrl-a x */
};

#define STATUS_POWER_OFF     0
#define STATUS_RESERVED      117 /* the command's own status was one of 118-125 */
#define STATUS_BOOT_HANG     118
#define STATUS_NO_ANSWER     119
#define STATUS_OOPS          120 /* or a lock-up */
#define STATUS_PANIC         121
#define STATUS_RESET         122
#define STATUS_MEMORY_LOST   123
#define STATUS_BACK_END_LOST 123
#define STATUS_TIMEOUT       124
#define STATUS_FAILED        125

/* The exit status; why gets a sentence for the user, or "" where there is nothing to say.  detail: what is
 * known beside it, such as the console's line that told of it, or "". */
int outcome_status(enum outcome outcome, int value, bool has_command, const char *detail, char *why,
		   size_t len);

/* One word, for programs: what --result has. */
const char *outcome_name(enum outcome outcome);
#endif
