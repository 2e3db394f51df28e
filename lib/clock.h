#ifndef LIB_CLOCK_H
#define LIB_CLOCK_H
#include <stdint.h>
#include <time.h>

/* Nanoseconds: CLOCK_MONOTONIC since some point in the past, CLOCK_PROCESS_CPUTIME_ID of CPU time, ... */
static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
#endif
