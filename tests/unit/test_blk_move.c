/* A block device changes its datapath: there and back, with requests in flight, with no driver, a hundred
 * times. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "tests/unit/blk_move_rig.h"

TestSuite(blk_move, .init = setup, .fini = teardown_once, .timeout = 20);

/* --- there and back --- */

WholeTest(blk_move, another_takes_the_disk_over_and_gives_it_back)
{
	live();
	cr_expect(writes(1, 0x11));
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(disk->destroyed, 1);
	cr_expect_eq(disk->lanes, 0);
	cr_expect(reads(1));
	cr_expect(writes(2, 0x22));
	cr_expect(reads(3));
	cr_expect_eq(disk->nlog, 1);
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
	cr_expect_eq(remote.destroyed, 1);
	cr_expect(reads(1));
	cr_expect(reads(2));
	cr_expect(writes(3, 0x33));
	cr_expect_eq(other->nlog, 3);
	cr_expect_gt(moved.stopped_ns, 0);
}

WholeTest(blk_move, one_disk_after_another)
{
	live();
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
	cr_expect_eq(disk->destroyed, 1);
	cr_expect(writes(2, 0x22));
	cr_expect_eq(other->nlog, 1);
	other->disk.size = SIZE / 2;
	other->disk.resized(other->disk.opaque);
	cr_expect_eq(g.ft.config_irqs, 1);
	cr_expect_eq(le64toh(config().capacity), SECTORS / 2);
}

WholeTest(blk_move, one_remote_after_another)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_assert_eq(to_remote(&second), 0, "%s", e.text);
	cr_expect_eq(remote.destroyed, 1);
	cr_expect(writes(2, 0x22));
	cr_expect(reads(3));
	second.config[0]++;
	cr_expect_eq(le64toh(config().capacity), SECTORS + 1);
}

WholeTest(blk_move, packed_rings_move_too)
{
	remote.offer.drains = true;
	live_with(~BIT(VIRTIO_F_IN_ORDER));
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned n = 0; n < 50; n++) /* more than once round */
			cr_assert(writes(n, (uint8_t)(n + i)));
		cr_assert_eq(i == 1 ? to_disk(other) : to_remote(i ? &second : &remote), 0, "%s", e.text);
	}
	cr_expect(reads(7));
}

WholeTest(blk_move, every_queue_moves)
{
	struct blk_rig_req r = {.type = VIRTIO_BLK_T_IN, .data = buf, .len = 512, .sector = 9};

	g.nqueues = 3;
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(remote.running, 7);
	for (unsigned q = 0; q < 3; q++) {
		blk_rig_send(&g, q, &r);
		cr_expect_eq(blk_rig_result(&g, q, &r), VIRTIO_BLK_S_OK);
		cr_expect_eq(memcmp(buf, disk->data + 9 * 512, 512), 0);
	}
}

/* --- requests in flight --- */

#define MANY 16u

static void send_writes(struct blk_rig_req *r, uint8_t what)
{
	memset(buf, what, 512);
	for (unsigned i = 0; i < MANY; i++) {
		r[i] = (struct blk_rig_req){.type = VIRTIO_BLK_T_OUT, .sector = i, .data = buf, .len = 512};
		blk_rig_send(&g, 0, &r[i]);
	}
}

/* All of them have come back, once, well. */
static void expect_answered(struct blk_rig_req *r, uint8_t what)
{
	unsigned seen = 0;
	uint32_t len;
	uint16_t id;

	for (unsigned n = 0; n < MANY; n++) {
		cr_assert(blk_rig_wait(&g, 0, &id, &len));
		for (unsigned i = 0; i < MANY; i++)
			if (r[i].id == id) {
				cr_expect_not(seen & 1u << i);
				seen |= 1u << i;
				cr_expect_eq(*(uint8_t *)driver_mem_ptr(&g.m, r[i].status, 1), VIRTIO_BLK_S_OK);
				cr_expect_eq(disk->data[512 * i], what);
			}
	}
	cr_expect_eq(seen, (1u << MANY) - 1);
	cr_expect_eq(driver_ring_collect(&g.ring[0], NULL, NULL), 0);
}

WholeTest(blk_move, requests_in_flight_here_end_before_another_starts)
{
	struct blk_rig_req r[MANY];

	disk->hold = true;
	live();
	send_writes(r, 0x77);
	while (disk->held < MANY)
		sched_yield();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(remote.started[0].next, MANY);
	expect_answered(r, 0x77);
	cr_expect_eq(disk->nlog, MANY);
	cr_expect(reads(3));
}

