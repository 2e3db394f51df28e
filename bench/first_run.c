/* Preloaded into a VMM, any VMM: at its first KVM_RUN writes what it took to get there, and ends it.
 * FIRST_RUN_OUT names the file; FIRST_RUN_START is CLOCK_MONOTONIC in nanoseconds just before exec.
 * Output: "CPU-nanoseconds wall-nanoseconds". */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define KVM_RUN 0xae80

int ioctl(int fd, unsigned long request, ...);

static uint64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == KVM_RUN) {
		uint64_t cpu = now(CLOCK_PROCESS_CPUTIME_ID), wall = now(CLOCK_MONOTONIC);
		FILE *f = fopen(getenv("FIRST_RUN_OUT"), "w");

		if (f) {
			fprintf(f, "%ju %ju\n", (uintmax_t)cpu,
				(uintmax_t)(wall - strtoull(getenv("FIRST_RUN_START"), NULL, 10)));
			fclose(f);
		}
		_exit(0);
	}
	return (int)syscall(SYS_ioctl, fd, request, arg);
}
