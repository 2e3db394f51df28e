/* How much this machine can do at a time. */
#ifndef MATRIX_HOST_H
#define MATRIX_HOST_H
#include <stdint.h>

struct host {
	unsigned cpus;   /* that we may use, at least 1 */
	uint64_t memory; /* bytes that are free for guests; UINT64_MAX: not known */
};

/* root: in front of every path that is read, "" but in tests. */
void host_look(struct host *h, const char *root);
#endif
