#include "compare/workloads.h"

#include <string.h>

#include "lib/cleanup.h"

static const struct {
	struct workload w;
	bool disk, bare;
	const char *server;
} all[] = {
	{{WORKLOAD_TCP, "tcp", "bit/s", "packet", "one TCP stream from the guest to the host", false},
	 .server = "iperf3"},
	{{WORKLOAD_RR, "rr", "requests/s", "request", "a request and its answer, one at a time", true},
	 .bare = true,
	 .server = "sockperf"},
	{{WORKLOAD_PPS, "pps", "packets/s", "packet", "frames of 60 bytes from the guest to the host", false},
	 .bare = true,
	 .server = "iperf3"},
	{{WORKLOAD_PING, "ping", "pings/s", "ping", "100 echo requests a second, idle between them", true},
	 .server = NULL},
	{{WORKLOAD_TCP_IN, "tcp-in", "bit/s", "packet", "one TCP stream from the host to the guest", false},
	 .server = "iperf3"},
	{{WORKLOAD_RANDREAD, "randread", "I/Os/s", "I/O", "random reads of 4 KiB, 32 at a time", true},
	 .disk = true,
	 .bare = true},
	{{WORKLOAD_RANDWRITE, "randwrite", "I/Os/s", "I/O", "random writes of 4 KiB, 32 at a time", true},
	 .disk = true,
	 .bare = true},
	{{WORKLOAD_SEQ, "seq", "B/s", "I/O", "reads of 128 KiB one behind the other, 8 at a time", true},
	 .disk = true,
	 .bare = true},
	{{WORKLOAD_QD1, "qd1", "I/Os/s", "I/O", "random reads of 4 KiB, one at a time", true},
	 .disk = true,
	 .bare = true},
};

static const struct workload command = {WORKLOAD_COMMAND,   "command", "runs/s", "run",
					"your own command", false};

const struct workload *workload_nth(unsigned n, bool disk)
{
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i].disk == disk && !n--)
			return &all[i].w;
	return NULL;
}

const struct workload *workload_find(const char *name, bool disk)
{
	const struct workload *w;

	for (unsigned i = 0; (w = workload_nth(i, disk)); i++)
		if (!strcmp(w->name, name))
			return w;
	return NULL;
}

const struct workload *workload_command(void)
{
	return &command;
}

bool workload_runs(const struct workload *w, enum guest_kind guest)
{
	if (guest == GUEST_LINUX)
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i].w.kind == w->kind)
			return all[i].bare;
	return false;
}

const char *workload_server(const struct workload *w)
{
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i].w.kind == w->kind)
			return all[i].server;
	return NULL;
}
