#include "devices/net/rate.h"

#include <time.h>

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void net_limit_init(struct net_limit *l, const struct net_rate *rate)
{
	uint64_t now = now_ns();

	l->on = rate->bytes_per_s || rate->packets_per_s;
	pthread_mutex_init(&l->lock, NULL);
	token_bucket_init(&l->bytes, rate->bytes_per_s, rate->burst, now);
	token_bucket_init(&l->packets, rate->packets_per_s, 0, now);
}

void net_limit_fini(struct net_limit *l)
{
	pthread_mutex_destroy(&l->lock);
}

uint64_t net_limit_wait(struct net_limit *l)
{
	uint64_t now, bytes, packets;

	if (!l->on)
		return 0;
	now = now_ns();
	pthread_mutex_lock(&l->lock);
	bytes = token_bucket_wait(&l->bytes, now);
	packets = token_bucket_wait(&l->packets, now);
	pthread_mutex_unlock(&l->lock);
	return bytes > packets ? bytes : packets;
}

void net_limit_take(struct net_limit *l, uint64_t bytes)
{
	if (!l->on)
		return;
	pthread_mutex_lock(&l->lock);
	token_bucket_take(&l->bytes, bytes);
	token_bucket_take(&l->packets, 1);
	pthread_mutex_unlock(&l->lock);
}
