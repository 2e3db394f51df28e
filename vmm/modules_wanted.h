/* Which drivers this run's guest needs, and whether its kernel has them. */
#ifndef VMM_MODULES_WANTED_H
#define VMM_MODULES_WANTED_H
#include "vmm/config.h"
#include "vmm/cpio.h"
#include "vmm/modules.h"
#include "vmm/root_source.h"

/* Puts them in m's order.  0, or -errno with a sentence where --root or --share cannot work with this kernel,
 * as far as its lists or its configuration tell. */
int modules_choose(struct modules *m, struct kernel_tree *kernel, const struct run_config *cfg,
		   const struct root_source *root, struct err *e);
/* Adds m's order to the archive as ringlet/modules/NAME.ko and ringlet/modules/order, for init. */
int modules_pack(const struct modules *m, struct cpio *c, struct err *e);
#endif
