/* Sees that the interface of a tap is removed while nobody here reads the tap: its file says so, but wakes
 * nobody who does not wait for frames as well.  So the kernel's news of interfaces are listened to
 * (rtnetlink(7), RTMGRP_LINK), which come for those of this process's network namespace. */
#ifndef BACKENDS_TAP_WATCH_H
#define BACKENDS_TAP_WATCH_H
#include <stdbool.h>

#include "vmm/evloop.h"

struct tap_watch {
	/* Set before tap_watch_start(): */
	struct evloop *loop; /* everything is done on its thread */
	/* At the start and whenever some interface has changed. */
	void (*look)(void *opaque);
	void *opaque;

	/* Its own: */
	struct ev_watch news;
	bool on;
};

/* Without news (no descriptors left) it looks just once. */
void tap_watch_start(struct tap_watch *w);
void tap_watch_stop(struct tap_watch *w); /* fine when it is not on */
/* Where threads are to be confined: makes what one watch needs, for a card each.  Nothing elsewhere.  Main
 * thread, before there are others that watch. */
void tap_watch_reserve(void);
/* Has the interface of this tap's file been removed? */
bool tap_fd_gone(int fd);
#endif
