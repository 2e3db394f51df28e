/* The disk server with a front end that does as it is told. */
#include "tests/unit/test_server_blk_disks.h"

TestSuite(server_blk, .init = init, .fini = fini, .timeout = 100);

/* --- requests --- */

/* Zeroes where they should be, and nowhere else: from the midst of a page to the midst of another. */
static void zeroes(const struct req *big, uint32_t flags)
{
	const struct virtio_blk_discard_write_zeroes part = {.sector = 9, .num_sectors = 30, .flags = flags};
	uint8_t *const got = data_of(big), *const want = malloc(big->len);

	write_as(big, 0, 1);
	memcpy(want, got, big->len);
	memset(want + 9 * 512, 0, 30 * 512);
	cr_assert_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, &part, 1), VIRTIO_BLK_S_OK);
	cr_assert_eq(request(0, big, VIRTIO_BLK_T_IN, 0, NULL), VIRTIO_BLK_S_OK);
	cr_assert(!memcmp(got, want, big->len), "flags %u", flags);
	free(want);
}

/* What is in it is anybody's guess, and nobody else's is. */
static void discard(const struct req *big)
{
	const struct virtio_blk_discard_write_zeroes part = {.sector = 9, .num_sectors = 30};
	uint8_t *const got = data_of(big), *const want = malloc(big->len);

	write_as(big, 0, 2);
	memcpy(want, got, big->len);
	cr_assert_eq(ranges(VIRTIO_BLK_T_DISCARD, &part, 1), VIRTIO_BLK_S_OK);
	cr_assert_eq(request(0, big, VIRTIO_BLK_T_IN, 0, NULL), VIRTIO_BLK_S_OK);
	memcpy(got + 9 * 512, want + 9 * 512, 30 * 512);
	cr_assert(!memcmp(got, want, big->len));
	free(want);
}

