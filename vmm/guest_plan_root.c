/* What the guest's root is made of. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/guest_plan.h"

/* cwd below the directory dir of ours, which the guest has at path: where that is in the guest. */
static bool seen_at(const char *cwd, const char *dir, const char *path, char out[PATH_MAX])
{
	char real[PATH_MAX];
	size_t len;
	int n;

	if (!realpath(dir, real))
		return false;
	len = strcmp(real, "/") ? strlen(real) : 0;
	if (strncmp(cwd, real, len) || (cwd[len] && cwd[len] != '/'))
		return false;
	n = snprintf(out, PATH_MAX, "%s%s", strcmp(path, "/") || !cwd[len] ? path : "", cwd + len);
	return n < PATH_MAX;
}

/* As here, where the guest has that directory. */
static void add_cwd(struct guest_plan *p, const struct guest_config *guest, const struct root_source *root)
{
	char cwd[PATH_MAX], there[PATH_MAX];

	if (guest->cwd || !getcwd(cwd, sizeof(cwd)))
		return;
	for (unsigned i = 0; i < guest->nshare; i++)
		if (seen_at(cwd, guest->share[i].source, guest->share[i].path, there)) {
			guest_plan_add(p, "cwd", "%s", there);
			return;
		}
	if (root->kind == ROOT_DIR && seen_at(cwd, guest->root.source, "/", there))
		guest_plan_add(p, "cwd", "%s", there);
}

void guest_plan_root(struct guest_plan *p, const struct run_config *cfg, const struct root_source *root)
{
	const struct guest_config *guest = &cfg->guest;
	const char *mode = guest->root.writable ? "rw" : "ro";

	if (root->kind == ROOT_DIR)
		guest_plan_add(p, "root", "%s virtiofs", mode);
	else if (root->kind == ROOT_IMAGE)
		guest_plan_add(p, "root", "%s %s %u", mode, root->fstype, root->partition);
	for (unsigned i = 0; i < guest->nshare; i++)
		guest_plan_add(p, "share", "%s %s", guest->share[i].writable ? "rw" : "ro",
			       guest->share[i].path);
	/* Who brings an initrd sets its network up there. */
	for (unsigned i = 0; i < cfg->dev.nnet && (root->kind != ROOT_NONE || !cfg->initrd); i++)
		if (cfg->dev.net[i].kind == NET_USER) {
			guest_plan_add(p, "net", "%u", i);
			break;
		}
	add_cwd(p, guest, root);
}
