/* The buffer in which a vhost-user back end notes what it has taken and not given back yet.  We keep it, so
 * that who comes in its place can go on. */
#ifndef BACKENDS_VHOST_USER_INFLIGHT_H
#define BACKENDS_VHOST_USER_INFLIGHT_H
#include "backends/vhost_user_conn.h"

struct vhost_user_inflight {
	int fd; /* -1: there is none */
	struct vhost_user_inflight_desc desc;
};

/* Gets a new one from the back end; any before is dropped.  -EPROTO: what it gave is no such buffer. */
int vhost_user_inflight_get(struct vhost_user_inflight *f, struct vhost_user_conn *c, unsigned nqueues,
			    uint16_t queue_size);
/* Shows the back end the buffer to work with. */
int vhost_user_inflight_set(const struct vhost_user_inflight *f, struct vhost_user_conn *c);
void vhost_user_inflight_drop(struct vhost_user_inflight *f);

/* Where a packed ring goes on, as datapath_queue.next.  False: nothing usable has been noted. */
bool vhost_user_inflight_position(const struct vhost_user_inflight *f, unsigned index, uint16_t size,
				  uint16_t *next);
#endif
