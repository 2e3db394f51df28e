/* The disk server with front ends and drivers that do what no good one does, and that come and go. */
#include "tests/unit/open_fds.h"
#include "tests/unit/test_server_blk_disks.h"

TestSuite(server_blk_faults, .init = init, .fini = fini, .timeout = 100);

Test(server_blk_faults, a_chain_across_regions_and_in_small_pieces)
{
	struct driver_buf b[24];
	struct req r;
	unsigned n = 0;
	uint8_t *high;

	memory();
	come(INDIR, 0, 1, 64);
	r = req_new(1024);
	fill(data_of(&r), 1024, 5);
	high = driver_mem_ptr(&rig.f.m, DRIVER_MEM_HIGH_START, 1024);
	memcpy(high, (char *)data_of(&r) + 512, 512);
	put_header(&r, VIRTIO_BLK_T_OUT, 40);
	for (unsigned i = 0; i < 16; i++)
		b[n++] = (struct driver_buf){r.hdr + i, 1, false};
	b[n++] = (struct driver_buf){r.data, 512, false};
	b[n++] = (struct driver_buf){DRIVER_MEM_HIGH_START, 512, false};
	b[n++] = (struct driver_buf){r.status, 1, true};
	cr_assert_eq(chain(0, b, n, &r, NULL), VIRTIO_BLK_S_OK);
	/* Read into both regions, the status byte behind the data in the same piece. */
	memset(high, 0, 1024);
	put_header(&r, VIRTIO_BLK_T_IN, 40);
	n = 0;
	b[n++] = (struct driver_buf){r.hdr, 16, false};
	b[n++] = (struct driver_buf){DRIVER_MEM_HIGH_END - 3, 3, true};
	b[n++] = (struct driver_buf){DRIVER_MEM_HIGH_START, 509, true};
	b[n++] = (struct driver_buf){r.data, 513, true};
	*((uint8_t *)data_of(&r) + 512) = NOTHING;
	chain(0, b, n, &r, NULL);
	cr_assert_eq(*((uint8_t *)data_of(&r) + 512), VIRTIO_BLK_S_OK);
	memmove((char *)data_of(&r) + 512, data_of(&r), 512);
	memcpy(data_of(&r), driver_mem_ptr(&rig.f.m, DRIVER_MEM_HIGH_END - 3, 3), 3);
	memcpy((char *)data_of(&r) + 3, high, 509);
	cr_assert(holds(data_of(&r), 1024, 5));
	frontend_close(&rig.f);
}

Test(server_blk_faults, bad_requests_cost_themselves)
{
	const struct virtio_blk_discard_write_zeroes wrong[] = {
		{.sector = SECTORS, .num_sectors = 1},
		{.sector = 1ull << 63, .num_sectors = 8},
		{.sector = 0, .num_sectors = UINT32_MAX},
	};
	const struct virtio_blk_discard_write_zeroes flags = {.num_sectors = 8, .flags = 2};
	struct driver_buf b[3];
	struct req r;

	memory();
	come(EVENT | RANGES, 0, 1, 64);
	r = req_new(512);
	cr_expect_eq(request(0, &r, VIRTIO_BLK_T_OUT, SECTORS, NULL), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(request(0, &r, VIRTIO_BLK_T_IN, UINT64_MAX, NULL), VIRTIO_BLK_S_IOERR);
	r.len = 100;
	cr_expect_eq(request(0, &r, VIRTIO_BLK_T_OUT, 0, NULL), VIRTIO_BLK_S_IOERR);
	r.len = 512;
	put_header(&r, VIRTIO_BLK_T_OUT, 0);
	b[0] = (struct driver_buf){r.hdr, 8, false};
	b[1] = (struct driver_buf){r.status, 1, true};
	cr_expect_eq(chain(0, b, 2, &r, NULL), VIRTIO_BLK_S_IOERR, "half a header");
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cr_expect_eq(ranges(VIRTIO_BLK_T_DISCARD, &wrong[i], 1), VIRTIO_BLK_S_IOERR);
		cr_expect_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, &wrong[i], 1), VIRTIO_BLK_S_IOERR);
	}
	cr_expect_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, &flags, 1), VIRTIO_BLK_S_UNSUPP);
	read_is(&r, 0, 0);
	write_as(&r, 0, 9);
	read_is(&r, 0, 9);
	frontend_close(&rig.f);
}

static void broken_by(void (*put)(struct req *r))
{
	struct pollfd p = {.events = POLLIN};
	struct req r, other; /* what two threads write, a queue each, is not the same */

	config.nqueues = 2;
	memory();
	come(EVENT, 0, 2, 64);
	r = req_new(512);
	other = req_new(512);
	p.fd = rig.f.q[1].err;
	put(&other);
	cr_assert_eq(poll(&p, 1, 5000), 1, "the front end is told");
	read_is(&r, 0, 0);
	cr_assert_geq(frontend_stop(&rig.f, 1), 0);
	cr_assert_eq(frontend_start(&rig.f, 1, 64, 0), 0);
	cr_assert_eq(request(1, &other, VIRTIO_BLK_T_IN, 0, NULL), VIRTIO_BLK_S_OK, "it starts anew");
	frontend_close(&rig.f);
}

