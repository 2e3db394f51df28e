/* Both engines under real files, by the same tests: test_file_uring.c and test_file_no_ring.c include it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/file_disk.h"
#include "backends/file_uring.h"
#include "lib/log.h"
#include "tests/fake/fake_disk.h"

#ifndef SUITE
#define SUITE  file_sync
#define ENGINE FILE_AIO_SYNC
#define NAME   "sync"
#endif
#ifndef PREPARE
#define PREPARE() ((void)0) /* before each disk is opened */
#endif
#define ENGINE_TEST_(suite, name) Test(suite, name)
#define ENGINE_TEST(name)         ENGINE_TEST_(SUITE, name)

#define EVERY_BIT (~(UINT64_C(1) << 34) & ~(UINT64_C(1) << 35))
#define SIZE      (1u << 20)

static char path[64];
static struct blk_rig g;
static struct disk *d;
static char buf[65536], want[65536];

/* dir: a file system of the kind that is wanted. */
static void make(const char *dir)
{
	int fd;

	snprintf(path, sizeof(path), "%s/ringlet-test-XXXXXX", dir);
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, SIZE), 0);
	close(fd);
}

static void setup(void)
{
	log_set_level(LOG_ERROR);
	memset(&g, 0, sizeof(g));
	if (ENGINE == FILE_AIO_URING && file_uring_allowed())
		cr_skip_test("no io_uring here");
	PREPARE();
}

static void teardown(void)
{
	if (g.dev)
		blk_rig_fini(&g);
	else if (d)
		d->ops->destroy(d);
	if (path[0])
		unlink(path);
}

static struct disk *open_disk(bool read_only, bool direct)
{
	struct file_disk_config c = {.path = path, .read_only = read_only, .direct = direct, .aio = ENGINE};
	struct err e = {0};

	d = file_disk_open(&c, &e);
	cr_assert(d, "%s", e.text);
	cr_assert_str_eq(d->ops->name, NAME);
	return d;
}

static void live(const char *dir)
{
	make(dir);
	blk_rig_init(&g, open_disk(false, false));
	cr_assert(blk_rig_live(&g, EVERY_BIT));
}

static void pattern(char *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (char)(i * 7 + seed + (i >> 9));
}

static void file_put(uint64_t at, const void *p, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	cr_assert_eq(pwrite(fd, p, len, (off_t)at), (ssize_t)len);
	close(fd);
}

static void file_get(uint64_t at, void *p, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert_eq(pread(fd, p, len, (off_t)at), (ssize_t)len);
	close(fd);
}

static uint8_t zero(uint32_t type, uint64_t sector, uint32_t n, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes seg = {.sector = sector, .num_sectors = n, .flags = flags};

	return blk_rig_do(&g, type, 0, &seg, sizeof(seg));
}

static const char *const places[] = {"/tmp", "/dev/shm"}; /* a disk's, a tmpfs */

ENGINE_TEST(data_goes_there_and_back)
{
	for (unsigned i = 0; i < 2; i++) {
		setup();
		live(places[i]);
		pattern(want, sizeof(want), i);
		memcpy(buf, want, sizeof(want));
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 8, buf, sizeof(buf)), VIRTIO_BLK_S_OK);
		memset(buf, 0, sizeof(buf));
		file_get(4096, buf, sizeof(buf));
		cr_expect_arr_eq(buf, want, sizeof(want));
		memset(buf, 0, sizeof(buf));
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 8, buf, sizeof(buf)), VIRTIO_BLK_S_OK);
		cr_expect_arr_eq(buf, want, sizeof(want));
		teardown();
		g.dev = NULL;
	}
	path[0] = 0;
	d = NULL;
}

ENGINE_TEST(durable_writes_and_flushes_work)
{
	setup();
	make("/tmp");
	blk_rig_init(&g, open_disk(false, false));
	cr_assert(blk_rig_live(&g, EVERY_BIT & ~(UINT64_C(1) << VIRTIO_BLK_F_FLUSH)));
	pattern(want, 4096, 9);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, want, 4096), VIRTIO_BLK_S_OK);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	cr_expect_eq(zero(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_OK);
	file_get(512, buf, 512);
	cr_expect_arr_eq(buf, want + 512, 512);
	teardown();
}

