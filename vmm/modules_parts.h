/* What modules.c and modules_file.c share.  For them alone. */
#ifndef VMM_MODULES_PARTS_H
#define VMM_MODULES_PARTS_H
#include "vmm/modules.h"

#define MODULE_NAME 64 /* the kernel has 56 */

struct module_entry {
	char name[MODULE_NAME]; /* with _ for - */
	uint32_t hash;
	char *path;   /* below m->dir */
	char *deps;   /* paths or names, one space between two; a build tree's: owned, NULL until read */
	bool builtin; /* nothing to load */
	bool object;  /* path ends in .o, the file in .ko */
	bool done;
};

bool modules_name(const char *path, char name[MODULE_NAME]);
struct module_entry *modules_lookup(struct modules *m, const char *name);
/* Of a build tree's module: what itself says it depends on. */
int modules_read_deps(struct modules *m, struct module_entry *entry, struct err *e);
#endif
