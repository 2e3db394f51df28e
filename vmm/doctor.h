/* "ringlet doctor": says what this host offers, and how to mend what it does not. */
#ifndef VMM_DOCTOR_H
#define VMM_DOCTOR_H
#include <stdio.h>

#include "vmm/config.h"

/* Prints to stdout.  The process's exit status: 0 everything `run` needs is there (with cfg->check:
 * that check is ok), 1 it is not, 125 the report could not be made or written. */
int doctor_run(const struct doctor_config *cfg);

/* The same onto out, with root in front of every path that is read ("" for this host). */
int doctor_report(FILE *out, const char *root, const struct doctor_config *cfg);
#endif