ENGINE_TEST(ranges_become_zero)
{
	static const struct {
		uint32_t type, flags;
	} how[] = {
		{VIRTIO_BLK_T_WRITE_ZEROES, 0},
		{VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP},
		{VIRTIO_BLK_T_DISCARD, 0},
	};

	for (unsigned p = 0; p < 2; p++) {
		setup();
		live(places[p]);
		for (unsigned i = 0; i < 3; i++) {
			memset(want, 0x5a, sizeof(want));
			file_put(0, want, sizeof(want));
			cr_expect_eq(zero(how[i].type, 16, 24, how[i].flags), VIRTIO_BLK_S_OK);
			memset(want + 8192, 0, 24 * 512);
			cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, buf, sizeof(buf)), VIRTIO_BLK_S_OK);
			cr_expect_arr_eq(buf, want, sizeof(want));
		}
		teardown();
		g.dev = NULL;
	}
	path[0] = 0;
	d = NULL;
}

ENGINE_TEST(a_discard_gives_space_back)
{
	struct stat before, after;

	setup();
	live("/tmp");
	memset(want, 1, sizeof(want));
	file_put(0, want, sizeof(want));
	stat(path, &before);
	cr_expect_eq(zero(VIRTIO_BLK_T_DISCARD, 0, 128, 0), VIRTIO_BLK_S_OK);
	stat(path, &after);
	cr_expect_lt(after.st_blocks, before.st_blocks);
	cr_expect_eq(after.st_size, SIZE);
	teardown();
}

ENGINE_TEST(a_read_past_the_end_of_a_truncated_file_fails)
{
	for (unsigned i = 0; i < 2; i++) {
		setup();
		live(places[i]);
		cr_assert_eq(truncate(path, 8192 + 100), 0);
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 64, buf, 4096), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 8, buf, 16384), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, buf, 8192), VIRTIO_BLK_S_OK);
		cr_expect_not(blk_rig_broken(&g));
		teardown();
		g.dev = NULL;
	}
	path[0] = 0;
	d = NULL;
}

ENGINE_TEST(a_full_file_system_fails_the_write_only)
{
	char dir[] = "/tmp/ringlet-full-XXXXXX";

	setup();
	cr_assert(mkdtemp(dir));
	if (mount("none", dir, "tmpfs", 0, "size=256k")) {
		rmdir(dir);
		cr_skip_test("needs root");
	}
	live(dir);
	for (unsigned i = 0; i < 16; i++)
		blk_rig_do(&g, VIRTIO_BLK_T_OUT, i * 128, buf, sizeof(buf));
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 2048 - 128, buf, sizeof(buf)), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_OK);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, buf, 4096), VIRTIO_BLK_S_OK);
	cr_expect_not(blk_rig_broken(&g));
	teardown();
	umount2(dir, MNT_DETACH);
	rmdir(dir);
}

ENGINE_TEST(a_file_size_limit_fails_the_write_only)
{
	struct rlimit limit = {.rlim_cur = 65536, .rlim_max = RLIM_INFINITY};

	setup();
	signal(SIGXFSZ, SIG_IGN);
	live("/tmp");
	setrlimit(RLIMIT_FSIZE, &limit);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 1024, buf, 4096), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 64, buf, sizeof(buf)), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_OK);
	teardown();
}

ENGINE_TEST(many_requests_at_a_time_reach_their_places)
{
	struct blk_rig_req r[20];
	uint16_t id;
	uint32_t len;

	for (unsigned p = 0; p < 2; p++) {
		setup();
		live(places[p]);
		for (unsigned round = 0; round < 20; round++) {
			for (unsigned i = 0; i < 20; i++) {
				unsigned at = (i * 37 + round) % 256;

				pattern(want, 512, at + round);
				r[i] = (struct blk_rig_req){.type = VIRTIO_BLK_T_OUT,
							    .sector = at,
							    .data = want,
							    .len = 512};
				blk_rig_send(&g, 0, &r[i]);
			}
			for (unsigned i = 0; i < 20; i++)
				cr_assert(blk_rig_wait(&g, 0, &id, &len));
			for (unsigned i = 0; i < 20; i++) {
				unsigned at = (i * 37 + round) % 256;

				pattern(want, 512, at + round);
				file_get(at * 512, buf, 512);
				cr_assert_arr_eq(buf, want, 512);
			}
		}
		teardown();
		g.dev = NULL;
	}
	path[0] = 0;
	d = NULL;
}

