/* "ringlet explain NAME [DEVICE]", of a running machine. */
#ifndef VMM_MACHINE_EXPLAIN_H
#define VMM_MACHINE_EXPLAIN_H
#include <stddef.h>

struct machine;

/* On the loop's thread.  device: NULL: all.  Where all is more than text holds, the end names what is left out
 * and how to ask for it.  0, or -errno and text says why. */
int machine_explain(struct machine *m, const char *device, char *text, size_t size);
#endif