WholeTest(blk_move, requests_that_were_not_begun_are_the_nexts)
{
	struct blk_rig_req r[MANY];

	remote.serve = do_not_answer;
	remote.offer.drains = true;
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	send_writes(r, 0x78);
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
	expect_answered(r, 0x78);
	cr_expect_eq(other->nlog, MANY);
}

static void serve_now(void *f)
{
	((struct fake_datapath *)f)->serve = answer;
	fake_datapath_serve(f);
}

static void *serve_later(void *f)
{
	usleep(3000);
	evloop_call(far_loop.loop, serve_now, f);
	return NULL;
}

WholeTest(blk_move, another_that_does_not_drain_is_waited_for)
{
	struct blk_rig_req r[MANY];
	pthread_t t;

	remote.serve = do_not_answer;
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	send_writes(r, 0x79);
	cr_assert_eq(pthread_create(&t, NULL, serve_later, &remote), 0);
	cr_assert_eq(blk_move(g.dev, &other->disk, NULL, &(struct virtio_move_how){.drain_ms = 5000}, &moved,
			      &e),
		     0, "%s", e.text);
	pthread_join(t, NULL);
	cr_expect_eq(remote.stopped[0].next, 0);
	cr_expect_geq(moved.drained_ns, 1000000);
	expect_answered(r, 0x79);
	cr_expect_eq(other->nlog, 0);
}

WholeTest(blk_move, another_that_does_not_answer_in_time_goes_on)
{
	struct blk_rig_req r[MANY];

	remote.serve = do_not_answer;
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	send_writes(r, 0x7a);
	cr_assert_eq(to_disk(other), -ETIMEDOUT);
	cr_expect_eq(remote.stops, 0);
	cr_expect_eq(other->lanes, 0);
	evloop_call(far_loop.loop, serve_now, &remote);
	expect_answered(r, 0x7a);
	cr_assert_eq(to_disk(other), 0, "%s", e.text);
}

WholeTest(blk_move, a_packed_ring_that_nobody_can_see_empty_stays)
{
	live_with(~BIT(VIRTIO_F_IN_ORDER));
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_assert_eq(to_disk(other), -EOPNOTSUPP);
	cr_expect(strstr(e.text, "packed=off"), "%s", e.text);
	cr_expect(writes(3, 0x33));
}

/* --- it does not start --- */

WholeTest(blk_move, the_disk_goes_on_when_the_remote_does_not_start)
{
	struct blk_rig_req r[MANY];

	disk->hold = true;
	live();
	set_wce(0);
	send_writes(r, 0x55);
	while (disk->held < MANY)
		sched_yield();
	remote.start_err = -ENODEV;
	cr_assert_eq(to_remote(&remote), -ENODEV);
	expect_answered(r, 0x55);
	disk->hold = false;
	cr_expect_eq(config().wce, 0);
	expect_unmoved();
}

WholeTest(blk_move, the_remote_goes_on_when_the_disk_does_not_start)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	other->fail_lane = ENOMEM;
	cr_assert_eq(to_disk(other), -ENOMEM);
	cr_expect_eq(other->destroyed + remote.destroyed, 0);
	cr_expect_null(other->disk.resized, "it is not this device's");
	cr_expect(writes(3, 0x33));
	cr_expect(reads(4));
	cr_expect_eq(le64toh(config().capacity), SECTORS);
}

/* --- without a driver, or before it is ready --- */

WholeTest(blk_move, a_device_that_no_driver_has_found_yet_may_become_any_disk)
{
	make();
	served->capacity = htole64(SECTORS / 2);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	cr_expect_eq(disk->destroyed, 1);
	cr_expect_eq(le64toh(config().capacity), SECTORS / 2);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	cr_expect_eq(remote.running, 1);
	cr_expect(writes(3, 0x33));
}

WholeTest(blk_move, what_it_said_at_the_move_stands_when_it_answers_no_more)
{
	live();
	served->seg_max = htole32(200);
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	remote.config_err = -EPIPE;
	cr_expect_eq(le64toh(config().capacity), SECTORS);
	cr_expect_eq(config().seg_max, htole32(200));
}

WholeTest(blk_move, what_it_said_stands_when_the_next_does_not_start)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	((struct virtio_blk_config *)(void *)second.config)->seg_max = htole32(200);
	second.start_err = -EIO;
	cr_assert_eq(to_remote(&second), -EIO);
	remote.config_err = -EPIPE;
	cr_expect_eq(config().seg_max, served->seg_max);
}

WholeTest(blk_move, resets_after_a_move_reach_the_new)
{
	live();
	cr_assert_eq(to_remote(&remote), 0, "%s", e.text);
	blk_rig_reset(&g);
	cr_expect_eq(remote.running, 0);
	cr_assert(blk_rig_live(&g, EVERY_BIT));
	cr_expect(writes(3, 0x33));
}