ENGINE_TEST(direct_io_takes_aligned_and_unaligned_buffers)
{
	struct driver_buf b[4];
	gpa_t h, at;
	uint16_t id;
	uint32_t len;

	setup();
	make("/tmp");
	blk_rig_init(&g, open_disk(false, true));
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	pattern(want, 8192, 4);
	memcpy(buf, want, 8192);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 8, buf, 8192), VIRTIO_BLK_S_OK);
	h = driver_mem_alloc(&g.m, 16, 16);
	at = driver_mem_alloc(&g.m, 8192 + 3, 4096) + 3;
	*(struct virtio_blk_outhdr *)driver_mem_ptr(&g.m, h, 16) =
		(struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = 8};
	b[0] = (struct driver_buf){h, 16, false};
	b[1] = (struct driver_buf){at, 1000, true};
	b[2] = (struct driver_buf){at + 1000, 8192 - 1000, true};
	b[3] = (struct driver_buf){driver_mem_alloc(&g.m, 1, 1), 1, true};
	blk_rig_add(&g, 0, b, 4);
	cr_assert(blk_rig_wait(&g, 0, &id, &len));
	cr_expect_eq(len, 8193);
	cr_expect_arr_eq(driver_mem_ptr(&g.m, at, 8192), want, 8192);
	/* ... and out of them. */
	memset(driver_mem_ptr(&g.m, at, 8192), 0x3c, 8192);
	*(struct virtio_blk_outhdr *)driver_mem_ptr(&g.m, h, 16) =
		(struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_OUT, .sector = 16};
	b[1].write = b[2].write = false;
	blk_rig_add(&g, 0, b, 4);
	cr_assert(blk_rig_wait(&g, 0, &id, &len));
	file_get(8192, buf, 8192);
	memset(want, 0x3c, 8192);
	cr_expect_arr_eq(buf, want, 8192);
	teardown();
}

ENGINE_TEST(resets_with_requests_in_flight_lose_nothing)
{
	struct blk_rig_req r[16];

	for (unsigned p = 0; p < 2; p++) {
		setup();
		live(places[p]);
		for (unsigned round = 0; round < 20; round++) {
			for (unsigned i = 0; i < 16; i++) {
				pattern(want, 4096, i + round);
				r[i] = (struct blk_rig_req){.type = VIRTIO_BLK_T_OUT,
							    .sector = i * 8,
							    .data = want,
							    .len = 4096};
				blk_rig_send(&g, 0, &r[i]);
			}
			blk_rig_reset(&g);
			driver_mem_fini(&g.m);
			driver_mem_init(&g.m);
			cr_assert(blk_rig_live(&g, EVERY_BIT));
		}
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, buf, 512), VIRTIO_BLK_S_OK);
		teardown();
		g.dev = NULL;
	}
	path[0] = 0;
	d = NULL;
}

ENGINE_TEST(a_read_only_file_is_read)
{
	setup();
	make("/tmp");
	pattern(want, 512, 5);
	file_put(512, want, 512);
	chmod(path, 0444);
	blk_rig_init(&g, open_disk(true, false));
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 1, buf, 512), VIRTIO_BLK_S_OK);
	cr_expect_arr_eq(buf, want, 512);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 1, buf, 512), VIRTIO_BLK_S_IOERR);
	teardown();
}

ENGINE_TEST(a_resized_file_is_noticed_when_asked)
{
	struct virtio_blk_config c;

	setup();
	live("/tmp");
	cr_assert_eq(truncate(path, 2 * SIZE + 100), 0);
	cr_expect_eq(d->ops->refresh(d), 0);
	cr_expect_eq(g.ft.config_irqs, 1);
	blk_rig_config(&g, &c);
	cr_expect_eq(c.capacity, 2 * SIZE / 512);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 2 * SIZE / 512 - 1, buf, 512), VIRTIO_BLK_S_OK);
	teardown();
}

/* --- a lane by itself --- */

struct one {
	struct disk_req r;
	struct iovec iov;
	int err;
	bool done;
};
static unsigned batches;

static void on_done(struct disk_req *r, int err)
{
	((struct one *)(void *)r)->err = err;
	((struct one *)(void *)r)->done = true;
}

