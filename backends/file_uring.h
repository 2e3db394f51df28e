/* File disks by io_uring: one ring a lane, one io_uring_enter() a burst. */
#ifndef BACKENDS_FILE_URING_H
#define BACKENDS_FILE_URING_H
#include "devices/blk/disk.h"

extern const struct disk_ops file_uring_ops; /* for struct file_disk */

/* 0, or -errno: this process may not make rings.  Makes none. */
int file_uring_allowed(void);
/* Where threads are to be confined: makes n rings for lanes of at most `entries` requests, on which all lanes
 * live from then on.  Nothing elsewhere.  Main thread.  0 or -errno: lanes do without. */
int file_uring_reserve(unsigned n, unsigned entries);
#endif
