/* Theory of operation: opening asks everything that has an answer (what it is, its size, its blocks, who
 * else has it) and turns each "no" into a sentence.  The guest's bytes are never interpreted; an image
 * format is recognised only to say that it is none of ours. */
#include "backends/file_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "backends/file_sync.h"
#include "backends/file_uring.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#define PAGE 4096u

static int lock_image(int fd, const char *path, bool writer, struct err *e);
static void unlock_image(int fd);

/* --- opening --- */

static int open_error(const struct file_disk_config *c, int code, struct err *e)
{
	const char *p = c->path;

	switch (-code) {
	case ENOENT:
		return err_set(e, code, "there is no file %s\nMake an empty one: truncate -s 10G %s", p, p);
	case EACCES:
	case EPERM:
	case EROFS:
		if (!c->read_only && faccessat(AT_FDCWD, p, R_OK, AT_EACCESS) == 0)
			return err_set(e, code,
				       "%s may be read but not written (%s)\nGive it read-only: --disk "
				       "%s,ro",
				       p, strerror(-code), p);
		return err_set(e, code, "%s may not be opened by user %u (%s)\nSee who may: ls -l %s; id", p,
			       geteuid(), strerror(-code), p);
	case EBUSY:
	case ETXTBSY:
		return err_set(e, code, "the host itself uses %s (%s)\nUnmount it or swapoff it first", p,
			       strerror(-code));
	default:
		return err_set(e, code, "cannot open %s: %s", p, strerror(-code));
	}
}

static const char *kind(mode_t mode)
{
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISFIFO(mode))
		return "a named pipe";
	if (S_ISSOCK(mode))
		return "a socket";
	return "a character device";
}

static int open_image(struct file_disk *f, const struct file_disk_config *c, struct err *e)
{
	struct stat st;
	int fd;

	/* Looked at before it is opened: opening a pipe or a tape does something. */
	if (stat(c->path, &st))
		return open_error(c, -errno, e);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "%s is %s\nA disk is a raw image file or a block device%s", c->path,
			       kind(st.st_mode),
			       S_ISSOCK(st.st_mode) ? "; is it a back end's? --disk vhost-user,path=..." : "");
	fd = open(c->path, (c->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return open_error(c, -errno, e);
	f->fd = fd;
	if (fstat(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return err_set(e, -EINVAL, "%s was replaced while it was opened", c->path);
	/* io_uring takes O_NONBLOCK for a wish to fail instead of waiting. */
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK))
		return err_set(e, -errno, "%s: %s", c->path, strerror(errno));
	f->block_device = S_ISBLK(st.st_mode);
	if (f->block_device && !c->read_only) {
		/* Refused while the host has it mounted, in a RAID or as swap. */
		int probe = open(c->path, O_RDONLY | O_EXCL | O_CLOEXEC);

		if (probe < 0 && errno == EBUSY)
			return open_error(c, -EBUSY, e);
		if (probe >= 0)
			close(probe);
	}
	return 0;
}

static const struct format {
	unsigned at;
	const char *magic;
	unsigned len;
	const char *name;
	const char *qemu; /* its block driver there, or NULL */
} formats[] = {
	{0, "QFI\xfb", 4, "qcow2", "qcow2"},
	{0, "QED\0", 4, "QED", "qed"},
	{0, "KDMV", 4, "VMDK", "vmdk"},
	{0, "COWD", 4, "VMDK", "vmdk"},
	{0, "# Disk DescriptorFile", 21, "VMDK", "vmdk"},
	{0, "vhdxfile", 8, "VHDX", "vhdx"},
	{0, "conectix", 8, "VHD", "vpc"},
	{64, "\x7f\x10\xda\xbe", 4, "VDI", "vdi"},
	{0, "WithoutFreeSpace", 16, "Parallels", "parallels"},
	{0, "WithouFreSpacExt", 16, "Parallels", "parallels"},
	{0, "LUKS\xba\xbe", 6, "LUKS", "luks"},
	{0, "\x1f\x8b\x08", 3, "gzip", NULL},
	{0,
	 "\xfd"
	 "7zXZ\0",
	 6, "xz", NULL},
	{0, "\x28\xb5\x2f\xfd", 4, "zstd", NULL},
};

static int check_format(const struct file_disk *f, struct err *e)
{
	char head[512];
	ssize_t n = pread(f->fd, head, sizeof(head), 0);

	if (n < 0)
		return err_set(e, -errno, "cannot read %s: %s", f->path, strerror(errno));
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
		const struct format *m = &formats[i];

		if ((size_t)n < m->at + m->len || memcmp(head + m->at, m->magic, m->len))
			continue;
		if (!m->qemu)
			return err_set(e, -EMEDIUMTYPE,
				       "%s is compressed by %s; a disk is a raw image\nUnpack it, or if "
				       "these bytes are the disk: --disk %s,format=raw",
				       f->path, m->name, f->path);
		return err_set(e, -EMEDIUMTYPE,
			       "%s is in %s format; a disk is a raw image\n"
			       "Let QEMU read it for us:\n"
			       "  qemu-storage-daemon --blockdev file,node-name=f,filename=%s --blockdev "
			       "%s,node-name=d,file=f \\\n"
			       "    --export vhost-user-blk,id=x,node-name=d,writable=on,addr.type=unix,"
			       "addr.path=/tmp/d.sock\n"
			       "  ... --disk vhost-user,path=/tmp/d.sock\n"
			       "If these bytes are the disk (its guest wrote them): --disk %s,format=raw",
			       f->path, m->name, f->path, m->qemu, f->path);
	}
	return 0;
}