static void every_type(uint64_t features)
{
	struct req big, small, id, flush;
	uint32_t used = 0;

	come(features | FLUSH | RANGES, 0, 1, 64);
	big = req_new(64 << 10);
	small = req_new(512);
	id = req_new(VIRTIO_BLK_ID_BYTES);
	flush = req_new(0);

	read_is(&big, 0, 0);
	write_as(&big, 8, 1);
	read_is(&big, 8, 1);
	write_as(&small, SECTORS - 1, 2);
	read_is(&small, SECTORS - 1, 2);
	cr_assert_eq(request(0, &flush, VIRTIO_BLK_T_FLUSH, 0, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, 1);
	cr_assert_eq(request(0, &id, VIRTIO_BLK_T_GET_ID, 0, &used), VIRTIO_BLK_S_OK);
	cr_assert_eq(used, 1 + VIRTIO_BLK_ID_BYTES);
	cr_assert_str_eq(data_of(&id), "the serial");
	zeroes(&big, 0);
	zeroes(&big, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	discard(&big);
	cr_assert_eq(request(0, &small, 77, 0, NULL), VIRTIO_BLK_S_UNSUPP);
	frontend_close(&rig.f);
}

Test(server_blk, memory_split)
{
	memory();
	every_type(0);
}

Test(server_blk, memory_split_with_all)
{
	memory();
	every_type(EVENT | INDIR);
}

Test(server_blk, memory_packed_in_order)
{
	memory();
	every_type(PACKED | EVENT | BIT(VIRTIO_F_IN_ORDER));
}

Test(server_blk, memory_polled)
{
	config.poll = true;
	memory();
	every_type(EVENT);
}

Test(server_blk, file_split)
{
	open_file((struct file_disk_config){0});
	every_type(EVENT);
}

Test(server_blk, file_packed)
{
	open_file((struct file_disk_config){0});
	every_type(PACKED | INDIR);
}

Test(server_blk, file_by_plain_calls)
{
	open_file((struct file_disk_config){.aio = FILE_AIO_SYNC});
	every_type(EVENT | INDIR);
}

Test(server_blk, file_polled)
{
	config.poll = true;
	open_file((struct file_disk_config){0});
	every_type(EVENT);
}

Test(server_blk, file_direct_polled)
{
	config.poll = true;
	open_file((struct file_disk_config){.direct = true});
	every_type(EVENT);
}

Test(server_blk, a_file_that_is_read_only_is_not_written)
{
	struct req r;

	open_file((struct file_disk_config){.read_only = true});
	come(BIT(VIRTIO_BLK_F_RO), 0, 1, 64);
	cr_expect_not(rig.f.offered & RANGES);
	r = req_new(512);
	read_is(&r, 0, 0);
	fill(data_of(&r), 512, 3);
	cr_expect_eq(request(0, &r, VIRTIO_BLK_T_OUT, 0, NULL), VIRTIO_BLK_S_IOERR);
	read_is(&r, 0, 0);
	frontend_close(&rig.f);
}

/* Full rings, all queues at a time, through many laps. */
static void load(unsigned nqueues, uint64_t features, uint16_t size, unsigned depth, unsigned rounds)
{
	static struct req r[4][32];
	static uint32_t seed[4][32]; /* of the block that each slot has to itself */
	static bool writes[4][32];
	static int slot_of[4][65536];
	unsigned left = nqueues * rounds, away[4] = {0};
	uint32_t next = 1;

	come(features, 0, nqueues, size);
	for (unsigned q = 0; q < nqueues; q++)
		for (unsigned i = 0; i < depth; i++)
			r[q][i] = req_new(4096);
	for (unsigned q = 0; q < nqueues; q++) {
		for (unsigned i = 0; i < depth; i++) {
			fill(data_of(&r[q][i]), 4096, seed[q][i] = next++);
			writes[q][i] = true;
			slot_of[q][add(q, &r[q][i], VIRTIO_BLK_T_OUT, (q * 32 + i) * 8)] = (int)i;
			away[q]++;
		}
		frontend_kick(&rig.f, q);
	}
	while (left) {
		for (unsigned q = 0; q < nqueues; q++) {
			uint16_t id;
			uint32_t used;
			unsigned i;

			if (!away[q] || frontend_collect(&rig.f, q, &id, &used, 5000) != 1)
				cr_assert(!away[q], "queue %u stands still", q);
			if (!away[q])
				continue;
			i = (unsigned)slot_of[q][id];
			cr_assert_eq(status_of(&r[q][i]), VIRTIO_BLK_S_OK);
			if (!writes[q][i])
				cr_assert(holds(data_of(&r[q][i]), 4096, seed[q][i]), "queue %u slot %u", q, i);
			left--;
			away[q]--;
			if (left < nqueues * depth)
				continue;
			writes[q][i] = !writes[q][i];
			if (writes[q][i])
				fill(data_of(&r[q][i]), 4096, seed[q][i] = next++);
			else
				memset(data_of(&r[q][i]), 0, 4096);
			slot_of[q][add(q, &r[q][i], writes[q][i] ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
				       (q * 32 + i) * 8)] = (int)i;
			away[q]++;
			frontend_kick(&rig.f, q);
		}
		if (!away[0] && !away[1] && !away[2] && !away[3])
			break;
	}
	frontend_close(&rig.f);
}

Test(server_blk, full_rings_of_four_queues)
{
	config.nqueues = 4;
	memory();
	load(4, EVENT | BIT(VIRTIO_BLK_F_MQ), 64, 21, 500);
}

Test(server_blk, full_rings_of_four_queues_packed)
{
	config.nqueues = 4;
	memory();
	load(4, EVENT | PACKED | BIT(VIRTIO_BLK_F_MQ), 64, 21, 500);
}

Test(server_blk, full_rings_of_four_queues_polled)
{
	config.nqueues = 4;
	config.poll = true;
	memory();
	load(4, EVENT | BIT(VIRTIO_BLK_F_MQ), 64, 21, 300);
}

Test(server_blk, full_rings_of_a_file)
{
	config.nqueues = 2;
	open_file((struct file_disk_config){.direct = true});
	load(2, BIT(VIRTIO_BLK_F_MQ), 64, 21, 500);
}

/* --- what the front end is told --- */

static struct virtio_blk_config ask_config(void)
{
	struct vhost_user_msg m = {.size = VHOST_USER_CONFIG_HDR + 60, .config.size = 60};
	struct virtio_blk_config c = {0};

	cr_assert_eq(frontend_ask(&rig.f, VHOST_USER_GET_CONFIG, &m, NULL), 0);
	cr_assert_eq(m.size, VHOST_USER_CONFIG_HDR + 60);
	memcpy(&c, m.config.region, 60);
	return c;
}

static int64_t set_config(uint32_t off, uint8_t value)
{
	struct vhost_user_msg m = {.size = VHOST_USER_CONFIG_HDR + 1,
				   .config = {.offset = off, .size = 1, .region = {value}}};

	return frontend_set(&rig.f, VHOST_USER_SET_CONFIG, &m, NULL, 0);
}

Test(server_blk, the_configuration_describes_the_disk)
{
	struct virtio_blk_config c;

	config.nqueues = 3;
	memory();
	come(FLUSH | RANGES, P(CONFIG), 1, 64);
	c = ask_config();
	cr_expect_eq(c.capacity, SECTORS);
	cr_expect_eq(c.blk_size, 512);
	cr_expect_eq(c.physical_block_exp, 3);
	cr_expect_eq(c.min_io_size, 8);
	cr_expect_eq(c.seg_max, 126);
	cr_expect_eq(c.size_max, 0);
	cr_expect_not(rig.f.offered & BIT(VIRTIO_BLK_F_SIZE_MAX));
	cr_expect_eq(c.num_queues, 3);
	cr_expect_eq(c.wce, 1);
	cr_expect_gt(c.max_discard_sectors, 0);
	cr_expect_gt(c.max_discard_seg, 0);
	cr_expect_gt(c.max_write_zeroes_sectors, 0);
	cr_expect_eq(c.write_zeroes_may_unmap, 1);
	cr_expect_eq(rig.f.offered & (BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_BLK_F_CONFIG_WCE)),
		     BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_BLK_F_CONFIG_WCE));
	cr_expect_gt(set_config(0, 1), 0, "but for writeback it is read-only");
	cr_expect_eq(ask_config().capacity, SECTORS);
	frontend_close(&rig.f);
}

