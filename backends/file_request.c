/* A request of a file disk done by system calls: at once if it can be, or waiting for it. */
/* #syscalls[disk]: preadv preadv2 pwritev pwritev2 pwrite64 fallocate fdatasync fsync
 * #ioctls[disk]: BLKDISCARD */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backends/file_disk.h"

#define PAGE 4096u

bool file_disk_aligned(const struct file_disk *f, const struct disk_req *r)
{
	uintptr_t mem = 0;
	size_t len = 0;

	if (!f->direct)
		return true;
	for (int i = 0; i < r->iovcnt; i++) {
		mem |= (uintptr_t)r->iov[i].iov_base;
		len |= r->iov[i].iov_len;
	}
	return !(mem & (f->mem_align - 1)) && !(len & (f->len_align - 1));
}

int file_req_advance(struct disk_req *r, ssize_t n)
{
	size_t skip = (size_t)n;

	if (n < 0)
		return (int)n;
	if (!n)
		return -EIO;
	r->progress += skip;
	if (r->progress >= r->len)
		return 0;
	while (skip >= r->iov->iov_len) {
		skip -= r->iov->iov_len;
		r->iov++;
		r->iovcnt--;
	}
	r->iov->iov_base = (char *)r->iov->iov_base + skip;
	r->iov->iov_len -= skip;
	return 1;
}

static ssize_t transfer(const struct file_disk *f, const struct disk_req *r, const struct iovec *iov, int n,
			int flags)
{
	off_t at = (off_t)(r->offset + r->progress);
	ssize_t rc;

	do {
		rc = r->op == DISK_READ ? preadv2(f->fd, iov, n, at, flags)
					: pwritev2(f->fd, iov, n, at, flags | (r->durable ? RWF_DSYNC : 0));
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

int file_disk_try(struct file_disk *f, struct disk_req *r, unsigned *syscalls)
{
	ssize_t n;

	if (r->op == DISK_FLUSH && f->memory)
		return 1; /* nothing is kept longer than it is there */
	if (r->op != DISK_READ && (r->op != DISK_WRITE || !f->memory))
		return 0;
	/* Direct I/O without waiting is never done; a tmpfs knows no NOWAIT but does not wait either. */
	if (f->direct || (!f->memory && f->no_nowait))
		return 0;
	for (;;) {
		(*syscalls)++;
		n = transfer(f, r, r->iov, r->iovcnt, f->memory ? 0 : RWF_NOWAIT);
		if (n == -EOPNOTSUPP && !f->memory)
			f->no_nowait = true;
		if (!f->memory && (n == -EAGAIN || n == -EOPNOTSUPP))
			return 0;
		n = file_req_advance(r, n);
		if (n <= 0)
			return n ? (int)n : 1;
	}
}

/* Between r's buffers and one that is aligned. */
static void copy(const struct disk_req *r, char *buf, size_t len, bool to_buf)
{
	const struct iovec *v = r->iov;

	for (size_t n; len; len -= n, buf += n, v++) {
		n = v->iov_len < len ? v->iov_len : len;
		if (to_buf)
			memcpy(buf, v->iov_base, n);
		else
			memcpy(v->iov_base, buf, n);
	}
}

static ssize_t transfer_bounced(const struct file_disk *f, struct disk_req *r, void *bounce)
{
	uint64_t left = r->len - r->progress;
	struct iovec v = {.iov_base = bounce, .iov_len = left < FILE_BOUNCE ? left : FILE_BOUNCE};
	ssize_t n;

	if (r->op == DISK_WRITE)
		copy(r, bounce, v.iov_len, true);
	n = transfer(f, r, &v, 1, 0);
	if (r->op == DISK_READ && n > 0)
		copy(r, bounce, (size_t)n, false);
	return n;
}

static int do_transfer(const struct file_disk *f, struct disk_req *r, void *bounce)
{
	bool aligned = file_disk_aligned(f, r);
	int rc;

	do {
		ssize_t n = aligned ? transfer(f, r, r->iov, r->iovcnt, 0) : transfer_bounced(f, r, bounce);

		rc = file_req_advance(r, n);
	} while (rc > 0);
	return rc;
}

static int write_zeroes(const struct file_disk *f, const struct disk_req *r)
{
	static char zeroes[64 << 10] __attribute__((aligned(PAGE)));

	for (uint64_t done = 0; done < r->len;) {
		size_t want = r->len - done < sizeof(zeroes) ? (size_t)(r->len - done) : sizeof(zeroes);
		ssize_t n = pwrite(f->fd, zeroes, want, (off_t)(r->offset + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (!n)
			return -EIO;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int allocate(const struct file_disk *f, int mode, const struct disk_req *r)
{
	int rc;

	do {
		rc = fallocate(f->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)r->offset, (off_t)r->len);
	} while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

static int discard(const struct file_disk *f, const struct disk_req *r)
{
	uint64_t range[2] = {r->offset, r->len};
	int rc;

	if (!f->block_device)
		rc = allocate(f, FALLOC_FL_PUNCH_HOLE, r);
	else
		rc = ioctl(f->fd, BLKDISCARD, range) ? -errno : 0;
	return rc == -EOPNOTSUPP ? 0 : rc; /* it was a hint */
}

int file_disk_do(struct file_disk *f, struct disk_req *r, void *bounce)
{
	int rc = -EOPNOTSUPP;

	switch (r->op) {
	case DISK_READ:
	case DISK_WRITE:
		return do_transfer(f, r, bounce);
	case DISK_FLUSH:
		return fdatasync(f->fd) ? -errno : 0;
	case DISK_DISCARD:
		return discard(f, r);
	case DISK_ZERO_UNMAP:
		rc = allocate(f, FALLOC_FL_PUNCH_HOLE, r);
		break;
	case DISK_ZERO:
		break;
	}
	if (rc == -EOPNOTSUPP)
		rc = allocate(f, FALLOC_FL_ZERO_RANGE, r);
	/* Not every file system can, and a device may change its mind (EREMOTEIO, EIO). */
	return rc && rc != -ENOSPC ? write_zeroes(f, r) : rc;
}
