/* The control socket of a running VM, and the client that "ringlet ctl" is.
 *
 * It lies in a directory of the user's own, under the VM's name: /run/ringlet/NAME/control for root,
 * $XDG_RUNTIME_DIR/ringlet/NAME/control else.  A connection carries one request and one answer, a JSON object
 * on one line each: {"args":["resize-disk","disk0"]} and {"ok":true,"text":"..."}.  Only the same user and root
 * are listened to.
 *
 * A client that opens files for the VM says so, "opens":true.  It may then be answered
 * {"ok":true,"opens":[...]}, which are errands (vmm/errand.h):
 * {"what":"file","path":"/dev/vhost-net","count":2,"write":true}, "socket" with "wait_ms", "tap" with "mtu". It
 * does them and asks once more, in a new connection, with "fds":N in place of "opens" and the N descriptors
 * beside the first byte. */
#ifndef VMM_CONTROL_H
#define VMM_CONTROL_H
#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"
#include "vmm/errand.h"
#include "vmm/evloop.h"

#define CONTROL_NAME_MAX  64
#define CONTROL_MAX_ARGS  16
#define CONTROL_TEXT_SIZE 65536

struct control_config {
	const char *name; /* the VM's, or NULL: "vm-" and the process id */
	const char *path; /* --control: the socket's path, or NULL: in the directory of that name */
	/* Does what was asked for; on the loop's thread.  fds: what came with it, to be taken; the rest is
	 * closed afterwards.  text: what to tell, of size bytes.  0; -errno, and text says why. */
	int (*request)(void *opaque, int argc, char *const argv[], struct errand_fds *fds, char *text,
		       size_t size);
	/* What has to be opened for that first; sets none where nothing has.  Or NULL. */
	void (*errands)(void *opaque, int argc, char *const argv[], struct errands *out);
	void *opaque;
};

struct control;
/* On the loop's thread, or before it runs.  0, or -errno with a sentence in e: -EADDRINUSE when a VM of
 * that name runs. */
int control_open(struct control **out, struct evloop *loop, const struct control_config *cfg, struct err *e);
void control_close(struct control *c); /* the socket is gone; NULL is fine */
const char *control_path(const struct control *c);
/* Where the socket of the port of that name lies unless its path is given.  0, or -ENAMETOOLONG with a
 * sentence in e. */
int control_port_path(const struct control *c, const char *port, char *buf, size_t size, struct err *e);

/* Is this fit to be a VM's name?  Letters, digits, . _ - and not first a dot. */
bool control_name_ok(const char *name);

/* The client: sends argv to the VM called name (or at a path with a slash in it) and prints the answer.
 * Its exit status: 0; 1 the VM refused; 125 there is no such VM. */
int control_client(const char *name, int argc, char *const argv[]);
#endif
