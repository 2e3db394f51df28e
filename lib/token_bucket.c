#include "lib/token_bucket.h"

#define NS 1000000000u

void token_bucket_init(struct token_bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	if (!burst)
		burst = rate / 20;
	if (burst < rate / 100)
		burst = rate / 100;
	if (!burst)
		burst = 1;
	*b = (struct token_bucket){.rate = rate, .burst = burst, .last = now_ns, .level = (__int128)burst * NS};
}

static void refill(struct token_bucket *b, uint64_t now_ns)
{
	const __int128 full = (__int128)b->burst * NS;

	if (now_ns <= b->last)
		return;
	if (now_ns - b->last > (uint64_t)((full - b->level) / b->rate)) /* or the product could overflow */
		b->level = full;
	else
		b->level += (__int128)(now_ns - b->last) * b->rate;
	b->last = now_ns;
}

uint64_t token_bucket_wait(struct token_bucket *b, uint64_t now_ns)
{
	if (!b->rate)
		return 0;
	refill(b, now_ns);
	if (b->level > 0)
		return 0;
	/* The first nanosecond that lifts it above zero. */
	return (uint64_t)(-b->level / b->rate) + 1;
}

void token_bucket_take(struct token_bucket *b, uint64_t n)
{
	if (b->rate)
		b->level -= (__int128)n * NS;
}
