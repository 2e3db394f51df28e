/* The helper process (slirp_helper.h) as its parent sees it: started, answered, ended, reaped. */
#ifndef BACKENDS_SLIRP_PROCESS_H
#define BACKENDS_SLIRP_PROCESS_H
#include <sys/types.h>

#include "backends/slirp_config.h"
#include "lib/err.h"

struct slirp_process {
	pid_t pid; /* 0: not running, nothing to reap */
	int fd;    /* SOCK_SEQPACKET, a frame a message; -1: none */
};

/* Starts /proc/self/exe as the helper and waits for its answer, for 5 s at most.  0 or -errno with a
 * sentence; slirp_process_end() is due after either. */
int slirp_process_start(struct slirp_process *p, const struct user_net_config *cfg, struct err *e);
/* The same for a process that is given the socket: the helper ends with the socket, not with us, and is not
 * reaped. The socket, or -errno. */
int slirp_process_lend(const struct user_net_config *cfg, struct err *e);

/* Closes the socket, and kills and reaps what has not ended by itself grace_ms later.  Takes at most
 * 2 s more.  how, unless NULL: "ended with status 1", "was ended by signal 9 (Killed)". */
#define SLIRP_PROCESS_HOW 96
void slirp_process_end(struct slirp_process *p, unsigned grace_ms, char how[SLIRP_PROCESS_HOW]);
#endif