static void on_batch(void *opaque)
{
	(void)opaque;
	batches++;
}

static void submit_one(struct disk_lane *l, struct one *o, enum disk_op op, uint64_t at, void *p, size_t len)
{
	*o = (struct one){
		.r = {.op = op, .offset = at, .len = len, .iov = &o->iov, .iovcnt = 1, .done = on_done},
		.iov = {.iov_base = p, .iov_len = len}};
	d->ops->submit(l, &o->r);
	cr_assert_not(o->done);
}

ENGINE_TEST(a_cached_read_is_done_when_commit_returns)
{
	const struct disk_client client = {.batch = on_batch};
	struct evloop *loop = evloop_new();
	struct disk_lane *l;
	struct one o[32];

	for (unsigned p = 0; p < 2; p++) {
		setup();
		make(places[p]);
		memset(want, 0x21, sizeof(want));
		file_put(0, want, sizeof(want));
		open_disk(false, false);
		l = d->ops->lane(d, loop, 32, &client);
		cr_assert(l);
		batches = 0;
		for (unsigned i = 0; i < 32; i++)
			submit_one(l, &o[i], DISK_READ, i * 512, buf + i * 512, 512);
		d->ops->commit(l);
		for (unsigned i = 0; i < 32; i++)
			cr_expect(o[i].done && !o[i].err);
		cr_expect_eq(batches, 1);
		cr_expect_arr_eq(buf, want, 32 * 512);
		d->ops->lane_free(l);
		d->ops->destroy(d);
		d = NULL;
		unlink(path);
	}
	path[0] = 0;
	evloop_free(loop);
}

ENGINE_TEST(drain_returns_with_everything_done)
{
	const struct disk_client client = {.batch = on_batch};
	struct evloop *loop = evloop_new();
	struct disk_lane *l;
	struct one o[4];

	setup();
	make("/tmp");
	open_disk(false, false);
	l = d->ops->lane(d, loop, 32, &client);
	cr_assert(l);
	submit_one(l, &o[0], DISK_WRITE, 0, want, 4096);
	submit_one(l, &o[1], DISK_FLUSH, 0, NULL, 0);
	submit_one(l, &o[2], DISK_DISCARD, 8192, NULL, 4096);
	submit_one(l, &o[3], DISK_READ, SIZE - 4096, buf, 4096);
	d->ops->commit(l);
	d->ops->drain(l);
	for (unsigned i = 0; i < 4; i++)
		cr_expect(o[i].done && !o[i].err);
	d->ops->lane_free(l);
	teardown();
	evloop_free(loop);
}

struct chain {
	struct one o;
	struct disk_lane *l;
	unsigned left;
};

static void on_link(struct disk_req *r, int err)
{
	struct chain *c = (struct chain *)(void *)r;
	static const enum disk_op ops[] = {DISK_FLUSH, DISK_ZERO, DISK_READ, DISK_WRITE};

	cr_assert_eq(err, 0);
	if (!c->left--) {
		c->o.done = true;
		return;
	}
	c->o.iov = (struct iovec){.iov_base = buf, .iov_len = 512};
	c->o.r = (struct disk_req){.op = ops[c->left % 4],
				   .offset = 512,
				   .len = ops[c->left % 4] == DISK_FLUSH ? 0 : 512,
				   .iov = &c->o.iov,
				   .iovcnt = 1,
				   .done = on_link};
	d->ops->submit(c->l, &c->o.r);
}

/* What done() submits needs no commit(), whichever way the one and the other go. */
ENGINE_TEST(done_may_submit_again)
{
	const struct disk_client client = {.batch = on_batch};
	struct evloop *loop = evloop_new();
	struct chain c = {.left = 40};

	for (unsigned p = 0; p < 2; p++) {
		setup();
		make(places[p]);
		open_disk(false, false);
		c = (struct chain){.left = 40};
		c.l = d->ops->lane(d, loop, 1, &client);
		cr_assert(c.l);
		on_link(&c.o.r, 0);
		d->ops->commit(c.l);
		d->ops->drain(c.l);
		cr_expect(c.o.done);
		d->ops->lane_free(c.l);
		d->ops->destroy(d);
		d = NULL;
		unlink(path);
	}
	path[0] = 0;
	evloop_free(loop);
}
