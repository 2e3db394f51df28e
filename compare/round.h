/* One guest, from its start to its end: what it measured on one path. */
#ifndef COMPARE_ROUND_H
#define COMPARE_ROUND_H
#include "compare/host.h"
#include "compare/result.h"

struct rounds { /* what all have in common */
	struct host *host;
	struct result *result;
	char file[128];    /* what the disk holds */
	char bare[128];    /* the bare guest's file */
	uint64_t features; /* no bits but these; 0: --features best */
	char *script;      /* Linux: what the guest runs */
};

/* Makes what guests need.  0, or -errno with a sentence. */
int rounds_new(struct rounds *r, struct host *h, struct result *result, struct err *e);
void rounds_free(struct rounds *r);

/* Boots each path once to see what it offers, and settles the features. */
int rounds_probe(struct rounds *r, struct err *e);

/* All workloads once on one path; fills in sample `round` of its cells, ok where a measurement is there.  0;
 * -ECANCELED; another -errno with a sentence: this path gave nothing, or not all. */
int rounds_run(struct rounds *r, unsigned path, unsigned round, struct err *e);
#endif
