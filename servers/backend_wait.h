/* How a back end waits for its end. */
#ifndef SERVERS_BACKEND_WAIT_H
#define SERVERS_BACKEND_WAIT_H
#include <signal.h>

#include "servers/server.h"

/* Blocks until one of the signals of set, all blocked, comes, and then until nobody holds one of the servers
 * (server_held()) or another comes.  look, unless it is NULL, is called every second until the first.  The main
 * thread. */
void backend_wait(const sigset_t *set, struct server *const *server, unsigned n, void (*look)(void *opaque),
		  void *opaque);
/* "SOCKET", or "vduse NAME at /dev/vhost-vdpa-N". */
void backend_place(const struct server *s, char *text, size_t len);
#endif
