/* One path, set up: its tap and its back end are there, and a VMM can be told of them.  Main thread. */
#ifndef COMPARE_SIDE_H
#define COMPARE_SIDE_H
#include <stdint.h>
#include <sys/types.h>

#include "compare/host.h"
#include "compare/plan.h"
#include "compare/process.h"
#include "compare/words.h"
#include "lib/err.h"

struct side {
	const struct path *path;
	struct host *host;
	struct process *backend; /* NULL: the path has none */
	bool has_tap;
	char where[128]; /* the socket or the device that the back end has */
};

/* tap: what the card's other end does; file: what the disk holds.  0, or -errno with a sentence. */
int side_start(struct side *s, struct host *h, const struct plan *p, const struct path *path, enum host_tap tap,
	       const char *file, struct err *e);
void side_stop(struct side *s);

/* Adds the option for "ringlet run".  features: no bits but these; 0: --features best. */
void side_option(const struct side *s, const struct plan *p, const char *file, uint64_t features,
		 struct words *w);
#endif
