/* The composition root: the only file that knows every part of the machine. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H
#include "lib/err.h"
#include "vmm/config.h"

/* Builds the machine that cfg describes, runs it to its end, and takes it down again.  Returns the
 * process's exit status; whatever went wrong has been said. */
int machine_run(const struct config *cfg);
#endif
