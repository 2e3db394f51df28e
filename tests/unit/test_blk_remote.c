/* The block device when somebody else has the disk: its features and configuration are that one's. */
#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/blk/blk_config.h"
#include "lib/log.h"
#include "tests/fake/fake_datapath.h"
#include "tests/fake/fake_disk.h"
#include "tests/unit/teardown.h"

#define BIT(n)    (UINT64_C(1) << (n))
#define EVERY_BIT (~BIT(VIRTIO_F_RING_PACKED) & ~BIT(VIRTIO_F_IN_ORDER))
#define SERVED                                                                                                 \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |                    \
	 BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_MQ))

static struct fake_datapath remote;
static struct virtio_blk_config *served; /* the remote's */
static struct blk_rig g;
static bool common_limits;
static struct err e;

static void setup(void)
{
	log_set_level(LOG_ERROR);
	memset(&g, 0, sizeof(g));
	g.nqueues = 1;
	g.queue_size = 64;
	fake_datapath_init(&remote);
	remote.offer.opinion = UINT64_MAX;
	remote.offer.features = SERVED;
	remote.offer.config_len = sizeof(remote.config);
	served = (struct virtio_blk_config *)(void *)remote.config;
	*served = (struct virtio_blk_config){
		.capacity = htole64(2048),
		.seg_max = htole32(126),
		.blk_size = htole32(4096),
		.wce = 1,
		.num_queues = htole16(1),
		.max_discard_sectors = htole32(77),
		.write_zeroes_may_unmap = 1,
	};
	cr_assert_eq(loop_thread_start(&g.io, "io", -1, &e), 0);
	driver_mem_init(&g.m);
}

static struct virtio_device *make(void)
{
	struct evloop *loops[BLK_MAX_QUEUES];
	struct blk_config c = {
		.name = "blk0",
		.mem = &g.m.mem,
		.loops = loops,
		.nqueues = g.nqueues,
		.queue_size = g.queue_size,
		.remote = &remote.dp,
		.hidden = g.hidden,
		.common_limits = common_limits,
	};

	for (unsigned i = 0; i < g.nqueues; i++)
		loops[i] = g.io.loop;
	g.dev = blk_new(&c, &e);
	if (g.dev)
		fake_transport_init(&g.ft, g.dev);
	return g.dev;
}

static void live(void)
{
	cr_assert(make(), "%s", e.text);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
}

static void teardown(void)
{
	const bool made = g.dev;

	if (made) {
		blk_rig_fini(&g);
	} else {
		loop_thread_stop(&g.io);
		driver_mem_fini(&g.m);
	}
	cr_expect_eq(remote.destroyed, made);
	cr_expect_eq(remote.running, 0);
	cr_expect_eq(remote.mistakes + g.ft.mistakes, 0);
}

TestSuite(blk_remote, .init = setup, .fini = teardown_once, .timeout = 20);

static uint64_t offered(void)
{
	return virtio_features(g.dev, 0) | (uint64_t)virtio_features(g.dev, 1) << 32;
}

static struct virtio_blk_config config(void)
{
	struct virtio_blk_config c;

	blk_rig_config(&g, &c);
	return c;
}

static void note_thread(void *thread)
{
	*(pthread_t *)thread = pthread_self();
}

/* --- features --- */

WholeTest(blk_remote, offers_what_the_other_serves)
{
	cr_assert(make());
	cr_expect_eq(offered(), SERVED & ~BIT(VIRTIO_BLK_F_MQ));
}

WholeTest(blk_remote, offers_mq_with_more_than_one_queue)
{
	g.nqueues = 2;
	cr_assert(make());
	cr_expect_eq(offered(), SERVED);
}

WholeTest(blk_remote, offers_nothing_that_would_need_us)
{
	remote.offer.features = UINT64_MAX;
	cr_assert(make());
	cr_expect_not(offered() & (BIT(7) | BIT(15) | BIT(16) | BIT(17)), "SCSI, lifetime, erase, zones");
	cr_expect(offered() & BIT(VIRTIO_BLK_F_RO));
}

WholeTest(blk_remote, what_the_user_hides_is_hidden)
{
	g.hidden = BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE);
	cr_assert(make());
	cr_expect_not(offered() & g.hidden);
}

WholeTest(blk_remote, all_queues_are_served_there)
{
	g.nqueues = 3;
	live();
	cr_expect_eq(remote.running, 7);
	blk_rig_reset(&g);
	cr_expect_eq(remote.running, 0);
}

/* --- configuration --- */

WholeTest(blk_remote, configuration_is_the_others)
{
	struct virtio_blk_config c;

	cr_assert(make());
	c = config();
	cr_expect_eq(memcmp(&c, served, BLK_CONFIG_LEN), 0);
}

WholeTest(blk_remote, configuration_is_asked_for_on_the_loop)
{
	pthread_t loop;

	cr_assert(make());
	blk_rig_call(&g, note_thread, &loop);
	config();
	cr_expect(pthread_equal(remote.config_thread, loop));
}

WholeTest(blk_remote, what_a_short_configuration_does_not_have_is_zero)
{
	remote.offer.config_len = offsetof(struct virtio_blk_config, num_queues);
	cr_assert(make());
	cr_expect_eq(config().blk_size, htole32(4096));
	cr_expect_eq(config().max_discard_sectors, 0);
	cr_expect_eq(config().write_zeroes_may_unmap, 0);
}

