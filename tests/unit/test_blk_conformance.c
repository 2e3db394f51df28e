/* What the specification demands of a block device, where no other test of it says so, down to the system
 * calls that make data stable: docs/conformance.md. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backends/file_disk.h"
#include "backends/file_uring.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/fake/fake_disk.h"

#define BIT(n)    (UINT64_C(1) << (n))
#define EVERY_BIT (~BIT(VIRTIO_F_RING_PACKED) & ~BIT(VIRTIO_F_IN_ORDER))
#define SIZE      (1u << 20)

static struct fake_disk *disk;
static struct blk_rig g;
static char buf[4096];

static void setup(void)
{
	log_set_level(LOG_ERROR);
	disk = fake_disk_new(SIZE);
	memset(&g, 0, sizeof(g));
}

static void teardown(void)
{
	if (g.dev)
		blk_rig_fini(&g);
	fake_disk_free(disk);
}

TestSuite(blk_conformance, .init = setup, .fini = teardown, .timeout = 60);

static uint64_t offered(void)
{
	return virtio_features(g.dev, 0) | (uint64_t)virtio_features(g.dev, 1) << 32;
}

Test(blk_conformance, offers_what_it_serves_and_no_more)
{
	g.nqueues = 2;
	blk_rig_init(&g, &disk->disk);
	cr_expect_eq(offered() & ~(BIT(50) - BIT(24)),
		     BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_TOPOLOGY) |
			     BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_MQ) |
			     BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES));
}

/* Header, data and ranges are the driver's: none of these bytes changes. */
static void reads_only(uint64_t features)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_DISCARD,
					 VIRTIO_BLK_T_WRITE_ZEROES, 99};

	blk_rig_init(&g, &disk->disk);
	cr_assert(blk_rig_live(&g, features));
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		struct virtio_blk_discard_write_zeroes seg = {.sector = 8, .num_sectors = 8};
		struct virtio_blk_outhdr hdr = {.type = types[i], .sector = i};
		gpa_t h = driver_mem_alloc(&g.m, 16, 16), d = driver_mem_alloc(&g.m, 512, 512);
		uint32_t len = types[i] == VIRTIO_BLK_T_OUT ? 512 : sizeof(seg);
		struct driver_buf b[3] = {{h, 16, false}, {d, len, false}, {0, 1, true}};
		uint32_t used;
		uint16_t id;

		b[2].addr = driver_mem_alloc(&g.m, 1, 1);
		memcpy(driver_mem_ptr(&g.m, h, 16), &hdr, 16);
		memset(buf, 0x3c, 512);
		memcpy(buf, &seg, sizeof(seg));
		memcpy(driver_mem_ptr(&g.m, d, 512), buf, 512);
		blk_rig_add(&g, 0, b, 3);
		cr_assert(blk_rig_wait(&g, 0, &id, &used));
		cr_expect_eq(used, 1);
		cr_expect_arr_eq(driver_mem_ptr(&g.m, h, 16), &hdr, 16);
		cr_expect_arr_eq(driver_mem_ptr(&g.m, d, 512), buf, 512);
	}
}

Test(blk_conformance, what_it_reads_it_does_not_write_split)
{
	reads_only(EVERY_BIT);
}

Test(blk_conformance, what_it_reads_it_does_not_write_packed)
{
	reads_only(EVERY_BIT | BIT(VIRTIO_F_RING_PACKED));
}

/* A read fills no more than its buffer: what lies before and after it stays. */
Test(blk_conformance, a_read_writes_its_own_buffers_only)
{
	gpa_t at;
	struct driver_buf b[3];
	const uint8_t *p;
	uint32_t used;
	uint16_t id;

	memset(disk->data, 0x77, SIZE);
	blk_rig_init(&g, &disk->disk);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	at = driver_mem_alloc(&g.m, 2048, 512);
	memset(driver_mem_ptr(&g.m, at, 2048), 0x11, 2048);
	b[0] = (struct driver_buf){driver_mem_alloc(&g.m, 16, 16), 16, false}; /* zeroes: read sector 0 */
	b[1] = (struct driver_buf){at + 512, 512, true};
	b[2] = (struct driver_buf){at + 1536, 1, true};
	blk_rig_add(&g, 0, b, 3);
	cr_assert(blk_rig_wait(&g, 0, &id, &used));
	cr_expect_eq(used, 513);
	p = driver_mem_ptr(&g.m, at, 2048);
	for (unsigned i = 0; i < 2048; i++)
		cr_assert_eq(p[i], i >= 512 && i < 1024 ? 0x77 : i == 1536 ? 0 : 0x11, "%u", i);
}

