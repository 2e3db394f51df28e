/* A kernel and what lies round it: the build tree it is from, its release, its configuration. */
#ifndef VMM_KERNEL_TREE_H
#define VMM_KERNEL_TREE_H
#include <limits.h>

#include "lib/err.h"

struct kernel_tree {
	char image[PATH_MAX];  /* what to boot */
	char dir[PATH_MAX];    /* the build tree, or "" */
	char release[128];     /* "6.12.0-rc1+", or "": not known */
	char config[PATH_MAX]; /* its configuration's file, or "" */
	char *options;         /* that file's text once it was asked for; owned */
};

/* path: a kernel's file, or a directory that holds one (a build tree, or vmlinuz in it).  Of a tree's vmlinux
 * and bzImage the first is taken, which has not to be unpacked, unless it is the older one.  0, or -errno with
 * a sentence in e.  The file need be no kernel: that is kernel_image_open()'s to say. */
int kernel_tree_find(struct kernel_tree *t, const char *path, struct err *e);
/* Where the release was not known: of a bzImage by its header's text. */
void kernel_tree_set_release(struct kernel_tree *t, const char *version);
/* 'y', 'm', 'n', or '?' where there is no configuration to be read.  name: without CONFIG_. */
char kernel_tree_option(struct kernel_tree *t, const char *name);
void kernel_tree_free(struct kernel_tree *t);
#endif
