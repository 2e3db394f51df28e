/* `ringlet backend blk`: a disk for a front end.
 *
 * Theory of operation: a queue is a worker's, a thread with a lane of the disk, and its requests are those of a
 * device of our own (devices/blk/blk_queue.h).  Where the front end keeps an in-flight buffer, what is taken
 * and given back is noted there, and who comes after us does again what we had not given back. */
#ifndef SERVERS_BLK_SERVER_H
#define SERVERS_BLK_SERVER_H
#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

#define BLK_SERVER_QUEUES 16

struct disk;
struct blk_server;
struct server;

struct blk_server_config {
	const char *path;
	bool connects;      /* to a front end that listens */
	const char *vduse;  /* instead of a socket: a VDUSE device's name, or NULL */
	struct disk *disk;  /* the caller's, who destroys it after the server; one server at a time */
	unsigned nqueues;   /* 1 .. BLK_SERVER_QUEUES, a thread each */
	bool poll;          /* the threads look all the time */
	bool in_order;      /* the disk ends requests in the order they came, so drivers may count on that */
	bool writethrough;  /* writes are stable when they end, until a driver asks for writeback */
	const char *serial; /* up to 20 bytes of it, or NULL */
};

/* Any thread but a worker.  0, or -errno with a sentence in e. */
int blk_server_new(struct blk_server **out, const struct blk_server_config *c, struct err *e);
void blk_server_free(struct blk_server *s); /* NULL is fine */

/* How its front ends reach it. */
struct server *blk_server_wire(const struct blk_server *s);

struct blk_server_counts { /* since it began */
	uint64_t requests, bytes, kicks, calls, syscalls;
};
/* Any thread. */
void blk_server_counts(struct blk_server *s, struct blk_server_counts *sum);
#endif
