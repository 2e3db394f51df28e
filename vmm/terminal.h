/* The user's terminal: raw while the guest has it, restored on every way out (return, signal, crash). */
#ifndef VMM_TERMINAL_H
#define VMM_TERMINAL_H
#include <stdbool.h>
#include <stddef.h>

#include "vmm/evloop.h"

enum terminal_key { TERMINAL_QUIT, TERMINAL_BREAK };

struct terminal_config {
	/* Bytes typed or piped in.  Returns how many were taken; the rest is offered again after
	 * terminal_room().  Loop's thread. */
	size_t (*input)(void *opaque, const void *data, size_t len);
	void (*key)(void *opaque, enum terminal_key key); /* Ctrl-a x, Ctrl-a b; loop's thread */
	void *opaque;
};

struct terminal {
	struct terminal_config cfg;
	struct evloop *loop;
	struct ev_watch in;   /* stdin */
	struct ev_watch more; /* eventfd: there is room again */
	bool escape;          /* Ctrl-a was typed */
	bool keys;            /* stdin is a terminal: Ctrl-a is ours */
	bool watched;         /* stdin is in the loop's epoll set */
	bool always;          /* stdin is a regular file: epoll does not take it, it is always readable */
	char buf[256];
	size_t len, off; /* [off, len) waits for room */
};

/* Watches stdin.  Sets the terminal raw, where stdin is one and we are in its foreground. */
int terminal_init(struct terminal *t, struct evloop *loop, const struct terminal_config *cfg);
void terminal_fini(struct terminal *t);
void terminal_room(struct terminal *t); /* any thread */

/* Gives the terminal back as it was found.  Async-signal-safe; harmless when nothing was changed. */
void terminal_restore(void);
#endif
