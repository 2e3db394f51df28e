/* File disks by ordinary system calls: what is at hand at once, the rest on a helper thread a lane. */
#ifndef BACKENDS_FILE_SYNC_H
#define BACKENDS_FILE_SYNC_H
#include "devices/blk/disk.h"

extern const struct disk_ops file_sync_ops; /* for struct file_disk */
#endif
