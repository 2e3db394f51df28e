/* The buffer in which we note what was taken and not given back, for the back end after us (QEMU,
 * vhost-user.rst, "Inflight I/O tracking").  The front end keeps it when we die.  Split rings: of a packed one
 * nothing is noted yet. */
#ifndef SERVERS_SERVER_INFLIGHT_H
#define SERVERS_SERVER_INFLIGHT_H
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

/* A queue begins: its part of the buffer, with what is to be done again, or NULL: it has none.  used: the used
 * index as the driver sees it.  size: entries. */
struct server_inflight *server_inflight_begin(struct server_inflight_buffer *b, unsigned queue, uint16_t size,
					      uint16_t used);
void server_inflight_end(struct server_inflight *f); /* NULL is fine */
/* The next head to be done again, oldest first, or -1. */
int server_inflight_redo(struct server_inflight *f);
void server_inflight_take(struct server_inflight *f, uint16_t head);
/* Before the used index shows it, and after that. */
void server_inflight_give(struct server_inflight *f, uint16_t head);
void server_inflight_given(struct server_inflight *f, uint16_t head);
#endif
