/* A block device changes its datapath: what its driver has read, and the cache mode, go with it. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/blk_move_rig.h"

TestSuite(blk_move_config, .init = setup, .fini = teardown_once, .timeout = 20);

/* --- what the driver has read --- */

#define refused(field, value)                                                                                  \
	do {                                                                                                   \
		const struct virtio_blk_config saved = *served;                                                \
                                                                                                               \
		served->field = (value);                                                                       \
		cr_expect_eq(to_remote(&remote), -EOPNOTSUPP, #field);                                         \
		cr_expect(strstr(e.text, "has read " #field " "), "%s", e.text);                               \
		*served = saved;                                                                               \
	} while (0)

WholeTest(blk_move_config, each_limit_that_would_not_hold_is_named)
{
	g.nqueues = 2;
	live();
	refused(capacity, htole64(SECTORS - 1));
	refused(capacity, htole64(SECTORS + 1));
	refused(blk_size, htole32(4096));
	refused(num_queues, htole16(1));
	refused(seg_max, htole32(61));
	refused(max_discard_sectors, htole32(1000));
	refused(max_discard_seg, htole32(1));
	refused(max_write_zeroes_sectors, htole32(1000));
	refused(max_write_zeroes_seg, htole32(1));
	expect_unmoved();
	cr_expect_eq(remote.start_calls, 0);
}

WholeTest(blk_move_config, a_largest_segment_must_stay_what_it_is)
{
	make();
	served->size_max = htole32(65536);
	remote.offer.features |= BIT(VIRTIO_BLK_F_SIZE_MAX);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	second.offer.features = remote.offer.features;
	memcpy(second.config, remote.config, sizeof(second.config));
	((struct virtio_blk_config *)(void *)second.config)->size_max = htole32(4096);
	cr_expect_eq(to_remote(&second), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "has read size_max 65536, and the new one has 4096"), "%s", e.text);
	cr_expect_eq(to_disk(other), -EOPNOTSUPP);
	cr_expect(reads(5));
}

WholeTest(blk_move_config, limits_may_grow)
{
	g.nqueues = 2;
	live();
	served->seg_max = htole32(1000);
	served->num_queues = htole16(16);
	served->max_discard_sectors = htole32(1u << 30);
	served->max_write_zeroes_seg = htole32(1000);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(config().seg_max, htole32(1000));
	cr_expect_eq(config().num_queues, htole16(2));
}

WholeTest(blk_move_config, limits_of_what_the_driver_does_not_use_do_not_count)
{
	live_with(EVERY_BIT &
		  ~(BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES) | BIT(VIRTIO_BLK_F_SEG_MAX)));
	remote.offer.features &= ~(BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES) |
				   BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_MQ));
	served->max_discard_sectors = served->max_discard_seg = 0;
	served->max_write_zeroes_sectors = served->max_write_zeroes_seg = 0;
	served->seg_max = 0;
	served->num_queues = 0;
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect(reads(3));
}

WholeTest(blk_move_config, limits_of_what_a_driver_may_still_choose_count)
{
	make();
	virtio_lock(g.dev);
	virtio_set_status(g.dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_unlock(g.dev);
	refused(max_discard_sectors, htole32(1000));
}

WholeTest(blk_move_config, a_smaller_disk_is_refused)
{
	live();
	other->disk.size = SIZE / 2;
	cr_assert_eq(to_disk(other), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "capacity 2048, and the new one has 1024"), "%s", e.text);
	expect_unmoved();
}

WholeTest(blk_move_config, a_disk_that_cannot_discard_is_refused)
{
	live();
	other->disk.discard_granularity = 0;
	cr_assert_eq(to_disk(other), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "max_discard_sectors"), "%s", e.text);
	expect_unmoved();
}

WholeTest(blk_move_config, a_writable_disk_does_not_become_read_only)
{
	live();
	remote.offer.features |= BIT(VIRTIO_BLK_F_RO);
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "found it writable, and the new one is read-only"), "%s", e.text);
	other->disk.read_only = true;
	cr_assert_eq(to_disk(other), -EOPNOTSUPP);
	expect_unmoved();
}

/* Who is silent on a bit lets the device offer it. */
WholeTest(blk_move_config, one_that_does_not_say_whether_it_is_read_only_is_taken_for_what_is_offered)
{
	live();
	remote.offer.opinion = 0;
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "the new one is read-only"), "%s", e.text);
}

WholeTest(blk_move_config, a_read_only_disk_does_not_become_writable)
{
	disk->disk.read_only = true;
	live();
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "found it read-only, and the new one is writable"), "%s", e.text);
	remote.offer.features |= BIT(VIRTIO_BLK_F_RO);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect(reads(3));
}

WholeTest(blk_move_config, features_that_are_not_served_are_named)
{
	live();
	remote.offer.features &= ~BIT(VIRTIO_BLK_F_FLUSH);
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "uses FLUSH, which"), "%s", e.text);
	expect_unmoved();
}

WholeTest(blk_move_config, one_that_does_not_say_what_it_has_is_refused)
{
	live();
	remote.config_err = -ETIMEDOUT;
	cr_assert_eq(to_remote(&remote), -ETIMEDOUT);
	cr_expect(strstr(e.text, "does not give its configuration"), "%s", e.text);
	expect_unmoved();
	blk_rig_reset(&g);
	cr_assert_eq(to_remote(&remote), -ETIMEDOUT, "nor without a driver");
}

/* --- the cache mode --- */

WholeTest(blk_move_config, a_driver_that_chose_writethrough_keeps_it_there)
{
	live();
	set_wce(0);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(served->wce, 0);
	cr_expect_eq(config().wce, 0);
}

WholeTest(blk_move_config, a_driver_that_chose_writethrough_keeps_it_here)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	set_wce(0);
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
	cr_expect_eq(config().wce, 0);
	cr_expect(writes(2, 0x22));
	cr_expect(other->log[0].durable);
}

WholeTest(blk_move_config, a_cache_mode_that_cannot_be_set_keeps_it_where_it_is)
{
	static struct datapath_ops mute;

	live();
	set_wce(0);
	mute = *remote.dp.ops;
	mute.config_write = NULL;
	remote.dp.ops = &mute;
	cr_assert_lt(to_remote(&remote), 0);
	cr_expect_eq(config().wce, 0);
	expect_unmoved();
	cr_expect(disk->log[0].durable);
}

static int forget_it(struct datapath *dp, size_t off, const void *src, size_t len)
{
	(void)dp;
	(void)off;
	(void)src;
	(void)len;
	return 0;
}

WholeTest(blk_move_config, one_that_takes_a_cache_mode_and_does_not_keep_it_is_refused)
{
	static struct datapath_ops forgetful;

	live();
	set_wce(0);
	forgetful = *remote.dp.ops;
	forgetful.config_write = forget_it;
	remote.dp.ops = &forgetful;
	cr_assert_eq(to_remote(&remote), -EOPNOTSUPP);
	expect_unmoved();
}

WholeTest(blk_move_config, a_cache_mode_that_is_the_same_there_is_not_written)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(remote.config_writes, 0);
	cr_expect_eq(config().wce, 1);
}

WholeTest(blk_move_config, a_cache_mode_that_the_driver_cannot_choose_is_not_written)
{
	live_with(EVERY_BIT & ~BIT(VIRTIO_BLK_F_CONFIG_WCE));
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(remote.config_writes, 0);
}
