/* A vhost-user front end with a driver in it, which does as a test says, message by message.
 *
 *	struct frontend f;
 *
 *	frontend_connect(&f, path);
 *	frontend_greet(&f, features, protocol);      // what is offered and wanted
 *	frontend_share(&f);                          // its memory, f.m
 *	frontend_start(&f, 0, 256, 0);               // a queue, whose ring is f.q[0].ring
 *	... driver_ring_add(&f.q[0].ring, ...); frontend_kick(&f, 0); frontend_collect(&f, 0, &id, &len, 1000);
 *	frontend_close(&f);
 *
 * Trouble of the test's own making aborts. */
#ifndef FAKE_VHOST_USER_FRONTEND_H
#define FAKE_VHOST_USER_FRONTEND_H
#include "backends/vhost_user_msg.h"
#include "tests/fake/driver_ring.h"

#define FRONTEND_QUEUES 8

struct frontend {
	int sock;
	struct driver_mem m; /* of a file, so that it can be shared, without guard pages */
	int mem_fd;
	uint64_t offered, features, protocol;
	struct frontend_queue {
		struct driver_ring ring;
		bool made;
		int kick, call, err; /* eventfds that do not block */
	} q[FRONTEND_QUEUES];
};

/* Waits up to a second until somebody listens. */
void frontend_connect(struct frontend *f, const char *path);
/* Takes the other side of a connection that was made already. */
void frontend_adopt(struct frontend *f, int sock);
void frontend_close(struct frontend *f); /* the connection, the memory and all descriptors */

/* Sends m, request and payload filled in (size too), with descriptors that stay the caller's. */
void frontend_send(struct frontend *f, uint32_t request, struct vhost_user_msg *m, const int *fds,
		   unsigned nfds);
/* Waits for an answer to m's request.  0; -ECONNRESET: the connection was closed; -ETIMEDOUT: none in 5 s. */
int frontend_reply(struct frontend *f, struct vhost_user_msg *m, int *fd);
/* Both.  fd: of the reply, or NULL. */
int frontend_ask(struct frontend *f, uint32_t request, struct vhost_user_msg *m, int *fd);
int frontend_get(struct frontend *f, uint32_t request, uint64_t *value);
/* Sends, and with REPLY_ACK waits for what it says: 0, its number (above 0), or as frontend_reply().  Without:
 * asks for the features, so that it has been dealt with. */
int64_t frontend_set(struct frontend *f, uint32_t request, struct vhost_user_msg *m, const int *fds,
		     unsigned nfds);
int64_t frontend_set_u64(struct frontend *f, uint32_t request, uint64_t value);
int64_t frontend_set_state(struct frontend *f, uint32_t request, unsigned queue, uint32_t num);
int64_t frontend_set_fd(struct frontend *f, uint32_t request, uint64_t value, int fd);
/* True once the other side has closed; waits up to 5 s. */
bool frontend_closed(struct frontend *f);

/* What is not offered of features and protocol is left out.  0 or as above. */
int64_t frontend_greet(struct frontend *f, uint64_t features, uint64_t protocol);
struct vhost_user_mem_region frontend_region(const struct frontend *f, unsigned i); /* of the two */
int64_t frontend_share(struct frontend *f);
/* A queue, all of it and enabled.  pos as of driver_ring_init(). */
int64_t frontend_start(struct frontend *f, unsigned queue, uint16_t size, uint16_t pos);
/* Says again what was said of a queue that was stopped, at its position now. */
int64_t frontend_resume(struct frontend *f, unsigned queue);
/* GET_VRING_BASE: its num, or as frontend_reply(). */
int64_t frontend_stop(struct frontend *f, unsigned queue);

void frontend_kick(struct frontend *f, unsigned queue); /* shows what was added; kicks where that is wanted */
/* As driver_ring_collect(), but waits for up to ms. */
int frontend_collect(struct frontend *f, unsigned queue, uint16_t *id, uint32_t *len, unsigned ms);
#endif
