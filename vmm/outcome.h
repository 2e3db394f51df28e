/* How a VM ended, and what that is as an exit status. */
#ifndef VMM_OUTCOME_H
#define VMM_OUTCOME_H
#include <stdbool.h>
#include <stddef.h>

enum outcome {
	OUTCOME_NONE,
	OUTCOME_POWER_OFF,
	OUTCOME_ANSWER, /* value: the guest's own status (debug exit, or the command's) */
	OUTCOME_PANIC,
	OUTCOME_RESET,
	OUTCOME_TRIPLE_FAULT,
	OUTCOME_MEMORY_LOST, /* a sharer took guest RAM away */
	OUTCOME_TIMEOUT,
	OUTCOME_FAILED, /* the VMM or the host; said already */
	OUTCOME_SIGNAL, /* value: its number */
	OUTCOME_QUIT    /* Ctrl-a x */
};

#define STATUS_POWER_OFF   0
#define STATUS_RESERVED    117 /* the command's own status was one of 118-125 */
#define STATUS_NO_ANSWER   119
#define STATUS_PANIC       121
#define STATUS_RESET       122
#define STATUS_MEMORY_LOST 123
#define STATUS_TIMEOUT     124
#define STATUS_FAILED      125

/* The exit status; why gets a sentence for the user, or "" where there is nothing to say. */
int outcome_status(enum outcome outcome, int value, bool has_command, char *why, size_t len);
#endif
