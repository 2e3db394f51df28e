/* One connection to a vhost-user back end: requests with a deadline, the handshake, and the channel by which
 * the back end makes requests of its own.  Nothing here locks or knows of an event loop.
 *
 * Errors of all requests: -ETIMEDOUT no reply in time; -ECONNRESET, -EPIPE the peer is gone; -EPROTO it
 * answers what no back end may; -EREMOTEIO it says no (the one error after which the connection is of use
 * still: after any other every request fails with the first error). */
#ifndef BACKENDS_VHOST_USER_CONN_H
#define BACKENDS_VHOST_USER_CONN_H
#include "backends/vhost_user_msg.h"

/* What vhost_user_conn_negotiate() asks for, of what is offered. */
struct vhost_user_wish {
	uint64_t protocol; /* bits */
	bool pairs;        /* GET_QUEUE_NUM counts pairs of queues, as it does for net */
};

struct vhost_user_conn {
	int fd;      /* -1: there is none */
	int channel; /* our end, or -1 */
	bool channel_ended;
	int broken;          /* the first error that was no refusal */
	bool config_changed; /* the back end has said so; whoever looks clears it */
	struct vhost_user_reader in, channel_in;
	uint64_t features; /* the back end's, with bit 30 */
	uint64_t protocol; /* in force */
	unsigned queues;   /* it says it has, 0: it does not say */
	uint64_t mem_slots;
	unsigned reply_ms;
	uint64_t end;     /* when the operation that is under way gives up altogether, ns */
	uint32_t asked;   /* the last request: for messages */
	const char *name; /* "net0": for lib/trace.h */
	void (*trace)(void *opaque, const char *text); /* or NULL: a line for each message */
	void *trace_opaque;
};

void vhost_user_conn_init(struct vhost_user_conn *c, unsigned reply_ms);
/* Takes fd over, which does not block, and asks for the features.  On error fd is closed. */
int vhost_user_conn_greet(struct vhost_user_conn *c, int fd);
/* 1: the peer has answered; 0: not yet.  Does not wait. */
int vhost_user_conn_greeted(struct vhost_user_conn *c);
/* The rest of the handshake, waiting for what has not come yet. */
int vhost_user_conn_negotiate(struct vhost_user_conn *c, const struct vhost_user_wish *wish);
void vhost_user_conn_close(struct vhost_user_conn *c);

/* An operation of several requests begins: all together give up after a few times reply_ms, however often the
 * peer answers at the last moment. */
void vhost_user_conn_begin(struct vhost_user_conn *c);

static inline bool vhost_user_has(const struct vhost_user_conn *c, enum vhost_user_protocol_feature bit)
{
	return c->protocol >> bit & 1;
}

static inline bool vhost_user_has_protocol(const struct vhost_user_conn *c)
{
	return c->features >> VHOST_USER_F_PROTOCOL_FEATURES & 1;
}

/* Sends; where acknowledgements were agreed on, waits for one.  m's request, size and payload are set. */
int vhost_user_set(struct vhost_user_conn *c, struct vhost_user_msg *m, const int *fds, unsigned nfds);
int vhost_user_set_u64(struct vhost_user_conn *c, uint32_t request, uint64_t value);
int vhost_user_set_fd(struct vhost_user_conn *c, uint32_t request, uint64_t value, int fd);
int vhost_user_set_state(struct vhost_user_conn *c, uint32_t request, unsigned index, unsigned num);
/* Sends m and puts the reply into m, which has `size` bytes of payload (0: any, the caller looks).  fd, if not
 * NULL: the first descriptor that came, now the caller's, or -1. */
int vhost_user_get(struct vhost_user_conn *c, struct vhost_user_msg *m, uint32_t size, int *fd);
int vhost_user_get_u64(struct vhost_user_conn *c, uint32_t request, uint64_t *value);
/* Everything sent so far has been dealt with, or the peer is gone. */
int vhost_user_barrier(struct vhost_user_conn *c);

/* PROTOCOL_F_CONFIG.  off + len <= VHOST_USER_MAX_CONFIG. */
int vhost_user_get_config(struct vhost_user_conn *c, size_t off, void *buf, size_t len);
int vhost_user_set_config(struct vhost_user_conn *c, size_t off, const void *buf, size_t len);

/* The channel is readable: deals with one request, if it is whole.  After an error the connection is broken.
 * An end of file sets channel_ended and is no error. */
int vhost_user_channel_serve(struct vhost_user_conn *c);
#endif
