/* What a disk must do for the block device: asynchronous requests over one byte range. */
#ifndef BLK_DISK_H
#define BLK_DISK_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum disk_op {
	DISK_READ,
	DISK_WRITE,
	DISK_FLUSH,
	DISK_DISCARD,   /* the range's contents may become anything; space is given back */
	DISK_ZERO,      /* reads as zeroes afterwards; space stays allocated */
	DISK_ZERO_UNMAP /* the same; space may be given back */
};

struct disk_req { /* embedded in the submitter's request; its own from done() on */
	enum disk_op op;
	bool durable;         /* a write is on stable storage before done() */
	uint64_t offset, len; /* bytes; for reads and writes len is that of iov */
	struct iovec *iov;    /* the disk may change it while the request is in flight */
	int iovcnt;
	/* Once, on the thread of the lane, never from inside submit().  err: 0 or a negative errno.
	 * It may submit() again; what it submits needs no commit(). */
	void (*done)(struct disk_req *r, int err);
	struct disk_req *next; /* the disk's */
	uint64_t progress;     /* the disk's: bytes done so far */
};

struct disk_client {                 /* who submits on a lane */
	void (*batch)(void *opaque); /* on the lane's thread, after each run of done()s */
	void *opaque;
	_Atomic uint64_t *syscalls; /* counts those made on the lane's thread for it, or NULL */
};

struct evloop;
struct disk;
struct disk_lane; /* one thread's way in: its ring */

struct disk_ops {
	const char *name;
	/* On loop's thread, as everything of the lane.  nreqs: the most in flight at a time.  NULL: errno. */
	struct disk_lane *(*lane)(struct disk *d, struct evloop *loop, unsigned nreqs,
				  const struct disk_client *client);
	void (*lane_free)(struct disk_lane *l);                  /* nothing in flight */
	void (*submit)(struct disk_lane *l, struct disk_req *r); /* range already checked; may only queue */
	void (*commit)(struct disk_lane *l); /* end of a burst: few system calls; may run done()s and batch() */
	void (*drain)(struct disk_lane *l);  /* returns when none is in flight */
	/* Image lock; let go for a live change.  Any one thread.  0, or -EAGAIN: somebody else has it now. */
	int (*lock)(struct disk *d, bool on);
	/* The file changed its size: looks, sets size, calls resized().  Any one thread.  0 or -errno. */
	int (*refresh)(struct disk *d);
	void (*destroy)(struct disk *d); /* every lane is gone */
};

struct disk { /* first member of struct file_disk, ... */
	const struct disk_ops *ops;
	_Atomic uint64_t size; /* bytes, a multiple of block_size */
	uint32_t block_size;   /* logical: requests are aligned to it; bytes, 512 or more */
	uint32_t physical_block_size;
	uint32_t optimal_io_size;     /* bytes, 0: unknown */
	uint32_t discard_granularity; /* bytes, 0: cannot discard */
	bool read_only;
	bool write_zeroes;             /* DISK_ZERO works */
	void (*resized)(void *opaque); /* set by the device; any thread */
	void *opaque;
};
#endif
