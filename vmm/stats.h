/* What a run counted, for --stats. */
#ifndef VMM_STATS_H
#define VMM_STATS_H
#include <stdint.h>
#include <stdio.h>

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

void stats_print(const struct run_stats *s, FILE *out);            /* text, for a person */
int stats_write_json(const struct run_stats *s, const char *path); /* 0 or -errno */
#endif
