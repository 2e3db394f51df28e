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

/* Of --ci: the lines that give a job /dev/kvm, for the service that runs it (by its environment; for those
 * known, where it is none of them).  kvm: what is wrong with it.  The next line, or NULL; first call: *state 0.
 */
enum doctor_ci_kvm { CI_KVM_ABSENT, CI_KVM_REFUSED, CI_KVM_SLOW };
const char *doctor_ci_mend(enum doctor_ci_kvm kvm, unsigned *state);
const char *doctor_ci_service(void); /* "github", "gitlab" or "none" */
#endif
