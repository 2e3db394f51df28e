/* Who is whose child, and that none is left behind.  Main thread only. */
#ifndef COMPARE_PROCESS_FAMILY_H
#define COMPARE_PROCESS_FAMILY_H
#include <stdbool.h>
#include <sys/types.h>

/* The first process of the namespace that children are started in, as a pidfd; -1: there is none. */
int family_namespace(void);
/* From now on those whose parent has ended come to us, or to the first process of the namespace. */
void family_adopt(void);
/* Kills these and waits for their end.  known: who was started by us and is not to be killed. */
void family_end_orphans(bool (*known)(pid_t pid));
#endif
