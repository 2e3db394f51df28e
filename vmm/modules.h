/* A kernel's modules: where they lie, and which have to be loaded before which.
 *
 * By the files that depmod made (modules.dep, .builtin, .softdep, .alias), or in a build tree by modules.order
 * and what each module says of itself. */
#ifndef VMM_MODULES_H
#define VMM_MODULES_H
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "vmm/kernel_tree.h"

struct module_entry;

struct modules {
	char dir[PATH_MAX];                    /* "": there are none */
	char looked[1024];                     /* where they were looked for, for a sentence */
	bool tree;                             /* a build tree's, as make left them */
	bool knows_builtin;                    /* there is a list of what is built in */
	char *dep, *builtin, *softdep, *alias; /* the files' texts, cut into strings */
	struct module_entry *entry;
	size_t nentry, cap;
	const struct module_entry **order; /* to be loaded, in this order */
	size_t norder;
};

/* In asked (--modules), or where asked is NULL beside the kernel.  0 also where there are none; -errno with a
 * sentence where asked has none for this kernel or a file is broken.  modules_close() is due after either. */
int modules_open(struct modules *m, const struct kernel_tree *kernel, const char *asked, struct err *e);
void modules_close(struct modules *m);

/* Puts name ("virtio_blk"; - and _ are the same) and what it needs into m->order, each once.  0: done, or built
 * in.  -ENOENT: there is no such module; no sentence.  Other errors with one. */
int modules_want(struct modules *m, const char *name, struct err *e);

/* The file that the i-th of m->order is loaded from, unpacked; to be freed.  name: "ext4.ko", of size bytes. */
uint8_t *modules_load(const struct modules *m, size_t i, char *name, size_t size, size_t *len, struct err *e);
#endif
