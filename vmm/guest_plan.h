/* What the guest's init (guest-images/init) is told besides the command: the file /ringlet/plan of our initrd,
 * lines "KEY VALUE", each ended by a NUL.  Keys:
 *
 *   env NAME=VALUE          repeated
 */
#ifndef VMM_GUEST_PLAN_H
#define VMM_GUEST_PLAN_H
#include <stddef.h>

#include "lib/err.h"
#include "vmm/config.h"

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
#endif
