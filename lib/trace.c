#include "lib/trace.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"

static _Atomic bool wanted;
static _Atomic uint64_t began_ns; /* 0: no line yet */

void trace_control(bool on)
{
	wanted = on;
}

bool trace_wanted(void)
{
	return wanted;
}

void trace_call(const char *device, const char *protocol, const char *what, int rc)
{
	const uint64_t now = clock_ns(CLOCK_MONOTONIC);
	uint64_t first = 0, us;

	if (!wanted)
		return;
	if (atomic_compare_exchange_strong(&began_ns, &first, now))
		first = now;
	us = now > first ? (now - first) / 1000 : 0;
	/* No error, but asked for: it must come whatever the level is. */
	log_msg(LOG_ERROR, "trace: %" PRIu64 ".%06" PRIu64 " %s %s %s%s%s", us / 1000000, us % 1000000, device,
		protocol, what, rc ? ": " : "", rc ? strerror(-rc) : "");
}
