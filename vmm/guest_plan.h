/* What the guest's init (guest-images/init) is told besides the command: the file /ringlet/plan of our initrd,
 * lines "KEY VALUE", each ended by a NUL.  Keys:
 *
 *   env NAME=VALUE          repeated
 *   channel on              say what happens by the channel (guest-images/init/wire.h)
 *   stdin on                the command's input comes by it
 *   one-output on           stdout and stderr are one
 *   user WHO                the command is that user: UID[:GID] or a name
 *   chdir PATH              the command starts there, or not at all
 *   cwd PATH                ... there if it can
 *   root ro|rw virtiofs     the root is the directory with the tag ringlet.root; ro: under an overlay in memory
 *   root ro|rw TYPE PART    ... the disk with the serial number ringlet-root, or its partition PART (0: none)
 *   share ro|rw PATH        repeated; the n-th has the tag ringlet.share<n>, from 0
 *   net N                   the N-th network card, from 0, is in the user-mode network
 */
#ifndef VMM_GUEST_PLAN_H
#define VMM_GUEST_PLAN_H
#include <stddef.h>

#include "lib/err.h"
#include "vmm/config.h"
#include "vmm/root_source.h"

struct guest_plan {
	char *data; /* owned */
	size_t len, cap;
	int error; /* -ENOMEM once, and everything after does nothing */
};

void guest_plan_add(struct guest_plan *p, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void guest_plan_fini(struct guest_plan *p);

/* What the command finds: environment, working directory, user, input.  0, or -errno with a sentence. */
int guest_plan_command(struct guest_plan *p, const struct run_config *cfg, struct err *e);
/* The root, what is mounted in it, the network; where the command starts unless --cwd says so. */
void guest_plan_root(struct guest_plan *p, const struct run_config *cfg, const struct root_source *root);
#endif
