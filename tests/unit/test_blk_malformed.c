/* Requests that no good driver sends: each costs itself at most, a chain without room for an answer its
 * queue, and nothing anybody else. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "lib/log.h"
#include "tests/fake/fake_disk.h"
#include "tests/unit/open_fds.h"
#include "tests/unit/teardown.h"

#define BIT(n)    (UINT64_C(1) << (n))
#define EVERY_BIT (~BIT(VIRTIO_F_RING_PACKED) & ~BIT(VIRTIO_F_IN_ORDER))
#define SIZE      (1u << 20)
#define SECTORS   (SIZE / 512)

static struct fake_disk *disk;
static struct blk_rig g;
static char buf[4096];

static void setup(void)
{
	log_set_level(LOG_ERROR);
	disk = fake_disk_new(SIZE);
	memset(&g, 0, sizeof(g));
	g.queue_size = 512;
	blk_rig_init(&g, &disk->disk);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
}

static void teardown(void)
{
	blk_rig_fini(&g);
	cr_expect_eq(disk->mistakes, 0);
	fake_disk_free(disk);
}

TestSuite(blk_malformed, .init = setup, .fini = teardown_once, .timeout = 60);

static void works(void)
{
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 1, buf, 512), VIRTIO_BLK_S_OK);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 1, buf, 512), VIRTIO_BLK_S_OK);
	cr_expect_not(blk_rig_broken(&g));
}

/* Sends the chain; its last writable byte. */
static uint8_t chain(const struct driver_buf *b, unsigned n, uint32_t *used)
{
	uint8_t *status = NULL;
	uint16_t id, want;
	uint32_t len = 0;

	for (unsigned i = 0; i < n; i++)
		if (b[i].write && b[i].len)
			status = driver_mem_ptr(&g.m, b[i].addr + b[i].len - 1, 1);
	cr_assert(status);
	*status = 0xee;
	want = blk_rig_add(&g, 0, b, n);
	if (!blk_rig_wait(&g, 0, &id, &len))
		return 0xee;
	cr_expect_eq(id, want);
	if (used)
		*used = len;
	return *status;
}

static gpa_t header(uint32_t type, uint64_t sector)
{
	gpa_t at = driver_mem_alloc(&g.m, 16, 16);

	*(struct virtio_blk_outhdr *)driver_mem_ptr(&g.m, at, 16) =
		(struct virtio_blk_outhdr){.type = type, .sector = sector};
	return at;
}

static gpa_t data(size_t len, uint8_t fill)
{
	gpa_t at = driver_mem_alloc(&g.m, len, 512);

	memset(driver_mem_ptr(&g.m, at, len), fill, len);
	return at;
}

/* --- any layout (2.7.4.1, 2.8.14): how descriptors cut a request means nothing --- */

WholeTest(blk_malformed, header_in_descriptors_of_one_byte)
{
	struct driver_buf b[18];
	gpa_t h = header(VIRTIO_BLK_T_OUT, 3);

	for (unsigned i = 0; i < 16; i++)
		b[i] = (struct driver_buf){h + i, 1, false};
	b[16] = (struct driver_buf){data(512, 0x77), 512, false};
	b[17] = (struct driver_buf){data(1, 0), 1, true};
	cr_expect_eq(chain(b, 18, NULL), VIRTIO_BLK_S_OK);
	cr_expect_eq(disk->data[3 * 512], 0x77);
	cr_expect_eq(disk->data[3 * 512 + 511], 0x77);
}

WholeTest(blk_malformed, header_and_data_in_one_descriptor)
{
	gpa_t at = driver_mem_alloc(&g.m, 16 + 1024, 16);
	struct driver_buf b[2] = {{at, 16 + 1024, false}, {data(1, 0), 1, true}};

	*(struct virtio_blk_outhdr *)driver_mem_ptr(&g.m, at, 16) =
		(struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_OUT, .sector = 5};
	memset(driver_mem_ptr(&g.m, at + 16, 1024), 0x66, 1024);
	cr_expect_eq(chain(b, 2, NULL), VIRTIO_BLK_S_OK);
	cr_expect_eq(disk->data[5 * 512], 0x66);
	cr_expect_eq(disk->data[5 * 512 + 1023], 0x66);
}

WholeTest(blk_malformed, status_at_the_end_of_the_data)
{
	gpa_t at = data(1025, 0);
	struct driver_buf b[2] = {{header(VIRTIO_BLK_T_IN, 2), 16, false}, {at, 1025, true}};
	uint32_t used;

	memset(disk->data + 1024, 0x44, 1024);
	cr_expect_eq(chain(b, 2, &used), VIRTIO_BLK_S_OK);
	cr_expect_eq(used, 1025);
	cr_expect_eq(*(uint8_t *)driver_mem_ptr(&g.m, at, 1), 0x44);
	cr_expect_eq(*(uint8_t *)driver_mem_ptr(&g.m, at + 1023, 1), 0x44);
}

