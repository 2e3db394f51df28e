/* File disks by io_uring: one ring a lane, one io_uring_enter() a burst. */
#ifndef BACKENDS_FILE_URING_H
#define BACKENDS_FILE_URING_H
#include "devices/blk/disk.h"

extern const struct disk_ops file_uring_ops; /* for struct file_disk */

/* 0, or -errno: this process may not make rings.  Makes none. */
int file_uring_allowed(void);
#endif
