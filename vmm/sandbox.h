/* What a VM gives up once it is set up.  docs/sandbox.md says what and why; lib/confine.h has the threads'
 * part. */
#ifndef VMM_SANDBOX_H
#define VMM_SANDBOX_H
#include <stdbool.h>

#include "lib/err.h"
#include "vmm/config.h"

#define SANDBOX_INHERITED 64

struct sandbox {
	const struct run_config *cfg; /* NULL: off */
	bool entered;
	unsigned ninherited;
	int inherited[SANDBOX_INHERITED]; /* descriptors that our parent left open, and nobody has named */
};

/* Before the first thread and the first descriptor of ours.  Threads that begin from here on are confined.
 * 0 or -errno. */
int sandbox_begin(struct sandbox *s, const struct run_config *cfg, struct err *e);
/* On the main thread, set up, when the vCPUs' threads wait and have not run yet: limits, and the main thread
 * itself. Nothing happens the second time.  0 or -errno. */
int sandbox_enter(struct sandbox *s, struct err *e);
#endif
