/* Running the cases of a plan, and what came of each. */
#ifndef MATRIX_RUN_H
#define MATRIX_RUN_H
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "matrix/expect.h"
#include "matrix/host.h"
#include "matrix/keeper.h"
#include "matrix/options.h"
#include "matrix/plan.h"

enum phase { CASE_WAITS, CASE_RUNS, CASE_DONE };

struct case_run {
	enum phase phase;
	char *dir; /* with its result and logs, absolute; NULL until it begins */
	struct keeper keeper;
	uint64_t began_ns, limit_ns; /* limit: 0: none, or it has been enforced */
	bool late, interrupted;
	bool answered; /* it went on to the end that its guest or command chose */
	struct verdict verdict;
	double seconds;
};

struct run {
	const struct plan *plan;
	const struct options *options;
	struct host host;
	char *out;                          /* absolute */
	char *program;                      /* for "ringlet run", absolute */
	struct case_run *cases;             /* plan->n of them */
	size_t done, failed, running, next; /* next: the first that has not begun */
	bool host_failed;                   /* a case could not even be started */
	int signal;                         /* that ended it early, or 0 */
	uint64_t began_ns;
};

/* What run_all() tells as it happens; any may be NULL. */
struct run_listener {
	void (*done)(const struct run *r, size_t i);
	void (*tick)(const struct run *r); /* something has changed, or a second is over */
};

/* All of r is set, and run_free() due, either way.  0, or -errno with a sentence: nothing was run. */
int run_prepare(struct run *r, const struct plan *plan, const struct options *options, struct err *e);
/* Runs them, in the plan's order, as many at a time as fit.  Ctrl-C, SIGTERM and SIGHUP end it early. */
void run_all(struct run *r, const struct run_listener *listener);
void run_free(struct run *r);
#endif
