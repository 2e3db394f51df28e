/* A rate limit that is exact in the long run: whoever finds it open may take any amount, which it pays off
 * later.  So the size of what comes need not be known beforehand, and one larger than the burst passes.
 * The caller brings the time and, where several threads share it, a lock. */
#ifndef LIB_TOKEN_BUCKET_H
#define LIB_TOKEN_BUCKET_H
#include <stdbool.h>
#include <stdint.h>

struct token_bucket {
	uint64_t rate;  /* tokens a second, 0: no limit */
	uint64_t burst; /* tokens */
	__int128 level; /* 1e-9 tokens, so that nothing is ever rounded; below zero: in debt */
	uint64_t last;  /* ns */
};

/* Starts full.  burst 0: what the rate gives in 50 ms.  At least 10 ms' worth and one token, whatever is
 * asked: who waits for it wakes a millisecond or more late, and what overflows meanwhile is lost. */
void token_bucket_init(struct token_bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns);
/* 0: open.  Else ns until it is. */
uint64_t token_bucket_wait(struct token_bucket *b, uint64_t now_ns);
void token_bucket_take(struct token_bucket *b, uint64_t n);
#endif
