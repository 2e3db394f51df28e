/* --root and --share: what serves them beside the guest, and their devices. */
#ifndef VMM_MACHINE_ROOT_H
#define VMM_MACHINE_ROOT_H
#include <stdio.h>

#include "lib/err.h"
#include "vmm/config.h"
#include "vmm/root_source.h"

struct devices;
struct evloop;
struct machine_root;

/* Starts a virtiofsd for each directory; they get ready while the rest is set up.  On the main thread.  0, or
 * -errno with a sentence in e; *out is NULL where nothing was asked for.  cfg must outlive it. */
int machine_root_start(struct machine_root **out, const struct run_config *cfg, const struct root_source *root,
		       struct err *e);
/* Adds the devices, behind all others, so that those keep their names and places. */
int machine_root_add(struct machine_root *r, struct devices *all, struct err *e);
/* lost(opaque) when a directory is not served any more; it was said why.  On loop's thread. */
int machine_root_watch(struct machine_root *r, struct evloop *loop, void (*lost)(void *opaque), void *opaque,
		       struct err *e);
/* After the devices are closed.  NULL is fine. */
void machine_root_stop(struct machine_root *r);
/* Lines for --dry-run: what would be started. */
void machine_root_print(const struct run_config *cfg, const struct root_source *root, FILE *out);
#endif