WholeTest(blk_malformed, empty_pieces_after_the_status)
{
	gpa_t at = data(513, 0);
	struct driver_buf b[4] = {{header(VIRTIO_BLK_T_IN, 0), 16, false},
				  {at, 513, true},
				  {at, 0, true},
				  {at, 0, true}};
	uint32_t used;

	disk->data[511] = 0x17;
	cr_expect_eq(chain(b, 4, &used), VIRTIO_BLK_S_OK);
	cr_expect_eq(used, 513);
	cr_expect_eq(*(uint8_t *)driver_mem_ptr(&g.m, at + 511, 1), 0x17);
}

WholeTest(blk_malformed, data_in_odd_pieces)
{
	gpa_t in = data(512, 0);
	struct driver_buf b[5] = {{header(VIRTIO_BLK_T_IN, 0), 16, false},
				  {in, 1, true},
				  {in + 1, 300, true},
				  {in + 301, 211, true},
				  {data(1, 0), 1, true}};

	for (unsigned i = 0; i < 512; i++)
		disk->data[i] = (uint8_t)i;
	cr_expect_eq(chain(b, 5, NULL), VIRTIO_BLK_S_OK);
	cr_expect_arr_eq(driver_mem_ptr(&g.m, in, 512), disk->data, 512);
}

WholeTest(blk_malformed, as_many_segments_as_seg_max_says)
{
	struct driver_buf b[256];
	struct virtio_blk_config c;

	blk_rig_config(&g, &c);
	cr_assert_eq(c.seg_max, 254);
	b[0] = (struct driver_buf){header(VIRTIO_BLK_T_OUT, 0), 16, false};
	for (unsigned i = 0; i < 254; i++)
		b[1 + i] = (struct driver_buf){data(512, (uint8_t)i), 512, false};
	b[255] = (struct driver_buf){data(1, 0), 1, true};
	cr_expect_eq(chain(b, 256, NULL), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 254; i++)
		cr_assert_eq(disk->data[i * 512], i);
}

/* --- no answer possible --- */

static void breaks(const struct driver_buf *b, unsigned n)
{
	uint16_t id;
	uint32_t len;

	blk_rig_add(&g, 0, b, n);
	cr_expect_not(blk_rig_wait(&g, 0, &id, &len));
	cr_expect(blk_rig_broken(&g));
	blk_rig_reset(&g);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	works();
}

WholeTest(blk_malformed, a_chain_without_a_writable_byte_breaks_the_queue)
{
	breaks((struct driver_buf[]){{header(VIRTIO_BLK_T_FLUSH, 0), 16, false}}, 1);
}

WholeTest(blk_malformed, a_chain_with_more_pieces_than_a_request_may_have_breaks_the_queue)
{
	struct driver_buf b[400];

	b[0] = (struct driver_buf){header(VIRTIO_BLK_T_IN, 0), 16, false};
	for (unsigned i = 1; i < 400; i++)
		b[i] = (struct driver_buf){data(16, 0), 16, true};
	breaks(b, 400);
}

WholeTest(blk_malformed, data_outside_of_ram_breaks_the_queue)
{
	breaks((struct driver_buf[]){{header(VIRTIO_BLK_T_IN, 0), 16, false},
				     {DRIVER_MEM_LOW_END, 512, true},
				     {data(1, 0), 1, true}},
	       3);
}

WholeTest(blk_malformed, a_length_beyond_ram_breaks_the_queue)
{
	breaks((struct driver_buf[]){{header(VIRTIO_BLK_T_IN, 0), 16, false},
				     {data(512, 0), UINT32_MAX, true},
				     {data(1, 0), 1, true}},
	       3);
}

WholeTest(blk_malformed, what_came_before_a_broken_chain_is_done)
{
	struct driver_buf good[3] = {{header(VIRTIO_BLK_T_OUT, 0), 16, false},
				     {data(512, 0x31), 512, false},
				     {data(1, 0), 1, true}};
	struct driver_buf bad = {header(VIRTIO_BLK_T_FLUSH, 0), 16, false};

	cr_assert_geq(driver_ring_add(&g.ring[0], good, 3), 0);
	blk_rig_add(&g, 0, &bad, 1);
	while (!blk_rig_broken(&g))
		sched_yield();
	blk_rig_reset(&g);
	cr_expect_eq(disk->data[0], 0x31);
}

/* --- requests that fail --- */

