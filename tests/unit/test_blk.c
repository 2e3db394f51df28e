/* The block device (virtio 1.3, 5.2) over a disk that does as it is told. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "devices/blk/blk_queue.h"
#include "lib/log.h"
#include "tests/fake/fake_disk.h"
#include "tests/unit/teardown.h"

#define BIT(n)    (UINT64_C(1) << (n))
#define EVERY_BIT (~BIT(VIRTIO_F_RING_PACKED) & ~BIT(VIRTIO_F_IN_ORDER))
#define SIZE      (1u << 20)

static struct fake_disk *disk;
static struct blk_rig g;
static char buf[8192];

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
	cr_expect_eq(disk->mistakes, 0);
	cr_expect_eq(disk->lanes, 0);
	cr_expect_eq(g.ft.mistakes, 0);
	fake_disk_free(disk);
}

TestSuite(blk, .init = setup, .fini = teardown_once, .timeout = 60);

static void live(uint64_t features)
{
	blk_rig_init(&g, &disk->disk);
	cr_assert(blk_rig_live(&g, features));
}

static uint64_t offered(void)
{
	return virtio_features(g.dev, 0) | (uint64_t)virtio_features(g.dev, 1) << 32;
}

static void pattern(char *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (char)(i * 7 + seed + (i >> 8));
}

static void set_writeback(uint8_t on)
{
	virtio_lock(g.dev);
	virtio_config_write(g.dev, offsetof(struct virtio_blk_config, wce), &on, 1);
	virtio_unlock(g.dev);
}

static uint8_t writeback(void)
{
	struct virtio_blk_config c;

	blk_rig_config(&g, &c);
	return c.wce;
}

static void release_all(void *arg)
{
	fake_disk_release(arg, UINT32_MAX);
}

static void wait_held(unsigned n)
{
	while (disk->held < n)
		sched_yield();
}

/* --- what it offers --- */

WholeTest(blk, offers_flush_and_config_wce_together)
{
	blk_rig_init(&g, &disk->disk);
	cr_expect(offered() & BIT(VIRTIO_BLK_F_FLUSH));
	cr_expect(offered() & BIT(VIRTIO_BLK_F_CONFIG_WCE));
}

WholeTest(blk, does_not_offer_config_wce_when_flush_is_hidden)
{
	g.hidden = BIT(VIRTIO_BLK_F_FLUSH);
	blk_rig_init(&g, &disk->disk);
	cr_expect_not(offered() & BIT(VIRTIO_BLK_F_FLUSH));
	cr_expect_not(offered() & BIT(VIRTIO_BLK_F_CONFIG_WCE));
}

WholeTest(blk, offers_no_zones_lifetime_secure_erase_scsi_or_geometry)
{
	blk_rig_init(&g, &disk->disk);
	cr_expect_not(offered() & (BIT(VIRTIO_BLK_F_GEOMETRY) | BIT(7) | BIT(15) | BIT(16) | BIT(17)));
}

WholeTest(blk, offers_ro_and_nothing_that_writes_for_a_read_only_disk)
{
	disk->disk.read_only = true;
	blk_rig_init(&g, &disk->disk);
	cr_expect(offered() & BIT(VIRTIO_BLK_F_RO));
	cr_expect_not(offered() & (BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES)));
}

WholeTest(blk, offers_discard_only_when_the_disk_can)
{
	disk->disk.discard_granularity = 0;
	blk_rig_init(&g, &disk->disk);
	cr_expect_not(offered() & BIT(VIRTIO_BLK_F_DISCARD));
}

WholeTest(blk, offers_mq_with_more_than_one_queue)
{
	struct virtio_blk_config c;

	g.nqueues = 4;
	blk_rig_init(&g, &disk->disk);
	cr_expect(offered() & BIT(VIRTIO_BLK_F_MQ));
	blk_rig_config(&g, &c);
	cr_expect_eq(c.num_queues, 4);
}