WholeTest(blk_remote, has_no_more_queues_than_this_device)
{
	served->num_queues = htole16(300);
	g.nqueues = 2;
	cr_assert(make());
	cr_expect_eq(config().num_queues, htole16(2));
	served->num_queues = htole16(1);
	cr_expect_eq(config().num_queues, htole16(1));
}

WholeTest(blk_remote, a_new_size_shows_with_a_new_generation)
{
	unsigned generation;

	live();
	config();
	generation = g.dev->config_generation;
	served->capacity = htole64(4096);
	remote.dp.events->config_changed(remote.dp.opaque);
	cr_expect_eq(g.ft.config_irqs, 1);
	cr_expect_eq(config().capacity, htole64(4096));
	cr_expect_gt(g.dev->config_generation, generation);
}

WholeTest(blk_remote, the_last_answer_stands_when_it_answers_no_more)
{
	struct virtio_blk_config c;

	cr_assert(make());
	served->capacity = htole64(4096);
	config();
	remote.config_err = -ETIMEDOUT;
	c = config();
	cr_expect_eq(memcmp(&c, served, BLK_CONFIG_LEN), 0);
	remote.config_err = 0;
	remote.offer_err = -EPIPE;
	c = config();
	cr_expect_eq(memcmp(&c, served, BLK_CONFIG_LEN), 0);
}

WholeTest(blk_remote, one_that_does_not_answer_at_first_is_refused)
{
	remote.config_err = -ETIMEDOUT;
	cr_expect_null(make());
	cr_expect(strstr(e.text, "does not say how large"), "%s", e.text);
}

WholeTest(blk_remote, one_without_configuration_is_refused)
{
	remote.offer.config_len = 0;
	cr_expect_null(make());
	cr_expect(strstr(e.text, "does not say how large"), "%s", e.text);
}

/* --- the cache mode --- */

static void write_config(size_t off, const void *buf, unsigned len)
{
	virtio_lock(g.dev);
	virtio_config_write(g.dev, off, buf, len);
	virtio_unlock(g.dev);
}

#define WCE offsetof(struct virtio_blk_config, wce)

WholeTest(blk_remote, the_cache_mode_is_written_on_the_loop)
{
	pthread_t loop;

	live();
	blk_rig_call(&g, note_thread, &loop);
	write_config(WCE, "\0", 1);
	cr_expect_eq(remote.config_writes, 1);
	cr_expect_eq(served->wce, 0);
	cr_expect(pthread_equal(remote.config_thread, loop));
	cr_expect_eq(config().wce, 0);
}

WholeTest(blk_remote, of_a_wider_write_only_the_cache_mode_counts)
{
	live();
	write_config(WCE - 3, "\xaa\xaa\xaa\0\xaa\xaa", 6);
	cr_expect_eq(remote.config_writes, 1);
	cr_expect_eq(served->wce, 0);
	cr_expect_eq(served->num_queues, htole16(1));
	cr_expect_eq(served->min_io_size, 0);
}

WholeTest(blk_remote, nothing_else_is_written)
{
	live();
	for (size_t off = 0; off < BLK_CONFIG_LEN; off++)
		if (off != WCE)
			write_config(off, "\xaa", 1);
	cr_expect_eq(remote.config_writes, 0);
}

WholeTest(blk_remote, without_config_wce_nothing_is_written)
{
	g.hidden = BIT(VIRTIO_BLK_F_CONFIG_WCE);
	live();
	write_config(WCE, "\0", 1);
	cr_expect_eq(remote.config_writes, 0);
}

/* --- trouble --- */

WholeTest(blk_remote, needs_a_reset_when_it_fails)
{
	live();
	remote.dp.events->failed(remote.dp.opaque, -EPIPE);
	cr_expect(blk_rig_broken(&g));
	blk_rig_reset(&g);
	cr_expect_not(blk_rig_broken(&g));
	cr_expect(blk_rig_live(&g, EVERY_BIT));
	cr_expect_eq(remote.running, 1);
}

WholeTest(blk_remote, one_for_another_device_is_refused)
{
	remote.offer.device_id = 1;
	cr_expect_null(make());
	cr_expect(strstr(e.text, "device type 1, not 2"), "%s", e.text);
}

WholeTest(blk_remote, one_with_fewer_queues_is_refused)
{
	g.nqueues = 3;
	remote.offer.max_queues = 2;
	cr_expect_null(make());
	cr_expect(strstr(e.text, "at most 2 queues"), "%s", e.text);
}

/* One that takes more: it can still be moved to who does not. */
WholeTest(blk_remote, tells_no_larger_limits_than_all_datapaths_have)
{
	common_limits = true;
	served->seg_max = htole32(254);
	served->max_discard_sectors = htole32(UINT32_MAX);
	served->max_discard_seg = htole32(64);
	served->max_write_zeroes_sectors = htole32(100000);
	live();
	cr_expect_eq(config().seg_max, htole32(126));
	cr_expect_eq(config().max_discard_sectors, htole32(32768));
	cr_expect_eq(config().max_discard_seg, htole32(1));
	cr_expect_eq(config().max_write_zeroes_sectors, htole32(32768));
}

WholeTest(blk_remote, tells_all_limits_where_it_stays)
{
	served->seg_max = htole32(254);
	live();
	cr_expect_eq(config().seg_max, htole32(254));
}
