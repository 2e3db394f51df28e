/* From a fork to the program. */
#ifndef COMPARE_PROCESS_SPAWN_H
#define COMPARE_PROCESS_SPAWN_H
#include <signal.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/err.h"

struct spawn {
	const char *file;  /* a path */
	char *const *argv; /* file's own */
	int in, out, err;  /* what its three descriptors are copies of; it has no others */
	int cpu;           /* or -1 */
	int into;          /* pidfd of a process in a PID namespace, which it is to be in; or -1 */
};

/* 0: it runs the program, and *pid is a child of ours; or -errno and a sentence. */
int process_spawn(const struct spawn *s, pid_t *pid, struct err *e);

/* The path of a program; -ENOENT. */
int process_find(const char *program, char *path, size_t size);

/* What fn(arg), 0 or -errno, comes to in a child: what it does to its process is done to nobody else. */
int process_try(int (*fn)(void *arg), void *arg);

/* For a child before it runs anything else: the kernel kills it when the thread that made it ends.  parent: a
 * pidfd of the process that made it.  0 or -errno: that has ended. */
int process_die_with(int parent);
#endif
