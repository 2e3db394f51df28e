/* Why there are too few huge pages, in numbers. */
#ifndef VMM_HUGEPAGES_H
#define VMM_HUGEPAGES_H
#include <stdint.h>

#include "lib/err.h"

/* Says how many pages of page_size bytes `want` bytes take, how many the host has free, what our
 * hugetlb cgroup allows, and the command that mends it.  Returns -ENOMEM. */
int hugepages_explain(uint64_t page_size, uint64_t want, struct err *e);
#endif
