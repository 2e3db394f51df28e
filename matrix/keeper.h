/* One `ringlet run` and all that it starts.  A keeper is a process between us and it: it ends when its case has
 * ended and nothing of that is left, or when we end, however that may be.  Main thread only, before there is a
 * second one. */
#ifndef MATRIX_KEEPER_H
#define MATRIX_KEEPER_H
#include <sys/types.h>

#include "lib/err.h"
#include "matrix/expect.h"

struct keeper {
	pid_t pid; /* 0: none */
	int fd;    /* readable when keeper_finish() has something to say; -1: none */
};

struct charge {
	const char *file; /* a path */
	char *const *argv;
	const char *directory; /* that it is run in */
	int out, err;          /* its stdout and stderr, which stay the caller's; its stdin is /dev/null */
};

/* 0 or -errno with a sentence; what keeps file from being run is told by status 127 and its stderr. */
int keeper_start(struct keeper *k, const struct charge *c, struct err *e);
/* SIGTERM, which asks the guest to power off; one more after a second; SIGKILL two seconds later.  Each call is
 * one step: the third kills at once. */
void keeper_end(const struct keeper *k);
/* Waits for the keeper's end; sets status, signalled and left of how. */
void keeper_finish(struct keeper *k, struct ended *how);
#endif