WholeTest(blk, limits_are_those_of_storage_daemons_where_it_may_move_to_one)
{
	struct virtio_blk_config c;

	blk_rig_init(&g, &disk->disk);
	blk_of(g.dev)->common_limits = true;
	blk_rig_config(&g, &c);
	cr_expect_eq(c.max_discard_seg, 1);
	cr_expect_eq(c.max_discard_sectors, 32768);
	cr_expect_eq(c.max_write_zeroes_seg, 1);
	cr_expect_eq(c.max_write_zeroes_sectors, 32768);
}

WholeTest(blk, configuration_describes_the_disk)
{
	struct virtio_blk_config c;

	disk->disk.physical_block_size = 4096;
	disk->disk.optimal_io_size = 1 << 20;
	blk_rig_init(&g, &disk->disk);
	blk_rig_config(&g, &c);
	cr_expect_eq(c.capacity, SIZE / 512);
	cr_expect_eq(c.blk_size, 512);
	cr_expect_eq(c.physical_block_exp, 3);
	cr_expect_eq(c.min_io_size, 8);
	cr_expect_eq(c.opt_io_size, 2048);
	cr_expect_eq(c.seg_max, 62);
	cr_expect_eq(c.max_discard_seg, 16);
	cr_expect_gt(c.max_discard_sectors, 0);
	cr_expect_eq(c.discard_sector_alignment, 8);
	cr_expect_gt(c.max_write_zeroes_sectors, 0);
}

WholeTest(blk, capacity_counts_512_bytes_on_larger_blocks)
{
	struct virtio_blk_config c;

	disk->disk.block_size = 4096;
	blk_rig_init(&g, &disk->disk);
	blk_rig_config(&g, &c);
	cr_expect_eq(c.capacity, SIZE / 512);
	cr_expect_eq(c.blk_size, 4096);
	cr_expect_eq(c.physical_block_exp, 0);
}

WholeTest(blk, padding_in_the_configuration_is_zero)
{
	struct virtio_blk_config c;

	live(EVERY_BIT);
	blk_rig_config(&g, &c);
	cr_expect_eq(c.unused, 0);
	cr_expect_eq(c.unused1[0] | c.unused1[1] | c.unused1[2], 0);
}

WholeTest(blk, write_zeroes_may_unmap_says_whether_the_disk_can_discard)
{
	struct virtio_blk_config c;

	blk_rig_init(&g, &disk->disk);
	blk_rig_config(&g, &c);
	cr_expect_eq(c.write_zeroes_may_unmap, 1);
	disk->disk.discard_granularity = 0;
	blk_rig_config(&g, &c);
	cr_expect_eq(c.write_zeroes_may_unmap, 0);
}

WholeTest(blk, every_byte_but_writeback_is_read_only)
{
	struct virtio_blk_config before, after;

	live(EVERY_BIT);
	blk_rig_config(&g, &before);
	virtio_lock(g.dev);
	for (unsigned width = 1; width <= 8; width *= 2)
		for (unsigned at = 0; at + width <= sizeof(before) + 8; at++)
			if (at + width <= offsetof(struct virtio_blk_config, wce) ||
			    at > offsetof(struct virtio_blk_config, wce))
				virtio_config_write(g.dev, at, "\xff\xff\xff\xff\xff\xff\xff\xff", width);
	virtio_unlock(g.dev);
	blk_rig_config(&g, &after);
	cr_expect_arr_eq(&before, &after, sizeof(before));
}

WholeTest(blk, a_resize_changes_capacity_and_notifies)
{
	struct virtio_blk_config c;

	live(EVERY_BIT);
	disk->disk.size = SIZE / 2;
	disk->disk.resized(disk->disk.opaque);
	cr_expect_eq(g.ft.config_irqs, 1);
	blk_rig_config(&g, &c);
	cr_expect_eq(c.capacity, SIZE / 1024);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, SIZE / 1024, buf, 512), VIRTIO_BLK_S_IOERR);
}

/* --- data --- */

WholeTest(blk, writes_what_the_driver_gave)
{
	live(EVERY_BIT);
	pattern(buf, 4096, 1);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 8, buf, 4096), VIRTIO_BLK_S_OK);
	cr_expect_arr_eq(disk->data + 4096, buf, 4096);
}

