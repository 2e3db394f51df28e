/* Locks a thread up: no new privileges, no capabilities, and the system calls that its kind needs and no
 * others.
 *
 * Which those are is said beside the calls, in "#syscalls" comments that scripts/syscalls.awk and .c make
 * filters of (docs/sandbox.md).  All of it is a thread's own matter in Linux, so each does it for itself when
 * it begins (lib/thread.h).  A call that is not allowed ends the process with a sentence and status 125. */
#ifndef LIB_CONFINE_H
#define LIB_CONFINE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "lib/thread.h"

/* Threads that begin from here on are confined, by confine_thread().  Not undone.  last, or NULL, is called on
 * the offender's thread before the sentence.  0 or -errno: this kernel cannot. */
int confine_begin(void (*last)(void), struct err *e);
/* The calling thread.  Not undone. */
int confine_thread(enum thread_kind kind, struct err *e);
/* The same; of these capabilities it keeps those that it has. */
int confine_keeping(enum thread_kind kind, uint64_t capabilities, struct err *e);
/* Nothing is to be confined in this process, nor in those that it starts. */
void confine_off(void);
bool confine_is_off(void);
/* Threads that begin now are confined: what they take must be made beforehand. */
bool confine_is_due(void);
/* The calling thread is confined: what it would open, connect or make a ring of would end the process. */
bool confine_is_on(void);

/* --- for tests --- */

struct confine_rule { /* one name of one comment */
	const char *kind, *name, *file;
};

/* Sorted as scripts/syscalls.awk does. */
const struct confine_rule *confine_rules(size_t *n);
#endif
