/* What `ringlet backend` has one of for each kind of device. */
#ifndef SERVERS_BACKEND_KIND_H
#define SERVERS_BACKEND_KIND_H
#include <signal.h>

#include "lib/err.h"

struct backend_kind {
	const char *name; /* "net", as it is written behind "backend" */
	const char *help;
	/* argv: what stands behind the name.  Serves until one of set, all blocked, comes; prints a line when
	 * front ends can come, and what has passed at the end.  The main thread; to be the only one so far.
	 * 0; 1: help was asked for; -errno with a sentence in e. */
	int (*run)(int argc, char *const argv[], const sigset_t *set, struct err *e);
};

extern const struct backend_kind backend_net, backend_blk;
#endif