WholeTest(blk_malformed, a_short_header_fails)
{
	struct driver_buf b[2] = {{header(VIRTIO_BLK_T_IN, 0), 15, false}, {data(513, 0), 513, true}};
	uint32_t used;

	cr_expect_eq(chain(b, 2, &used), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(used, 1);
	works();
}

WholeTest(blk_malformed, no_header_fails)
{
	struct driver_buf b = {data(513, 0), 513, true};

	cr_expect_eq(chain(&b, 1, NULL), VIRTIO_BLK_S_IOERR);
	works();
}

WholeTest(blk_malformed, types_it_does_not_know_are_unsupported)
{
	/* SCSI (2, 3), lifetime, secure erase, zones, the legacy barrier bit, anything else. */
	static const uint32_t types[] = {
		2,  3,  5,  7,  9,  10, 12, 14, 15,         16,         17,    18,         19,
		20, 21, 22, 23, 24, 25, 26, 27, 0x80000000, 0x80000001, 0x100, UINT32_MAX,
	};

	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		cr_expect_eq(blk_rig_do(&g, types[i], 0, buf, 512), VIRTIO_BLK_S_UNSUPP, "%u", types[i]);
	cr_expect_eq(disk->nlog, 0);
	works();
}

WholeTest(blk_malformed, zone_requests_are_unsupported)
{
	for (uint32_t type = 16; type <= 26; type += 2)
		cr_expect_eq(blk_rig_do(&g, type, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
}

WholeTest(blk_malformed, sectors_beyond_the_end_fail)
{
	static const uint64_t sectors[] = {
		SECTORS,
		SECTORS + 1,
		UINT64_C(1) << 54,
		UINT64_C(1) << 55,
		(UINT64_C(1) << 55) - 1,
		UINT64_C(1) << 63,
		UINT64_MAX / 512,
		UINT64_MAX / 512 + 1,
		UINT64_MAX,
		UINT64_MAX - 7,
	};

	for (unsigned i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, sectors[i], buf, 4096), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, sectors[i], buf, 4096), VIRTIO_BLK_S_IOERR);
	}
	cr_expect_eq(disk->nlog, 0);
	works();
}

WholeTest(blk_malformed, a_request_across_the_end_fails)
{
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, SECTORS - 7, buf, 4096), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, SECTORS - 8, buf, 4096), VIRTIO_BLK_S_OK);
	cr_expect_eq(disk->nlog, 1);
}

WholeTest(blk_malformed, data_that_is_no_multiple_of_a_sector_fails)
{
	static const uint32_t lens[] = {1, 511, 513, 1023, 4095};

	for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, buf, lens[i]), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, lens[i]), VIRTIO_BLK_S_IOERR);
	}
	cr_expect_eq(disk->nlog, 0);
	works();
}

WholeTest(blk_malformed, requests_that_cut_a_larger_block_fail)
{
	disk->disk.block_size = 4096;
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 1, buf, 4096), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 8, buf, 512), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 8, buf, 4096), VIRTIO_BLK_S_OK);
	cr_expect_eq(disk->nlog, 1);
}

WholeTest(blk_malformed, no_data_is_no_work)
{
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, NULL, 0), VIRTIO_BLK_S_OK);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, SECTORS, NULL, 0), VIRTIO_BLK_S_OK);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, SECTORS + 1, NULL, 0), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(disk->nlog, 0);
}

WholeTest(blk_malformed, flush_ignores_a_sector_and_data)
{
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_FLUSH, UINT64_MAX, buf, 77), VIRTIO_BLK_S_OK);
	cr_expect_eq(fake_disk_count(disk, DISK_FLUSH), 1);
}

WholeTest(blk_malformed, get_id_into_a_short_buffer_fills_it)
{
	struct blk_rig_req r = {.type = VIRTIO_BLK_T_GET_ID, .data = buf, .len = 5};

	blk_rig_send(&g, 0, &r);
	cr_expect_eq(blk_rig_result(&g, 0, &r), VIRTIO_BLK_S_OK);
	cr_expect_eq(r.used_len, 6);
}

WholeTest(blk_malformed, get_id_into_a_long_buffer_writes_20_bytes)
{
	struct blk_rig_req r = {.type = VIRTIO_BLK_T_GET_ID, .data = buf, .len = 64};

	memset(buf, 'x', sizeof(buf));
	blk_rig_send(&g, 0, &r);
	cr_expect_eq(blk_rig_result(&g, 0, &r), VIRTIO_BLK_S_OK);
	cr_expect_eq(r.used_len, 21);
	cr_expect_eq(buf[19], 0);
	cr_expect_eq(buf[20], 'x');
}

/* --- ranges --- */

static uint8_t range(uint32_t type, uint64_t sector, uint32_t n)
{
	struct virtio_blk_discard_write_zeroes seg = {.sector = sector, .num_sectors = n};

	return blk_rig_do(&g, type, 0, &seg, sizeof(seg));
}

