/* The buffer in which we note what was taken and not given back, for the back end after us (QEMU,
 * vhost-user.rst, "Inflight I/O tracking").  The front end keeps it when we die.  Split rings: of a packed one
 * nothing is noted yet. */
#ifndef SERVERS_SERVER_INFLIGHT_H
#define SERVERS_SERVER_INFLIGHT_H
#include <stdbool.h>
#include <stdint.h>

#include "backends/vhost_user_msg.h"

struct server_inflight_buffer;
struct server_inflight; /* one queue's part of it */

/* A new one in a file of its own: fills in d (its num_queues and queue_size are the front end's) and gives the
 * file, the caller's.  Or -errno. */
int server_inflight_make(struct vhost_user_inflight_desc *d);
/* Maps the one that the front end gave.  fd stays the caller's.  0; -EINVAL: it is no such buffer; -ENOMEM, ...
 */
int server_inflight_map(struct server_inflight_buffer **out, const struct vhost_user_inflight_desc *d, int fd,
			int lost_fd);
void server_inflight_unmap(struct server_inflight_buffer *b); /* NULL is fine */

struct server_inflight_queue {
	unsigned index;
	uint16_t size;  /* entries */
	uint16_t used;  /* the used index as the driver sees it */
	bool in_order;  /* the virtqueue keeps what is given back until all that was taken before it is back */
	uint64_t shown; /* what the caller counts as shown so far, see server_inflight_shown() */
};

/* A queue begins: its part of the buffer, with what is to be done again, or NULL: it has none. */
struct server_inflight *server_inflight_begin(struct server_inflight_buffer *b,
					      const struct server_inflight_queue *q);
void server_inflight_end(struct server_inflight *f); /* NULL is fine */
/* The next head to be done again, oldest first, or -1.  It is taken already. */
int server_inflight_redo(struct server_inflight *f);
void server_inflight_take(struct server_inflight *f, uint16_t head);
/* Before the used index shows it.  What is given is a batch until all of it is shown by one store of that
 * index: then, and before the next is taken or given, server_inflight_shown() is to hear of it. */
void server_inflight_give(struct server_inflight *f, uint16_t head);
/* shown: chains that the driver has been shown, counted as at the beginning.  If that is all that was given,
 * the batch ends. */
void server_inflight_shown(struct server_inflight *f, uint64_t shown);
#endif
