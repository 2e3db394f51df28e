/* What a VM boots: the kernel, the pieces of its initrd, its command line. */
#ifndef VMM_PAYLOAD_H
#define VMM_PAYLOAD_H
#include "lib/err.h"
#include "vmm/boot.h"
#include "vmm/config.h"
#include "vmm/cpio.h"
#include "vmm/kernel_tree.h"
#include "vmm/root_source.h"

struct payload {
	struct kernel_image kernel;
	struct kernel_tree tree; /* .image is the kernel's path, .release its version where known */
	struct root_source root;
	struct initrd_part initrd[2]; /* the user's, then ours */
	unsigned ninitrd;
	int initrd_fd;
	struct cpio extra;       /* our init, the command, modules */
	const char *kernel_path; /* tree.image */
	char cmdline[65536];
};

/* 0, or -errno with a sentence in e.  payload_close() is due after either. */
int payload_open(struct payload *p, const struct run_config *cfg, struct err *e);
void payload_close(struct payload *p);
#endif
