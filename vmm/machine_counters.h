/* "ringlet ctl NAME counters [DEVICE]": what "stats" and "explain" know, for programs. */
#ifndef VMM_MACHINE_COUNTERS_H
#define VMM_MACHINE_COUNTERS_H
#include <stddef.h>

struct machine;

/* On the loop's thread.  device: NULL: all.  One JSON object (vmm/stats.h) into text.  0, or -errno and text
 * says why. */
int machine_counters(struct machine *m, const char *device, char *text, size_t size);
#endif
