/* What a VM boots: the kernel, the pieces of its initrd, its command line. */
#ifndef VMM_PAYLOAD_H
#define VMM_PAYLOAD_H
#include "lib/err.h"
#include "vmm/boot.h"
#include "vmm/config.h"
#include "vmm/cpio.h"

struct payload {
	struct kernel_image kernel;
	struct initrd_part initrd[2]; /* the user's, then ours */
	unsigned ninitrd;
	int initrd_fd;
	struct cpio extra; /* our init, the command */
	char kernel_path[4096];
	char cmdline[65536];
};

/* 0, or -errno with a sentence in e.  payload_close() is due after either. */
int payload_open(struct payload *p, const struct run_config *cfg, struct err *e);
void payload_close(struct payload *p);
#endif
