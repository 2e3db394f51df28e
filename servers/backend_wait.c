/* #syscalls[server]: rt_sigtimedwait */
#include "servers/backend_wait.h"

#include <stdio.h>
#include <time.h>

#include "lib/log.h"

#define LOOK_S  1
#define HELD_NS (200 * 1000 * 1000)

static struct server *holder(struct server *const *server, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (server_held(server[i]))
			return server[i];
	return NULL;
}

void backend_wait(const sigset_t *set, struct server *const *server, unsigned n, void (*look)(void *opaque),
		  void *opaque)
{
	const struct timespec second = {.tv_sec = LOOK_S}, moment = {.tv_nsec = HELD_NS};
	const struct server *s;

	while (sigtimedwait(set, NULL, &second) < 0)
		if (look)
			look(opaque);
	s = holder(server, n);
	if (!s)
		return;
	log_warn("%s: a VM has %s open: this ends when that does; a second signal ends it now and leaves the "
		 "device "
		 "behind",
		 server_name(s), server_node(s));
	while (holder(server, n))
		if (sigtimedwait(set, NULL, &moment) > 0)
			return;
}

void backend_place(const struct server *s, char *text, size_t len)
{
	if (server_node(s))
		snprintf(text, len, "%s at %s", server_name(s), server_node(s));
	else
		snprintf(text, len, "%s", server_name(s));
}
