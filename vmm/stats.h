/* What a run counted, for --stats and "ringlet ctl NAME counters". */
#ifndef VMM_STATS_H
#define VMM_STATS_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/kvm/kvm_stats.h"

struct run_stats {
	unsigned ncpus;
	uint64_t exits_io, exits_mmio, exits_other; /* to this process, all vCPUs */
	uint64_t exits_total;
	uint64_t pio_unhandled, mmio_unhandled;
	uint64_t coalesced;        /* writes queued without an exit */
	uint64_t shadow_on;        /* times the serial port's registers moved into the guest */
	uint64_t first_run_cpu_ns; /* CPU time of the process up to the first KVM_RUN */
	uint64_t first_run_ns;     /* from main() to the first KVM_RUN */
	uint64_t run_ns;           /* from the first KVM_RUN to the end */
	uint64_t console_bytes;
	int status;
};

#define STATS_UNSEEN      UINT64_MAX /* a count of what nobody here can see */
#define STATS_MAX_QUEUES  64
#define STATS_MAX_BALLOON 10 /* what a guest tells of its memory, in the order of VIRTIO_BALLOON_S_* */

struct queue_report {
	uint64_t kicks;        /* wake-ups by the driver's doorbell */
	uint64_t bursts;       /* drains that found something */
	uint64_t chains;       /* buffers given back */
	uint64_t bytes;        /* payload, both directions */
	uint64_t interrupts;   /* sent ... */
	uint64_t spared;       /* ... and not, since the driver did not want them */
	uint64_t system_calls; /* made for this queue's data */
};

struct device_report {
	const char *name;      /* "net0" */
	const char *type;      /* "net" */
	const char *transport; /* "pci" */
	unsigned nqueues;
	struct queue_report queue[STATS_MAX_QUEUES];
};

struct balloon_report {
	uint64_t wanted, actual, returned; /* bytes */
	uint32_t known;                    /* bit per value that the guest told */
	uint64_t value[STATS_MAX_BALLOON];
};

struct devices_report {
	unsigned n;
	struct device_report *device;   /* [n] */
	struct balloon_report *balloon; /* NULL: none */
};

/* Text, for a person. */
void stats_print(const struct run_stats *s, const struct devices_report *d, FILE *out);
int stats_write_json(const struct run_stats *s, const struct devices_report *d,
		     const char *path); /* 0 or -errno */
/* The same as text, to be freed; NULL: no memory. */
char *stats_json(const struct run_stats *s, const struct devices_report *d);

/* --- what programs ask a running VM for --- */

#define STATS_MAX_DOORBELLS 2 /* of a device: in memory, in I/O space */

struct doorbell_report { /* where the driver writes */
	bool pio;
	uint64_t address, length; /* as the guest sees it; length covers all queues */
};

struct counted_device {
	struct device_report report;
	const char *datapath; /* "vhost-net": who serves what this process does not */
	bool remote;          /* datapath is not this process */
	bool notify_exit;     /* each doorbell is an exit */
	bool here[STATS_MAX_QUEUES];
	uint64_t exit_kicks[STATS_MAX_QUEUES]; /* doorbells that came as exits, whoever serves the queue */
	unsigned ndoorbells;                   /* 0: not known, or the driver has not enabled them */
	struct doorbell_report doorbell[STATS_MAX_DOORBELLS];
};

struct counters_report {
	struct run_stats run;
	struct kvm_stats kvm;    /* of this life of the guest */
	const char *kvm_missing; /* why there is none, or NULL */
	bool busy;               /* a driver's access to a device has not ended: not all could be looked at */
	unsigned ndevices;
	const struct counted_device *device; /* [ndevices] */
};

/* One JSON object on one line; what nobody can see is null.  0; -EMSGSIZE: size is too small for it; -ENOMEM.
 */
int stats_counters_json(const struct counters_report *c, char *text, size_t size);
#endif
