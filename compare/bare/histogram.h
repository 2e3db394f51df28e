/* How long requests took: a log-linear histogram, whose buckets are less than 0.8 % wide.  Free of any library:
 * the bare guest has none. */
#ifndef COMPARE_BARE_HISTOGRAM_H
#define COMPARE_BARE_HISTOGRAM_H
#include <stdint.h>

#define HISTOGRAM_BITS    7
#define HISTOGRAM_LINEAR  (1u << HISTOGRAM_BITS) /* buckets of each power of two */
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_BITS + 1) * HISTOGRAM_LINEAR)

/* latency_percent[] of compare/result.h, in hundredths: where there is no floating point. */
#define HISTOGRAM_POINTS                                                                                       \
	{                                                                                                      \
		100, 500, 1000, 2500, 5000, 7500, 9000, 9500, 9900, 9950, 9990, 9995, 9999                     \
	}

struct histogram {
	uint64_t total;
	uint32_t count[HISTOGRAM_BUCKETS];
};

static inline void histogram_clear(struct histogram *h)
{
	h->total = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		h->count[i] = 0;
}

static inline unsigned histogram_bucket(uint64_t v)
{
	unsigned top;

	if (v < HISTOGRAM_LINEAR)
		return (unsigned)v;
	top = 63 - (unsigned)__builtin_clzll(v);
	return (top - HISTOGRAM_BITS + 1) * HISTOGRAM_LINEAR +
	       (unsigned)(v >> (top - HISTOGRAM_BITS) & (HISTOGRAM_LINEAR - 1));
}

/* The middle of a bucket. */
static inline uint64_t histogram_value(unsigned bucket)
{
	const unsigned octave = bucket / HISTOGRAM_LINEAR;
	uint64_t low;

	if (octave < 2)
		return bucket;
	low = (uint64_t)(HISTOGRAM_LINEAR + bucket % HISTOGRAM_LINEAR) << (octave - 1);
	return low + (1ull << (octave - 1)) / 2;
}

static inline void histogram_add(struct histogram *h, uint64_t v)
{
	h->count[histogram_bucket(v)]++;
	h->total++;
}

/* The smallest value that so many hundredths of a percent do not exceed; 0 of none. */
static inline uint64_t histogram_percentile(const struct histogram *h, unsigned hundredths)
{
	const uint64_t rank = (h->total * hundredths + 9999) / 10000;
	uint64_t seen = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->count[i];
		if (h->count[i] && seen >= rank)
			return histogram_value(i);
	}
	return 0;
}
#endif
