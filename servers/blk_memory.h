/* A disk of this process's memory: zeroes at first, nothing when the process ends. */
#ifndef SERVERS_BLK_MEMORY_H
#define SERVERS_BLK_MEMORY_H
#include <stdint.h>

#include "devices/blk/disk.h"
#include "lib/err.h"

/* size: bytes, a multiple of 512.  Pages are taken when they are first written.  Requests are done in commit(),
 * in the order of submit().  NULL with a sentence in e; ops->destroy() frees. */
struct disk *blk_memory_new(uint64_t size, struct err *e);
#endif
