/* A file that is there in full or as it was before: written beside its place and renamed.  What is not a
 * regular file (/dev/stdout, a pipe) is written to as it is. */
#ifndef LIB_OUTFILE_H
#define LIB_OUTFILE_H
#include <stdbool.h>

#define OUTFILE_PATH 4096

struct outfile {
	int fd;
	char path[OUTFILE_PATH];
	char temporary[OUTFILE_PATH], target[OUTFILE_PATH]; /* what is renamed to what; "": nothing is */
};

/* For whoever will not be able to open files when it is written: opens it now, and outfile_begin() takes it.
 * Main thread.  0 or -errno. */
int outfile_reserve(const char *path);
/* 0 with o->fd to write to, or -errno. */
int outfile_begin(struct outfile *o, const char *path);
/* keep: it takes its place; else nothing is left.  0 or -errno. */
int outfile_end(struct outfile *o, bool keep);
/* Removes what was reserved and not begun. */
void outfile_forget(void);
#endif
