/* A raw image file or a block device as a disk: what both engines (file_uring, file_sync) share. */
#ifndef BACKENDS_FILE_DISK_H
#define BACKENDS_FILE_DISK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "devices/blk/disk.h"
#include "lib/err.h"

enum file_aio { FILE_AIO_AUTO, FILE_AIO_URING, FILE_AIO_SYNC };

struct file_disk_config {
	const char *path;
	const int *fd; /* path, opened by somebody else for that; ours, also on error.  Or NULL */
	bool read_only;
	bool direct; /* O_DIRECT */
	bool raw;    /* take it for raw bytes whatever image format it looks like */
	enum file_aio aio;
};

/* Opens, probes and locks.  NULL with a sentence in e that says what would mend it; ops->destroy() frees. */
struct disk *file_disk_open(const struct file_disk_config *c, struct err *e);

/* --- for the engines --- */

struct file_disk {
	struct disk disk;
	int fd;
	char *path;
	bool block_device;
	bool direct;
	bool memory;                   /* tmpfs: reads and writes copy and never wait for a device */
	uint32_t mem_align, len_align; /* what O_DIRECT wants of each buffer; 1 without */
	_Atomic bool no_nowait;        /* RWF_NOWAIT is not to be had here */
	_Atomic bool holes;            /* or there may be some soon */
	_Atomic bool said_no_ring;     /* file_uring has told that it could not make one */
};

static inline struct file_disk *file_disk_of(struct disk *d)
{
	return (struct file_disk *)d;
}

/* disk_ops that are the same for both. */
int file_disk_lock(struct disk *d, bool on);
int file_disk_refresh(struct disk *d);
void file_disk_destroy(struct disk *d);

/* --- file_request.c --- */

/* May these buffers go to the kernel as they are? */
bool file_disk_aligned(const struct file_disk *f, const struct disk_req *r);

/* A finished transfer of n bytes: 1 the rest is to be done (iov, offset, progress moved on), 0 all done,
 * -errno (-EIO: the file ends before the disk does). */
int file_req_advance(struct disk_req *r, ssize_t n);

/* Does r, waiting for it.  0 or -errno.  bounce: FILE_BOUNCE bytes on a page boundary, for buffers that
 * O_DIRECT does not take. */
#define FILE_BOUNCE (256u << 10)
int file_disk_do(struct file_disk *f, struct disk_req *r, void *bounce);

/* Does a read or write if that needs no waiting: 1 done, 0 not to be had, -errno.  Counts system calls. */
int file_disk_try(struct file_disk *f, struct disk_req *r, unsigned *syscalls);
#endif