WholeTest(blk, reads_what_the_disk_holds)
{
	char want[8192];

	live(EVERY_BIT);
	pattern(want, sizeof(want), 2);
	memcpy(disk->data + 512, want, sizeof(want));
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 1, buf, sizeof(buf)), VIRTIO_BLK_S_OK);
	cr_expect_arr_eq(buf, want, sizeof(want));
}

WholeTest(blk, works_on_a_packed_ring_in_order)
{
	char want[4096];

	live(~UINT64_C(0));
	cr_assert(virtio_has(g.dev, VIRTIO_F_RING_PACKED));
	pattern(want, sizeof(want), 3);
	for (unsigned i = 0; i < 200; i++) {
		want[0] = (char)i;
		cr_assert_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, i, want, 512), VIRTIO_BLK_S_OK);
		cr_assert_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, i, buf, 512), VIRTIO_BLK_S_OK);
		cr_assert_arr_eq(buf, want, 512);
	}
}

WholeTest(blk, reaches_the_last_sector)
{
	live(EVERY_BIT);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, SIZE / 512 - 1, buf, 512), VIRTIO_BLK_S_OK);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, SIZE / 512 - 1, buf, 512), VIRTIO_BLK_S_OK);
}

static uint32_t used_len(uint32_t type, void *data, uint32_t len)
{
	struct blk_rig_req r = {.type = type, .data = data, .len = len};

	blk_rig_send(&g, 0, &r);
	cr_assert_eq(blk_rig_result(&g, 0, &r), VIRTIO_BLK_S_OK);
	return r.used_len;
}

WholeTest(blk, used_length_is_what_was_written)
{
	live(EVERY_BIT);
	cr_expect_eq(used_len(VIRTIO_BLK_T_IN, buf, 1024), 1025);
	cr_expect_eq(used_len(VIRTIO_BLK_T_OUT, buf, 1024), 1);
	cr_expect_eq(used_len(VIRTIO_BLK_T_FLUSH, NULL, 0), 1);
	cr_expect_eq(used_len(VIRTIO_BLK_T_GET_ID, buf, 20), 21);
}

WholeTest(blk, used_length_of_a_failed_read_is_the_status_byte)
{
	struct blk_rig_req r = {.type = VIRTIO_BLK_T_IN, .data = buf, .len = 1024};

	disk->fail[DISK_READ] = -EIO;
	live(EVERY_BIT);
	blk_rig_send(&g, 0, &r);
	cr_expect_eq(blk_rig_result(&g, 0, &r), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(r.used_len, 1);
}

WholeTest(blk, get_id_gives_the_serial_padded_with_zeroes)
{
	static const char want[20] = "disk-7";

	g.serial = "disk-7";
	live(EVERY_BIT);
	memset(buf, 'x', 20);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_GET_ID, 0, buf, 20), VIRTIO_BLK_S_OK);
	cr_expect_arr_eq(buf, want, 20);
}

WholeTest(blk, get_id_gives_all_20_bytes_of_a_long_serial)
{
	g.serial = "12345678901234567890XYZ";
	live(EVERY_BIT);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_GET_ID, 0, buf, 20), VIRTIO_BLK_S_OK);
	cr_expect_arr_eq(buf, "12345678901234567890", 20);
}

WholeTest(blk, counts_payload_bytes)
{
	live(EVERY_BIT);
	blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 4096);
	blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, buf, 512);
	cr_expect_eq(g.dev->queue[0].stats.bytes, 4608);
}

/* --- what is stable when --- */

static bool last_write_durable(void)
{
	cr_assert_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 512), VIRTIO_BLK_S_OK);
	return disk->log[disk->nlog - 1].durable;
}

WholeTest(blk, writes_are_volatile_when_the_driver_flushes)
{
	live(EVERY_BIT);
	cr_expect_eq(writeback(), 1);
	cr_expect_not(last_write_durable());
}

WholeTest(blk, writes_are_durable_without_flush)
{
	live(EVERY_BIT & ~BIT(VIRTIO_BLK_F_FLUSH) & ~BIT(VIRTIO_BLK_F_CONFIG_WCE));
	cr_expect(last_write_durable());
}