/* --- probing --- */

static int size_now(const struct file_disk *f, uint64_t *size)
{
	struct stat st;

	if (f->block_device)
		return ioctl(f->fd, BLKGETSIZE64, size) ? -errno : 0;
	if (fstat(f->fd, &st))
		return -errno;
	*size = (uint64_t)st.st_size;
	return 0;
}

static int probe_size(struct file_disk *f, struct err *e)
{
	uint64_t size;
	int rc = size_now(f, &size);

	if (rc)
		return err_set(e, rc, "cannot learn the size of %s: %s", f->path, strerror(-rc));
	if (!size)
		return err_set(e, -EINVAL, "%s is empty\n%s%s", f->path,
			       f->block_device ? "Is there a medium in the drive?"
					       : "Give it a size: truncate -s 10G ",
			       f->block_device ? "" : f->path);
	if (size < f->disk.block_size)
		return err_set(e, -EINVAL,
			       "%s has %llu bytes, less than a block of %u\nGive it a size: truncate -s "
			       "10G %s",
			       f->path, (unsigned long long)size, f->disk.block_size, f->path);
	if (size % f->disk.block_size)
		log_warn("--disk: the last %llu bytes of %s are out of the guest's reach: its size is no "
			 "multiple of %u",
			 (unsigned long long)(size % f->disk.block_size), f->path, f->disk.block_size);
	f->disk.size = size - size % f->disk.block_size;
	return 0;
}

/* A number that the kernel publishes about a block device's queue; 0 if it does not.  A partition has
 * its disk's. */
static uint64_t queue_limit(int fd, const char *name)
{
	static const char *const where[] = {"", "../"};
	unsigned long long n = 0;
	struct stat st;
	char path[128];

	if (fstat(fd, &st))
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(where); i++) {
		FILE *f;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(st.st_rdev),
			 minor(st.st_rdev), where[i], name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%llu", &n) != 1)
			n = 0;
		fclose(f);
		return n;
	}
	return 0;
}

static bool power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

