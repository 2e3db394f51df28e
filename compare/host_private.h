/* What host_*.c know of one another. */
#ifndef COMPARE_HOST_PRIVATE_H
#define COMPARE_HOST_PRIVATE_H
#include "compare/host.h"

/* Its IFF_UP.  0 or -errno. */
int host_link_up(const char *name);
/* Why there are no namespaces of ours, with what would mend it; returns h->refused. */
int host_tell_refused(const struct host *h, struct err *e);
#endif