WholeTest(blk, writeback_starts_at_zero_with_config_wce_but_no_flush)
{
	live(EVERY_BIT & ~BIT(VIRTIO_BLK_F_FLUSH));
	cr_expect_eq(writeback(), 0);
	cr_expect(last_write_durable());
	set_writeback(1); /* nobody could flush: stays */
	cr_expect_eq(writeback(), 0);
	cr_expect(last_write_durable());
}

WholeTest(blk, writing_zero_to_writeback_makes_writes_durable)
{
	live(EVERY_BIT);
	set_writeback(0);
	cr_expect_eq(writeback(), 0);
	cr_expect(last_write_durable());
	set_writeback(1);
	cr_expect_eq(writeback(), 1);
	cr_expect_not(last_write_durable());
}

WholeTest(blk, writeback_cannot_be_written_without_config_wce)
{
	live(EVERY_BIT & ~BIT(VIRTIO_BLK_F_CONFIG_WCE));
	set_writeback(0);
	cr_expect_eq(writeback(), 1);
}

WholeTest(blk, a_reset_forgets_the_cache_mode)
{
	live(EVERY_BIT);
	set_writeback(0);
	blk_rig_reset(&g);
	cr_expect_eq(writeback(), 1);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	cr_expect_not(last_write_durable());
}

WholeTest(blk, flush_reaches_the_disk)
{
	live(EVERY_BIT);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	cr_expect_eq(fake_disk_count(disk, DISK_FLUSH), 1);
}

WholeTest(blk, a_failed_flush_is_reported)
{
	disk->fail[DISK_FLUSH] = -EIO;
	live(EVERY_BIT);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_IOERR);
}

/* --- discard and write zeroes --- */

static uint8_t ranges(uint32_t type, unsigned n, uint64_t sector, uint32_t nsectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes seg[32];

	for (unsigned i = 0; i < n; i++)
		seg[i] = (struct virtio_blk_discard_write_zeroes){.sector = sector + (uint64_t)i * nsectors,
								  .num_sectors = nsectors,
								  .flags = flags};
	return blk_rig_do(&g, type, 0, seg, n * (uint32_t)sizeof(seg[0]));
}

WholeTest(blk, write_zeroes_reads_as_zeroes)
{
	live(EVERY_BIT);
	memset(disk->data, 0x55, SIZE);
	cr_expect_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 1, 8, 8, 0), VIRTIO_BLK_S_OK);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 8, buf, 4096), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 4096; i++)
		cr_assert_eq(buf[i], 0);
	cr_expect_eq(disk->data[4095], 0x55);
	cr_expect_eq(disk->data[8192], 0x55);
	cr_expect_eq(disk->log[0].op, DISK_ZERO);
}

WholeTest(blk, write_zeroes_with_unmap_may_give_space_back)
{
	live(EVERY_BIT);
	cr_expect_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 1, 8, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
		     VIRTIO_BLK_S_OK);
	cr_expect_eq(disk->log[0].op, DISK_ZERO_UNMAP);
}

WholeTest(blk, discard_does_all_its_segments)
{
	live(EVERY_BIT);
	cr_expect_eq(ranges(VIRTIO_BLK_T_DISCARD, 16, 0, 8, 0), VIRTIO_BLK_S_OK);
	cr_expect_eq(fake_disk_count(disk, DISK_DISCARD), 16);
	cr_expect_eq(disk->log[15].offset, 15 * 4096);
	cr_expect_eq(disk->log[15].len, 4096);
}

WholeTest(blk, a_failed_segment_fails_the_request_and_ends_it)
{
	disk->fail[DISK_ZERO] = -ENOSPC;
	disk->fail_from = 2;
	live(EVERY_BIT);
	cr_expect_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 8, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(fake_disk_count(disk, DISK_ZERO), 3);
}

WholeTest(blk, write_zeroes_is_stable_in_writethrough_mode)
{
	live(EVERY_BIT);
	set_writeback(0);
	cr_expect_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 2, 0, 8, 0), VIRTIO_BLK_S_OK);
	cr_assert_eq(disk->nlog, 3);
	cr_expect_eq(disk->log[2].op, DISK_FLUSH);
}

