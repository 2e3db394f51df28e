/* `ringlet backend net`: two front ends, or one and itself, joined by one copy: from the transmit buffers of
 * one straight into the receive buffers of the other.  Or one front end and the host's network (net_tap.h).
 *
 * Theory of operation: a lane takes frames from one transmit queue, on the worker (thread) of its pair, which
 * owns that queue.  A receive queue belongs to the worker of its own pair, and lanes of others use it too where
 * their own counterpart does not run: so it has a lock, which is nearly always free.  Where the receiver has no
 * buffers the lane waits for them, and its sender with it, until it has been still for patience_ms: then
 * frames are dropped until there are buffers again. */
#ifndef SERVERS_NET_LINK_H
#define SERVERS_NET_LINK_H
#include <pthread.h>
#include <stdatomic.h>

#include "servers/server.h"
#include "vmm/loop_thread.h"

#define NET_MAX_PAIRS 64
#define NET_IOV       1024 /* pieces of one chain; a chain of more breaks its ring */

/* Bits with which frames are passed on as they are, half finished: checksums and segments to be made. */
#define NET_BIT(n) (UINT64_C(1) << (n))

struct net_link;
struct net_lane;

struct net_worker {
	struct loop_thread thread;
	struct ev_watch spin; /* poll: an eventfd that is always readable */
	unsigned spinning;    /* transmit queues that run here; the worker's thread */
	struct net_lane *lane[2];
};

/* A receive queue.  All but q under lock; q's vq too. */
struct net_rx {
	pthread_mutex_t lock;
	struct server_queue *q; /* NULL: does not run */
	bool mrg;
	unsigned hdr_len;
};

struct net_counts { /* one thread writes */
	_Atomic uint64_t frames, bytes;
	_Atomic uint64_t dropped; /* nobody there, no buffers, segments for one who takes none */
	_Atomic uint64_t refused; /* malformed, or of a kind that the receiver does not take */
};

struct net_end { /* what a server serves */
	struct net_link *link;
	struct server *server;
	unsigned side;
	uint64_t features;
	unsigned hdr_len;
	struct net_rx rx[NET_MAX_PAIRS];
	_Atomic(struct net_rx *) target[NET_MAX_PAIRS]; /* where frames of pair n go, or NULL */
};

struct net_lane { /* its worker's thread */
	struct net_link *link;
	struct net_worker *worker;
	struct net_end *from, *to;
	unsigned pair;
	struct server_queue *tx; /* NULL: does not run */
	_Atomic bool blocked;    /* for want of receive buffers */
	bool dropping, timed;
	bool said;            /* that frames to be segmented are dropped */
	uint64_t frames_then; /* counts.frames when the timer was set */
	unsigned full;        /* poll: rounds without buffers */
	uint64_t full_since;  /* poll: ns, 0: not known */
	struct ev_timer timer;
	struct ev_watch again;
	struct iovec *tx_iov; /* [NET_IOV] */
	struct iovec *rx_iov; /* [2 * NET_IOV] */
	struct net_counts counts;
};

struct net_link_config {
	/* A socket or a VDUSE device's name; neither for [1]: what [0] sends comes back to it. */
	const char *path[2], *vduse[2];
	bool connects[2];
	unsigned npairs;
	bool poll;
	bool offloads;
	uint16_t mtu;         /* what drivers of a VDUSE device are told; 0: nothing */
	unsigned patience_ms; /* how long a sender waits for a receiver's buffers; 0: 100 */
};

struct net_link {
	struct net_link_config c;
	unsigned nends;
	struct net_end *end[2];
	struct net_worker worker[NET_MAX_PAIRS];
	struct net_lane lane[2][NET_MAX_PAIRS]; /* [from] */
};

/* Any thread but a worker.  0, or -errno with a sentence in e. */
int net_link_new(struct net_link **out, const struct net_link_config *c, struct err *e);
void net_link_free(struct net_link *l); /* NULL is fine */

/* What every net server offers. */
uint64_t net_features(bool offloads, bool mq);
/* The server of a side; ops and dev are the caller's to add. */
struct server_config net_server_config(const struct net_link_config *c, unsigned side, uint64_t features,
				       bool polls);
/* server_device_ops.config_read, of what c says. */
int net_config_read(const struct net_link_config *c, uint32_t off, void *buf, uint32_t len);

static inline void net_count(_Atomic uint64_t *n, uint64_t more)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + more, memory_order_relaxed);
}

enum net_moved { NET_EMPTY, NET_FULL, NET_MOVED };

/* net_burst.c: some frames, as many as are at hand, at most VQ_BURST. */
enum net_moved net_burst(struct net_lane *l);
/* net_frame.c: one, of any kind.  rx is locked.  MOVED too if it was dropped. */
enum net_moved net_frame(struct net_lane *l, struct net_rx *rx);
/* All that is there now goes nowhere. */
void net_discard(struct net_lane *l);
#endif
