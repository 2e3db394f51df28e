/* #syscalls[setup]: openat
 * #syscalls[main]: fcntl:1==F_GETFL fcntl:1==F_SETFL pread64 statx fstatfs lseek
 * #ioctls[main]: BLKGETSIZE64 BLKSSZGET BLKPBSZGET BLKIOOPT */
/* Theory of operation: opening asks everything that has an answer (what it is, its size, its blocks, who
 * else has it) and turns each "no" into a sentence.  The guest's bytes are never interpreted; an image
 * format is recognised only to say that it is none of ours. */
#include "backends/file_disk.h"

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
#include <sys/vfs.h>
#include <unistd.h>

#include "backends/file_lock.h"
#include "backends/file_sync.h"
#include "backends/file_uring.h"
#include "lib/cleanup.h"
#include "lib/confine.h"
#include "lib/log.h"

#define PAGE 4096u

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

static int check_kind(const struct file_disk_config *c, const struct stat *st, struct err *e)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	return err_set(e, -EINVAL, "%s is %s\nA disk is a raw image file or a block device%s", c->path,
		       kind(st->st_mode),
		       S_ISSOCK(st->st_mode) ? "; is it a back end's? --disk vhost-user,path=..." : "");
}

static int open_image(struct file_disk *f, const struct file_disk_config *c, struct err *e)
{
	const int flags = (c->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	struct stat st;
	int fd, rc;

	/* Looked at before it is opened: opening a pipe or a tape does something. */
	if (c->fd ? fstat(f->fd, &st) : stat(c->path, &st))
		return open_error(c, -errno, e);
	rc = check_kind(c, &st, e);
	if (rc)
		return rc;
	if (!c->fd)
		f->fd = open(c->path, flags);
	if (f->fd < 0)
		return open_error(c, -errno, e);
	fd = f->fd;
	if (fstat(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return err_set(e, -EINVAL, "%s was replaced while it was opened", c->path);
	/* io_uring takes O_NONBLOCK for a wish to fail instead of waiting. */
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK))
		return err_set(e, -errno, "%s: %s", c->path, strerror(errno));
	f->block_device = S_ISBLK(st.st_mode);
	if (f->block_device && !c->read_only && !confine_is_on()) { /* else the client has looked */
		char same[32];
		int probe;

		/* Refused while the host has it mounted, in a RAID or as swap. */
		snprintf(same, sizeof(same), "/proc/self/fd/%d", fd);
		probe = open(same, O_RDONLY | O_EXCL | O_CLOEXEC);

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

	if (confine_is_on()) /* a discard that the device does not know does nothing */
		return !strcmp(name, "discard_max_bytes");
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
		if (c->fd)
			close(*c->fd);
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	f->fd = c->fd ? *c->fd : -1;
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
		rc = file_lock(f->fd, f->path, !c->read_only, e);
	if (!rc)
		return &f->disk;
	file_disk_destroy(&f->disk);
	return NULL;
}

void file_disk_destroy(struct disk *d)
{
	struct file_disk *f = file_disk_of(d);

	if (f->fd >= 0) {
		file_unlock(f->fd); /* a ring on its way out may hold the file open */
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
		return file_lock(f->fd, f->path, !d->read_only, NULL);
	file_unlock(f->fd);
	return 0;
}