WholeTest(blk, discard_with_unmap_is_unsupported)
{
	live(EVERY_BIT);
	cr_expect_eq(ranges(VIRTIO_BLK_T_DISCARD, 1, 0, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
		     VIRTIO_BLK_S_UNSUPP);
	cr_expect_eq(disk->nlog, 0);
}

WholeTest(blk, unknown_range_flags_are_unsupported)
{
	live(EVERY_BIT);
	for (unsigned bit = 1; bit < 32; bit++) {
		cr_expect_eq(ranges(VIRTIO_BLK_T_DISCARD, 1, 0, 8, 1u << bit), VIRTIO_BLK_S_UNSUPP);
		cr_expect_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 1, 0, 8, 1u << bit), VIRTIO_BLK_S_UNSUPP);
	}
	cr_expect_eq(disk->nlog, 0);
}

WholeTest(blk, an_unknown_flag_in_the_last_segment_spoils_the_request)
{
	struct virtio_blk_discard_write_zeroes seg[2] = {{.num_sectors = 8},
							 {.sector = 8, .num_sectors = 8, .flags = 2}};

	live(EVERY_BIT);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0, seg, sizeof(seg)), VIRTIO_BLK_S_UNSUPP);
	cr_expect_eq(disk->nlog, 0);
}

WholeTest(blk, ranges_that_were_not_negotiated_are_unsupported)
{
	live(EVERY_BIT & ~BIT(VIRTIO_BLK_F_DISCARD) & ~BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	cr_expect_eq(ranges(VIRTIO_BLK_T_DISCARD, 1, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	cr_expect_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 1, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
}

/* --- a read-only disk --- */

WholeTest(blk, a_read_only_disk_refuses_to_be_written)
{
	disk->disk.read_only = true;
	live(EVERY_BIT);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 512), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(ranges(VIRTIO_BLK_T_DISCARD, 1, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 1, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(disk->nlog, 0);
}

/* The driver need not have accepted the bit that says so. */
WholeTest(blk, a_read_only_disk_refuses_writes_of_a_driver_that_ignores_ro)
{
	disk->disk.read_only = true;
	live(EVERY_BIT & ~BIT(VIRTIO_BLK_F_RO));
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 512), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(disk->nlog, 0);
}

WholeTest(blk, a_read_only_disk_reads_and_flushes)
{
	disk->disk.read_only = true;
	live(EVERY_BIT);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, buf, 512), VIRTIO_BLK_S_OK);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
}

/* --- many at a time --- */

static void send_many(struct blk_rig_req *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		r[i] = (struct blk_rig_req){.type = VIRTIO_BLK_T_IN, .sector = i, .data = buf, .len = 512};
		blk_rig_send(&g, 0, &r[i]);
	}
}

WholeTest(blk, requests_may_end_in_any_order)
{
	struct blk_rig_req r[16];
	uint16_t id;
	uint32_t len;

	disk->hold = true;
	for (unsigned i = 0; i < 16; i++)
		disk->data[i * 512] = (uint8_t)(i + 1);
	live(EVERY_BIT);
	send_many(r, 16);
	wait_held(16);
	blk_rig_call(&g, release_all, disk); /* the newest first */
	for (unsigned i = 0; i < 16; i++) {
		cr_assert(blk_rig_wait(&g, 0, &id, &len));
		cr_expect_eq(id, r[15 - i].id);
		cr_expect_eq(*(uint8_t *)driver_mem_ptr(&g.m, r[15 - i].buf, 1), 16 - i);
	}
}

WholeTest(blk, a_failure_costs_one_request)
{
	live(EVERY_BIT);
	disk->fail[DISK_WRITE] = -ENOSPC;
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 512), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, buf, 512), VIRTIO_BLK_S_OK);
	disk->fail[DISK_WRITE] = 0;
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_OUT, 0, buf, 512), VIRTIO_BLK_S_OK);
	cr_expect_not(blk_rig_broken(&g));
}

WholeTest(blk, a_burst_ends_with_one_interrupt)
{
	struct blk_rig_req r[21];
	uint64_t calls;

	disk->hold = true;
	live(EVERY_BIT & ~BIT(VIRTIO_RING_F_EVENT_IDX));
	send_many(r, 21);
	wait_held(21);
	calls = g.dev->queue[0].stats.calls;
	blk_rig_call(&g, release_all, disk);
	cr_expect_eq(g.dev->queue[0].stats.calls, calls + 1);
}