Test(server_blk, a_file_that_grows_is_told)
{
	struct vhost_user_msg m = {0};
	struct vhost_user_reader reader = {0};
	struct pollfd p = {.events = POLLIN};
	struct req r;
	int pair[2];

	open_file((struct file_disk_config){0});
	come(0, P(CONFIG) | P(BACKEND_REQ), 1, 64);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(frontend_set(&rig.f, VHOST_USER_SET_BACKEND_REQ_FD, &m, &pair[1], 1), 0);
	close(pair[1]);
	r = req_new(512);
	cr_expect_eq(request(0, &r, VIRTIO_BLK_T_IN, SECTORS, NULL), VIRTIO_BLK_S_IOERR);
	disk->ops->refresh(disk);
	p.fd = pair[0];
	cr_expect_eq(poll(&p, 1, 50), 0, "nothing has changed");
	cr_assert_eq(truncate(file, 2 * SIZE), 0);
	disk->ops->refresh(disk);
	cr_assert_eq(poll(&p, 1, 5000), 1);
	cr_assert_eq(vhost_user_read(pair[0], &reader), 1);
	cr_assert_eq(reader.msg.request, (uint32_t)VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	cr_expect_eq(ask_config().capacity, 2 * SECTORS);
	write_as(&r, 2 * SECTORS - 1, 4);
	read_is(&r, 2 * SECTORS - 1, 4);
	frontend_close(&rig.f);
	close(pair[0]);
}

/* --- the cache --- */

static bool durable(struct fake_disk *d, const struct req *r)
{
	const unsigned n = d->nlog;

	cr_assert_eq(request(0, r, VIRTIO_BLK_T_OUT, 0, NULL), VIRTIO_BLK_S_OK);
	cr_assert_eq(d->nlog, n + 1);
	return d->log[n].durable;
}

Test(server_blk, writes_are_volatile_while_the_driver_flushes)
{
	const uint32_t wce = offsetof(struct virtio_blk_config, wce);
	struct fake_disk *d = fake();
	struct req r, flush;

	come(FLUSH | BIT(VIRTIO_BLK_F_CONFIG_WCE), P(CONFIG), 1, 64);
	r = req_new(512);
	flush = req_new(0);
	cr_expect_not(durable(d, &r));
	cr_expect_eq(request(0, &flush, VIRTIO_BLK_T_FLUSH, 0, NULL), VIRTIO_BLK_S_OK);
	cr_expect_eq(fake_disk_count(d, DISK_FLUSH), 1);
	cr_expect_eq(set_config(wce, 0), 0);
	cr_expect(durable(d, &r));
	cr_expect_eq(ask_config().wce, 0);
	frontend_close(&rig.f);
	come(FLUSH, P(CONFIG), 1, 64);
	r = req_new(512);
	cr_expect(durable(d, &r), "a lost connection does not change its mind");
	cr_expect_eq(set_config(wce, 1), 0);
	cr_expect_not(durable(d, &r));
	frontend_close(&rig.f);
	come(0, P(CONFIG), 1, 64);
	r = req_new(512);
	cr_expect(durable(d, &r), "who cannot flush does not have to");
	frontend_close(&rig.f);
	blk_server_free(rig.server);
	rig.server = NULL;
	cr_expect_eq(d->mistakes, 0);
	fake_disk_free(d);
}

Test(server_blk, a_disk_that_fails_is_told)
{
	struct fake_disk *d = fake();
	struct req r;
	uint32_t used = 0;

	d->fail[DISK_READ] = -EIO;
	come(0, 0, 1, 64);
	r = req_new(512);
	cr_expect_eq(request(0, &r, VIRTIO_BLK_T_IN, 0, &used), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(used, 1);
	cr_expect_eq(request(0, &r, VIRTIO_BLK_T_OUT, 0, &used), VIRTIO_BLK_S_OK);
	frontend_close(&rig.f);
	blk_server_free(rig.server);
	rig.server = NULL;
	fake_disk_free(d);
}

Test(server_blk, counts_what_it_did)
{
	struct blk_server_counts c;
	struct req r;

	memory();
	come(0, 0, 1, 64);
	r = req_new(4096);
	for (unsigned i = 0; i < 10; i++)
		write_as(&r, 8 * i, i + 1);
	cr_assert_geq(frontend_stop(&rig.f, 0), 0);
	blk_server_counts(rig.server, &c);
	cr_expect_eq(c.requests, 10);
	cr_expect_eq(c.bytes, 40960);
	frontend_close(&rig.f);
}
