/* What a running VM would have to open for a request, done by "ringlet ctl" with the rights, and in the working
 * directory, of whoever gave the command.  The VM says what it needs, the client opens it and passes the
 * descriptors: the VM itself opens nothing while it runs. */
#ifndef VMM_ERRAND_H
#define VMM_ERRAND_H
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

#define ERRANDS_MAX     4
#define ERRAND_FDS_MAX  32 /* of all errands of a request */
#define ERRAND_PATH_MAX 1024

enum errand_kind {
	ERRAND_FILE,   /* open(path), count times */
	ERRAND_SOCKET, /* connect(path); count 2: and start who connects again (vhost_user_again.h) */
	ERRAND_TAP,    /* count queues of the tap called path; "": the kernel chooses a name */
	ERRAND_USER,   /* start a user-mode network; path: its hostfwd= rules, a line each */
	ERRAND_KINDS
};

struct errand {
	enum errand_kind kind;
	char path[ERRAND_PATH_MAX];
	unsigned count;
	bool write;       /* file */
	uint16_t mtu;     /* tap, user; 0: as it is */
	unsigned wait_ms; /* socket: how long until somebody listens */
};

struct errands {
	unsigned n;
	struct errand errand[ERRANDS_MAX];
};

/* Descriptors in the order of the errands.  Whoever takes one owns it. */
struct errand_fds {
	unsigned n, taken;
	int fd[ERRAND_FDS_MAX];
};

static inline unsigned errands_count(const struct errands *e)
{
	unsigned n = 0;

	for (unsigned i = 0; i < e->n; i++)
		n += e->errand[i].count;
	return n;
}

/* The next one, or -1. */
static inline int errand_take(struct errand_fds *fds)
{
	return fds->taken < fds->n ? fds->fd[fds->taken++] : -1;
}

/* Closes those that nobody has taken. */
void errand_close(struct errand_fds *fds);

/* The client's: does them all.  0, or -errno with a sentence in e and no descriptor open. */
int errands_run(const struct errands *errands, struct errand_fds *fds, struct err *e);
#endif