static const uint32_t range_types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};

WholeTest(blk_malformed, ranges_beyond_the_end_fail)
{
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(range(range_types[i], SECTORS, 1), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(range(range_types[i], SECTORS - 1, 2), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(range(range_types[i], UINT64_C(1) << 55, 1), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(range(range_types[i], UINT64_MAX, 1), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(range(range_types[i], UINT64_MAX - 7, 16), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(range(range_types[i], 0, UINT32_MAX), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(range(range_types[i], 1, 1u << 23), VIRTIO_BLK_S_IOERR);
	}
	cr_expect_eq(disk->nlog, 0);
	works();
}

WholeTest(blk_malformed, ranges_larger_than_the_maximum_fail)
{
	struct virtio_blk_config c;

	disk->disk.size = UINT64_C(1) << 40;
	blk_rig_config(&g, &c);
	cr_expect_eq(range(VIRTIO_BLK_T_DISCARD, 0, c.max_discard_sectors + 1), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(range(VIRTIO_BLK_T_WRITE_ZEROES, 0, c.max_write_zeroes_sectors + 1), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(disk->nlog, 0);
}

WholeTest(blk_malformed, ranges_that_cut_a_larger_block_fail)
{
	disk->disk.block_size = 4096;
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(range(range_types[i], 1, 8), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(range(range_types[i], 8, 1), VIRTIO_BLK_S_IOERR);
	}
	cr_expect_eq(disk->nlog, 0);
}

WholeTest(blk_malformed, an_empty_range_is_no_work)
{
	for (unsigned i = 0; i < 2; i++)
		cr_expect_eq(range(range_types[i], 0, 0), VIRTIO_BLK_S_OK);
	cr_expect_eq(disk->nlog, 0);
}

WholeTest(blk_malformed, ranges_of_a_wrong_size_fail)
{
	static const uint32_t lens[] = {0, 1, 15, 17, 31, 16 * 17, 4096};

	memset(buf, 0, sizeof(buf));
	for (unsigned t = 0; t < 2; t++)
		for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
			cr_expect_eq(blk_rig_do(&g, range_types[t], 0, buf, lens[i]), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(disk->nlog, 0);
	works();
}

WholeTest(blk_malformed, one_bad_range_spoils_the_request_before_it_starts)
{
	struct virtio_blk_discard_write_zeroes seg[2] = {{.num_sectors = 8},
							 {.sector = SECTORS, .num_sectors = 1}};

	for (unsigned i = 0; i < 2; i++)
		cr_expect_eq(blk_rig_do(&g, range_types[i], 0, seg, sizeof(seg)), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(disk->nlog, 0);
}

/* --- many of them --- */

WholeTest(blk_malformed, thousands_of_bad_requests_cost_nothing_and_the_queue_works)
{
	struct driver_buf short_header[2] = {{header(VIRTIO_BLK_T_IN, 0), 3, false}, {data(1, 0), 1, true}};
	struct driver_buf far[3] = {{header(VIRTIO_BLK_T_IN, UINT64_MAX), 16, false},
				    {data(512, 0), 512, true},
				    {data(1, 0), 1, true}};
	struct driver_buf unknown[2] = {{header(99, 0), 16, false}, {data(1, 0), 1, true}};
	unsigned fds = open_fds();

	for (unsigned i = 0; i < 1000; i++) {
		cr_assert_eq(chain(short_header, 2, NULL), VIRTIO_BLK_S_IOERR);
		cr_assert_eq(chain(far, 3, NULL), VIRTIO_BLK_S_IOERR);
		cr_assert_eq(chain(unknown, 2, NULL), VIRTIO_BLK_S_UNSUPP);
	}
	cr_expect_eq(open_fds(), fds);
	works();
}

/* Two chains with one head while the first is with the disk: the second must not get at the first's
 * request. */
WholeTest(blk_malformed, a_head_that_is_in_flight_breaks_the_queue)
{
	struct driver_buf b[3] = {{header(VIRTIO_BLK_T_IN, 0), 16, false},
				  {data(512, 0), 512, true},
				  {data(1, 0), 1, true}};
	uint16_t head;

	disk->hold = true;
	head = blk_rig_add(&g, 0, b, 3);
	while (disk->held < 1)
		sched_yield();
	driver_ring_offer(&g.ring[0], head);
	if (driver_ring_kick(&g.ring[0]))
		eventfd_write(g.ft.queue[0].kick_fd, 1);
	while (!blk_rig_broken(&g))
		sched_yield();
	cr_expect_eq(disk->nlog, 1);
	blk_rig_reset(&g);
	cr_expect_eq(disk->held, 0);
}
