/* What virtqueues do for drivers that behave.  Most of it is asked of both formats. */
#include "tests/unit/vq_fixture.h"

TestSuite(virtqueue, .fini = finish, .timeout = 20);

/* Each test body runs for both formats. */
#define BOTH(name)                                                                                             \
	static void name(uint64_t f);                                                                          \
	Test(virtqueue, name##_split)                                                                          \
	{                                                                                                      \
		name(0);                                                                                       \
	}                                                                                                      \
	Test(virtqueue, name##_packed)                                                                         \
	{                                                                                                      \
		name(PACKED);                                                                                  \
	}                                                                                                      \
	static void name(uint64_t f)

/* --- vq_new --- */

static int new_with(void (*change)(void))
{
	struct virtqueue *other = NULL;
	struct datapath_queue saved = q;
	int rc;

	change();
	rc = vq_new(&other, &q, &m.mem, r.packed ? PACKED : 0);
	vq_free(other);
	q = saved;
	return rc;
}

#define CHANGE(name, ...)                                                                                      \
	static void name(void)                                                                                 \
	{                                                                                                      \
		__VA_ARGS__;                                                                                   \
	}
CHANGE(size_zero, q.size = 0)
CHANGE(size_three, q.size = 3)
CHANGE(size_huge, q.size = 32769)
CHANGE(desc_8, q.desc += 8)
CHANGE(avail_1, q.avail += 1)
CHANGE(avail_2, q.avail += 2)
CHANGE(used_2, q.used += 2)
CHANGE(desc_hole, q.desc = DRIVER_MEM_LOW_END)
CHANGE(desc_seam, q.desc = DRIVER_MEM_LOW_END - 64)
CHANGE(avail_wrap, q.avail = UINT64_MAX - 3)
CHANGE(used_top, q.used = DRIVER_MEM_HIGH_END - 4)
CHANGE(used_gone, q.used = 1ull << 40)
CHANGE(position_beyond, q.next = 0x8000 | 8)
CHANGE(nothing, (void)0)

Test(virtqueue, refuses_sizes_that_are_none)
{
	start(8, 0);
	cr_expect_eq(new_with(size_zero), -EINVAL);
	cr_expect_eq(new_with(size_three), -EINVAL);
	cr_expect_eq(new_with(size_huge), -EINVAL);
	cr_expect_eq(new_with(nothing), 0);
}

Test(virtqueue, packed_takes_any_size_up_to_32768)
{
	start(8, PACKED);
	cr_expect_eq(new_with(size_zero), -EINVAL);
	cr_expect_eq(new_with(size_three), 0);
	cr_expect_eq(new_with(size_huge), -EINVAL);
	cr_expect_eq(new_with(position_beyond), -EINVAL);
}

Test(virtqueue, refuses_misaligned_areas)
{
	start(8, 0);
	cr_expect_eq(new_with(desc_8), -EINVAL);
	cr_expect_eq(new_with(avail_1), -EINVAL);
	cr_expect_eq(new_with(avail_2), 0);
	cr_expect_eq(new_with(used_2), -EINVAL);
}

Test(virtqueue, packed_refuses_misaligned_areas)
{
	start(8, PACKED);
	cr_expect_eq(new_with(desc_8), -EINVAL);
	cr_expect_eq(new_with(avail_2), -EINVAL);
	cr_expect_eq(new_with(used_2), -EINVAL);
}

BOTH(refuses_areas_outside_ram)
{
	start(8, f);
	cr_expect_eq(new_with(desc_hole), -EINVAL);
	cr_expect_eq(new_with(desc_seam), -EINVAL);
	cr_expect_eq(new_with(avail_wrap), -EINVAL);
	cr_expect_eq(new_with(used_gone), -EINVAL);
	cr_expect_eq(new_with(used_top), f ? 0 : -EINVAL);
}

Test(virtqueue, event_fields_need_room_only_with_event_idx)
{
	struct virtqueue *other;

	start(8, 0);
	q.avail = DRIVER_MEM_HIGH_END - (4 + 2 * 8);
	cr_assert_eq(vq_new(&other, &q, &m.mem, 0), 0);
	vq_free(other);
	cr_expect_eq(vq_new(&other, &q, &m.mem, EVENT), -EINVAL);
}

Test(virtqueue, free_of_null_is_fine)
{
	vq_free(NULL);
}

BOTH(says_what_it_was_given)
{
	int what;

	start(8, f);
	cr_expect_eq(vq_size(vq), 8);
	cr_expect_eq(vq_index(vq), 0);
	cr_expect_eq(vq_stats(vq), &stats);
	cr_expect_null(vq_opaque(vq));
	vq_set_opaque(vq, &what);
	cr_expect_eq(vq_opaque(vq), &what);
}

/* --- chains --- */

BOTH(an_empty_ring_has_nothing)
{
	start(8, f);
	cr_expect_eq(vq_pop(vq, &c), 0);
	cr_expect_eq(vq_inflight(vq), 0);
	cr_expect_eq(vq_error(vq), 0);
}

BOTH(a_chain_arrives_piece_by_piece)
{
	struct driver_buf b[4] = {{0x10001, 10, false},
				  {DRIVER_MEM_HIGH_START, 20, false},
				  {0x20000, 30, true},
				  {DRIVER_MEM_LOW_END - 40, 40, true}};
	int id;

	start(8, f);
	id = driver_ring_add(&r, b, 4);
	driver_ring_kick(&r);
	cr_assert_eq(vq_pop(vq, &c), 1);
	cr_expect_eq(c.head, id);
	cr_expect_eq(c.nout, 2);
	cr_expect_eq(c.nin, 2);
	cr_expect_eq(c.out_len, 30);
	cr_expect_eq(c.in_len, 70);
	for (unsigned i = 0; i < 4; i++) {
		cr_expect_eq(iov[i].iov_base, driver_mem_ptr(&m, b[i].addr, b[i].len));
		cr_expect_eq(iov[i].iov_len, b[i].len);
	}
	cr_expect_eq(vq_inflight(vq), 1);
	cr_expect_eq(vq_pop(vq, &c), 0);
}

BOTH(an_indirect_chain_is_as_good)
{
	struct driver_buf b[4] = {{0x10000, 10, false},
				  {0x11000, 20, true},
				  {0x12000, 30, true},
				  {0x13000, 40, true}};
	int id;

	start(4, f | INDIRECT);
	id = driver_ring_add_indirect(&r, 0x200003, b, 4); /* a table may lie anywhere */
	driver_ring_kick(&r);
	cr_assert_eq(take(), id);
	cr_expect_eq(c.nout, 1);
	cr_expect_eq(c.nin, 3);
	cr_expect_eq(c.in_len, 90);
	cr_expect_eq(iov[3].iov_base, driver_mem_ptr(&m, 0x13000, 40));
	vq_push(vq, c.head, 90);
	vq_flush(vq);
	collects(id, 90);
}

Test(virtqueue, direct_descriptors_may_come_before_an_indirect_one)
{
	struct vring_desc *table;

	start(4, INDIRECT);
	table = driver_mem_ptr(&m, 0x200000, 32);
	table[0] = (struct vring_desc){.addr = 0x12000, .len = 3, .flags = VRING_DESC_F_WRITE};
	r.desc[2] = (struct vring_desc){.addr = 0x10000, .len = 1, .flags = VRING_DESC_F_NEXT, .next = 0};
	r.desc[0] = (struct vring_desc){.addr = 0x11000, .len = 2, .flags = VRING_DESC_F_NEXT, .next = 3};
	/* The WRITE flag of the one that refers to the table means nothing: 2.7.5.3.2. */
	r.desc[3] = (struct vring_desc){.addr = 0x200000,
					.len = 32,
					.flags = VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE};
	driver_ring_offer(&r, 2);
	driver_ring_kick(&r);
	cr_assert_eq(take(), 2);
	cr_expect_eq(c.nout, 2);
	cr_expect_eq(c.nin, 1);
	cr_expect_eq(c.out_len, 3);
	cr_expect_eq(c.in_len, 3);
}

BOTH(unknown_flags_are_ignored)
{
	start(8, f);
	if (f) {
		driver_ring_put(&r, 0x10000, 16, 5, 0x7f78);
	} else {
		r.desc[5] = (struct vring_desc){.addr = 0x10000, .len = 16, .flags = 0xfff8};
		driver_ring_offer(&r, 5);
	}
	driver_ring_kick(&r);
	cr_assert_eq(take(), 5);
	cr_expect_eq(c.nout, 1);
	cr_expect_eq(c.nin, 0);
}

BOTH(an_empty_descriptor_adds_no_piece_wherever_it_points)
{
	struct driver_buf b[3] = {{UINT64_MAX, 0, false}, {0x10000, 5, false}, {UINT64_MAX - 15, 0, true}};

	start(8, f);
	driver_ring_add(&r, b, 3);
	driver_ring_add(&r, b, 1);
	driver_ring_kick(&r);
	take();
	cr_expect_eq(c.nout, 1);
	cr_expect_eq(c.nin, 0);
	cr_expect_eq(c.out_len, 5);
	take();
	cr_expect_eq(c.nout + c.nin, 0);
}

BOTH(as_many_pieces_as_iov_holds)
{
	struct driver_buf b[NIOV];

	start(NIOV, f);
	for (unsigned i = 0; i < NIOV; i++)
		b[i] = (struct driver_buf){0x10000 + 16 * i, 16, i > 3};
	driver_ring_add(&r, b, NIOV);
	driver_ring_kick(&r);
	take();
	cr_expect_eq(c.nout, 4);
	cr_expect_eq(c.nin, NIOV - 4);
}

BOTH(an_indirect_table_longer_than_the_queue_is_let_through)
{
	struct driver_buf b[NIOV];

	start(2, f | INDIRECT);
	for (unsigned i = 0; i < NIOV; i++)
		b[i] = (struct driver_buf){0x10000 + 16 * i, 16, true};
	driver_ring_add_indirect(&r, 0x200000, b, NIOV);
	driver_ring_kick(&r);
	take();
	cr_expect_eq(c.nin, NIOV);
}

BOTH(a_chain_of_4_gib_is_the_longest)
{
	struct driver_buf b[4];

	start(4, f);
	for (unsigned i = 0; i < 4; i++)
		b[i] = (struct driver_buf){0x0, 1u << 30, true};
	m.mem.region[0].size = 1ull << 30; /* never touched */
	driver_ring_add(&r, b, 4);
	driver_ring_kick(&r);
	take();
	cr_expect_eq(c.in_len, 1ull << 32);
	m.mem.region[0].size = DRIVER_MEM_LOW_END;
}

/* --- used --- */

BOTH(used_len_is_exactly_what_was_written)
{
	int id[3];

	start(8, f);
	id[0] = add2(100, 200);
	id[1] = add2(100, 200);
	id[2] = add(300, false);
	driver_ring_kick(&r);
	for (unsigned i = 0; i < 3; i++)
		take();
	vq_push(vq, (uint16_t)id[0], 0);
	vq_push(vq, (uint16_t)id[1], 17);
	vq_push(vq, (uint16_t)id[2], 0);
	vq_flush(vq);
	collects(id[0], 0);
	collects(id[1], 17);
	collects(id[2], 0);
	collects_nothing();
}

BOTH(chains_come_back_in_any_order)
{
	int a, b, d;

	start(8, f);
	a = add2(1, 1);
	b = add(1, true);
	d = add2(1, 1);
	driver_ring_kick(&r);
	take();
	take();
	take();
	vq_push(vq, (uint16_t)d, 1);
	vq_flush(vq);
	collects(d, 1);
	vq_push(vq, (uint16_t)a, 1);
	vq_push(vq, (uint16_t)b, 1);
	vq_flush(vq);
	collects(a, 1);
	collects(b, 1);
	cr_expect_eq(vq_inflight(vq), 0);
}

BOTH(nothing_is_shown_before_flush)
{
	int a, b;

	start(8, f);
	a = add(1, true);
	b = add(1, true);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	vq_push(vq, take(), 1);
	collects_nothing();
	vq_flush(vq);
	collects(a, 1);
	collects(b, 1);
}

BOTH(heads_can_be_used_again_once_they_are_back)
{
	start(4, f);
	for (unsigned i = 0; i < 1000; i++) {
		int a = add2(1, 1), b = add2(1, 1);

		cr_assert_geq(b, 0);
		driver_ring_kick(&r);
		take();
		take();
		vq_push(vq, (uint16_t)(i % 2 ? a : b), i);
		vq_push(vq, (uint16_t)(i % 2 ? b : a), i);
		vq_flush(vq);
		collects(i % 2 ? a : b, i);
		collects(i % 2 ? b : a, i);
	}
}

/* More than 65536 of them, and all at once: neither the index nor the wrap counter may get lost. */
static void lap(uint16_t size, uint64_t f, unsigned rounds)
{
	struct driver_buf b = {0x10000, 64, true};

	start(size, f);
	for (unsigned i = 0; i < rounds; i++) {
		for (unsigned n = 0; n < size; n++)
			cr_assert_geq(driver_ring_add(&r, &b, 1), 0);
		driver_ring_kick(&r);
		for (unsigned n = 0; n < size; n++)
			vq_push(vq, take(), n);
		cr_assert_eq(vq_pop(vq, &c), 0);
		vq_flush(vq);
		for (unsigned n = 0; n < size; n++) {
			uint32_t len;

			cr_assert_eq(driver_ring_collect(&r, NULL, &len), 1);
			cr_assert_eq(len, n);
		}
	}
	cr_expect_eq(vq_error(vq), 0);
}

Test(virtqueue, index_wraps_split)
{
	lap(256, 0, 600);
}

Test(virtqueue, index_wraps_split_event)
{
	lap(64, EVENT, 1100);
}

Test(virtqueue, index_wraps_packed)
{
	lap(100, PACKED, 700);
}

Test(virtqueue, index_wraps_packed_event_in_order)
{
	lap(100, PACKED | EVENT | IN_ORDER, 700);
}

Test(virtqueue, a_queue_of_one_works_split)
{
	lap(1, 0, 70000);
}

Test(virtqueue, a_queue_of_one_works_packed)
{
	lap(1, PACKED | EVENT, 70000);
}

Test(virtqueue, a_queue_of_one_works_in_order)
{
	lap(1, IN_ORDER, 70000);
}

Test(virtqueue, the_largest_queue_split)
{
	lap(32768, 0, 3);
}

Test(virtqueue, the_largest_queue_packed)
{
	lap(32768, PACKED, 3);
}

/* --- calls --- */

BOTH(a_burst_calls_once)
{
	start(8, f);
	for (unsigned i = 0; i < 5; i++)
		add(1, true);
	driver_ring_kick(&r);
	while (vq_pop(vq, &c) > 0)
		vq_push(vq, c.head, 1);
	cr_expect_eq(calls(), 0);
	vq_flush(vq);
	cr_expect_eq(calls(), 1);
	vq_flush(vq);
	cr_expect_eq(calls(), 0, "nothing new to show");
}

BOTH(no_interrupt_wanted_none_sent)
{
	start(8, f);
	driver_ring_irq(&r, false, 0);
	add(1, true);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	vq_flush(vq);
	cr_expect_eq(calls(), 0);
	cr_expect_eq(stats.calls, 0);
	cr_expect_eq(stats.calls_suppressed, 1);
	driver_ring_irq(&r, true, 0);
	add(1, true);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	vq_flush(vq);
	cr_expect_eq(calls(), 1);
}

/* The driver wants to hear when `after` + 1 have been used; they are used in bursts of `burst`. */
static unsigned event_heard_in(uint64_t f, uint16_t pos, uint16_t after, unsigned burst)
{
	unsigned heard = 0;

	start_at(16, f | EVENT, pos);
	driver_ring_irq(&r, true, after);
	for (unsigned i = 0; i < 16; i++)
		add(1, true);
	driver_ring_kick(&r);
	for (unsigned i = 1; i <= 16 / burst; i++) {
		for (unsigned n = 0; n < burst; n++)
			vq_push(vq, take(), 1);
		vq_flush(vq);
		if (calls()) {
			cr_expect_eq(heard, 0, "once is enough");
			heard = i;
		}
	}
	finish();
	return heard;
}

BOTH(used_event_is_looked_for_in_the_whole_burst)
{
	uint16_t first = f ? 0x8000 : 0;

	cr_expect_eq(event_heard_in(f, first, 0, 1), 1);
	cr_expect_eq(event_heard_in(f, first, 6, 1), 7);
	cr_expect_eq(event_heard_in(f, first, 3, 4), 1);
	cr_expect_eq(event_heard_in(f, first, 4, 4), 2);
	cr_expect_eq(event_heard_in(f, first, 7, 4), 2);
	cr_expect_eq(event_heard_in(f, first, 15, 16), 1);
	cr_expect_eq(event_heard_in(f, first, 15, 4), 4);
}

BOTH(used_event_is_found_across_the_wrap)
{
	uint16_t late = f ? 0x8000 | 13 : 65533, later = f ? 13 : 65533;

	for (uint16_t after = 0; after < 16; after++) {
		cr_expect_eq(event_heard_in(f, late, after, 1), after + 1u);
		cr_expect_eq(event_heard_in(f, later, after, 4), after / 4 + 1u);
	}
}

BOTH(without_a_call_fd_nothing_is_written)
{
	int fd;

	start(8, f);
	fd = q.call_fd;
	vq_free(vq);
	q.call_fd = -1;
	cr_assert_eq(vq_new(&vq, &q, &m.mem, f), 0);
	q.call_fd = fd;
	add(1, true);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	vq_flush(vq);
	cr_expect_eq(stats.calls, 0);
	cr_expect_eq(stats.chains, 1);
}

BOTH(counts_what_it_does)
{
	start(8, f);
	for (unsigned burst = 1; burst <= 3; burst++) {
		for (unsigned n = 0; n < burst; n++)
			add(1, true);
		driver_ring_kick(&r);
		while (vq_pop(vq, &c) > 0)
			vq_push(vq, c.head, 1);
		vq_wait(vq);
		vq_wait(vq);
		while (driver_ring_collect(&r, NULL, NULL) > 0)
			;
	}
	cr_expect_eq(stats.bursts, 3);
	cr_expect_eq(stats.chains, 6);
	cr_expect_eq(stats.calls + stats.calls_suppressed, 3);
}

/* --- kicks --- */

static void kicks(uint64_t f)
{
	start(8, f);
	add(1, true);
	cr_expect(driver_ring_kick(&r), "asked for from the start");
	vq_busy(vq);
	vq_push(vq, take(), 1);
	add(1, true);
	cr_expect_not(driver_ring_kick(&r), "not while it is busy");
	vq_push(vq, take(), 1);
	cr_expect_eq(vq_pop(vq, &c), 0);
	cr_expect_not(vq_wait(vq));
	add(1, true);
	cr_expect(driver_ring_kick(&r), "when it waits");
	vq_busy(vq);
	take();
	add(1, true);
	cr_expect_not(driver_ring_kick(&r));
}

BOTH(kicks_are_wanted_while_waiting_only)
{
	kicks(f);
}

BOTH(kicks_are_wanted_while_waiting_only_event_idx)
{
	kicks(f | EVENT);
}

Test(virtqueue, used_flags_stay_zero_with_event_idx)
{
	start(8, EVENT);
	vq_busy(vq);
	cr_expect_eq(r.used->flags, 0);
}

static void late(uint64_t f)
{
	start(8, f);
	cr_expect_eq(vq_pop(vq, &c), 0);
	add(1, true);
	driver_ring_kick(&r); /* too late for vq_pop(), too early for a kick */
	cr_expect(vq_wait(vq));
	take();
	cr_expect_eq(vq_pop(vq, &c), 0);
	cr_expect_not(vq_wait(vq));
}

BOTH(wait_sees_what_came_after_the_last_pop)
{
	late(f);
}

BOTH(wait_sees_what_came_after_the_last_pop_event_idx)
{
	late(f | EVENT);
}

BOTH(wait_says_so_when_a_chain_was_never_looked_at)
{
	start(8, f);
	add(1, true);
	add(1, true);
	driver_ring_kick(&r);
	take();
	cr_expect(vq_wait(vq));
}

BOTH(wait_flushes)
{
	int id;

	start(8, f);
	id = add(1, true);
	driver_ring_kick(&r);
	vq_push(vq, take(), 1);
	vq_wait(vq);
	collects(id, 1);
}

/* --- unpop --- */

BOTH(what_is_unpopped_comes_again)
{
	int id[3];

	start(16, f | INDIRECT);
	id[0] = add2(1, 1);
	id[1] = add2(2, 2);
	id[2] = add(3, true);
	driver_ring_kick(&r);
	take();
	take();
	take();
	vq_unpop(vq, 2);
	cr_expect_eq(vq_inflight(vq), 1);
	cr_expect_eq(take(), id[1]);
	cr_expect_eq(c.out_len, 2);
	cr_expect_eq(take(), id[2]);
	cr_expect_eq(vq_pop(vq, &c), 0);
	vq_unpop(vq, 3);
	cr_expect_eq(vq_inflight(vq), 0);
	for (unsigned i = 0; i < 3; i++) {
		cr_expect_eq(take(), id[i]);
		vq_push(vq, c.head, i);
	}
	vq_flush(vq);
	for (unsigned i = 0; i < 3; i++)
		collects(id[i], i);
}

BOTH(position_follows_unpop)
{
	uint16_t before;

	start(4, f);
	for (unsigned i = 0; i < 9; i++) {
		before = vq_position(vq);
		add2(1, 1);
		add(1, true);
		driver_ring_kick(&r);
		take();
		take();
		vq_unpop(vq, 2);
		cr_expect_eq(vq_position(vq), before);
		vq_push(vq, take(), 0);
		vq_push(vq, take(), 0);
		vq_flush(vq);
		cr_expect_eq(driver_ring_collect(&r, NULL, NULL), 1);
		cr_expect_eq(driver_ring_collect(&r, NULL, NULL), 1);
		cr_expect_eq(vq_position(vq), r.avail_pos);
	}
}

/* A frame needs four buffers and there are three: the device must sleep until one more comes, and not
 * be told of the three again and again. */
static void starved(uint64_t f)
{
	start(8, f);
	for (unsigned i = 0; i < 3; i++)
		add(1, true);
	driver_ring_kick(&r);
	for (unsigned i = 0; i < 3; i++)
		take();
	cr_expect_eq(vq_pop(vq, &c), 0);
	vq_unpop(vq, 3);
	cr_expect_not(vq_wait(vq));
	take();
	vq_unpop(vq, 1); /* it tried again */
	cr_expect_not(vq_wait(vq));
	add(1, true);
	cr_expect(driver_ring_kick(&r), "the fourth is worth a kick");
	cr_expect(vq_wait(vq));
	vq_busy(vq);
	take();
	vq_unpop(vq, 1);
	cr_expect(vq_wait(vq), "the fourth has not been looked at");
	for (unsigned i = 0; i < 4; i++)
		vq_push(vq, take(), 1);
	cr_expect_not(vq_wait(vq));
	for (unsigned i = 0; i < 4; i++)
		cr_expect_eq(driver_ring_collect(&r, NULL, NULL), 1);
}

BOTH(unpopped_chains_wake_nobody)
{
	starved(f);
}

BOTH(unpopped_chains_wake_nobody_event_idx)
{
	starved(f | EVENT);
}

BOTH(unpopped_chains_wake_nobody_in_order)
{
	starved(f | EVENT | IN_ORDER);
}

/* --- hand-over --- */

/* A new virtqueue goes on where the old one stopped. */
static void resume(uint64_t f)
{
	uint16_t pos = f & PACKED ? 0x8000 : 65530;

	start_at(8, f, pos);
	for (unsigned i = 0; i < 40; i++) {
		int a = add2(1, 1), b = add(1, true);

		driver_ring_kick(&r);
		vq_push(vq, take(), 1);
		vq_push(vq, take(), 1);
		vq_flush(vq);
		q.next = vq_position(vq);
		vq_free(vq);
		cr_assert_eq(vq_new(&vq, &q, &m.mem, f), 0);
		collects(a, 1);
		collects(b, 1);
		cr_assert_eq(vq_pop(vq, &c), 0);
	}
}

BOTH(position_carries_over)
{
	resume(f);
}

BOTH(position_carries_over_in_order)
{
	resume(f | IN_ORDER | EVENT);
}

Test(virtqueue, a_used_index_that_is_not_ours_breaks_the_ring)
{
	start(8, 0);
	add(1, true);
	driver_ring_kick(&r);
	r.used->idx = 3;
	vq_free(vq);
	cr_assert_eq(vq_new(&vq, &q, &m.mem, 0), 0);
	breaks(-EILSEQ);
}
