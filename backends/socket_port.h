/* A byte stream whose end on this host is a UNIX stream socket: we listen, and one client at a time has it.
 * Further ones wait in line.  What comes out while nobody is connected is kept for the next client, up to
 * SOCKET_PORT_KEEP bytes, and dropped beyond that; a client that is there and does not read is waited for. */
#ifndef BACKENDS_SOCKET_PORT_H
#define BACKENDS_SOCKET_PORT_H
#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

#define SOCKET_PORT_CHUNK 4096 /* bytes in one socket_port_output() at most */
#define SOCKET_PORT_KEEP  (64u << 10)

struct evloop;
struct socket_port;

struct socket_port_config { /* the callbacks: on the loop's thread */
	const char *path;   /* copied */
	/* What the client sent.  Returns how many bytes were taken; after fewer than len,
	 * socket_port_room() is due. */
	size_t (*input)(void *opaque, const void *data, size_t len);
	/* socket_port_ready() said no and would say yes now. */
	void (*room)(void *opaque);
	void *opaque;
};

/* Any thread.  Takes clients as soon as it returns; the socket is its owner's alone (mode 0600).  0, or -errno
 * with a sentence in e: -EADDRINUSE while somebody listens there.  A socket left behind is replaced. */
int socket_port_open(struct socket_port **out, struct evloop *loop, const struct socket_port_config *cfg,
		     struct err *e);
/* Any thread; no callback runs afterwards, and the socket's file is gone.  NULL is fine. */
void socket_port_close(struct socket_port *p);

/* On the loop's thread: */

bool socket_port_ready(struct socket_port *p);                                /* for a chunk */
void socket_port_output(struct socket_port *p, const void *data, size_t len); /* after ready() said yes */
void socket_port_room(struct socket_port *p);                                 /* input() would take more */
#endif