WholeTest(blk, a_full_ring_goes_on_when_requests_end)
{
	struct blk_rig_req r[4];
	uint16_t id;
	uint32_t len;

	g.queue_size = 8; /* two requests of three descriptors */
	disk->hold = true;
	live(EVERY_BIT);
	for (unsigned round = 0; round < 50; round++) {
		send_many(r, 2);
		wait_held(2);
		blk_rig_call(&g, release_all, disk);
		cr_assert(blk_rig_wait(&g, 0, &id, &len));
		cr_assert(blk_rig_wait(&g, 0, &id, &len));
	}
}

/* Chains of one descriptor, which fail, fill a ring to the brim. */
WholeTest(blk, a_ring_full_of_chains_is_served)
{
	struct driver_buf one;
	uint32_t len;
	uint16_t id;

	g.queue_size = 8;
	live(EVERY_BIT);
	one = (struct driver_buf){driver_mem_alloc(&g.m, 1, 1), 1, true};
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = 0; i < 8; i++)
			blk_rig_add(&g, 0, &one, 1);
		for (unsigned i = 0; i < 8; i++)
			cr_assert(blk_rig_wait(&g, 0, &id, &len));
	}
}

WholeTest(blk, each_queue_has_its_own_lane)
{
	struct blk_rig_req r = {.type = VIRTIO_BLK_T_IN, .data = buf, .len = 512};

	g.nqueues = 3;
	live(EVERY_BIT);
	cr_expect_eq(disk->lanes, 3);
	for (unsigned q = 0; q < 3; q++) {
		blk_rig_send(&g, q, &r);
		cr_expect_eq(blk_rig_result(&g, q, &r), VIRTIO_BLK_S_OK);
	}
}

/* --- life --- */

WholeTest(blk, a_reset_waits_for_what_is_in_flight)
{
	struct blk_rig_req r[16];

	disk->hold = true;
	live(EVERY_BIT);
	send_many(r, 16);
	wait_held(16);
	blk_rig_reset(&g);
	cr_expect_eq(disk->held, 0);
	cr_expect_eq(disk->lanes, 0);
}

WholeTest(blk, survives_resets_with_requests_in_flight)
{
	struct blk_rig_req r[16];

	disk->hold = true;
	live(EVERY_BIT);
	for (unsigned round = 0; round < 30; round++) {
		send_many(r, 16);
		wait_held(round % 16);
		blk_rig_reset(&g);
		cr_assert_eq(disk->held, 0);
		driver_mem_fini(&g.m); /* rings are never given back one by one */
		driver_mem_init(&g.m);
		cr_assert(blk_rig_live(&g, EVERY_BIT));
	}
	disk->hold = false;
	cr_expect_eq(blk_rig_do(&g, VIRTIO_BLK_T_IN, 0, buf, 512), VIRTIO_BLK_S_OK);
}

WholeTest(blk, a_request_of_several_steps_ends_before_a_reset_does)
{
	struct virtio_blk_discard_write_zeroes seg[4] = {{.num_sectors = 1},
							 {.sector = 1, .num_sectors = 1},
							 {.sector = 2, .num_sectors = 1},
							 {.sector = 3, .num_sectors = 1}};
	struct blk_rig_req r = {.type = VIRTIO_BLK_T_WRITE_ZEROES, .data = seg, .len = sizeof(seg)};

	disk->hold = true;
	live(EVERY_BIT);
	blk_rig_send(&g, 0, &r);
	wait_held(1);
	blk_rig_reset(&g);
	cr_expect_eq(fake_disk_count(disk, DISK_ZERO), 4);
}

WholeTest(blk, a_disk_without_a_lane_does_not_start)
{
	disk->fail_lane = ENOMEM;
	blk_rig_init(&g, &disk->disk);
	cr_expect_not(blk_rig_live(&g, EVERY_BIT));
	cr_expect(blk_rig_broken(&g));
}

WholeTest(blk, gives_the_disk_back_when_it_goes)
{
	live(EVERY_BIT);
	blk_rig_fini(&g);
	g.dev = NULL;
	cr_expect_eq(disk->destroyed, 1);
}
