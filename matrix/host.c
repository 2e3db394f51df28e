#include "matrix/host.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "vmm/doctor_checks.h"

#define PERIOD_US 100000 /* of a CPU quota: the kernel's default, and nobody sets another */

static unsigned allowed_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : (unsigned)CPU_COUNT(&set);
}

void host_look(struct host *h, const char *root)
{
	char text[4096], *line;
	uint64_t n;

	*h = (struct host){.cpus = allowed_cpus(), .memory = UINT64_MAX};
	if (doctor_cgroup_limit(root, "cpu.max", "cpu", "cpu.cfs_quota_us", &n)) {
		n = (n + PERIOD_US - 1) / PERIOD_US;
		if (n < h->cpus)
			h->cpus = n ? (unsigned)n : 1;
	}
	doctor_read(root, "/proc/meminfo", text, sizeof(text));
	line = strstr(text, "MemAvailable:");
	if (line && sscanf(line, "MemAvailable: %" SCNu64, &n) == 1)
		h->memory = n << 10;
	/* The cgroup's page cache counts against its limit and can be given back: all but a tenth. */
	if (doctor_cgroup_limit(root, "memory.max", "memory", "memory.limit_in_bytes", &n) &&
	    n / 10 * 9 < h->memory)
		h->memory = n / 10 * 9;
}