static void probe_block_device(struct file_disk *f)
{
	struct disk *d = &f->disk;
	unsigned physical = 0, optimal = 0;
	int logical = 0;
	uint64_t granularity = queue_limit(f->fd, "discard_granularity");

	if (!ioctl(f->fd, BLKSSZGET, &logical) && logical >= 512 && power_of_two((unsigned)logical))
		d->block_size = (uint32_t)logical;
	d->physical_block_size = d->block_size;
	if (!ioctl(f->fd, BLKPBSZGET, &physical) && physical > d->block_size && physical <= 1u << 20 &&
	    power_of_two(physical))
		d->physical_block_size = physical;
	if (!ioctl(f->fd, BLKIOOPT, &optimal))
		d->optimal_io_size = optimal;
	if (!d->read_only && queue_limit(f->fd, "discard_max_bytes") && granularity <= 1u << 30)
		d->discard_granularity = (uint32_t)granularity;
}

static void probe_file(struct file_disk *f)
{
	struct disk *d = &f->disk;
	struct statfs fs;
	struct stat st;

	/* Whole pages spare the page cache a read before each write. */
	d->physical_block_size = PAGE;
	if (!fstatfs(f->fd, &fs))
		f->memory = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
	/* Behind the end there is nothing to lose. */
	if (!d->read_only && !fstat(f->fd, &st) &&
	    !fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (st.st_size + PAGE) & ~(off_t)(PAGE - 1), PAGE))
		d->discard_granularity =
			st.st_blksize >= 512 && st.st_blksize <= 1 << 20 ? (uint32_t)st.st_blksize : PAGE;
}

/* What O_DIRECT wants: asked, else tried. */
static int probe_direct(struct file_disk *f, struct err *e)
{
	uint32_t align = 0;
	struct statx sx;
	void *buf;

	if (fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) | O_DIRECT))
		return err_set(e, -errno, "the file system of %s cannot do direct I/O (%s)\nLeave direct out",
			       f->path, strerror(errno));
	f->direct = true;
	f->memory = false;
	if (!statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) && (sx.stx_mask & STATX_DIOALIGN) &&
	    power_of_two(sx.stx_dio_offset_align) && power_of_two(sx.stx_dio_mem_align)) {
		align = sx.stx_dio_offset_align;
		f->mem_align = sx.stx_dio_mem_align;
	} else if (!posix_memalign(&buf, PAGE, PAGE)) {
		for (align = f->disk.block_size; align < PAGE && pread(f->fd, buf, align, 0) < 0;)
			align *= 2;
		free(buf);
		f->mem_align = align;
	}
	if (!align || align > PAGE)
		return err_set(e, -EINVAL, "direct I/O on %s wants blocks of %u bytes\nLeave direct out",
			       f->path, align);
	f->len_align = align;
	if (align > f->disk.block_size) {
		log_warn("--disk: %s,direct: the guest sees blocks of %u bytes; partitions made for blocks of "
			 "%u are not found in them",
			 f->path, align, f->disk.block_size);
		f->disk.block_size = align;
	}
	if (f->disk.physical_block_size < f->disk.block_size)
		f->disk.physical_block_size = f->disk.block_size;
	return 0;
}

static int choose_engine(struct file_disk *f, enum file_aio aio, struct err *e)
{
	static _Atomic bool said;
	int rc = aio == FILE_AIO_SYNC ? 0 : file_uring_allowed();

	f->disk.ops = aio == FILE_AIO_SYNC || rc ? &file_sync_ops : &file_uring_ops;
	if (rc && aio == FILE_AIO_URING)
		return err_set(e, rc,
			       "aio=uring: this process may not use io_uring (%s)\nLeave aio= out, or see: "
			       "sysctl kernel.io_uring_disabled, and the container's seccomp profile",
			       strerror(-rc));
	if (rc && !atomic_exchange(&said, true))
		log_info("disks: no io_uring here (%s), aio=sync it is", strerror(-rc));
	return 0;
}

struct disk *file_disk_open(const struct file_disk_config *c, struct err *e)
{
	struct file_disk *f = calloc(1, sizeof(*f));
	int rc;

