/* One direction's limit of a network device, shared by its queue pairs. */
#ifndef NET_RATE_H
#define NET_RATE_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/token_bucket.h"

struct net_rate {
	uint64_t bytes_per_s; /* of frames, without the virtio-net header; 0: no limit */
	uint64_t packets_per_s;
	uint64_t burst; /* bytes; 0: 50 ms' worth.  Packets always: 50 ms' worth */
};

struct net_limit {
	bool on;
	pthread_mutex_t lock; /* the rest */
	struct token_bucket bytes, packets;
};

void net_limit_init(struct net_limit *l, const struct net_rate *rate);
void net_limit_fini(struct net_limit *l);
/* 0: a frame of any size may pass now, to be reported by net_limit_take().  Else ns to wait.  Any thread. */
uint64_t net_limit_wait(struct net_limit *l);
void net_limit_take(struct net_limit *l, uint64_t bytes); /* one frame */
#endif
