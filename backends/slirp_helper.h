/* The process that runs libslirp: no guest memory, no KVM, one socket with Ethernet frames.
 * Ringlet starts itself again for it, under a name that says so. */
#ifndef BACKENDS_SLIRP_HELPER_H
#define BACKENDS_SLIRP_HELPER_H
#include <stdbool.h>

#define SLIRP_HELPER_NAME "ringlet-slirp"
#define SLIRP_HELPER_FD   3 /* the socket, in the helper */

/* Whether this process was started to be the helper.  Ask first thing in main(), before any thread,
 * descriptor or output, and return slirp_helper_main() if so. */
bool slirp_helper_wanted(int argc, char *argv[]);

/* Takes SLIRP_HELPER_FD, closes every other descriptor but stdin, stdout and stderr, and runs until the
 * other end is closed or the process that started it is gone.  An exit status. */
int slirp_helper_main(int argc, char *argv[]);
#endif
