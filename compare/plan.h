/* What "ringlet compare" compares: paths, workloads, how often.  Made from the command line by options.c;
 * nobody changes it afterwards, but for the features, which are found out before the first round. */
#ifndef COMPARE_PLAN_H
#define COMPARE_PLAN_H
#include <stdbool.h>
#include <stdint.h>

#define PLAN_MAX_PATHS     64
#define PLAN_MAX_WORKLOADS 8
#define PLAN_MAX_ROUNDS    1000
#define PLAN_NAME_SIZE     64

enum path_kind {
	PATH_TAP, /* a card, by this process */
	PATH_USER,
	PATH_VHOST_NET,
	PATH_NET_VHOST_USER, /* by "ringlet backend net" */
	PATH_NET_VDPA,
	PATH_IN_PROCESS, /* a disk, by this process */
	PATH_DISK_VHOST_USER,
	PATH_DISK_VDPA,
};

struct path {
	enum path_kind kind;
	bool mmio, packed, notify_exit;
	const char *device;        /* vdpa: the device that the user named, or NULL: one is made */
	char name[PLAN_NAME_SIZE]; /* "vhost-net", "vhost-net mmio packed exit"; unlike all others */
};

enum workload_kind {
	/* of a card */
	WORKLOAD_TCP, /* a stream from the guest to the host */
	WORKLOAD_TCP_IN,
	WORKLOAD_RR,   /* a request and its answer at a time */
	WORKLOAD_PPS,  /* the smallest frames, from the guest to the host */
	WORKLOAD_PING, /* echo requests */
	/* of a disk */
	WORKLOAD_RANDREAD, /* 4 KiB, 32 at a time */
	WORKLOAD_RANDWRITE,
	WORKLOAD_SEQ, /* reads of 128 KiB one behind the other, 8 at a time */
	WORKLOAD_QD1, /* 4 KiB reads, one at a time */
	/* of either */
	WORKLOAD_COMMAND, /* the user's own */
};

struct workload {
	enum workload_kind kind;
	const char *name; /* "tcp" */
	const char *unit; /* of its rate: "bit/s", "packets/s", "I/Os/s", "B/s", "1/s" */
	const char *each; /* what counts are divided by: "packet", "I/O", "run" */
	const char *what; /* in a sentence, for people */
	bool has_latency;
};

enum guest_kind { GUEST_LINUX, GUEST_BARE };

struct plan {
	bool disk; /* else a card */
	unsigned npaths, nworkloads, repeat;
	double seconds; /* of each measurement */
	struct path path[PLAN_MAX_PATHS];
	struct workload workload[PLAN_MAX_WORKLOADS];
	bool best; /* --features best: each path has what it can */
	enum guest_kind guest;
	const char *out; /* directory for what is reported, or NULL */
	bool quiet;      /* no progress */

	char *device; /* what path.device points to */

	/* Of the guest. */
	const char *kernel, *initrd, *tools; /* Linux */
	int nrun;
	char **run; /* options of "ringlet run" besides */
	int ncommand;
	char **command; /* the user's own workload, or 0 */
	uint64_t disk_bytes;
};
#endif