	if (!f || !(f->path = strdup(c->path))) {
		free(f);
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	f->fd = -1;
	f->mem_align = f->len_align = 1;
	f->disk.block_size = 512;
	f->disk.read_only = c->read_only;
	f->disk.write_zeroes = !c->read_only;
	rc = open_image(f, c, e);
	if (!rc) {
		if (f->block_device)
			probe_block_device(f);
		else
			probe_file(f);
		rc = c->raw ? 0 : check_format(f, e);
	}
	if (!rc && c->direct)
		rc = probe_direct(f, e);
	if (!rc)
		rc = probe_size(f, e);
	if (!rc)
		rc = choose_engine(f, c->aio, e);
	if (!rc)
		rc = lock_image(f->fd, f->path, !c->read_only, e);
	if (!rc)
		return &f->disk;
	file_disk_destroy(&f->disk);
	return NULL;
}

void file_disk_destroy(struct disk *d)
{
	struct file_disk *f = file_disk_of(d);

	if (f->fd >= 0) {
		unlock_image(f->fd); /* a ring on its way out may hold the file open */
		close(f->fd);
	}
	free(f->path);
	free(f);
}

int file_disk_refresh(struct disk *d)
{
	uint64_t size;
	int rc = size_now(file_disk_of(d), &size);

	if (rc)
		return rc;
	size -= size % d->block_size;
	if (atomic_exchange(&d->size, size) != size && d->resized)
		d->resized(d->opaque);
	return 0;
}

int file_disk_lock(struct disk *d, bool on)
{
	struct file_disk *f = file_disk_of(d);

	if (on)
		return lock_image(f->fd, f->path, !d->read_only, NULL);
	unlock_image(f->fd);
	return 0;
}

/* --- requests --- */

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

/* --- locking ---
 *
 * QEMU gives each use of an image (a permission) a number n and marks bytes of the file with shared locks:
 * byte 100 + n by who uses it so, byte 200 + n by who cannot bear others that do.  Nobody takes an
 * exclusive lock; who wants in sets its own marks and then asks whether an exclusive lock would be granted
 * on the opposite byte.  The locks belong to the open file description, so they end with it however we
 * end. */

#define USES_BASE  100
#define BARS_BASE  200
#define USE_READ   0 /* reads, and wants what it reads to be consistent */
#define USE_WRITE  1
#define LOCK_TRIES 50 /* of 10 ms */
#define BYTES_SPAN (BARS_BASE - USES_BASE + 64)

struct marks {
	unsigned uses, bars; /* bit per permission */
};

/* A reader bears other readers; nobody bears a writer beside. */
static struct marks marks_of(bool writer)
{
	return (struct marks){
		.uses = 1u << USE_READ | (writer ? 1u << USE_WRITE : 0),
		.bars = 1u << USE_WRITE,
	};
}

static int set(int fd, short type, off_t start, off_t len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

/* 1: somebody else has a lock there. */
static int taken(int fd, off_t at, pid_t *pid)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

	if (fcntl(fd, F_OFD_GETLK, &l))
		return -errno;
	if (l.l_type == F_UNLCK)
		return 0;
	*pid = l.l_pid; /* -1: an open file description's */
	return 1;
}

static int set_marks(int fd, struct marks m)
{
	int rc = 0;

	for (unsigned n = 0; n < 2 && !rc; n++) {
		if (m.uses & 1u << n)
			rc = set(fd, F_RDLCK, USES_BASE + (off_t)n, 1);
		if (!rc && m.bars & 1u << n)
			rc = set(fd, F_RDLCK, BARS_BASE + (off_t)n, 1);
	}
	return rc;
}

static int check_marks(int fd, struct marks m, pid_t *pid)
{
	int rc = 0;

	for (unsigned n = 0; n < 2 && !rc; n++) {
		if (m.uses & 1u << n)
			rc = taken(fd, BARS_BASE + (off_t)n, pid);
		if (!rc && m.bars & 1u << n)
			rc = taken(fd, USES_BASE + (off_t)n, pid);
	}
	return rc;
}

/* --- who it is: open file descriptions have no owner, but whoever holds one shows its locks --- */

static bool fdinfo_locks(const char *path, const char *id)
{
	char line[256];
	bool found = false;
	FILE *f = fopen(path, "re");

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "lock:", 5) && strstr(line, id);
	fclose(f);
	return found;
}

