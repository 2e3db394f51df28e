/* The disk server over a disk of each kind, and whole requests to it. */
#ifndef TEST_SERVER_BLK_DISKS_H
#define TEST_SERVER_BLK_DISKS_H
#include <fcntl.h>
#include <stdlib.h>

#include "backends/file_disk.h"
#include "lib/log.h"
#include "servers/blk_memory.h"
#include "tests/fake/fake_disk.h"
#include "tests/unit/test_server_blk_rig.h"

#define MIB     (1u << 20)
#define SIZE    (4 * MIB)
#define SECTORS (SIZE / 512)

static struct disk *disk;
static char file[64];
static struct blk_server_config config;

static inline void init(void)
{
	log_set_level(LOG_ERROR);
	config = (struct blk_server_config){.nqueues = 1, .serial = "the serial"};
}

static inline void fini(void)
{
	blk_server_free(rig.server);
	if (disk)
		disk->ops->destroy(disk);
	if (*file)
		unlink(file);
}

static inline void serve(void)
{
	config.disk = disk;
	serve_disk(config);
}

static inline void memory(void)
{
	disk = blk_memory_new(SIZE, NULL);
	config.in_order = true;
	serve();
}

static inline void open_file(struct file_disk_config c)
{
	struct err e = {0};
	int fd;

	snprintf(file, sizeof(file), "/tmp/test-server-blk-%d.img", getpid());
	fd = open(file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	cr_assert(fd >= 0 && !ftruncate(fd, SIZE));
	close(fd);
	c.path = file;
	disk = file_disk_open(&c, &e);
	cr_assert(disk, "%s", e.text);
	serve();
}

static inline struct fake_disk *fake(void)
{
	struct fake_disk *f = fake_disk_new(SIZE);

	config.disk = &f->disk;
	serve_disk(config);
	return f;
}

static inline void read_is(const struct req *r, uint64_t sector, uint32_t seed)
{
	uint32_t used = 0;

	memset(data_of(r), 0xaa, r->len);
	cr_assert_eq(request(0, r, VIRTIO_BLK_T_IN, sector, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, r->len + 1);
	cr_assert(seed ? holds(data_of(r), r->len, seed) : is_zero(data_of(r), r->len), "sector %llu",
		  (unsigned long long)sector);
}

static inline void write_as(const struct req *r, uint64_t sector, uint32_t seed)
{
	uint32_t used = 0;

	fill(data_of(r), r->len, seed);
	cr_assert_eq(request(0, r, VIRTIO_BLK_T_OUT, sector, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, 1);
}

static inline uint8_t ranges(uint32_t type, const struct virtio_blk_discard_write_zeroes *g, unsigned n)
{
	struct req r = req_new((uint32_t)(n * sizeof(*g)));

	memcpy(data_of(&r), g, r.len);
	return request(0, &r, type, 0, NULL);
}
#endif
