/* What the files of virtiofsd share.  For them alone. */
#ifndef BACKENDS_VIRTIOFSD_PARTS_H
#define BACKENDS_VIRTIOFSD_PARTS_H
#include <sys/types.h>

#include "backends/virtiofsd.h"

#define VIRTIOFSD_FD   3 /* the listening socket, there */
#define VIRTIOFSD_ARGS 16

/* How it is confined, in the order of our liking. */
enum virtiofsd_cage {
	CAGE_MOUNT,  /* a mount namespace made by us, and its own way of confining itself in it */
	CAGE_CHROOT, /* its own */
	CAGE_NONE    /* it has but this user's rights */
};

struct virtiofsd_command {
	char *argv[VIRTIOFSD_ARGS];
	char text[6][PATH_MAX + 32]; /* what argv points to */
};

/* shared: the directory, as it is called where the daemon lives. */
void virtiofsd_command(struct virtiofsd_command *cmd, const struct virtiofsd_config *c, const char *shared,
		       enum virtiofsd_cage cage);

/* Becomes the daemon: in the child, after fork().  Returns only with why, in e. */
int virtiofsd_become(const struct virtiofsd_config *c, struct err *e);

/* A process whose output comes through a pipe.  fn runs in it; what it returns is its status.  out: the pipe's
 * end. pid or -errno. */
pid_t virtiofsd_fork(int listener, int *out, int (*fn)(const void *arg), const void *arg);
#endif
