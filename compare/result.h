/* What was measured, as plain numbers; report_*.c make text of it. */
#ifndef COMPARE_RESULT_H
#define COMPARE_RESULT_H
#include <stdbool.h>
#include <stdint.h>

#include "compare/plan.h"

enum metric {
	METRIC_RATE,   /* of the workload's unit */
	METRIC_P50_US, /* latency */
	METRIC_P99_US,
	/* Processors kept busy, by who: seconds of CPU a second. */
	METRIC_CPU_VCPU,    /* vCPU threads, guest and KVM */
	METRIC_CPU_VMM,     /* other threads of the VMM, and its helpers */
	METRIC_CPU_VHOST,   /* the kernel's vhost workers */
	METRIC_CPU_BACKEND, /* the back end's process */
	/* A packet, I/O or run. */
	METRIC_EXITS,      /* KVM's, of any kind */
	METRIC_USER_EXITS, /* of these, to the VMM */
	METRIC_KICKS,      /* doorbells of the device's queues that the driver rang */
	METRIC_INTERRUPTS, /* given to the guest */
	METRIC_SYSCALLS,   /* of the VMM */
	METRIC_SYSCALLS_BACKEND,
	METRICS
};

/* Percentiles of latency, one set for all tools. */
#define LATENCY_POINTS 13
extern const double latency_percent[LATENCY_POINTS]; /* 1 5 10 25 50 75 90 95 99 99.5 99.9 99.95 99.99 */

struct sample { /* one workload on one path, once.  NAN: not known */
	double value[METRICS];
	double latency_us[LATENCY_POINTS];
	bool ok;
};

struct cell {                         /* one workload on one path */
	struct sample *sample;        /* [result.rounds]; where a round failed its ok is false */
	const char *missing[METRICS]; /* why a metric is not known, or NULL */
};

struct result {
	const struct plan *plan;
	unsigned rounds;                   /* done, at most plan.repeat */
	uint64_t features[PLAN_MAX_PATHS]; /* that each path's driver has taken */
	uint32_t device_id;                /* VIRTIO_ID_NET or VIRTIO_ID_BLOCK */
	struct cell cell[PLAN_MAX_WORKLOADS][PLAN_MAX_PATHS];
	char host[128], kernel[128], guest[256], started[32], version[64]; /* for the reader of a report */
	char command_line[512];
};

/* --- statistics of one metric in one cell; NAN samples and failed rounds are left out --- */

struct summary {
	unsigned n;               /* rounds that count */
	double median, low, high; /* low, high: quartiles (n >= 2; else the median) */
	double min, max;
};
void result_summary(const struct result *r, unsigned workload, unsigned path, enum metric m,
		    struct summary *out);

/* The ratio to the first path, of rounds that both have. */
void result_ratio(const struct result *r, unsigned workload, unsigned path, enum metric m, struct summary *out);

/* The spread makes the difference to the first path meaningless: of n paired ratios the quartiles lie on both
 * sides of 1, or there are too few (fewer than 3) to know. */
bool result_meaningless(const struct summary *ratio);

/* Median of each percentile over rounds; false: no latency known. */
bool result_latency(const struct result *r, unsigned workload, unsigned path, double out[LATENCY_POINTS]);
#endif
