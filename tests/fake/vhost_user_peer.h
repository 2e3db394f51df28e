/* A vhost-user back end on a thread of its own, behind a real socket: it maps the memory it is given and walks
 * rings, does what a script says at a message of one's choice, and remembers what it was told. */
#ifndef FAKE_VHOST_USER_PEER_H
#define FAKE_VHOST_USER_PEER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the answer to a request; where none is due only CLOSES does anything. */
enum peer_fault {
	PEER_OBEYS,
	PEER_CLOSES,
	PEER_SILENT,
	PEER_DRIPS,    /* byte by byte */
	PEER_CRAWLS,   /* ... of which each takes a hundredth of a second */
	PEER_SHORT,    /* a payload of 3 bytes less */
	PEER_LONG,     /* ... more */
	PEER_HUGE,     /* a size of 4 GiB less one */
	PEER_WRONG_ID, /* the next request's */
	PEER_NO_REPLY, /* without the REPLY flag */
	PEER_WRONG_VERSION,
	PEER_FDS,         /* 3 descriptors too many */
	PEER_MANY_FDS,    /* more than any message may have */
	PEER_REFUSES,     /* acknowledges with 1 */
	PEER_WRONG_QUEUE, /* a state of another queue */
	PEER_ZERO,        /* a payload of zeroes */
	PEER_ASKS,        /* answers when its own request, by the channel, has been answered */
};

struct vhost_user_peer_config {
	const char *path;
	bool connects;     /* it is the client */
	uint64_t features; /* with bit 30 or without */
	uint64_t protocol;
	unsigned queues;    /* the answer to GET_QUEUE_NUM */
	const void *config; /* copied */
	size_t config_len;
	unsigned mem_slots; /* 0: 8 */
	bool hold;          /* takes requests and gives none back */
	bool high_half;     /* packed: says both halves of a position */
};

struct vhost_user_peer;

struct vhost_user_peer *peer_new(const struct vhost_user_peer_config *c);
void peer_free(struct vhost_user_peer *p); /* as if it were killed */

/* From now on at that request: the `skip`th after the next one, once; 0 requests none. */
void peer_script(struct vhost_user_peer *p, uint32_t request, enum peer_fault fault, unsigned skip);
void peer_hold(struct vhost_user_peer *p, bool on);   /* off: gives back what it holds */
void peer_freeze(struct vhost_user_peer *p, bool on); /* reads nothing */
void peer_cut(struct vhost_user_peer *p);             /* closes the connection, and is there for the next */
void peer_offer(struct vhost_user_peer *p, uint64_t features, uint64_t protocol);
void peer_lie(struct vhost_user_peer *p, uint32_t base);                 /* the answer to GET_VRING_BASE */
void peer_say(struct vhost_user_peer *p, const void *bytes, size_t len); /* unasked */

/* By its channel: a request of that id with nfds descriptors.  The answer, or -1 where it asks for none or
 * none comes within a second, -2: there is no channel. */
int64_t peer_request(struct vhost_user_peer *p, uint32_t id, bool need_reply, unsigned nfds, uint32_t size);
void peer_set_config(struct vhost_user_peer *p, const void *config);

unsigned peer_count(struct vhost_user_peer *p, uint32_t request);                       /* how often it came */
uint64_t peer_value(struct vhost_user_peer *p, uint32_t request);                       /* of the last: a u64 */
uint64_t peer_queue_value(struct vhost_user_peer *p, uint32_t request, unsigned queue); /* a state's num */
unsigned peer_connections(struct vhost_user_peer *p);
unsigned peer_held(struct vhost_user_peer *p);
uint64_t peer_chains(struct vhost_user_peer *p);                /* given back */
int peer_inflight_fd(struct vhost_user_peer *p);                /* borrowed, -1: none */
void peer_config_seen(struct vhost_user_peer *p, void *config); /* as SET_CONFIG left it */
#endif
