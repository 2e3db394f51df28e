/* How a run went, as a file for programs (--result F.json). */
#ifndef VMM_RESULT_H
#define VMM_RESULT_H
#include <stdint.h>
#include <time.h>

#include "lib/err.h"

enum result_time { RESULT_KERNEL, RESULT_INIT, RESULT_COMMAND, RESULT_ANSWER, RESULT_END, RESULT_TIMES };

struct result { /* strings may be any bytes, and NULL: not known */
	int status;
	const char *outcome, *reason; /* a word; a sentence or "" */
	char *const *command;         /* NULL: none */
	int command_status;           /* -1: it has not ended */
	const char *kernel, *version, *cmdline, *run;
	struct timespec started;        /* CLOCK_REALTIME, of exec() */
	uint64_t exec_ns;               /* CLOCK_MONOTONIC, of the same */
	uint64_t time_ns[RESULT_TIMES]; /* likewise; 0: not reached */
	const char *log, *tail, *oops;  /* oops: the console's line, also where --oops ignores it */
	const char *counters;           /* JSON */
};

/* There is the whole file or the one from before.  Main thread; outfile_reserve() may have come before.  0, or
 * -errno with a sentence in e. */
int result_write(const struct result *r, const char *path, struct err *e);
#endif
