/* What --root names: a directory, or an image with a file system in it. */
#ifndef VMM_ROOT_SOURCE_H
#define VMM_ROOT_SOURCE_H
#include "lib/err.h"
#include "vmm/config.h"

enum root_kind { ROOT_NONE, ROOT_DIR, ROOT_IMAGE };

#define ROOT_SERIAL "ringlet-root" /* by which the guest finds the image's disk */
#define ROOT_TAG    "ringlet.root" /* ... mounts the directory; a share's is ringlet.share0 */
#define SHARE_TAG   "ringlet.share%u"

struct root_source {
	enum root_kind kind;
	const char *fstype; /* ROOT_IMAGE: "ext4", as mount(2) has it */
	unsigned partition; /* ... 0: the whole disk */
};

/* Looks at what cfg->guest.root and the shares name.  0, or -errno with a sentence in e. */
int root_source_look(struct root_source *r, const struct run_config *cfg, struct err *e);
#endif