/* --- stable storage: what the kernel is asked for --- */

static _Atomic unsigned synced, durable_writes, other_writes;
static _Atomic int sync_error;

int fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int))(uintptr_t)dlsym(RTLD_NEXT, "fdatasync");

	synced++;
	if (sync_error) {
		errno = sync_error;
		return -1;
	}
	return real(fd);
}

static void note_write(int flags)
{
	if (flags & RWF_DSYNC)
		durable_writes++;
	else
		other_writes++;
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
	ssize_t (*real)(int, const struct iovec *, int, off_t, int) =
		(ssize_t(*)(int, const struct iovec *, int, off_t, int))(uintptr_t)dlsym(RTLD_NEXT, "pwritev2");

	note_write(flags);
	return real(fd, iov, n, at, flags);
}

/* What is about to be submitted. */
static void note_ring(struct io_uring *ring)
{
	for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
		struct io_uring_sqe *sqe = &ring->sq.sqes[i & *ring->sq.kring_mask];

		if (sqe->opcode == IORING_OP_WRITEV || sqe->opcode == IORING_OP_WRITE)
			note_write(sqe->rw_flags);
		if (sqe->opcode != IORING_OP_FSYNC)
			continue;
		synced++;
		if (sync_error) { /* no such descriptor: as good an error as any */
			sqe->flags &= (uint8_t)~IOSQE_FIXED_FILE;
			sqe->fd = -1;
		}
	}
}

int io_uring_submit(struct io_uring *ring)
{
	int (*real)(struct io_uring *) = (int (*)(struct io_uring *))(uintptr_t)dlsym(RTLD_NEXT, __func__);

	note_ring(ring);
	return real(ring);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned n)
{
	int (*real)(struct io_uring *, unsigned) =
		(int (*)(struct io_uring *, unsigned))(uintptr_t)dlsym(RTLD_NEXT, __func__);

	note_ring(ring);
	return real(ring, n);
}

static char path[] = "ringlet-test-XXXXXX";

static void open_file(enum file_aio engine)
{
	struct file_disk_config c = {.path = path, .aio = engine};
	struct err e = {0};
	struct statfs s;
	struct disk *d;
	int fd;

	if (engine == FILE_AIO_URING && file_uring_allowed())
		cr_skip_test("no io_uring here");
	if (!statfs(".", &s) && s.f_type == 0x01021994 /* tmpfs */)
		cr_skip_test("nothing is stable on a tmpfs");
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, SIZE), 0);
	close(fd);
	d = file_disk_open(&c, &e);
	unlink(path);
	cr_assert(d, "%s", e.text);
	blk_rig_init(&g, d);
}

static void stable(enum file_aio engine)
{
	open_file(engine);
	/* Neither FLUSH nor CONFIG_WCE: each write. */
	cr_assert(blk_rig_live(&g, EVERY_BIT & ~BIT(VIRTIO_BLK_F_FLUSH) & ~BIT(VIRTIO_BLK_F_CONFIG_WCE)));
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_OK);
	cr_expect_geq(durable_writes, 1);
	cr_expect_eq(other_writes, 0);

	/* FLUSH: what was written is stable when the flush is over. */
	blk_rig_reset(&g);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_OK);
	cr_expect_eq(synced, 0);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	cr_expect_eq(synced, 1);

	/* The answer is the system call's. */
	sync_error = EIO;
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(synced, 2);
	sync_error = 0;

	/* CONFIG_WCE: written through when the driver says so. */
	durable_writes = other_writes = 0;
	virtio_lock(g.dev);
	virtio_config_write(g.dev, offsetof(struct virtio_blk_config, wce), "", 1);
	virtio_unlock(g.dev);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_OK);
	cr_expect_geq(durable_writes, 1);
	cr_expect_eq(other_writes, 0);
}

Test(blk_conformance, writes_and_flushes_are_stable_when_they_end_sync)
{
	stable(FILE_AIO_SYNC);
}

Test(blk_conformance, writes_and_flushes_are_stable_when_they_end_uring)
{
	stable(FILE_AIO_URING);
}