static bool process_locks(const char *pid, const char *id, int but_fd)
{
	char dir[64], file[sizeof(dir) + 256];
	bool found = false, self = (pid_t)strtol(pid, NULL, 10) == getpid();
	struct dirent *entry;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%.20s/fdinfo", pid);
	d = opendir(dir);
	while (d && !found && (entry = readdir(d))) {
		if (entry->d_name[0] == '.' || (self && (int)strtol(entry->d_name, NULL, 10) == but_fd))
			continue;
		snprintf(file, sizeof(file), "%s/%s", dir, entry->d_name);
		found = fdinfo_locks(file, id);
	}
	if (d)
		closedir(d);
	return found;
}

static pid_t find_holder(int fd)
{
	struct dirent *entry;
	struct stat st;
	pid_t pid = -1;
	char id[64];
	DIR *d;

	if (fstat(fd, &st))
		return -1;
	/* As /proc writes it: "1: OFDLCK ADVISORY READ -1 fd:00:1234 100 100". */
	snprintf(id, sizeof(id), " %02x:%02x:%llu ", major(st.st_dev), minor(st.st_dev),
		 (unsigned long long)st.st_ino);
	d = opendir("/proc");
	while (d && pid < 0 && (entry = readdir(d)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && process_locks(entry->d_name, id, fd))
			pid = (pid_t)strtol(entry->d_name, NULL, 10);
	if (d)
		closedir(d);
	return pid;
}

static void name_of(pid_t pid, char *name, size_t size)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f || !fgets(name, (int)size, f))
		snprintf(name, size, "?");
	name[strcspn(name, "\n")] = 0;
	if (f)
		fclose(f);
}

static int in_use(const char *path, bool writer, pid_t pid, struct err *e)
{
	const char *hint = writer ? "Stop it, give each its own copy, or share the image with ro on both sides"
				  : "Stop it, or give each its own copy: a file system that changes under a "
				    "reader makes no sense to it";
	char name[64];

	if (pid == getpid())
		return err_set(e, -EAGAIN,
			       "%s is given twice\nGive each disk its own copy, or share the image "
			       "with ro on both",
			       path);
	if (pid <= 0)
		return err_set(e, -EAGAIN, "%s is in use by another process\n%s", path, hint);
	name_of(pid, name, sizeof(name));
	return err_set(e, -EAGAIN, "%s is in use by process %d (%s)\n%s", path, (int)pid, name, hint);
}

static int try_lock(int fd, struct marks m, pid_t *pid)
{
	int rc = set_marks(fd, m);

	if (!rc)
		rc = check_marks(fd, m, pid);
	if (rc)
		unlock_image(fd);
	return rc;
}

/* 0 also where the file system has no such locks.  -EAGAIN: somebody else has it, who is in e. */
static int lock_image(int fd, const char *path, bool writer, struct err *e)
{
	struct marks m = marks_of(writer);
	pid_t pid = -1;
	int rc;

	/* A process that was killed is gone before its io_uring is, which holds the file open meanwhile. */
	for (unsigned i = 0; (rc = try_lock(fd, m, &pid)) == 1; i++) {
		if (pid <= 0)
			pid = find_holder(fd);
		if (pid > 0 || i == LOCK_TRIES)
			return in_use(path, writer, pid, e);
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	if (rc)
		log_info("%s: no image lock: %s", path, strerror(-rc));
	return 0;
}

static void unlock_image(int fd)
{
	set(fd, F_UNLCK, USES_BASE, BYTES_SPAN);
}
