/* virtiofsd, which serves a directory of the host's to the guest: found, started by us, watched, ended with us.
 *
 * There are two programs of that name: QEMU's in C, up to QEMU 7.2, which needs root, and the one in Rust. Both
 * get a listening socket to which we are connected already, and which has no name any more.
 *
 * Where we may, the daemon lives in a mount namespace in which the directory is a mount of its own, read-only
 * unless writable: whatever the guest asks for, and whichever program serves it, the kernel refuses to write.
 */
#ifndef BACKENDS_VIRTIOFSD_H
#define BACKENDS_VIRTIOFSD_H
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

struct evloop;
struct virtiofsd;

enum virtiofsd_kind { VIRTIOFSD_C, VIRTIOFSD_RUST };

struct virtiofsd_program {
	char path[PATH_MAX];
	enum virtiofsd_kind kind;
	bool can_read_only;   /* it has --readonly */
	bool tells_submounts; /* ... unless told not to: --no-announce-submounts */
};

/* $RINGLET_VIRTIOFSD, else in PATH, /usr/libexec, /usr/lib and /usr/lib/qemu; it is run once, to be told what
 * it is. 0, or -errno with a sentence in e. */
int virtiofsd_find(struct virtiofsd_program *p, struct err *e);

struct virtiofsd_config {
	const struct virtiofsd_program *program;
	const char *option; /* "--root", for messages; borrowed, as is source */
	const char *source; /* the directory */
	bool writable;
	bool covered; /* under an overlay in the guest: it sees no changes by others, and takes no mounts below
		       */
};

/* Starts it, and returns before it is ready.  On the thread that lives as long as the process (the kernel kills
 * the daemon with it).  0, or -errno with a sentence in e. */
int virtiofsd_start(struct virtiofsd **out, const struct virtiofsd_config *c, struct err *e);
/* The connected socket, the caller's from here on. */
int virtiofsd_take_socket(struct virtiofsd *v);
/* died(opaque, text): it has ended; text is a sentence with its last words.  On loop's thread, once. */
int virtiofsd_watch(struct virtiofsd *v, struct evloop *loop, void (*died)(void *opaque, const char *text),
		    void *opaque);
/* When the socket was closed at the other end: puts why into e, and returns its code. */
int virtiofsd_explain(struct virtiofsd *v, struct err *e);
/* Ends it and all it has started, at once: what it has answered is written.  Waits until they are no more, 2 s
 * at most.  NULL is fine. */
void virtiofsd_stop(struct virtiofsd *v);

/* What would be started, for a shell; for --dry-run.  Returns its length as snprintf() does. */
int virtiofsd_describe(const struct virtiofsd_config *c, char *buf, size_t size);
#endif