/* --- a hundred moves --- */

static pthread_mutex_t vcpu = PTHREAD_MUTEX_INITIALIZER; /* held: it is paused */
static _Atomic bool pausing, ending;
static _Atomic unsigned wrong, finished;
static struct blk_rig_req slot[MANY]; /* sector n is slot n's */
static uint8_t version[MANY];         /* of what is on the disk */
static bool reading[MANY];

/* Each slot writes its sector, reads it back and compares. */
static void begin(unsigned i)
{
	struct driver_buf b[3] = {{slot[i].hdr, sizeof(struct virtio_blk_outhdr), false},
				  {slot[i].buf, 512, reading[i]},
				  {slot[i].status, 1, true}};
	struct virtio_blk_outhdr hdr = {.type = htole32(reading[i] ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT),
					.sector = htole64(i)};

	memcpy(driver_mem_ptr(&g.m, slot[i].hdr, sizeof(hdr)), &hdr, sizeof(hdr));
	memset(driver_mem_ptr(&g.m, slot[i].buf, 512), reading[i] ? 0xee : ++version[i], 512);
	*(uint8_t *)driver_mem_ptr(&g.m, slot[i].status, 1) = 0xee;
	slot[i].id = blk_rig_add(&g, 0, b, 3);
}

static void end(uint16_t id, bool more)
{
	const uint8_t *data;

	for (unsigned i = 0; i < MANY; i++) {
		if (slot[i].id != id)
			continue;
		finished++;
		wrong += *(uint8_t *)driver_mem_ptr(&g.m, slot[i].status, 1) != VIRTIO_BLK_S_OK;
		data = driver_mem_ptr(&g.m, slot[i].buf, 512);
		wrong += data[0] != version[i] || data[511] != version[i];
		reading[i] = !reading[i];
		slot[i].id = UINT16_MAX;
		if (more)
			begin(i);
		return;
	}
	wrong++;
}

static void *drive(void *unused)
{
	uint16_t id;

	while (!ending) {
		if (!pausing) {
			pthread_mutex_lock(&vcpu);
			while (driver_ring_collect(&g.ring[0], &id, NULL) == 1)
				end(id, true);
			pthread_mutex_unlock(&vcpu);
		}
		sched_yield();
	}
	return unused;
}

static void a_hundred_moves(void)
{
	struct fake_disk *disks[50];
	uint32_t len;
	uint16_t id;
	pthread_t t;

	live();
	for (unsigned i = 0; i < MANY; i++) {
		slot[i].hdr = driver_mem_alloc(&g.m, sizeof(struct virtio_blk_outhdr), 16);
		slot[i].buf = driver_mem_alloc(&g.m, 512, 512);
		slot[i].status = driver_mem_alloc(&g.m, 1, 1);
		begin(i);
	}
	cr_assert_eq(pthread_create(&t, NULL, drive, NULL), 0);
	for (unsigned n = 0; n < 100; n++) {
		struct disk *to = NULL;

		if (n % 2) {
			disks[n / 2] = disk_new(disk->data);
			to = &disks[n / 2]->disk;
		}
		pausing = true;
		pthread_mutex_lock(&vcpu);
		pausing = false;
		cr_assert_eq(blk_move(g.dev, to, to ? NULL : &remote.dp,
				      &(struct virtio_move_how){.drain_ms = 5000}, &moved, &e),
			     0, "%s", e.text);
		pthread_mutex_unlock(&vcpu);
		for (const unsigned before = finished; finished - before < 2 * MANY;)
			sched_yield();
	}
	ending = true;
	pthread_join(t, NULL);
	for (unsigned left = g.ring[0].norder; left; left--) {
		cr_assert(blk_rig_wait(&g, 0, &id, &len));
		end(id, false);
	}
	cr_expect_eq(wrong, 0);
	cr_expect_eq(remote.destroyed, 50);
	for (unsigned i = 0; i < MANY; i++)
		cr_expect_eq(disk->data[512 * i], version[i]);
	blk_rig_fini(&g);
	g.dev = NULL;
	for (unsigned i = 0; i < 50; i++) {
		cr_expect_eq(disks[i]->destroyed, 1);
		cr_expect_eq(disks[i]->mistakes + disks[i]->lanes, 0);
		disks[i]->data = NULL;
		fake_disk_free(disks[i]);
	}
}

WholeTest(blk_move, a_hundred_moves_under_load_lose_no_request)
{
	a_hundred_moves();
}

WholeTest(blk_move, a_hundred_moves_to_one_that_keeps_copies_of_eventfds)
{
	remote.offer.keeps_fds = true;
	a_hundred_moves();
}