static void put_no_room(struct req *r)
{
	const struct driver_buf b = {r->hdr, 16, false};

	put_header(r, VIRTIO_BLK_T_FLUSH, 0);
	cr_assert_geq(driver_ring_add(&rig.f.q[1].ring, &b, 1), 0);
	frontend_kick(&rig.f, 1);
}

static void put_no_memory(struct req *r)
{
	const struct driver_buf b[] = {{r->hdr, 16, false}, {DRIVER_MEM_LOW_END - 16, 512, true}};

	put_header(r, VIRTIO_BLK_T_IN, 0);
	cr_assert_geq(driver_ring_add(&rig.f.q[1].ring, b, 2), 0);
	frontend_kick(&rig.f, 1);
}

Test(server_blk_faults, a_chain_without_room_for_an_answer_costs_its_queue)
{
	broken_by(put_no_room);
}

Test(server_blk_faults, a_chain_outside_the_memory_costs_its_queue)
{
	broken_by(put_no_memory);
}

Test(server_blk_faults, a_polled_queue_breaks_alike)
{
	config.poll = true;
	broken_by(put_no_room);
}

/* --- coming and going --- */

Test(server_blk_faults, descriptors_stay_as_many_as_they_were)
{
	unsigned before = 0;

	config.nqueues = 2;
	open_file((struct file_disk_config){0});
	for (unsigned i = 0; i < 30; i++) {
		struct req r, other;

		come(EVENT, P(INFLIGHT_SHMFD), 2, 64);
		r = req_new(4096);
		other = req_new(4096);
		write_as(&r, 8 * i, i + 1);
		if (i % 2)
			cr_assert_geq(frontend_stop(&rig.f, 0), 0);
		else /* on its way while the connection ends */
			for (unsigned k = 0; k < 8; k++) {
				add(1, &other, VIRTIO_BLK_T_IN, k);
				frontend_kick(&rig.f, 1);
			}
		frontend_close(&rig.f);
		come(EVENT, 0, 1, 64); /* the one before has been dealt with */
		r = req_new(4096);
		read_is(&r, 8 * i, i + 1);
		frontend_close(&rig.f);
		if (i == 4)
			before = open_fds();
	}
	for (unsigned tries = 0; open_fds() > before && tries < 200; tries++)
		usleep(10000);
	cr_assert_leq(open_fds(), before);
}

/* A request into memory whose file has been cut off, and then somebody else. */
static void cut_off(bool ends)
{
	struct driver_buf b[3];
	struct req r;
	uint8_t status;

	come(EVENT, 0, 1, 64);
	r = req_new(4096);
	write_as(&r, 0, 1);
	b[0] = (struct driver_buf){r.hdr, 16, false};
	b[1] = (struct driver_buf){DRIVER_MEM_HIGH_START, 4096, true};
	b[2] = (struct driver_buf){r.status, 1, true};
	put_header(&r, VIRTIO_BLK_T_IN, 0);
	cr_assert_eq(ftruncate(rig.f.mem_fd, DRIVER_MEM_LOW_END), 0);
	status = chain(0, b, 3, &r, NULL);
	if (ends)
		cr_assert(frontend_closed(&rig.f));
	else
		cr_assert_eq(status, VIRTIO_BLK_S_IOERR);
	frontend_close(&rig.f);
	come(EVENT, 0, 1, 64);
	r = req_new(4096);
	read_is(&r, 0, 1);
	frontend_close(&rig.f);
}

Test(server_blk_faults, memory_that_is_cut_off_costs_its_front_end)
{
	memory();
	cut_off(true);
}

Test(server_blk_faults, memory_that_is_cut_off_costs_a_request_of_a_file)
{
	open_file((struct file_disk_config){0});
	cut_off(false);
}

Test(server_blk_faults, memory_that_is_cut_off_costs_a_request_of_plain_calls)
{
	open_file((struct file_disk_config){.aio = FILE_AIO_SYNC, .direct = true});
	cut_off(false);
}

Test(server_blk_faults, a_stop_waits_for_what_is_in_flight)
{
	struct fake_disk *d = fake();
	struct req r[8];
	uint32_t used;
	uint16_t id;

	come(EVENT, 0, 1, 64);
	d->hold = true;
	for (unsigned i = 0; i < 8; i++) {
		r[i] = req_new(512);
		add(0, &r[i], VIRTIO_BLK_T_OUT, i);
	}
	frontend_kick(&rig.f, 0);
	while (d->held < 8)
		usleep(1000);
	cr_assert_eq(frontend_stop(&rig.f, 0), 8, "the position behind all of them");
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(frontend_collect(&rig.f, 0, &id, &used, 0), 1);
	for (unsigned i = 0; i < 8; i++)
		cr_expect_eq(status_of(&r[i]), VIRTIO_BLK_S_OK);
	d->hold = false;
	cr_assert_eq(frontend_resume(&rig.f, 0), 0);
	cr_assert_eq(request(0, &r[0], VIRTIO_BLK_T_IN, 0, NULL), VIRTIO_BLK_S_OK);
	frontend_close(&rig.f);
	blk_server_free(rig.server);
	rig.server = NULL;
	cr_expect_eq(d->mistakes, 0);
	cr_expect_eq(d->lanes, 0);
	fake_disk_free(d);
}
